// Ops along one axis: sums and their kin, softmax, running sums, the largest elements. On f32 or wider inside.
import type { Axes, AxisOk, Dim, Tensor, Without } from '../axes.ts';
import { isFloat } from '../../ir/formats/dtypes.ts';
import { typeOf, type TensorHandle } from '../tensor.ts';
import { attempt, mistake, tensorArg, type FunctionTrace } from '../trace.ts';
import { axisOf, dimArg, distinct, filled } from './axis.ts';
import type { DType } from '../../ir/formats/dtypes.ts';

function numbers(op: string, x: unknown): TensorHandle {
  const h = tensorArg(op, 'x', x);
  if (h.dtype === 'bool')
    mistake({
      code: 'dsl/wrong-dtype',
      message: `${op} works on numbers`,
      label: `x is ${String(h)}`,
      fix: `cast(x, 'f32')`,
    });
  return h;
}

const without = (h: TensorHandle, axis: number): readonly Dim[] => h.dims.toSpliced(axis, 1);

type Reduction<Op extends string> = <A extends Axes, N extends string>(
  x: Tensor<A>,
  over: Dim<N> & AxisOk<Op, A, N>,
) => Tensor<Without<A, N>>;

const reduction =
  <const Name extends string>(name: Name, op: string): Reduction<Name> =>
  (x, over) =>
    attempt(name, (t) => {
      const h = numbers(name, x);
      const axis = axisOf(name, h, over);
      return t.tensor(op, [h], { axes: [axis] }, h.dtype, without(h, axis)) as never;
    });

export const sumOver = reduction('sumOver', 'sum');
export const maxOver = reduction('maxOver', 'max_over');
export const minOver = reduction('minOver', 'min_over');

/** Mean along an axis of known size. */
export function meanOver<A extends Axes, N extends string>(
  x: Tensor<A>,
  over: Dim<N> & AxisOk<'meanOver', A, N>,
): Tensor<Without<A, N>> {
  return attempt('meanOver', (t) => {
    const h = numbers('meanOver', x);
    const axis = axisOf('meanOver', h, over);
    const { size, name } = h.dims[axis];
    if (size === null || !isFloat(h.dtype))
      mistake({
        code: size === null ? 'dsl/run-time-size' : 'dsl/wrong-dtype',
        message:
          size === null
            ? `meanOver: the length of '${name}' is known at run time only`
            : 'meanOver works on floats',
        label: `x is ${String(h)}`,
        fix: size === null ? 'use sumOver and divide by what you count' : `cast(x, 'f32')`,
      });
    const sum = t.tensor('sum', [h], { axes: [axis] }, h.dtype, without(h, axis));
    return t.tensor('mul', [sum, filled(t, 1 / size, sum)], {}, h.dtype, sum.dims) as never;
  });
}

/** Index of the largest element along an axis, i32; the lowest index wins a tie. */
export function argmax<A extends Axes, N extends string>(
  x: Tensor<A>,
  over: Dim<N> & AxisOk<'argmax', A, N>,
): Tensor<Without<A, N>> {
  return attempt('argmax', (t) => {
    const h = numbers('argmax', x);
    const axis = axisOf('argmax', h, over);
    return t.tensor('argmax', [h], { axis }, 'i32', without(h, axis)) as never;
  });
}

type Along<Op extends string> = <A extends Axes, N extends string>(
  x: Tensor<A>,
  over: Dim<N> & AxisOk<Op, A, N>,
) => Tensor<A>;

const along =
  <const Op extends string>(op: Op): Along<Op> =>
  (x, over) =>
    attempt(
      op,
      (t) => {
        const h = numbers(op, x);
        const axis = axisOf(op, h, over);
        if (op === 'softmax' && !isFloat(h.dtype))
          mistake({
            code: 'dsl/wrong-dtype',
            message: 'softmax works on floats',
            label: `x is ${String(h)}`,
            fix: `cast(x, 'f32')`,
          });
        return t.tensor(op, [h], { axis }, h.dtype, h.dims) as never;
      },
      () => x,
    );

/** exp(x − max) / sum along an axis; computed in f32. */
export const softmax = along('softmax');
/** Running sum along an axis, each element included in its own sum. */
export const cumsum = along('cumsum');

/**
 * The `k.size` largest elements along an axis in descending order, and their indices (i32). The lowest index wins a
 * tie. The axis becomes `k` and stands last.
 */
export function topK<A extends Axes, N extends string, const K extends string>(
  x: Tensor<A>,
  over: Dim<N> & AxisOk<'topK', A, N>,
  k: Dim<K, 'static'>,
): { values: Tensor<[...Without<A, N>, K]>; indices: Tensor<[...Without<A, N>, K]> } {
  return attempt('topK', (t) => {
    const h = numbers('topK', x);
    const axis = axisOf('topK', h, over);
    const kept = dimArg('topK', 'k', k);
    const { size, name } = h.dims[axis];
    if (size === null || kept.size === null || kept.size > size)
      mistake({
        code: 'dsl/top-exceeds',
        message: `topK: '${kept.name}' takes ${kept.size ?? 'a run-time number'} of '${name}'`,
        label: `x is ${String(h)}`,
        fix: `use 1 to ${size ?? 'the size of an axis of known size'}`,
      });
    const rest = without(h, axis);
    const last = axis === h.dims.length - 1 ? h : moveLast(t, h, axis);
    const dims = [...rest, kept];
    distinct('topK', dims);
    const types = ([h.dtype, 'i32'] as readonly DType[]).map((d) => typeOf(d, dims));
    const [values, indices] = t.op('top_k', [last.value], { k: kept.size }, types);
    return { values: t.handle(values, dims), indices: t.handle(indices, dims) } as never;
  });
}

function moveLast(t: FunctionTrace, h: TensorHandle, axis: number): TensorHandle {
  const order = [...h.dims.keys()].filter((i) => i !== axis).concat(axis);
  return t.tensor(
    'transpose',
    [h],
    { order },
    h.dtype,
    order.map((i) => h.dims[i]),
  );
}
