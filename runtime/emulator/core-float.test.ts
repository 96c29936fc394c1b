// Floating-point arithmetic against exact fractions: every rounding, flushing, saturation, NaNs.
import { expect, test } from 'vitest';
import {
  add,
  bf16,
  decode,
  divide,
  encode,
  f16,
  f32,
  f64,
  flush,
  multiply,
  negate,
  squareRoot,
  type FloatFormat,
  type RoundingMode,
  type Value,
} from './testing/exact-float.ts';
import {
  columnsOf,
  differences,
  runLanes,
  type Column,
  type LaneCase,
  type Width,
} from './testing/lane-bench.ts';

type Case = LaneCase & { readonly expect: (...v: bigint[]) => bigint };
const modes: readonly RoundingMode[] = ['rn', 'rz', 'rm', 'rp'];
const isNan = (f: FloatFormat, v: bigint): boolean => decode(f, v).kind === 'nan';
const top = (f: FloatFormat): bigint => 1n << BigInt(f.bits - 1);

/** Zeros, ones, limits, subnormals, infinities, NaNs, each with both signs. */
function specials(f: FloatFormat): bigint[] {
  const one = BigInt(f.bias) << BigInt(f.fraction);
  const infinite = ((1n << BigInt(f.bits - 1 - f.fraction)) - 1n) << BigInt(f.fraction);
  const list = [
    0n,
    1n,
    (1n << BigInt(f.fraction)) - 1n,
    1n << BigInt(f.fraction),
    one,
    one + 1n,
    infinite - 1n,
    infinite,
  ];
  return [...list.flatMap((v) => [v, v | top(f)]), infinite | 5n];
}
/** Random bits, half of them with exponents near the bias, so that sums cancel and products stay in range. */
const columns = (
  f: FloatFormat,
  names: string[],
  random: number,
  list = specials(f),
): Record<string, Column> =>
  columnsOf(
    names,
    names.map(() => f.bits as Width),
    names.map(() => list),
    random,
    11,
    (next) => {
      const v = next(f.bits);
      const near = (BigInt(f.bias) - 3n + next(3)) << BigInt(f.fraction);
      return next(1) ? v : (v & (top(f) | ((1n << BigInt(f.fraction)) - 1n))) | near;
    },
  );
/** The result's bits; the payload of a double NaN is open. */
const saturated = (f: FloatFormat, v: Value, mode: RoundingMode): bigint => {
  if (v.kind === 'nan' || v.negative) return 0n;
  const bits = encode(f, v, mode);
  const one = BigInt(f.bias) << BigInt(f.fraction);
  return bits > one ? one : bits;
};

test('f32 in every rounding, with ftz and sat', () => {
  const cases: Case[] = [];
  const ops: [string, string, (a: Value, b: Value, c: Value, m: RoundingMode) => Value][] = [
    ['add', '%a, %b', (a, b, _c, m) => add(a, b, m)],
    ['sub', '%a, %b', (a, b, _c, m) => add(a, negate(b), m)],
    ['mul', '%a, %b', (a, b) => multiply(a, b)],
    ['fma', '%a, %b, %c', (a, b, c, m) => add(multiply(a, b), c, m)],
    ['div', '%a, %b', (a, b) => divide(a, b)],
  ];
  for (const [op, operands, f] of ops)
    for (const mode of modes)
      for (const ftz of ['', '.ftz'])
        for (const sat of op === 'div' ? [''] : ['', '.sat']) {
          const input = (v: bigint): Value => decode(f32, ftz ? flush(f32, v) : v);
          cases.push({
            body: `${op}.${mode}${ftz}${sat}.f32 %d, ${operands};`,
            result: 32,
            expect: (a, b, c) => {
              const v = f(input(a), input(b), input(c), mode);
              const bits = sat ? saturated(f32, v, mode) : encode(f32, v, mode);
              return ftz ? flush(f32, bits) : bits;
            },
          });
        }
  for (const mode of modes) {
    cases.push({
      body: `sqrt.${mode}.f32 %d, %a;`,
      result: 32,
      expect: (a) => encode(f32, squareRoot(decode(f32, a)), mode),
    });
    const one = decode(f32, 0x3f800000n);
    cases.push({
      body: `rcp.${mode}.f32 %d, %a;`,
      result: 32,
      expect: (a) => encode(f32, divide(one, decode(f32, a)), mode),
    });
  }
  const list = specials(f32).filter((_, i) => i % 2 === 0 || i < 4);
  expect(differences(columns(f32, ['a', 'b', 'c'], 2000, list), cases)).toEqual([]);
});

test('f64 in every rounding', () => {
  const cases: Case[] = [];
  const nanFree = (v: Value, mode: RoundingMode): bigint => encode(f64, v, mode);
  // The payload of a NaN is open: selp replaces it by the oracle's.
  const settle = 'testp.notanumber.f64 %p0, %u0; selp.b64 %d, 0x7fffffffffffffff, %u0, %p0;';
  for (const mode of modes) {
    const of = (body: string, f: (a: Value, b: Value, c: Value) => Value): void => {
      cases.push({
        body: `${body} ${settle}`,
        result: 64,
        expect: (a, b, c) => nanFree(f(decode(f64, a), decode(f64, b), decode(f64, c)), mode),
      });
    };
    of(`add.${mode}.f64 %u0, %a, %b;`, (a, b) => add(a, b, mode));
    of(`sub.${mode}.f64 %u0, %a, %b;`, (a, b) => add(a, negate(b), mode));
    of(`mul.${mode}.f64 %u0, %a, %b;`, multiply);
    of(`fma.${mode}.f64 %u0, %a, %b, %c;`, (a, b, c) => add(multiply(a, b), c, mode));
    of(`div.${mode}.f64 %u0, %a, %b;`, divide);
    of(`sqrt.${mode}.f64 %u0, %a;`, squareRoot);
  }
  const list = specials(f64).filter((_, i) => i % 3 !== 1);
  expect(differences(columns(f64, ['a', 'b', 'c'], 500, list), cases)).toEqual([]);
});

for (const [name, f] of [
  ['f16', f16],
  ['bf16', bf16],
] as const)
  test(`${name} and pairs of it`, () => {
    const cases: Case[] = [];
    const ops: [string, (a: Value, b: Value, c: Value) => Value][] = [
      ['add.rn', (a, b) => add(a, b, 'rn')],
      ['sub.rn', (a, b) => add(a, negate(b), 'rn')],
      ['mul.rn', multiply],
      ['fma.rn', (a, b, c) => add(multiply(a, b), c, 'rn')],
    ];
    for (const [op, g] of ops) {
      const operands = op === 'fma.rn' ? '%a, %b, %c' : '%a, %b';
      const value = (a: bigint, b: bigint, c: bigint): bigint =>
        encode(f, g(decode(f, a), decode(f, b), decode(f, c)), 'rn');
      cases.push({ body: `${op}.${name} %d, ${operands};`, result: 16, expect: value });
      const three = op === 'fma.rn' ? 'mov.b32 %t2, {%c, %a};' : '';
      cases.push({
        body: `mov.b32 %t0, {%a, %b}; mov.b32 %t1, {%b, %c}; ${three} ${op}.${name}x2 %d, %t0, %t1${three ? ', %t2' : ''};`,
        result: 32,
        expect: (a, b, c) => value(a, b, c) | (value(b, c, a) << 16n),
      });
      if (name === 'f16') {
        cases.push({
          body: `${op}.ftz.f16 %d, ${operands};`,
          result: 16,
          expect: (a, b, c) => flush(f, value(flush(f, a), flush(f, b), flush(f, c))),
        });
        cases.push({
          body: `${op}.sat.f16 %d, ${operands};`,
          result: 16,
          expect: (a, b, c) => saturated(f, g(decode(f, a), decode(f, b), decode(f, c)), 'rn'),
        });
      }
    }
    cases.push({
      body: `fma.rn.relu.${name} %d, %a, %b, %c;`,
      result: 16,
      expect: (a, b, c) => {
        const v = add(multiply(decode(f, a), decode(f, b)), decode(f, c), 'rn');
        return v.kind !== 'nan' && v.negative ? 0n : encode(f, v, 'rn');
      },
    });
    cases.push({ body: `neg.${name} %d, %a;`, result: 16, expect: (a) => a ^ top(f) });
    cases.push({ body: `abs.${name} %d, %a;`, result: 16, expect: (a) => a & ~top(f) });
    const list = specials(f).filter((_, i) => i % 2 === 0 || i < 6);
    expect(differences(columns(f, ['a', 'b', 'c'], 4000, list), cases)).toEqual([]);
  });

test('min and max: NaNs, signed zeros, xorsign, copysign, neg, abs', () => {
  for (const [name, f] of [
    ['f32', f32],
    ['f64', f64],
    ['f16', f16],
    ['bf16', bf16],
  ] as const) {
    const w = f.bits as Width;
    const order = (v: bigint): bigint => (v & top(f) ? -(v & ~top(f)) - 1n : v);
    const choose = (a: bigint, b: bigint, max: boolean, nanWins: boolean): bigint => {
      const [x, y] = [isNan(f, a), isNan(f, b)];
      if ((x && y) || (nanWins && (x || y))) return f.nan;
      if (x || y) return x ? b : a;
      return order(a) > order(b) === max ? a : b;
    };
    const cases: Case[] = [];
    for (const max of [false, true])
      for (const nanWins of f === f64 ? [false] : [false, true]) {
        const op = `${max ? 'max' : 'min'}`;
        const n = nanWins ? '.NaN' : '';
        const settle = f === f64 ? ' testp.notanumber.f64 %p0, %d; @%p0 mov.b64 %d, 0x7fffffffffffffff;' : '';
        cases.push({
          body: `${op}${n}.${name} %d, %a, %b;${settle}`,
          result: w,
          expect: (a, b) => choose(a, b, max, nanWins),
        });
        if (f !== f64)
          cases.push({
            body: `${op}${n}.xorsign.abs.${name} %d, %a, %b;`,
            result: w,
            expect: (a, b) => {
              const v = choose(a & ~top(f), b & ~top(f), max, nanWins);
              return isNan(f, v) ? v : v | ((a ^ b) & top(f));
            },
          });
      }
    if (f === f32 || f === f64) {
      cases.push({
        body: `copysign.${name} %d, %a, %b;`,
        result: w,
        expect: (a, b) => (a & top(f)) | (b & ~top(f)),
      });
      cases.push({ body: `neg.${name} %d, %a;`, result: w, expect: (a) => a ^ top(f) });
      cases.push({ body: `abs.${name} %d, %a;`, result: w, expect: (a) => a & ~top(f) });
    }
    expect(differences(columns(f, ['a', 'b'], 300), cases)).toEqual([]);
  }
});

test('approximations stay within the bounds that the ISA gives', () => {
  const view = new DataView(new ArrayBuffer(8));
  const asFloat = (v: bigint): number => (view.setUint32(0, Number(v)), view.getFloat32(0));
  const inputs = columns(f32, ['a'], 4000);
  const check = (
    body: string,
    f: (x: number) => number,
    bound: (x: number, y: number) => number,
  ): string[] => {
    const [results] = runLanes(inputs, [{ body, result: 32 }]);
    return results.flatMap((got, i) => {
      const x = asFloat(inputs.a.values[i]);
      const y = asFloat(got);
      const want = f(x);
      if (Number.isNaN(want)) return Number.isNaN(y) ? [] : [`${body} ${x}: ${y}, expected NaN`];
      const w = Math.fround(want);
      if (y === w) return [];
      return Math.abs(y - want) <= bound(x, want) ? [] : [`${body} ${x}: ${y}, expected ${want}`];
    });
  };
  const ulp = (y: number): number =>
    2 ** (Math.max(Math.floor(Math.log2(Math.abs(y) || 2 ** -149)), -126) - 23);
  const failures = [
    ...check(
      'ex2.approx.f32 %d, %a;',
      (x) => 2 ** x,
      (_x, y) => 2 * ulp(y),
    ),
    ...check(
      'rcp.approx.f32 %d, %a;',
      (x) => 1 / x,
      (_x, y) => ulp(y),
    ),
    ...check('sqrt.approx.f32 %d, %a;', Math.sqrt, (_x, y) => Math.abs(y) * 2 ** -23),
    ...check(
      'rsqrt.approx.f32 %d, %a;',
      (x) => 1 / Math.sqrt(x),
      (_x, y) => Math.abs(y) * 2 ** -22.9,
    ),
    ...check('lg2.approx.f32 %d, %a;', Math.log2, (x, y) =>
      x > 0.5 && x < 2 ? 2 ** -22 : Math.abs(y) * 2 ** -22,
    ),
    ...check('sin.approx.f32 %d, %a;', Math.sin, () => 2 ** -20.5),
    ...check('cos.approx.f32 %d, %a;', Math.cos, () => 2 ** -20.5),
    ...check('tanh.approx.f32 %d, %a;', Math.tanh, (_x, y) => Math.abs(y) * 2 ** -11),
  ];
  expect(failures.slice(0, 5)).toEqual([]);
});

test('testp, setp, set, selp and slct on floats', () => {
  const cases: Case[] = [];
  const kinds: [string, (v: bigint) => boolean][] = [
    ['finite', (v) => decode(f32, v).kind === 'number'],
    ['infinite', (v) => decode(f32, v).kind === 'inf'],
    ['number', (v) => decode(f32, v).kind !== 'nan'],
    ['notanumber', (v) => decode(f32, v).kind === 'nan'],
    ['normal', (v) => decode(f32, v).kind === 'number' && ((v >> 23n) & 255n) !== 0n],
    ['subnormal', (v) => ((v >> 23n) & 255n) === 0n && (v & 0x7fffffn) !== 0n],
  ];
  for (const [k, f] of kinds)
    cases.push({
      body: `testp.${k}.f32 %p0, %a; selp.b32 %d, 1, 0, %p0;`,
      result: 32,
      expect: (a) => (f(a) ? 1n : 0n),
    });
  const key = (f: FloatFormat, v: bigint): bigint => (v & top(f) ? -(v & ~top(f)) : v);
  const relations: [string, (x: bigint, y: bigint) => boolean][] = [
    ['eq', (x, y) => x === y],
    ['ne', (x, y) => x !== y],
    ['lt', (x, y) => x < y],
    ['le', (x, y) => x <= y],
    ['gt', (x, y) => x > y],
    ['ge', (x, y) => x >= y],
  ];
  for (const [name, f] of [
    ['f32', f32],
    ['f16', f16],
    ['bf16', bf16],
  ] as const) {
    const low = (v: bigint): bigint => (f === f32 ? v : v & 0xffffn);
    for (const [rel, holds] of relations)
      for (const suffix of ['', 'u']) {
        const truth = (a: bigint, b: bigint): boolean =>
          isNan(f, low(a)) || isNan(f, low(b)) ? suffix === 'u' : holds(key(f, low(a)), key(f, low(b)));
        const operands = f === f32 ? '%a, %b' : '%h0, %h1';
        const head = f === f32 ? '' : 'cvt.u16.u32 %h0, %a; cvt.u16.u32 %h1, %b; ';
        cases.push({
          body: `${head}setp.${rel}${suffix}.${name} %p0|%p1, ${operands}; selp.b32 %t0, 1, 0, %p0; selp.b32 %t1, 2, 0, %p1; or.b32 %d, %t0, %t1;`,
          result: 32,
          expect: (a, b) => (truth(a, b) ? 1n : 2n),
        });
        cases.push({
          body: `${head}setp.lt.u32 %p2, %a, %b; setp.${rel}${suffix}.xor.${name} %p0|%p1, ${operands}, !%p2; selp.b32 %t0, 1, 0, %p0; selp.b32 %t1, 2, 0, %p1; or.b32 %d, %t0, %t1;`,
          result: 32,
          expect: (a, b) => {
            const c = !(a < b);
            return (truth(a, b) !== c ? 1n : 0n) | (!truth(a, b) !== c ? 2n : 0n);
          },
        });
        if (f === f32)
          for (const [to, yes] of [
            ['u32', 0xffffffffn],
            ['f32', 0x3f800000n],
          ] as const)
            cases.push({
              body: `set.${rel}${suffix}.${to}.f32 %d, %a, %b;`,
              result: 32,
              expect: (a, b) => (truth(a, b) ? yes : 0n),
            });
      }
    cases.push({
      body:
        f === f32
          ? 'setp.num.f32 %p0, %a, %b; selp.b32 %d, 1, 0, %p0;'
          : `cvt.u16.u32 %h0, %a; cvt.u16.u32 %h1, %b; setp.nan.${name} %p0, %h0, %h1; selp.b32 %d, 0, 1, %p0;`,
      result: 32,
      expect: (a, b) => (isNan(f, low(a)) || isNan(f, low(b)) ? 0n : 1n),
    });
  }
  for (const [rel, holds] of relations)
    for (const t of ['u32', 's32'])
      cases.push({
        body: `setp.${rel}.${t} %p0, %a, %b; selp.b32 %d, 1, 0, %p0;`,
        result: 32,
        expect: (a, b) =>
          (t === 'u32' ? holds(a, b) : holds(BigInt.asIntN(32, a), BigInt.asIntN(32, b))) ? 1n : 0n,
      });
  for (const [rel, op] of [
    ['lo', (a: bigint, b: bigint) => a < b],
    ['ls', (a: bigint, b: bigint) => a <= b],
    ['hi', (a: bigint, b: bigint) => a > b],
    ['hs', (a: bigint, b: bigint) => a >= b],
  ] as const)
    cases.push({
      body: `setp.${rel}.u32 %p0, %a, %b; selp.b32 %d, 1, 0, %p0;`,
      result: 32,
      expect: (a, b) => (op(a, b) ? 1n : 0n),
    });
  cases.push({
    body: 'slct.u32.s32 %d, %a, %b, %a;',
    result: 32,
    expect: (a, b) => (BigInt.asIntN(32, a) >= 0n ? a : b),
  });
  cases.push({
    body: 'slct.u32.f32 %d, %a, %b, %a;',
    result: 32,
    expect: (a, b) => (!isNan(f32, a) && key(f32, a) >= 0n ? a : b),
  });
  expect(differences(columns(f32, ['a', 'b'], 300), cases)).toEqual([]);
});
