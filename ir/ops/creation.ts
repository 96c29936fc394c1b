// View ops that make elements from nothing or repeat them: const, iota, broadcast.
import { dtypeInfo } from '../formats/index.ts';
import { sameDim, showDim, showType, type TensorType, type Type } from '../types.ts';
import { defineOp, problem, type OpDefinition } from './define.ts';
import {
  along,
  asTensor,
  expectAxis,
  expectDeclaredPlain,
  expectPlain,
  expectStatic,
  integerOf,
  numberOf,
  numbersOf,
  product,
  stridesOf,
  tensorData,
  walk,
} from './support.ts';

/** A plain tensor whose dtype can hold values (f8ue8m0 holds scales only). */
function expectValues(declared: readonly Type[] | null, op: string): TensorType {
  const t = expectDeclaredPlain(declared, op);
  if (t.dtype === 'f8ue8m0') problem(`${op}: ${showType(t)} holds scales, not values`);
  return t;
}

/** Refuses constants that the dtype has no code for: a rounded constant is fine, a fraction as an integer is not. */
export function checkConstant(value: number, type: TensorType, op: string, attribute: string): void {
  const { kind } = dtypeInfo[type.dtype];
  if (kind === 'bool' && value !== 0 && value !== 1)
    problem(`${op}: ${value} is no bool`, attribute, 'write 0 or 1');
  if (kind !== 'int') return;
  const limit = type.dtype === 'i32' ? 2 ** 31 : 2 ** 53;
  if (!Number.isInteger(value) || value < -limit || value >= limit)
    problem(
      `${op}: ${value} is no ${type.dtype}`,
      attribute,
      'write a whole number in range, or declare a float dtype',
    );
}

export const creationOps = {
  const: defineOp({
    name: 'const',
    class: 'view',
    doc: 'One number everywhere, or a table of numbers',
    operands: [],
    attributes: {
      value: { kind: 'number', default: 0, doc: 'the number that every element has' },
      values: { kind: 'numbers', default: [], doc: 'the elements in row-major order, instead of value' },
    },
    infer: (_, attributes, declared) => {
      const type = expectValues(declared, 'const');
      const value = numberOf(attributes, 'value');
      const values = numbersOf(attributes, 'values');
      if (values.length === 0) {
        checkConstant(value, type, 'const', 'value');
        return [type];
      }
      if (value !== 0) problem('const takes value or values, not both', 'values');
      const sizes = type.dims.map((d) =>
        expectStatic(d, 'const', 'so a table cannot fill it', 'values', 'broadcast a table over static axes'),
      );
      if (product(sizes) !== values.length)
        problem(
          `const: ${values.length} values do not fill ${showType(type)}`,
          'values',
          `give ${product(sizes)} values`,
        );
      for (const v of values) checkConstant(v, type, 'const', 'values');
      return [type];
    },
    reference: (_, attributes, context) => {
      const type = context.results[0] as TensorType;
      const shape = context.shapeOf(type);
      const values = numbersOf(attributes, 'values');
      const data =
        values.length > 0
          ? Float64Array.from(values)
          : new Float64Array(product(shape)).fill(numberOf(attributes, 'value'));
      return [tensorData(type.dtype, shape, data)];
    },
  } satisfies OpDefinition),

  iota: defineOp({
    name: 'iota',
    class: 'view',
    doc: 'Every element is its index along one axis',
    operands: [],
    attributes: { axis: { kind: 'integer', doc: 'axis that counts' } },
    infer: (_, attributes, declared) => {
      const type = expectValues(declared, 'iota');
      if (type.dtype === 'bool')
        problem(`iota counts in integers or floats, but ${showType(type)} is declared`, null, 'declare i32');
      expectAxis(integerOf(attributes, 'axis'), type, 'iota');
      return [type];
    },
    reference: (_, attributes, context) => {
      const type = context.results[0] as TensorType;
      const shape = context.shapeOf(type);
      const { outer, size, inner } = along(shape, integerOf(attributes, 'axis'));
      const data = new Float64Array(product(shape));
      for (let o = 0, at = 0; o < outer; o++)
        for (let i = 0; i < size; i++, at += inner) data.fill(i, at, at + inner);
      return [tensorData(type.dtype, shape, data)];
    },
  } satisfies OpDefinition),

  broadcast: defineOp({
    name: 'broadcast',
    class: 'view',
    doc: 'Repeats x along the result axes that it does not have',
    operands: ['x'],
    attributes: { axes: { kind: 'integers', doc: 'result axis of each axis of x, increasing' } },
    infer: ([x], attributes, declared) => {
      const from = expectPlain(x, 'x', 'broadcast');
      const to = expectDeclaredPlain(declared, 'broadcast');
      const axes = numbersOf(attributes, 'axes');
      if (axes.length !== from.dims.length)
        problem(
          `broadcast: x is ${showType(from)}, but ${axes.length} axes are given`,
          'axes',
          `give ${from.dims.length}, one for each axis of x`,
        );
      for (const [i, axis] of axes.entries()) {
        expectAxis(axis, to, 'broadcast', 'axes');
        if (i > 0 && axis <= axes[i - 1])
          problem(`broadcast: axes [${axes.join(', ')}] must increase`, 'axes', 'transpose x first');
        if (!sameDim(from.dims[i], to.dims[axis]))
          problem(
            `broadcast: axis ${i} of x is ${showDim(from.dims[i])}, axis ${axis} of the result is ${showDim(to.dims[axis])}: x is ${showType(from)}, the result ${showType(to)}`,
            'x',
            from.dims[i].size === 1 ? 'an axis of length 1 is not stretched: reshape it away first' : null,
          );
      }
      if (from.dtype !== to.dtype)
        problem(
          `broadcast keeps the dtype: x is ${showType(from)}, the result is ${showType(to)}`,
          'x',
          'cast in a step of its own',
        );
      return [to];
    },
    reference: ([x], attributes, context) => {
      const { dtype, shape, data } = asTensor(x);
      const result = context.shapeOf(context.results[0]);
      const strides = new Array<number>(result.length).fill(0);
      const own = stridesOf(shape);
      for (const [i, axis] of numbersOf(attributes, 'axes').entries()) strides[axis] = own[i];
      const out = new Float64Array(product(result));
      walk(result, strides, (offset, position) => {
        out[position] = data[offset];
      });
      return [tensorData(dtype, result, out)];
    },
  } satisfies OpDefinition),
};
