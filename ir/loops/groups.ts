// Which axes of a kernel's results are rows, who works on them, and which results share their loops. The choice is about
// speed only: every choice computes the same values.
import { indicesOf, partsOf, reducesIn, valuesIn, type Expr, type Pool, type Reduce } from './expr.ts';
import type { Worker } from './form.ts';
import { ceilQuotient, variableIndex, type Index, type Variable } from './indices.ts';
import type { Output } from './outputs.ts';

/** Reductions up to this long are a loop in one thread: sharing them out would cost more than it saves. */
export const tiny = 16;
/** Longer ones are a CTA's work. */
const warpLong = 2048;
/** Fewer rows than this do not keep the machine busy with a thread each. */
const enoughThreads = 8192;

/** An axis of an output as a loop: the whole axis, or its tiles of `tile`. */
export interface AxisLoop {
  readonly axis: number;
  readonly tile: number;
  readonly extent: Index;
}

export interface OutputPlan {
  readonly output: Output;
  readonly rows: readonly AxisLoop[];
  readonly each: readonly AxisLoop[];
  readonly worker: Worker | null;
}

/** Elements that a reduction joins, at most. */
export const sizeOver = (r: Reduce): number => r.over.reduce((n, v) => n * v.extent.high, 1);

/** Variables along which some load in a reduction's loop walks memory element by element. */
function unitStrides(
  e: Expr,
  r: Reduce,
  pool: Pool,
  found = new Set<Variable>(),
  seen = new Set<number>(),
): Set<Variable> {
  if (seen.has(e.id)) return found;
  seen.add(e.id);
  if (e.kind === 'load' && r.over.some((v) => pool.freeOf(e).has(v)))
    for (const t of e.offset.terms) {
      const [a] = t.atoms;
      if (t.factor !== 1 || t.atoms.length !== 1) continue;
      if (a.kind === 'variable') found.add(a.variable);
      else if (a.kind === 'remainder')
        for (const u of a.of.terms)
          if (u.factor === 1 && u.atoms.length === 1 && u.atoms[0].kind === 'variable')
            found.add(u.atoms[0].variable);
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
        else if (a.kind === 'quotient' && a.of.key === variableIndex(v).key && a.by.terms.length === 0)
          out.add(a.by.constant);
        else if (a.kind === 'quotient' || a.kind === 'remainder' || a.kind === 'smaller')
          [a.of, a.by].forEach(inIndex);
        else if (a.kind === 'value') for (const d of occurrence(a.value, v, seen)) out.add(d);
      }
  };
  for (const part of partsOf(e)) for (const d of occurrence(part, v, seen)) out.add(d);
  indicesOf(e).forEach(inIndex);
  if (e.kind === 'reduce') for (const w of e.over) inIndex(w.extent);
  return out;
}

const product = (loops: readonly { readonly extent: Index }[]): number =>
  loops.reduce((n, l) => n * l.extent.high, 1);

/** How one output wants to be computed. */
export function planOf(output: Output, pool: Pool): OutputPlan {
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
  const sets = reduces.map(
    (r) => new Set([...pool.freeOf(r)].map((v) => axes.indexOf(v)).filter((a) => a >= 0)),
  );
  const union = axes.map((_, a) => a).filter((a) => sets.some((s) => s.has(a)));
  const least = sets.reduce((a, b) => (b.size < a.size ? b : a));
  const nested = least.size < union.length && sets.every((s) => [...least].every((a) => s.has(a)));
  if (nested)
    return {
      output,
      rows: [...least].sort((a, b) => a - b).map(loop),
      each: union.filter((a) => !least.has(a)).map(loop),
      worker: 'cta',
    };
  const rows = cheapest(
    [union, ...sets.map((s) => [...s].sort((a, b) => a - b))],
    reduces.map((r, i) => ({ axes: sets[i], size: sizeOver(r) })),
    axes.map((v) => v.extent.high),
  ).map(loop);
  // Where memory runs along a row axis, neighbouring rows belong to neighbouring threads.
  const strides = new Set(reduces.flatMap((r) => [...unitStrides(r.value, r, pool)]));
  const along = union.some((a) => tiles[a] === 0 && strides.has(axes[a]));
  const longest = Math.max(...reduces.map(sizeOver));
  const worker = along && product(rows) >= enoughThreads ? 'thread' : longest <= warpLong ? 'warp' : 'cta';
  return { output, rows, each: [], worker };
}

/**
 * The axes to take as rows, the first of the cheapest. A reduction over axes that are all rows is computed once per row,
 * any other once per element: the search for a key's page must not make a row of every score of a softmax.
 */
function cheapest(
  candidates: readonly (readonly number[])[],
  reduces: readonly { readonly axes: ReadonlySet<number>; readonly size: number }[],
  extents: readonly number[],
): readonly number[] {
  const countOf = (axes: readonly number[]): number => axes.reduce((n, a) => n * extents[a], 1);
  const elements = countOf([...extents.keys()]);
  const costOf = (rows: readonly number[]): number =>
    reduces.reduce(
      (sum, r) => sum + r.size * ([...r.axes].every((a) => rows.includes(a)) ? countOf(rows) : elements),
      0,
    );
  const costs = candidates.map(costOf);
  return candidates[costs.indexOf(Math.min(...costs))];
}

/** Results that one nest computes. */
export interface Group {
  readonly worker: Worker;
  readonly rows: readonly Variable[];
  readonly each: readonly Variable[];
  readonly members: {
    readonly output: Output;
    readonly rows: readonly AxisLoop[];
    readonly each: readonly AxisLoop[];
  }[];
}

/** Equal strings for loops of equal extents. */
export const keysOf = (loops: readonly { readonly extent: Index }[]): string =>
  loops.map((l) => l.extent.key).join(' ; ');

/** Axes of an output that can run along `loops`, in order and each used once; null when one is missing. */
function matching(
  output: Output,
  loops: readonly Variable[],
  tiles: readonly number[],
  taken: ReadonlySet<number>,
): AxisLoop[] | null {
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

/** Tile lengths that a group's members cut axes into, 0 where they take whole ones. */
const tilesOf = (g: Group, which: 'rows' | 'each'): number[] =>
  g[which].map((_, n) => Math.max(0, ...g.members.map((m) => m[which][n]?.tile ?? 0)));

/** Stores that need no tiles go along with those that do, where their axes allow it: one pass over memory less. */
function tiled(g: Group): Group {
  if (g.each.length === 0) return g;
  const members = g.members.map((m) => {
    if (m.each.length > 0) return m;
    return {
      ...m,
      each: matching(m.output, g.each, tilesOf(g, 'each'), new Set(m.rows.map((r) => r.axis))) ?? [],
    };
  });
  return { ...g, members };
}

/** Groups of results with rows in common, and results without reductions that fit none. */
export function groupsOf(plans: readonly OutputPlan[], pool: Pool): { groups: Group[]; flat: Output[] } {
  const groups: Group[] = [];
  const flat: Output[] = [];
  const variables = (loops: readonly AxisLoop[], name: string): Variable[] =>
    loops.map((l, i) => pool.variable(`${name}${i}`, l.extent));
  for (const p of plans) {
    if (p.worker === null) continue;
    const same = groups.find(
      (g) =>
        keysOf(g.rows) === keysOf(p.rows) &&
        (p.each.length === 0 || g.each.length === 0 || keysOf(g.each) === keysOf(p.each)) &&
        (g.worker === 'thread') === (p.worker === 'thread'),
    );
    if (!same) {
      groups.push({
        worker: p.worker,
        rows: variables(p.rows, 'row'),
        each: variables(p.each, 'tile'),
        members: [{ output: p.output, rows: p.rows, each: p.each }],
      });
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
      const rows = matching(p.output, g.rows, tilesOf(g, 'rows'), new Set());
      if (!rows) return false;
      g.members.push({ output: p.output, rows, each: [] });
      return true;
    });
    if (!joined) flat.push(p.output);
  }
  return { groups: groups.map(tiled), flat };
}
