// Ops that models are written with and fast kernels match on: norms, SwiGLU, softmax, rotary embedding, and their
// forms fused with quantisation. Each has the same meaning twice: a direct reference, and a decomposition into simple
// ops from which any target can make a kernel. They agree exactly up to the rounding of values in between.
// Attention is in attention.ts.
import type { TensorData } from '../interpret/values.ts';
import type { Value } from '../module.ts';
import { dim, sameDim, showType, tensor, type TensorType, type Type } from '../types.ts';
import { defineOp, problem, type AttributeSpec, type OpBuilder } from './define.ts';
import { expectFloor, expectScaled, floorAttribute, quantizeTensor, roundedIf } from './scaling.ts';
import {
  along,
  asPositions,
  asTensor,
  bytesOf,
  costOf,
  elements,
  expectAxis,
  expectElements,
  expectPositions,
  expectSame,
  integerOf,
  named,
  numberOf,
  numbersOf,
  product,
  tensorData,
  withDType,
} from './support.ts';

// --- pieces of decompositions ---

export const tensorOf = (v: Value): TensorType => v.type as TensorType;

/** `v` as `dtype`; nothing when it is that already. */
export const castTo = (b: OpBuilder, v: Value, dtype: TensorType['dtype']): Value =>
  tensorOf(v).dtype === dtype ? v : b.one('cast', [v], {}, withDType(tensorOf(v), dtype));

/** `v` repeated to the dims of `like`, with its dtype; `axes` says where its own axes go. */
export const spreadTo = (b: OpBuilder, v: Value, like: TensorType, axes: readonly number[]): Value =>
  axes.length === like.dims.length
    ? v
    : b.one('broadcast', [v], { axes }, tensor(tensorOf(v).dtype, like.dims));

/** A number in every element of `like`, in f32. */
export const fill = (b: OpBuilder, value: number, like: TensorType): Value =>
  b.one('const', [], { value }, tensor('f32', like.dims));

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

// --- rms_norm ---

const epsilonAttribute: AttributeSpec = {
  kind: 'number',
  doc: 'added to the mean of squares, 1e-6 in DeepSeek-V3',
};

function inferNorm(x: Type, w: Type, op: string): TensorType {
  const t = expectElements('float', x, 'x', op);
  const weight = expectElements('float', w, 'w', op);
  const last = t.dims.at(-1);
  if (!last) problem(`${op} needs an axis to norm over, but x is a scalar`, 'x');
  if (weight.dims.length !== 1 || !sameDim(weight.dims[0], last))
    problem(
      `${op}: w must have one element for each of x's last axis: x is ${showType(t)}, w is ${showType(weight)}`,
      'w',
    );
  return t;
}

/** x / sqrt(mean(x²) + ε) · w over rows of the last axis. */
function normRows(x: Float64Array, w: Float64Array, epsilon: number): Float64Array {
  const size = w.length;
  const out = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += size) {
    let squares = 0;
    for (let i = row; i < row + size; i++) squares += x[i] * x[i];
    const inverse = 1 / Math.sqrt(squares / size + epsilon);
    for (let i = 0; i < size; i++) out[row + i] = x[row + i] * inverse * w[i];
  }
  return out;
}

function decomposeNorm(b: OpBuilder, [x, w]: readonly Value[], epsilon: number): Value {
  const type = withDType(tensorOf(x), 'f32');
  const last = type.dims.length - 1;
  const size = type.dims[last].size;
  // A run-time last axis would need its length as a value; no model norms over tokens.
  if (size === null)
    throw new Error(`rms_norm over the run-time axis ${type.dims[last].name} has no decomposition`);
  const wide = castTo(b, x, 'f32');
  const squares = b.one('sum', [b.one('mul', [wide, wide])], { axes: [last] });
  const rows = tensorOf(squares);
  const mean = b.one('mul', [squares, fill(b, 1 / size, rows)]);
  const inverse = b.one('rsqrt', [b.one('add', [mean, fill(b, epsilon, rows)])]);
  const normed = b.one('mul', [wide, spreadTo(b, inverse, type, range(last))]);
  const scaled = b.one('mul', [normed, spreadTo(b, castTo(b, w, 'f32'), type, [last])]);
  return castTo(b, scaled, tensorOf(x).dtype);
}

// Square, add, multiply, multiply: 4 per element.
const normFlops = 4;

const rms_norm = defineOp({
  name: 'rms_norm',
  class: 'composite',
  doc: 'x / sqrt(mean(x²) + epsilon) · w over the last axis, in f32 inside',
  operands: ['x', 'w'],
  attributes: { epsilon: epsilonAttribute },
  infer: ([x, w], _, declared) => named([inferNorm(x, w, 'rms_norm')], declared),
  reference: ([x, w], attributes) => {
    const { dtype, shape, data } = asTensor(x);
    return [tensorData(dtype, shape, normRows(data, asTensor(w).data, numberOf(attributes, 'epsilon')))];
  },
  decompose: (b, operands, attributes) => [decomposeNorm(b, operands, numberOf(attributes, 'epsilon'))],
  cost: (operands, results, _, sizes) =>
    costOf(normFlops * elements(operands[0] as TensorType, sizes), operands, results, sizes),
});

const rms_norm_quantize = defineOp({
  name: 'rms_norm_quantize',
  class: 'composite',
  doc: 'rms_norm, and quantize of its result: both are wanted where a residual or router also reads the norm',
  operands: ['x', 'w'],
  attributes: { epsilon: epsilonAttribute, floor: floorAttribute },
  infer: ([x, w], attributes, declared) => {
    const t = inferNorm(x, w, 'rms_norm_quantize');
    expectFloor(numberOf(attributes, 'floor'), 'rms_norm_quantize');
    return named([t, declaredPart(declared, 2, 1, t, 'rms_norm_quantize')], declared);
  },
  reference: ([x, w], attributes, { results, rounding }) => {
    const { dtype, shape, data } = asTensor(x);
    const norm = roundedIf(
      rounding,
      dtype,
      normRows(data, asTensor(w).data, numberOf(attributes, 'epsilon')),
    );
    const normed = tensorData(dtype, shape, norm);
    return [
      normed,
      quantizeTensor(normed, results[1] as TensorType, numberOf(attributes, 'floor'), rounding),
    ];
  },
  decompose: (b, operands, attributes, results) => {
    const normed = decomposeNorm(b, operands, numberOf(attributes, 'epsilon'));
    return [normed, b.one('quantize', [normed], { floor: numberOf(attributes, 'floor') }, results[1])];
  },
  cost: (operands, results, _, sizes) =>
    costOf((normFlops + 2) * elements(operands[0] as TensorType, sizes), operands, results, sizes),
});

/** The scaled type declared as result number `index` of `count`. */
function declaredPart(
  declared: readonly Type[] | null,
  count: number,
  index: number,
  of: TensorType,
  op: string,
): TensorType {
  if (declared?.length !== count)
    problem(
      `${op} cannot know how its codes are tiled`,
      null,
      `write its ${count === 1 ? 'result type' : 'result types'}`,
    );
  return expectScaled(declared[index], of, op);
}

// --- softmax ---

const softmax = defineOp({
  name: 'softmax',
  class: 'composite',
  doc: 'exp(x − max) over its sum, along one axis, in f32 inside',
  operands: ['x'],
  attributes: { axis: { kind: 'integer', doc: 'the axis whose elements add up to 1' } },
  infer: ([x], attributes, declared) => {
    const t = expectElements('float', x, 'x', 'softmax');
    expectAxis(integerOf(attributes, 'axis'), t, 'softmax');
    return named([t], declared);
  },
  reference: ([x], attributes) => {
    const { dtype, shape, data } = asTensor(x);
    const { outer, size, inner } = along(shape, integerOf(attributes, 'axis'));
    const out = new Float64Array(data.length);
    for (let o = 0; o < outer; o++)
      for (let n = 0; n < inner; n++) softmaxLine(data, out, o * size * inner + n, size, inner);
    return [tensorData(dtype, shape, out)];
  },
  decompose: (b, [x], attributes) => {
    const axis = integerOf(attributes, 'axis');
    const type = withDType(tensorOf(x), 'f32');
    const others = range(type.dims.length).filter((i) => i !== axis);
    const wide = castTo(b, x, 'f32');
    const largest = spreadTo(b, b.one('max_over', [wide], { axes: [axis] }), type, others);
    const powers = b.one('exp', [b.one('sub', [wide, largest])]);
    const total = spreadTo(b, b.one('sum', [powers], { axes: [axis] }), type, others);
    return [castTo(b, b.one('div', [powers, total]), tensorOf(x).dtype)];
  },
  // Maximum, subtraction, exponential, sum, division.
  cost: (operands, results, _, sizes) =>
    costOf(5 * elements(operands[0] as TensorType, sizes), operands, results, sizes),
});

/** Softmax of `size` elements, `step` apart from `start`. */
function softmaxLine(x: Float64Array, out: Float64Array, start: number, size: number, step: number): void {
  let largest = -Infinity;
  for (let i = 0, at = start; i < size; i++, at += step) if (!(x[at] <= largest)) largest = x[at];
  let total = 0;
  for (let i = 0, at = start; i < size; i++, at += step) total += out[at] = Math.exp(x[at] - largest);
  for (let i = 0, at = start; i < size; i++, at += step) out[at] /= total;
}

// --- silu_mul ---

function inferGate(gate: Type, up: Type, weight: Type | undefined, op: string): TensorType {
  const g = expectElements('float', gate, 'gate', op);
  expectSame(g, 'gate', expectElements('float', up, 'up', op), 'up', op);
  if (weight) {
    const w = expectElements('float', weight, 'weight', op);
    if (w.dims.length !== 1 || g.dims.length === 0 || !sameDim(w.dims[0], g.dims[0]))
      problem(
        `${op}: weight must have one element for each row of gate: gate is ${showType(g)}, weight is ${showType(w)}`,
        'weight',
        'use routing_field {field = slot_weights}',
      );
  }
  return g;
}

/** silu(gate) · up, times the row's weight. */
function gateRows(gate: TensorData, up: TensorData, weight: TensorData | null): Float64Array {
  const out = new Float64Array(gate.data.length);
  const rowLength = product(gate.shape.slice(1));
  for (let i = 0; i < out.length; i++) {
    const g = gate.data[i];
    out[i] = (g / (1 + Math.exp(-g))) * up.data[i];
    if (weight) out[i] *= weight.data[Math.floor(i / rowLength)];
  }
  return out;
}

function decomposeGate(b: OpBuilder, [gate, up, weight]: readonly Value[]): Value {
  const { dtype } = tensorOf(gate);
  let h = b.one('mul', [b.one('silu', [castTo(b, gate, 'f32')]), castTo(b, up, 'f32')]);
  if (weight) h = b.one('mul', [h, spreadTo(b, castTo(b, weight, 'f32'), tensorOf(h), [0])]);
  return castTo(b, h, dtype);
}

// Sigmoid counts as one, then two multiplications; a third for the weight.
const gateFlops = (operands: readonly Type[]): number => operands.length + 1;

const silu_mul = defineOp({
  name: 'silu_mul',
  class: 'composite',
  doc: "SwiGLU: silu(gate) · up, times the row's routing weight when given, in f32 inside",
  operands: ['gate', 'up', 'weight?'],
  attributes: {},
  infer: ([gate, up, weight], _, declared) => named([inferGate(gate, up, weight, 'silu_mul')], declared),
  reference: ([gate, up, weight]) => {
    const g = asTensor(gate);
    return [tensorData(g.dtype, g.shape, gateRows(g, asTensor(up), weight ? asTensor(weight) : null))];
  },
  decompose: (b, operands) => [decomposeGate(b, operands)],
  cost: (operands, results, _, sizes) =>
    costOf(gateFlops(operands) * elements(operands[0] as TensorType, sizes), operands, results, sizes),
});

const silu_mul_quantize = defineOp({
  name: 'silu_mul_quantize',
  class: 'composite',
  doc: 'quantize of silu_mul: the plain product never reaches memory',
  operands: ['gate', 'up', 'weight?'],
  attributes: { floor: floorAttribute },
  infer: ([gate, up, weight], attributes, declared) => {
    const t = inferGate(gate, up, weight, 'silu_mul_quantize');
    expectFloor(numberOf(attributes, 'floor'), 'silu_mul_quantize');
    return [declaredPart(declared, 1, 0, t, 'silu_mul_quantize')];
  },
  reference: ([gate, up, weight], attributes, { results, rounding }) => {
    const g = asTensor(gate);
    const rows = gateRows(g, asTensor(up), weight ? asTensor(weight) : null);
    const h = tensorData(g.dtype, g.shape, roundedIf(rounding, g.dtype, rows));
    return [quantizeTensor(h, results[0] as TensorType, numberOf(attributes, 'floor'), rounding)];
  },
  decompose: (b, operands, attributes, results) => [
    b.one('quantize', [decomposeGate(b, operands)], { floor: numberOf(attributes, 'floor') }, results[0]),
  ],
  cost: (operands, results, _, sizes) =>
    costOf((gateFlops(operands) + 2) * elements(operands[0] as TensorType, sizes), operands, results, sizes),
});

// --- rope ---

const rope = defineOp({
  name: 'rope',
  class: 'composite',
  doc: 'turns pair (2j, 2j+1) of the last axis by position · frequencies[j], written back interleaved; in f32 inside',
  operands: ['x', 'at'],
  attributes: {
    frequencies: {
      kind: 'numbers',
      doc: 'radians per position of each pair: half as many as the last axis is long',
    },
    scale: { kind: 'number', default: 1, doc: 'factor of cos and sin (YaRN with unequal mscales)' },
  },
  infer: ([x, at], attributes, declared) => {
    const t = expectElements('float', x, 'x', 'rope');
    const p = expectPositions(at, 'at', 'rope');
    if (t.dims.length < 2 || !sameDim(t.dims[0], p.tokens))
      problem(`rope needs x[tokens, …, D]: x is ${showType(t)}, at is ${showType(p)}`, 'x');
    const pairs = numbersOf(attributes, 'frequencies').length;
    if (t.dims.at(-1)!.size !== 2 * pairs)
      problem(
        `rope turns pairs: the last axis of ${showType(t)} must be ${2 * pairs} long, twice the number of frequencies`,
        'frequencies',
      );
    return named([t], declared);
  },
  reference: ([x, at], attributes) => {
    const t = asTensor(x);
    const { position } = asPositions(at);
    const frequencies = numbersOf(attributes, 'frequencies');
    const turned = turnPairs(t.data, position, frequencies, numberOf(attributes, 'scale'));
    return [tensorData(t.dtype, t.shape, turned)];
  },
  decompose: (b, [x, at], attributes) => {
    const frequencies = numbersOf(attributes, 'frequencies');
    const type = tensorOf(x);
    const last = type.dims.length - 1;
    const pairs = dim(null, frequencies.length);
    const halves = tensor('f32', [...type.dims.slice(0, last), pairs]);
    const [cos, sin] = angles(b, at, frequencies, numberOf(attributes, 'scale')).map((v) =>
      spreadTo(b, v, halves, [0, last]),
    );
    const split = tensor('f32', [...halves.dims, dim(null, 2)]);
    const x2 = b.one('reshape', [castTo(b, x, 'f32')], {}, split);
    const [even, odd] = b
      .op('split', [x2], { axis: last + 1, sizes: [1, 1] })
      .map((v) => b.one('reshape', [v], {}, halves));
    const product = (u: Value, v: Value): Value => b.one('mul', [u, v]);
    const first = b.one('sub', [product(even, cos), product(odd, sin)]);
    const second = b.one('add', [product(even, sin), product(odd, cos)]);
    const column = tensor('f32', [...halves.dims, dim(null, 1)]);
    const columns = [first, second].map((v) => b.one('reshape', [v], {}, column));
    const turned = b.one('concat', columns, { axis: last + 1 });
    return [castTo(b, b.one('reshape', [turned], {}, withDType(type, 'f32')), type.dtype)];
  },
  // Per element two products and an addition; the angles, one per token and pair, are shared by all heads.
  cost: ([x, at], results, attributes, sizes) => {
    const t = x as TensorType;
    const perToken = numbersOf(attributes, 'frequencies').length;
    const anglesFlops = 5 * perToken * elements(tensor('f32', [t.dims[0]]), sizes);
    const bytes = bytesOf(t, sizes) + bytesOf(results[0], sizes) + bytesOf(at, sizes);
    return { flops: 3 * elements(t, sizes) + anglesFlops, bytes };
  },
});

/** cos and sin [tokens, pairs] of position · frequency, times `scale`, in f32. */
function angles(b: OpBuilder, at: Value, frequencies: readonly number[], scale: number): Value[] {
  if (at.type.kind !== 'positions') throw new Error('angles: not positions');
  const pairs = dim(null, frequencies.length);
  const table = tensor('f32', [at.type.tokens, pairs]);
  const position = castTo(b, b.one('position_field', [at], { field: 'position' }), 'f32');
  const steps = b.one('const', [], { values: frequencies }, tensor('f32', [pairs]));
  const angle = b.one('mul', [spreadTo(b, position, table, [0]), spreadTo(b, steps, table, [1])]);
  const scaled = (v: Value): Value => (scale === 1 ? v : b.one('mul', [v, fill(b, scale, table)]));
  return [scaled(b.one('cos', [angle])), scaled(b.one('sin', [angle]))];
}

function turnPairs(
  x: Float64Array,
  position: Int32Array,
  frequencies: readonly number[],
  scale: number,
): Float64Array {
  const pairs = frequencies.length;
  const out = new Float64Array(x.length);
  const perToken = position.length === 0 ? 0 : x.length / position.length;
  const cos = new Float64Array(pairs);
  const sin = new Float64Array(pairs);
  for (const [token, p] of position.entries()) {
    for (let j = 0; j < pairs; j++) {
      cos[j] = Math.cos(p * frequencies[j]) * scale;
      sin[j] = Math.sin(p * frequencies[j]) * scale;
    }
    for (let row = token * perToken; row < (token + 1) * perToken; row += 2 * pairs)
      for (let j = 0; j < pairs; j++) {
        const [a, b] = [x[row + 2 * j], x[row + 2 * j + 1]];
        out[row + 2 * j] = a * cos[j] - b * sin[j];
        out[row + 2 * j + 1] = a * sin[j] + b * cos[j];
      }
  }
  return out;
}

export const compositeOps = { rms_norm, rms_norm_quantize, softmax, silu_mul, silu_mul_quantize, rope };
