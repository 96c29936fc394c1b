// Access to operands: closures that read or write a thread's registers, made once per instruction.
import type { Machine, Thread } from './machine.ts';
import type { Operand, PtxInstruction } from './parse.ts';

export type Get<T> = (t: Thread) => T;
export type Put<T> = (t: Thread, value: T) => void;

const words = new DataView(new ArrayBuffer(8));

const specials: Record<string, Get<number>> = {
  '%tid.x': (t) => t.tid % t.cta.machine.entry.threads[0],
  '%tid.y': (t) => Math.floor(t.tid / t.cta.machine.entry.threads[0]) % t.cta.machine.entry.threads[1],
  '%tid.z': (t) => Math.floor(t.tid / (t.cta.machine.entry.threads[0] * t.cta.machine.entry.threads[1])),
  '%ntid.x': (t) => t.cta.machine.entry.threads[0],
  '%ntid.y': (t) => t.cta.machine.entry.threads[1],
  '%ntid.z': (t) => t.cta.machine.entry.threads[2],
  '%ctaid.x': (t) => t.cta.id[0],
  '%ctaid.y': (t) => t.cta.id[1],
  '%ctaid.z': (t) => t.cta.id[2],
  '%nctaid.x': (t) => t.cta.machine.grid[0],
  '%nctaid.y': (t) => t.cta.machine.grid[1],
  '%nctaid.z': (t) => t.cta.machine.grid[2],
  '%laneid': (t) => t.tid % 32,
  '%warpid': (t) => t.tid >>> 5,
  '%lanemask_lt': (t) => (1 << (t.tid % 32)) - 1,
  '%lanemask_le': (t) => (2 << (t.tid % 32)) - 1,
};

/** One instruction being compiled: its words, and its operands as closures. */
export class Code {
  readonly i: PtxInstruction;
  readonly machine: Machine;
  readonly has: ReadonlySet<string>;
  /** The last modifier: the type that most instructions work on. */
  readonly type: string;

  constructor(i: PtxInstruction, machine: Machine) {
    this.i = i;
    this.machine = machine;
    this.has = new Set(i.modifiers);
    this.type = i.modifiers.at(-1) ?? '';
  }

  fail(message: string): never {
    throw new Error(`ptx-run: line ${this.i.line}: ${this.i.text}: ${message}`);
  }

  operand(n: number): Operand {
    return this.i.operands[n] ?? this.fail(`operand ${n} is missing`);
  }

  slot(o: Operand): number {
    if (o.kind !== 'reg') this.fail('expected a register');
    return this.machine.registers.get(o.name) ?? this.fail(`${o.name} is not declared`);
  }

  /** Address of a variable or offset of a parameter. */
  symbol(name: string): number {
    return (
      this.machine.sharedVariables.get(name) ??
      this.machine.parameterOffsets.get(name) ??
      this.fail(`${name} is not declared`)
    );
  }

  /** Lower 32 bits, as a signed number. */
  int(n: number): Get<number> {
    return this.intOf(this.operand(n));
  }

  intOf(o: Operand): Get<number> {
    if (o.kind === 'imm') {
      const value = o.float === 32 ? floatBits(Number(o.value)) : Number(BigInt.asIntN(32, BigInt(o.value)));
      return () => value;
    }
    if (o.kind === 'symbol') {
      const address = this.symbol(o.name);
      return () => address;
    }
    if (o.kind === 'reg' && specials[o.name]) return specials[o.name];
    const slot = this.slot(o);
    return (t) => t.lo[slot];
  }

  putInt(n: number): Put<number> {
    return this.putIntOf(this.operand(n));
  }

  putIntOf(o: Operand): Put<number> {
    if (o.kind === 'sink') return () => {};
    const slot = this.slot(o);
    return (t, v) => {
      t.lo[slot] = v;
    };
  }

  float(n: number): Get<number> {
    const o = this.operand(n);
    if (o.kind === 'imm') {
      const value = o.float === 32 ? Number(o.value) : this.fail('an integer where a float is wanted');
      return () => value;
    }
    const slot = this.slot(o);
    return (t) => t.f32[slot];
  }

  /** Rounds to f32. NaN is canonical. */
  putFloat(n: number): Put<number> {
    const slot = this.slot(this.operand(n));
    return (t, v) => {
      if (v !== v) t.lo[slot] = 0x7fffffff;
      else t.f32[slot] = v;
    };
  }

  /** 64 bits, unsigned. */
  long(n: number): Get<bigint> {
    return this.longOf(this.operand(n));
  }

  longOf(o: Operand): Get<bigint> {
    if (o.kind === 'imm') {
      const value = BigInt.asUintN(64, BigInt(o.value));
      return () => value;
    }
    if (o.kind === 'symbol') {
      const address = BigInt(this.symbol(o.name));
      return () => address;
    }
    const slot = this.slot(o);
    return (t) => (BigInt(t.hi[slot] >>> 0) << 32n) | BigInt(t.lo[slot] >>> 0);
  }

  putLong(n: number): Put<bigint> {
    return this.putLongOf(this.operand(n));
  }

  putLongOf(o: Operand): Put<bigint> {
    if (o.kind === 'sink') return () => {};
    const slot = this.slot(o);
    return (t, v) => {
      words.setBigInt64(0, BigInt.asIntN(64, v), true);
      t.lo[slot] = words.getInt32(0, true);
      t.hi[slot] = words.getInt32(4, true);
    };
  }

  predicate(n: number): Get<boolean> {
    return this.predicateOf(this.operand(n));
  }

  predicateOf(o: Operand): Get<boolean> {
    if (o.kind === 'not') {
      const of = this.predicateOf(o.of);
      return (t) => !of(t);
    }
    const slot = this.slot(o);
    return (t) => {
      const v = t.lo[slot];
      if (v !== 0 && v !== 1) throw new Error('a predicate that nothing has set');
      return v === 1;
    };
  }

  putPredicate(n: number): Put<boolean> {
    return this.putPredicateOf(this.operand(n));
  }

  putPredicateOf(o: Operand): Put<boolean> {
    if (o.kind === 'sink') return () => {};
    const slot = this.slot(o);
    return (t, v) => {
      t.lo[slot] = v ? 1 : 0;
    };
  }

  /** An address as a number; global addresses are below 2^48. */
  address(n: number): Get<number> {
    const o = this.operand(n);
    if (o.kind !== 'address') this.fail('expected an address');
    const { base, offset } = o;
    if (base.kind === 'symbol') {
      const at = this.symbol(base.name) + offset;
      return () => at;
    }
    const slot = this.slot(base);
    const wide = /64$/.test(this.machine.entry.registers.get((base as { name: string }).name) ?? '');
    return wide
      ? (t) => (t.hi[slot] >>> 0) * 2 ** 32 + (t.lo[slot] >>> 0) + offset
      : (t) => (t.lo[slot] >>> 0) + offset;
  }
}

export function floatBits(x: number): number {
  words.setFloat32(0, x, true);
  return words.getInt32(0, true);
}

export function bitsFloat(bits: number): number {
  words.setInt32(0, bits, true);
  return words.getFloat32(0, true);
}

/** f32(a · b + c) with one rounding. */
export function fusedMultiplyAdd(a: number, b: number, c: number): number {
  // The product of two f32 is exact in f64; the sum is not, so its error decides ties of the second rounding.
  const product = a * b;
  const sum = product + c;
  if (!Number.isFinite(sum)) return sum;
  const part = sum - product;
  const error = product - (sum - part) + (c - part);
  if (error === 0) return Math.fround(sum);
  // Round to odd: make the last bit of the f64 sum say that something is missing, then round to f32.
  words.setFloat64(0, sum, true);
  const low = words.getInt32(0, true);
  if ((low & 1) === 0) {
    const up = error > 0 === sum > 0;
    const bits = words.getBigInt64(0, true);
    words.setBigInt64(0, up ? bits + 1n : bits - 1n, true);
    // Truncated toward the true value and odd.
    words.setInt32(0, words.getInt32(0, true) | 1, true);
  }
  return Math.fround(words.getFloat64(0, true));
}
