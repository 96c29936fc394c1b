// From a kernel function to its loop form.
import type { Function, Module } from '../module.ts';
import { indicesOf, partsOf, Pool, reducesIn, valuesIn, type Expr, type Reduce } from './expr.ts';
import type { LoopKernel, Nest, Step, Store } from './form.ts';
import { groupsOf, keysOf, planOf, sizeOver, tiny, type Group } from './groups.ts';
import {
  constant,
  minus,
  plus,
  smaller,
  times,
  variableIndex,
  zero,
  type Index,
  type Variable,
} from './indices.ts';
import { outputsOf, type Output } from './outputs.ts';
import { Pull } from './pull.ts';

class NestBuilder {
  private readonly pool: Pool;
  private readonly group: Group;
  private readonly inner = new Map<string, Variable[]>();

  constructor(group: Group, pool: Pool) {
    this.group = group;
    this.pool = pool;
  }

  build(): Nest {
    const { group } = this;
    const atRow: { over: Variable[]; store: Store }[] = [];
    const atTile: { over: Variable[]; store: Store }[] = [];
    for (const m of group.members) {
      const tiled = m.each.length > 0;
      (tiled ? atTile : atRow).push(this.store(m));
    }
    const rows = new Set(group.rows);
    const tiles = new Set([...group.rows, ...group.each]);
    const done = new Set<Reduce>();
    const all = [...atRow, ...atTile].map((s) => s.store);
    const steps: Step[] = this.reduceSteps(all, rows, done);
    steps.push(...storeSteps(atRow));
    if (atTile.length > 0) {
      const inside = this.reduceSteps(
        atTile.map((s) => s.store),
        tiles,
        done,
      );
      steps.push({ kind: 'each', over: group.each, steps: [...inside, ...storeSteps(atTile)] });
    }
    return { rows: group.rows, worker: group.worker, steps };
  }

  /** One element's store with the group's variables in place of the output's axes. */
  private store(m: Group['members'][number]): { over: Variable[]; store: Store } {
    const index = new Array<Index>(m.output.extents.length);
    const rest: { axis: number; start: Index; tile: number; extent: Index }[] = [];
    for (const [loops, variables] of [
      [m.rows, this.group.rows],
      [m.each, this.group.each],
    ] as const)
      for (const [n, l] of loops.entries()) {
        const v = variableIndex(variables[n]);
        if (l.tile === 0) index[l.axis] = v;
        else {
          const start = times(v, constant(l.tile));
          rest.push({
            axis: l.axis,
            start,
            tile: l.tile,
            extent: smaller(constant(l.tile), minus(m.output.extents[l.axis], start)),
          });
        }
      }
    for (const [axis, extent] of m.output.extents.entries())
      if (!index[axis] && !rest.some((r) => r.axis === axis))
        rest.push({ axis, start: zero, tile: 0, extent });
    rest.sort((a, b) => a.axis - b.axis);
    const over = this.innerVariables(rest.map((r) => r.extent));
    for (const [n, r] of rest.entries()) index[r.axis] = plus(r.start, variableIndex(over[n]));
    return { over, store: { ...m.output.at(index), span: m.output.span } };
  }

  /** The same extents give the same variables, so that stores share what they compute. */
  private innerVariables(extents: readonly Index[]): Variable[] {
    const key = extents.map((e) => e.key).join(' ; ');
    const known = this.inner.get(key);
    if (known) return known;
    const made = extents.map((e, i) => this.pool.variable(`i${i}`, e));
    this.inner.set(key, made);
    return made;
  }

  /** Reductions of stores that depend on `outer` only, those that others need first. */
  private within(stores: readonly Store[], outer: ReadonlySet<Variable>, done: Set<Reduce>): Reduce[] {
    const order: Reduce[] = [];
    const visit = (e: Expr): void => {
      for (const r of reducesIn(e)) {
        if (done.has(r)) continue;
        const uniform = [...this.pool.freeOf(r)].every((v) => outer.has(v));
        visit(r.value);
        if (uniform && !done.has(r) && (sizeOver(r) > tiny || this.group.worker === 'thread')) {
          done.add(r);
          order.push(r);
        }
      }
    };
    for (const s of stores) {
      visit(s.value);
      for (const v of valuesIn(s.offset)) visit(v);
    }
    return order;
  }

  private reduceSteps(stores: readonly Store[], outer: ReadonlySet<Variable>, done: Set<Reduce>): Step[] {
    return this.steps(this.within(stores, outer, done));
  }

  /** Independent reductions over equal extents share one pass. */
  private steps(order: readonly Reduce[]): Step[] {
    const passes: Reduce[][] = [];
    for (const r of order) {
      const after = passes.findLastIndex((pass) => pass.some((q) => reaches(r.value, q)));
      const at = passes.findIndex((pass, i) => i > after && keysOf(pass[0].over) === keysOf(r.over));
      if (at >= 0) passes[at].push(r);
      else passes.push([r]);
    }
    return passes.map((reduces) => ({ kind: 'reduce', reduces }));
  }
}

/** Whether an expression contains a reduction, at any depth. */
function reaches(e: Expr, target: Reduce, seen = new Set<number>()): boolean {
  if (e === target) return true;
  if (seen.has(e.id)) return false;
  seen.add(e.id);
  return (
    partsOf(e).some((p) => reaches(p, target, seen)) ||
    indicesOf(e).some((i) => valuesIn(i).some((v) => reaches(v, target, seen)))
  );
}

/** Stores over the same variables in one loop. */
function storeSteps(stores: readonly { over: Variable[]; store: Store }[]): Step[] {
  const byLoops = new Map<Variable[], Store[]>();
  for (const { over, store } of stores) byLoops.set(over, [...(byLoops.get(over) ?? []), store]);
  return [...byLoops].map(([over, list]) => ({ kind: 'store', over, stores: list }));
}

/** Results without reductions: one element per thread, results of one shape together. */
function flatNests(outputs: readonly Output[], pool: Pool): Nest[] {
  const byShape = new Map<string, Output[]>();
  for (const o of outputs) {
    const key = o.extents.map((e) => e.key).join(' ; ');
    byShape.set(key, [...(byShape.get(key) ?? []), o]);
  }
  return [...byShape.values()].map((list) => {
    const rows = list[0].extents.map((e, i) => pool.variable(`i${i}`, e));
    const index = rows.map(variableIndex);
    return {
      rows,
      worker: 'thread',
      steps: [{ kind: 'store', over: [], stores: list.map((o) => ({ ...o.at(index), span: o.span })) }],
    };
  });
}

/** The loop form of a kernel function. Throws an Error when an op of its body has none (`route`, structure ops). */
export function layOut(fn: Function, module: Module, pool = new Pool()): LoopKernel {
  const pull = new Pull(fn, module, pool);
  return layOutputs(fn.name, outputsOf(fn, pull), pool);
}

/** The loop form of some outputs, for writers that compute the rest themselves. */
export function layOutputs(name: string, outputs: readonly Output[], pool: Pool): LoopKernel {
  const { groups, flat } = groupsOf(
    outputs.map((o) => planOf(o, pool)),
    pool,
  );
  return { name, nests: [...groups.map((g) => new NestBuilder(g, pool).build()), ...flatNests(flat, pool)] };
}
