// What a matmul, einsum or grouped_matmul sums over, in one form.
import { tensorOf } from '../../../ir/loops/components.ts';
import type { Index } from '../../../ir/loops/indices.ts';
import { einsumLetters } from '../../../ir/loops/pull-sums.ts';
import type { Op, Value } from '../../../ir/module.ts';
import type { Dim } from '../../../ir/types.ts';

/** A contraction as C[batch, m, n] = Σ over k of A[batch, m, k] · B[batch, n, k]; each letter is a list of axes. */
export interface Form {
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

/** The form of a contraction; null for what sums an axis of one operand alone, which loops do, and for other ops. */
export function formOf(op: Op): Form | null {
  const [x, w] = op.operands.map((v) => (v.type.kind === 'tensor' ? tensorOf(v).dims : []));
  switch (op.op) {
    case 'matmul': {
      const contract = Number(op.attributes.contract);
      const [m, n, k] = [x.slice(0, -contract), w.slice(0, -contract), x.slice(-contract)];
      return {
        op,
        batch: [],
        m,
        n,
        k,
        a: (_, i, z) => [...i, ...z],
        b: (_, j, z) => [...j, ...z],
        c: (_, i, j) => [...i, ...j],
        routing: null,
      };
    }
    case 'grouped_matmul':
      return {
        op,
        batch: [],
        m: [x[0]],
        n: [w[1]],
        k: [x[1]],
        a: (_, i, z) => [...i, ...z],
        b: (_, j, z) => [...j, ...z],
        c: (_, i, j) => [...i, ...j],
        routing: op.operands[2],
      };
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

/** Whether an op is a sum of products that tiles can compute. */
export const isContraction = (op: Op): boolean =>
  op.op === 'matmul' || op.op === 'einsum' || op.op === 'grouped_matmul';
