// wgmma.mma_async through the emulator against the independent model: types, shapes, every layout that a descriptor can
// say.
import { describe, expect, test } from 'vitest';
import { Random } from './testing/tensor-bench.ts';
import { fusedSum, wgmmaSum } from './testing/tensor-model.ts';
import { moods } from './testing/tensor-values.ts';
import {
  dot,
  draw,
  expected,
  hex,
  kOf,
  matrix,
  run,
  spell,
  type Layout,
  type Major,
  type Product,
  type Swizzle,
  type Tile,
} from './testing/wgmma.ts';

const types: readonly (readonly [d: string, a: string, b: string, extra?: string])[] = [
  ['f32', 'f16', 'f16'],
  ['f16', 'f16', 'f16'],
  ['f32', 'bf16', 'bf16'],
  ['f32', 'tf32', 'tf32'],
  ...['f32', 'f16'].flatMap((d) =>
    ['e4m3', 'e5m2'].flatMap((a) => ['e4m3', 'e5m2'].map((b) => [d, a, b] as const)),
  ),
  ...['s8', 'u8'].flatMap((a) =>
    ['s8', 'u8'].flatMap((b) => ['', '.satfinite'].map((x) => ['s32', a, b, x] as const)),
  ),
  ['s32', 'b1', 'b1', '.and.popc'],
];

describe('wgmma.mma_async equals the model bit by bit', () => {
  const cases = types.flatMap(([d, a, b, extra]) =>
    [false, true].map((inRegisters) => ({ n: 8, d, a, b, extra, inRegisters })),
  );
  test.each(
    cases.map(
      (p, k) => [`${spell(p)}, A in ${p.inRegisters ? 'registers' : 'shared memory'}`, p, k] as const,
    ),
  )('%s', (_, p, k) => {
    const r = new Random(5000 + k);
    const tiles = moods.map((mood) => draw(p, r, mood));
    for (const [block, got] of run(p, tiles).entries())
      expect(hex(got), moods[block]).toEqual(hex(expected(p, tiles[block])));
  });

  test('scale-d false starts from zero, whatever the registers held', () => {
    const p: Product = { n: 16, d: 'f32', a: 'bf16', b: 'bf16', keep: false };
    const tiles = [draw(p, new Random(3), 'special')];
    expect(hex(run(p, tiles)[0])).toEqual(hex(expected(p, tiles[0])));
  });

  test.each([
    [-1, 1],
    [1, -1],
    [-1, -1],
  ] as const)('imm-scale %i, %i', (sa, sb) => {
    for (const a of ['e4m3', 'f16', 'tf32']) {
      const p: Product = { n: 8, d: 'f32', a, b: a, scales: [sa, sb] };
      const tiles = [draw(p, new Random(4), 'alike')];
      expect(hex(run(p, tiles)[0])).toEqual(hex(expected(p, tiles[0])));
    }
  });

  test('FP8 sums keep 13 fraction bits: 2^14 + 1 is 2^14, 2^13 + 1 is 8193', () => {
    const f32 = (x: number): number => new Uint32Array(new Float32Array([x]).buffer)[0];
    const one = 0x38; // 1.0 in e4m3
    const tile: Tile = {
      a: matrix(64, 32, (_, k) => (k === 5 ? one : 0)),
      b: matrix(8, 32, (_, k) => (k === 5 ? one : 0)),
      c: matrix(64, 8, (_, n) => f32(n === 0 ? 2 ** 14 : 2 ** 13)),
    };
    const [got] = run({ n: 8, d: 'f32', a: 'e4m3', b: 'e4m3' }, [tile]);
    expect(got[0].slice(0, 2)).toEqual([f32(16384), f32(8193)]);
    // Operands of 16 bits keep 25.
    const wide: Tile = {
      a: matrix(64, 16, (_, k) => (k === 5 ? 0x3f80 : 0)),
      b: matrix(8, 16, (_, k) => (k === 5 ? 0x3f80 : 0)),
      c: matrix(64, 8, () => f32(2 ** 23)),
    };
    expect(run({ n: 8, d: 'f32', a: 'bf16', b: 'bf16' }, [wide])[0][0][0]).toBe(f32(2 ** 23 + 1));
  });

  test("tensorCore 'f32' adds in f32, in the order of k", () => {
    const [f32, value] = [
      (x: number): number => new Uint32Array(new Float32Array([x]).buffer)[0],
      (code: number): number => new Float32Array(new Uint32Array([code]).buffer)[0],
    ];
    for (const a of ['bf16', 'tf32']) {
      const p: Product = { n: 16, d: 'f32', a, b: a, settings: { tensorCore: 'f32' } };
      const t = draw(p, new Random(6), 'alike');
      const widened = (code: number): number => value(a === 'bf16' ? code << 16 : code & ~0x1fff);
      const want = matrix(64, 16, (row, n) =>
        f32(
          t.a[row].reduce(
            (s, x, k) => Math.fround(s + Math.fround(widened(x) * widened(t.b[n][k]))),
            value(t.c[row][n]),
          ),
        ),
      );
      expect(hex(run(p, [t])[0])).toEqual(hex(want));
    }
  });
});

// Small integers: exact in every model, so that plain arithmetic says what each of the outputs is.
const encodings: Readonly<Record<string, (x: number) => number>> = {
  e4m3: (x) => [0, 0x38, 0x40, 0x44, 0x48, 0x4a, 0x4c, 0x4e][x],
  e5m2: (x) => [0, 0x3c, 0x40, 0x42, 0x44, 0x45, 0x46, 0x47][x],
  bf16: (x) => new Uint32Array(new Float32Array([x]).buffer)[0] >>> 16,
  f16: (x) => [0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700][x],
  tf32: (x) => new Uint32Array(new Float32Array([x]).buffer)[0],
  s8: (x) => x,
};
const value32 = (code: number): number => new Float32Array(new Uint32Array([code]).buffer)[0];

function checkIntegers(p: Product, seed: number): void {
  const r = new Random(seed);
  const k = kOf(p.a);
  const [a, b] = [matrix(64, k, () => r.below(8)), matrix(p.n, k, () => r.below(8))];
  const tile: Tile = {
    a: a.map((row) => row.map(encodings[p.a])),
    b: b.map((row) => row.map(encodings[p.b])),
    c: matrix(64, p.n, () => 0),
  };
  const [got] = run(p, [tile]);
  const want = matrix(64, p.n, (row, n) => dot(a[row], b[n]));
  expect(p.d === 's32' ? got : got.map((row) => row.map(value32))).toEqual(want);
}

describe('every N', () => {
  const sizes = Array.from({ length: 32 }, (_, i) => 8 * (i + 1));
  test.each(sizes)('n%i', (n) => {
    checkIntegers({ n, d: 'f32', a: 'e4m3', b: 'e5m2' }, n);
    checkIntegers({ n, d: 'f32', a: 'bf16', b: 'bf16' }, n);
    if (n < 40 || n % 16 === 0) checkIntegers({ n, d: 's32', a: 's8', b: 's8' }, n);
  });
  test('f16 accumulators of n256', () => {
    const p: Product = { n: 256, d: 'f16', a: 'f16', b: 'f16' };
    const tiles = [draw(p, new Random(8), 'alike')];
    const [got] = run(p, tiles);
    const r = new Random(9);
    const want = (row: number, column: number): number =>
      fusedSum(wgmmaSum('f16', 'f16', 'f16'), tiles[0].a[row], tiles[0].b[column], tiles[0].c[row][column]);
    for (let i = 0; i < 500; i++) {
      const [row, column] = [r.below(64), r.below(256)];
      expect(got[row][column], `${row}, ${column}`).toBe(want(row, column));
    }
  });
});

describe('every layout of a descriptor', () => {
  const layouts = (['k', 'mn'] as const).flatMap((major) =>
    ([0, 32, 64, 128] as const).map((swizzle) => ({ major, swizzle })),
  );
  // Strides with gaps, so that a confusion of the two cannot pass.
  const layout = (major: Major, swizzle: Swizzle, rows: number, start: number): Layout => {
    const pattern = Math.max(8 * swizzle, 128);
    if (major === 'k')
      return {
        major,
        swizzle,
        start,
        leading: swizzle ? 16 : pattern * 40,
        stride: pattern + (swizzle ? 8 * swizzle : 128),
      };
    const along = swizzle ? Math.ceil((2 * rows) / swizzle) : rows / 8;
    return swizzle
      ? { major, swizzle, start, leading: 3 * pattern, stride: pattern }
      : { major, swizzle, start, leading: 128 * (along + 1), stride: 128 };
  };
  const pairs = layouts.flatMap((x) => layouts.map((y) => [x, y] as const));
  test.each(
    pairs.map(
      ([x, y]) => [`A ${x.major}-major ${x.swizzle}, B ${y.major}-major ${y.swizzle}`, x, y] as const,
    ),
  )('bf16, %s', (_, x, y) => {
    const layoutA = layout(x.major, x.swizzle, 64, 0x400);
    const layoutB = layout(y.major, y.swizzle, 96, 0x8400);
    checkIntegers({ n: 96, d: 'f32', a: 'bf16', b: 'bf16', layoutA, layoutB }, 11);
  });
  test.each([0, 32, 64, 128] as const)('8 bits and tf32, K-major, swizzle %i', (swizzle) => {
    const layoutA = layout('k', swizzle, 64, 0x400);
    const layoutB = layout('k', swizzle, 40, 0x8400);
    for (const a of ['e4m3', 's8', 'tf32'])
      checkIntegers(
        { n: a === 's8' ? 48 : 40, d: a === 's8' ? 's32' : 'f32', a, b: a, layoutA, layoutB },
        12,
      );
  });
  test.each([
    [128, 32],
    [128, 64],
    [128, 96],
    [64, 32],
  ] as const)('a step of K inside a %i-byte atom: start + %i', (swizzle, step) => {
    const [layoutA, layoutB] = [
      { ...layout('k', swizzle, 64, 0x400), start: 0x400 + step },
      { ...layout('k', swizzle, 16, 0x8400), start: 0x8400 + step },
    ];
    checkIntegers({ n: 16, d: 'f32', a: 'e4m3', b: 'e4m3', layoutA, layoutB }, 13);
  });
  test.each([0, 32, 64, 128] as const)('A in registers, B N-major, swizzle %i', (swizzle) => {
    checkIntegers(
      { n: 64, d: 'f32', a: 'f16', b: 'f16', inRegisters: true, layoutB: layout('mn', swizzle, 64, 0x400) },
      14,
    );
  });
});
