// Device memory for the interpreter: separate allocations far apart, so that an address that leaves its allocation is
// found out. New memory holds a pattern that no kernel should read.

/** First byte of shared memory that variables get: the system keeps what is below. */
export const sharedBase = 0x400;

/** Generic address of the first parameter, far from any buffer. */
export const parameterBase = 2 ** 40;

/** Bytes of an allocation, or of the part of it that lies on one page. */
export interface Allocation {
  readonly name: string;
  readonly base: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** Memory of which only the pages exist that were touched: for buffers of a real model's size. */
interface Reservation {
  readonly name: string;
  readonly base: number;
  readonly size: number;
  /** What fills it, four bytes at a time. */
  readonly word: number;
  readonly pages: Map<number, Allocation>;
  /** End of the furthest access. */
  reached: number;
}

const gap = 2 ** 20;
const pageBytes = 4096;

/** What every byte of new memory holds. */
export const unwritten = 0xcd;

export class DeviceMemory {
  private readonly allocations: Allocation[] = [];
  private readonly reservations: Reservation[] = [];
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

  /** Like allocate, for `size` bytes that all hold `word`; what is not touched takes no room here. */
  reserve(size: number, word: number, name = 'buffer'): number {
    const made = { name, base: this.next, size, word, pages: new Map(), reached: 0 };
    this.reservations.push(made);
    this.next += Math.ceil((size + gap) / pageBytes) * pageBytes;
    return made.base;
  }

  /** How far a reservation was accessed: the end of the furthest access, from its start. */
  reached(base: number): number {
    return this.reservations.find((r) => r.base === base)?.reached ?? 0;
  }

  private reserved(address: number, size: number): Allocation | null {
    const r = this.reservations.find((x) => address >= x.base && address + size <= x.base + x.size);
    if (!r) return null;
    r.reached = Math.max(r.reached, address + size - r.base);
    const page = Math.floor((address - r.base) / pageBytes);
    let found = r.pages.get(page);
    if (!found) {
      const bytes = new Uint8Array(Math.min(pageBytes, r.size - page * pageBytes));
      const view = new DataView(bytes.buffer);
      for (let i = 0; i + 4 <= bytes.length; i += 4) view.setInt32(i, r.word, true);
      r.pages.set(page, (found = { name: r.name, base: r.base + page * pageBytes, bytes, view }));
    }
    return found;
  }

  /** The bytes that an address returned by `allocate` stands for. */
  bytesAt(base: number): Uint8Array {
    const found = this.allocations.find((a) => a.base === base);
    if (!found) throw new Error(`no allocation at 0x${base.toString(16)}`);
    return found.bytes;
  }

  /** The allocation (of a reservation the page) that holds [address, address + size), aligned. Throws a sentence otherwise. */
  locate(address: number, size: number): Allocation {
    if (address % size !== 0)
      throw new Error(`address 0x${address.toString(16)} is not a multiple of ${size}`);
    const inside = (a: Allocation): boolean => address >= a.base && address + size <= a.base + a.bytes.length;
    if (this.last && inside(this.last)) return this.last;
    const found = this.allocations.find(inside);
    if (found) return (this.last = found);
    const page = this.reserved(address, size);
    if (page) return page;
    const all = [...this.allocations.map((a) => ({ ...a, size: a.bytes.length })), ...this.reservations];
    const near = all.find((a) => address >= a.base - gap / 2 && address < a.base + a.size + gap / 2);
    throw new Error(
      near
        ? `out of bounds: byte ${address - near.base} of ${near.name}, which has ${near.size}`
        : `no memory at address 0x${address.toString(16)}`,
    );
  }
}
