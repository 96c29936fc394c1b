// The index space of a tiled contraction, and its operands' elements and scales as expressions over the tile's counters.
import { tensorOf } from '../../../ir/loops/components.ts';
import { indicesOf, partsOf, reducesIn, valuesIn, type Expr, type Pool } from '../../../ir/loops/expr.ts';
import {
  constant,
  delinear,
  linear,
  plus,
  quotient,
  times,
  variableIndex,
  type Index,
  type Variable,
} from '../../../ir/loops/indices.ts';
import type { Pull } from '../../../ir/loops/pull.ts';
import type { GridRule } from '../../../ir/plan.ts';
import type { Dim, RoutingType } from '../../../ir/types.ts';
import type { Form } from './contraction-form.ts';
import { extentOf } from './nests.ts';

/** Columns of the result's tile per CTA of 256 threads, K per round; columns that one thread computes. */
export const tile = { n: 64, k: 16, threads: 256, columns: 4 } as const;
/** Rows of a tile: 64, four per thread; or 16, one per thread, where there are never more. */
type TileRows = 16 | 64;
// A row of a tile in shared memory: four more than 64, so that columns do not all lie in one bank.
export const pitch = tile.n + 4;

/** Whether a load of `name` stands in an expression at another offset than `offset`. */
function readsElsewhere(e: Expr, name: string, offset: string, seen = new Set<number>()): boolean {
  if (seen.has(e.id)) return false;
  seen.add(e.id);
  if (e.kind === 'load' && e.buffer.value === name) return e.offset.key !== offset;
  return [...partsOf(e), ...indicesOf(e).flatMap(valuesIn)].some((p) =>
    readsElsewhere(p, name, offset, seen),
  );
}

/** Index space and expressions of one tiled contraction. */
export class ContractionPlan {
  readonly form: Form;
  readonly pull: Pull;
  /** Sees the product as a value in memory: for what follows it. */
  readonly after: Pull;
  readonly pool: Pool;
  readonly extents: {
    readonly batch: Index[];
    readonly m: Index[];
    readonly n: Index[];
    readonly k: Index[];
  };
  readonly tileRows: TileRows;
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
    [this.batch, this.m, this.n, this.k] = [
      product(this.extents.batch),
      product(this.extents.m),
      product(this.extents.n),
      product(this.extents.k),
    ];
    this.tileRows = this.m.high <= 16 ? 16 : 64;
    const variable = (name: string, extent: Index): Variable => this.pool.variable(name, extent);
    this.batchVariable = variable('batch', this.batch);
    // Tiles reach beyond the edges: these counters are compared with the true extents.
    this.rowVariable = variable('row', plus(this.m, constant(64)));
    this.columnVariable = variable('column', plus(this.n, constant(tile.n)));
    this.loadVariables = {
      a: variable('load_row', this.rowVariable.extent),
      b: variable('load_column', this.columnVariable.extent),
    };
    this.groupVariable = variable('group', plus(this.k, constant(tile.k)));
    this.blockVariable = variable('block', plus(quotient(this.k, constant(128)), constant(1)));
    this.expertVariable = variable(
      'expert',
      form.routing ? constant((form.routing.type as RoutingType).experts.size!) : constant(2),
    );
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
        { extent: m, per: this.tileRows },
        { extent: n, per: tile.n },
        { extent: batch, per: 1 },
      ],
    };
  }

  /** Whether tiles respect experts, numbers fit 31 bits, and what follows reads the product where it is. */
  fits(): boolean {
    const { form } = this;
    if (form.routing && this.pull.alignOf(form.m[0]) % this.tileRows !== 0) return false;
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
    return this.form.c(
      delinear(variableIndex(this.batchVariable), batch),
      delinear(variableIndex(this.rowVariable), m),
      delinear(variableIndex(this.columnVariable), n),
    );
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
      return this.unlessPadding(row, inside, value);
    }
    const inside = pool.binary('and', pool.test('lt', row, this.n), guardK);
    const index = form.b(batch, delinear(row, this.extents.n), places);
    return pool.guarded(inside, this.pull.at(form.op.operands[1], this.withExpert(index)), zero);
  }

  private withExpert(index: readonly Index[]): Index[] {
    return this.form.routing ? [variableIndex(this.expertVariable), ...index] : [...index];
  }

  /** A value of a row of A where `inside` holds, 0 elsewhere and in rows that only fill up a group of a routing. */
  private unlessPadding(row: Index, inside: Expr, value: Expr): Expr {
    const { pool, form, pull } = this;
    const zero = pool.constant(0, 'f32');
    if (!form.routing) return pool.guarded(inside, value, zero);
    const token = pull.routingField(form.routing, 'tokenOf', row);
    const used = pool.binary('and', inside, pool.compare('ge', token, pool.constant(0, 'i32')));
    // Without a row its token may be out of range as well, so the two tests nest.
    return pool.guarded(inside, pool.guarded(used, value, zero), zero);
  }

  /** Scale of a row of A or a column of B for the current block of K; 0 beyond the edges. */
  scale(side: 'a' | 'b', row: Index): Expr {
    const { form, pool } = this;
    const [x, w] = form.op.operands;
    const block = variableIndex(this.blockVariable);
    const zero = pool.constant(0, 'f32');
    if (side === 'a')
      return this.unlessPadding(
        row,
        pool.test('lt', row, this.m),
        this.pull.at(x, [...delinear(row, this.extents.m), block], 'scale0'),
      );
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
