// View ops: they create, move or repeat elements and compute nothing. Here those that rearrange a whole tensor;
// creation.ts and cutting.ts hold the others, attention.ts those that look at positions.
import { showType, type Dim } from '../types.ts';
import { defineOp, problem, type OpDefinition } from './define.ts';
import { creationOps } from './creation.ts';
import { cuttingOps } from './cutting.ts';
import {
  asTensor,
  expectDeclaredPlain,
  expectPlain,
  expectTensor,
  named,
  numbersOf,
  permute,
  tensorData,
} from './support.ts';

/**
 * The parts of a shape between run-time dims, as static products: reshape may change a part's axes, but no element may
 * move from one part to another, else a row would mix several tokens.
 */
function partsOf(dims: readonly Dim[]): { names: readonly string[]; counts: readonly number[] } {
  const names: string[] = [];
  const counts = [1];
  for (const d of dims) {
    if (d.size === null) {
      names.push(d.name!);
      counts.push(1);
    } else counts[counts.length - 1] *= d.size;
  }
  return { names, counts };
}

const rearrangements = {
  reshape: defineOp({
    name: 'reshape',
    class: 'view',
    doc: 'The same elements in row-major order under another shape; run-time axes stay axes of their own',
    operands: ['x'],
    attributes: {},
    infer: ([x], _, declared) => {
      const from = expectPlain(x, 'x', 'reshape');
      const to = expectDeclaredPlain(declared, 'reshape');
      if (from.dtype !== to.dtype)
        problem(
          `reshape keeps the dtype: x is ${showType(from)}, the result is ${showType(to)}`,
          'x',
          'cast in a step of its own',
        );
      const [a, b] = [partsOf(from.dims), partsOf(to.dims)];
      if (a.names.join() !== b.names.join())
        problem(
          `reshape cannot merge, split or reorder run-time axes: x is ${showType(from)}, the result is ${showType(to)}`,
          'x',
          'keep the run-time axes as they are; transpose reorders',
        );
      const wrong = a.counts.findIndex((n, i) => n !== b.counts[i]);
      if (wrong >= 0) {
        const where =
          a.names.length === 0 ? '' : wrong === 0 ? ` before ${a.names[0]}` : ` after ${a.names[wrong - 1]}`;
        problem(
          `reshape keeps the number of elements: x is ${showType(from)} with ${a.counts[wrong]}${where}, the result ${showType(to)} has ${b.counts[wrong]}`,
          'x',
        );
      }
      return [to];
    },
    reference: ([x], _, context) => {
      const { dtype, data } = asTensor(x);
      return [tensorData(dtype, context.shapeOf(context.results[0]), data)];
    },
    // Dense and row-major before and after: another name for the same bytes.
    cost: () => ({ flops: 0, bytes: 0 }),
  } satisfies OpDefinition),

  transpose: defineOp({
    name: 'transpose',
    class: 'view',
    doc: 'Reorders axes, and the tiles of scales with them',
    operands: ['x'],
    attributes: { order: { kind: 'integers', doc: 'axis of x that each result axis is' } },
    infer: ([x], attributes, declared) => {
      const type = expectTensor(x, 'x', 'transpose');
      const order = numbersOf(attributes, 'order');
      const rank = type.dims.length;
      if (
        order.length !== rank ||
        order.some((axis) => axis < 0 || axis >= rank) ||
        new Set(order).size !== rank
      )
        problem(
          `transpose: order [${order.join(', ')}] does not name every axis of ${showType(type)} once`,
          'order',
          `give the numbers 0 to ${rank - 1} in some order`,
        );
      const dims = order.map((axis) => type.dims[axis]);
      const scales = type.scales.map((s) => ({ ...s, tile: order.map((axis) => s.tile[axis]) }));
      return named([{ ...type, dims, scales }], declared);
    },
    reference: ([x], attributes) => {
      const { dtype, shape, data, scales } = asTensor(x);
      const order = numbersOf(attributes, 'order');
      const reorder = (s: readonly number[]): number[] => order.map((axis) => s[axis]);
      return [
        tensorData(
          dtype,
          reorder(shape),
          permute(data, shape, order),
          scales.map((s) => ({ shape: reorder(s.shape), data: permute(s.data, s.shape, order) })),
        ),
      ];
    },
  } satisfies OpDefinition),
};

export const viewOps = { ...creationOps, ...rearrangements, ...cuttingOps };
