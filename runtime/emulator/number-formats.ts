// One number as the bits of any dtype that safetensors knows: what fills and random values of buffers need. Rounds to
// nearest, ties to even. (The compiler's own formats are not used: the runtime stands alone.)
import { elementBytes, type SafetensorsDType } from '../safetensors.ts';

interface SmallFloat {
  readonly mantissa: number;
  readonly bias: number;
  /** Bits of the largest finite value. */
  readonly largest: number;
  readonly infinity: number | null;
  readonly nan: number;
  readonly sign: number;
}

const smallFloats = {
  F16: { mantissa: 10, bias: 15, largest: 0x7bff, infinity: 0x7c00, nan: 0x7fff, sign: 0x8000 },
  BF16: { mantissa: 7, bias: 127, largest: 0x7f7f, infinity: 0x7f80, nan: 0x7fff, sign: 0x8000 },
  F8_E4M3: { mantissa: 3, bias: 7, largest: 0x7e, infinity: null, nan: 0x7f, sign: 0x80 },
  F8_E5M2: { mantissa: 2, bias: 15, largest: 0x7b, infinity: 0x7c, nan: 0x7f, sign: 0x80 },
} as const satisfies Partial<Record<SafetensorsDType, SmallFloat>>;

type SmallFloatDType = keyof typeof smallFloats;

export type FloatDType = SmallFloatDType | 'F32' | 'F64';
export type IntegerDType = Exclude<SafetensorsDType, FloatDType>;

export const isFloatDType = (dtype: SafetensorsDType): dtype is FloatDType =>
  dtype === 'F32' || dtype === 'F64' || Object.hasOwn(smallFloats, dtype);

/** The range of an integer dtype; BOOL is 0 and 1. */
export function integerRange(dtype: IntegerDType): readonly [least: bigint, most: bigint] {
  if (dtype === 'BOOL') return [0n, 1n];
  const bits = BigInt(8 * elementBytes[dtype]);
  return dtype.startsWith('U') ? [0n, (1n << bits) - 1n] : [-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n];
}

function roundToEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}

const scratch = new DataView(new ArrayBuffer(8));

/** Exponent of the leading bit of a positive finite number. */
function exponentOf(x: number): number {
  scratch.setFloat64(0, x);
  const biased = (scratch.getUint16(0) >> 4) & 0x7ff;
  // Below 2^-1022 every format here rounds to zero: how far below does not matter.
  return biased === 0 ? -1023 : biased - 1023;
}

/** Bits of a small float. A finite number beyond the largest becomes infinity, or NaN where there is none. */
export function encodeSmallFloat(dtype: SmallFloatDType, value: number): number {
  const format: SmallFloat = smallFloats[dtype];
  const { mantissa, bias, largest, infinity, nan } = format;
  if (Number.isNaN(value)) return nan;
  const sign = value < 0 || Object.is(value, -0) ? format.sign : 0;
  const magnitude = Math.abs(value);
  if (magnitude === 0) return sign;
  if (magnitude === Infinity) return sign | (infinity ?? nan);
  const exponent = exponentOf(magnitude);
  const least = 1 - bias;
  const steps = roundToEven(magnitude * 2 ** (mantissa - Math.max(exponent, least)));
  // A rounding that carries runs into the exponent's bits by itself, also from subnormals to normals.
  const bits = exponent < least ? steps : ((exponent + bias) << mantissa) + steps - 2 ** mantissa;
  return sign | (bits > largest ? (infinity ?? nan) : bits);
}

/** The number is finite but the dtype has no finite value for it. */
export function overflows(dtype: FloatDType, value: number): boolean {
  if (!Number.isFinite(value) || dtype === 'F64') return false;
  if (dtype === 'F32') return !Number.isFinite(Math.fround(value));
  const { largest, sign } = smallFloats[dtype];
  return (encodeSmallFloat(dtype, value) & ~sign) > largest;
}

/** Writes one number into `view` at `offset`, little-endian. Integers must be in the dtype's range. */
export function writeNumber(view: DataView, offset: number, dtype: SafetensorsDType, value: number): void {
  switch (dtype) {
    case 'F64':
      return view.setFloat64(offset, value, true);
    case 'F32':
      return view.setFloat32(offset, value, true);
    case 'F16':
    case 'BF16':
      return view.setUint16(offset, encodeSmallFloat(dtype, value), true);
    case 'F8_E4M3':
    case 'F8_E5M2':
      return view.setUint8(offset, encodeSmallFloat(dtype, value));
    default:
      return writeInteger(view, offset, dtype, BigInt(value));
  }
}

/** Writes one whole number, modulo the dtype's width. */
export function writeInteger(view: DataView, offset: number, dtype: IntegerDType, value: bigint): void {
  for (let i = 0, rest = BigInt.asUintN(64, value); i < elementBytes[dtype]; i++, rest >>= 8n)
    view.setUint8(offset + i, Number(rest & 0xffn));
}
