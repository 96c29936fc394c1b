// Ops that backward passes need and models hardly do: sums of rows by index, gradients of experts' weights, a choice's
// values in the order of experts and back, and attention's gradient as one op, so that a target can have one kernel for
// it. Each undoes the movement of another op: scatter_add that of gather, scatter_choices that of gather_choices, and so on.
import type { TensorData } from '../interpret/values.ts';
import type { Attributes } from '../module.ts';
import { sameDim, sameType, showDim, showType, tensor, type TensorType, type Type } from '../types.ts';
import { expectHeads, seenPairs, visibility, viewOf } from './attention.ts';
import { defineOp, problem, type OpDefinition } from './define.ts';
import { multiply } from './multiply.ts';
import {
  asPositions,
  asRouting,
  asTensor,
  bytesOf,
  costOf,
  elements,
  expectDeclaredPlain,
  expectElements,
  expectPositions,
  expectRouting,
  keysVisibleTo,
  moved,
  named,
  numberOf,
  permute,
  product,
  sizeOf,
  tensorData,
} from './support.ts';

const scatter_add = defineOp({
  name: 'scatter_add',
  class: 'view',
  doc: 'Rows added up by index into zeros: row i of the result is the sum of the rows of x whose index is i, in f32 inside',
  operands: ['x', 'i'],
  attributes: {},
  infer: ([x, i], _, declared) => {
    const from = expectElements('float', x, 'x', 'scatter_add');
    const index = expectElements('int', i, 'i', 'scatter_add');
    const to = expectDeclaredPlain(declared, 'scatter_add');
    const rows = from.dims.slice(index.dims.length);
    const agrees =
      index.dims.every((d, n) => from.dims[n] !== undefined && sameDim(d, from.dims[n])) &&
      to.dims.length === rows.length + 1 &&
      rows.every((d, n) => sameDim(d, to.dims[n + 1]));
    if (!agrees || to.dtype !== from.dtype)
      problem(
        `scatter_add needs x[I…, …], i[I…] and a result [N, …] of one dtype: x is ${showType(from)}, i is ${showType(index)}, the result is ${showType(to)}`,
        'x',
        'declare the tensor that gather took its rows from',
      );
    return [to];
  },
  reference: ([x, i], _, context) => {
    const [from, index] = [asTensor(x), asTensor(i)];
    const shape = context.shapeOf(context.results[0]);
    const run = product(shape.slice(1));
    const out = new Float64Array(product(shape));
    for (const [n, row] of index.data.entries()) {
      if (!(row >= 0 && row < shape[0]))
        throw new RangeError(`scatter_add: index ${row} at element ${n} is outside of 0 to ${shape[0] - 1}`);
      for (let d = 0; d < run; d++) out[row * run + d] += from.data[n * run + d];
    }
    return [tensorData(from.dtype, shape, out)];
  },
  cost: (operands, results, _, sizes) =>
    costOf(elements(operands[0] as TensorType, sizes), operands, results, sizes),
} satisfies OpDefinition);

const grouped_wgrad = defineOp({
  name: 'grouped_wgrad',
  class: 'contraction',
  doc: "Gradient of experts' matrices: for each expert the transpose of its rows of dy times its rows of x, without padding",
  operands: ['dy', 'x', 'routing'],
  attributes: {},
  infer: ([dy, x, routing], _, declared) => {
    const [up, of] = [
      expectElements('float', dy, 'dy', 'grouped_wgrad'),
      expectElements('float', x, 'x', 'grouped_wgrad'),
    ];
    const r = expectRouting(routing, 'routing', 'grouped_wgrad');
    const types = `dy is ${showType(up)}, x is ${showType(of)}, routing is ${showType(r)}`;
    const rows = [up, of].every((t) => t.dims.length === 2 && sameDim(t.dims[0], r.slots));
    if (!rows || up.dtype !== of.dtype)
      problem(`grouped_wgrad needs dy[slots, N] and x[slots, K] of one dtype: ${types}`, 'dy');
    const to = declared ? expectDeclaredPlain(declared, 'grouped_wgrad') : tensor(of.dtype, []);
    if (to.dtype !== 'f32' && to.dtype !== 'bf16' && to.dtype !== 'f16')
      problem(
        `grouped_wgrad gives plain floats, but ${showType(to)} is declared`,
        null,
        'declare bf16 or f32',
      );
    return named([tensor(to.dtype, [r.experts, up.dims[1], of.dims[1]])], declared);
  },
  reference: ([dyValue, xValue, routingValue], _, context) => {
    const [dy, x, r] = [asTensor(dyValue), asTensor(xValue), asRouting(routingValue)];
    const [n, k] = [dy.shape[1], x.shape[1]];
    const out = new Float64Array(r.experts * n * k);
    for (let e = 0; e < r.experts; e++) {
      const slots = [...r.tokenOf.slice(r.offsets[e], r.offsets[e + 1]).entries()]
        .filter(([, token]) => token >= 0)
        .map(([i]) => r.offsets[e] + i);
      const columns = (t: TensorData, width: number): Float64Array => {
        const rows = new Float64Array(slots.length * width);
        for (const [i, slot] of slots.entries())
          rows.set(t.data.subarray(slot * width, (slot + 1) * width), i * width);
        return permute(rows, [slots.length, width], [1, 0]);
      };
      const side = (data: Float64Array) => ({ data, offset: 0, stride: slots.length });
      const product = new Float64Array(n * k);
      if (slots.length > 0) multiply(side(columns(dy, n)), side(columns(x, k)), n, k, slots.length, product);
      out.set(product, e * n * k);
    }
    return [tensorData((context.results[0] as TensorType).dtype, [r.experts, n, k], out)];
  },
  cost: ([dy, x, routing], results, _, sizes) => {
    const n = sizeOf((dy as TensorType).dims[1], sizes);
    return costOf(2 * n * elements(x as TensorType, sizes), [dy, x, routing], results, sizes);
  },
} satisfies OpDefinition);

// --- a choice's values: by token and expert, by token and choice, by slot ---

const gather_choices = defineOp({
  name: 'gather_choices',
  class: 'routing',
  doc: "for each token's choices, the element of x of the chosen expert",
  operands: ['x', 'routing'],
  attributes: {},
  infer: ([x, routing], _, declared) => {
    const [t, r] = [
      expectElements('float', x, 'x', 'gather_choices'),
      expectRouting(routing, 'routing', 'gather_choices'),
    ];
    if (t.dims.length !== 2 || !sameDim(t.dims[0], r.tokens) || !sameDim(t.dims[1], r.experts))
      problem(`gather_choices needs x[tokens, experts]: x is ${showType(t)}, routing is ${showType(r)}`, 'x');
    return named([tensor(t.dtype, [r.tokens, r.top])], declared);
  },
  reference: ([x, routing]) => {
    const [t, r] = [asTensor(x), asRouting(routing)];
    const data = Float64Array.from(r.indices, (e, i) => t.data[Math.floor(i / r.top) * r.experts + e]);
    return [tensorData(t.dtype, [r.tokens, r.top], data)];
  },
  cost: moved,
} satisfies OpDefinition);

/** x[tokens, top], one element per choice. */
function expectChoices(x: Type, routing: Type, op: string) {
  const [t, r] = [expectElements('float', x, 'x', op), expectRouting(routing, 'routing', op)];
  if (t.dims.length !== 2 || !sameDim(t.dims[0], r.tokens) || !sameDim(t.dims[1], r.top))
    problem(`${op} needs x[tokens, top]: x is ${showType(t)}, routing is ${showType(r)}`, 'x');
  return { t, r };
}

const scatter_choices = defineOp({
  name: 'scatter_choices',
  class: 'routing',
  doc: "each choice's element in the column of its expert, zeros elsewhere",
  operands: ['x', 'routing'],
  attributes: {},
  infer: ([x, routing], _, declared) => {
    const { t, r } = expectChoices(x, routing, 'scatter_choices');
    return named([tensor(t.dtype, [r.tokens, r.experts])], declared);
  },
  reference: ([x, routing]) => {
    const [t, r] = [asTensor(x), asRouting(routing)];
    const out = new Float64Array(r.tokens * r.experts);
    for (const [i, e] of r.indices.entries()) out[Math.floor(i / r.top) * r.experts + e] = t.data[i];
    return [tensorData(t.dtype, [r.tokens, r.experts], out)];
  },
  cost: moved,
} satisfies OpDefinition);

const group_choices = defineOp({
  name: 'group_choices',
  class: 'routing',
  doc: "each choice's element at its slot, 0 on padding",
  operands: ['x', 'routing'],
  attributes: {},
  infer: ([x, routing], _, declared) => {
    const { t, r } = expectChoices(x, routing, 'group_choices');
    return named([tensor(t.dtype, [r.slots])], declared);
  },
  reference: ([x, routing]) => {
    const [t, r] = [asTensor(x), asRouting(routing)];
    const out = new Float64Array(r.tokenOf.length);
    for (const [i, slot] of r.slotOf.entries()) out[slot] = t.data[i];
    return [tensorData(t.dtype, [r.tokenOf.length], out)];
  },
  cost: moved,
} satisfies OpDefinition);

const ungroup_choices = defineOp({
  name: 'ungroup_choices',
  class: 'routing',
  doc: "for each token's choices, the element of x at its slot",
  operands: ['x', 'routing'],
  attributes: {},
  infer: ([x, routing], _, declared) => {
    const [t, r] = [
      expectElements('float', x, 'x', 'ungroup_choices'),
      expectRouting(routing, 'routing', 'ungroup_choices'),
    ];
    if (t.dims.length !== 1 || !sameDim(t.dims[0], r.slots))
      problem(`ungroup_choices needs x[${showDim(r.slots)}], but x is ${showType(t)}`, 'x');
    return named([tensor(t.dtype, [r.tokens, r.top])], declared);
  },
  reference: ([x, routing]) => {
    const [t, r] = [asTensor(x), asRouting(routing)];
    return [
      tensorData(
        t.dtype,
        [r.tokens, r.top],
        Float64Array.from(r.slotOf, (slot) => t.data[slot]),
      ),
    ];
  },
  cost: moved,
} satisfies OpDefinition);

// --- attention ---

const attention_gradient = defineOp({
  name: 'attention_gradient',
  class: 'composite',
  doc: "gradients of attention's q, k and v, given that of its result: probabilities are computed again, in f32 inside",
  operands: ['q', 'k', 'v', 'at', 'upstream'],
  attributes: {
    scale: { kind: 'number', doc: "attention's factor of the scores" },
    ...visibility,
  },
  infer: (operands, _, declared) => {
    const { q, k, v } = expectHeads(operands, 'attention_gradient');
    const p = expectPositions(operands[3], 'at', 'attention_gradient');
    if (!sameDim(q.dims[0], p.tokens) || !sameDim(k.dims[0], p.keys))
      problem(
        `attention_gradient: q has the rows ${showDim(q.dims[0])}, k ${showDim(k.dims[0])}, but at is ${showType(p)}`,
        'at',
      );
    const result = tensor(q.dtype, [q.dims[0], q.dims[1], v.dims[2]]);
    const up = expectElements('float', operands[4], 'upstream', 'attention_gradient');
    if (!sameType(up, result))
      problem(
        `attention_gradient: upstream is ${showType(up)}, but attention gives ${showType(result)}`,
        'upstream',
      );
    return named([q, k, v], declared);
  },
  reference: ([q, k, v, at, upstream], attributes) => {
    const seen = keysVisibleTo(asPositions(at), viewOf(attributes));
    return attentionGradient([q, k, v, upstream].map(asTensor), seen, numberOf(attributes, 'scale'));
  },
  // Per pair and head five products: q·k again, p·dv, dv·v, ds·k and ds·q; and 8 for the softmax and its gradient.
  cost: (operands, results, attributes: Attributes, sizes) => {
    const { q, k, sizes: h } = expectHeads(operands, 'attention_gradient');
    const pairs = seenPairs(q.dims[0], k.dims[0], viewOf(attributes), sizes);
    const flops = pairs * h.heads * (6 * h.depth + 4 * h.width + 8);
    return { flops, bytes: [...operands, ...results].reduce((n, t) => n + bytesOf(t, sizes), 0) };
  },
} satisfies OpDefinition);

/**
 * With p = softmax(s), s = scale · q·k and D = dO·v of each key: ds = p · (D − Σ p·D), dq = scale · Σ ds·k,
 * dk = scale · Σ ds·q, dv = Σ p · dO (FlashAttention-2, section 2.2).
 */
function attentionGradient(
  [q, k, v, up]: readonly TensorData[],
  seen: (token: number) => Int32Array,
  scale: number,
): readonly TensorData[] {
  const [tokens, heads, depth] = q.shape;
  const [, groups, width] = v.shape;
  const [dq, dk, dv] = [q, k, v].map((t) => new Float64Array(t.data.length));
  const dot = (a: Float64Array, i: number, b: Float64Array, j: number, n: number): number => {
    let sum = 0;
    for (let d = 0; d < n; d++) sum += a[i + d] * b[j + d];
    return sum;
  };
  const addTo = (
    to: Float64Array,
    i: number,
    factor: number,
    from: Float64Array,
    j: number,
    n: number,
  ): void => {
    for (let d = 0; d < n; d++) to[i + d] += factor * from[j + d];
  };
  for (let t = 0; t < tokens; t++) {
    const rows = seen(t);
    for (let h = 0; h < heads; h++) {
      const group = Math.floor((h * groups) / heads);
      const [mine, out] = [(t * heads + h) * depth, (t * heads + h) * width];
      const keyAt = (row: number): number => (row * groups + group) * depth;
      const valueAt = (row: number): number => (row * groups + group) * width;
      const scores = Float64Array.from(rows, (row) => dot(q.data, mine, k.data, keyAt(row), depth) * scale);
      const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
      const powers = scores.map((s) => Math.exp(s - largest));
      const total = powers.reduce((a, b) => a + b, 0);
      const p = powers.map((x) => x / total);
      const through = Float64Array.from(rows, (row) => dot(up.data, out, v.data, valueAt(row), width));
      const mean = p.reduce((sum, x, i) => sum + x * through[i], 0);
      for (const [i, row] of rows.entries()) {
        const ds = p[i] * (through[i] - mean) * scale;
        addTo(dq, mine, ds, k.data, keyAt(row), depth);
        addTo(dk, keyAt(row), ds, q.data, mine, depth);
        addTo(dv, valueAt(row), p[i], up.data, out, width);
      }
    }
  }
  return [q, k, v].map((t, i) => tensorData(t.dtype, t.shape, [dq, dk, dv][i]));
}

export const adjointOps = {
  scatter_add,
  grouped_wgrad,
  gather_choices,
  scatter_choices,
  group_choices,
  ungroup_choices,
  attention_gradient,
};
