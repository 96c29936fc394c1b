// The fast model of FP8 GEMMs against the exact one in big integers, and against exact f32 arithmetic.
import { expect, test } from 'vitest';
import { add, bf16, decode, encode, f32, multiply } from '../../runtime/emulator/testing/exact-float.ts';
import { Random } from '../../runtime/emulator/testing/tensor-bench.ts';
import { decodeExact, fusedSum, wgmmaSum } from '../../runtime/emulator/testing/tensor-model.ts';
import { drawCode, type Mood } from '../../runtime/emulator/testing/tensor-values.ts';
import { bf16Code, fp8Rows, plainSum, promotedSum, tensorCoreSum } from './fp8-gemm-model.ts';

const how = wgmmaSum('e4m3', 'e4m3', 'f32');
const numberOf = (code: number): number => {
  const { units, scale } = decodeExact('f32', code);
  return Number(units) * 2 ** scale;
};
const codesOf = (r: Random, mood: Mood, count: number): number[] =>
  Array.from({ length: count }, () => drawCode(r, 'e4m3', mood));

test.each(['alike', 'any', 'sparse'] as const)('chains of wgmmas on %s values', (mood) => {
  const r = new Random(7);
  for (let round = 0; round < 60; round++) {
    const k = [32, 128, 256, 2048][round % 4];
    const [a, b] = [codesOf(r, mood, k), codesOf(r, mood, k)];
    // Every third one only adds: the accumulator's exponent rises above the products'.
    if (round % 3 === 0) for (const list of [a, b]) list.forEach((code, i) => (list[i] = code & 127));
    let want = 0;
    for (let from = 0; from < k; from += 32)
      want = fusedSum(how, a.slice(from, from + 32), b.slice(from, from + 32), want);
    const [rowsA, rowsB] = [a, b].map((codes) => fp8Rows(Uint8Array.from(codes), k));
    expect(tensorCoreSum(rowsA, 0, rowsB, 0, 0, k)).toBe(numberOf(want));
  }
});

test('promotion rounds once a block', () => {
  const r = new Random(8);
  const bitsOf = (x: number): bigint => BigInt(new Uint32Array(Float32Array.of(x).buffer)[0]);
  for (let round = 0; round < 40; round++) {
    const k = 400;
    const [a, b] = [0, 1].map(() => fp8Rows(Uint8Array.from(codesOf(r, 'any', k)), k));
    const factors = Array.from({ length: 4 }, () => Math.fround(r.next() * 2 ** -33));
    let want = 0n;
    factors.forEach((factor, block) => {
      const part = tensorCoreSum(a, 0, b, 0, 128 * block, Math.min(128 * block + 128, k));
      const product = multiply(decode(f32, bitsOf(part)), decode(f32, bitsOf(factor)));
      want = encode(f32, add(product, decode(f32, want), 'rn'), 'rn');
    });
    const got = promotedSum(a, 0, b, 0, (block) => factors[block]);
    expect(bitsOf(got)).toBe(want);
    expect(BigInt(bf16Code(got))).toBe(encode(bf16, decode(f32, want), 'rn'));
    // The model loses something, but not much: it is about the very products.
    const plain = plainSum(a, 0, b, 0);
    const one = promotedSum(a, 0, b, 0, () => 1);
    expect(Math.abs(one - plain)).toBeLessThan(
      0.01 * a.values.reduce((s, x, i) => s + Math.abs(x * b.values[i]), 0),
    );
  }
});

test('rows are told apart, and NaN is refused', () => {
  const rows = fp8Rows(Uint8Array.of(0x38, 0x40, 0xb8, 0x08), 2); // 1, 2; -1, 2^-6
  expect(tensorCoreSum(rows, 0, rows, 0, 0, 2)).toBe(5);
  expect(tensorCoreSum(rows, 1, rows, 0, 0, 2)).toBe(-1 + 2 ** -5);
  expect(() => fp8Rows(Uint8Array.of(0x7f), 1)).toThrow('NaN');
});
