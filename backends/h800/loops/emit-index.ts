// Indices to instructions, and the scopes in which registers hold values: what was computed before a loop or branch is
// reused inside of it, never the other way round.
import type { Buffer, Expr, Pool } from '../../../ir/loops/expr.ts';
import {
  constant,
  constantOf,
  plus,
  times,
  type Atom,
  type Index,
  type Term,
  type Variable,
} from '../../../ir/loops/indices.ts';
import type { Kernel } from '../../ptx/builder.ts';
import type { Reg } from '../../ptx/operands.ts';
import { bytesOf, type KernelContext } from './context.ts';

/** A register, or an immediate. */
export type Val = Reg | number;

type Scope = Map<string, Reg>;

/** Whether an index may not fit 31 bits. */
export const isWide = (i: Index): boolean => !(i.low >= -(2 ** 31) && i.high < 2 ** 31);

/** A term as an index: to reason about its variables. */
const alone = (t: Term): Index => ({ constant: 0, terms: [t], key: '', low: 0, high: 0 });

/** The product of a term's atoms, without its factor. */
const productOf = (t: Term): Index => plus(alone({ ...t, factor: 1 }));

/** The part of an index whose terms `keep` wants, without its constant. */
export const termsOf = (i: Index, keep: (t: Index, n: number) => boolean): Index =>
  plus(...i.terms.filter((t, n) => keep(alone(t), n)).map((t) => times(constant(t.factor), productOf(t))));

export abstract class Indexing {
  readonly k: Kernel;
  readonly context: KernelContext;
  readonly pool: Pool;
  private readonly scopes: Scope[] = [new Map()];
  /** Scope depth of bound loop variables, by id. */
  protected readonly bound: Map<number, number> = new Map();

  constructor(context: KernelContext) {
    this.context = context;
    this.k = context.k;
    this.pool = context.pool;
  }

  /** The value of an expression in a register: indices that are read from memory need it. */
  abstract register(e: Expr): Reg;

  // --- scopes ---

  protected find(key: string): Reg | undefined {
    for (let i = this.scopes.length - 1; i >= 0; i--) {
      const found = this.scopes[i].get(key);
      if (found) return found;
    }
    return undefined;
  }

  protected keep(key: string, value: Reg): void {
    this.scopes[this.scopes.length - 1].set(key, value);
  }

  /** Registers written inside are not valid after it. */
  scoped<T>(body: () => T): T {
    const bound = [...this.bound];
    this.scopes.push(new Map());
    try {
      return body();
    } finally {
      this.scopes.pop();
      this.bound.clear();
      for (const [v, depth] of bound) this.bound.set(v, depth);
    }
  }

  /** The register (u32, or u64 where the loop may be longer) that counts a loop. */
  bind(v: Variable, value: Reg): void {
    // What was computed with the outer binding would be taken for the inner one's.
    if (this.bound.has(v.id))
      throw new Error(`kernel @${this.context.fn.name}: loop variable ${v.name} is bound twice`);
    this.keep(`a v${v.id}`, value);
    this.bound.set(v.id, this.scopes.length - 1);
  }

  /** The value of an expression that is in a register already. */
  setValue(e: Expr, value: Reg): void {
    this.keep(`e ${e.id}`, value);
  }

  // --- indices ---

  private depthOfTerm(t: Term): number {
    let depth = 0;
    for (const v of this.pool.freeOfIndex(alone(t))) {
      const d = this.bound.get(v.id);
      if (d === undefined) return Infinity;
      depth = Math.max(depth, d);
    }
    return depth;
  }

  /** An index without its constant, split into what is known outside of the innermost loop it depends on, and the rest. */
  private split(i: Index): { outer: Index; inner: Index } {
    const depths = i.terms.map((t) => this.depthOfTerm(t));
    const deepest = Math.max(0, ...depths);
    return {
      outer: termsOf(i, (_, n) => depths[n] < deepest),
      inner: termsOf(i, (_, n) => depths[n] === deepest),
    };
  }

  /** Value of an index: u64 where it may not fit 31 bits, else u32 (two's complement). */
  index(i: Index, wide = isWide(i)): Val {
    const value = constantOf(i);
    if (value !== null) return value;
    const key = `i ${wide} ${i.key}`;
    const known = this.find(key);
    if (known) return known;
    const made = this.makeIndex(i, wide);
    if (typeof made !== 'number') this.keep(key, made);
    return made;
  }

  /** As `index`, always in a register. */
  indexRegister(i: Index, wide = isWide(i)): Reg {
    const v = this.index(i, wide);
    if (typeof v !== 'number') return v;
    const d = this.k.reg(wide ? 'u64' : 'u32');
    this.k.emit('mov', [wide ? 'u64' : 'u32'], [d, v]);
    return d;
  }

  private makeIndex(i: Index, wide: boolean): Val {
    const { k } = this;
    const type = wide ? 'u64' : 'u32';
    const withoutConstant = i.constant === 0 ? i : plus(i, constant(-i.constant));
    const { outer, inner } = this.split(withoutConstant);
    let sum: Val = outer.terms.length > 0 && inner.terms.length > 0 ? this.index(outer, wide) : 0;
    for (const t of (inner.terms.length > 0 ? inner : withoutConstant).terms) {
      const product = this.atoms(t, wide);
      if (t.factor === 1 && sum === 0) {
        sum = product;
        continue;
      }
      const d = k.reg(type);
      if (t.factor === 1) k.emit('add', [type], [d, product, sum]);
      else if (sum === 0) k.emit('mul', ['lo', wide ? 's64' : 's32'], [d, product, t.factor]);
      else k.emit('mad', ['lo', wide ? 's64' : 's32'], [d, product, t.factor, sum]);
      sum = d;
    }
    if (i.constant === 0) return sum;
    const d = k.reg(type);
    k.emit('add', [wide ? 's64' : 's32'], [d, sum, i.constant]);
    return d;
  }

  private atoms(t: Term, wide: boolean): Reg {
    const [first, ...rest] = t.atoms.map((a) => this.atom(a, wide));
    return rest.reduce((product, a) => {
      const d = this.k.reg(wide ? 'u64' : 'u32');
      this.k.emit('mul', ['lo', wide ? 'u64' : 'u32'], [d, product, a]);
      return d;
    }, first);
  }

  private atom(a: Atom, wide: boolean): Reg {
    const key = `a ${a.key}`;
    const wideKey = `w ${a.key}`;
    const known = this.find(wide ? wideKey : key);
    if (known) return known;
    let value = this.find(key);
    if (!value) {
      value = this.makeAtom(a);
      this.keep(key, value);
    }
    const is64 = value.type === 'u64' || value.type === 's64' || value.type === 'b64';
    if (is64 === wide) return value;
    const d = this.k.reg(wide ? 'u64' : 'u32');
    if (wide) this.k.emit('cvt', ['s64', 's32'], [d, value]);
    else this.k.emit('cvt', ['u32', 'u64'], [d, value]);
    this.keep(wide ? wideKey : key, d);
    return d;
  }

  private makeAtom(a: Atom): Reg {
    const { k } = this;
    switch (a.kind) {
      case 'variable':
        throw new Error(`kernel @${this.context.fn.name}: loop variable ${a.variable.name} is not bound`);
      case 'size':
      case 'pages':
        return this.context.size(a.key);
      case 'quotient':
      case 'remainder': {
        const wide = isWide(a.of) || isWide(a.by);
        const d = k.reg(wide ? 'u64' : 'u32');
        const by = constantOf(a.by);
        const of = this.indexRegister(a.of, wide);
        const shift = by === null ? NaN : Math.log2(by);
        // Indices are not negative where they are used; powers of two are spelled out for the reader of the PTX.
        if (Number.isInteger(shift) && !wide) {
          if (a.kind === 'quotient') k.emit('shr', ['u32'], [d, of, shift]);
          else k.emit('and', ['b32'], [d, of, by! - 1]);
        } else
          k.emit(
            a.kind === 'quotient' ? 'div' : 'rem',
            [wide ? 'u64' : 'u32'],
            [d, of, this.index(a.by, wide)],
          );
        return d;
      }
      case 'smaller': {
        const wide = isWide(a.of) || isWide(a.by);
        const d = k.reg(wide ? 'u64' : 'u32');
        k.emit('min', [wide ? 's64' : 's32'], [d, this.indexRegister(a.of, wide), this.index(a.by, wide)]);
        return d;
      }
      case 'value': {
        const value = this.register(a.value);
        if (a.below) this.trapUnless(value, a.below);
        return value;
      }
    }
  }

  /** Stops the kernel when an index that was read is out of range: reading on would give someone else's row. */
  private trapUnless(value: Reg, below: Index): void {
    const { k } = this;
    const wide = value.type === 's64';
    const type = wide ? 'u64' : 'u32';
    const bad = k.reg('pred');
    // As unsigned numbers, negative indices are too large as well.
    k.emit('setp', ['ge', type], [bad, value, this.index(below, wide)]);
    k.when(bad, () => k.trap());
  }

  // --- addresses ---

  /** Address of an element: a base register and an offset in bytes. */
  protected address(b: Buffer, i: Index): { base: Reg<'u64'>; offset: number } {
    const size = bytesOf(b);
    // Immediate offsets are not negative: what a concat or pad shifts back goes into the base, sixteen elements at a time.
    const immediate =
      i.constant < 0
        ? i.constant - 16 * Math.floor(i.constant / 16)
        : i.constant * size < 2 ** 22
          ? i.constant
          : 0;
    const rest = immediate === 0 ? i : plus(i, constant(-immediate));
    return { base: this.baseAddress(b, rest), offset: immediate * size };
  }

  protected baseAddress(b: Buffer, i: Index): Reg<'u64'> {
    if (i.terms.length === 0 && i.constant === 0) return this.context.pointer(b);
    const key = `p ${b.value} ${b.component} ${i.key}`;
    const known = this.find(key);
    if (known) return known as Reg<'u64'>;
    const { outer, inner } = this.split(plus(i, constant(-i.constant)));
    const nested = outer.terms.length > 0 && inner.terms.length > 0;
    const base = nested ? this.baseAddress(b, outer) : this.context.pointer(b);
    const step = plus(nested ? inner : plus(i, constant(-i.constant)), constant(i.constant));
    const d = this.k.reg('u64');
    const size = bytesOf(b);
    if (step.low >= 0 && step.high < 2 ** 32)
      this.k.emit('mad', ['wide', 'u32'], [d, this.indexRegister(step, false), size, base]);
    else if (!isWide(step))
      this.k.emit('mad', ['wide', 's32'], [d, this.indexRegister(step, false), size, base]);
    else this.k.emit('mad', ['lo', 's64'], [d, this.indexRegister(step, true), size, base]);
    this.keep(key, d);
    return d;
  }
}
