// Casts between f64 and every number format: one rounding, exactly. The interpreter computes in f64 and rounds each
// value to its dtype here, so these functions define what a cast means; kernels are compared with them.
// Floats round to nearest, ties to even. Bulk casts over bytes are in bytes.ts.
import { dtypeInfo, type DType } from './dtypes.ts';

// The bit tricks below read the high word of an f64 at index 1.
if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1)
  throw new Error(
    'dsvc needs a little-endian machine: its number formats are cast through little-endian views',
  );

export interface CastOptions {
  /**
   * What a float beyond the largest finite value becomes. `saturating`: the largest finite value, for infinity too
   * (PTX `.satfinite`). `nonsaturating`: infinity, or NaN where the format has none. NaN stays NaN either way.
   * Default: saturating for f8e4m3, f8e5m2 and f8ue8m0, nonsaturating for the others.
   */
  readonly overflow?: 'saturating' | 'nonsaturating';
  /**
   * f8ue8m0 only: to which neighbouring power of two. `up` (default, PTX `.rp`) is what a scale needs, so that the
   * largest element divided by it never overflows; `down` is PTX `.rz`.
   */
  readonly direction?: 'up' | 'down';
  /**
   * i32, i64 only: a value with a fraction, or NaN, is refused with a RangeError (default), because which rounding
   * is meant belongs to the op; `truncate` drops the fraction and turns NaN into 0 (PTX `.rzi`).
   */
  readonly fraction?: 'reject' | 'truncate';
}

/** Formats whose code fits a JS number. i64 has bulk casts (bytes.ts) and a rounder only. */
export type CodedDType = Exclude<DType, 'i64'>;

/** Floats with at most 18 mantissa bits: rounded within the high word of an f64. */
export type NarrowFloat = 'bf16' | 'f16' | 'f8e4m3' | 'f8e5m2' | 'f12e5m6';

/** Constants of a narrow float, in terms of the high word (sign, 11 exponent bits, 20 mantissa bits) of an f64. */
export interface NarrowSpec {
  /** Mantissa bits to drop from the high word. */
  readonly shift: number;
  /** One less than half a unit in the last place. */
  readonly half: number;
  readonly mask: number;
  /** High word of the smallest normal. */
  readonly minNormal: number;
  /** Adding and subtracting this rounds a subnormal: 2^52 units of the smallest subnormal. */
  readonly magic: number;
  /** High word of the largest finite value. */
  readonly maxHigh: number;
  readonly maxFinite: number;
  /** Subtracted from the shifted high word to get the code. */
  readonly rebias: number;
  /** Codes per smallest subnormal: multiply a rounded subnormal by it to get its code. */
  readonly perSubnormal: number;
  readonly signBit: number;
  readonly maxCode: number;
  /** Code and value beyond the largest finite one, when not saturating: infinity, or NaN where there is none. */
  readonly beyondCode: number;
  readonly beyond: number;
  readonly nanCode: number;
}

/** Scratch for looking at the bits of an f64. Shared: nothing here is re-entrant between write and read. */
export const doubleBits = new Float64Array(1);
export const doubleWords = new Int32Array(doubleBits.buffer);
/** Scratch for building an f32 from bits; every narrow float's value is exact in f32. */
export const singleBits = new Float32Array(1);
export const singleWord = new Int32Array(singleBits.buffer);

/** Canonical f32 NaN of PTX: all bits but the sign set. */
export const f32Nan = 0x7fffffff;

export const narrow: Readonly<Record<NarrowFloat, NarrowSpec>> = {
  bf16: narrowSpec('bf16'),
  f16: narrowSpec('f16'),
  f8e4m3: narrowSpec('f8e4m3'),
  f8e5m2: narrowSpec('f8e5m2'),
  f12e5m6: narrowSpec('f12e5m6'),
};

function narrowSpec(dtype: NarrowFloat): NarrowSpec {
  const { bits, mantissaBits, exponentBits, bias, maxFinite, hasInfinity } = dtypeInfo[dtype] as Required<
    (typeof dtypeInfo)[DType]
  >;
  const shift = 20 - mantissaBits;
  const rebias = (1023 - bias) << mantissaBits;
  doubleBits[0] = maxFinite;
  const maxHigh = doubleWords[1]!;
  const signBit = 1 << (bits - 1);
  // PTX writes NaN with all bits but the sign set, in every one of these formats.
  const nanCode = signBit - 1;
  return {
    shift,
    half: (1 << (shift - 1)) - 1,
    mask: ~((1 << shift) - 1),
    minNormal: (1024 - bias) << 20,
    magic: 2 ** (53 - bias - mantissaBits),
    maxHigh,
    maxFinite,
    rebias,
    perSubnormal: 2 ** (mantissaBits + bias - 1),
    signBit,
    maxCode: (maxHigh >>> shift) - rebias,
    beyondCode: hasInfinity ? ((1 << exponentBits) - 1) << mantissaBits : nanCode,
    beyond: hasInfinity ? Infinity : NaN,
    nanCode,
  };
}

/** The float's NarrowSpec, or undefined for any other dtype. */
export function narrowOf(dtype: DType): NarrowSpec | undefined {
  return (narrow as Partial<Record<DType, NarrowSpec>>)[dtype];
}

/** Whether overflow saturates: the caller's choice, or the dtype's default (see CastOptions). */
export function saturates(dtype: DType, options?: CastOptions): boolean {
  return options?.overflow === undefined ? dtypeInfo[dtype].bits === 8 : options.overflow === 'saturating';
}

/** Code of x in a narrow float. */
export function narrowCode(spec: NarrowSpec, x: number, saturating: boolean): number {
  doubleBits[0] = x;
  const high = doubleWords[1]!;
  const sign = high < 0 ? spec.signBit : 0;
  let h = high & 0x7fffffff;
  // Below the normals the spacing is fixed, so one addition rounds; a result of 2^mantissaBits is the first normal.
  if (h < spec.minNormal) return sign | ((Math.abs(x) + spec.magic - spec.magic) * spec.perSubnormal);
  if (x !== x) return spec.nanCode;
  // The low word only matters as "more than what the high word shows": one sticky bit. Then add half an ulp, minus
  // one unless the last kept bit is odd, so that ties go to even. A carry into the exponent is what rounding means.
  if (doubleWords[0] !== 0) h |= 1;
  h = h + spec.half + ((h >>> spec.shift) & 1);
  const code = (h >>> spec.shift) - spec.rebias;
  return sign | (code <= spec.maxCode ? code : saturating ? spec.maxCode : spec.beyondCode);
}

/** Code of x in f8ue8m0. Negative and NaN give NaN (ff); what is too small, zero too, gives 2^-127 (00). */
export function scaleCode(x: number, saturating: boolean, up: boolean): number {
  if (!(x >= 0)) return 0xff;
  doubleBits[0] = x + 0; // -0 counts as 0
  const high = doubleWords[1]!;
  const inexact = (high & 0xfffff) !== 0 || doubleWords[0] !== 0;
  // An f64 subnormal has exponent field 0 and ends below 2^-127 whichever way it is rounded.
  const code = (high >>> 20) - 1023 + 127 + (up && inexact ? 1 : 0);
  if (code > 0xfe) return saturating ? 0xfe : 0xff;
  return Math.max(code, 0);
}

/** The 32 bits of x rounded to f32, unsigned. */
function singleCode(x: number, saturating: boolean): number {
  if (x !== x) return f32Nan;
  singleBits[0] = saturating ? saturateSingle(x) : x;
  return singleWord[0]! >>> 0;
}

function saturateSingle(x: number): number {
  const max = dtypeInfo.f32.maxFinite!;
  return x > max ? max : x < -max ? -max : Math.fround(x);
}

/** Integral value in int32's range; see CastOptions.fraction. Infinity and values out of range saturate, as in PTX. */
function toInt32(x: number, truncate: boolean): number {
  const whole = integral('i32', x, truncate);
  return whole > 0x7fffffff ? 0x7fffffff : whole < -0x80000000 ? -0x80000000 : whole;
}

/** Exact integer; beyond 2^53 a double no longer names one integer, so that is refused instead of silently wrong. */
export function toInt64(x: number, truncate: boolean): number {
  const whole = integral('i64', x, truncate);
  if (!Number.isSafeInteger(whole)) throw new RangeError(`i64 value ${x} is not exact in a double`);
  return whole;
}

function integral(dtype: DType, x: number, truncate: boolean): number {
  const whole = Math.trunc(x);
  if (whole === x) return whole + 0; // + 0 turns -0 into 0
  if (truncate) return whole !== whole ? 0 : whole + 0;
  throw new RangeError(
    `${x} is not an integer and was cast to ${dtype}; round it first, or cast with { fraction: 'truncate' }`,
  );
}

/**
 * The code of `x`, an unsigned integer of `dtypeInfo[dtype].bits` bits, after rounding once from f64.
 * i32 gives two's complement. NaN gives the format's canonical NaN (PTX's: all bits but the sign).
 * Throws a RangeError for a fraction cast to an integer (CastOptions.fraction).
 */
export function encode(dtype: CodedDType, x: number, options?: CastOptions): number {
  switch (dtype) {
    case 'f32':
      return singleCode(x, saturates(dtype, options));
    case 'f8ue8m0':
      return scaleCode(x, saturates(dtype, options), options?.direction !== 'down');
    case 'i32':
      return toInt32(x, options?.fraction === 'truncate') >>> 0;
    case 'bool':
      return x === 0 ? 0 : 1;
    default:
      return narrowCode(narrow[dtype], x, saturates(dtype, options));
  }
}

/** The value of a code; exact. `code` is an unsigned integer within the format's bits (else a RangeError). */
export function decode(dtype: CodedDType, code: number): number {
  const { bits } = dtypeInfo[dtype];
  if (!Number.isInteger(code) || code < 0 || code >= 2 ** bits)
    throw new RangeError(`${code} is no code of ${dtype}: it has ${bits} bits`);
  switch (dtype) {
    case 'f32':
      singleWord[0] = code | 0;
      return singleBits[0]!;
    case 'i32':
      return code | 0;
    case 'bool':
      return code === 0 ? 0 : 1;
    default:
      return decodeTable(dtype)[code]!;
  }
}

const tables = new Map<CodedDType, Float64Array>();

/** Values of all codes of a format of at most 16 bits, indexed by code. Built once; do not write to it. */
export function decodeTable(dtype: NarrowFloat | 'f8ue8m0'): Float64Array {
  let table = tables.get(dtype);
  if (table === undefined) {
    const size = 2 ** dtypeInfo[dtype].bits;
    table = Float64Array.from({ length: size }, (_, code) => decodeBits(dtype, code));
    tables.set(dtype, table);
  }
  return table;
}

function decodeBits(dtype: NarrowFloat | 'f8ue8m0', code: number): number {
  if (dtype === 'f8ue8m0') return code === 0xff ? NaN : 2 ** (code - 127);
  const { mantissaBits, bias } = dtypeInfo[dtype] as Required<(typeof dtypeInfo)[DType]>;
  const { signBit, maxCode, beyondCode, beyond } = narrow[dtype];
  const magnitude = code & (signBit - 1);
  const sign = code & signBit ? -1 : 1;
  if (magnitude > maxCode) return magnitude === beyondCode ? sign * beyond : NaN;
  const exponent = magnitude >> mantissaBits;
  const mantissa = magnitude - (exponent << mantissaBits);
  const hidden = exponent === 0 ? 0 : 1;
  return sign * (hidden + mantissa / 2 ** mantissaBits) * 2 ** (Math.max(exponent, 1) - bias);
}

/** `x` rounded once to `dtype`, as a number: decode(encode(x)). Signs of zero are kept, except by integers. */
export function round(dtype: DType, x: number, options?: CastOptions): number {
  return rounder(dtype, options)(x);
}

const rounders = new Map<string, (x: number) => number>();

/**
 * The function that rounds a number to `dtype`: the same result as decode(encode(x)), without going through codes.
 * Fetch it once outside a loop; for whole arrays `roundInto` (bytes.ts) is about twice as fast.
 * bool gives 0 or 1; i64 gives exact integers and throws a RangeError beyond ±(2^53 - 1).
 */
export function rounder(dtype: DType, options?: CastOptions): (x: number) => number {
  const key = `${dtype} ${saturates(dtype, options)} ${options?.direction} ${options?.fraction}`;
  let found = rounders.get(key);
  if (found === undefined) rounders.set(key, (found = makeRounder(dtype, options)));
  return found;
}

function makeRounder(dtype: DType, options?: CastOptions): (x: number) => number {
  const saturating = saturates(dtype, options);
  const truncate = options?.fraction === 'truncate';
  switch (dtype) {
    case 'f32':
      return saturating ? saturateSingle : Math.fround;
    case 'f8ue8m0': {
      const table = decodeTable(dtype);
      const up = options?.direction !== 'down';
      return (x) => table[scaleCode(x, saturating, up)]!;
    }
    case 'i32':
      return (x) => toInt32(x, truncate);
    case 'i64':
      return (x) => toInt64(x, truncate);
    case 'bool':
      return (x) => (x === 0 ? 0 : 1);
    default:
      return narrowRounder(narrow[dtype], saturating);
  }
}

function narrowRounder(spec: NarrowSpec, saturating: boolean): (x: number) => number {
  const { shift, half, mask, minNormal, magic, maxHigh } = spec;
  const beyond = saturating ? spec.maxFinite : spec.beyond;
  return (x) => {
    doubleBits[0] = x;
    const high = doubleWords[1]!;
    let h = high & 0x7fffffff;
    if (h < minNormal) {
      const r = Math.abs(x) + magic - magic;
      return high < 0 ? -r : r;
    }
    if (x !== x) return NaN;
    if (doubleWords[0] !== 0) h |= 1; // as in narrowCode
    h = (h + half + ((h >>> shift) & 1)) & mask;
    if (h > maxHigh) return high < 0 ? -beyond : beyond;
    // Written as f32 bits, 3 mantissa bits wider and with bias 127: two half-writes of an f64 would stall its load.
    singleWord[0] = ((h - 0x38000000) << 3) | (high & 0x80000000);
    return singleBits[0]!;
  };
}
