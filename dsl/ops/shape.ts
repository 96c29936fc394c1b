// Ops that move, cut and join axes. All work by the dims' names; none computes anything.
import type {
  Axes,
  AxisOk,
  BroadcastOk,
  Dim,
  FreshOk,
  MergeAxes,
  MergeOk,
  NamesOf,
  OrderOk,
  Product,
  Replace,
  Sum,
  Tensor,
  Without,
} from '../axes.ts';
import { showDims, toIr, typeOf, type TensorHandle } from '../tensor.ts';
import { attempt, mistake, refusePoison, tensorArg, type FunctionTrace } from '../trace.ts';
import { listed } from '../words.ts';
import { alignTo, axisOf, dimArg, dimsArg, distinct, sameSize } from './axis.ts';
import { sameDim } from '../../ir/types.ts';

const replaced = (dims: readonly Dim[], axis: number, by: readonly Dim[]): readonly Dim[] =>
  dims.toSpliced(axis, 1, ...by);

/** Puts the axes in another order: `transpose(x, [heads, tokens, nope])`. */
export function transpose<A extends Axes, const O extends readonly Dim[]>(
  x: Tensor<A>,
  order: O & OrderOk<A, O>,
): Tensor<NamesOf<O>> {
  return attempt('transpose', (t) => {
    const h = tensorArg('transpose', 'x', x);
    const dims = dimsArg('transpose', 'the order', order);
    const axes = dims.map((d) => axisOf('transpose', h, d));
    if (new Set(axes).size !== h.dims.length)
      mistake({
        code: 'dsl/bad-order',
        message: 'transpose needs every axis once',
        label: `the tensor is ${String(h)}, the order is ${showDims(dims)}`,
        fix: `name ${listed(h.axes)} in the order you want`,
      });
    return alignTo('transpose', t, h, dims) as never;
  });
}

/** Repeats x along axes that it lacks: `broadcast(ropeKey, [keys, heads, rope])`. */
export function broadcast<A extends Axes, const O extends readonly Dim[]>(
  x: Tensor<A>,
  to: O & BroadcastOk<A, O>,
): Tensor<NamesOf<O>> {
  return attempt(
    'broadcast',
    (t) => {
      const h = tensorArg('broadcast', 'x', x);
      const dims = dimsArg('broadcast', 'the target', to);
      distinct('broadcast', dims);
      const lost = h.axes.filter((n) => !dims.some((d) => d.name === n));
      if (lost.length > 0)
        mistake({
          code: 'dsl/axes-differ',
          message: `broadcast: the target lacks '${lost[0]}'`,
          label: `the tensor is ${String(h)}, the target is ${showDims(dims)}`,
          fix: `add ${listed(lost)} to the target`,
        });
      return alignTo('broadcast', t, h, dims) as never;
    },
    (t) => t.placeholder(tensorArg('broadcast', 'x', x).dtype, to as readonly Dim[]) as never,
  );
}

/** Another name for an axis of the same size. Costs nothing. */
export function rename<A extends Axes, N extends string, const M extends string>(
  x: Tensor<A>,
  from: Dim<N> & AxisOk<'rename', A, N>,
  to: Dim<M> & FreshOk<'rename', Without<A, N>, Dim<M>>,
): Tensor<Replace<A, N, [M]>> {
  return attempt('rename', (t) => {
    const h = tensorArg('rename', 'x', x);
    const axis = axisOf('rename', h, from);
    const next = dimArg('rename', 'the new dim', to);
    if (h.dims[axis].size === null)
      mistake({
        code: 'dsl/run-time-size',
        message: `rename cannot rename the run-time axis '${h.dims[axis].name}': its name is its size`,
        label: `the tensor is ${String(h)}`,
        fix: 'keep its name',
      });
    if (!sameDim({ ...toIr(h.dims[axis]), name: next.name }, toIr(next)))
      mistake({
        code: 'dsl/dim-two-sizes',
        message: `rename keeps the size, but '${h.dims[axis].name}' and '${next.name}' differ`,
        label: `${h.dims[axis].size ?? 'run-time'} and ${next.size ?? 'run-time'}`,
        fix: 'use slice, pad or reshape to change sizes',
      });
    const dims = replaced(h.dims, axis, [next]);
    distinct('rename', dims);
    // The value is the same: only what the author calls its axis changes.
    return t.handle(h.value, dims) as never;
  });
}

/** Takes a sum axis apart: `const [nope, rope] = split(q, qk)` with `qk = sum('qk', nope, rope)`. */
export function split<A extends Axes, N extends string, P extends Axes>(
  x: Tensor<A>,
  d: Sum<N, P> & AxisOk<'split', A, N>,
): { -readonly [I in keyof P]: Tensor<Replace<A, N, [P[I] & string]>> } {
  return attempt('split', (t) => {
    const h = tensorArg('split', 'x', x);
    const axis = axisOf('split', h, d);
    const parts = (d as unknown as Partial<Sum>).parts as readonly Dim[] | undefined;
    if (!parts)
      mistake({
        code: 'dsl/not-a-sum',
        message: `split: '${dimArg('split', 'the axis', d).name}' is no sum of dims`,
        label: `the tensor is ${String(h)}`,
        fix: `declare it with its parts: sum('qk', nope, rope)`,
      });
    const each = parts.map((p) => replaced(h.dims, axis, [p]));
    for (const dims of each) distinct('split', dims);
    const sizes = parts.map((p) => p.size as number);
    const values = t.op(
      'split',
      [h.value],
      { axis, sizes },
      each.map((dims) => typeOf(h.dtype, dims)),
    );
    return values.map((v, i) => t.handle(v, each[i])) as never;
  });
}

type ConcatParts<A extends Axes, P extends Axes> = {
  readonly [I in keyof P]: Tensor<Replace<A, P[0], [P[I] & string]>>;
};

/** Joins tensors along a sum axis, the parts in its order: `concat([nope, rope], qk)`. */
export function concat<A extends Axes, N extends string, P extends Axes>(
  parts: readonly [Tensor<A>, ...Tensor[]] & NoInfer<ConcatParts<A, P>>,
  d: Sum<N, P>,
): Tensor<Replace<A, P[0], [N]>> {
  return attempt('concat', (t) => {
    refusePoison(parts);
    const hs = (parts as readonly unknown[]).map((p, i) => tensorArg('concat', `part ${i + 1}`, p));
    const of = (d as unknown as Partial<Sum>).parts as readonly Dim[] | undefined;
    if (!of || of.length !== hs.length)
      mistake({
        code: 'dsl/not-a-sum',
        message: of
          ? `concat: '${d.name}' has ${of.length} parts, but got ${hs.length} tensors`
          : `concat: '${d.name}' is no sum of dims`,
        fix: `declare it with its parts: sum('qk', nope, rope)`,
      });
    const axis = axisOf('concat', hs[0], of[0]);
    const aligned = hs.map((h, i) => {
      axisOf('concat', h, of[i]);
      const dims = replaced(hs[0].dims, axis, [of[i]]);
      if (h.dims.length !== dims.length || h.axes.some((n) => !dims.some((w) => w.name === n)))
        mistake({
          code: 'dsl/axes-differ',
          message: `concat: part ${i + 1} does not have the axes of part 1`,
          label: `part 1 is ${String(hs[0])}, part ${i + 1} is ${String(h)}`,
          fix: `bring it to ${showDims(dims)}: broadcast(x, […])`,
          from: [{ what: `part ${i + 1} comes from here`, at: h.madeAt }],
        });
      if (h.dtype !== hs[0].dtype)
        mistake({
          code: 'dsl/dtypes-differ',
          message: 'concat needs parts of one dtype',
          label: `part 1 is ${String(hs[0])}, part ${i + 1} is ${String(h)}`,
          fix: `cast(x, '${hs[0].dtype}')`,
        });
      return alignTo('concat', t, h, dims);
    });
    const dims = replaced(hs[0].dims, axis, [d]);
    return t.tensor('concat', aligned, { axis }, hs[0].dtype, dims) as never;
  });
}

/** Elements `start` to `start + to.size` of an axis, which becomes `to`. */
export function slice<A extends Axes, N extends string, const M extends string>(
  x: Tensor<A>,
  from: Dim<N> & AxisOk<'slice', A, N>,
  to: Dim<M, 'static'> & FreshOk<'slice', Without<A, N>, Dim<M>>,
  start = 0,
): Tensor<Replace<A, N, [M]>> {
  return attempt(
    'slice',
    (t) => {
      const h = tensorArg('slice', 'x', x);
      const axis = axisOf('slice', h, from);
      const next = dimArg('slice', 'the new dim', to);
      const size = h.dims[axis].size;
      const stop = start + (next.size ?? NaN);
      if (!Number.isSafeInteger(start) || start < 0 || (size !== null && !(stop <= size)))
        mistake({
          code: 'dsl/slice-outside',
          message: `slice: elements ${start} to ${stop} are not all in '${h.dims[axis].name}'`,
          label: `it has ${size} elements`,
          fix: 'start from 0 or more and end within the axis',
        });
      const dims = replaced(h.dims, axis, [next]);
      distinct('slice', dims);
      return t.tensor('slice', [h], { axis, start, stop }, h.dtype, dims) as never;
    },
    (t) => {
      const h = tensorArg('slice', 'x', x);
      return t.placeholder(
        h.dtype,
        h.dims.map((d) => (d.name === from.name ? to : d)),
      ) as never;
    },
  );
}

/** Lengthens an axis to `to`: `before` elements in front, the rest at the end, all of one value. */
export function pad<A extends Axes, N extends string, const M extends string>(
  x: Tensor<A>,
  from: Dim<N> & AxisOk<'pad', A, N>,
  to: Dim<M, 'static'> & FreshOk<'pad', Without<A, N>, Dim<M>>,
  { before = 0, value = 0 }: { readonly before?: number; readonly value?: number } = {},
): Tensor<Replace<A, N, [M]>> {
  return attempt('pad', (t) => {
    const h = tensorArg('pad', 'x', x);
    const axis = axisOf('pad', h, from);
    const next = dimArg('pad', 'the new dim', to);
    const after = (next.size ?? NaN) - (h.dims[axis].size ?? NaN) - before;
    if (!(after >= 0 && before >= 0))
      mistake({
        code: 'dsl/pad-too-short',
        message: `pad: '${next.name}' is too short for '${h.dims[axis].name}' and ${before} elements before it`,
        label: `${next.size ?? 'run-time'} < ${h.dims[axis].size ?? 'run-time'} + ${before}`,
        fix: 'declare a longer dim; slice shortens',
      });
    const dims = replaced(h.dims, axis, [next]);
    distinct('pad', dims);
    return t.tensor('pad', [h], { axis, before, after, value }, h.dtype, dims) as never;
  });
}

function factorsOf(op: string, d: unknown): readonly Dim[] {
  const factors = (d as Partial<Product>)?.factors as readonly Dim[] | undefined;
  if (factors) return factors;
  mistake({
    code: 'dsl/not-a-product',
    message: `${op}: '${dimArg(op, 'the axis', d).name}' is no product of dims`,
    fix: `declare it with its factors: product('heads*v', heads, v)`,
  });
}

/** Merges neighbouring axes row-major into their product: `merge(o, product('heads*v', heads, v))`. */
export function merge<A extends Axes, N extends string, F extends Axes>(
  x: Tensor<A>,
  d: Product<N, F> & MergeOk<A, F>,
): Tensor<MergeAxes<A, N, F>> {
  return attempt('merge', (t) => {
    const h = tensorArg('merge', 'x', x);
    const factors = factorsOf('merge', d);
    const axes = factors.map((f) => axisOf('merge', h, f));
    if (axes.some((axis, i) => axis !== axes[0] + i))
      mistake({
        code: 'dsl/not-side-by-side',
        message: `merge: ${listed(factors.map((f) => f.name))} do not stand side by side in this order`,
        label: `the tensor is ${String(h)}`,
        fix: 'transpose first',
      });
    const dims = h.dims.toSpliced(axes[0], factors.length, d as Dim);
    return reshape(t, h, dims) as never;
  });
}

/** Takes a product axis apart into its factors. */
export function unmerge<A extends Axes, N extends string, F extends Axes>(
  x: Tensor<A>,
  d: Product<N, F> & AxisOk<'unmerge', A, N>,
): Tensor<Replace<A, N, F>> {
  return attempt('unmerge', (t) => {
    const h = tensorArg('unmerge', 'x', x);
    const axis = axisOf('unmerge', h, d);
    const dims = replaced(h.dims, axis, factorsOf('unmerge', d));
    distinct('unmerge', dims);
    return reshape(t, h, dims) as never;
  });
}

/** The same elements, row-major, over other axes. */
export const reshape = (t: FunctionTrace, h: TensorHandle, dims: readonly Dim[]): TensorHandle =>
  t.tensor('reshape', [h], {}, h.dtype, dims);

/** Rows of x by index: x[N, …] at index[I…] gives [I…, …]. An index out of range is an error at run time. */
export function gather<A extends Axes, I extends Axes>(
  x: Tensor<A>,
  index: Tensor<I>,
): Tensor<A extends readonly [string, ...infer R extends Axes] ? [...I, ...R] : string[]> {
  return attempt('gather', (t) => {
    const h = tensorArg('gather', 'x', x);
    const i = tensorArg('gather', 'index', index);
    if (i.dtype !== 'i32' && i.dtype !== 'i64')
      mistake({
        code: 'dsl/wrong-dtype',
        message: 'gather needs whole numbers as index',
        label: `index is ${String(i)}`,
        fix: `cast(index, 'i32')`,
      });
    const dims = [...i.dims, ...h.dims.slice(1)];
    distinct('gather', dims);
    return t.tensor('gather', [h, i], {}, h.dtype, dims) as never;
  });
}

/** Refuses two tensors whose shared axes differ in size. */
export function sharedSizes(op: string, a: TensorHandle, b: TensorHandle): void {
  for (const d of a.dims) {
    const other = b.dims.find((w) => w.name === d.name);
    if (other) sameSize(op, d, other);
  }
}
