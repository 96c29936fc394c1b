// Reductions: they combine elements along axes, in f64 here and at least f32 on every target.
import type { Attributes } from '../module.ts';
import { dim, showDim, showType, type TensorType, type Type } from '../types.ts';
import { defineOp, problem, type Cost, type DimSizes, type OpDefinition } from './define.ts';
import {
  along,
  asTensor,
  costOf,
  elements,
  expectAxis,
  expectElements,
  expectStatic,
  integerOf,
  named,
  numbersOf,
  rowsOver,
  tensorData,
  withDType,
} from './support.ts';

/** One operation per element of the operand. */
const onePerElement = (
  operands: readonly Type[],
  results: readonly Type[],
  _: Attributes,
  sizes: DimSizes,
): Cost => costOf(elements(operands[0] as TensorType, sizes), operands, results, sizes);

/** The axes that a reduction removes: increasing, at least one. */
function expectAxes(attributes: Attributes, type: TensorType, op: string): readonly number[] {
  const axes = numbersOf(attributes, 'axes');
  if (axes.length === 0) problem(`${op}: no axes are given`, 'axes', 'name at least one axis');
  for (const [i, axis] of axes.entries()) {
    expectAxis(axis, type, op, 'axes');
    if (i > 0 && axis <= axes[i - 1])
      problem(`${op}: axes [${axes.join(', ')}] must increase`, 'axes', 'name each axis once, in order');
  }
  return axes;
}

const without = (type: TensorType, axes: readonly number[]): TensorType => ({
  ...type,
  dims: type.dims.filter((_, i) => !axes.includes(i)),
});

const reduce = <const N extends string>(
  name: N,
  doc: string,
  start: number,
  combine: (total: number, x: number) => number,
) =>
  defineOp({
    name,
    class: 'reduction',
    doc,
    operands: ['x'],
    attributes: { axes: { kind: 'integers', doc: 'axes to remove, increasing' } },
    infer: ([x], attributes, declared) => {
      const type = expectElements('number', x, 'x', name);
      return named([without(type, expectAxes(attributes, type, name))], declared);
    },
    reference: ([x], attributes) => {
      const value = asTensor(x);
      const axes = numbersOf(attributes, 'axes');
      const { data, rows, length } = rowsOver(value.data, value.shape, axes);
      const out = new Float64Array(rows);
      for (let row = 0, at = 0; row < rows; row++) {
        let total = start;
        for (const end = at + length; at < end; at++) total = combine(total, data[at]);
        out[row] = total;
      }
      const shape = value.shape.filter((_, i) => !axes.includes(i));
      return [tensorData(value.dtype, shape, out)];
    },
    cost: onePerElement,
  } satisfies OpDefinition);

export const reductionOps = {
  sum: reduce('sum', 'Sum over axes', 0, (a, b) => a + b),
  max_over: reduce('max_over', 'Largest element over axes; NaN when there is one', -Infinity, Math.max),
  min_over: reduce('min_over', 'Smallest element over axes; NaN when there is one', Infinity, Math.min),

  argmax: defineOp({
    name: 'argmax',
    class: 'reduction',
    doc: 'Index of the largest element along an axis, the lowest index on ties',
    operands: ['x'],
    attributes: { axis: { kind: 'integer', doc: 'axis to remove' } },
    infer: ([x], attributes, declared) => {
      const type = expectElements('number', x, 'x', 'argmax');
      const axis = expectAxis(integerOf(attributes, 'axis'), type, 'argmax');
      return named([without(withDType(type, 'i32'), [axis])], declared);
    },
    reference: ([x], attributes) => {
      const value = asTensor(x);
      const axis = integerOf(attributes, 'axis');
      const { data, rows, length } = rowsOver(value.data, value.shape, [axis]);
      if (length === 0 && rows > 0) throw new RangeError('argmax: the axis has no elements');
      const out = new Float64Array(rows);
      for (let row = 0; row < rows; row++) {
        let best = 0;
        for (let i = 1; i < length; i++) if (data[row * length + i] > data[row * length + best]) best = i;
        out[row] = best;
      }
      return [tensorData('i32', value.shape.toSpliced(axis, 1), out)];
    },
    cost: onePerElement,
  } satisfies OpDefinition),

  cumsum: defineOp({
    name: 'cumsum',
    class: 'reduction',
    doc: 'Running sum along an axis, each element included in its own sum',
    operands: ['x'],
    attributes: { axis: { kind: 'integer', doc: 'axis to sum along' } },
    infer: ([x], attributes, declared) => {
      const type = expectElements('number', x, 'x', 'cumsum');
      expectAxis(integerOf(attributes, 'axis'), type, 'cumsum');
      return named([type], declared);
    },
    reference: ([x], attributes) => {
      const { dtype, shape, data } = asTensor(x);
      const { outer, size, inner } = along(shape, integerOf(attributes, 'axis'));
      const out = data.slice();
      // Row i of each outer block adds to row i − 1, which is complete by then.
      for (let o = 0; o < outer; o++)
        for (let at = (o * size + 1) * inner; at < (o + 1) * size * inner; at++) out[at] += out[at - inner];
      return [tensorData(dtype, shape, out)];
    },
    cost: onePerElement,
  } satisfies OpDefinition),

  top_k: defineOp({
    name: 'top_k',
    class: 'reduction',
    doc: 'The k largest elements of the last axis in descending order and their indices, the lowest index first on ties',
    operands: ['x'],
    attributes: { k: { kind: 'integer', doc: 'elements kept' } },
    infer: ([x], attributes, declared) => {
      const type = expectElements('number', x, 'x', 'top_k');
      const last = expectAxis(type.dims.length - 1, type, 'top_k');
      const k = integerOf(attributes, 'k');
      const size = expectStatic(type.dims[last], 'top_k', 'so k cannot be checked against it', 'x');
      if (k < 1 || k > size)
        problem(
          `top_k: k is ${k}, but the last axis of ${showType(type)} has ${showDim(type.dims[last])}`,
          'k',
          `use 1 to ${size}`,
        );
      const dims = type.dims.with(last, dim(null, k));
      return named(
        [
          { ...type, dims },
          { ...withDType(type, 'i32'), dims },
        ],
        declared,
      );
    },
    reference: ([x], attributes) => {
      const { dtype, shape, data } = asTensor(x);
      const k = integerOf(attributes, 'k');
      const size = shape.at(-1)!;
      const rows = size === 0 ? 0 : data.length / size;
      const values = new Float64Array(rows * k);
      const indices = new Float64Array(rows * k);
      for (let row = 0; row < rows; row++) {
        const of = data.subarray(row * size, (row + 1) * size);
        for (const [i, index] of largest(of, k).entries()) {
          values[row * k + i] = of[index];
          indices[row * k + i] = index;
        }
      }
      const result = [...shape.slice(0, -1), k];
      return [tensorData(dtype, result, values), tensorData('i32', result, indices)];
    },
    cost: onePerElement,
  } satisfies OpDefinition),
};

/** Indices of the k largest values in descending order; the lowest index first on ties, NaN after every number. */
export function largest(values: Float64Array, k: number): number[] {
  const rank = (v: number): number => (Number.isNaN(v) ? -Infinity : v);
  return Array.from(values.keys())
    .sort((i, j) => {
      const [a, b] = [rank(values[i]), rank(values[j])];
      return a === b ? i - j : b > a ? 1 : -1;
    })
    .slice(0, k);
}
