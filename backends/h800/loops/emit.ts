// Expressions to instructions. Several expressions that differ by an unrolled loop variable are emitted in step, so that
// neighbouring loads become one vector load.
import { indicesOf, partsOf, type Buffer, type Expr, type Reduce } from '../../../ir/loops/expr.ts';
import {
  constant,
  constantOf,
  divisorOf,
  minus,
  plus,
  type Index,
  type Variable,
} from '../../../ir/loops/indices.ts';
import type { Reg } from '../../ptx/operands.ts';
import { turnsOf } from './context.ts';
import { isWide, termsOf, type Val } from './emit-index.ts';
import { classOf } from './emit-ops.ts';
import { Reducing, sameLoop } from './emit-reduce.ts';
import * as math from './math.ts';
import { loadE5m6, loadVector, storeE5m6, storeE5m6Words, storeVector, widest } from './memory.ts';

export type { Val } from './emit-index.ts';

export class Emitter extends Reducing {
  /** The value of an expression in a register. */
  override register(e: Expr): Reg {
    const v = this.value(e);
    return typeof v === 'number' ? this.materialise(v, e.carrier) : v;
  }

  value(e: Expr): Val {
    return this.values([e])[0];
  }

  /** Values of expressions that are alike, in step. */
  override values(list: readonly Expr[]): Val[] {
    const first = list[0];
    if (list.length > 1 && list.every((e) => e === first)) {
      const v = this.value(first);
      return list.map(() => v);
    }
    const known = list.map((e) =>
      e.kind === 'constant' && e.carrier !== 'bool' ? e.value : this.find(`e ${e.id}`),
    );
    if (known.every((v) => v !== undefined)) return known as Val[];
    // Expressions of another shape, or a few already known: one after the other.
    const alike =
      known.every((v) => v === undefined) &&
      new Set(list).size === list.length &&
      list.every((e) => sameShape(e, first));
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
        return all((e: Of<'choose'>, i) =>
          this.choose(this.inRegister(c[i], 'bool') as Reg<'pred'>, a[i], b[i], e.carrier),
        );
      }
      case 'guarded':
        return this.guarded(list as Of<'guarded'>[]);
      case 'round': {
        const a = this.values(all((e: Of<'round'>) => e.a));
        const pairs = first.dtype === 'bf16' && !first.saturate && list.length % 2 === 0;
        if (pairs)
          return math.roundPairs(
            this.k,
            a.map((v) => this.inRegister(v, 'f32') as Reg<'f32'>),
          );
        return all((e: Of<'round'>, i) =>
          math.roundTo(this.k, e.dtype, e.saturate, this.inRegister(a[i], 'f32') as Reg<'f32'>),
        );
      }
      case 'convert': {
        const a = this.values(all((e: Of<'convert'>) => e.a));
        return all((e: Of<'convert'>, i) =>
          this.convert(this.inRegister(a[i], e.a.carrier), e.a.carrier, e.carrier),
        );
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
        return reduces.every((r) => sameLoop(r, reduces[0]))
          ? this.serial(reduces)
          : reduces.map((r) => this.serial([r])[0]);
      }
    }
  }

  private loads(list: readonly Extract<Expr, { kind: 'load' }>[]): Reg[] {
    const [{ buffer, offset }] = list;
    if (buffer.dtype === 'f12e5m6')
      return list.map((e) =>
        loadE5m6(this.k, this.context.pointer(buffer), this.indexRegister(e.offset, true) as Reg<'u64'>),
      );
    const count = vectorLength(
      list.map((e) => e.offset),
      widest(buffer.dtype),
    );
    const out: Reg[] = [];
    for (let i = 0; i < list.length; i += count) {
      const { base, offset: bytes } = this.address(
        buffer,
        count > 1 ? plus(offset, constant(i)) : list[i].offset,
      );
      out.push(...loadVector(this.k, 'global', buffer.dtype, base, bytes, count));
    }
    return out;
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

  /**
   * Computes now what expressions need that does not depend on `inner`: they are about to be used in a loop over it.
   * Only what is certain to be needed: branches stay where they are.
   */
  override prepare(list: readonly Expr[], inner: ReadonlySet<Variable>): void {
    const seen = new Set<number>();
    const outside = (vars: ReadonlySet<Variable>): boolean => {
      for (const v of vars) if (inner.has(v) || !this.bound.has(v.id)) return false;
      return true;
    };
    const visitIndex = (i: Index, b: Buffer | null): void => {
      for (const t of i.terms)
        for (const a of t.atoms) {
          if (a.kind === 'quotient' || a.kind === 'remainder' || a.kind === 'smaller')
            [a.of, a.by].forEach((x) => visitIndex(x, null));
          // A checked index stops the kernel when it is wrong, so it may be read only where it is needed.
          else if (a.kind === 'value') visit(a.value);
        }
      const known = termsOf(i, (t) => outside(this.pool.freeOfIndex(t)));
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

  /** Stores values to a buffer, neighbours together. The offsets belong to expressions that are emitted in step. */
  store(b: Buffer, offsets: readonly Index[], values: readonly Expr[]): void {
    // The store rounds: a rounding of its own before it is not needed.
    const plain = values.map((e) =>
      e.kind === 'round' &&
      e.dtype === b.dtype &&
      !(b.dtype === 'f8ue8m0' || b.dtype === 'f12e5m6') &&
      canStore(e) &&
      !this.find(`e ${e.id}`)
        ? e.a
        : e,
    );
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
      } else
        for (const [i, v] of floats.entries())
          storeE5m6(k, base, this.indexRegister(offsets[i], true) as Reg<'u64'>, v);
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
const canStore = (e: Extract<Expr, { kind: 'round' }>): boolean =>
  e.saturate === (e.dtype === 'f8e4m3' || e.dtype === 'f8e5m2');

function sameShape(a: Expr, b: Expr): boolean {
  if (a.kind !== b.kind || a.carrier !== b.carrier) return false;
  if (
    (a.kind === 'unary' && b.kind === 'unary') ||
    (a.kind === 'binary' && b.kind === 'binary') ||
    (a.kind === 'compare' && b.kind === 'compare')
  )
    return a.op === b.op;
  if (a.kind === 'load' && b.kind === 'load') return a.buffer === b.buffer;
  if (a.kind === 'round' && b.kind === 'round') return a.dtype === b.dtype && a.saturate === b.saturate;
  return true;
}

/** How many of these offsets one access can cover: consecutive, and aligned to that many elements. */
export function vectorLength(offsets: readonly Index[], most: number): number {
  const [first] = offsets;
  let run = 1;
  while (run < offsets.length && constantOf(minus(offsets[run], first)) === run) run++;
  if (run < offsets.length) return 1;
  let count = 1;
  const divisor = divisorOf(first);
  while (2 * count <= Math.min(most, run) && run % (2 * count) === 0 && divisor % (2 * count) === 0)
    count *= 2;
  return count;
}
