// Gradients of ops that move elements: the same movement backwards, with sums where elements were repeated.
import type { Value } from '../module.ts';
import type { TensorType } from '../types.ts';
import { fill, tensorOf } from '../ops/composite.ts';
import { integerOf, numbersOf } from '../ops/support.ts';
import { constant, gradientType, hasGradient, rule, type Gradient } from './rule.ts';

/** The operand's dims in the gradient's dtype: weights' gradients are wider than weights. */
const like = (x: Value, d: Value): TensorType => ({ ...tensorOf(x), dtype: tensorOf(d).dtype });

const axesWithout = (rank: number, axes: readonly number[]): number[] =>
  Array.from({ length: rank }, (_, i) => i).filter((i) => !axes.includes(i));

export const viewGradients = {
  const: constant,
  iota: constant,
  position_field: constant,
  visible: constant,
  broadcast: rule(({ b, results: [y], upstream: [d], attributes }) => {
    const repeated = axesWithout(tensorOf(y).dims.length, numbersOf(attributes, 'axes'));
    return [repeated.length === 0 ? d! : b.one('sum', [d!], { axes: repeated })];
  }),
  reshape: rule(({ b, operands: [x], upstream: [d] }) => [b.one('reshape', [d!], {}, like(x, d!))]),
  transpose: rule(({ b, upstream: [d], attributes }) => {
    const order = numbersOf(attributes, 'order');
    return [b.one('transpose', [d!], { order: order.map((_, axis) => order.indexOf(axis)) })];
  }),
  slice: rule(({ b, operands: [x], upstream: [d], attributes }) => {
    const axis = integerOf(attributes, 'axis');
    const size = tensorOf(x).dims[axis].size!;
    const [before, after] = [integerOf(attributes, 'start'), size - integerOf(attributes, 'stop')];
    return [before + after === 0 ? d! : b.one('pad', [d!], { axis, before, after })];
  }),
  split: rule(({ b, results, upstream, attributes }) => {
    const parts = results.map((y, i): Value => upstream[i] ?? fill(b, 0, tensorOf(y)));
    return [b.one('concat', parts, { axis: integerOf(attributes, 'axis') })];
  }),
  concat: rule(({ b, operands, upstream: [d], attributes, wanted }) => {
    const axis = integerOf(attributes, 'axis');
    if (operands.length === 1) return [d!];
    let start = 0;
    return operands.map((x, i) => {
      const from = start;
      start += tensorOf(x).dims[axis].size!;
      return wanted[i] ? b.one('slice', [d!], { axis, start: from, stop: start }) : null;
    });
  }),
  pad: rule(({ b, operands: [x], upstream: [d], attributes }) => {
    const [axis, before] = [integerOf(attributes, 'axis'), integerOf(attributes, 'before')];
    return [b.one('slice', [d!], { axis, start: before, stop: before + tensorOf(x).dims[axis].size! })];
  }),
  gather: rule(({ b, operands: [x, i], upstream: [d], wanted, dtypes }) => {
    if (!hasGradient(x) || !wanted[0]) return [null, null];
    // Many tokens may be the same word: their sum is kept as wide as it is asked for.
    const wide =
      tensorOf(d!).dtype === dtypes[0] ? d! : b.one('cast', [d!], {}, { ...tensorOf(d!), dtype: dtypes[0] });
    return [b.one('scatter_add', [wide, i], {}, gradientType(x, dtypes[0])), null];
  }),
  scatter_add: rule(({ b, operands: [, i], upstream: [d] }) => [b.one('gather', [d!, i]), null]),
} satisfies Record<string, Gradient>;
