// Binary forms as streams of bytes: little-endian, without padding. The C++ core loads what is written here.

/** Writes into bytes that grow. Numbers that do not fit are cut to their low bits. */
export class ByteWriter {
  #bytes = new Uint8Array(1 << 14);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  // May replace the arrays: it is called before they are named.
  #room(count: number): number {
    const at = this.#length;
    if (at + count > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(at + count, 2 * this.#bytes.length));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = at + count;
    return at;
  }

  u8(value: number): void {
    const at = this.#room(1);
    this.#bytes[at] = value;
  }
  u16(value: number): void {
    const at = this.#room(2);
    this.#view.setUint16(at, value, true);
  }
  u32(value: number): void {
    const at = this.#room(4);
    this.#view.setUint32(at, value, true);
  }
  u64(value: number | bigint): void {
    const at = this.#room(8);
    this.#view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
  }
  flag(value: boolean): void {
    this.u8(value ? 1 : 0);
  }
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
  }
  /** A count, then each. */
  each<T>(items: readonly T[], write: (item: T) => void): void {
    this.u32(items.length);
    for (const item of items) write(item);
  }
  take(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

/** Reads the same. Throws an Error that names `what` where the bytes end too early or hold what cannot be. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  #at = 0;
  /** The table that `string` looks into. */
  strings: string[] = [];

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  fail(message: string): never {
    throw new Error(`${this.#what}: ${message}`);
  }
  #skip(count: number): number {
    const at = this.#at;
    if (at + count > this.#bytes.length) this.fail('it ends too early');
    this.#at = at + count;
    return at;
  }
  u8(): number {
    return this.#bytes[this.#skip(1)];
  }
  u16(): number {
    return this.#view.getUint16(this.#skip(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#skip(8), true);
  }
  i64(): bigint {
    return this.#view.getBigInt64(this.#skip(8), true);
  }
  flag(): boolean {
    return this.u8() !== 0;
  }
  raw(count: number): Uint8Array {
    const at = this.#skip(count);
    return this.#bytes.slice(at, at + count);
  }
  text(count: number): string {
    return new TextDecoder().decode(this.raw(count));
  }
  some<T>(count: number, read: () => T): T[] {
    return Array.from({ length: count }, read);
  }
  each<T>(read: () => T): T[] {
    return this.some(this.u32(), read);
  }
  /** One of a list, by its place. */
  of<T>(list: readonly T[]): T {
    const index = this.u8();
    return index < list.length ? list[index] : this.fail(`there is no choice ${index}`);
  }
  string(): string {
    const index = this.u32();
    return index < this.strings.length ? this.strings[index] : this.fail(`there is no string ${index}`);
  }
  end(): void {
    if (this.#at !== this.#bytes.length) this.fail('bytes follow its end');
  }
}
