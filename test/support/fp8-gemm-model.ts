// What an FP8 GEMM on Hopper's tensor cores gives, in plain numbers and fast enough for whole tiles: fused sums of 32
// products with 13 fraction bits, added up in f32 every 128 of K. Shares nothing with the emulator's core; its test holds
// it to the exact model in big integers (runtime/emulator/testing/tensor-model.ts).
import { fusedMultiplyAdd } from './ptx-run/operands.ts';

/** Rows of e4m3 numbers along K. */
export interface Fp8Rows {
  readonly k: number;
  readonly values: Float64Array;
  /** The exponent that each enters a product with; of zeros, one below every product. */
  readonly exponents: Int8Array;
}

const zeroExponent = -64;
/** The least exponent of a product that is not zero: subnormals have -6. */
const leastProduct = -12;
/** K of one wgmma, fraction bits that its terms and its result keep. */
const stepK = 32;
const fraction = 13;
/** K between two promotions. */
const promoteK = 128;

const valueOfCode = new Float64Array(256);
const exponentOfCode = new Int8Array(256);
for (let code = 0; code < 256; code++) {
  const field = (code >> 3) & 15;
  const exponent = Math.max(field, 1) - 7;
  const size = ((code & 7) + (field > 0 ? 8 : 0)) * 2 ** (exponent - 3);
  valueOfCode[code] = code % 128 === 127 ? NaN : code < 128 ? size : -size;
  exponentOfCode[code] = size === 0 ? zeroExponent : exponent;
}

/** Decodes rows of `k` codes. Throws when one is NaN: the model has no place for it. */
export function fp8Rows(codes: Uint8Array, k: number): Fp8Rows {
  const values = new Float64Array(codes.length);
  const exponents = new Int8Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    if (codes[i] % 128 === 127) throw new Error('a NaN among the operands');
    values[i] = valueOfCode[codes[i]];
    exponents[i] = exponentOfCode[codes[i]];
  }
  return { k, values, exponents };
}

const powers = Float64Array.from({ length: 512 }, (_, i) => 2 ** (i - 256));
const float = new Float32Array(1);
const bits = new Int32Array(float.buffer);

/**
 * `start` plus the products of row `i` of A and row `j` of B from `from` to `to`, as consecutive wgmmas accumulate them.
 * `start` has at most 13 fraction bits.
 */
export function tensorCoreSum(
  a: Fp8Rows,
  i: number,
  b: Fp8Rows,
  j: number,
  from: number,
  to: number,
  start = 0,
): number {
  const [av, ae, bv, be] = [a.values, a.exponents, b.values, b.exponents];
  const [ai, bj] = [i * a.k, j * b.k];
  let sum = start;
  for (let k = from; k < to; k += stepK) {
    const end = Math.min(k + stepK, to);
    let largest = -128;
    for (let x = k; x < end; x++) {
      const e = ae[ai + x] + be[bj + x];
      if (e > largest) largest = e;
    }
    // Nothing is added; the sum so far has lost what it can lose.
    if (largest < leastProduct) continue;
    float[0] = sum;
    const own = ((bits[0] >> 23) & 255) - 127;
    if (own > largest) largest = own;
    const scale = powers[256 + fraction - largest];
    // `| 0` cuts toward zero: terms stay below 2^16, sums below 2^21.
    let units = (sum * scale) | 0;
    for (let x = k; x < end; x++) units += (av[ai + x] * bv[bj + x] * scale) | 0;
    float[0] = units * powers[256 + largest - fraction];
    bits[0] &= ~((1 << (23 - fraction)) - 1);
    sum = float[0];
  }
  return sum;
}

/**
 * One output of the GEMM: sums of 128 from the tensor core, times `factor` of the K block (an f32), added in f32 with one
 * rounding each.
 */
export function promotedSum(
  a: Fp8Rows,
  i: number,
  b: Fp8Rows,
  j: number,
  factor: (block: number) => number,
): number {
  let sum = 0;
  for (let block = 0; block * promoteK < a.k; block++) {
    const from = block * promoteK;
    const part = tensorCoreSum(a, i, b, j, from, Math.min(from + promoteK, a.k));
    sum = fusedMultiplyAdd(part, factor(block), sum);
  }
  return sum;
}

/** The products of two rows summed in f64. */
export function plainSum(a: Fp8Rows, i: number, b: Fp8Rows, j: number): number {
  let sum = 0;
  const [ai, bj] = [i * a.k, j * b.k];
  for (let k = 0; k < a.k; k++) sum += a.values[ai + k] * b.values[bj + k];
  return sum;
}

/** An f32 as bf16, to nearest even. */
export function bf16Code(x: number): number {
  float[0] = x;
  const word = bits[0];
  return ((word + 0x7fff + ((word >>> 16) & 1)) >>> 16) & 0xffff;
}
