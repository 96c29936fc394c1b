// Losses over a large vocabulary. As ops of their own a target needs no second copy of the logits: the gradient is
// computed from them again, softmax minus one at the target.
import type { TensorData } from '../interpret/values.ts';
import { sameDims, sameType, showType, tensor, type TensorType, type Type } from '../types.ts';
import { defineOp, problem, type OpDefinition } from './define.ts';
import { asTensor, costOf, elements, expectElements, named, tensorData } from './support.ts';

function expectTargets(logits: Type, targets: Type, op: string): { x: TensorType; rows: TensorType } {
  const x = expectElements('float', logits, 'logits', op);
  const t = expectElements('int', targets, 'targets', op);
  if (x.dims.length !== t.dims.length + 1 || !sameDims(x.dims.slice(0, -1), t.dims))
    problem(
      `${op} needs logits[…, vocab] and targets[…]: logits is ${showType(x)}, targets is ${showType(t)}`,
      'targets',
      'give one target for each row of logits, −1 where there is none',
    );
  return { x, rows: tensor('f32', t.dims) };
}

/** log Σ exp(x) of a row, and its largest element. */
function logSumExp(row: Float64Array): number {
  const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
  return largest + Math.log(row.reduce((sum, v) => sum + Math.exp(v - largest), 0));
}

function eachRow(
  logits: TensorData,
  targets: TensorData,
  f: (row: Float64Array, target: number, index: number) => void,
): void {
  const width = logits.shape.at(-1)!;
  for (const [i, target] of targets.data.entries()) {
    if (target < 0) continue;
    if (target >= width)
      throw new RangeError(`target ${target} of row ${i} is outside of the vocabulary of ${width}`);
    f(logits.data.subarray(i * width, (i + 1) * width), target, i);
  }
}

const cross_entropy = defineOp({
  name: 'cross_entropy',
  class: 'composite',
  doc: 'log Σ exp(logits) − logits[target] of each row, 0 where the target is negative, in f32 inside',
  operands: ['logits', 'targets'],
  attributes: {},
  infer: ([logits, targets], _, declared) =>
    named([expectTargets(logits, targets, 'cross_entropy').rows], declared),
  reference: ([logits, targets]) => {
    const [x, t] = [asTensor(logits), asTensor(targets)];
    const out = new Float64Array(t.data.length);
    eachRow(x, t, (row, target, i) => (out[i] = logSumExp(row) - row[target]));
    return [tensorData('f32', t.shape, out)];
  },
  cost: (operands, results, _, sizes) =>
    costOf(4 * elements(operands[0] as TensorType, sizes), operands, results, sizes),
} satisfies OpDefinition);

const cross_entropy_gradient = defineOp({
  name: 'cross_entropy_gradient',
  class: 'composite',
  doc: "gradient of cross_entropy's logits: (softmax − 1 at the target) · upstream of the row, 0 where the target is negative",
  operands: ['logits', 'targets', 'upstream'],
  attributes: {},
  infer: ([logits, targets, upstream], _, declared) => {
    const { x, rows } = expectTargets(logits, targets, 'cross_entropy_gradient');
    if (!sameType(upstream, rows))
      problem(
        `cross_entropy_gradient: upstream is ${showType(upstream)}, but cross_entropy gives ${showType(rows)}`,
        'upstream',
      );
    return named([x], declared);
  },
  reference: ([logits, targets, upstream]) => {
    const [x, t, d] = [logits, targets, upstream].map(asTensor);
    const width = x.shape.at(-1)!;
    const out = new Float64Array(x.data.length);
    eachRow(x, t, (row, target, i) => {
      const total = logSumExp(row);
      for (let v = 0; v < width; v++)
        out[i * width + v] = (Math.exp(row[v] - total) - (v === target ? 1 : 0)) * d.data[i];
    });
    return [tensorData(x.dtype, x.shape, out)];
  },
  cost: (operands, results, _, sizes) =>
    costOf(6 * elements(operands[0] as TensorType, sizes), operands, results, sizes),
} satisfies OpDefinition);

export const lossOps = { cross_entropy, cross_entropy_gradient };
