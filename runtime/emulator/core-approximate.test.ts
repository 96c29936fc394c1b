// Functions that the ISA gives bounds for, in every type; comparisons of packed halves; wide multiply-adds.
import { expect, test } from 'vitest';
import { bf16, decode, f16, f32, f64, flush, type FloatFormat } from './testing/exact-float.ts';
import { columnsOf, differences, runLanes, type Column, type LaneCase } from './testing/lane-bench.ts';

/** The number as a double (exact: no format here has more bits); NaN and infinities too. */
function numberOf(f: FloatFormat, bits: bigint): number {
  const v = decode(f, bits);
  if (v.kind === 'nan') return Number.NaN;
  const sign = v.negative ? -1 : 1;
  if (v.kind === 'inf') return sign * Infinity;
  return sign * Number(v.n) * 2 ** Math.max(v.e, -1022) * 2 ** (v.e - Math.max(v.e, -1022));
}
/** Distance of neighbours around a number. */
const ulp = (f: FloatFormat, y: number): number =>
  2 ** (Math.max(Math.floor(Math.log2(Math.abs(y) || 2 ** (1 - f.bias))), 1 - f.bias) - f.fraction);
const largest = (f: FloatFormat): number => (2 - 2 ** -f.fraction) * 2 ** f.bias;

interface Check {
  readonly body: string;
  /** What comes in and out: the number formats of %a, %b and %d. */
  readonly from: FloatFormat;
  readonly exact: (x: number, y: number) => number;
  /** Largest difference from the exact value. */
  readonly bound: (exact: number, x: number, y: number) => number;
  readonly flushes?: boolean;
  /** Operands that the ISA promises nothing for. */
  readonly skip?: (x: number, y: number) => boolean;
}

const list = (f: FloatFormat): bigint[] => {
  const one = BigInt(f.bias) << BigInt(f.fraction);
  const infinite = ((1n << BigInt(f.bits - 1 - f.fraction)) - 1n) << BigInt(f.fraction);
  const positive = [0n, 1n, 1n << BigInt(f.fraction), one - 1n, one, one + 1n, infinite - 1n, infinite];
  return [...positive.flatMap((v) => [v, v | (1n << BigInt(f.bits - 1))]), infinite | 5n];
};

/** What is out of bounds. */
function wrong(c: Check): string[] {
  const f = c.from;
  const bits = f.bits as 16 | 32 | 64;
  const inputs: Record<string, Column> = columnsOf(
    ['a', 'b'],
    [bits, bits],
    [list(f), list(f)],
    2000,
    7,
    (next) => {
      const v = next(f.bits);
      const near = (BigInt(f.bias) - 3n + next(3)) << BigInt(f.fraction);
      const rest = (1n << BigInt(f.bits - 1)) | ((1n << BigInt(f.fraction)) - 1n);
      return next(1) ? v : (v & rest) | near;
    },
  );
  const [got] = runLanes(inputs, [{ body: c.body, result: bits }]);
  return got.flatMap((d, i) => {
    const [a, b] = [inputs.a.values[i], inputs.b.values[i]].map((v) =>
      numberOf(f, c.flushes ? flush(f, v) : v),
    );
    if (c.skip?.(a, b)) return [];
    const want = c.exact(a, b);
    const y = numberOf(f, d);
    const told = `${c.body} of ${a}, ${b}: ${y}, expected ${want}`;
    if (Number.isNaN(want)) return Number.isNaN(y) ? [] : [told];
    if (y === want) return [];
    // Beyond the largest number an infinity is as good; below the smallest normal one a zero, when it flushes.
    if (Math.abs(want) >= largest(f) * (1 - 2 ** -f.fraction) && y === Math.sign(want) * Infinity) return [];
    if (c.flushes && Math.abs(want) < 2 ** (1 - f.bias) * (1 + 2 ** -f.fraction) && y === 0) return [];
    return Math.abs(y - want) <= c.bound(want, a, b) ? [] : [told];
  });
}

const half: readonly (readonly [string, FloatFormat])[] = [
  ['f16', f16],
  ['bf16', bf16],
];
test('division of f32: approximate and full range', () => {
  const exact = (x: number, y: number): number => x / y;
  const outside = (_x: number, y: number): boolean =>
    Number.isFinite(y) && y !== 0 && (Math.abs(y) < 2 ** -126 || Math.abs(y) > 2 ** 126);
  const two = (want: number): number => 2 * ulp(f32, want);
  const checks: Check[] = [
    { body: 'div.approx.f32 %d, %a, %b;', from: f32, exact, bound: two, skip: outside },
    { body: 'div.approx.ftz.f32 %d, %a, %b;', from: f32, exact, bound: two, skip: outside, flushes: true },
    { body: 'div.full.f32 %d, %a, %b;', from: f32, exact, bound: two },
    { body: 'div.full.ftz.f32 %d, %a, %b;', from: f32, exact, bound: two, flushes: true },
  ];
  expect(checks.flatMap(wrong).slice(0, 5)).toEqual([]);
});
test('approximations of f32 that flush subnormals', () => {
  const of = (name: string, exact: (x: number) => number, bound: Check['bound']): Check => ({
    body: `${name}.approx.ftz.f32 %d, %a;`,
    from: f32,
    exact,
    bound,
    flushes: true,
  });
  const checks = [
    of(
      'ex2',
      (x) => 2 ** x,
      (y) => 2 * ulp(f32, y),
    ),
    of(
      'rcp',
      (x) => 1 / x,
      (y) => ulp(f32, y),
    ),
    of('sqrt', Math.sqrt, (y) => Math.abs(y) * 2 ** -23),
    of(
      'rsqrt',
      (x) => 1 / Math.sqrt(x),
      (y) => Math.abs(y) * 2 ** -22.9,
    ),
    of('lg2', Math.log2, (y, x) => (x > 0.5 && x < 2 ? 2 ** -22 : Math.abs(y) * 2 ** -22)),
    of('sin', Math.sin, (_y, x) =>
      Math.abs(x) <= Math.PI ? 2 ** -20.5 : Math.abs(x) <= 314 ? 2 ** -14.7 : 2,
    ),
    of('cos', Math.cos, (_y, x) =>
      Math.abs(x) <= Math.PI ? 2 ** -20.5 : Math.abs(x) <= 314 ? 2 ** -14.7 : 2,
    ),
  ];
  expect(checks.flatMap(wrong).slice(0, 5)).toEqual([]);
});
test.each(half)('ex2 and tanh of %s, alone and in pairs', (name, f) => {
  const relative = name === 'f16' ? 2 ** -9.9 : 2 ** -7;
  // bf16's ex2 exists with .ftz only, f16's without it too.
  const ex2 = name === 'f16' ? ['ex2.approx', 'ex2.approx.ftz'] : ['ex2.approx.ftz'];
  const bounds: [string, (x: number) => number, Check['bound'], boolean][] = [
    ...ex2.map((op): [string, (x: number) => number, Check['bound'], boolean] => [
      op,
      (x) => 2 ** x,
      // A subnormal result is at best a multiple of the smallest number.
      (y) => Math.max(Math.abs(y) * relative, op.endsWith('ftz') ? 0 : ulp(f, 0)),
      op.endsWith('ftz'),
    ]),
    [
      'tanh.approx',
      Math.tanh,
      (y) => (name === 'f16' ? 2 ** -10.987 : Math.max(Math.abs(y), 1) * 2 ** -8),
      false,
    ],
  ];
  const failures = bounds.flatMap(([op, exact, bound, flushes]) => [
    ...wrong({ body: `${op}.${name} %d, %a;`, from: f, exact, bound, flushes }),
    // The upper half of a pair, then the lower.
    ...wrong({
      body: `mov.b32 %t0, {%b, %a}; ${op}.${name}x2 %t1, %t0; mov.b32 {%h0, %d}, %t1;`,
      ...{ from: f, exact, bound, flushes },
    }),
    ...wrong({
      body: `mov.b32 %t0, {%a, %b}; ${op}.${name}x2 %t1, %t0; mov.b32 {%d, %h0}, %t1;`,
      ...{ from: f, exact, bound, flushes },
    }),
  ]);
  expect(failures.slice(0, 5)).toEqual([]);
});
test('gross approximations of f64', () => {
  // The ISA gives the upper 32 bits some 20 bits of precision, and flushes.
  const near = (y: number): number => Math.abs(y) * 2 ** -20;
  const of = (name: string, exact: (x: number) => number): Check => ({
    body: `${name}.approx.ftz.f64 %d, %a;`,
    from: f64,
    exact,
    bound: near,
    flushes: true,
  });
  const checks = [of('rcp', (x) => 1 / x), of('rsqrt', (x) => 1 / Math.sqrt(x))];
  expect(checks.flatMap(wrong).slice(0, 5)).toEqual([]);
});

type Case = LaneCase & { readonly expect: (...v: bigint[]) => bigint };
test.each(half)('comparisons of pairs of %s', (name, f) => {
  const relations: [string, (x: number, y: number) => boolean][] = [
    ['eq', (x, y) => x === y],
    ['ne', (x, y) => x < y || x > y],
    ['lt', (x, y) => x < y],
    ['geu', (x, y) => !(x < y)],
    ['num', (x, y) => !Number.isNaN(x) && !Number.isNaN(y)],
    ['nan', (x, y) => Number.isNaN(x) || Number.isNaN(y)],
  ];
  const cases = relations.map(([rel, holds]): Case => ({
    // Lower halves decide the first predicate, upper ones the second.
    body: `mov.b32 %t0, {%a, %b}; mov.b32 %t1, {%b, %c}; setp.${rel}.${name}x2 %p0|%p1, %t0, %t1;
selp.b32 %t2, 1, 0, %p0; selp.b32 %t3, 2, 0, %p1; or.b32 %d, %t2, %t3;`,
    result: 32,
    expect: (a, b, c) => {
      const [x, y, z] = [a, b, c].map((v) => numberOf(f, v));
      return (holds(x, y) ? 1n : 0n) | (holds(y, z) ? 2n : 0n);
    },
  }));
  expect(
    differences(columnsOf(['a', 'b', 'c'], [16, 16, 16], [list(f), list(f), list(f)], 2000, 3), cases),
  ).toEqual([]);
});

test.each([16, 32] as const)('mad.wide of %i bits wraps in twice as many', (bits) => {
  const wide = BigInt(2 * bits);
  const cases = ['u', 's'].map((t): Case => {
    const v = (x: bigint): bigint => (t === 's' ? BigInt.asIntN(bits, x) : x);
    return {
      body: `mad.wide.${t}${bits} %d, %a, %b, %c;`,
      result: (2 * bits) as 32 | 64,
      expect: (a, b, c) => BigInt.asUintN(2 * bits, v(a) * v(b) + c),
    };
  });
  const ends = [0n, 1n, (1n << BigInt(bits - 1)) - 1n, 1n << BigInt(bits - 1), (1n << BigInt(bits)) - 1n];
  const sums = [0n, 1n, (1n << wide) - 1n, 1n << (wide - 1n)];
  const columns = columnsOf(['a', 'b', 'c'], [bits, bits, (2 * bits) as 32 | 64], [ends, ends, sums], 500, 4);
  expect(differences(columns, cases)).toEqual([]);
});
