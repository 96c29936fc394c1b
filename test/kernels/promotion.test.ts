// What promotion every 128 of K is worth (docs/EMULATOR.md has the figures; `npm run bench:promotion` prints them).
import { describe, expect, test } from 'vitest';
import { noSpan } from '../../ir/span.ts';
import { runGemm } from '../../runtime/emulator/testing/gemm.ts';
import { hasNative } from '../../runtime/native.ts';
import { fp8Rows, promotedSum, tensorCoreSum } from '../support/fp8-gemm-model.ts';
import { plainSums, relativeError, runSums, sumOperands } from '../support/promotion.ts';

describe.skipIf(!hasNative())('on the emulator', () => {
  // 16,384 outputs each. Bounds: at least without promotion, at most with it.
  test.each([
    ['normal', 4096, 0.002, 0.0005],
    ['normal', 7168, 0.002, 0.0005],
    ['uniform', 4096, 0.05, 0.001],
    ['uniform', 7168, 0.05, 0.001],
  ] as const)('%s numbers, K = %i', (distribution, k, without, withIt) => {
    const operands = sumOperands(128, k, distribution, 1);
    const exact = plainSums(operands);
    expect(relativeError(runSums(operands, false), exact)).toBeGreaterThanOrEqual(without);
    expect(relativeError(runSums(operands, true), exact)).toBeLessThanOrEqual(withIt);
  });

  test('both kernels are what they are said to be: the model says the same, and our GEMM is the promoting one', () => {
    const [rows, k] = [64, 512];
    const operands = sumOperands(rows, k, 'normal', 2);
    const [a, b] = [fp8Rows(operands.a, k), fp8Rows(operands.b, k)];
    const outputs = (f: (i: number, j: number) => number): Float32Array =>
      Float32Array.from({ length: rows * rows }, (_, at) => f(Math.floor(at / rows), at % rows));
    const [promoted, kept] = [runSums(operands, true), runSums(operands, false)];
    expect(promoted).toEqual(outputs((i, j) => promotedSum(a, i, b, j, () => 1)));
    expect(kept).toEqual(outputs((i, j) => tensorCoreSum(a, i, b, j, 0, k)));
    expect(kept).not.toEqual(promoted);

    const tile = { bm: 64, bn: 64, stages: 3 } as const;
    const plan = { name: 'gemm', n: rows, k, outDtype: 'f32', tile, span: noSpan } as const;
    const scales = (count: number): Float32Array => new Float32Array(count).fill(1);
    const ours = runGemm(plan, {
      m: rows,
      a: operands.a,
      b: operands.b,
      aScale: scales((rows * k) / 128),
      bScale: scales(k / 128),
    });
    expect(ours.reports).toEqual([]);
    expect(new Float32Array(ours.out.buffer)).toEqual(promoted);
  });
});
