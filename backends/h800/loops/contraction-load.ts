// Loading tiles of a contraction's operands into shared memory.
import { partsOf, type Expr } from '../../../ir/loops/expr.ts';
import {
  constant,
  constantOf,
  plus,
  times,
  variableIndex,
  type Index,
  type Variable,
} from '../../../ir/loops/indices.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { at, type Reg } from '../../ptx/operands.ts';
import { pitch, tile, type ContractionPlan } from './contraction-plan.ts';
import type { Emitter } from './emit.ts';

/** How threads load one operand's tile: four neighbours each, along K or along rows, whichever memory runs along. */
export class TileLoad {
  /** Four elements in terms of the plan's counters. */
  readonly elements: readonly Expr[];
  private readonly plan: ContractionPlan;
  private readonly counter: Variable;
  private readonly alongK: boolean;
  /** Rows of the tile; four elements each for 256 threads make 64 rows, fewer keep the first threads busy only. */
  private readonly rows: number;
  private busy: Reg<'pred'> | null = null;
  /** This thread's k inside of a round, in the unit of its counter, and its place in the tile. */
  private own: Reg<'u32'> | null = null;
  private address: Reg<'u32'> | null = null;

  constructor(plan: ContractionPlan, side: 'a' | 'b') {
    this.plan = plan;
    this.rows = side === 'a' ? plan.tileRows : tile.n;
    const { pool } = plan;
    this.counter = plan.loadVariables[side];
    const group = variableIndex(plan.groupVariable);
    const row = variableIndex(this.counter);
    const step = (i: Index, n: number): Index => plus(times(i, constant(4)), constant(n));
    const whole = constantOf(plan.k) !== null && constantOf(plan.k)! % 4 === 0;
    const guard = (k: Index): Expr => pool.test('lt', k, plan.k);
    const along = Array.from({ length: 4 }, (_, n) =>
      plan.element(side, row, step(group, n), guard(step(group, whole ? 0 : n))),
    );
    const across = Array.from({ length: 4 }, (_, n) => plan.element(side, step(row, n), group, guard(group)));
    this.alongK = !walksRows(across);
    this.elements = this.alongK ? along : across;
  }

  /** Computes this thread's row (or group of rows) and k; `first` is the tile's first row. */
  place(k: Kernel, e: Emitter, tid: Reg<'u32'>, first: Reg<'u32'>): void {
    const [row, own, address] = k.regs('u32', 3);
    if (this.alongK) {
      // Four groups a row.
      k.shr.u32(row, tid, 2);
      k.and.b32(own, tid, 3);
      k.mul.lo.u32(address, own, 4 * 4 * pitch);
      k.mad.lo.u32(address, row, 4, address);
      k.add.u32(row, row, first);
    } else {
      // Groups of four rows, then 16 k.
      k.and.b32(row, tid, this.rows / 4 - 1);
      k.shr.u32(own, tid, Math.log2(this.rows / 4));
      k.mul.lo.u32(address, own, 4 * pitch);
      k.mad.lo.u32(address, row, 16, address);
      const quarter = k.reg('u32');
      k.shr.u32(quarter, first, 2);
      k.add.u32(row, row, quarter);
    }
    [this.own, this.address] = [own, address];
    if (this.rows < tile.n) {
      this.busy = k.reg('pred');
      k.setp.lt.u32(this.busy, tid, (this.rows * tile.k) / 4);
    }
    e.bind(this.counter, row);
    e.prepare(this.elements, new Set([this.plan.groupVariable]));
  }

  load(k: Kernel, e: Emitter, k0: Reg<'u32'>): Reg<'f32'>[] {
    return e.scoped(() => {
      const counter = k.reg('u32');
      if (this.alongK) k.shr.u32(counter, k0, 2);
      else k.mov.u32(counter, k0);
      k.add.u32(counter, counter, this.own!);
      e.bind(this.plan.groupVariable, counter);
      const values = k.regs('f32', 4);
      const fill = (): void => {
        for (const [i, v] of e.values(this.elements).entries()) k.emit('mov', ['f32'], [values[i], v]);
      };
      if (this.busy) k.branch(this.busy, 'load', fill);
      else fill();
      return values;
    });
  }

  /** Into the tile, k outermost. */
  put(k: Kernel, to: Reg<'u32'>, values: readonly Reg<'f32'>[]): void {
    const address = k.reg('u32');
    k.add.u32(address, to, this.address!);
    const store = (): void => {
      if (this.alongK) for (const [n, v] of values.entries()) k.st.shared.f32(at(address, 4 * n * pitch), v);
      else k.st.shared.v4.f32(address, values);
    };
    if (this.busy) k.when(this.busy, store);
    else store();
  }
}

/** Whether loads in neighbouring rows are neighbours in memory. */
function walksRows(elements: readonly Expr[]): boolean {
  const offsets = (e: Expr, out: Index[] = [], seen = new Set<number>()): Index[] => {
    if (seen.has(e.id)) return out;
    seen.add(e.id);
    if (e.kind === 'load' && e.buffer.dtype !== 'i32') out.push(e.offset);
    for (const p of partsOf(e)) offsets(p, out, seen);
    return out;
  };
  const [first, second] = elements.slice(0, 2).map((e) => offsets(e));
  return (
    first.length > 0 &&
    first.length === second.length &&
    first.every((o, i) => constantOf(plus(second[i], times(o, constant(-1)))) === 1)
  );
}
