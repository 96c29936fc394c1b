// How the lanes of a warp share out a row of elements (a head's depth or width): in chunks of up to 32 groups of
// neighbours, cut where the row comes from another place, so that every load is a plain, where possible a vector load.
import { partsOf, type Expr, type Pool } from '../../../ir/loops/expr.ts';
import {
  constant,
  minus,
  plus,
  times,
  variableIndex,
  type Index,
  type Variable,
} from '../../../ir/loops/indices.ts';
import { vectorLength } from '../loops/emit.ts';
import { widest } from '../loops/memory.ts';

/** Lane l has the elements start + width·l … start + width·(l + 1) − 1. */
export interface Chunk {
  readonly start: number;
  readonly width: number;
  /** Lanes that have elements; fewer than 32 only where `width` is 1. */
  readonly lanes: number;
}

/** The expression of element `i` of a row. */
export type RowElement = (i: Index) => Expr;

/** Lane numbers as loop variables: one for each number of lanes that take part, so that ranges are known exactly. */
export class LaneVariables {
  readonly all = new Map<number, Variable>();
  private readonly pool: Pool;

  constructor(pool: Pool) {
    this.pool = pool;
  }

  of(lanes: number): Variable {
    const known = this.all.get(lanes);
    if (known) return known;
    const made = this.pool.variable(`lane_of_${lanes}`, constant(lanes));
    this.all.set(lanes, made);
    return made;
  }

  /** The row's element `n` of a chunk that this lane has. */
  place(chunk: Chunk, n: number): Index {
    const lane = times(constant(chunk.width), variableIndex(this.of(chunk.lanes)));
    return plus(constant(chunk.start + n), lane);
  }

  /** Indices of a chunk's elements, this lane's. */
  places(chunk: Chunk): Index[] {
    return Array.from({ length: chunk.width }, (_, n) => this.place(chunk, n));
  }
}

/** Where along a row of `length` elements another operand begins: comparisons of the element's number with a constant. */
export function boundaries(element: RowElement, length: number, pool: Pool): Set<number> {
  const variable = pool.variable('element', constant(length));
  const key = variableIndex(variable).key;
  const found = new Set<number>();
  const seen = new Set<number>();
  const visit = (e: Expr): void => {
    if (seen.has(e.id)) return;
    seen.add(e.id);
    if (e.kind === 'test') {
      const d = minus(e.a, e.b);
      const [t] = d.terms;
      if (d.terms.length === 1 && t.key === key && Math.abs(t.factor) === 1) {
        // ±element + c < 0, <= 0 or = 0: where the answer changes.
        const at = -d.constant * t.factor;
        if (e.op === 'eq') found.add(at).add(at + 1);
        else found.add(at + Number((e.op === 'le') === t.factor > 0));
      }
    }
    for (const part of partsOf(e)) visit(part);
  };
  visit(element(variableIndex(variable)));
  for (const b of found) if (b <= 0 || b >= length) found.delete(b);
  return found;
}

/** Loads that make up an expression's value, in a fixed order. */
function loadsOf(e: Expr, found: Extract<Expr, { kind: 'load' }>[] = []): Extract<Expr, { kind: 'load' }>[] {
  if (e.kind === 'load') found.push(e);
  for (const part of partsOf(e)) loadsOf(part, found);
  return found;
}

/** Whether neighbours' loads join into vectors (or are one and the same). */
function isVector(copies: readonly Expr[]): boolean {
  const loads = copies.map((e) => loadsOf(e));
  const [first] = loads;
  if (first.length === 0) return false;
  return first.every((load, n) => {
    const row = loads.map((list) => list[n]);
    if (row.some((l) => l === undefined || l.buffer !== load.buffer)) return false;
    const offsets = row.map((l) => l.offset);
    if (offsets.every((o) => o.key === offsets[0].key)) return true;
    return vectorLength(offsets, widest(load.buffer.dtype)) === copies.length;
  });
}

/** Cuts a row of `length` elements. `elements`: rows that are read along it; the first one's loads decide the widths. */
export function chunksOf(
  length: number,
  elements: readonly RowElement[],
  lanes: LaneVariables,
  pool: Pool,
): Chunk[] {
  const cuts = new Set(elements.flatMap((e) => [...boundaries(e, length, pool)]));
  const ends = [...cuts, length].sort((a, b) => a - b);
  const chunks: Chunk[] = [];
  let start = 0;
  for (const end of ends)
    while (start < end) {
      const left = end - start;
      const width = [8, 4, 2].find((w) => {
        if (32 * w > left) return false;
        return isVector(lanes.places({ start, width: w, lanes: 32 }).map(elements[0]));
      });
      const chunk: Chunk = { start, width: width ?? 1, lanes: width ? 32 : Math.min(32, left) };
      chunks.push(chunk);
      start += chunk.width * chunk.lanes;
    }
  return chunks;
}
