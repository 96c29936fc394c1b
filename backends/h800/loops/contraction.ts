// General contractions: matmul, einsum and grouped_matmul of any dtypes, as a tiled product through shared memory with
// f32 multiply-adds. Operands are expressions, so what stands before the product (views, casts) is computed while tiles
// are loaded, and element-wise ops after it while they are stored. Slower than the tensor cores' families; always right.
import { Pool, indicesOf, reducesIn, partsOf, valuesIn, type Expr } from '../../../ir/loops/expr.ts';
import { Pull } from '../../../ir/loops/pull.ts';
import { einsumLetters } from '../../../ir/loops/pull-rules.ts';
import { tensorOf } from '../../../ir/loops/components.ts';
import {
  constant,
  constantOf,
  delinear,
  linear,
  plus,
  quotient,
  times,
  variableIndex,
  type Index,
  type Variable,
} from '../../../ir/loops/indices.ts';
import { sameDims, type Dim, type RoutingType } from '../../../ir/types.ts';
import type { Function, Module, Op, Value } from '../../../ir/module.ts';
import type { EmittedKernel, GridRule } from '../../../ir/plan.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { at, special, type Reg } from '../../ptx/operands.ts';
import { writeKernel, type KernelContext } from './context.ts';
import { forEach } from './control.ts';
import { Emitter } from './emit.ts';
import { emitNestedLoops } from './index.ts';
import { roundTo } from './math.ts';
import { extentOf } from './nests.ts';

/** Tile of the result per CTA of 256 threads, K per round, and what one thread computes. */
const tile = { m: 64, n: 64, k: 16, threads: 256, perThread: 4 } as const;
// A row of a tile in shared memory: four more than 64, so that columns do not all lie in one bank.
const pitch = tile.m + 4;

/** A contraction as C[batch, m, n] = Σ over k of A[batch, m, k] · B[batch, n, k]; each letter is a list of axes. */
interface Form {
  readonly op: Op;
  readonly batch: readonly Dim[];
  readonly m: readonly Dim[];
  readonly n: readonly Dim[];
  readonly k: readonly Dim[];
  readonly a: (batch: readonly Index[], m: readonly Index[], k: readonly Index[]) => Index[];
  readonly b: (batch: readonly Index[], n: readonly Index[], k: readonly Index[]) => Index[];
  /** Index of the result. */
  readonly c: (batch: readonly Index[], m: readonly Index[], n: readonly Index[]) => Index[];
  /** Routing of a grouped product: b has an axis of experts in front. */
  readonly routing: Value | null;
}

function formOf(op: Op): Form | null {
  const [x, w] = op.operands.map((v) => (v.type.kind === 'tensor' ? tensorOf(v).dims : []));
  switch (op.op) {
    case 'matmul': {
      const contract = Number(op.attributes.contract);
      const [m, n, k] = [x.slice(0, -contract), w.slice(0, -contract), x.slice(-contract)];
      return { op, batch: [], m, n, k, a: (_, i, z) => [...i, ...z], b: (_, j, z) => [...j, ...z], c: (_, i, j) => [...i, ...j], routing: null };
    }
    case 'grouped_matmul':
      return { op, batch: [], m: [x[0]], n: [w[1]], k: [x[1]], a: (_, i, z) => [...i, ...z], b: (_, j, z) => [...j, ...z], c: (_, i, j) => [...i, ...j], routing: op.operands[2] };
    case 'einsum':
      return einsumForm(op, x, w);
    default:
      return null;
  }
}

function einsumForm(op: Op, x: readonly Dim[], w: readonly Dim[]): Form | null {
  const { a, b, out } = einsumLetters(String(op.attributes.spec));
  const groups = {
    batch: out.filter((l) => a.includes(l) && b.includes(l)),
    m: out.filter((l) => a.includes(l) && !b.includes(l)),
    n: out.filter((l) => !a.includes(l)),
    k: a.filter((l) => b.includes(l) && !out.includes(l)),
  };
  const known = new Set(Object.values(groups).flat());
  // A letter that only one operand has is summed before the product: loops do that.
  if ([...a, ...b].some((l) => !known.has(l)) || groups.k.length === 0) return null;
  const dimOf = (l: string): Dim => (a.includes(l) ? x[a.indexOf(l)] : w[b.indexOf(l)]);
  const places = (letters: readonly string[], ...given: [readonly string[], readonly Index[]][]): Index[] => {
    const of = new Map(given.flatMap(([names, index]) => names.map((l, i) => [l, index[i]] as const)));
    return letters.map((l) => of.get(l)!);
  };
  return {
    op,
    batch: groups.batch.map(dimOf),
    m: groups.m.map(dimOf),
    n: groups.n.map(dimOf),
    k: groups.k.map(dimOf),
    a: (batch, m, k) => places(a, [groups.batch, batch], [groups.m, m], [groups.k, k]),
    b: (batch, n, k) => places(b, [groups.batch, batch], [groups.n, n], [groups.k, k]),
    c: (batch, m, n) => places(out, [groups.batch, batch], [groups.m, m], [groups.n, n]),
    routing: null,
  };
}

const isContraction = (op: Op): boolean => op.op === 'matmul' || op.op === 'einsum' || op.op === 'grouped_matmul';

/** Whether a load of `name` stands in an expression at another offset than `offset`. */
function readsElsewhere(e: Expr, name: string, offset: string, seen = new Set<number>()): boolean {
  if (seen.has(e.id)) return false;
  seen.add(e.id);
  if (e.kind === 'load' && e.buffer.value === name) return e.offset.key !== offset;
  return [...partsOf(e), ...indicesOf(e).flatMap(valuesIn)].some((p) => readsElsewhere(p, name, offset, seen));
}

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
  if (fn.results.some((r) => r.type.kind !== 'tensor' || r.type.scales.length > 0 || !sameDims(r.type.dims, dims))) return null;
  const pool = new Pool();
  const plan = new Plan(form, new Pull(fn, module, pool), new Pull(fn, module, pool, new Set([product])));
  const grid = plan.grid();
  if (!grid || !plan.fits()) return null;
  return writeKernel(fn, module, pool, { family: 'loops', threads: tile.threads, grid }, (context) => new Writer(context, plan).write());
}

/** Index space and expressions of one tiled contraction. */
class Plan {
  readonly form: Form;
  readonly pull: Pull;
  /** Sees the product as a value in memory: for what follows it. */
  readonly after: Pull;
  readonly pool: Pool;
  readonly extents: { readonly batch: Index[]; readonly m: Index[]; readonly n: Index[]; readonly k: Index[] };
  readonly batch: Index;
  readonly m: Index;
  readonly n: Index;
  readonly k: Index;
  /** Counters: the batch, a row and a column of the result, a group of four along K, a block of K, an expert. */
  readonly batchVariable: Variable;
  readonly rowVariable: Variable;
  readonly columnVariable: Variable;
  /** A row of A and of B that a thread loads, which is not the one that it computes. */
  readonly loadVariables: { readonly a: Variable; readonly b: Variable };
  readonly groupVariable: Variable;
  readonly blockVariable: Variable;
  readonly expertVariable: Variable;

  constructor(form: Form, pull: Pull, after: Pull) {
    this.form = form;
    this.pull = pull;
    this.after = after;
    this.pool = pull.pool;
    const counts = (dims: readonly Dim[]): Index[] => dims.map((d) => pull.count(d));
    this.extents = { batch: counts(form.batch), m: counts(form.m), n: counts(form.n), k: counts(form.k) };
    const product = (list: readonly Index[]): Index => list.reduce(times, constant(1));
    [this.batch, this.m, this.n, this.k] = [product(this.extents.batch), product(this.extents.m), product(this.extents.n), product(this.extents.k)];
    const variable = (name: string, extent: Index): Variable => this.pool.variable(name, extent);
    this.batchVariable = variable('batch', this.batch);
    // Tiles reach beyond the edges: these counters are compared with the true extents.
    this.rowVariable = variable('row', plus(this.m, constant(tile.m)));
    this.columnVariable = variable('column', plus(this.n, constant(tile.n)));
    this.loadVariables = { a: variable('load_row', this.rowVariable.extent), b: variable('load_column', this.columnVariable.extent) };
    this.groupVariable = variable('group', plus(this.k, constant(tile.k)));
    this.blockVariable = variable('block', plus(quotient(this.k, constant(128)), constant(1)));
    this.expertVariable = variable('expert', form.routing ? constant((form.routing.type as RoutingType).experts.size!) : constant(2));
  }

  get promoted(): boolean {
    return tensorOf(this.form.op.operands[0]).scales.length > 0;
  }

  /** Blocks along rows, columns and batch; null when the host cannot compute them. */
  grid(): GridRule | null {
    const [m, n, batch] = [this.m, this.n, this.batch].map(extentOf);
    if (!m || !n || !batch || this.n.high / tile.n > 65535 || this.batch.high > 65535) return null;
    return {
      axes: [
        { extent: m, per: tile.m },
        { extent: n, per: tile.n },
        { extent: batch, per: 1 },
      ],
    };
  }

  /** Whether tiles respect experts, numbers fit 31 bits, and what follows reads the product where it is. */
  fits(): boolean {
    const { form } = this;
    if (form.routing && this.pull.alignOf(form.m[0]) % tile.m !== 0) return false;
    if ([this.m, this.n, this.k].some((i) => i.high >= 2 ** 31 - 2 ** 16)) return false;
    const place = this.place();
    const offset = linear(place, this.after.sizes(tensorOf(form.op.results[0]).dims)).key;
    return this.pull.fn.results.every((r) => {
      const e = this.after.at(r, place);
      return reducesIn(e).size === 0 && !readsElsewhere(e, form.op.results[0].name, offset);
    });
  }

  /** Index of the result at the counters. */
  place(): Index[] {
    const { batch, m, n } = this.extents;
    return this.form.c(delinear(variableIndex(this.batchVariable), batch), delinear(variableIndex(this.rowVariable), m), delinear(variableIndex(this.columnVariable), n));
  }

  /** Element of an operand at a row (or column) and k, 0 beyond the edges. */
  element(side: 'a' | 'b', row: Index, k: Index, guardK: Expr): Expr {
    const { form, pool } = this;
    const batch = delinear(variableIndex(this.batchVariable), this.extents.batch);
    const places = delinear(k, this.extents.k);
    const zero = pool.constant(0, 'f32');
    if (side === 'a') {
      const inside = pool.binary('and', pool.test('lt', row, this.m), guardK);
      const value = this.pull.at(form.op.operands[0], form.a(batch, delinear(row, this.extents.m), places));
      const used = form.routing ? pool.binary('and', inside, this.pull.pool.compare('ge', this.tokenOf(row), pool.constant(0, 'i32'))) : inside;
      // Without a token the row number of `tokenOf` may be out of range as well, so the two tests nest.
      return form.routing ? pool.guarded(inside, pool.guarded(used, value, zero), zero) : pool.guarded(inside, value, zero);
    }
    const inside = pool.binary('and', pool.test('lt', row, this.n), guardK);
    const index = form.b(batch, delinear(row, this.extents.n), places);
    return pool.guarded(inside, this.pull.at(form.op.operands[1], this.withExpert(index)), zero);
  }

  private withExpert(index: readonly Index[]): Index[] {
    return this.form.routing ? [variableIndex(this.expertVariable), ...index] : [...index];
  }

  private tokenOf(row: Index): Expr {
    return this.pull.routingField(this.form.routing!, 'tokenOf', row);
  }

  /** Scale of a row of A or a column of B for the current block of K; 0 beyond the edges. */
  scale(side: 'a' | 'b', row: Index): Expr {
    const { form, pool } = this;
    const [x, w] = form.op.operands;
    const block = variableIndex(this.blockVariable);
    const zero = pool.constant(0, 'f32');
    if (side === 'a') return pool.guarded(pool.test('lt', row, this.m), this.pull.at(x, [...delinear(row, this.extents.m), block], 'scale0'), zero);
    const { tile: lengths } = tensorOf(w).scales[0];
    const rowTile = constant(lengths[lengths.length - 2]);
    const index = this.withExpert([...delinear(quotient(row, rowTile), [constant(1)]), block]);
    return pool.guarded(pool.test('lt', row, this.n), this.pull.at(w, index, 'scale0'), zero);
  }

  /** The expert of an aligned block of rows. */
  expertOf(row: Index): Expr {
    const align = constant(this.pull.alignOf(this.form.m[0]));
    return this.pull.routingField(this.form.routing!, 'expertOfBlock', quotient(row, align));
  }
}

class Writer {
  private readonly context: KernelContext;
  private readonly k: Kernel;
  private readonly e: Emitter;
  private readonly plan: Plan;

  constructor(context: KernelContext, plan: Plan) {
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
    k.shl.b32(firstRow, ctaM, Math.log2(tile.m));
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
    const count = tile.perThread;
    const acc = k.regs('f32', count * count, 'acc');
    acc.forEach((r) => k.mov.f32(r, 0));
    loads.forEach((l, i) => l.place(k, e, context.tid, i === 0 ? firstRow : firstColumn));
    const kEnd = e.indexRegister(plan.k, false) as Reg<'u32'>;
    const rows = this.rowsOf(firstRow, ty);
    const columns = this.rowsOf(firstColumn, tx);
    if (!scales) this.overK(loads, tiles, ty, tx, acc, 0, kEnd);
    else {
      const partial = k.regs('f32', count * count, 'part');
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
        for (let i = 0; i < count; i++)
          for (let j = 0; j < count; j++) {
            const n = i * count + j;
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

  /** Which 4x4 of the tile this thread computes: neighbours along n in neighbouring threads. */
  private threadPlace(): [Reg<'u32'>, Reg<'u32'>] {
    const { k, context } = this;
    const [ty, tx] = k.regs('u32', 2);
    k.shr.u32(ty, context.tid, 4);
    k.shl.b32(ty, ty, 2);
    k.and.b32(tx, context.tid, 15);
    k.shl.b32(tx, tx, 2);
    return [ty, tx];
  }

  private rowsOf(first: Reg<'u32'>, offset: Reg<'u32'>): Reg<'u32'>[] {
    const { k } = this;
    return Array.from({ length: tile.perThread }, (_, i) => {
      const r = k.reg('u32');
      k.add.u32(r, first, offset);
      if (i > 0) k.add.u32(r, r, i);
      return r;
    });
  }

  /** acc += A[rows, from … end) · B[columns, from … end)ᵀ, K in rounds through shared memory. */
  private overK(loads: readonly TileLoad[], tiles: readonly Reg<'u32'>[], ty: Reg<'u32'>, tx: Reg<'u32'>, acc: readonly Reg<'f32'>[], from: Reg<'u32'> | number, end: Reg<'u32'>): void {
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
        const [a, b] = [k.regs('f32', 4), k.regs('f32', 4)];
        k.ld.shared.v4.f32(a, at(fromA, 4 * z * pitch));
        k.ld.shared.v4.f32(b, at(fromB, 4 * z * pitch));
        for (let i = 0; i < 4; i++) for (let j = 0; j < 4; j++) k.fma.rn.f32(acc[4 * i + j], a[i], b[j], acc[4 * i + j]);
      }
    });
  }

  private store(outputs: readonly { readonly value: Value; readonly expr: Expr }[], rows: readonly Reg<'u32'>[], tx: Reg<'u32'>, firstColumn: Reg<'u32'>, acc: readonly Reg<'f32'>[]): void {
    const { k, e, plan } = this;
    const { pool } = plan;
    const product = plan.form.op.results[0];
    const dtype = tensorOf(product).dtype;
    const columnGroups = pool.variable('columns', plus(plan.n, constant(tile.n)));
    const group = k.reg('u32');
    k.add.u32(group, firstColumn, tx);
    k.shr.u32(group, group, 2);
    const copies = Array.from({ length: 4 }, (_, j) => new Map([[plan.columnVariable, plus(times(variableIndex(columnGroups), constant(4)), constant(j))]]));
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
              for (const j of list) e.setValue(pool.substitute(own, copies[j]), roundTo(k, dtype, false, acc[4 * i + j]));
              for (const o of outputs) {
                const shape = plan.after.sizes(tensorOf(o.value).dims);
                const offsets = list.map((j) => pool.substituteIndex(linear(plan.place(), shape), copies[j]));
                k.at(plan.form.op.span);
                e.store(plan.after.buffer(o.value, 'data'), offsets, list.map((j) => pool.substitute(o.expr, copies[j])));
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

/** How threads load one operand's tile: four neighbours each, along K or along rows, whichever memory runs along. */
class TileLoad {
  /** Four elements in terms of the plan's counters. */
  readonly elements: readonly Expr[];
  private readonly plan: Plan;
  private readonly counter: Variable;
  private readonly alongK: boolean;
  /** This thread's k inside of a round, in the unit of its counter, and its place in the tile. */
  private own: Reg<'u32'> | null = null;
  private address: Reg<'u32'> | null = null;

  constructor(plan: Plan, side: 'a' | 'b') {
    this.plan = plan;
    const { pool } = plan;
    this.counter = plan.loadVariables[side];
    const group = variableIndex(plan.groupVariable);
    const row = variableIndex(this.counter);
    const step = (i: Index, n: number): Index => plus(times(i, constant(4)), constant(n));
    const whole = constantOf(plan.k) !== null && constantOf(plan.k)! % 4 === 0;
    const guard = (k: Index): Expr => pool.test('lt', k, plan.k);
    const along = Array.from({ length: 4 }, (_, n) => plan.element(side, row, step(group, n), guard(step(group, whole ? 0 : n))));
    const across = Array.from({ length: 4 }, (_, n) => plan.element(side, step(row, n), group, guard(group)));
    this.alongK = !walksRows(across);
    this.elements = this.alongK ? along : across;
  }

  /** Computes this thread's row (or group of rows) and k; `first` is the tile's first row. */
  place(k: Kernel, e: Emitter, tid: Reg<'u32'>, first: Reg<'u32'>): void {
    const [row, own, address] = k.regs('u32', 3);
    if (this.alongK) {
      // 64 rows of 4 groups.
      k.shr.u32(row, tid, 2);
      k.and.b32(own, tid, 3);
      k.mul.lo.u32(address, own, 4 * 4 * pitch);
      k.mad.lo.u32(address, row, 4, address);
      k.add.u32(row, row, first);
    } else {
      // 16 k of 16 groups of rows.
      k.and.b32(row, tid, 15);
      k.shr.u32(own, tid, 4);
      k.mul.lo.u32(address, own, 4 * pitch);
      k.mad.lo.u32(address, row, 16, address);
      const quarter = k.reg('u32');
      k.shr.u32(quarter, first, 2);
      k.add.u32(row, row, quarter);
    }
    [this.own, this.address] = [own, address];
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
      return e.values(this.elements).map((v) => {
        if (typeof v !== 'number') return v as Reg<'f32'>;
        const d = k.reg('f32');
        k.mov.f32(d, v);
        return d;
      });
    });
  }

  /** Into the tile, k outermost. */
  put(k: Kernel, to: Reg<'u32'>, values: readonly Reg<'f32'>[]): void {
    const address = k.reg('u32');
    k.add.u32(address, to, this.address!);
    if (this.alongK) for (const [n, v] of values.entries()) k.st.shared.f32(at(address, 4 * n * pitch), v);
    else k.st.shared.v4.f32(address, values);
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
  return first.length > 0 && first.length === second.length && first.every((o, i) => constantOf(plus(second[i], times(o, constant(-1)))) === 1);
}
