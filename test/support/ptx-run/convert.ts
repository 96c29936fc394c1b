// Moves and conversions; narrow floats round as ir/formats does.
import { decode, encode, type CodedDType } from '../../../ir/formats/index.ts';
import type { Compiler } from './instructions.ts';
import type { Code, Get, Put } from './operands.ts';
import type { Thread } from './machine.ts';
import { parameterBase } from './memory.ts';

const dtypeOf: Record<string, CodedDType> = {
  bf16: 'bf16',
  f16: 'f16',
  e4m3x2: 'f8e4m3',
  e5m2x2: 'f8e5m2',
  bf16x2: 'bf16',
  f16x2: 'f16',
};
const isFloat = (type: string): boolean => /^(f32|bf16|f16)$/.test(type);
const isLong = (type: string): boolean => type.endsWith('64');

const range: Record<string, [number, number]> = {
  u8: [0, 255],
  s8: [-128, 127],
  u16: [0, 65535],
  s16: [-32768, 32767],
  u32: [0, 2 ** 32 - 1],
  s32: [-(2 ** 31), 2 ** 31 - 1],
};

const saturating = { overflow: 'saturating' } as const;
const plain = { overflow: 'nonsaturating' } as const;

const rounding: Record<string, (x: number) => number> = {
  rni: (x) => {
    const low = Math.floor(x);
    const rest = x - low;
    return rest < 0.5 ? low : rest > 0.5 ? low + 1 : low % 2 === 0 ? low : low + 1;
  },
  rzi: Math.trunc,
  rmi: Math.floor,
  rpi: Math.ceil,
};

/** A float operand of any format as a number. */
function floatSource(c: Code, type: string): Get<number> {
  if (type === 'f32') return c.float(1);
  const a = c.int(1);
  const dtype = dtypeOf[type];
  return (t) => decode(dtype, a(t) & 0xffff);
}

function integerSource(c: Code, type: string): Get<bigint> {
  const operand = c.operand(1);
  const wide = operand.kind === 'reg' && isLong(c.machine.entry.registers.get(operand.name) ?? '');
  const bits = Number(type.slice(1));
  const from = wide
    ? c.long(1)
    : (
        (a: Get<number>): Get<bigint> =>
        (t) =>
          BigInt(a(t) >>> 0)
      )(c.int(1));
  return type.startsWith('s') ? (t) => BigInt.asIntN(bits, from(t)) : (t) => BigInt.asUintN(bits, from(t));
}

/** Writes an integer to a register that may be wider than the type: extended by its sign or zeros. */
function integerTarget(c: Code): Put<bigint> {
  const operand = c.operand(0);
  const wide = operand.kind === 'reg' && isLong(c.machine.entry.registers.get(operand.name) ?? '');
  if (wide) return c.putLong(0);
  const d = c.putInt(0);
  return (t, v) => d(t, Number(BigInt.asIntN(32, v)));
}

function packedConversion(c: Code, to: string): (t: Thread) => void {
  const [d, high, low] = [c.putInt(0), c.float(1), c.float(2)];
  const dtype = dtypeOf[to];
  const width = to.startsWith('e') ? 8 : 16;
  const options = width === 8 ? saturating : plain;
  return (t) => d(t, (encode(dtype, high(t), options) << width) | encode(dtype, low(t), options));
}

function convert(c: Code): (t: Thread) => void {
  const [to, from] = c.i.modifiers.slice(-2);
  if (from === 'f32' && dtypeOf[to] && to.endsWith('x2')) return packedConversion(c, to);
  if (to === 'f16x2') {
    const [d, a] = [c.putInt(0), c.int(1)];
    const dtype = dtypeOf[from];
    return (t) => {
      const [low, high] = [a(t) & 0xff, (a(t) >>> 8) & 0xff].map((code) =>
        encode('f16', decode(dtype, code)),
      );
      d(t, (high << 16) | low);
    };
  }
  const whole = c.i.modifiers.find((m) => rounding[m]);
  if (isFloat(from) && isFloat(to)) {
    const a = floatSource(c, from);
    if (to === 'f32') {
      const d = c.putFloat(0);
      return (t) => d(t, whole ? rounding[whole](a(t)) : a(t));
    }
    const d = c.putInt(0);
    return (t) => d(t, encode(dtypeOf[to], a(t), plain));
  }
  if (isFloat(from)) {
    const a = floatSource(c, from);
    const d = integerTarget(c);
    const round = rounding[whole ?? c.fail('no rounding')];
    const [low, high] = isLong(to)
      ? to === 's64'
        ? [-(2n ** 63n), 2n ** 63n - 1n]
        : [0n, 2n ** 64n - 1n]
      : range[to].map(BigInt);
    return (t) => {
      const x = a(t);
      if (x !== x) return d(t, 0n);
      if (x === Infinity) return d(t, high);
      if (x === -Infinity) return d(t, low);
      const v = BigInt(round(x));
      d(t, v < low ? low : v > high ? high : v);
    };
  }
  const a = integerSource(c, from);
  if (to === 'f32') {
    const d = c.putFloat(0);
    // One rounding, from the exact integer: Number() of up to 64 bits rounds to f64 first, which matters for ties only.
    return (t) => d(t, Math.fround(Number(a(t))));
  }
  const d = integerTarget(c);
  const bits = Number(to.slice(1));
  const wrap = to.startsWith('s')
    ? (v: bigint) => BigInt.asIntN(bits, v)
    : (v: bigint) => BigInt.asUintN(bits, v);
  if (!c.has.has('sat')) return (t) => d(t, wrap(a(t)));
  const [low, high] = range[to].map(BigInt);
  return (t) => {
    const v = a(t);
    d(t, v < low ? low : v > high ? high : v);
  };
}

/** mov between registers, and packing of parts into one register or out of it. */
function move(c: Code): (t: Thread) => void {
  const [to, from] = [c.operand(0), c.operand(1)];
  const { type } = c;
  if (type === 'pred') {
    const [d, a] = [c.putPredicate(0), c.predicate(1)];
    return (t) => d(t, a(t));
  }
  if (to.kind === 'vector') {
    const bits = BigInt((isLong(type) ? 64 : 32) / to.items.length);
    const parts = to.items.map((o) => c.putIntOf(o));
    const a = isLong(type)
      ? c.long(1)
      : (
          (x: Get<number>): Get<bigint> =>
          (t) =>
            BigInt(x(t) >>> 0)
        )(c.int(1));
    return (t) => {
      const v = a(t);
      for (const [n, put] of parts.entries())
        put(t, Number(BigInt.asIntN(32, BigInt.asUintN(Number(bits), v >> (BigInt(n) * bits)))));
    };
  }
  if (from.kind === 'vector') {
    const bits = (isLong(type) ? 64 : 32) / from.items.length;
    const parts = from.items.map((o) => c.intOf(o));
    const value = (t: Thread): bigint =>
      parts.reduce(
        (sum, get, n) => sum | (BigInt.asUintN(bits, BigInt(get(t) >>> 0)) << BigInt(n * bits)),
        0n,
      );
    if (isLong(type)) {
      const d = c.putLong(0);
      return (t) => d(t, value(t));
    }
    const d = c.putInt(0);
    return (t) => d(t, Number(BigInt.asIntN(32, value(t))));
  }
  if (isLong(type)) {
    const [d, a] = [c.putLong(0), c.long(1)];
    return (t) => d(t, a(t));
  }
  const [d, a] = [c.putInt(0), c.int(1)];
  return (t) => d(t, a(t));
}

export const conversions: Readonly<Record<string, Compiler>> = {
  cvt: convert,
  mov: move,
  // Every space has its own addresses here, and generic ones are those of global memory; parameters lie far from it.
  cvta: (c) => {
    const [d, a] = [c.putLong(0), c.long(1)];
    if (!c.has.has('param')) return (t) => d(t, a(t));
    return (t) => d(t, a(t) + BigInt(parameterBase));
  },
};
