// Our FP8 GEMM as it is emitted, run by the core: against plain sums, the older functional interpreter, and the model's
// own loss of precision.
import { expect, test } from 'vitest';
import type { Fp8GemmPlan } from '../../backends/h800/gemm/plan.ts';
import { noSpan } from '../../ir/span.ts';
import { decode } from '../../ir/formats/index.ts';
import { runGemm, type GemmOperands } from './testing/gemm.ts';
import { Random } from './testing/tensor-bench.ts';
import { decodeExact, fusedSum, wgmmaSum } from './testing/tensor-model.ts';

const plan = (over: Partial<Fp8GemmPlan>): Fp8GemmPlan => ({
  name: 'gemm',
  n: 64,
  k: 256,
  outDtype: 'f32',
  tile: { bm: 64, bn: 32, stages: 3 },
  span: noSpan,
  ...over,
});

const operands = (
  m: number,
  { n, k }: Fp8GemmPlan,
  seed: number,
  code: (r: Random) => number,
): GemmOperands => {
  const r = new Random(seed);
  const kBlocks = Math.ceil(k / 128);
  const scales = (count: number): Float32Array =>
    Float32Array.from({ length: count }, () => [0.5, 1, 2, 4][r.below(4)]);
  return {
    m,
    a: Uint8Array.from({ length: m * k }, () => code(r)),
    b: Uint8Array.from({ length: n * k }, () => code(r)),
    aScale: scales(m * kBlocks),
    bScale: scales(Math.ceil(n / 128) * kBlocks),
  };
};
const small = (r: Random): number => [0x00, 0x38, 0x40, 0xb8, 0xc0, 0x44][r.below(6)]; // 0, 1, 2, -1, -2, 3
const normal = (r: Random): number => {
  for (;;) {
    const code = r.below(256);
    if (code % 128 < 0x58) return code; // below 16
  }
};

const values = Float64Array.from({ length: 256 }, (_, code) => decode('f8e4m3', code));
const at = (x: Uint8Array, index: number): number => values[x[index]];

test.each<[string, number, Partial<Fp8GemmPlan>]>([
  ['ragged M, N and K', 70, { n: 72, k: 400 }],
  ['two warpgroups', 131, { n: 200, k: 272, tile: { bm: 128, bn: 96, stages: 3 } }],
  ['two waves', 260, { n: 64, k: 272, tile: { bm: 256, bn: 64, stages: 2 } }],
])('small integers are exact: %s', (_, m, over) => {
  const p = plan(over);
  const o = operands(m, p, 1, small);
  const [kBlocks, nScales] = [Math.ceil(p.k / 128), Math.ceil(p.k / 128)];
  for (const seed of [0, 1]) {
    const { out, reports } = runGemm(p, o, { seed });
    expect(reports).toEqual([]);
    const want = Float32Array.from({ length: m * p.n }, (_x, i) => {
      const [row, column] = [Math.floor(i / p.n), i % p.n];
      let sum = 0;
      for (let kb = 0; kb < kBlocks; kb++) {
        let part = 0;
        for (let k = 128 * kb; k < Math.min(p.k, 128 * kb + 128); k++)
          part += at(o.a, row * p.k + k) * at(o.b, column * p.k + k);
        sum += part * o.aScale[row * kBlocks + kb] * o.bScale[(column >> 7) * nScales + kb];
      }
      return sum;
    });
    expect(new Float32Array(out.buffer)).toEqual(want);
  }
});

test('other numbers come out as the model says: sums of 128 with 13 fraction bits, added in f32', () => {
  const p = plan({ n: 32, k: 384 });
  const o = {
    ...operands(64, p, 2, normal),
    aScale: new Float32Array(64 * 3).fill(1),
    bScale: new Float32Array(3).fill(1),
  };
  const { out, reports } = runGemm(p, o);
  expect(reports).toEqual([]);
  const got = new Float32Array(out.buffer);
  const how = wgmmaSum('e4m3', 'e4m3', 'f32');
  const valueOf = (code: number): number => {
    const { units, scale } = decodeExact('f32', code);
    return Number(units) * 2 ** scale;
  };
  let differing = 0;
  for (let row = 0; row < 64; row++)
    for (let column = 0; column < p.n; column++) {
      let [sum, exact] = [0, 0];
      for (let kb = 0; kb < 3; kb++) {
        let part = 0;
        for (let step = 0; step < 4; step++) {
          const from = 128 * kb + 32 * step;
          const codes = (x: Uint8Array, line: number): number[] => [
            ...x.subarray(line * p.k + from, line * p.k + from + 32),
          ];
          part = fusedSum(how, codes(o.a, row), codes(o.b, column), part);
        }
        sum = Math.fround(sum + valueOf(part));
      }
      for (let k = 0; k < p.k; k++) exact += at(o.a, row * p.k + k) * at(o.b, column * p.k + k);
      expect(got[row * p.n + column], `${row}, ${column}`).toBe(sum);
      differing += Number(sum !== Math.fround(exact));
    }
  // The loss is real: most sums are not the exact ones.
  expect(differing).toBeGreaterThan(1000);
});
