// General contractions: matmul, einsum and grouped_matmul of any dtypes, as a tiled product through shared memory with
// f32 multiply-adds. Operands are expressions, so what stands before the product (views, casts) is computed while tiles
// are loaded, and element-wise ops after it while they are stored. Slower than the tensor cores' families; always right.
import { tensorOf } from '../../../ir/loops/components.ts';
import { indicesOf, partsOf, Pool, type Expr } from '../../../ir/loops/expr.ts';
import {
  constant,
  constantOf,
  linear,
  plus,
  times,
  variableIndex,
  type Variable,
} from '../../../ir/loops/indices.ts';
import { Pull } from '../../../ir/loops/pull.ts';
import type { Function, Module, Value } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import { sameDims } from '../../../ir/types.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { at, special, type Reg } from '../../ptx/operands.ts';
import { writeKernel, type KernelContext } from './context.ts';
import { formOf, isContraction } from './contraction-form.ts';
import { TileLoad } from './contraction-load.ts';
import { ContractionPlan, pitch, tile } from './contraction-plan.ts';
import { forEach } from './control.ts';
import { Emitter } from './emit.ts';
import { roundTo } from './math.ts';
import { emitNestedLoops } from './nested.ts';

/**
 * Writes a kernel function around one matmul, einsum or grouped_matmul whose results have the product's shape. Any
 * other function of loop ops, and shapes that the tiling does not cover, become nested loops.
 */
export function emitContraction(fn: Function, module: Module): EmittedKernel {
  return tiledContraction(fn, module) ?? emitNestedLoops(fn, module);
}

/** The tiled kernel, or null when nested loops have to do. */
function tiledContraction(fn: Function, module: Module): EmittedKernel | null {
  const [op, ...others] = fn.body.filter(isContraction);
  const form = op && others.length === 0 ? formOf(op) : null;
  if (!form || fn.finals.length > 0) return null;
  const product = op.results[0];
  const { dims } = tensorOf(product);
  if (
    fn.results.some(
      (r) => r.type.kind !== 'tensor' || r.type.scales.length > 0 || !sameDims(r.type.dims, dims),
    )
  )
    return null;
  const pool = new Pool();
  const plan = new ContractionPlan(
    form,
    new Pull(fn, module, pool),
    new Pull(fn, module, pool, new Set([product])),
  );
  const grid = plan.grid();
  if (!grid || !plan.fits()) return null;
  return writeKernel(fn, module, pool, { family: 'loops', threads: tile.threads, grid }, (context) =>
    new Writer(context, plan).write(),
  );
}

class Writer {
  private readonly context: KernelContext;
  private readonly k: Kernel;
  private readonly e: Emitter;
  private readonly plan: ContractionPlan;

  constructor(context: KernelContext, plan: ContractionPlan) {
    this.context = context;
    this.k = context.k;
    this.e = new Emitter(context);
    this.plan = plan;
  }

  write(): void {
    const { context, k, e, plan } = this;
    const loads = (['a', 'b'] as const).map((side) => new TileLoad(plan, side));
    for (const l of loads) l.elements.forEach((x) => context.declare(x));
    const [row, column] = [variableIndex(plan.rowVariable), variableIndex(plan.columnVariable)];
    const scales = plan.promoted ? { a: plan.scale('a', row), b: plan.scale('b', column) } : null;
    if (scales) [scales.a, scales.b].forEach((x) => context.declare(x));
    const expert = plan.form.routing ? plan.expertOf(row) : null;
    if (expert) context.declare(expert);
    const outputs = plan.pull.fn.results.map((r) => ({ value: r, expr: plan.after.at(r, plan.place()) }));
    for (const o of outputs) this.declareOutput(o.expr);
    for (const o of outputs) context.declareBuffer(plan.after.buffer(o.value, 'data'));
    [plan.m, plan.n, plan.k, plan.batch].forEach((i) => context.declareIndex(i));
    const tiles = [0, 1].map((i) => context.shared(i === 0 ? 'a' : 'b', 4 * tile.k * pitch));
    context.ready();
    k.at(plan.form.op.span);

    const [ctaM, ctaN, ctaZ, firstRow, firstColumn] = k.regs('u32', 5);
    k.mov.u32(ctaM, special.ctaidX);
    k.mov.u32(ctaN, special.ctaidY);
    k.mov.u32(ctaZ, special.ctaidZ);
    k.shl.b32(firstRow, ctaM, Math.log2(plan.tileRows));
    k.shl.b32(firstColumn, ctaN, Math.log2(tile.n));
    if (constantOf(plan.batch) !== 1) e.bind(plan.batchVariable, ctaZ);
    const end = k.label('end');
    if (expert) {
      // Rows beyond those in use have no expert.
      const none = k.reg('pred');
      k.emit('setp', ['ge', 'u32'], [none, firstRow, e.index(plan.m, false)]);
      k.when(none, () => k.bra(end));
      const own = e.scoped(() => {
        e.bind(plan.rowVariable, firstRow);
        return e.register(expert);
      });
      k.emit('setp', ['lt', 's32'], [none, own, 0]);
      k.when(none, () => k.bra(end));
      e.bind(plan.expertVariable, own);
    }

    const [ty, tx] = this.threadPlace();
    const rowCount = plan.tileRows / 16;
    const acc = k.regs('f32', rowCount * tile.columns, 'acc');
    acc.forEach((r) => k.mov.f32(r, 0));
    loads.forEach((l, i) => l.place(k, e, context.tid, i === 0 ? firstRow : firstColumn));
    const kEnd = e.indexRegister(plan.k, false) as Reg<'u32'>;
    const rows = this.rowsOf(firstRow, ty, rowCount);
    const columns = this.rowsOf(firstColumn, tx, tile.columns);
    if (!scales) this.overK(loads, tiles, ty, tx, acc, 0, kEnd);
    else {
      const partial = k.regs('f32', acc.length, 'part');
      const [blockEnd, block] = k.regs('u32', 2);
      k.mov.u32(block, 0);
      forEach(k, 'block', 0, kEnd, 128, (from) => {
        partial.forEach((r) => k.mov.f32(r, 0));
        k.add.u32(blockEnd, from, 128);
        k.min.u32(blockEnd, blockEnd, kEnd);
        this.overK(loads, tiles, ty, tx, partial, from, blockEnd);
        const value = (x: Expr, v: Variable, r: Reg): Reg =>
          e.scoped(() => {
            e.bind(plan.blockVariable, block);
            e.bind(v, r);
            return e.register(x);
          });
        const sa = rows.map((r) => value(scales.a, plan.rowVariable, r));
        const sb = columns.map((r) => value(scales.b, plan.columnVariable, r));
        for (let i = 0; i < rowCount; i++)
          for (let j = 0; j < tile.columns; j++) {
            const n = i * tile.columns + j;
            k.emit('mul', ['rn', 'f32'], [partial[n], partial[n], sa[i]]);
            k.emit('mul', ['rn', 'f32'], [partial[n], partial[n], sb[j]]);
            k.add.rn.f32(acc[n], acc[n], partial[n]);
          }
        k.add.u32(block, block, 1);
      });
    }
    this.store(outputs, rows, tx, firstColumn, acc);
    k.place(end);
  }

  /** Declares what an epilogue needs, but not the product itself, which is in registers. */
  private declareOutput(x: Expr): void {
    if (x.kind === 'load' && x.buffer.value === this.plan.form.op.results[0].name) return;
    if (partsOf(x).length === 0) this.context.declare(x);
    for (const part of partsOf(x)) this.declareOutput(part);
    for (const i of indicesOf(x)) this.context.declareIndex(i);
    if (x.kind === 'turn') this.context.declare(x);
  }

  /** First row and column of what this thread computes: neighbours along n in neighbouring threads. */
  private threadPlace(): [Reg<'u32'>, Reg<'u32'>] {
    const { k, context, plan } = this;
    const [ty, tx] = k.regs('u32', 2);
    k.shr.u32(ty, context.tid, 4);
    if (plan.tileRows === 64) k.shl.b32(ty, ty, 2);
    k.and.b32(tx, context.tid, 15);
    k.shl.b32(tx, tx, 2);
    return [ty, tx];
  }

  private rowsOf(first: Reg<'u32'>, offset: Reg<'u32'>, count: number): Reg<'u32'>[] {
    const { k } = this;
    return Array.from({ length: count }, (_, i) => {
      const r = k.reg('u32');
      k.add.u32(r, first, offset);
      if (i > 0) k.add.u32(r, r, i);
      return r;
    });
  }

  /** acc += A[rows, from … end) · B[columns, from … end)ᵀ, K in rounds through shared memory. */
  private overK(
    loads: readonly TileLoad[],
    tiles: readonly Reg<'u32'>[],
    ty: Reg<'u32'>,
    tx: Reg<'u32'>,
    acc: readonly Reg<'f32'>[],
    from: Reg<'u32'> | number,
    end: Reg<'u32'>,
  ): void {
    const { k, e } = this;
    const [fromA, fromB] = tiles.map((t, i) => {
      const address = k.reg('u32');
      k.mad.lo.u32(address, i === 0 ? ty : tx, 4, t);
      return address;
    });
    forEach(k, 'k', from, end, tile.k, (k0) => {
      const values = loads.map((l) => l.load(k, e, k0));
      // Everyone is done with the tiles of the round before.
      k.bar.sync(0);
      loads.forEach((l, i) => l.put(k, tiles[i], values[i]));
      k.bar.sync(0);
      for (let z = 0; z < tile.k; z++) {
        const rowCount = acc.length / tile.columns;
        const [a, b] = [k.regs('f32', rowCount), k.regs('f32', tile.columns)];
        if (rowCount === 1) k.ld.shared.f32(a[0], at(fromA, 4 * z * pitch));
        else k.ld.shared.v4.f32(a, at(fromA, 4 * z * pitch));
        k.ld.shared.v4.f32(b, at(fromB, 4 * z * pitch));
        for (let i = 0; i < rowCount; i++)
          for (let j = 0; j < 4; j++) k.fma.rn.f32(acc[4 * i + j], a[i], b[j], acc[4 * i + j]);
      }
    });
  }

  private store(
    outputs: readonly { readonly value: Value; readonly expr: Expr }[],
    rows: readonly Reg<'u32'>[],
    tx: Reg<'u32'>,
    firstColumn: Reg<'u32'>,
    acc: readonly Reg<'f32'>[],
  ): void {
    const { k, e, plan } = this;
    const { pool } = plan;
    const product = plan.form.op.results[0];
    const dtype = tensorOf(product).dtype;
    const columnGroups = pool.variable('columns', plus(plan.n, constant(tile.n)));
    const group = k.reg('u32');
    k.add.u32(group, firstColumn, tx);
    k.shr.u32(group, group, 2);
    const copies = Array.from(
      { length: 4 },
      (_, j) =>
        new Map([[plan.columnVariable, plus(times(variableIndex(columnGroups), constant(4)), constant(j))]]),
    );
    // Groups of four columns end with the axis when its length is a multiple of four; otherwise each is on its own.
    const whole = constantOf(plan.n) !== null && constantOf(plan.n)! % 4 === 0;
    const sizes = plan.after.sizes(tensorOf(product).dims);
    const own = pool.load(plan.after.buffer(product, 'data'), linear(plan.place(), sizes));
    for (const [i, row] of rows.entries()) {
      const inRow = k.reg('pred');
      k.emit('setp', ['lt', 'u32'], [inRow, row, e.index(plan.m, false)]);
      k.branch(inRow, 'row', () =>
        e.scoped(() => {
          e.bind(plan.rowVariable, row);
          e.bind(columnGroups, group);
          const put = (list: readonly number[]): void =>
            e.scoped(() => {
              for (const j of list)
                e.setValue(pool.substitute(own, copies[j]), roundTo(k, dtype, false, acc[4 * i + j]));
              for (const o of outputs) {
                const shape = plan.after.sizes(tensorOf(o.value).dims);
                const offsets = list.map((j) => pool.substituteIndex(linear(plan.place(), shape), copies[j]));
                k.at(plan.form.op.span);
                e.store(
                  plan.after.buffer(o.value, 'data'),
                  offsets,
                  list.map((j) => pool.substitute(o.expr, copies[j])),
                );
              }
            });
          for (const list of whole ? [[0, 1, 2, 3]] : [[0], [1], [2], [3]]) {
            const column = e.indexRegister(copies[list[0]].get(plan.columnVariable)!, false);
            const inside = k.reg('pred');
            k.emit('setp', ['lt', 'u32'], [inside, column, e.index(plan.n, false)]);
            k.branch(inside, 'column', () => put(list));
          }
        }),
      );
    }
  }
}
