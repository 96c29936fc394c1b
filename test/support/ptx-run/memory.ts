// Device memory for the interpreter: separate allocations far apart, so that an address that leaves its allocation is
// found out. New memory holds a pattern that no kernel should read.

/** First byte of shared memory that variables get: the system keeps what is below. */
export const sharedBase = 0x400;

/** Generic address of the first parameter, far from any buffer. */
export const parameterBase = 2 ** 40;

export interface Allocation {
  readonly name: string;
  readonly base: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

const gap = 2 ** 20;

/** What every byte of new memory holds. */
export const unwritten = 0xcd;

export class DeviceMemory {
  private readonly allocations: Allocation[] = [];
  private next = 0x7f0000000000;
  private last: Allocation | undefined;

  /** Room for `bytes` (or a copy of them) at a multiple of 256; its address. */
  allocate(bytes: number | Uint8Array, name = 'buffer'): number {
    const array = typeof bytes === 'number' ? new Uint8Array(bytes).fill(unwritten) : Uint8Array.from(bytes);
    const made = { name, base: this.next, bytes: array, view: new DataView(array.buffer) };
    this.allocations.push(made);
    this.next += Math.ceil((array.length + gap) / 256) * 256;
    return made.base;
  }

  /** The bytes that an address returned by `allocate` stands for. */
  bytesAt(base: number): Uint8Array {
    const found = this.allocations.find((a) => a.base === base);
    if (!found) throw new Error(`no allocation at 0x${base.toString(16)}`);
    return found.bytes;
  }

  /** The allocation that holds [address, address + size), aligned. Throws a sentence otherwise. */
  locate(address: number, size: number): Allocation {
    if (address % size !== 0)
      throw new Error(`address 0x${address.toString(16)} is not a multiple of ${size}`);
    const inside = (a: Allocation): boolean => address >= a.base && address + size <= a.base + a.bytes.length;
    if (this.last && inside(this.last)) return this.last;
    const found = this.allocations.find(inside);
    if (!found) {
      const near = this.allocations.find(
        (a) => address >= a.base - gap / 2 && address < a.base + a.bytes.length + gap / 2,
      );
      throw new Error(
        near
          ? `out of bounds: byte ${address - near.base} of ${near.name}, which has ${near.bytes.length}`
          : `no memory at address 0x${address.toString(16)}`,
      );
    }
    this.last = found;
    return found;
  }
}
