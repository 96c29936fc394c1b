// Integer arithmetic over loop variables and run-time sizes, kept in a normal form: a sum of products. Offsets of
// reshaped, sliced and transposed tensors simplify by themselves here (delinearise and linearise again gives back the
// flat index), so views cost nothing in a kernel. Everything is immutable and compared by `key`.
import type { Atom, Expr, Index, Term, Variable } from './data.ts';

export type { Atom, Index, Term, Variable } from './data.ts';

const atomsKey = (atoms: readonly Atom[]): string => atoms.map((a) => a.key).join('*');

function boundsOf(term: { readonly factor: number; readonly atoms: readonly Atom[] }): [number, number] {
  let low = term.factor;
  let high = term.factor;
  for (const a of term.atoms) {
    const ends = [low * a.low, low * a.high, high * a.low, high * a.high].map((x) =>
      Number.isNaN(x) ? 0 : x,
    );
    low = Math.min(...ends);
    high = Math.max(...ends);
  }
  return [low, high];
}

function make(constant: number, terms: readonly Term[]): Index {
  let [low, high] = [constant, constant];
  for (const t of terms) {
    const [l, h] = boundsOf(t);
    low += l;
    high += h;
  }
  const key = [
    ...terms.map((t) => `${t.factor}*${t.key}`),
    ...(constant !== 0 || terms.length === 0 ? [`${constant}`] : []),
  ].join(' + ');
  return { constant, terms, key, low, high };
}

/** Sums like terms, then joins d·floor(x/d) + (x mod d) into x wherever both stand with the same cofactor. */
function normalise(constant: number, terms: Iterable<Term>): Index {
  const sums = new Map<string, Term>();
  const put = (t: Term): void => {
    const factor = (sums.get(t.key)?.factor ?? 0) + t.factor;
    if (factor === 0) sums.delete(t.key);
    else sums.set(t.key, { ...t, factor });
  };
  for (const t of terms) put(t);
  for (;;) {
    const joined = joinRemainder(sums);
    if (!joined) break;
    constant += joined.constant;
    for (const t of joined.terms) put(t);
  }
  return make(
    constant,
    [...sums.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)),
  );
}

function joinRemainder(sums: Map<string, Term>): Index | null {
  for (const t of sums.values())
    for (const [n, a] of t.atoms.entries()) {
      if (a.kind !== 'remainder') continue;
      const rest = t.atoms.filter((_, i) => i !== n);
      const cofactor = times(rest.length === 0 ? constant(1) : product(rest), constant(t.factor));
      const partner = times(times(cofactor, a.by), quotient(a.of, a.by));
      if (partner.constant !== 0 || partner.terms.length !== 1) continue;
      const other = sums.get(partner.terms[0].key);
      if (!other || other.factor !== partner.terms[0].factor) continue;
      sums.delete(t.key);
      sums.delete(other.key);
      return times(cofactor, a.of);
    }
  return null;
}

const single = (atom: Atom): Index => make(0, [{ factor: 1, atoms: [atom], key: atom.key }]);
const product = (atoms: readonly Atom[]): Index => make(0, [{ factor: 1, atoms, key: atomsKey(atoms) }]);

export const constant = (value: number): Index => make(value, []);
export const zero = constant(0);
export const one = constant(1);

/** The value of an index without variables or sizes, or null. */
export const constantOf = (i: Index): number | null => (i.terms.length === 0 ? i.constant : null);

export const variableIndex = (variable: Variable): Index =>
  constantOf(variable.extent) === 1
    ? zero
    : single({
        kind: 'variable',
        key: `v${variable.id}`,
        low: 0,
        high: Math.max(0, variable.extent.high - 1),
        variable,
      });

/** A run-time dim with its bound. */
export const size = (dim: string, bound: number, used = false): Index =>
  single({ kind: 'size', key: `${used ? 'used ' : ''}${dim}`, low: 0, high: bound, dim, used });

/** Pages per sequence of a positions argument; at most `bound`. */
export const pagesOf = (value: string, bound: number): Index =>
  single({ kind: 'pages', key: `pages(${value})`, low: 0, high: bound, value });

/** An integer expression as an index; see Atom. */
export function valueIndex(value: Expr, below: Index | null, range: readonly [number, number]): Index {
  if (value.kind === 'index') return value.index;
  if (value.kind === 'constant') return constant(value.value);
  return single({
    kind: 'value',
    key: `e${value.id}${below ? `<${below.key}` : ''}`,
    low: range[0],
    high: range[1],
    value,
    below,
  });
}

export const plus = (...of: readonly Index[]): Index =>
  normalise(
    of.reduce((n, i) => n + i.constant, 0),
    of.flatMap((i) => i.terms),
  );

export function times(a: Index, b: Index): Index {
  const terms: Term[] = [];
  const scale = (i: Index, by: number): void => {
    if (by !== 0) for (const t of i.terms) terms.push({ ...t, factor: t.factor * by });
  };
  scale(a, b.constant);
  scale(b, a.constant);
  for (const x of a.terms)
    for (const y of b.terms) {
      const atoms = [...x.atoms, ...y.atoms].sort((p, q) => (p.key < q.key ? -1 : p.key > q.key ? 1 : 0));
      terms.push({ factor: x.factor * y.factor, atoms, key: atomsKey(atoms) });
    }
  return normalise(a.constant * b.constant, terms);
}

export const minus = (a: Index, b: Index): Index => plus(a, times(b, constant(-1)));

/** The largest an index can be, as an index without variables; null when that has no simple form. */
function ceiling(i: Index): Index | null {
  let sum = constant(i.constant);
  for (const t of i.terms) {
    let part = constant(t.factor);
    for (const a of t.atoms) {
      if (a.kind === 'size' || a.kind === 'pages') part = times(part, single(a));
      else if (t.factor < 0) return null;
      else if (a.kind === 'variable') part = times(part, minus(a.variable.extent, one));
      else if (a.kind === 'remainder') part = times(part, minus(a.by, one));
      else if (Number.isFinite(a.high)) part = times(part, constant(a.high));
      else return null;
    }
    sum = plus(sum, part);
  }
  return sum;
}

/** True only when 0 <= i < limit is certain. */
export function provablyWithin(i: Index, limit: Index): boolean {
  if (i.low < 0) return false;
  if (i.high < limit.low) return true;
  const top = ceiling(i);
  return top !== null && minus(limit, plus(top, one)).low >= 0;
}

/** Splits i into by·q + r, with every term that `by` (one product, or a number) divides in q. */
function divide(i: Index, by: Index): { q: Index; r: Index } | null {
  const divisor =
    by.terms.length === 0
      ? { factor: by.constant, atoms: [] }
      : by.terms.length === 1 && by.constant === 0
        ? by.terms[0]
        : null;
  if (!divisor) return null;
  const q: Term[] = [];
  const r: Term[] = [];
  let qConstant = 0;
  for (const t of i.terms) {
    const left = [...t.atoms];
    const fits =
      t.factor % divisor.factor === 0 &&
      divisor.atoms.every((a) => {
        const at = left.findIndex((b) => b.key === a.key);
        if (at >= 0) left.splice(at, 1);
        return at >= 0;
      });
    if (!fits) r.push(t);
    else if (left.length === 0) qConstant += t.factor / divisor.factor;
    else q.push({ factor: t.factor / divisor.factor, atoms: left, key: atomsKey(left) });
  }
  let rConstant = i.constant;
  if (divisor.atoms.length === 0) {
    const whole = Math.floor(i.constant / divisor.factor);
    qConstant += whole;
    rConstant -= whole * divisor.factor;
  }
  return { q: normalise(qConstant, q), r: normalise(rConstant, r) };
}

/** floor(of / by); `by` must be positive. */
export function quotient(of: Index, by: Index): Index {
  if (constantOf(by) === 1) return of;
  const split = divide(of, by);
  if (split) {
    if (provablyWithin(split.r, by)) return split.q;
    const inner = divideFurther(split.r, by) ?? divided(split.r, by);
    return plus(split.q, inner);
  }
  return divided(of, by);
}

function divided(of: Index, by: Index): Index {
  const [c, d] = [constantOf(of), constantOf(by)];
  if (c !== null && d !== null) return constant(Math.floor(c / d));
  // floor(floor(x / a) / b) = floor(x / (a·b))
  const only =
    of.constant === 0 && of.terms.length === 1 && of.terms[0].factor === 1 && of.terms[0].atoms.length === 1
      ? of.terms[0].atoms[0]
      : null;
  if (only?.kind === 'quotient') return quotient(only.of, times(only.by, by));
  const least = Math.max(1, by.low);
  const most = Math.max(least, by.high);
  return single({
    kind: 'quotient',
    key: `(${of.key})/(${by.key})`,
    low: of.low >= 0 ? Math.floor(of.low / most) : Math.floor(of.low / least),
    high: of.high >= 0 ? Math.floor(of.high / least) : Math.floor(of.high / most),
    of,
    by,
  });
}

/** A divisor g of d, 1 < g < d, such that of = g·a + b with 0 <= b < g; or 1. */
function commonFactor(of: Index, d: number): number {
  for (const t of of.terms) {
    const g = gcd(t.factor, d);
    if (g <= 1 || g === d) continue;
    const { q, r } = divide(of, constant(g))!;
    if (q.key !== '0' && provablyWithin(r, constant(g))) return g;
  }
  return 1;
}

/** (g·a + b) / (g·c) = a / c when 0 <= b < g: removes what a common factor hides. */
function divideFurther(of: Index, by: Index): Index | null {
  const d = constantOf(by);
  const g = d === null ? 1 : commonFactor(of, d);
  return g === 1 ? null : quotient(divide(of, constant(g))!.q, constant(d! / g));
}

/** of mod by, in 0 … by − 1; `by` must be positive. */
export function remainder(of: Index, by: Index): Index {
  if (constantOf(by) === 1) return zero;
  const split = divide(of, by);
  const rest = split ? split.r : of;
  if (provablyWithin(rest, by)) return rest;
  const [c, d] = [constantOf(rest), constantOf(by)];
  if (d !== null) {
    // (g·a + b) mod (g·c) = g·(a mod c) + b when 0 <= b < g: shows that aligned parts stay aligned.
    const g = commonFactor(rest, d);
    if (g > 1) {
      const { q, r } = divide(rest, constant(g))!;
      return plus(times(constant(g), remainder(q, constant(d / g))), r);
    }
  }
  if (c !== null && d !== null) return constant(((c % d) + d) % d);
  const only =
    rest.constant === 0 &&
    rest.terms.length === 1 &&
    rest.terms[0].factor === 1 &&
    rest.terms[0].atoms.length === 1
      ? rest.terms[0].atoms[0]
      : null;
  // (x mod m) mod d = x mod d when d divides m
  if (only?.kind === 'remainder') {
    const nested = divide(only.by, by);
    if (nested && nested.r.key === '0') return remainder(only.of, by);
  }
  return single({
    kind: 'remainder',
    key: `(${rest.key})%(${by.key})`,
    low: 0,
    high: Math.max(0, by.high - 1),
    of: rest,
    by,
  });
}

/** min(a, b) */
export function smaller(a: Index, b: Index): Index {
  const difference = minus(b, a);
  if (difference.low >= 0) return a;
  if (difference.high <= 0) return b;
  return single({
    kind: 'smaller',
    key: `min(${a.key}, ${b.key})`,
    low: Math.min(a.low, b.low),
    high: Math.min(a.high, b.high),
    of: a,
    by: b,
  });
}

/** ceil(a / by) for a constant `by`. */
export const ceilQuotient = (a: Index, by: number): Index =>
  quotient(plus(a, constant(by - 1)), constant(by));

export function gcd(a: number, b: number): number {
  [a, b] = [Math.abs(a), Math.abs(b)];
  while (b !== 0) [a, b] = [b, a % b];
  return a;
}

/** Row-major position of `at` in `extents`. */
export function linear(at: readonly Index[], extents: readonly Index[]): Index {
  let sum = zero;
  for (const [i, extent] of extents.entries()) sum = plus(times(sum, extent), at[i]);
  return sum;
}

/** The inverse of `linear`: coordinates of a row-major position. */
export function delinear(position: Index, extents: readonly Index[]): Index[] {
  const out = new Array<Index>(extents.length);
  let rest = position;
  for (let i = extents.length - 1; i > 0; i--) {
    out[i] = remainder(rest, extents[i]);
    rest = quotient(rest, extents[i]);
  }
  if (extents.length > 0) out[0] = rest;
  return out;
}

/** The largest number that certainly divides the index (0 for the index 0). */
export const divisorOf = (i: Index): number =>
  i.terms.reduce((n, t) => gcd(n, t.factor), Math.abs(i.constant));

/** Rebuilds an index with other atoms; `f` gives null to keep an atom (its parts are rebuilt). */
export function mapAtoms(i: Index, f: (atom: Atom) => Index | null): Index {
  let sum = constant(i.constant);
  for (const t of i.terms) {
    let part = constant(t.factor);
    for (const a of t.atoms) part = times(part, f(a) ?? rebuilt(a, f));
    sum = plus(sum, part);
  }
  return sum;
}

function rebuilt(a: Atom, f: (atom: Atom) => Index | null): Index {
  switch (a.kind) {
    case 'quotient':
      return quotient(mapAtoms(a.of, f), mapAtoms(a.by, f));
    case 'remainder':
      return remainder(mapAtoms(a.of, f), mapAtoms(a.by, f));
    case 'smaller':
      return smaller(mapAtoms(a.of, f), mapAtoms(a.by, f));
    default:
      return single(a);
  }
}
