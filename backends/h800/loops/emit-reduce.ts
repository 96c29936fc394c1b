// Reductions of one thread: accumulators, how values join them, and the loops that they are when nobody shares them out.
import type { Carrier, Combine, Expr, Reduce } from '../../../ir/loops/expr.ts';
import { variableIndex, type Index, type Variable } from '../../../ir/loops/indices.ts';
import type { Reg } from '../../ptx/operands.ts';
import { isWide, type Val } from './emit-index.ts';
import { classOf, numeric, Operations, typeOf } from './emit-ops.ts';

const lowest = (carrier: Carrier): number =>
  carrier === 'f32' ? -Infinity : carrier === 'i32' ? -(2 ** 31) : -Number.MAX_SAFE_INTEGER;

/** Whether two reductions are one loop: the same kind over equal extents. */
export const sameLoop = (a: Reduce, b: Reduce): boolean =>
  a.combine === b.combine &&
  a.over.length === b.over.length &&
  a.over.every((v, i) => v.extent.key === b.over[i].extent.key);

export abstract class Reducing extends Operations {
  abstract values(list: readonly Expr[]): Val[];
  abstract prepare(list: readonly Expr[], inner: ReadonlySet<Variable>): void;

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
        return [
          start(
            r.carrier,
            carrier === 'f32' ? Infinity : carrier === 'i32' ? 2 ** 31 - 1 : Number.MAX_SAFE_INTEGER,
          ),
        ];
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
  contribute(
    r: Reduce,
    items: readonly Expr[],
    accumulators: readonly (readonly Reg[])[],
    places: readonly Index[],
  ): void {
    const products = items.filter(
      (e) => e.kind === 'binary' && e.op === 'mul' && e.carrier === 'f32' && !this.find(`e ${e.id}`),
    ) as Extract<Expr, { kind: 'binary' }>[];
    if (r.combine === 'sum' && products.length === items.length) {
      // A product that is summed needs no rounding of its own.
      const a = this.values(products.map((e) => e.a));
      const b = this.values(products.map((e) => e.b));
      for (const [i, acc] of accumulators.entries())
        this.k.emit('fma', ['rn', 'f32'], [acc[0], this.inRegister(a[i], 'f32'), b[i], acc[0]]);
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
        if (alike)
          this.contribute(
            first,
            values,
            acc,
            values.map(() => place),
          );
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
}
