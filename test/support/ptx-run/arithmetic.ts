// Integer, float, logic and comparison instructions. Approximate functions are rounded correctly here: hardware is
// within the bounds of the ISA of that.
import type { Compiler } from './instructions.ts';
import { fusedMultiplyAdd, type Code, type Get } from './operands.ts';
import type { Thread } from './machine.ts';

const f = Math.fround;
const isLong = (type: string): boolean => type.endsWith('64');
const isSigned = (type: string): boolean => type.startsWith('s');
const signed64 = (x: bigint): bigint => BigInt.asIntN(64, x);

/** A value of an integer type as the number that it means. */
const meaning = (type: string, x: number): number => {
  if (type.endsWith('16')) return isSigned(type) ? (x << 16) >> 16 : x & 0xffff;
  return isSigned(type) ? x | 0 : x >>> 0;
};

const floatOnly = (c: Code, op: (a: number, b: number) => number): ((t: Thread) => void) => {
  if (c.has.has('ftz') || c.has.has('sat')) c.fail('no ftz or sat here');
  const [d, a, b] = [c.putFloat(0), c.float(1), c.float(2)];
  return (t) => d(t, op(a(t), b(t)));
};

function binary(
  ints: (a: number, b: number, type: string) => number,
  longs: (a: bigint, b: bigint, signed: boolean) => bigint,
  floats: ((a: number, b: number) => number) | null,
): Compiler {
  return (c) => {
    const { type } = c;
    if (type === 'f32') return floats ? floatOnly(c, floats) : c.fail('no float form');
    if (isLong(type)) {
      const [d, a, b] = [c.putLong(0), c.long(1), c.long(2)];
      const signed = isSigned(type);
      return (t) => d(t, signed ? longs(signed64(a(t)), signed64(b(t)), true) : longs(a(t), b(t), false));
    }
    const [d, a, b] = [c.putInt(0), c.int(1), c.int(2)];
    return (t) => d(t, ints(meaning(type, a(t)), meaning(type, b(t)), type) | 0);
  };
}

/** PTX min and max: a number wins over NaN, unless `.NaN` says that NaN wins. −0 is below +0. */
const pick = (c: Code, larger: boolean): ((a: number, b: number) => number) => {
  const nan = c.has.has('NaN');
  return (a, b) => {
    if (a !== a || b !== b) return nan ? NaN : a !== a ? b : a;
    return larger ? Math.max(a, b) : Math.min(a, b);
  };
};

const divideLong = (a: bigint, b: bigint): bigint => (b === 0n ? 0xffffffffffffffffn : a / b);

function multiply(c: Code): (t: Thread) => void {
  const { type } = c;
  if (type === 'f32') return floatOnly(c, (a, b) => f(a * b));
  if (c.has.has('wide')) {
    const [d, a, b] = [c.putLong(0), c.int(1), c.int(2)];
    return (t) => d(t, BigInt(meaning(type, a(t))) * BigInt(meaning(type, b(t))));
  }
  if (isLong(type)) {
    const [d, a, b] = [c.putLong(0), c.long(1), c.long(2)];
    return (t) => d(t, a(t) * b(t));
  }
  const [d, a, b] = [c.putInt(0), c.int(1), c.int(2)];
  if (c.has.has('hi'))
    return (t) =>
      d(t, Number(BigInt.asIntN(32, (BigInt(meaning(type, a(t))) * BigInt(meaning(type, b(t)))) >> 32n)));
  return (t) => d(t, Math.imul(a(t), b(t)));
}

function multiplyAdd(c: Code): (t: Thread) => void {
  const { type } = c;
  if (c.has.has('wide') || isLong(type)) {
    const wide = c.has.has('wide');
    const [d, x, y, z] = [c.putLong(0), wide ? c.int(1) : c.long(1), wide ? c.int(2) : c.long(2), c.long(3)];
    if (wide)
      return (t) =>
        d(t, BigInt(meaning(type, x(t) as number)) * BigInt(meaning(type, y(t) as number)) + z(t));
    return (t) => d(t, (x(t) as bigint) * (y(t) as bigint) + z(t));
  }
  const [d, a, b, e] = [c.putInt(0), c.int(1), c.int(2), c.int(3)];
  return (t) => d(t, Math.imul(a(t), b(t)) + e(t));
}

const floatUnary =
  (op: (a: number) => number): Compiler =>
  (c) => {
    if (c.type !== 'f32') c.fail('only f32 here');
    const [d, a] = [c.putFloat(0), c.float(1)];
    return (t) => d(t, f(op(a(t))));
  };

const signChange =
  (float: (a: number) => number, int: (a: number) => number): Compiler =>
  (c) => {
    if (c.type === 'f32') return floatUnary(float)(c);
    if (isLong(c.type)) {
      const [d, a] = [c.putLong(0), c.long(1)];
      return (t) => {
        const v = signed64(a(t));
        d(t, c.i.opcode === 'neg' || v < 0n ? -v : v);
      };
    }
    const [d, a] = [c.putInt(0), c.int(1)];
    return (t) => d(t, int(a(t)) | 0);
  };

const logic =
  (ints: (a: number, b: number) => number, longs: (a: bigint, b: bigint) => bigint): Compiler =>
  (c) => {
    if (c.type === 'pred') {
      const [d, a, b] = [c.putPredicate(0), c.predicate(1), c.predicate(2)];
      return (t) => d(t, ints(Number(a(t)), Number(b(t))) !== 0);
    }
    if (isLong(c.type)) {
      const [d, a, b] = [c.putLong(0), c.long(1), c.long(2)];
      return (t) => d(t, longs(a(t), b(t)));
    }
    const [d, a, b] = [c.putInt(0), c.int(1), c.int(2)];
    return (t) => d(t, ints(a(t), b(t)));
  };

const shift =
  (left: boolean): Compiler =>
  (c) => {
    const { type } = c;
    const amount = c.int(2);
    if (isLong(type)) {
      const [d, a] = [c.putLong(0), c.long(1)];
      return (t) => {
        const n = BigInt(Math.min(64, amount(t) >>> 0));
        d(t, left ? a(t) << n : (isSigned(type) ? signed64(a(t)) : a(t)) >> n);
      };
    }
    const [d, a] = [c.putInt(0), c.int(1)];
    return (t) => {
      const n = amount(t) >>> 0;
      // Amounts beyond the width give zeros (or signs), they do not wrap.
      if (left) d(t, n > 31 ? 0 : a(t) << n);
      else if (isSigned(type)) d(t, meaning(type, a(t)) >> Math.min(n, 31));
      else d(t, n > 31 ? 0 : meaning(type.replace('b', 'u'), a(t)) >>> n);
    };
  };

const comparisons: Record<string, (a: number | bigint, b: number | bigint) => boolean> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
};

/** The test of a setp on two operands. */
function comparison(c: Code): Get<boolean> {
  const [name] = c.i.modifiers;
  const { type } = c;
  if (type === 'f32') {
    const [a, b] = [c.float(1), c.float(2)];
    if (name === 'nan' || name === 'num') return (t) => (a(t) !== a(t) || b(t) !== b(t)) === (name === 'nan');
    const unordered = name.length === 3;
    const test = comparisons[name.slice(0, 2)];
    return (t) => {
      const [x, y] = [a(t), b(t)];
      if (x !== x || y !== y) return unordered;
      return test(x, y);
    };
  }
  const test = comparisons[name] ?? c.fail(`comparison ${name}`);
  if (isLong(type)) {
    const [a, b] = [c.long(1), c.long(2)];
    return isSigned(type) ? (t) => test(signed64(a(t)), signed64(b(t))) : (t) => test(a(t), b(t));
  }
  const [a, b] = [c.int(1), c.int(2)];
  return (t) => test(meaning(type, a(t)), meaning(type, b(t)));
}

export const arithmetic: Readonly<Record<string, Compiler>> = {
  add: binary(
    (a, b) => a + b,
    (a, b) => a + b,
    (a, b) => f(a + b),
  ),
  sub: binary(
    (a, b) => a - b,
    (a, b) => a - b,
    (a, b) => f(a - b),
  ),
  mul: multiply,
  mad: multiplyAdd,
  div: binary(
    (a, b) => (b === 0 ? -1 : Math.trunc(a / b)),
    divideLong,
    (a, b) => f(a / b),
  ),
  rem: binary(
    (a, b) => (b === 0 ? a : a % b),
    (a, b) => (b === 0n ? a : a % b),
    null,
  ),
  min: (c) =>
    binary(
      (a, b) => Math.min(a, b),
      (a, b) => (a < b ? a : b),
      pick(c, false),
    )(c),
  max: (c) =>
    binary(
      (a, b) => Math.max(a, b),
      (a, b) => (a > b ? a : b),
      pick(c, true),
    )(c),
  fma: (c) => {
    if (c.type !== 'f32') c.fail('only f32 here');
    const [d, a, b, e] = [c.putFloat(0), c.float(1), c.float(2), c.float(3)];
    return (t) => d(t, fusedMultiplyAdd(a(t), b(t), e(t)));
  },
  neg: signChange(
    (a) => -a,
    (a) => -a,
  ),
  abs: signChange(Math.abs, Math.abs),
  rcp: floatUnary((a) => 1 / a),
  sqrt: floatUnary(Math.sqrt),
  rsqrt: floatUnary((a) => 1 / Math.sqrt(a)),
  ex2: floatUnary((a) => 2 ** a),
  lg2: floatUnary(Math.log2),
  sin: floatUnary(Math.sin),
  cos: floatUnary(Math.cos),
  tanh: floatUnary(Math.tanh),
  and: logic(
    (a, b) => a & b,
    (a, b) => a & b,
  ),
  or: logic(
    (a, b) => a | b,
    (a, b) => a | b,
  ),
  xor: logic(
    (a, b) => a ^ b,
    (a, b) => a ^ b,
  ),
  not: (c) => {
    if (c.type === 'pred') {
      const [d, a] = [c.putPredicate(0), c.predicate(1)];
      return (t) => d(t, !a(t));
    }
    if (isLong(c.type)) {
      const [d, a] = [c.putLong(0), c.long(1)];
      return (t) => d(t, ~a(t));
    }
    const [d, a] = [c.putInt(0), c.int(1)];
    return (t) => d(t, ~a(t));
  },
  shl: shift(true),
  shr: shift(false),
  popc: (c) => {
    const [d, a] = [c.putInt(0), c.int(1)];
    return (t) => {
      let n = 0;
      for (let x = a(t); x !== 0; x &= x - 1) n++;
      d(t, n);
    };
  },
  clz: (c) => {
    const [d, a] = [c.putInt(0), c.int(1)];
    return (t) => d(t, Math.clz32(a(t)));
  },
  setp: (c) => {
    const test = comparison(c);
    const join = c.i.modifiers[1];
    const d = c.putPredicate(0);
    if (join !== 'and' && join !== 'or' && join !== 'xor') return (t) => d(t, test(t));
    const other = c.predicate(3);
    return (t) => {
      const [p, q] = [test(t), other(t)];
      d(t, join === 'and' ? p && q : join === 'or' ? p || q : p !== q);
    };
  },
  selp: (c) => {
    const choice = c.predicate(3);
    if (isLong(c.type)) {
      const [d, a, b] = [c.putLong(0), c.long(1), c.long(2)];
      return (t) => d(t, choice(t) ? a(t) : b(t));
    }
    const [d, a, b] = [c.putInt(0), c.int(1), c.int(2)];
    return (t) => d(t, choice(t) ? a(t) : b(t));
  },
};
