// Walking expressions and the indices inside of them.
import type { Expr, Index, Reduce } from './data.ts';

/** Direct operands of an expression, without those inside of its indices. */
export function partsOf(e: Expr): readonly Expr[] {
  switch (e.kind) {
    case 'unary':
    case 'round':
    case 'convert':
      return [e.a];
    case 'binary':
    case 'compare':
      return [e.a, e.b];
    case 'choose':
    case 'guarded':
      return [e.condition, e.a, e.b];
    case 'turn':
      return [e.position];
    case 'reduce':
      return [e.value];
    default:
      return [];
  }
}

/** Indices that stand in an expression itself. */
export function indicesOf(e: Expr): readonly Index[] {
  switch (e.kind) {
    case 'index':
    case 'table':
    case 'turn':
      return [e.index];
    case 'load':
      return [e.offset];
    case 'test':
      return [e.a, e.b];
    default:
      return [];
  }
}

/** Reductions in an expression, through indices too; those inside of others only with `nested`. */
export function reducesIn(
  e: Expr,
  nested = false,
  found = new Set<Reduce>(),
  seen = new Set<number>(),
): Set<Reduce> {
  if (seen.has(e.id)) return found;
  seen.add(e.id);
  if (e.kind === 'reduce') {
    found.add(e);
    if (!nested) return found;
  }
  for (const part of partsOf(e)) reducesIn(part, nested, found, seen);
  for (const i of indicesOf(e)) for (const value of valuesIn(i)) reducesIn(value, nested, found, seen);
  return found;
}

/** Computed integers in an index. */
export function valuesIn(i: Index): Expr[] {
  const out: Expr[] = [];
  for (const t of i.terms)
    for (const a of t.atoms) {
      if (a.kind === 'value') out.push(a.value, ...(a.below ? valuesIn(a.below) : []));
      else if (a.kind === 'quotient' || a.kind === 'remainder' || a.kind === 'smaller')
        out.push(...valuesIn(a.of), ...valuesIn(a.by));
    }
  return out;
}
