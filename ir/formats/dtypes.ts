// The number formats a value can have, as data. What the bits mean lives here; how to cast is in codec.ts.
// Sources: IEEE 754 (f16, f32), OCP 8-bit floating point 1.0 (f8e4m3 is its "fn" form: no infinity, one NaN per
// sign), OCP microscaling 1.0 (f8ue8m0), DeepSeek-V3 report 3.3.3 (E5M6; its special codes are unpublished, so it
// follows e5m2: top exponent for infinity and NaN).

export type DType =
  'f32' | 'bf16' | 'f16' | 'f8e4m3' | 'f8e5m2' | 'f12e5m6' | 'f8ue8m0' | 'i32' | 'i64' | 'bool';

export interface DTypeInfo {
  /** Storage of one code, in bits. */
  readonly bits: number;
  /** `scale` is f8ue8m0: an unsigned power of two, no zero, no sign. */
  readonly kind: 'float' | 'scale' | 'int' | 'bool';
  /** Floats and scales only, like the fields below. */
  readonly exponentBits?: number;
  /** Stored bits, without the hidden one. */
  readonly mantissaBits?: number;
  readonly bias?: number;
  readonly maxFinite?: number;
  readonly hasInfinity?: boolean;
}

export const dtypeInfo: Readonly<Record<DType, DTypeInfo>> = {
  f32: {
    bits: 32,
    kind: 'float',
    exponentBits: 8,
    mantissaBits: 23,
    bias: 127,
    maxFinite: 2 ** 127 * (2 - 2 ** -23),
    hasInfinity: true,
  },
  bf16: {
    bits: 16,
    kind: 'float',
    exponentBits: 8,
    mantissaBits: 7,
    bias: 127,
    maxFinite: 2 ** 127 * (2 - 2 ** -7),
    hasInfinity: true,
  },
  f16: {
    bits: 16,
    kind: 'float',
    exponentBits: 5,
    mantissaBits: 10,
    bias: 15,
    maxFinite: 65504,
    hasInfinity: true,
  },
  f8e4m3: {
    bits: 8,
    kind: 'float',
    exponentBits: 4,
    mantissaBits: 3,
    bias: 7,
    maxFinite: 448,
    hasInfinity: false,
  },
  f8e5m2: {
    bits: 8,
    kind: 'float',
    exponentBits: 5,
    mantissaBits: 2,
    bias: 15,
    maxFinite: 57344,
    hasInfinity: true,
  },
  f12e5m6: {
    bits: 12,
    kind: 'float',
    exponentBits: 5,
    mantissaBits: 6,
    bias: 15,
    maxFinite: 65024,
    hasInfinity: true,
  },
  f8ue8m0: {
    bits: 8,
    kind: 'scale',
    exponentBits: 8,
    mantissaBits: 0,
    bias: 127,
    maxFinite: 2 ** 127,
    hasInfinity: false,
  },
  i32: { bits: 32, kind: 'int' },
  i64: { bits: 64, kind: 'int' },
  bool: { bits: 8, kind: 'bool' },
};

/** Every dtype, in the order of the table. */
export const dtypes = Object.keys(dtypeInfo) as readonly DType[];

/** True for the signed floating-point formats; f8ue8m0 holds scales and counts as no float. */
export function isFloat(dtype: DType): boolean {
  return dtypeInfo[dtype].kind === 'float';
}

/** Largest finite value of a float or scale format. Throws a RangeError for integers and bool. */
export function maxFinite(dtype: DType): number {
  const max = dtypeInfo[dtype].maxFinite;
  if (max === undefined) throw new RangeError(`${dtype} has no largest finite value: it is no float`);
  return max;
}

/**
 * Bytes that `count` dense codes take. f12e5m6 packs two codes into three bytes; an odd last code takes two bytes.
 * Throws a RangeError unless `count` is a non-negative integer and the result is exact.
 */
export function bytesFor(dtype: DType, count: number): number {
  const { bits } = dtypeInfo[dtype];
  if (!Number.isSafeInteger(count) || count < 0 || !Number.isSafeInteger(count * bits))
    throw new RangeError(`not a count of ${dtype} values: ${count}`);
  return Math.ceil((count * bits) / 8);
}
