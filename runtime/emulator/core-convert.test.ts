// cvt in all pairs of types against exact fractions and big integers.
import { expect, test } from 'vitest';
import {
  bf16,
  decode,
  e4m3,
  e5m2,
  encode,
  f16,
  f32,
  f64,
  flush,
  number,
  toInteger,
  type FloatFormat,
  type RoundingMode,
  type Value,
} from './testing/exact-float.ts';
import { columnsOf, differences, type Column, type LaneCase, type Width } from './testing/lane-bench.ts';

type Case = LaneCase & { readonly expect: (...v: bigint[]) => bigint };
const formats: Record<string, FloatFormat> = { f16, bf16, f32, f64 };
const integers = ['u8', 's8', 'u16', 's16', 'u32', 's32', 'u64', 's64'];
const widthOf = (t: string): Width => Number(t.slice(1)) as Width;
const typed = (t: string, v: bigint): bigint =>
  (t[0] === 's' ? BigInt.asIntN : BigInt.asUintN)(widthOf(t), v);
const range = (t: string): [bigint, bigint] => {
  const bits = BigInt(widthOf(t));
  return t[0] === 's' ? [-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n] : [0n, (1n << bits) - 1n];
};
const clamp = (t: string, v: bigint): bigint => {
  const [least, most] = range(t);
  return v < least ? least : v > most ? most : v;
};
// Registers of 8-bit types have 16 bits.
const registerWidth = (t: string): Width => (widthOf(t) === 8 ? 16 : widthOf(t));
const integerColumn = (t: string): Record<string, Column> => {
  const bits = registerWidth(t);
  const [least, most] = range(t);
  const edges = [
    0n,
    1n,
    -1n,
    127n,
    128n,
    255n,
    256n,
    32767n,
    65535n,
    65536n,
    (1n << 24n) + 1n,
    (1n << 53n) + 1n,
    least,
    most,
  ];
  return columnsOf(['a'], [bits], [edges.map((v) => BigInt.asUintN(bits, v))], 400, 17, (next) => {
    const v = next(bits);
    return next(1) ? v : v >> next(bits === 64 ? 6 : 4);
  });
};
const floatColumn = (f: FloatFormat): Record<string, Column> => {
  const one = BigInt(f.bias) << BigInt(f.fraction);
  const infinite = ((1n << BigInt(f.bits - 1 - f.fraction)) - 1n) << BigInt(f.fraction);
  const sign = 1n << BigInt(f.bits - 1);
  const numbers = [
    0.5,
    1.5,
    2.5,
    126.5,
    127.5,
    128,
    255.5,
    32767.5,
    65504,
    65519.9,
    65520,
    448,
    464,
    480,
    57344,
    61440,
    2147483647,
    2147483648,
    4294967295.5,
    2 ** 63,
    2 ** 64,
    2 ** -9,
    2 ** -10,
    2 ** -25,
    1e-40,
  ];
  const view = new DataView(new ArrayBuffer(8));
  const exact = (x: number): bigint => (
    view.setFloat64(0, x),
    encode(f, decode(f64, view.getBigUint64(0)), 'rn')
  );
  const list = [0n, 1n, 3n, one, infinite - 1n, infinite, infinite | 3n, ...numbers.map(exact)];
  return columnsOf(['a'], [f.bits as Width], [list.flatMap((v) => [v, v | sign])], 1500, 19, (next) => {
    const v = next(f.bits);
    const near = (BigInt(f.bias) - 12n + next(5)) << BigInt(f.fraction);
    return next(1) ? v : (v & (sign | ((1n << BigInt(f.fraction)) - 1n))) | near;
  });
};
const extended = (to: string, v: bigint): bigint => (widthOf(to) === 8 ? typed(to, v) : v);

test('integers to integers, with and without saturation', () => {
  for (const from of integers) {
    const cases = integers.flatMap((to): Case[] => [
      {
        body: `cvt.${to}.${from} %d, %a;`,
        result: registerWidth(to),
        expect: (a) => extended(to, typed(to, typed(from, a))),
      },
      {
        body: `cvt.sat.${to}.${from} %d, %a;`,
        result: registerWidth(to),
        expect: (a) => extended(to, clamp(to, typed(from, a))),
      },
    ]);
    expect(differences(integerColumn(from), cases)).toEqual([]);
  }
});

test('integers to floats', () => {
  for (const from of integers) {
    const cases: Case[] = [];
    for (const [to, f] of Object.entries(formats))
      for (const mode of ['rn', 'rz', 'rm', 'rp'] as const)
        cases.push({
          body: `cvt.${mode}.${to}.${from} %d, %a;`,
          result: f.bits as Width,
          expect: (a) => {
            const v = typed(from, a);
            return encode(f, number(v < 0n, v < 0n ? -v : v), mode);
          },
        });
    expect(differences(integerColumn(from), cases)).toEqual([]);
  }
});

test('floats to integers: rounding, clamping, NaN', () => {
  for (const [from, f] of Object.entries(formats)) {
    const cases: Case[] = [];
    for (const to of integers)
      for (const mode of ['rn', 'rz', 'rm', 'rp'] as const)
        for (const ftz of from === 'f32' ? ['', '.ftz'] : [''])
          cases.push({
            body: `cvt.${mode}i${ftz}.${to}.${from} %d, %a;`,
            result: registerWidth(to),
            expect: (a) => {
              const v = toInteger(decode(f, ftz ? flush(f, a) : a), mode);
              const [least, most] = range(to);
              const wide = from === 'f64' || widthOf(to) === 64;
              const r =
                v === 'nan'
                  ? wide
                    ? 1n << BigInt(widthOf(to) - 1)
                    : 0n
                  : v === '+inf'
                    ? most
                    : v === '-inf'
                      ? least
                      : clamp(to, v);
              return extended(to, r);
            },
          });
    expect(differences(floatColumn(f), cases)).toEqual([]);
  }
});

test('floats to floats: every rounding, ftz, sat, relu, rounding to integers', () => {
  for (const [from, f] of Object.entries(formats)) {
    const cases: Case[] = [];
    const settle = (to: string): string =>
      to === 'f64' ? ' testp.notanumber.f64 %p0, %d; @%p0 mov.b64 %d, 0x7fffffffffffffff;' : '';
    for (const [to, g] of Object.entries(formats)) {
      if (from === to) {
        if (to === 'bf16') continue;
        for (const mode of ['rn', 'rz', 'rm', 'rp'] as const)
          cases.push({
            body: `cvt.${mode}i.${to}.${from} %d, %a;${settle(to)}`,
            result: g.bits as Width,
            expect: (a) => {
              const v = decode(f, a);
              const i = toInteger(v, mode);
              if (typeof i === 'string') return encode(g, v, 'rn');
              return encode(g, number(v.kind === 'number' && v.negative, i < 0n ? -i : i), 'rn');
            },
          });
        continue;
      }
      const narrower =
        g.fraction < f.fraction || (g.fraction === f.fraction && g.bias < f.bias) || to === 'bf16';
      for (const mode of narrower ? (['rn', 'rz', 'rm', 'rp'] as const) : ([''] as const))
        for (const ftz of from === 'f32' || to === 'f32' ? ['', '.ftz'] : [''])
          for (const sat of to === 'f32' ? ['', '.sat'] : [''])
            cases.push({
              body: `cvt${mode && `.${mode}`}${ftz}${sat}.${to}.${from} %d, %a;${settle(to)}`,
              result: g.bits as Width,
              expect: (a) => {
                const v = decode(f, ftz && from === 'f32' ? flush(f, a) : a);
                if (sat && (v.kind === 'nan' || v.negative)) return 0n;
                let bits = encode(g, v, (mode || 'rn') as RoundingMode);
                if (sat && bits > 0x3f800000n) bits = 0x3f800000n;
                return ftz && to === 'f32' ? flush(g, bits) : bits;
              },
            });
      if (from === 'f32' && (to === 'f16' || to === 'bf16'))
        cases.push({
          body: `cvt.rn.relu.${to}.f32 %d, %a;`,
          result: 16,
          expect: (a) => {
            const v = decode(f, a);
            return v.kind !== 'nan' && v.negative ? 0n : encode(g, v, 'rn');
          },
        });
    }
    expect(differences(floatColumn(f), cases)).toEqual([]);
  }
});

test('pairs: f16x2, bf16x2, e4m3x2, e5m2x2, and tf32', () => {
  const base = floatColumn(f32).a.values;
  const inputs = {
    a: { bits: 32, values: base },
    b: { bits: 32, values: [...base.slice(7), ...base.slice(0, 7)] },
  } as const;
  const cases: Case[] = [];
  const relued = (v: Value): Value => (v.kind !== 'nan' && v.negative ? number(false, 0n) : v);
  for (const [to, g, saturates] of [
    ['f16x2', f16, false],
    ['bf16x2', bf16, false],
    ['e4m3x2', e4m3, true],
    ['e5m2x2', e5m2, true],
  ] as const)
    for (const relu of ['', '.relu'])
      for (const mode of saturates ? (['rn'] as const) : (['rn', 'rz'] as const)) {
        const one = (v: bigint): bigint =>
          encode(g, relu ? relued(decode(f32, v)) : decode(f32, v), mode, saturates);
        cases.push({
          body: `cvt.${mode}${saturates ? '.satfinite' : ''}${relu}.${to}.f32 %d, %a, %b;`,
          result: (2 * g.bits) as Width,
          expect: (a, b) => (one(a) << BigInt(g.bits)) | one(b),
        });
      }
  for (const mode of ['rna', 'rn', 'rz'] as const)
    cases.push({
      body: `cvt.${mode}.tf32.f32 %d, %a;`,
      result: 32,
      expect: (a) => {
        // A format of 19 bits, left in the upper bits of a single.
        const tf32: FloatFormat = { bits: 19, fraction: 10, bias: 127, inf: true, nan: 0x3ffffn };
        const v = decode(f32, a);
        return v.kind === 'nan' ? 0x7fffffffn : encode(tf32, v, mode) << 13n;
      },
    });
  for (const [to, g] of [
    ['e4m3x2', e4m3],
    ['e5m2x2', e5m2],
  ] as const)
    cases.push({
      body: `cvt.rn.satfinite.${to}.f16x2 %d, %a;`,
      result: 16,
      expect: (a) =>
        (encode(g, decode(f16, a >> 16n), 'rn', true) << 8n) |
        encode(g, decode(f16, a & 0xffffn), 'rn', true),
    });
  expect(differences(inputs, cases)).toEqual([]);

  // Back from every 8-bit value.
  const all = {
    a: { bits: 16, values: Array.from({ length: 65536 }, (_, i) => BigInt((i * 257 + (i >> 8)) & 0xffff)) },
  } as const;
  expect(
    differences(
      all,
      (
        [
          ['e4m3x2', e4m3],
          ['e5m2x2', e5m2],
        ] as const
      ).map(([from, f]) => ({
        body: `cvt.rn.f16x2.${from} %d, %a;`,
        result: 32,
        expect: (a: bigint) =>
          (encode(f16, decode(f, a >> 8n), 'rn') << 16n) | encode(f16, decode(f, a & 255n), 'rn'),
      })),
    ),
  ).toEqual([]);
});

test('cvt.pack saturates and packs', () => {
  const inputs = columnsOf(
    ['a', 'b', 'c'],
    [32, 32, 32],
    [integerColumn('s32').a.values.slice(0, 14), [0n, 300n, 0xffffff00n], [0x12345678n]],
    200,
    23,
  );
  const part = (t: string, v: bigint): bigint => BigInt.asUintN(widthOf(t), clamp(t, BigInt.asIntN(32, v)));
  expect(
    differences(inputs, [
      {
        body: 'cvt.pack.sat.s16.s32 %d, %a, %b;',
        result: 32,
        expect: (a, b) => (part('s16', a) << 16n) | part('s16', b),
      },
      {
        body: 'cvt.pack.sat.u16.s32 %d, %a, %b;',
        result: 32,
        expect: (a, b) => (part('u16', a) << 16n) | part('u16', b),
      },
      {
        body: 'cvt.pack.sat.u8.s32.b32 %d, %a, %b, %c;',
        result: 32,
        expect: (a, b, c) => ((c & 0xffffn) << 16n) | (part('u8', a) << 8n) | part('u8', b),
      },
      {
        body: 'cvt.pack.sat.s8.s32.b32 %d, %a, %b, %c;',
        result: 32,
        expect: (a, b, c) => ((c & 0xffffn) << 16n) | (part('s8', a) << 8n) | part('s8', b),
      },
    ]),
  ).toEqual([]);
});
