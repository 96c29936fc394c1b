// Integer arithmetic and bits against big integers.
import { expect, test } from 'vitest';
import { columnsOf, differences, type LaneCase, type Width } from './testing/lane-bench.ts';

type Case = LaneCase & { readonly expect: (...v: bigint[]) => bigint };
const s = (bits: number, v: bigint): bigint => BigInt.asIntN(bits, v);
const u = (bits: number, v: bigint): bigint => BigInt.asUintN(bits, v);
const typed = (t: string, v: bigint): bigint => (t[0] === 's' ? s : u)(Number(t.slice(1)), v);
const specials = (bits: number): bigint[] =>
  [0n, 1n, 2n, 7n, -1n, -2n, (1n << BigInt(bits - 1)) - 1n, 1n << BigInt(bits - 1), 0x55n].map((v) =>
    u(bits, v),
  );
const clamp = (v: bigint, t: string): bigint => {
  const bits = BigInt(t.slice(1));
  const most = t[0] === 's' ? (1n << (bits - 1n)) - 1n : (1n << bits) - 1n;
  const least = t[0] === 's' ? -(1n << (bits - 1n)) : 0n;
  return v > most ? most : v < least ? least : v;
};

for (const bits of [16, 32, 64] as const) {
  test(`arithmetic of ${bits} bits`, () => {
    const cases: Case[] = [];
    const of = (body: string, f: Case['expect'], result: Width = bits): void => {
      cases.push({ body: `${body};`, result, expect: f });
    };
    for (const t of [`u${bits}`, `s${bits}`]) {
      const v = (x: bigint): bigint => typed(t, x);
      of(`add.${t} %d, %a, %b`, (a, b) => a + b);
      of(`sub.${t} %d, %a, %b`, (a, b) => a - b);
      of(`mul.lo.${t} %d, %a, %b`, (a, b) => a * b);
      of(`mul.hi.${t} %d, %a, %b`, (a, b) => (v(a) * v(b)) >> BigInt(bits));
      of(`mad.lo.${t} %d, %a, %b, %c`, (a, b, c) => a * b + c);
      of(`mad.hi.${t} %d, %a, %b, %c`, (a, b, c) => ((v(a) * v(b)) >> BigInt(bits)) + c);
      of(`min.${t} %d, %a, %b`, (a, b) => (v(a) < v(b) ? a : b));
      of(`max.${t} %d, %a, %b`, (a, b) => (v(a) > v(b) ? a : b));
      of(`sad.${t} %d, %a, %b, %c`, (a, b, c) => c + (v(a) > v(b) ? v(a) - v(b) : v(b) - v(a)));
      of(`div.${t} %d, %a, %b`, (a, b) => (v(b) === 0n ? -1n : v(a) / v(b)));
      of(`rem.${t} %d, %a, %b`, (a, b) => (v(b) === 0n ? a : v(a) % v(b)));
      if (t[0] === 's') {
        of(`abs.${t} %d, %a`, (a) => (v(a) < 0n ? -v(a) : v(a)));
        of(`neg.${t} %d, %a`, (a) => -a);
      }
      if (bits < 64) {
        of(`mul.wide.${t} %d, %a, %b`, (a, b) => v(a) * v(b), (2 * bits) as Width);
      }
      of(
        `cvt.u32.u${bits} %t0, %b; shr.${t} %d, %a, %t0`,
        (a, b) => v(a) >> (u(32, b) >= BigInt(bits) ? BigInt(bits) : u(32, b)),
      );
    }
    of(`cvt.u32.u${bits} %t0, %b; shl.b${bits} %d, %a, %t0`, (a, b) =>
      u(32, b) >= BigInt(bits) ? 0n : a << u(32, b),
    );
    of(`and.b${bits} %d, %a, %b`, (a, b) => a & b);
    of(`or.b${bits} %d, %a, %b`, (a, b) => a | b);
    of(`xor.b${bits} %d, %a, %b`, (a, b) => a ^ b);
    of(`not.b${bits} %d, %a`, (a) => ~a);
    of(`cnot.b${bits} %d, %a`, (a) => (a === 0n ? 1n : 0n));
    if (bits === 32) {
      of('add.sat.s32 %d, %a, %b', (a, b) => clamp(s(32, a) + s(32, b), 's32'));
      of('sub.sat.s32 %d, %a, %b', (a, b) => clamp(s(32, a) - s(32, b), 's32'));
      of('mad.hi.sat.s32 %d, %a, %b, %c', (a, b, c) =>
        clamp(((s(32, a) * s(32, b)) >> 32n) + s(32, c), 's32'),
      );
      for (const t of ['u', 's']) {
        const p = (a: bigint, b: bigint): bigint => typed(`${t}24`, a) * typed(`${t}24`, b);
        of(`mul24.lo.${t}32 %d, %a, %b`, p);
        of(`mul24.hi.${t}32 %d, %a, %b`, (a, b) => p(a, b) >> 16n);
        of(`mad24.lo.${t}32 %d, %a, %b, %c`, (a, b, c) => p(a, b) + c);
        of(`mad24.hi.${t}32 %d, %a, %b, %c`, (a, b, c) => (p(a, b) >> 16n) + c);
        for (const q of ['u', 's']) {
          const byte = (k: string, v: bigint, i: number): bigint => typed(`${k}8`, v >> BigInt(8 * i));
          of(`dp4a.${t}32.${q}32 %d, %a, %b, %c`, (a, b, c) =>
            [0, 1, 2, 3].reduce((sum, i) => sum + byte(t, a, i) * byte(q, b, i), c),
          );
          for (const half of ['lo', 'hi'] as const)
            of(`dp2a.${half}.${t}32.${q}32 %d, %a, %b, %c`, (a, b, c) =>
              [0, 1].reduce(
                (sum, i) =>
                  sum + typed(`${t}16`, a >> BigInt(16 * i)) * byte(q, b, i + (half === 'hi' ? 2 : 0)),
                c,
              ),
            );
        }
      }
      for (const [op, f] of [
        ['add', (a: bigint, b: bigint) => a + b],
        ['min', (a: bigint, b: bigint) => (a < b ? a : b)],
        ['max', (a: bigint, b: bigint) => (a > b ? a : b)],
      ] as const)
        for (const t of ['u16', 's16'])
          of(`${op}.${t}x2 %d, %a, %b`, (a, b) => {
            const half = (k: bigint): bigint => u(16, f(typed(t, a >> k), typed(t, b >> k)));
            return half(0n) | (half(16n) << 16n);
          });
      of('max.relu.s32 %d, %a, %b', (a, b) => [s(32, a), s(32, b), 0n].reduce((x, y) => (x > y ? x : y)));
    }
    expect(
      differences(
        columnsOf(['a', 'b', 'c'], [bits, bits, bits], [specials(bits), specials(bits), specials(bits)], 600),
        cases,
      ),
    ).toEqual([]);
  });
}

for (const bits of [32, 64] as const) {
  test(`counts, fields and carries of ${bits} bits`, () => {
    const text = (v: bigint): string => u(bits, v).toString(2).padStart(bits, '0');
    const cases: Case[] = [];
    const of = (body: string, f: Case['expect'], result: Width = bits): void => {
      cases.push({ body: `${body};`, result, expect: f });
    };
    of(`popc.b${bits} %d, %a`, (a) => BigInt([...text(a)].filter((c) => c === '1').length), 32);
    of(`clz.b${bits} %d, %a`, (a) => BigInt(text(a).indexOf('1') < 0 ? bits : text(a).indexOf('1')), 32);
    of(`brev.b${bits} %d, %a`, (a) => BigInt(`0b${[...text(a)].reverse().join('')}`));
    for (const t of ['u', 's'] as const) {
      const first = (a: bigint): number => text(a).indexOf(t === 's' && s(bits, a) < 0n ? '0' : '1');
      of(`bfind.${t}${bits} %d, %a`, (a) => (first(a) < 0 ? 0xffffffffn : BigInt(bits - 1 - first(a))), 32);
      of(`bfind.shiftamt.${t}${bits} %d, %a`, (a) => (first(a) < 0 ? 0xffffffffn : BigInt(first(a))), 32);
      of(`bfe.${t}${bits} %d, %a, %b, %c`, (a, b, c) => {
        // Bit by bit, as the ISA tells it.
        const [p, n] = [Number(b & 255n), Number(c & 255n)];
        const bit = (k: number): bigint => (a >> BigInt(k)) & 1n;
        const fill = t === 'u' || n === 0 ? 0n : bit(Math.min(p + n - 1, bits - 1));
        let d = 0n;
        for (let i = 0; i < bits; i++) d |= (i < n && p + i <= bits - 1 ? bit(p + i) : fill) << BigInt(i);
        return d;
      });
    }
    of(`bfi.b${bits} %d, %a, 0x5a5a5a5a, %b, %c`, (a, b, c) => {
      const [p, n] = [Number(b & 255n), Number(c & 255n)];
      let d = 0x5a5a5a5an;
      for (let i = 0; i < n && p + i < bits; i++) {
        const at = 1n << BigInt(p + i);
        d = (d & ~at) | ((a >> BigInt(i)) & 1n ? at : 0n);
      }
      return d;
    });
    const positions = [0n, 1n, 5n, 31n, 32n, 33n, 63n, 64n, 255n, 256n + 3n];
    expect(
      differences(
        columnsOf(['a', 'b', 'c'], [bits, 32, 32], [specials(bits), positions, positions], 500, 3),
        cases,
      ),
    ).toEqual([]);
  });
}

test('carry chains add, subtract and multiply numbers of several words', () => {
  const wide = columnsOf(['a', 'b'], [64, 64], [specials(64), specials(64)], 400, 5);
  const split = 'mov.b64 {%t0, %t1}, %a; mov.b64 {%t2, %t3}, %b;';
  expect(
    differences(wide, [
      {
        body: `${split} add.cc.u32 %t4, %t0, %t2; addc.u32 %t5, %t1, %t3; mov.b64 %d, {%t4, %t5};`,
        result: 64,
        expect: (a, b) => a + b,
      },
      {
        body: `${split} sub.cc.u32 %t4, %t0, %t2; subc.u32 %t5, %t1, %t3; mov.b64 %d, {%t4, %t5};`,
        result: 64,
        expect: (a, b) => a - b,
      },
      // The upper 64 bits of a 128-bit sum: the carry alone.
      { body: 'add.cc.u64 %u0, %a, %b; addc.u64 %d, 0, 0;', result: 64, expect: (a, b) => (a + b) >> 64n },
      // 64-bit product from 32-bit pieces.
      {
        body: `${split} mul.lo.u32 %t4, %t0, %t2; mul.hi.u32 %t5, %t0, %t2; mad.lo.cc.u32 %t5, %t0, %t3, %t5; madc.hi.u32 %t6, %t0, %t3, 0;
mad.lo.cc.u32 %t5, %t1, %t2, %t5; madc.hi.cc.u32 %t6, %t1, %t2, %t6; mov.b64 %d, {%t4, %t5};`,
        result: 64,
        expect: (a, b) => a * b,
      },
    ]),
  ).toEqual([]);
});

test('lop3 takes every table, shf, prmt, fns, szext, bmsk', () => {
  const cases: Case[] = [];
  const of = (body: string, f: Case['expect']): void => {
    cases.push({ body: `${body};`, result: 32, expect: f });
  };
  for (const lut of [0x00, 0x1b, 0x80, 0x96, 0xe8, 0xca, 0xfe, 0xff, 0x3c, 0x47])
    of(`lop3.b32 %d, %a, %b, %c, ${lut}`, (a, b, c) => {
      let d = 0n;
      for (let i = 0n; i < 32n; i++) {
        const at = (((a >> i) & 1n) << 2n) | (((b >> i) & 1n) << 1n) | ((c >> i) & 1n);
        d |= ((BigInt(lut) >> at) & 1n) << i;
      }
      return d;
    });
  const both = (a: bigint, b: bigint): bigint => (b << 32n) | a;
  const least = (x: bigint, y: bigint): bigint => (x < y ? x : y);
  of('shf.l.wrap.b32 %d, %a, %b, %c', (a, b, c) => (both(a, b) << (c & 31n)) >> 32n);
  of('shf.l.clamp.b32 %d, %a, %b, %c', (a, b, c) => (both(a, b) << least(c, 32n)) >> 32n);
  of('shf.r.wrap.b32 %d, %a, %b, %c', (a, b, c) => both(a, b) >> (c & 31n));
  of('shf.r.clamp.b32 %d, %a, %b, %c', (a, b, c) => both(a, b) >> least(c, 32n));
  of('prmt.b32 %d, %a, %b, %c', (a, b, c) => {
    let d = 0n;
    for (let k = 0n; k < 4n; k++) {
      const pick = (c >> (4n * k)) & 15n;
      const byte = (both(a, b) >> (8n * (pick & 7n))) & 255n;
      d |= (pick & 8n ? (byte & 128n ? 255n : 0n) : byte) << (8n * k);
    }
    return d;
  });
  // The ISA's tables of the modes, written out: rows by the two low bits of c, highest byte first.
  const tables = {
    f4e: ['3210', '4321', '5432', '6543'],
    b4e: ['5670', '6701', '7012', '0123'],
    rc8: ['0000', '1111', '2222', '3333'],
    ecl: ['3210', '3211', '3222', '3333'],
    ecr: ['0000', '1110', '2210', '3210'],
    rc16: ['1010', '3232', '1010', '3232'],
  };
  for (const [mode, rows] of Object.entries(tables))
    of(`prmt.b32.${mode} %d, %a, %b, %c`, (a, b, c) =>
      [...rows[Number(c & 3n)]].reduce(
        (d, n) => (d << 8n) | ((both(a, b) >> BigInt(8 * Number(n))) & 255n),
        0n,
      ),
    );
  of('and.b32 %t0, %b, 31; fns.b32 %d, %a, %t0, 2', (a, b) => {
    let left = 2;
    for (let i = b & 31n; i < 32n; i++) if ((a >> i) & 1n && --left === 0) return i;
    return 0xffffffffn;
  });
  of('and.b32 %t0, %b, 31; fns.b32 %d, %a, %t0, -1', (a, b) => {
    for (let i = b & 31n; i >= 0n; i--) if ((a >> i) & 1n) return i;
    return 0xffffffffn;
  });
  of('szext.clamp.s32 %d, %a, %c', (a, _b, c) =>
    c >= 32n ? a : c === 0n ? 0n : BigInt.asIntN(Number(c), a),
  );
  of('szext.wrap.u32 %d, %a, %c', (a, _b, c) => BigInt.asUintN(Number(c & 31n), a));
  of('bmsk.clamp.b32 %d, %b, %c', (_a, b, c) => (b >= 32n ? 0n : ((1n << least(c, 32n)) - 1n) << b));
  of('bmsk.wrap.b32 %d, %b, %c', (_a, b, c) => ((1n << (c & 31n)) - 1n) << (b & 31n));
  const amounts = [0n, 1n, 7n, 31n, 32n, 33n, 0x7531n, 0x9ab8n, 0xffffffffn];
  expect(
    differences(
      columnsOf(
        ['a', 'b', 'c'],
        [32, 32, 32],
        [specials(32), [...amounts, ...specials(32)], amounts],
        500,
        7,
      ),
      cases,
    ),
  ).toEqual([]);
});
