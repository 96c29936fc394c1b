// Named dims in TypeScript's types: what the editor knows about a tensor is the list of its axes' names. Sizes are not
// here: they are known, and checked, while the model is traced.
//
// Three rules keep the editor's errors to one readable line. A checked parameter is either the right type or a
// sentence beginning with ✗; the result falls back to the left operand's axes, so that one mistake is one error; and
// composite dims (`nope+rope`, `heads*v`) live on the dim value, which keeps tensor types short.

/** The names of a tensor's axes, in order: `['tokens', 'hidden']`. */
export type Axes = readonly string[];

/** How a dim's size becomes known: written in the model, at run time, or by a routing (rows grouped by expert). */
export type DimKind = 'static' | 'symbolic' | 'ragged';

/** One named axis, made by `dim`, `sum`, `product` or `symbolic`. */
export interface Dim<N extends string = string, K extends DimKind = DimKind> {
  readonly name: N;
  readonly kind: K;
  /** Length; null when known at run time only. */
  readonly size: number | null;
}

/** Several axes laid one after the other, `sum('qk', nope, rope)`: what `split` and `concat` work on. */
export interface Sum<N extends string = string, P extends Axes = Axes> extends Dim<N, 'static'> {
  readonly parts: { readonly [I in keyof P]: Dim<P[I] & string, 'static'> };
}

/** Several axes merged row-major into one, `product('heads*v', heads, v)`: what `merge` and `unmerge` work on. */
export interface Product<N extends string = string, F extends Axes = Axes> extends Dim<N, 'static'> {
  readonly factors: { readonly [I in keyof F]: Dim<F[I] & string, 'static'> };
}

/** Names of a dim or of a list of dims. */
export type NamesOf<O> =
  O extends Dim<infer N>
    ? [N]
    : O extends readonly Dim[]
      ? { -readonly [I in keyof O]: O[I] extends Dim<infer N> ? N : never }
      : never;

/** The axes of A that B lacks. Unknown axes (`string[]`) lack nothing: dynamic names switch the checks off. */
export type Minus<A extends Axes, B extends Axes> = A extends readonly [
  infer H extends string,
  ...infer R extends Axes,
]
  ? H extends B[number]
    ? Minus<R, B>
    : [H, ...Minus<R, B>]
  : [];

export type Join<A extends Axes> = A extends readonly [infer H extends string]
  ? H
  : A extends readonly [infer H extends string, ...infer R extends Axes]
    ? `${H}, ${Join<R>}`
    : '';

export type Show<A extends Axes> = `[${Join<A>}]`;

/** A with the axis N replaced by the axes P. */
export type Replace<A extends Axes, N extends string, P extends Axes> = A extends readonly [
  infer H extends string,
  ...infer R extends Axes,
]
  ? H extends N
    ? [...P, ...R]
    : [H, ...Replace<R, N, P>]
  : A extends readonly []
    ? []
    : string[];

/** A without its axis N. */
export type Without<A extends Axes, N extends string> = Replace<A, N, []>;

/** All axes but the last. */
export type Init<A extends Axes> = A extends readonly [...infer I extends Axes, string] ? I : string[];

/** The last axis. */
export type Last<A extends Axes> = A extends readonly [...Axes, infer L extends string] ? L : string;

/** Axes of a broadcast: those of the operand that has more. */
export type Cast<A extends Axes, B extends Axes> =
  Minus<B, A> extends [] ? A : Minus<A, B> extends [] ? B : A;

/** A with the consecutive axes F merged into N. */
export type MergeAxes<A extends Axes, N extends string, F extends Axes> = A extends readonly [
  ...F,
  ...infer R extends Axes,
]
  ? [N, ...R]
  : A extends readonly [infer H extends string, ...infer R extends Axes]
    ? [H, ...MergeAxes<R, N, F>]
    : A extends readonly []
      ? []
      : string[];

/** True when the axes F stand next to each other, in this order, in A. */
type HasRun<A extends Axes, F extends Axes> = A extends readonly [...F, ...Axes]
  ? true
  : A extends readonly [string, ...infer R extends Axes]
    ? HasRun<R, F>
    : A extends readonly []
      ? false
      : true;

/** The rows that a routing over E groups: one axis per routing. */
export type Slots<E extends string> = `slots@${E}`;

/**
 * A tensor of the traced model: axes by name, a dtype, no data. Hover over one to see its axes.
 * `String(x)` gives the full type, sizes included.
 */
export interface Tensor<A extends Axes = Axes> {
  readonly axes: A;
  readonly dtype: string;
}

// Sentences. Each type below is the parameter's type: the tensor that is wanted, or why it cannot be had.

/** Right operand of an elementwise op: its axes, or the left's, must contain the other's. */
export type CastOk<Op extends string, A extends Axes, B extends Axes> =
  Minus<B, A> extends []
    ? Tensor<B>
    : Minus<A, B> extends []
      ? Tensor<B>
      : `✗ ${Op}: right ${Show<B>} has '${Join<Minus<B, A>>}', left ${Show<A>} has '${Join<Minus<A, B>>}'`;

/** A dim that must be one of the tensor's axes. */
export type AxisOk<Op extends string, A extends Axes, N extends string> =
  Minus<[N], A> extends []
    ? unknown
    : string extends A[number]
      ? unknown
      : `✗ ${Op}: ${Show<A>} has no axis '${N}'`;

/** New axes that must not repeat an axis which stays. */
export type FreshOk<Op extends string, Kept extends Axes, O> = string extends Kept[number]
  ? unknown
  : Extract<NamesOf<O>[number], Kept[number]> extends never
    ? unknown
    : `✗ ${Op}: the axis '${Extract<NamesOf<O>[number], Kept[number]>}' is there already`;

export type MergeOk<A extends Axes, F extends Axes> =
  HasRun<A, F> extends true ? unknown : `✗ merge: ${Show<A>} does not have ${Show<F>} side by side`;

/** All axes named by a transpose: the tensor's own, each once. */
export type OrderOk<A extends Axes, O> =
  Minus<A, NamesOf<O>> extends []
    ? Minus<NamesOf<O>, A> extends []
      ? unknown
      : string extends A[number]
        ? unknown
        : `✗ transpose: ${Show<A>} has no axis '${Join<Minus<NamesOf<O>, A>>}'`
    : `✗ transpose: '${Join<Minus<A, NamesOf<O>>>}' of ${Show<A>} is missing`;

/** Target axes of a broadcast: they must contain the tensor's. */
export type BroadcastOk<A extends Axes, O> =
  Minus<A, NamesOf<O>> extends []
    ? unknown
    : `✗ broadcast: '${Join<Minus<A, NamesOf<O>>>}' of ${Show<A>} is missing from the target`;

/** Result axes of an einsum: each must be an axis of an operand. */
export type EinsumOk<A extends Axes, B extends Axes, O> = string extends A[number] | B[number]
  ? unknown
  : Exclude<NamesOf<O>[number], A[number] | B[number]> extends never
    ? unknown
    : `✗ einsum: neither ${Show<A>} nor ${Show<B>} has '${Exclude<NamesOf<O>[number], A[number] | B[number]>}'`;
