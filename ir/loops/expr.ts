// Making expressions: hash-consed, so that one value written twice is one node, and simplified where that is free.
// What they are is in data.ts.
import { dtypeInfo, round, type DType } from '../formats/index.ts';
import { noSpan, type Span } from '../span.ts';
import type {
  BinaryOp,
  Buffer,
  Carrier,
  Combine,
  CompareOp,
  Expr,
  Index,
  UnaryOp,
  Variable,
} from './data.ts';
import { constantOf, mapAtoms, minus, valueIndex, variableIndex } from './indices.ts';
import { indicesOf, partsOf } from './walk.ts';

export type { BinaryOp, Buffer, Carrier, Combine, CompareOp, Expr, Reduce, UnaryOp } from './data.ts';
export { indicesOf, partsOf, reducesIn, valuesIn } from './walk.ts';

export const carrierOf = (dtype: DType): Carrier =>
  dtype === 'i32' || dtype === 'i64' || dtype === 'bool' ? dtype : 'f32';

const sizeable = (i: Index): boolean => i.low >= -(2 ** 31) && i.high < 2 ** 31;

/** Makes expressions and variables of one kernel; equal expressions are the same object. */
export class Pool {
  private readonly known = new Map<string, Expr>();
  private readonly free = new Map<number, ReadonlySet<Variable>>();
  private readonly exact = new Map<string, boolean>();
  private readonly buffers = new Map<string, Buffer>();
  private variables = 0;
  private span: Span = noSpan;

  variable(name: string, extent: Index): Variable {
    return { id: this.variables++, name, extent };
  }

  buffer(value: string, component: string, dtype: DType): Buffer {
    const key = `${value} ${component}`;
    const found = this.buffers.get(key) ?? { value, component, dtype };
    this.buffers.set(key, found);
    return found;
  }

  /** Expressions that `make` is the first to ask for carry this span. */
  within<T>(span: Span, make: () => T): T {
    const outer = this.span;
    this.span = span;
    try {
      return make();
    } finally {
      this.span = outer;
    }
  }

  private intern(key: string, make: (base: { readonly id: number; readonly span: Span }) => Expr): Expr {
    const found = this.known.get(key);
    if (found) return found;
    const made = make({ id: this.known.size, span: this.span });
    this.known.set(key, made);
    return made;
  }

  constant(value: number, carrier: Carrier): Expr {
    const shown = Object.is(value, -0) ? '-0' : `${value}`;
    return this.intern(`c ${carrier} ${shown}`, (base) => ({ ...base, kind: 'constant', carrier, value }));
  }

  index(index: Index, carrier: 'i32' | 'i64' = sizeable(index) ? 'i32' : 'i64'): Expr {
    const value = constantOf(index);
    if (value !== null) return this.constant(value, carrier);
    // An index that is nothing but a computed integer is that integer.
    const [t] = index.terms;
    if (index.constant === 0 && index.terms.length === 1 && t.factor === 1 && t.atoms.length === 1) {
      const [a] = t.atoms;
      if (a.kind === 'value' && a.below === null && a.value.carrier === carrier) return a.value;
    }
    return this.intern(`i ${carrier} ${index.key}`, (base) => ({ ...base, kind: 'index', carrier, index }));
  }

  table(values: readonly number[], index: Index, carrier: Carrier): Expr {
    const at = constantOf(index);
    if (at !== null) return this.constant(values[at], carrier);
    return this.intern(`t ${carrier} ${values.join(',')} ${index.key}`, (base) => ({
      ...base,
      kind: 'table',
      carrier,
      values,
      index,
    }));
  }

  load(buffer: Buffer, offset: Index): Expr {
    const carrier = carrierOf(buffer.dtype);
    return this.intern(`l ${buffer.value} ${buffer.component} ${offset.key}`, (base) => ({
      ...base,
      kind: 'load',
      carrier,
      buffer,
      offset,
    }));
  }

  unary(op: UnaryOp, a: Expr): Expr {
    if (op === 'not' && a.kind === 'constant') return this.constant(1 - a.value, 'bool');
    return this.intern(`u ${op} ${a.id}`, (base) => ({ ...base, kind: 'unary', carrier: a.carrier, op, a }));
  }

  binary(op: BinaryOp, a: Expr, b: Expr): Expr {
    if (a.carrier === 'bool') {
      for (const [x, y] of [
        [a, b],
        [b, a],
      ])
        if (x.kind === 'constant') return (op === 'and') === (x.value !== 0) ? y : x;
    }
    return this.intern(`b ${op} ${a.id} ${b.id}`, (base) => ({
      ...base,
      kind: 'binary',
      carrier: a.carrier,
      op,
      a,
      b,
    }));
  }

  compare(op: CompareOp, a: Expr, b: Expr): Expr {
    return this.intern(`? ${op} ${a.id} ${b.id}`, (base) => ({
      ...base,
      kind: 'compare',
      carrier: 'bool',
      op,
      a,
      b,
    }));
  }

  /** A comparison of indices; a constant where the ranges decide it. */
  test(op: 'lt' | 'le' | 'eq', a: Index, b: Index): Expr {
    const d = minus(a, b);
    if (op === 'lt' ? d.high < 0 : op === 'le' ? d.high <= 0 : d.low === 0 && d.high === 0)
      return this.constant(1, 'bool');
    if (op === 'lt' ? d.low >= 0 : op === 'le' ? d.low > 0 : d.low > 0 || d.high < 0)
      return this.constant(0, 'bool');
    return this.intern(`?? ${op} ${a.key} ? ${b.key}`, (base) => ({
      ...base,
      kind: 'test',
      carrier: 'bool',
      op,
      a,
      b,
    }));
  }

  choose(condition: Expr, a: Expr, b: Expr): Expr {
    if (condition.kind === 'constant') return condition.value !== 0 ? a : b;
    if (a === b) return a;
    return this.intern(`s ${condition.id} ${a.id} ${b.id}`, (base) => ({
      ...base,
      kind: 'choose',
      carrier: a.carrier,
      condition,
      a,
      b,
    }));
  }

  guarded(condition: Expr, a: Expr, b: Expr): Expr {
    if (condition.kind === 'constant') return condition.value !== 0 ? a : b;
    if (a === b) return a;
    return this.intern(`g ${condition.id} ${a.id} ${b.id}`, (base) => ({
      ...base,
      kind: 'guarded',
      carrier: a.carrier,
      condition,
      a,
      b,
    }));
  }

  /** To a float dtype; nothing where the value has it already. */
  round(dtype: DType, a: Expr, saturate = dtypeInfo[dtype].bits === 8): Expr {
    if (dtype === 'f32' || this.isExact(dtype, a)) return a;
    if (a.kind === 'constant')
      return this.constant(
        round(dtype, a.value, { overflow: saturate ? 'saturating' : 'nonsaturating' }),
        'f32',
      );
    return this.intern(`r ${dtype} ${saturate} ${a.id}`, (base) => ({
      ...base,
      kind: 'round',
      carrier: 'f32',
      dtype,
      saturate,
      a,
    }));
  }

  /** Whether every value of `a` is one of the dtype: selections and moves of rounded values are. */
  private isExact(dtype: DType, a: Expr): boolean {
    const key = `${dtype} ${a.id}`;
    const known = this.exact.get(key);
    if (known !== undefined) return known;
    const answer = ((): boolean => {
      switch (a.kind) {
        case 'load':
          return fits(a.buffer.dtype, dtype);
        case 'round':
          return fits(a.dtype, dtype);
        case 'constant':
          return Object.is(round(dtype, a.value, { overflow: 'nonsaturating' }), a.value);
        case 'choose':
        case 'guarded':
          return this.isExact(dtype, a.a) && this.isExact(dtype, a.b);
        case 'unary':
          return (a.op === 'neg' || a.op === 'abs') && this.isExact(dtype, a.a);
        case 'binary':
          return (
            (a.op === 'min' || a.op === 'max' || a.op === 'larger') &&
            this.isExact(dtype, a.a) &&
            this.isExact(dtype, a.b)
          );
        case 'reduce':
          return (
            (a.combine === 'max' || a.combine === 'min' || a.combine === 'larger') &&
            this.isExact(dtype, a.value)
          );
        default:
          return false;
      }
    })();
    this.exact.set(key, answer);
    return answer;
  }

  convert(carrier: Carrier, a: Expr): Expr {
    if (a.carrier === carrier) return a;
    if (a.kind === 'constant')
      return this.constant(
        carrier === 'bool'
          ? Number(a.value !== 0)
          : carrier === 'f32'
            ? Math.fround(a.value)
            : Math.trunc(a.value),
        carrier,
      );
    if (a.kind === 'index' && carrier === 'i64') return this.index(a.index, 'i64');
    return this.intern(`v ${carrier} ${a.id}`, (base) => ({ ...base, kind: 'convert', carrier, a }));
  }

  turn(turn: 'cos' | 'sin', position: Expr, frequencies: readonly number[], index: Index): Expr {
    return this.intern(`w ${turn} ${position.id} ${frequencies.join(',')} ${index.key}`, (base) => ({
      ...base,
      kind: 'turn',
      carrier: 'f32',
      turn,
      position,
      frequencies,
      index,
    }));
  }

  /** A reduction; over nothing it is the value itself (argmax: 0). */
  reduce(combine: Combine, over: readonly Variable[], value: Expr): Expr {
    const real = over.filter((v) => constantOf(v.extent) !== 1);
    if (real.length === 0) return combine === 'argmax' ? this.constant(0, 'i32') : value;
    const carrier = combine === 'argmax' ? 'i32' : value.carrier;
    return this.intern(`R ${combine} ${real.map((v) => v.id).join(',')} ${value.id}`, (base) => ({
      ...base,
      kind: 'reduce',
      carrier,
      combine,
      over: real,
      value,
    }));
  }

  /** Variables that an expression depends on and does not bind itself. */
  freeOf(e: Expr): ReadonlySet<Variable> {
    const known = this.free.get(e.id);
    if (known) return known;
    const out = new Set<Variable>();
    for (const part of partsOf(e)) for (const v of this.freeOf(part)) out.add(v);
    for (const i of indicesOf(e)) for (const v of this.freeOfIndex(i)) out.add(v);
    if (e.kind === 'reduce') {
      for (const v of e.over) out.delete(v);
      for (const v of e.over) for (const w of this.freeOfIndex(v.extent)) out.add(w);
    }
    this.free.set(e.id, out);
    return out;
  }

  freeOfIndex(i: Index): ReadonlySet<Variable> {
    const out = new Set<Variable>();
    for (const t of i.terms)
      for (const a of t.atoms) {
        if (a.kind === 'variable') out.add(a.variable);
        else if (a.kind === 'quotient' || a.kind === 'remainder' || a.kind === 'smaller')
          for (const part of [a.of, a.by]) for (const v of this.freeOfIndex(part)) out.add(v);
        else if (a.kind === 'value') for (const v of this.freeOf(a.value)) out.add(v);
      }
    return out;
  }

  /** The expression with variables replaced; `memo` may be shared between calls with one map. */
  substitute(e: Expr, by: ReadonlyMap<Variable, Index>, memo = new Map<number, Expr>()): Expr {
    const known = memo.get(e.id);
    if (known) return known;
    let touched = false;
    for (const v of this.freeOf(e)) touched ||= by.has(v);
    const made = touched ? this.within(e.span, () => this.rebuild(e, by, memo)) : e;
    memo.set(e.id, made);
    return made;
  }

  private rebuild(e: Expr, by: ReadonlyMap<Variable, Index>, memo: Map<number, Expr>): Expr {
    const go = (x: Expr): Expr => this.substitute(x, by, memo);
    const at = (i: Index): Index => this.substituteIndex(i, by, memo);
    switch (e.kind) {
      case 'constant':
        return e;
      case 'index':
        return this.index(at(e.index), e.carrier as 'i32' | 'i64');
      case 'table':
        return this.table(e.values, at(e.index), e.carrier);
      case 'load':
        return this.load(e.buffer, at(e.offset));
      case 'unary':
        return this.unary(e.op, go(e.a));
      case 'binary':
        return this.binary(e.op, go(e.a), go(e.b));
      case 'compare':
        return this.compare(e.op, go(e.a), go(e.b));
      case 'test':
        return this.test(e.op, at(e.a), at(e.b));
      case 'choose':
        return this.choose(go(e.condition), go(e.a), go(e.b));
      case 'guarded':
        return this.guarded(go(e.condition), go(e.a), go(e.b));
      case 'round':
        return this.round(e.dtype, go(e.a), e.saturate);
      case 'convert':
        return this.convert(e.carrier, go(e.a));
      case 'turn':
        return this.turn(e.turn, go(e.position), e.frequencies, at(e.index));
      case 'reduce': {
        // Extents may depend on what is replaced: such loop variables are made anew.
        const over = e.over.map((v) => ({ old: v, extent: at(v.extent) }));
        const fresh = over.map(({ old, extent }) =>
          extent.key === old.extent.key ? old : this.variable(old.name, extent),
        );
        const inner = new Map(by);
        for (const [i, { old }] of over.entries())
          if (fresh[i] !== old) inner.set(old, variableIndex(fresh[i]));
        const value = inner.size === by.size ? go(e.value) : this.substitute(e.value, inner);
        return this.reduce(e.combine, fresh, value);
      }
    }
  }

  substituteIndex(i: Index, by: ReadonlyMap<Variable, Index>, memo = new Map<number, Expr>()): Index {
    return mapAtoms(i, (a) => {
      if (a.kind === 'variable') return by.get(a.variable) ?? null;
      if (a.kind !== 'value') return null;
      const below = a.below && this.substituteIndex(a.below, by, memo);
      return valueIndex(this.substitute(a.value, by, memo), below, [a.low, a.high]);
    });
  }
}

/** Whether every value of float dtype `from` is one of `to`. */
function fits(from: DType, to: DType): boolean {
  if (from === to || to === 'f32') return true;
  const [a, b] = [dtypeInfo[from], dtypeInfo[to]];
  if (a.kind !== 'float' || b.kind !== 'float') return false;
  const least = (x: typeof a): number => 1 - x.bias! - x.mantissaBits!;
  return (
    a.mantissaBits! <= b.mantissaBits! &&
    a.maxFinite! <= b.maxFinite! &&
    least(a) >= least(b) &&
    (b.hasInfinity === true || a.hasInfinity === false)
  );
}
