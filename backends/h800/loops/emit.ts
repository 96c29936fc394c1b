// Expressions to instructions. Registers hold values in scopes: what was computed before a loop or branch is reused
// inside of it, never the other way round. Several expressions that differ by an unrolled loop variable are emitted in
// step, so that neighbouring loads become one vector load.
import {
  indicesOf,
  partsOf,
  type Buffer,
  type Carrier,
  type Combine,
  type Expr,
  type Pool,
  type Reduce,
} from '../../../ir/loops/expr.ts';
import {
  constant,
  constantOf,
  divisorOf,
  minus,
  plus,
  times,
  variableIndex,
  type Atom,
  type Index,
  type Term,
  type Variable,
} from '../../../ir/loops/indices.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { at, type Reg } from '../../ptx/operands.ts';
import { bytesOf, turnsOf, type KernelContext } from './context.ts';
import * as math from './math.ts';
import { loadE5m6, loadVector, storeE5m6, storeE5m6Words, storeVector, widest } from './memory.ts';

/** A register, or an immediate. */
export type Val = Reg | number;

type Scope = Map<string, Reg>;

const classOf = { f32: 'f32', i32: 's32', i64: 's64', bool: 'pred' } as const satisfies Record<Carrier, string>;
/** The type that arithmetic on a carrier names. */
const typeOf = { f32: 'f32', i32: 's32', i64: 's64' } as const;
const numeric = (c: Carrier): 'f32' | 'i32' | 'i64' => {
  if (c === 'bool') throw new Error('no arithmetic on bool');
  return c;
};

const isWide = (i: Index): boolean => !(i.low >= -(2 ** 31) && i.high < 2 ** 31);

export class Emitter {
  readonly k: Kernel;
  readonly context: KernelContext;
  readonly pool: Pool;
  private readonly scopes: Scope[] = [new Map()];
  /** Scope depth of bound loop variables, by id. */
  private readonly bound: Map<number, number> = new Map();

  constructor(context: KernelContext) {
    this.context = context;
    this.k = context.k;
    this.pool = context.pool;
  }

  // --- scopes ---

  private find(key: string): Reg | undefined {
    for (let i = this.scopes.length - 1; i >= 0; i--) {
      const found = this.scopes[i].get(key);
      if (found) return found;
    }
    return undefined;
  }

  private keep(key: string, value: Reg): void {
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
    if (this.bound.has(v.id)) throw new Error(`kernel @${this.context.fn.name}: loop variable ${v.name} is bound twice`);
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
    for (const v of this.pool.freeOfIndex({ constant: 0, terms: [t], key: '', low: 0, high: 0 })) {
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
    const pick = (keep: (depth: number) => boolean): Index =>
      plus(...i.terms.filter((_, n) => keep(depths[n])).map((t) => times(constant(t.factor), productOf(t))));
    return { outer: pick((d) => d < deepest), inner: pick((d) => d === deepest) };
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
        } else k.emit(a.kind === 'quotient' ? 'div' : 'rem', [wide ? 'u64' : 'u32'], [d, of, this.index(a.by, wide)]);
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
  private address(b: Buffer, i: Index): { base: Reg<'u64'>; offset: number } {
    const size = bytesOf(b);
    // Immediate offsets are not negative: what a concat or pad shifts back goes into the base, sixteen elements at a time.
    const immediate = i.constant < 0 ? i.constant - 16 * Math.floor(i.constant / 16) : i.constant * size < 2 ** 22 ? i.constant : 0;
    const rest = immediate === 0 ? i : plus(i, constant(-immediate));
    return { base: this.baseAddress(b, rest), offset: immediate * size };
  }

  private baseAddress(b: Buffer, i: Index): Reg<'u64'> {
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
    if (step.low >= 0 && step.high < 2 ** 32) this.k.emit('mad', ['wide', 'u32'], [d, this.indexRegister(step, false), size, base]);
    else if (!isWide(step)) this.k.emit('mad', ['wide', 's32'], [d, this.indexRegister(step, false), size, base]);
    else this.k.emit('mad', ['lo', 's64'], [d, this.indexRegister(step, true), size, base]);
    this.keep(key, d);
    return d;
  }

  // --- expressions ---

  /** The value of an expression in a register. */
  register(e: Expr): Reg {
    const v = this.value(e);
    return typeof v === 'number' ? this.materialise(v, e.carrier) : v;
  }

  private materialise(value: number, carrier: Carrier): Reg {
    const d = this.k.reg(classOf[carrier]);
    if (carrier === 'bool') this.k.emit('setp', ['ne', 'u32'], [d, value, 0]);
    else this.k.emit('mov', [typeOf[carrier]], [d, value]);
    return d;
  }

  value(e: Expr): Val {
    return this.values([e])[0];
  }

  /** Values of expressions that are alike, in step. */
  values(list: readonly Expr[]): Val[] {
    const first = list[0];
    if (list.length > 1 && list.every((e) => e === first)) {
      const v = this.value(first);
      return list.map(() => v);
    }
    const known = list.map((e) => (e.kind === 'constant' && e.carrier !== 'bool' ? e.value : this.find(`e ${e.id}`)));
    if (known.every((v) => v !== undefined)) return known as Val[];
    // Expressions of another shape, or a few already known: one after the other.
    const alike = known.every((v) => v === undefined) && new Set(list).size === list.length && list.every((e) => sameShape(e, first));
    if (!alike && list.length > 1) return list.map((e) => this.value(e));
    this.k.at(first.span);
    const made = this.make(list);
    for (const [i, e] of list.entries()) this.keep(`e ${e.id}`, made[i]);
    return made;
  }

  private make(list: readonly Expr[]): Reg[] {
    const [first] = list;
    const all = <T>(f: (e: never, i: number) => T): T[] => list.map((e, i) => f(e as never, i));
    type Of<K extends Expr['kind']> = Extract<Expr, { kind: K }>;
    switch (first.kind) {
      case 'constant':
        return list.map((e) => this.materialise((e as Of<'constant'>).value, e.carrier));
      case 'index':
        return all((e: Of<'index'>) => this.indexRegister(e.index, e.carrier === 'i64'));
      case 'table':
        return all((e: Of<'table'>) => this.tableElement(e.values, e.index, e.carrier));
      case 'load':
        return this.loads(list as Of<'load'>[]);
      case 'unary': {
        const a = this.values(all((e: Of<'unary'>) => e.a));
        return all((e: Of<'unary'>, i) => this.unary(e, this.inRegister(a[i], e.a.carrier)));
      }
      case 'binary': {
        const a = this.values(all((e: Of<'binary'>) => e.a));
        const b = this.values(all((e: Of<'binary'>) => e.b));
        return all((e: Of<'binary'>, i) => this.binary(e, a[i], b[i]));
      }
      case 'compare': {
        const a = this.values(all((e: Of<'compare'>) => e.a));
        const b = this.values(all((e: Of<'compare'>) => e.b));
        return all((e: Of<'compare'>, i) => this.compare(e, a[i], b[i]));
      }
      case 'test':
        return all((e: Of<'test'>) => this.test(e));
      case 'choose': {
        const c = this.values(all((e: Of<'choose'>) => e.condition));
        const a = this.values(all((e: Of<'choose'>) => e.a));
        const b = this.values(all((e: Of<'choose'>) => e.b));
        return all((e: Of<'choose'>, i) => this.choose(this.inRegister(c[i], 'bool') as Reg<'pred'>, a[i], b[i], e.carrier));
      }
      case 'guarded':
        return this.guarded(list as Of<'guarded'>[]);
      case 'round': {
        const a = this.values(all((e: Of<'round'>) => e.a));
        const pairs = first.dtype === 'bf16' && !first.saturate && list.length % 2 === 0;
        if (pairs) return math.roundPairs(this.k, a.map((v) => this.inRegister(v, 'f32') as Reg<'f32'>));
        return all((e: Of<'round'>, i) => math.roundTo(this.k, e.dtype, e.saturate, this.inRegister(a[i], 'f32') as Reg<'f32'>));
      }
      case 'convert': {
        const a = this.values(all((e: Of<'convert'>) => e.a));
        return all((e: Of<'convert'>, i) => this.convert(this.inRegister(a[i], e.a.carrier), e.a.carrier, e.carrier));
      }
      case 'turn':
        return all((e: Of<'turn'>) => {
          const [high, low] = turnsOf(e.frequencies);
          const position = this.register(e.position) as Reg<'s32'>;
          const parts = [high, low].map((values) => this.tableElement(values, e.index, 'f32') as Reg<'f32'>);
          return math.turned(this.k, e.turn, position, parts[0], parts[1]);
        });
      case 'reduce': {
        const reduces = list as readonly Reduce[];
        return reduces.every((r) => sameLoop(r, reduces[0])) ? this.serial(reduces) : reduces.map((r) => this.serial([r])[0]);
      }
    }
  }

  private inRegister(v: Val, carrier: Carrier): Reg {
    return typeof v === 'number' ? this.materialise(v, carrier) : v;
  }

  private tableElement(values: readonly number[], i: Index, carrier: Carrier): Reg {
    const float = carrier === 'f32';
    const fixed = constantOf(i);
    if (fixed !== null) return this.materialise(values[fixed], carrier);
    const { k } = this;
    const address = k.reg('u32');
    k.emit('mad', ['lo', 'u32'], [address, this.indexRegister(i, false), 4, this.context.table(values, float)]);
    const d = k.reg(float ? 'f32' : 's32');
    k.emit('ld', ['shared', float ? 'f32' : 's32'], [d, at(address)]);
    return carrier === 'i64' || carrier === 'bool' ? this.convert(d, 'i32', carrier) : d;
  }

  private loads(list: readonly Extract<Expr, { kind: 'load' }>[]): Reg[] {
    const [{ buffer, offset }] = list;
    if (buffer.dtype === 'f12e5m6') return list.map((e) => loadE5m6(this.k, this.context.pointer(buffer), this.indexRegister(e.offset, true) as Reg<'u64'>));
    const count = vectorLength(list.map((e) => e.offset), widest(buffer.dtype));
    const out: Reg[] = [];
    for (let i = 0; i < list.length; i += count) {
      const { base, offset: bytes } = this.address(buffer, count > 1 ? plus(offset, constant(i)) : list[i].offset);
      out.push(...loadVector(this.k, 'global', buffer.dtype, base, bytes, count));
    }
    return out;
  }

  private unary(e: Extract<Expr, { kind: 'unary' }>, a: Reg): Reg {
    const { k } = this;
    const x = a as Reg<'f32'>;
    const d = k.reg(classOf[e.carrier]) as Reg<'f32'>;
    const simple = (...modifiers: string[]): Reg => {
      k.emit(modifiers[0], modifiers.slice(1), [d, a]);
      return d;
    };
    switch (e.op) {
      case 'neg':
      case 'abs':
        return simple(e.op, typeOf[numeric(e.carrier)]);
      case 'not':
        return simple('not', 'pred');
      case 'exp':
        return math.exp(k, x);
      case 'exp2':
        return simple('ex2', 'approx', 'f32');
      case 'log2':
        return simple('lg2', 'approx', 'f32');
      case 'log':
        k.lg2.approx.f32(d, x);
        k.mul.rn.f32(d, d, Math.fround(Math.LN2));
        return d;
      case 'sqrt':
        return simple('sqrt', 'rn', 'f32');
      case 'rsqrt':
        return simple('rsqrt', 'approx', 'f32');
      case 'reciprocal':
        return simple('rcp', 'rn', 'f32');
      case 'floor':
        return simple('cvt', 'rmi', 'f32', 'f32');
      case 'sigmoid':
        return math.sigmoid(k, x);
      case 'silu':
        return math.silu(k, x);
      case 'tanh':
        return math.tanh(k, x);
      case 'sin':
      case 'cos':
        return math.sinOrCos(k, e.op, x);
      case 'power_of_two_above':
        return math.powerOfTwoAbove(k, x);
    }
  }

  private binary(e: Extract<Expr, { kind: 'binary' }>, a: Val, b: Val): Reg {
    const { k } = this;
    const d = k.reg(classOf[e.carrier]);
    if (e.carrier === 'bool') {
      k.emit(e.op, ['pred'], [d, this.inRegister(a, 'bool'), this.inRegister(b, 'bool')]);
      return d;
    }
    const float = e.carrier === 'f32';
    const type = typeOf[numeric(e.carrier)];
    // Immediates stand in the second place, as people write them.
    const left = this.inRegister(a, e.carrier);
    switch (e.op) {
      case 'add':
      case 'sub':
      case 'mul':
      case 'div': {
        const modifiers = float ? ['rn', type] : e.op === 'mul' ? ['lo', type] : [type];
        k.emit(e.op, modifiers, [d, left, b]);
        return d;
      }
      case 'min':
      case 'max':
        k.emit(e.op, float ? ['NaN', type] : [type], [d, left, b]);
        return d;
      case 'larger':
        k.emit('max', [type], [d, left, b]);
        return d;
      case 'unscale':
        return this.unscale(left as Reg<'f32'>, this.inRegister(b, 'f32') as Reg<'f32'>);
      case 'pow':
        return math.pow(k, left as Reg<'f32'>, this.inRegister(b, 'f32') as Reg<'f32'>);
      case 'and':
      case 'or':
        throw new Error(`${e.op} is for bool`);
    }
  }

  /**
   * a / b by the reciprocal of b, which a tile's elements share: the quotient's error is added back, and the sum is
   * rounded as a division would (Markstein: true when the reciprocal is rounded correctly and nothing underflows).
   */
  private unscale(a: Reg<'f32'>, b: Reg<'f32'>): Reg {
    const { k } = this;
    const key = `rcp ${b.name}`;
    let inverse = this.find(key) as Reg<'f32'> | undefined;
    if (!inverse) {
      inverse = k.reg('f32');
      k.rcp.rn.f32(inverse, b);
      this.keep(key, inverse);
    }
    const [q, rest, minus] = k.regs('f32', 3);
    k.mul.rn.f32(q, a, inverse);
    k.neg.f32(minus, q);
    k.fma.rn.f32(rest, minus, b, a);
    k.fma.rn.f32(q, rest, inverse, q);
    return q;
  }

  private compare(e: Extract<Expr, { kind: 'compare' }>, a: Val, b: Val): Reg {
    const { k } = this;
    const p = k.reg('pred');
    const { carrier } = e.a;
    const left = this.inRegister(a, carrier);
    if (carrier === 'bool') {
      k.emit('xor', ['pred'], [p, left, this.inRegister(b, 'bool')]);
      if (e.op === 'ne') return p;
      const q = k.reg('pred');
      k.emit('not', ['pred'], [q, p]);
      return q;
    }
    // NaN differs from everything: the one comparison that holds for it.
    const op = carrier === 'f32' && e.op === 'ne' ? 'neu' : e.op;
    k.emit('setp', [op, typeOf[numeric(carrier)]], [p, left, b]);
    return p;
  }

  private test(e: Extract<Expr, { kind: 'test' }>): Reg {
    const wide = isWide(e.a) || isWide(e.b);
    const p = this.k.reg('pred');
    this.k.emit('setp', [e.op, wide ? 's64' : 's32'], [p, this.indexRegister(e.a, wide), this.index(e.b, wide)]);
    return p;
  }

  private choose(c: Reg<'pred'>, a: Val, b: Val, carrier: Carrier): Reg {
    const { k } = this;
    const d = k.reg(classOf[carrier]);
    if (carrier !== 'bool') {
      k.emit('selp', [typeOf[carrier]], [d, a, b, c]);
      return d;
    }
    const [yes, no, other] = k.regs('pred', 3);
    k.and.pred(yes, c, this.inRegister(a, 'bool') as Reg<'pred'>);
    k.not.pred(other, c);
    k.and.pred(no, other, this.inRegister(b, 'bool') as Reg<'pred'>);
    k.emit('or', ['pred'], [d, yes, no]);
    return d;
  }

  private convert(a: Reg, from: Carrier, to: Carrier): Reg {
    const { k } = this;
    const d = k.reg(classOf[to]);
    if (from === 'bool') {
      if (to === 'bool') throw new Error('no conversion');
      k.emit('selp', [typeOf[to]], [d, 1, 0, a]);
    } else if (to === 'bool') k.emit('setp', [from === 'f32' ? 'neu' : 'ne', typeOf[from]], [d, a, 0]);
    else if (to === 'f32') k.emit('cvt', ['rn', 'f32', typeOf[from]], [d, a]);
    else if (from === 'f32') k.emit('cvt', ['rzi', typeOf[to], 'f32'], [d, a]);
    else if (to === 'i64') k.emit('cvt', ['s64', 's32'], [d, a]);
    else k.emit('cvt', ['sat', 's32', 's64'], [d, a]);
    return d;
  }

  /** Both sides in branches of their own; expressions with one condition share the branch. */
  private guarded(list: readonly Extract<Expr, { kind: 'guarded' }>[]): Reg[] {
    const { k } = this;
    if (list.some((e) => e.condition !== list[0].condition)) return list.map((e) => this.guarded([e])[0]);
    const condition = this.register(list[0].condition) as Reg<'pred'>;
    const out = list.map((e) => k.reg(classOf[e.carrier]));
    const put = (sides: readonly Expr[]): void =>
      this.scoped(() => {
        const values = this.values(sides);
        for (const [i, v] of values.entries()) this.move(out[i], v, sides[i].carrier);
      });
    const no = k.label('else');
    const end = k.label('end');
    const constants = list.every((e) => e.b.kind === 'constant');
    if (constants) put(list.map((e) => e.b));
    k.unless(condition, () => k.bra(constants ? end : no));
    put(list.map((e) => e.a));
    if (!constants) {
      k.bra(end);
      k.place(no);
      put(list.map((e) => e.b));
    }
    k.place(end);
    return out;
  }

  /** d = v, for a register that several paths write. */
  move(d: Reg, v: Val, carrier: Carrier): void {
    if (carrier === 'bool') this.k.emit('mov', ['pred'], [d, this.inRegister(v, 'bool')]);
    else this.k.emit('mov', [typeOf[carrier]], [d, v]);
  }

  // --- reductions ---

  /** Registers that a reduction starts from: its result, and for argmax the largest element as well. */
  accumulators(r: Reduce): Reg[] {
    const start = (carrier: Carrier, value: number): Reg => {
      const d = this.k.reg(classOf[carrier]);
      this.move(d, value, carrier);
      return d;
    };
    const { carrier } = r.value;
    switch (r.combine) {
      case 'sum':
      case 'or':
        return [start(r.carrier, 0)];
      case 'larger':
      case 'max':
        return [start(r.carrier, lowest(carrier))];
      case 'min':
        return [start(r.carrier, carrier === 'f32' ? Infinity : carrier === 'i32' ? 2 ** 31 - 1 : Number.MAX_SAFE_INTEGER)];
      case 'argmax':
        return [start('i32', 0), start(carrier, lowest(carrier))];
    }
  }

  /** acc = acc ∘ value. For argmax `value` is [index, element]. */
  accumulate(combine: Combine, carrier: Carrier, acc: readonly Reg[], value: readonly Val[]): void {
    const { k } = this;
    const [d, v] = [acc[0], value[0]];
    switch (combine) {
      case 'sum':
        k.emit('add', carrier === 'f32' ? ['rn', 'f32'] : [typeOf[numeric(carrier)]], [d, d, v]);
        return;
      case 'max':
      case 'min':
        k.emit(combine, carrier === 'f32' ? ['NaN', 'f32'] : [typeOf[numeric(carrier)]], [d, d, v]);
        return;
      case 'larger':
        k.emit('max', [typeOf[numeric(carrier)]], [d, d, v]);
        return;
      case 'or':
        k.emit('or', ['pred'], [d, d, this.inRegister(v, 'bool')]);
        return;
      case 'argmax': {
        // The larger element wins; among equals the lower index, whatever order they come in.
        const [better, equal, lower] = k.regs('pred', 3);
        const type = typeOf[numeric(carrier)];
        k.emit('setp', ['gt', type], [better, this.inRegister(value[1], carrier), acc[1]]);
        k.emit('setp', ['eq', type], [equal, this.inRegister(value[1], carrier), acc[1]]);
        k.emit('setp', ['lt', 's32'], [lower, this.inRegister(v, 'i32'), d]);
        k.and.pred(equal, equal, lower);
        k.or.pred(better, better, equal);
        k.emit('selp', ['s32'], [d, v, d, better]);
        k.emit('selp', [type], [acc[1], value[1], acc[1], better]);
        return;
      }
    }
  }

  /**
   * Adds what the current iteration contributes: `items` are values that are alike, each for its own accumulators.
   * `places` are the loop's index for each, which argmax wants.
   */
  contribute(r: Reduce, items: readonly Expr[], accumulators: readonly (readonly Reg[])[], places: readonly Index[]): void {
    const products = items.filter((e) => e.kind === 'binary' && e.op === 'mul' && e.carrier === 'f32' && !this.find(`e ${e.id}`)) as Extract<Expr, { kind: 'binary' }>[];
    if (r.combine === 'sum' && products.length === items.length) {
      // A product that is summed needs no rounding of its own.
      const a = this.values(products.map((e) => e.a));
      const b = this.values(products.map((e) => e.b));
      for (const [i, acc] of accumulators.entries()) this.k.emit('fma', ['rn', 'f32'], [acc[0], this.inRegister(a[i], 'f32'), b[i], acc[0]]);
      return;
    }
    for (const [i, v] of this.values(items).entries()) {
      const value = r.combine === 'argmax' ? [this.index(places[i], false), v] : [v];
      this.accumulate(r.combine, r.value.carrier, accumulators[i], value);
    }
  }

  /** Reductions over equal extents as one loop of this thread; alike ones in step. */
  serial(reduces: readonly Reduce[]): Reg[] {
    const [first] = reduces;
    const values = reduces.map((r) => this.alignedValue(r, first));
    this.prepare(values, new Set(first.over));
    const acc = reduces.map((r) => this.accumulators(r));
    const place = variableIndex(first.over.at(-1)!);
    const alike = reduces.every((r) => r.combine === first.combine);
    const nest = (n: number): void => {
      if (n === first.over.length) {
        if (alike) this.contribute(first, values, acc, values.map(() => place));
        else for (const [i, r] of reduces.entries()) this.contribute(r, [values[i]], [acc[i]], [place]);
        return;
      }
      const v = first.over[n];
      this.countingLoop(v, 'sum', () => {
        if (n + 1 < first.over.length) this.prepare(values, new Set(first.over.slice(n + 1)));
        nest(n + 1);
      });
    };
    nest(0);
    return acc.map((a) => a[0]);
  }

  /** The value of a reduction with the loop variables of another over equal extents. */
  alignedValue(r: Reduce, like: Reduce): Expr {
    if (r.over === like.over) return r.value;
    return this.pool.substitute(r.value, new Map(r.over.map((v, i) => [v, variableIndex(like.over[i])])));
  }

  /** for (v = 0; v < extent; v++) body, in this thread. */
  countingLoop(v: Variable, hint: string, body: () => void): void {
    const { k } = this;
    const wide = isWide(v.extent);
    const type = wide ? 'u64' : 'u32';
    const extent = this.index(v.extent, wide);
    const i = k.reg(type);
    k.emit('mov', [type], [i, 0]);
    k.loop(hint, ({ done }) => {
      const end = k.reg('pred');
      // Signed: an extent may be negative beyond the last tile.
      k.emit('setp', ['ge', wide ? 's64' : 's32'], [end, i, extent]);
      k.when(end, () => k.bra(done));
      this.scoped(() => {
        this.bind(v, i);
        body();
      });
      k.emit('add', [type], [i, i, 1]);
    });
  }

  // --- hoisting ---

  /**
   * Computes now what expressions need that does not depend on `inner`: they are about to be used in a loop over it.
   * Only what is certain to be needed: branches stay where they are.
   */
  prepare(list: readonly Expr[], inner: ReadonlySet<Variable>): void {
    const seen = new Set<number>();
    const outside = (vars: ReadonlySet<Variable>): boolean => {
      for (const v of vars) if (inner.has(v) || !this.bound.has(v.id)) return false;
      return true;
    };
    const visitIndex = (i: Index, b: Buffer | null): void => {
      for (const t of i.terms)
        for (const a of t.atoms) {
          if (a.kind === 'quotient' || a.kind === 'remainder' || a.kind === 'smaller') [a.of, a.by].forEach((x) => visitIndex(x, null));
          // A checked index stops the kernel when it is wrong, so it may be read only where it is needed.
          else if (a.kind === 'value') visit(a.value);
        }
      const known = plus(...i.terms.filter((t) => outside(this.pool.freeOfIndex({ constant: 0, terms: [t], key: '', low: 0, high: 0 }))).map((t) => times(constant(t.factor), productOf(t))));
      if (known.terms.length === 0 || known.terms.length === i.terms.length) return;
      if (b) {
        if (b.dtype !== 'f12e5m6') this.baseAddress(b, known);
      } else this.index(known, isWide(i));
    };
    const visit = (e: Expr): void => {
      if (seen.has(e.id) || e.kind === 'constant') return;
      seen.add(e.id);
      if (outside(this.pool.freeOf(e))) {
        this.value(e);
        return;
      }
      if (e.kind === 'guarded') return visit(e.condition);
      if (e.kind === 'reduce') return;
      for (const i of indicesOf(e)) visitIndex(i, e.kind === 'load' ? e.buffer : null);
      for (const part of partsOf(e)) visit(part);
    };
    for (const e of list) visit(e);
  }

  /** Hoists the invariant part of a store's address. */
  prepareAddress(b: Buffer, i: Index, inner: ReadonlySet<Variable>): void {
    this.prepare([this.pool.load(b, i)], inner);
  }

  // --- stores ---

  /** Stores values to a buffer, neighbours together. The offsets belong to expressions that are emitted in step. */
  store(b: Buffer, offsets: readonly Index[], values: readonly Expr[]): void {
    // The store rounds: a rounding of its own before it is not needed.
    const plain = values.map((e) => (e.kind === 'round' && e.dtype === b.dtype && !(b.dtype === 'f8ue8m0' || b.dtype === 'f12e5m6') && canStore(e) && !this.find(`e ${e.id}`) ? e.a : e));
    const got = this.values(plain).map((v, i) => this.inRegister(v, plain[i].carrier));
    this.storeRegisters(b, offsets, got);
  }

  storeRegisters(b: Buffer, offsets: readonly Index[], values: readonly Reg[]): void {
    const { k } = this;
    if (b.dtype === 'f12e5m6') {
      const base = this.context.pointer(b);
      const floats = values as Reg<'f32'>[];
      if (values.length === 8 && vectorLength(offsets, 8) === 8) {
        const address = k.reg('u64');
        const first = this.indexRegister(offsets[0], true) as Reg<'u64'>;
        const pairs = k.reg('u64');
        k.shr.u64(pairs, first, 1);
        k.mad.lo.u64(address, pairs, 3, base);
        storeE5m6Words(k, address, floats);
      } else for (const [i, v] of floats.entries()) storeE5m6(k, base, this.indexRegister(offsets[i], true) as Reg<'u64'>, v);
      return;
    }
    const count = vectorLength(offsets, widest(b.dtype));
    for (let i = 0; i < values.length; i += count) {
      const { base, offset } = this.address(b, count > 1 ? plus(offsets[0], constant(i)) : offsets[i]);
      storeVector(k, 'global', b.dtype, base, offset, values.slice(i, i + count));
    }
  }
}

/** The dtypes whose store saturates or not as the rounding does. */
const canStore = (e: Extract<Expr, { kind: 'round' }>): boolean => e.saturate === (e.dtype === 'f8e4m3' || e.dtype === 'f8e5m2');

const lowest = (carrier: Carrier): number => (carrier === 'f32' ? -Infinity : carrier === 'i32' ? -(2 ** 31) : -Number.MAX_SAFE_INTEGER);

/** The product of a term's atoms, without its factor. */
function productOf(t: Term): Index {
  const one: Term = { ...t, factor: 1 };
  return plus({ constant: 0, terms: [one], key: '', low: 0, high: 0 });
}

function sameShape(a: Expr, b: Expr): boolean {
  if (a.kind !== b.kind || a.carrier !== b.carrier) return false;
  if ((a.kind === 'unary' && b.kind === 'unary') || (a.kind === 'binary' && b.kind === 'binary') || (a.kind === 'compare' && b.kind === 'compare')) return a.op === b.op;
  if (a.kind === 'load' && b.kind === 'load') return a.buffer === b.buffer;
  if (a.kind === 'round' && b.kind === 'round') return a.dtype === b.dtype && a.saturate === b.saturate;
  return true;
}

/** Whether two reductions are one loop: the same kind over equal extents. */
const sameLoop = (a: Reduce, b: Reduce): boolean =>
  a.combine === b.combine && a.over.length === b.over.length && a.over.every((v, i) => v.extent.key === b.over[i].extent.key);

/** How many of these offsets one access can cover: consecutive, and aligned to that many elements. */
export function vectorLength(offsets: readonly Index[], most: number): number {
  const [first] = offsets;
  let run = 1;
  while (run < offsets.length && constantOf(minus(offsets[run], first)) === run) run++;
  if (run < offsets.length) return 1;
  let count = 1;
  const divisor = divisorOf(first);
  while (2 * count <= Math.min(most, run) && run % (2 * count) === 0 && divisor % (2 * count) === 0) count *= 2;
  return count;
}
