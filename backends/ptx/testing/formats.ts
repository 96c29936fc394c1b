// Number formats and the swizzle, for the test interpreter and for tests that compute what a kernel should give.

/** e4m3 to number: bias 7, no infinity, NaN is 0x7f and 0xff. */
export function e4m3(byte: number): number {
  const exponent = (byte >> 3) & 15;
  const mantissa = byte & 7;
  const sign = byte & 0x80 ? -1 : 1;
  if ((byte & 0x7f) === 0x7f) return NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
}

const word = new DataView(new ArrayBuffer(4));
/** Bits of a float rounded to bf16, nearest even. */
export function bf16Bits(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  if (Number.isNaN(value)) return 0x7fff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The TMA and wgmma swizzle of a shared-memory address; 0 bytes: none. */
export const swizzled = (address: number, bytes: number): number =>
  bytes === 0 ? address : address ^ (((address >> 7) & (bytes / 16 - 1)) << 4);
