// How many neighbouring elements one thread takes at a time: as many as make its loads and stores 16 bytes wide, where
// alignment allows it and the unrolled expression stays small.
import { indicesOf, partsOf, valuesIn, type Buffer, type Expr, type Pool } from '../../../ir/loops/expr.ts';
import {
  constant,
  constantOf,
  delinear,
  divisorOf,
  minus,
  one,
  plus,
  quotient,
  smaller,
  times,
  variableIndex,
  type Index,
  type Variable,
} from '../../../ir/loops/indices.ts';
import { widest } from './memory.ts';

/** A value that is stored or reduced in a loop, and where it goes. */
export interface Target {
  readonly value: Expr;
  readonly buffer: Buffer | null;
  readonly offset: Index | null;
}

/** Loops joined into one that counts groups of `width` neighbours. */
export interface Flat {
  /** Counts groups; null when there is nothing to loop over. */
  readonly variable: Variable | null;
  readonly width: number;
  /** Variable → index, for each of the `width` neighbours. */
  readonly copies: readonly ReadonlyMap<Variable, Index>[];
}

/** Roughly how many instructions an expression is, apart from its operands. */
function weightOf(e: Expr): number {
  switch (e.kind) {
    case 'turn':
      return 30;
    case 'unary':
      return e.op === 'sin' || e.op === 'cos' || e.op === 'tanh'
        ? 25
        : e.op === 'exp' || e.op === 'silu' || e.op === 'sigmoid'
          ? 8
          : 2;
    case 'binary':
      return e.op === 'pow' || e.op === 'div' ? 12 : 1;
    case 'round':
      return e.dtype === 'f12e5m6' ? 20 : 3;
    case 'reduce':
      return 40;
    case 'constant':
      return 0;
    default:
      return 1;
  }
}

/** Expressions that depend on a variable, each once. */
function* dependent(
  list: readonly Expr[],
  v: Variable,
  pool: Pool,
  seen = new Set<number>(),
): Generator<Expr> {
  for (const e of list) {
    if (seen.has(e.id)) continue;
    seen.add(e.id);
    if (!pool.freeOf(e).has(v)) continue;
    yield e;
    yield* dependent(partsOf(e), v, pool, seen);
    for (const i of indicesOf(e)) yield* dependent(valuesIn(i), v, pool, seen);
  }
}

/** i / by when every value of i is a multiple of `by`, else null. */
function divideExactly(i: Index, by: number): Index | null {
  const [t] = i.terms;
  if (
    i.constant === 0 &&
    i.terms.length === 1 &&
    t.factor === 1 &&
    t.atoms.length === 1 &&
    t.atoms[0].kind === 'smaller'
  ) {
    const [a, b] = [divideExactly(t.atoms[0].of, by), divideExactly(t.atoms[0].by, by)];
    return a && b && smaller(a, b);
  }
  return divisorOf(i) % by === 0 ? quotient(i, constant(by)) : null;
}

/** Whether some access runs along groups of `width` neighbours, aligned. */
function pays(targets: readonly Target[], variable: Variable, width: number, pool: Pool): boolean {
  const group = pool.variable('g', one);
  const base = times(constant(width), variableIndex({ ...group, extent: constant(2 ** 20) }));
  const aligned = (b: Buffer, offset: Index): boolean => {
    const [first, second] = [0, 1].map((n) =>
      pool.substituteIndex(offset, new Map([[variable, plus(base, constant(n))]])),
    );
    const least = Math.min(width, b.dtype === 'f12e5m6' ? 8 : widest(b.dtype));
    return least > 1 && constantOf(minus(second, first)) === 1 && divisorOf(first) % least === 0;
  };
  if (targets.some((t) => t.buffer && t.offset && aligned(t.buffer, t.offset))) return true;
  for (const e of dependent(
    targets.map((t) => t.value),
    variable,
    pool,
  ))
    if (e.kind === 'load' && aligned(e.buffer, e.offset)) return true;
  return false;
}

/**
 * Joins loops into one. `shared`: threads that share the loop out, so that a short loop is not cut into groups that
 * leave most of them idle; 0 when there is always enough to do.
 */
export function flatten(
  over: readonly Variable[],
  targets: readonly Target[],
  pool: Pool,
  shared: number,
): Flat {
  if (over.length === 0) return { variable: null, width: 1, copies: [new Map()] };
  const last = over[over.length - 1];
  const weight = [
    ...dependent(
      targets.map((t) => t.value),
      last,
      pool,
    ),
  ].reduce((n, e) => n + weightOf(e), targets.length);
  const count = over.reduce((n, v) => n * Math.max(1, v.extent.high), 1);
  let width = 1;
  let groups = last.extent;
  for (const w of [8, 4, 2]) {
    if (w * weight > 600 || (shared > 0 && count / w < shared)) continue;
    const divided = divideExactly(last.extent, w);
    if (!divided || !pays(targets, last, w, pool)) continue;
    [width, groups] = [w, divided];
    break;
  }
  const extents = [...over.slice(0, -1).map((v) => v.extent), groups];
  const variable = pool.variable(over.map((v) => v.name).join('_'), extents.reduce(times));
  const at = delinear(variableIndex(variable), extents);
  const copies = Array.from(
    { length: width },
    (_, n) =>
      new Map(
        over.map((v, i) => [
          v,
          i < over.length - 1 ? at[i] : plus(times(at[i], constant(width)), constant(n)),
        ]),
      ),
  );
  return { variable, width, copies };
}
