// mma.sync of f64, and m8n8k4 of f16: fragments of their own.
import { describe, expect, test } from 'vitest';
import { Random, registers, runFragments } from './testing/tensor-bench.ts';
import { fusedSum, mmaSum } from './testing/tensor-model.ts';
import { drawAccumulator, drawCode } from './testing/tensor-values.ts';

type Place = readonly [row: number, column: number];
/** Element `i` of lane 4g + q of the accumulators. */
const accumulator = (i: number, g: number, q: number): Place => [i < 2 ? g : g + 8, q * 2 + (i & 1)];

type Matrix = readonly (readonly number[])[];
const matrix = (rows: number, columns: number, draw: () => number): Matrix =>
  Array.from({ length: rows }, () => Array.from({ length: columns }, draw));

describe('mma.sync of f64', () => {
  const f64 = (x: number): bigint => new BigUint64Array(new Float64Array([x]).buffer)[0];
  test.each([
    [8, 4],
    [16, 4],
    [16, 8],
    [16, 16],
  ])('m%in8k%i', (m, k) => {
    const r = new Random(m * k);
    // Integers, so that sums are exact in any order: the layout is what is tried.
    const [a, b, c] = [
      matrix(m, k, () => r.below(4096)),
      matrix(k, 8, () => r.below(4096)),
      matrix(m, 8, () => r.below(4096)),
    ];
    const [na, nb, nc] = [(m * k) / 32, k / 4, m / 4];
    const lanes = Array.from({ length: 32 }, (_, l) => [l >> 2, l & 3] as const);
    const input = [
      ...Array.from({ length: na }, (_, i) =>
        lanes.map(([g, q]) => a[m === 8 ? g : g + 8 * (i % 2)][q + 4 * (i >> 1)]),
      ),
      ...Array.from({ length: nb }, (_, i) => lanes.map(([g, q]) => b[q + 4 * i][g])),
      ...Array.from({ length: nc }, (_, i) =>
        lanes.map(([g, q]) => c[accumulator(i, g, q)[0]][accumulator(i, g, q)[1]]),
      ),
    ];
    const { outputs, reports } = runFragments(
      {
        threads: 32,
        inputs: na + nb + nc,
        outputs: nc,
        wide: true,
        body: `mma.sync.aligned.m${m}n8k${k}.row.col.f64.f64.f64.f64 {${registers('o', 0, nc)}}, {${registers('i', 0, na)}}, {${registers('i', na, nb)}}, {${registers('i', na + nb, nc)}};`,
      },
      1,
      BigUint64Array.from(input.flat().map(f64)),
    );
    expect(reports).toEqual([]);
    const want = Array.from({ length: nc }, (_, i) =>
      lanes.map(([g, q]) => {
        const [row, n] = accumulator(i, g, q);
        return f64(a[row].reduce((s, x, j) => s + x * b[j][n], c[row][n]));
      }),
    );
    expect([...outputs]).toEqual(want.flat());
  });

  test('rounds as asked, after a fused multiply-add', () => {
    // 1 + 2^-60: below one up, above one up only with .rp.
    const run = (rounding: string): number => {
      const input = [1, 2 ** -60, 1, 1].flatMap((x) => new Array<bigint>(32).fill(f64(x)));
      // a = 1 in column 0 only: lanes with q = 0.
      for (let l = 0; l < 32; l++) input[l] = f64(l % 4 === 0 ? 1 : 0);
      const { outputs } = runFragments(
        {
          threads: 32,
          inputs: 4,
          outputs: 2,
          wide: true,
          body: `mma.sync.aligned.m8n8k4.row.col${rounding}.f64.f64.f64.f64 {%o0, %o1}, {%i0}, {%i1}, {%i2, %i3};`,
        },
        1,
        BigUint64Array.from(input),
      );
      return new Float64Array(BigUint64Array.from(outputs as BigUint64Array).buffer)[0];
    };
    expect(['', '.rn', '.rz', '.rm', '.rp'].map(run)).toEqual([1, 1, 1, 1, 1 + 2 ** -52]);
  });
});

describe('mma.sync.m8n8k4 of f16: four products of eight lanes', () => {
  const rowOf = (i: number, l: number): number => (l % 4) + (l < 16 ? 0 : 4) + 0 * i;
  const high = (l: number): number => (l < 16 ? 0 : 4);
  const accumulators = {
    f16: (i: number, l: number): Place => [rowOf(i, l), i],
    f32: (i: number, l: number): Place => [(l & 1) + (i & 2) + high(l), (i & 4) + (l & 2) + (i & 1)],
  };
  const cases = ['row', 'col'].flatMap((al) =>
    ['row', 'col'].flatMap((bl) =>
      (
        [
          ['f32', 'f32'],
          ['f16', 'f16'],
          ['f32', 'f16'],
        ] as const
      ).map(([d, c]) => [al, bl, d, c] as const),
    ),
  );
  test.each(cases)('.%s.%s.%s.f16.f16.%s', (al, bl, d, c) => {
    const r = new Random(77);
    const products = Array.from({ length: 4 }, () => ({
      a: matrix(8, 4, () => drawCode(r, 'f16', 'alike')),
      b: matrix(4, 8, () => drawCode(r, 'f16', 'alike')),
      c: matrix(8, 8, () => drawAccumulator(r, c, 'alike')),
    }));
    const productOf = (l: number): (typeof products)[number] => products[(l >> 2) % 4];
    const words: number[][] = [];
    const pairs = (count: number, at: (i: number, l: number) => number): void => {
      for (let w = 0; w < count; w++)
        words.push(Array.from({ length: 32 }, (_, l) => (at(2 * w, l) | (at(2 * w + 1, l) << 16)) >>> 0));
    };
    pairs(2, (i, l) => productOf(l).a[al === 'row' ? rowOf(i, l) : i + high(l)][al === 'row' ? i : l % 4]);
    pairs(2, (i, l) => productOf(l).b[bl === 'row' ? l % 4 : i][bl === 'row' ? i + high(l) : rowOf(i, l)]);
    const cAt = (i: number, l: number): number =>
      productOf(l).c[accumulators[c](i, l)[0]][accumulators[c](i, l)[1]];
    if (c === 'f16') pairs(4, cAt);
    else for (let i = 0; i < 8; i++) words.push(Array.from({ length: 32 }, (_, l) => cAt(i, l)));
    const [nc, nd] = [c === 'f16' ? 4 : 8, d === 'f16' ? 4 : 8];
    const { outputs, reports } = runFragments(
      {
        threads: 32,
        inputs: 4 + nc,
        outputs: nd,
        body: `mma.sync.aligned.m8n8k4.${al}.${bl}.${d}.f16.f16.${c} {${registers('o', 0, nd)}}, {%i0, %i1}, {%i2, %i3}, {${registers('i', 4, nc)}};`,
      },
      1,
      Uint32Array.from(words.flat()),
    );
    expect(reports).toEqual([]);
    const [got, want]: [number[], number[]] = [[], []];
    for (let l = 0; l < 32; l++)
      for (let i = 0; i < 8; i++) {
        const [row, n] = accumulators[d](i, l);
        const p = productOf(l);
        const column = p.b.map((x) => x[n]);
        want.push(fusedSum(mmaSum('f16', 'f16', c, d), p.a[row], column, p.c[row][n]));
        const word = Number(outputs[(d === 'f16' ? i >> 1 : i) * 32 + l]);
        got.push(d === 'f16' ? (word >>> (16 * (i % 2))) & 0xffff : word);
      }
    expect(got).toEqual(want);
  });
});
