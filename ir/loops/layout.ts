// From a kernel function to its loop form: which axes are rows, who works on them, what is reduced together, and which
// results share a pass over memory. The choice is about speed only: every choice computes the same values.
import type { Function, Module, Op, Value } from '../module.ts';
import type { Span } from '../span.ts';
import type { StateDeclaration } from '../module.ts';
import { componentsOf, fieldComponent, levelOf, scaleDType, tensorOf } from './components.ts';
import { indicesOf, reducesIn, partsOf, valuesIn, Pool, type Buffer, type Expr, type Reduce } from './expr.ts';
import type { LoopKernel, Nest, Step, Store, Worker } from './form.ts';
import { ceilQuotient, constant, linear, minus, plus, smaller, times, variableIndex, zero, type Index, type Variable } from './indices.ts';
import { Pull } from './pull.ts';

/** One array that the kernel writes: its elements run over `extents`. */
export interface Output {
  readonly extents: readonly Index[];
  readonly span: Span;
  /** What to store where, for one element. */
  at(index: readonly Index[]): { readonly buffer: Buffer; readonly offset: Index; readonly value: Expr };
}

/** Reductions up to this long are a loop in one thread: sharing them out would cost more than it saves. */
const tiny = 16;
/** Longer ones are a CTA's work. */
const warpLong = 2048;
/** Fewer rows than this do not keep the machine busy with a thread each. */
const enoughThreads = 8192;

/** An axis of an output as a loop: the whole axis, or its tiles of `tile`. */
interface AxisLoop {
  readonly axis: number;
  readonly tile: number;
  readonly extent: Index;
}

interface Plan {
  readonly output: Output;
  readonly rows: readonly AxisLoop[];
  readonly each: readonly AxisLoop[];
  readonly worker: Worker | null;
}

/** Everything a kernel function writes: components of its results, and rows appended to caches. */
export function outputsOf(fn: Function, pull: Pull): Output[] {
  const producers = new Map<Value, Op>(fn.body.flatMap((op) => op.results.map((r) => [r, op] as const)));
  const results = fn.results.flatMap((v) => outputsOfValue(v, producers.get(v)?.span ?? fn.span, pull));
  const finals = fn.finals.flatMap((v) => {
    const appends: Output[] = [];
    // A state argument may pass through several appends, of which each writes other rows.
    for (let op = producers.get(v); op; op = producers.get(op.operands[0])) appends.unshift(...appendOutputs(op, pull));
    return appends;
  });
  return [...results, ...finals];
}

function outputsOfValue(v: Value, span: Span, pull: Pull): Output[] {
  if (v.type.kind === 'state') return [];
  const type = tensorOf(v);
  return componentsOf(type).map((component) => {
    const shape = pull.extents(type, component);
    return {
      extents: pull.extents(type, component, (d) => pull.count(d)),
      span,
      at: (index) => ({ buffer: pull.buffer(v, component), offset: linear(index, shape), value: pull.at(v, index, component) }),
    };
  });
}

/** The state argument behind a chain of appends. */
function stateArgument(fn: Function, v: Value): Value {
  const op = fn.body.find((o) => o.results.includes(v));
  return op ? stateArgument(fn, op.operands[0]) : v;
}

function appendOutputs(op: Op, pull: Pull): Output[] {
  if (op.op !== 'cache_append') throw new Error(`kernel @${pull.fn.name}: ${op.op} has no loop form`);
  const [state, at, ...values] = op.operands;
  const declared = declarationOf(state, pull.module);
  const target = stateArgument(pull.fn, state);
  return values.flatMap((v, n) => {
    const field = declared.fields[n];
    return componentsOf(tensorOf(v)).map((component): Output => {
      const level = levelOf(component);
      const dtype = level < 0 ? field.type.dtype : scaleDType(field.type.scales[level]);
      const shape = pull.extents(field.type, component);
      return {
        extents: pull.extents(tensorOf(v), component, (d) => pull.count(d)),
        span: op.span,
        at: (index) => {
          const [sequence, position] = ['sequence', 'position'].map((f) => pull.positionField(at, f, index[0]));
          const row = pull.cacheRow(at, sequence, position, declared.page, shape[0]);
          return {
            buffer: pull.pool.buffer(target.name, fieldComponent(field.name, component), dtype),
            offset: linear([row, ...index.slice(1)], shape),
            value: pull.at(v, index, component),
          };
        },
      };
    });
  });
}

function declarationOf(state: Value, module: Module): StateDeclaration {
  const name = state.type.kind === 'state' ? state.type.state : null;
  const found = module.states.find((s) => s.name === name);
  if (!found) throw new Error(`no state ${name} is declared`);
  return found;
}

// --- the shape of one output's loops ---

const sizeOver = (r: Reduce): number => r.over.reduce((n, v) => n * v.extent.high, 1);

/** Variables along which some load in a reduction's loop walks memory element by element. */
function unitStrides(e: Expr, r: Reduce, pool: Pool, found = new Set<Variable>(), seen = new Set<number>()): Set<Variable> {
  if (seen.has(e.id)) return found;
  seen.add(e.id);
  if (e.kind === 'load' && r.over.some((v) => pool.freeOf(e).has(v)))
    for (const t of e.offset.terms) {
      const [a] = t.atoms;
      if (t.factor !== 1 || t.atoms.length !== 1) continue;
      if (a.kind === 'variable') found.add(a.variable);
      else if (a.kind === 'remainder') for (const u of a.of.terms) if (u.factor === 1 && u.atoms.length === 1 && u.atoms[0].kind === 'variable') found.add(u.atoms[0].variable);
    }
  for (const part of partsOf(e)) unitStrides(part, r, pool, found, seen);
  for (const i of indicesOf(e)) for (const v of valuesIn(i)) unitStrides(v, r, pool, found, seen);
  return found;
}

/** How an axis' variable occurs in a reduction: not at all, in quotients by one number only, or otherwise. */
function occurrence(e: Expr, v: Variable, seen = new Map<number, Set<number>>()): Set<number> {
  const known = seen.get(e.id);
  if (known) return known;
  const out = new Set<number>();
  seen.set(e.id, out);
  const inIndex = (i: Index): void => {
    for (const t of i.terms)
      for (const a of t.atoms) {
        if (a.kind === 'variable' && a.variable === v) out.add(1);
        else if (a.kind === 'quotient' && a.of.key === variableIndex(v).key && a.by.terms.length === 0) out.add(a.by.constant);
        else if (a.kind === 'quotient' || a.kind === 'remainder' || a.kind === 'smaller') [a.of, a.by].forEach(inIndex);
        else if (a.kind === 'value') for (const d of occurrence(a.value, v, seen)) out.add(d);
      }
  };
  for (const part of partsOf(e)) for (const d of occurrence(part, v, seen)) out.add(d);
  indicesOf(e).forEach(inIndex);
  if (e.kind === 'reduce') for (const w of e.over) inIndex(w.extent);
  return out;
}

const product = (loops: readonly { readonly extent: Index }[]): number => loops.reduce((n, l) => n * l.extent.high, 1);

function planOf(output: Output, pool: Pool): Plan {
  const axes = output.extents.map((extent, axis) => pool.variable(`a${axis}`, extent));
  const { value } = output.at(axes.map(variableIndex));
  // A reduction inside of another that does not depend on its loop is one of the row as well.
  const ofRow = (r: Reduce): boolean => [...pool.freeOf(r)].every((v) => axes.includes(v));
  const reduces = [...reducesIn(value, true)].filter((r) => sizeOver(r) > tiny && ofRow(r));
  if (reduces.length === 0) return { output, rows: [], each: [], worker: null };
  const tiles = axes.map((v) => {
    const found = new Set(reduces.flatMap((r) => [...occurrence(r, v)]));
    const [only] = found;
    return found.size === 1 && only > 1 ? only : 0;
  });
  const loop = (axis: number): AxisLoop => {
    const tile = tiles[axis];
    return { axis, tile, extent: tile > 0 ? ceilQuotient(output.extents[axis], tile) : output.extents[axis] };
  };
  const sets = reduces.map((r) => new Set([...pool.freeOf(r)].map((v) => axes.indexOf(v)).filter((a) => a >= 0)));
  const union = axes.map((_, a) => a).filter((a) => sets.some((s) => s.has(a)));
  const least = sets.reduce((a, b) => (b.size < a.size ? b : a));
  const nested = least.size < union.length && sets.every((s) => [...least].every((a) => s.has(a)));
  if (nested) return { output, rows: [...least].sort((a, b) => a - b).map(loop), each: union.filter((a) => !least.has(a)).map(loop), worker: 'cta' };
  const rows = union.map(loop);
  // Where memory runs along a row axis, neighbouring rows belong to neighbouring threads.
  const strides = new Set(reduces.flatMap((r) => [...unitStrides(r.value, r, pool)]));
  const along = union.some((a) => tiles[a] === 0 && strides.has(axes[a]));
  const longest = Math.max(...reduces.map(sizeOver));
  const worker = along && product(rows) >= enoughThreads ? 'thread' : longest <= warpLong ? 'warp' : 'cta';
  return { output, rows, each: [], worker };
}

// --- results that share their loops ---

interface Group {
  readonly worker: Worker;
  readonly rows: readonly Variable[];
  readonly each: readonly Variable[];
  readonly members: { readonly output: Output; readonly rows: readonly AxisLoop[]; readonly each: readonly AxisLoop[] }[];
}

const keysOf = (loops: readonly { readonly extent: Index }[]): string => loops.map((l) => l.extent.key).join(' ; ');

/** Axes of an output that can run along `loops`, in order and each used once; null when one is missing. */
function matching(output: Output, loops: readonly Variable[], tiles: readonly number[], taken: ReadonlySet<number>): AxisLoop[] | null {
  const used = new Set(taken);
  const found: AxisLoop[] = [];
  for (const [n, v] of loops.entries()) {
    const fits = (extent: Index): boolean => extent.key === v.extent.key;
    let at = output.extents.findIndex((e, a) => !used.has(a) && fits(e));
    let tile = 0;
    if (at < 0 && tiles[n] > 0) {
      tile = tiles[n];
      at = output.extents.findIndex((e, a) => !used.has(a) && fits(ceilQuotient(e, tile)));
    }
    if (at < 0) return null;
    used.add(at);
    found.push({ axis: at, tile, extent: v.extent });
  }
  return found;
}

function groupsOf(plans: readonly Plan[], pool: Pool): { groups: Group[]; flat: Output[] } {
  const groups: Group[] = [];
  const flat: Output[] = [];
  const variables = (loops: readonly AxisLoop[], name: string): Variable[] => loops.map((l, i) => pool.variable(`${name}${i}`, l.extent));
  for (const p of plans) {
    if (p.worker === null) continue;
    const same = groups.find((g) => keysOf(g.rows) === keysOf(p.rows) && (p.each.length === 0 || g.each.length === 0 || keysOf(g.each) === keysOf(p.each)) && (g.worker === 'thread') === (p.worker === 'thread'));
    if (!same) {
      groups.push({ worker: p.worker, rows: variables(p.rows, 'row'), each: variables(p.each, 'tile'), members: [{ output: p.output, rows: p.rows, each: p.each }] });
      continue;
    }
    same.members.push({ output: p.output, rows: p.rows, each: p.each });
    const wider: Group = {
      ...same,
      worker: same.worker === 'cta' || p.worker === 'cta' ? 'cta' : same.worker,
      each: same.each.length > 0 ? same.each : variables(p.each, 'tile'),
    };
    groups[groups.indexOf(same)] = wider;
  }
  for (const p of plans) {
    if (p.worker !== null) continue;
    const joined = groups.some((g) => {
      if (g.worker === 'thread') return false;
      const tilesOf = (which: 'rows' | 'each', n: number): number => Math.max(0, ...g.members.map((m) => m[which][n]?.tile ?? 0));
      const rows = matching(p.output, g.rows, g.rows.map((_, n) => tilesOf('rows', n)), new Set());
      if (!rows) return false;
      const each = matching(p.output, g.each, g.each.map((_, n) => tilesOf('each', n)), new Set(rows.map((r) => r.axis)));
      g.members.push({ output: p.output, rows, each: each ?? [] });
      return true;
    });
    if (!joined) flat.push(p.output);
  }
  return { groups, flat };
}

// --- steps ---

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
      const inside = this.reduceSteps(atTile.map((s) => s.store), tiles, done);
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
          rest.push({ axis: l.axis, start, tile: l.tile, extent: smaller(constant(l.tile), minus(m.output.extents[l.axis], start)) });
        }
      }
    for (const [axis, extent] of m.output.extents.entries())
      if (!index[axis] && !rest.some((r) => r.axis === axis)) rest.push({ axis, start: zero, tile: 0, extent });
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
  return partsOf(e).some((p) => reaches(p, target, seen)) || indicesOf(e).some((i) => valuesIn(i).some((v) => reaches(v, target, seen)));
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
    return { rows, worker: 'thread', steps: [{ kind: 'store', over: [], stores: list.map((o) => ({ ...o.at(index), span: o.span })) }] };
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
