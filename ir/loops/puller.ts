// From ops to expressions, by pulling: asked for an element of a value, it follows the op that makes the value back to
// loads, by rules that pull-rules.ts and its parts hold. Views only rewrite the index; composite ops go through their
// decomposition. Whether a value that is needed in two places is computed twice is decided by whoever lays out loops.
import { round } from '../formats/index.ts';
import { FunctionBuilder, inferContext } from '../builder.ts';
import { boundOf, type Function, type Module, type Op, type Value } from '../module.ts';
import { opDefinition } from '../ops/index.ts';
import type { Dim, PositionsType, RoutingType, TensorType } from '../types.ts';
import { levelOf, scaleDType, tensorOf } from './components.ts';
import { carrierOf, type Buffer, type Expr, type Pool } from './expr.ts';
import {
  ceilQuotient,
  constant,
  linear,
  one,
  pagesOf,
  quotient,
  remainder,
  size,
  valueIndex,
  variableIndex,
  type Index,
  type Variable,
} from './indices.ts';

/** What a rule gets besides the index: one op and the way to its operands. */
export interface PullContext {
  readonly op: Op;
  /** Which of the op's results is asked for. */
  readonly result: number;
  readonly type: TensorType;
  readonly pool: Pool;
  readonly pull: Puller;
}

/** `component` is `data`, or `scale0` … of a scaled value; `index` then counts tiles. */
export type PullRule = (index: readonly Index[], component: string, context: PullContext) => Expr;

export class Puller {
  readonly fn: Function;
  readonly module: Module;
  readonly pool: Pool;
  private readonly producers = new Map<Value, { readonly op: Op; readonly result: number }>();
  private readonly memo = new Map<string, Expr>();
  private readonly ids = new Map<Value, number>();
  private readonly expanded = new Map<Op, readonly Value[]>();
  private readonly ragged: ReadonlySet<string>;
  private readonly given: ReadonlySet<Value>;
  private readonly rules: Readonly<Record<string, PullRule>>;

  constructor(
    fn: Function,
    module: Module,
    pool: Pool,
    given: ReadonlySet<Value>,
    rules: Readonly<Record<string, PullRule>>,
  ) {
    this.rules = rules;
    this.fn = fn;
    this.module = module;
    this.pool = pool;
    this.given = given;
    for (const op of fn.body) this.register(op);
    const routings = fn.arguments
      .map((a) => a.value.type)
      .filter((t): t is RoutingType => t.kind === 'routing');
    this.ragged = new Set(routings.map((t) => t.slots.name!));
  }

  private register(op: Op): void {
    for (const [result, v] of op.results.entries()) this.producers.set(v, { op, result });
  }

  /** The op that makes a value, or null for arguments and given values. */
  producer(v: Value): Op | null {
    return this.given.has(v) ? null : (this.producers.get(v)?.op ?? null);
  }

  /** Length of an axis as buffers are laid out. */
  size(d: Dim): Index {
    return d.size === null ? size(d.name!, boundOf(this.module, d)) : constant(d.size);
  }

  /** Length of an axis as loops go: of a ragged dim the rows in use, where the kernel has the routing that knows. */
  count(d: Dim): Index {
    return d.size === null && this.ragged.has(d.name!)
      ? size(d.name!, boundOf(this.module, d), true)
      : this.size(d);
  }

  sizes(dims: readonly Dim[]): Index[] {
    return dims.map((d) => this.size(d));
  }

  isRagged(d: Dim): boolean {
    return d.size === null && this.module.dims.some((x) => x.name === d.name && x.ragged !== undefined);
  }

  loop(d: Dim): Variable {
    return this.pool.variable(d.name ?? 'i', this.count(d));
  }

  /** Shape of a component as it is laid out. */
  extents(type: TensorType, component: string, of: (d: Dim) => Index = (d) => this.size(d)): Index[] {
    const level = levelOf(component);
    if (level < 0) return type.dims.map(of);
    const { tile } = type.scales[level];
    return type.dims.map((d, i) => (tile[i] === 0 ? one : ceilQuotient(of(d), tile[i])));
  }

  /** The array of a component of an argument or a result. */
  buffer(v: Value, component: string): Buffer {
    const type = tensorOf(v);
    const level = levelOf(component);
    return this.pool.buffer(v.name, component, level < 0 ? type.dtype : scaleDType(type.scales[level]));
  }

  private readonly kept = new Map<string, Expr>();

  /** One expression for every element that asks an op for the same: its loops would otherwise be new each time. */
  once(op: Op, index: readonly Index[], make: () => Expr): Expr {
    const v = op.results[0];
    const key = `${this.idOf(v)} ${index.map((i) => i.key).join(' ; ')}`;
    const made = this.kept.get(key) ?? make();
    this.kept.set(key, made);
    return made;
  }

  private idOf(v: Value): number {
    const id = this.ids.get(v) ?? this.ids.size;
    this.ids.set(v, id);
    return id;
  }

  /** An element of a value's component. */
  at(v: Value, index: readonly Index[], component = 'data'): Expr {
    const key = `${this.idOf(v)} ${component} ${index.map((i) => i.key).join(' ; ')}`;
    const known = this.memo.get(key);
    if (known) return known;
    const made = this.make(v, index, component);
    this.memo.set(key, made);
    return made;
  }

  private make(v: Value, index: readonly Index[], component: string): Expr {
    const type = tensorOf(v);
    const producer = this.given.has(v) ? undefined : this.producers.get(v);
    if (!producer) {
      if (v.source !== 'argument' && !this.given.has(v))
        throw new Error(
          `kernel @${this.fn.name} reads %${v.name}, which is neither an argument nor made here`,
        );
      return this.pool.load(this.buffer(v, component), linear(index, this.extents(type, component)));
    }
    const { op, result } = producer;
    const rule = this.rules[op.op];
    if (!rule) return this.at(this.expand(op)[result], index, component);
    return this.pool.within(op.span, () => {
      const e = rule(index, component, { op, result, type, pool: this.pool, pull: this });
      // A rule computes in f32; here the value takes its dtype. Scales and codes are made exact by their rules.
      return levelOf(component) < 0 && carrierOf(type.dtype) === 'f32' ? this.pool.round(type.dtype, e) : e;
    });
  }

  /** A composite op's results, from its decomposition. */
  private expand(op: Op): readonly Value[] {
    const known = this.expanded.get(op);
    if (known) return known;
    const definition = opDefinition(op.op);
    if (!definition.decompose) throw new Error(`kernel @${this.fn.name}: ${op.op} has no loop form`);
    const b = new FunctionBuilder(inferContext(this.module));
    b.span = op.span;
    const values = definition.decompose(
      b,
      op.operands,
      op.attributes,
      op.results.map((r) => r.type),
    );
    for (const made of b.finish({ kind: 'kernel', name: op.op, results: [] }).body) this.register(made);
    this.expanded.set(op, values);
    return values;
  }

  /** Elements of the arrays of positions: `position`, `sequence` by token, `outputs` by output. */
  positionField(at: Value, field: string, index: Index): Expr {
    return this.pool.load(this.pool.buffer(at.name, field, 'i32'), index);
  }

  /** Pages per sequence of a positions argument. */
  pages(at: Value): Index {
    return pagesOf(at.name, boundOf(this.module, (at.type as PositionsType).keys));
  }

  /** Row of a cache of `rows` rows for a position of a sequence (both i32). */
  cacheRow(at: Value, sequence: Expr, position: Expr, page: number, rows: Index): Index {
    const p = valueIndex(position, null, [0, 2 ** 31 - 1]);
    const s = valueIndex(sequence, null, [0, 2 ** 31 - 1]);
    const slot = linear([s, quotient(p, constant(page))], [one, this.pages(at)]);
    const pageIndex = this.pool.load(this.pool.buffer(at.name, 'pages', 'i32'), slot);
    const last = Math.max(0, Math.ceil(rows.high / page) - 1);
    return linear(
      [valueIndex(pageIndex, null, [0, last]), remainder(p, constant(page))],
      [one, constant(page)],
    );
  }

  /** An element of an array of a routing. */
  routingField(routing: Value, field: string, index: Index): Expr {
    return this.pool.load(this.pool.buffer(routing.name, field, field === 'weights' ? 'f32' : 'i32'), index);
  }

  /** Alignment of a ragged dim's groups. */
  alignOf(d: Dim): number {
    const ragged = this.module.dims.find((x) => x.name === d.name)?.ragged;
    if (!ragged) throw new Error(`dim ${d.name} is not ragged`);
    return ragged.align;
  }

  /** Rows per page of the cache that a positions' keys count. */
  pageOf(at: Value): number {
    const { keys } = at.type as PositionsType;
    const pages = this.module.states
      .filter((s) => s.policy === 'paged' && s.fields.some((f) => f.type.dims[0]?.name === keys.name))
      .map((s) => s.page);
    if (pages.length === 0 || pages.some((p) => p !== pages[0]))
      throw new Error(
        `kernel @${this.fn.name}: ${pages.length === 0 ? 'no' : 'more than one'} page size for the rows ${keys.name}`,
      );
    return pages[0];
  }

  /** A fresh loop over an axis and its index. */
  over(d: Dim): { variable: Variable; index: Index } {
    const variable = this.loop(d);
    return { variable, index: variableIndex(variable) };
  }

  number(value: number, type: TensorType): Expr {
    const carrier = carrierOf(type.dtype);
    return this.pool.constant(carrier === 'f32' ? round(type.dtype, value) : value, carrier);
  }
}
