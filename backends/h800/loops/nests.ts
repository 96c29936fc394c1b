// Loop kernels in PTX: a nest's rows over the grid, its steps over the threads of a CTA or warp.
import { storesOf, type LoopKernel, type Nest, type Step, type Store } from '../../../ir/loops/form.ts';
import type { Expr, Pool, Reduce } from '../../../ir/loops/expr.ts';
import {
  constant,
  delinear,
  times,
  variableIndex,
  type Index,
  type Variable,
} from '../../../ir/loops/indices.ts';
import type { Extent, GridRule } from '../../../ir/plan.ts';
import { special, type Reg } from '../../ptx/operands.ts';
import { reduceBytes, reduceCta, reduceWarp } from './collectives.ts';
import { multiprocessors, type KernelContext } from './context.ts';
import { Emitter } from './emit.ts';
import { flatten, type Flat, type Target } from './vector.ts';

/** CTAs of a launch whose work is not a multiple of a run-time dim, or not known to the host: a few full waves. */
const persistent = 16 * multiprocessors;

/** An index as what the host can compute, with `used` rows counted as all; null when it is no sum of single dims. */
export function extentOf(i: Index): Extent | null {
  const terms: { dim: string; factor: number }[] = [];
  for (const t of i.terms) {
    const [a] = t.atoms;
    if (t.atoms.length !== 1 || a.kind !== 'size') return null;
    terms.push({ dim: a.dim, factor: t.factor });
  }
  return { constant: i.constant, terms };
}

const productOf = (over: readonly { readonly extent: Index }[]): Index =>
  over.reduce((n, v) => times(n, v.extent), constant(1));

/** One row of work for a thread, warp or CTA of a nest: how many there are and how they are counted. */
interface Rows {
  readonly nest: Nest;
  /** Groups of neighbouring rows for threads; null for warps and CTAs, which take one row. */
  readonly flat: Flat | null;
  readonly total: Index;
  /** Rows that one CTA takes at a time. */
  readonly perCta: number;
}

const hasUsed = (i: Index): boolean => i.terms.some((t) => t.atoms.some((a) => a.kind === 'size' && a.used));

const targetOf = (s: Store): Target => ({ value: s.value, buffer: s.buffer, offset: s.offset });

function rowsOf(nest: Nest, pool: Pool, threads: number): Rows {
  if (nest.worker !== 'thread')
    return {
      nest,
      flat: null,
      total: productOf(nest.rows),
      perCta: nest.worker === 'warp' ? threads / 32 : 1,
    };
  const reduces = nest.steps.some((s) => s.kind === 'reduce');
  const loops = nest.steps.some((s) => s.kind === 'store' && s.over.length > 0);
  // Only a plain element-wise nest is unrolled: with loops inside, neighbours would be computed one after the other.
  const targets = reduces || loops ? [] : [...storesOf(nest.steps)].map(targetOf);
  const flat = flatten(nest.rows, targets, pool, 0);
  return { nest, flat, total: flat.variable ? flat.variable.extent : constant(1), perCta: threads };
}

/** Threads per CTA: enough for the longest row that a CTA works on, 256 where threads or warps work alone. */
export function threadsFor(kernel: LoopKernel): number {
  const longest = (steps: readonly Step[]): number =>
    Math.max(
      0,
      ...steps.map((s) => {
        if (s.kind === 'each') return 32 * productOf(s.over).high;
        if (s.kind === 'reduce') return productOf(s.reduces[0].over).high;
        return productOf(s.over).high;
      }),
    );
  const rows = kernel.nests.filter((n) => n.worker === 'cta').map((n) => longest(n.steps));
  if (rows.length === 0) return 256;
  const most = Math.max(...rows);
  return most > 32768 ? 1024 : most > 16384 ? 512 : most > 2048 ? 256 : 128;
}

export interface NestPlan {
  readonly threads: number;
  readonly grid: GridRule;
  readonly emit: (context: KernelContext) => void;
}

/** Plans the launch of a loop kernel, and how to write it. */
export function planNests(kernel: LoopKernel, pool: Pool): NestPlan {
  const threads = threadsFor(kernel);
  const rows = kernel.nests.map((n) => rowsOf(n, pool, threads));
  return { threads, grid: gridOf(rows), emit: (context) => emitNests(rows, context) };
}

/** The grid of the nest with the most CTAs; every nest loops over what its CTAs leave. */
function gridOf(all: readonly Rows[]): GridRule {
  const rules = all.map(({ total, perCta }) => {
    const extent = extentOf(total);
    const rule: GridRule = { axes: [{ extent: extent ?? { constant: total.high, terms: [] }, per: perCta }] };
    return { ctas: total.high / perCta, rule, bounded: !extent || hasUsed(total) };
  });
  const most = rules.reduce((a, b) => (b.ctas > a.ctas ? b : a));
  // Rows that may turn out not to be in use, and element-wise work beyond a few waves, are cheaper as rounds of a loop.
  const capped = most.bounded || all.some((r) => r.flat !== null);
  return { ...most.rule, atMost: capped ? persistent : 2 ** 31 - 1 };
}

function emitNests(rows: readonly Rows[], context: KernelContext): void {
  const nests = rows.map((r) => r.nest);
  for (const nest of nests) declareNest(nest, context);
  const reduces = nests
    .filter((n) => n.worker === 'cta')
    .flatMap((n) => n.steps.flatMap((s) => (s.kind === 'reduce' ? [reduceBytes(s.reduces)] : [])));
  const shared =
    reduces.length > 0 && context.threads > 32 ? context.shared('reduce', Math.max(...reduces)) : null;
  context.ready();
  for (const r of rows) new NestWriter(new Emitter(context), shared).write(r);
}

function declareNest(nest: Nest, context: KernelContext): void {
  const visit = (steps: readonly Step[]): void => {
    for (const s of steps) {
      if (s.kind === 'reduce') for (const r of s.reduces) context.declare(r);
      else {
        for (const v of s.over) context.declareIndex(v.extent);
        if (s.kind === 'each') visit(s.steps);
        else
          for (const store of s.stores) {
            context.declare(store.value);
            context.declareIndex(store.offset);
          }
      }
    }
  };
  for (const v of nest.rows) context.declareIndex(v.extent);
  visit(nest.steps);
  for (const s of storesOf(nest.steps)) context.declareBuffer(s.buffer);
}

export class NestWriter {
  private readonly e: Emitter;
  private readonly shared: Reg<'u32'> | null;
  /** This thread among those of the worker, and how many they are. */
  private worker: { readonly rank: Reg<'u32'>; readonly count: number };

  constructor(e: Emitter, shared: Reg<'u32'> | null) {
    this.e = e;
    this.shared = shared;
    this.worker = { rank: e.context.tid, count: e.context.threads };
  }

  /** All rows of a nest, this grid's share of them. */
  write(rows: Rows): void {
    const { e } = this;
    const { context, k } = e;
    const { nest } = rows;
    const wide = rows.total.high >= 2 ** 31 - 2 ** 20;
    const type = wide ? 'u64' : 'u32';
    const [cta, ctas] = k.regs('u32', 2);
    k.mov.u32(cta, special.ctaidX);
    k.mov.u32(ctas, special.nctaidX);
    const [row, step] = [k.reg(type), k.reg(type)];
    const scaled = (d: Reg, a: Reg, by: number): void =>
      k.emit('mul', [wide ? 'wide' : 'lo', 'u32'], [d, a, by]);
    scaled(row, cta, rows.perCta);
    scaled(step, ctas, rows.perCta);
    if (nest.worker !== 'cta') {
      let rank: Reg = context.tid;
      if (nest.worker === 'warp') {
        rank = k.reg('u32');
        k.emit('shr', ['u32'], [rank, context.tid, 5]);
        this.worker = { rank: this.lane(), count: 32 };
      }
      if (wide) {
        const long = k.reg('u64');
        k.emit('cvt', ['u64', 'u32'], [long, rank]);
        rank = long;
      }
      k.emit('add', [type], [row, row, rank]);
    }
    const total = e.index(rows.total, wide);
    k.loop('rows', ({ done }) => {
      const end = k.reg('pred');
      k.emit('setp', ['ge', type], [end, row, total]);
      k.when(end, () => k.bra(done));
      e.scoped(() => this.row(rows, row));
      k.emit('add', [type], [row, row, step]);
    });
  }

  private lane(): Reg<'u32'> {
    const lane = this.e.k.reg('u32');
    this.e.k.and.b32(lane, this.e.context.tid, 31);
    return lane;
  }

  private row({ nest, flat }: Rows, row: Reg): void {
    const { e } = this;
    if (flat) {
      if (flat.variable) e.bind(flat.variable, row);
      this.threadSteps(nest.steps, flat);
      return;
    }
    this.bindFlat(nest.rows, row);
    this.steps(nest.steps, nest.worker === 'cta');
  }

  /** Binds loops that one register counts together. */
  private bindFlat(over: readonly Variable[], counter: Reg): void {
    const { e } = this;
    if (over.length === 0) return;
    if (over.length === 1) {
      e.bind(over[0], counter);
      return;
    }
    const all = e.pool.variable('row', productOf(over));
    e.bind(all, counter);
    for (const [i, at] of delinear(
      variableIndex(all),
      over.map((v) => v.extent),
    ).entries())
      e.bind(over[i], e.indexRegister(at));
  }

  /** Steps of a nest whose rows belong to single threads: `flat.width` rows in step. */
  private threadSteps(steps: readonly Step[], flat: Flat): void {
    const { e } = this;
    const memos = flat.copies.map(() => new Map<number, Expr>());
    const copy = (x: Expr, n: number): Expr => e.pool.substitute(x, flat.copies[n], memos[n]);
    for (const s of steps) {
      if (s.kind === 'each') throw new Error('a thread has no warps to share an each with');
      if (s.kind === 'reduce') {
        // Rows with reductions are not grouped: there is one copy.
        const reduces = s.reduces.map((r) => copy(r, 0)).filter((r): r is Reduce => r.kind === 'reduce');
        const results = reduces.length > 0 ? e.serial(reduces) : [];
        for (const [i, r] of reduces.entries()) e.setValue(r, results[i]);
        continue;
      }
      const nest = (depth: number): void => {
        if (depth === s.over.length) {
          for (const store of s.stores) {
            e.k.at(store.span);
            e.store(
              store.buffer,
              flat.copies.map((c, n) => e.pool.substituteIndex(store.offset, c, memos[n])),
              flat.copies.map((_, n) => copy(store.value, n)),
            );
          }
          return;
        }
        const inner = new Set(s.over.slice(depth));
        for (const store of s.stores) {
          e.prepare([copy(store.value, 0)], inner);
          e.prepareAddress(
            store.buffer,
            e.pool.substituteIndex(store.offset, flat.copies[0], memos[0]),
            inner,
          );
        }
        const v = s.over[depth];
        const extent = e.pool.substituteIndex(v.extent, flat.copies[0], memos[0]);
        // The same variable, its extent in terms of this thread's row.
        e.countingLoop({ ...v, extent }, 'column', () => nest(depth + 1));
      };
      nest(0);
    }
  }

  /** Steps that a whole warp or CTA takes together. */
  private steps(steps: readonly Step[], cta: boolean): void {
    for (const s of steps) {
      if (s.kind === 'reduce') this.reduce(s.reduces, cta);
      else if (s.kind === 'store') this.stores(s.over, s.stores);
      else this.each(s);
    }
  }

  /** Runs `body` for this thread's share of the groups of a joined loop. */
  private share(flat: Flat, hint: string, body: () => void): void {
    const { e } = this;
    const { k } = e;
    const variable = flat.variable!;
    const extent = e.index(variable.extent, false);
    const i = k.reg('u32');
    k.mov.u32(i, this.worker.rank);
    k.loop(hint, ({ done }) => {
      const end = k.reg('pred');
      k.emit('setp', ['ge', 's32'], [end, i, extent]);
      k.when(end, () => k.bra(done));
      e.scoped(() => {
        e.bind(variable, i);
        body();
      });
      k.add.u32(i, i, this.worker.count);
    });
  }

  private reduce(reduces: readonly Reduce[], cta: boolean): void {
    const { e } = this;
    const { pool } = e;
    const [first] = reduces;
    const values = reduces.map((r) => e.alignedValue(r, first));
    const flat = flatten(
      first.over,
      values.map((value) => ({ value, buffer: null, offset: null })),
      pool,
      this.worker.count,
    );
    const memos = flat.copies.map(() => new Map<number, Expr>());
    const copies = values.map((v) => flat.copies.map((c, n) => pool.substitute(v, c, memos[n])));
    e.k.at(first.span);
    e.prepare(copies.flat(), new Set([flat.variable!]));
    const acc = reduces.map((r) => e.accumulators(r));
    // For argmax: the loop of its one axis.
    const places = flat.copies.map((c) => c.get(first.over.at(-1)!)!);
    this.share(flat, 'reduce', () => {
      // All copies of one reduction go to one accumulator, in order.
      for (const [n, r] of reduces.entries())
        e.contribute(
          r,
          copies[n],
          copies[n].map(() => acc[n]),
          places,
        );
    });
    e.k.at(first.span);
    if (cta && this.shared) reduceCta(e, reduces, acc, this.shared);
    else for (const [n, r] of reduces.entries()) reduceWarp(e, r, acc[n]);
    for (const [n, r] of reduces.entries()) e.setValue(r, acc[n][0]);
  }

  private stores(over: readonly Variable[], stores: readonly Store[]): void {
    const { e } = this;
    const { k, pool } = e;
    if (over.length === 0 || productOf(over).key === '1') {
      const first = k.reg('pred');
      // What all threads have to take part in, or have at hand anyway, is computed outside of the branch.
      e.prepare(
        stores.map((s) => s.value),
        new Set(),
      );
      k.setp.eq.u32(first, this.worker.rank, 0);
      k.branch(first, 'one', () =>
        e.scoped(() => {
          for (const s of stores) {
            k.at(s.span);
            e.store(s.buffer, [s.offset], [s.value]);
          }
        }),
      );
      return;
    }
    const flat = flatten(over, stores.map(targetOf), pool, this.worker.count);
    const memos = flat.copies.map(() => new Map<number, Expr>());
    const items = stores.map((s) => ({
      store: s,
      offsets: flat.copies.map((c, n) => pool.substituteIndex(s.offset, c, memos[n])),
      values: flat.copies.map((c, n) => pool.substitute(s.value, c, memos[n])),
    }));
    const inner = new Set([flat.variable!]);
    for (const { store, offsets, values } of items) {
      k.at(store.span);
      e.prepare(values, inner);
      e.prepareAddress(store.buffer, offsets[0], inner);
    }
    this.share(flat, 'store', () => {
      for (const { store, offsets, values } of items) {
        k.at(store.span);
        e.store(store.buffer, offsets, values);
      }
    });
  }

  /** Shares the iterations out to the CTA's warps. */
  private each({ over, steps }: Extract<Step, { kind: 'each' }>): void {
    const { e } = this;
    const { k, context } = e;
    const warp = k.reg('u32');
    k.shr.u32(warp, context.tid, 5);
    const outer = this.worker;
    this.worker = { rank: this.lane(), count: 32 };
    const inner = new Set(over);
    for (const s of steps) {
      if (s.kind === 'reduce')
        e.prepare(
          s.reduces.map((r) => r.value),
          inner,
        );
      if (s.kind === 'store')
        e.prepare(
          s.stores.map((x) => x.value),
          inner,
        );
    }
    const total = e.index(productOf(over), false);
    const i = k.reg('u32');
    k.mov.u32(i, warp);
    k.loop('each', ({ done }) => {
      const end = k.reg('pred');
      k.emit('setp', ['ge', 's32'], [end, i, total]);
      k.when(end, () => k.bra(done));
      e.scoped(() => {
        this.bindFlat(over, i);
        this.steps(steps, false);
      });
      k.add.u32(i, i, context.threads / 32);
    });
    this.worker = outer;
  }
}
