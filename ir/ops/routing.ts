// Choosing experts, and moving rows between token order and expert order. A routing is one value: which experts each
// token takes, with which weights, and the layout of `slots`, the rows grouped by expert. Layout: groups in expert
// order, each starting at a multiple of the ragged dim's alignment, rows inside a group by token, −1 for padding.
// Rules of choice: DeepSeek-V3 report 2.1.2 and its inference code; ties take the lowest index first, because
// torch.topk leaves them open and a reference must not.
import type { RoutingData, TensorData } from '../interpret/values.ts';
import type { Attributes } from '../module.ts';
import {
  sameDim,
  showDim,
  showType,
  tensor,
  type RoutingType,
  type TensorType,
  type Type,
} from '../types.ts';
import { defineOp, problem, type InferContext } from './define.ts';
import {
  asRouting,
  asTensor,
  bytesOf,
  costOf,
  elements,
  expectElements,
  expectRouting,
  expectStatic,
  expectTensor,
  flagOf,
  integerOf,
  named,
  numberOf,
  product,
  tensorData,
  textOf,
} from './support.ts';

// --- route ---

const route = defineOp({
  name: 'route',
  class: 'routing',
  doc: 'top experts of each token by score + bias, within its best groups; weights from the scores without bias',
  operands: ['scores', 'bias?'],
  attributes: {
    top: { kind: 'integer', doc: 'experts per token' },
    groups: { kind: 'integer', default: 1, doc: 'groups that the experts fall into, in order' },
    top_groups: { kind: 'integer', default: 1, doc: 'groups that a token may take experts from' },
    group_score: {
      kind: 'string',
      default: 'top2',
      oneOf: ['top2', 'max'],
      doc: "a group's score: the sum of its two best choices, or the best",
    },
    normalize: { kind: 'boolean', default: true, doc: "divide a token's weights by their sum" },
    scale: { kind: 'number', default: 1, doc: 'factor of the weights' },
    epsilon: { kind: 'number', default: 1e-20, doc: 'added to the sum of weights' },
  },
  infer: ([scores, bias], attributes, declared, context) => {
    const s = expectElements('float', scores, 'scores', 'route');
    if (s.dtype !== 'f32' || s.dims.length !== 2)
      problem(
        `route needs scores: f32[tokens, experts], but got ${showType(s)}`,
        'scores',
        'cast the scores to f32',
      );
    if (bias) {
      const b = expectElements('float', bias, 'bias', 'route');
      if (b.dtype !== 'f32' || b.dims.length !== 1 || !sameDim(b.dims[0], s.dims[1]))
        problem(`route needs bias: f32[${showDim(s.dims[1])}], but got ${showType(b)}`, 'bias');
    }
    expectChoice(s, attributes);
    return [expectRoutingResult(s, attributes, declared, context)];
  },
  reference: ([scores, bias], attributes, { results, alignOf, rounding }) => {
    const type = results[0] as RoutingType;
    const s = asTensor(scores);
    const rule = ruleOf(s.shape[1], attributes, rounding);
    const chosen = chooseAll(s, bias ? asTensor(bias).data : null, rule);
    return [layOut(s.shape[0], rule, chosen, alignOf(type.slots.name!))];
  },
  // Bias, group scores and each of the picks look at every expert once.
  cost: (operands, results, attributes, sizes) =>
    costOf(
      (3 + integerOf(attributes, 'top')) * elements(operands[0] as TensorType, sizes),
      operands,
      results,
      sizes,
    ),
});

function expectChoice(scores: TensorType, attributes: Attributes): void {
  const experts = expectStatic(scores.dims[1], 'route', 'but experts must be static', 'scores');
  const [top, groups, topGroups] = ['top', 'groups', 'top_groups'].map((name) => integerOf(attributes, name));
  if (groups < 1 || experts % groups !== 0)
    problem(`route: ${experts} experts do not fall into ${groups} equal groups`, 'groups');
  if (topGroups < 1 || topGroups > groups)
    problem(`route: top_groups is ${topGroups} of ${groups} groups`, 'top_groups', `use 1 to ${groups}`);
  const open = (topGroups * experts) / groups;
  if (top < 1 || top > open)
    problem(`route: top is ${top}, but ${open} experts stand open to a token`, 'top', `use 1 to ${open}`);
}

function expectRoutingResult(
  scores: TensorType,
  attributes: Attributes,
  declared: readonly Type[] | null,
  { module }: InferContext,
): RoutingType {
  if (declared?.length !== 1)
    problem(
      'route cannot know the name of its slots dim',
      null,
      'write the result type: routing[tokens, …, slots]',
    );
  const r = expectRouting(declared[0], 'result', 'route');
  const top = integerOf(attributes, 'top');
  if (!sameDim(r.tokens, scores.dims[0]) || !sameDim(r.experts, scores.dims[1]) || r.top.size !== top)
    problem(`route: ${showType(r)} is declared, but scores is ${showType(scores)} and top is ${top}`);
  const ragged = module.dims.find((d) => d.name === r.slots.name)?.ragged;
  if (r.slots.size !== null || !ragged)
    problem(
      `route: ${showDim(r.slots)} must be a ragged dim of the module`,
      null,
      `declare dim ${r.slots.name ?? 'slots'} = ragged(${showDim(r.tokens)} * ${top}, groups = ${r.experts.size}, align = 128)`,
    );
  if (ragged.per !== top || ragged.groups !== r.experts.size)
    problem(
      `route: ${r.slots.name} is ragged for ${ragged.per} of ${ragged.groups} experts, but ${top} of ${r.experts.size} are chosen`,
      'top',
    );
  return r;
}

interface Rule {
  readonly experts: number;
  readonly top: number;
  readonly groups: number;
  readonly topGroups: number;
  readonly groupScore: string;
  readonly normalize: boolean;
  readonly scale: number;
  readonly epsilon: number;
  /** Sums that decide a choice are rounded to f32 as kernels' are: otherwise the two would see different ties. */
  readonly round: (x: number) => number;
}

const ruleOf = (experts: number, attributes: Attributes, rounding: boolean): Rule => ({
  experts,
  top: integerOf(attributes, 'top'),
  groups: integerOf(attributes, 'groups'),
  topGroups: integerOf(attributes, 'top_groups'),
  groupScore: textOf(attributes, 'group_score'),
  normalize: flagOf(attributes, 'normalize'),
  scale: numberOf(attributes, 'scale'),
  epsilon: numberOf(attributes, 'epsilon'),
  round: rounding ? Math.fround : (x) => x,
});

/** Indices of the `count` largest in descending order, the lowest index first among equals. */
function largest(values: Float64Array, count: number): Int32Array {
  const order = Array.from(values.keys());
  // Array.prototype.sort is stable; infinities make a difference of NaN, so compare instead of subtracting.
  order.sort((a, b) => (values[a] > values[b] ? -1 : values[a] < values[b] ? 1 : 0));
  return Int32Array.from(order.slice(0, count));
}

function chooseAll(
  scores: TensorData,
  bias: Float64Array | null,
  rule: Rule,
): { indices: Int32Array; weights: Float64Array } {
  const { experts, top } = rule;
  const tokens = scores.shape[0];
  const indices = new Int32Array(tokens * top);
  const weights = new Float64Array(tokens * top);
  for (let t = 0; t < tokens; t++) {
    const row = scores.data.subarray(t * experts, (t + 1) * experts);
    const choice = row.map((s, e) => (bias ? rule.round(s + bias[e]) : s));
    const missing = choice.findIndex((c) => Number.isNaN(c));
    if (missing >= 0) throw new Error(`the choice of token ${t} for expert ${missing} is NaN`);
    closeGroups(choice, rule);
    const chosen = largest(choice, top);
    indices.set(chosen, t * top);
    weights.set(weigh(row, chosen, rule), t * top);
  }
  return { indices, weights };
}

/** Sets the choices outside of the best groups to −infinity. */
function closeGroups(choice: Float64Array, { groups, topGroups, groupScore, experts, round }: Rule): void {
  if (topGroups === groups) return;
  const size = experts / groups;
  const scores = new Float64Array(groups);
  for (let g = 0; g < groups; g++) {
    const best = choice
      .slice(g * size, (g + 1) * size)
      .sort()
      .reverse();
    scores[g] = groupScore === 'max' || size === 1 ? best[0] : round(best[0] + best[1]);
  }
  const open = new Set(largest(scores, topGroups));
  for (let g = 0; g < groups; g++) if (!open.has(g)) choice.fill(-Infinity, g * size, (g + 1) * size);
}

function weigh(
  scores: Float64Array,
  chosen: Int32Array,
  { normalize, scale, epsilon, round }: Rule,
): Float64Array {
  const weights = Float64Array.from(chosen, (e) => scores[e]);
  const total = normalize ? weights.reduce((sum, w) => sum + w, 0) + epsilon : 1;
  return weights.map((w) => round((w / total) * scale));
}

/** Gives every choice its slot. */
function layOut(
  tokens: number,
  { experts, top }: Rule,
  { indices, weights }: { indices: Int32Array; weights: Float64Array },
  align: number,
): RoutingData {
  const counts = new Int32Array(experts);
  for (const e of indices) counts[e]++;
  const offsets = new Int32Array(experts + 1);
  for (let e = 0; e < experts; e++) offsets[e + 1] = offsets[e] + Math.ceil(counts[e] / align) * align;
  const slots = offsets[experts];
  const tokenOf = new Int32Array(slots).fill(-1);
  const choiceOf = new Int32Array(slots).fill(-1);
  const slotOf = new Int32Array(tokens * top);
  const next = offsets.slice(0, experts);
  for (let i = 0; i < indices.length; i++) {
    const slot = next[indices[i]]++;
    tokenOf[slot] = Math.floor(i / top);
    choiceOf[slot] = i % top;
    slotOf[i] = slot;
  }
  return { kind: 'routing', tokens, experts, top, indices, weights, offsets, tokenOf, choiceOf, slotOf };
}

// --- reading a routing ---

const routing_field = defineOp({
  name: 'routing_field',
  class: 'routing',
  doc: "a routing's weights or indices by token, or the weight of each slot's row (0 on padding)",
  operands: ['routing'],
  attributes: {
    field: { kind: 'string', oneOf: ['weights', 'indices', 'slot_weights'], doc: 'which of its arrays' },
  },
  infer: ([routing], attributes, declared) => {
    const r = expectRouting(routing, 'routing', 'routing_field');
    const field = textOf(attributes, 'field');
    if (field === 'slot_weights') return named([tensor('f32', [r.slots])], declared);
    return named([tensor(field === 'indices' ? 'i32' : 'f32', [r.tokens, r.top])], declared);
  },
  reference: ([routing], attributes) => {
    const r = asRouting(routing);
    const field = textOf(attributes, 'field');
    if (field === 'indices') return [tensorData('i32', [r.tokens, r.top], Float64Array.from(r.indices))];
    if (field === 'weights') return [tensorData('f32', [r.tokens, r.top], r.weights)];
    const weight = (token: number, slot: number): number =>
      token < 0 ? 0 : r.weights[token * r.top + r.choiceOf[slot]];
    return [tensorData('f32', [r.tokenOf.length], Float64Array.from(r.tokenOf, weight))];
  },
  cost: ([routing], results, _, sizes) => ({
    flops: 0,
    // Reads only the array it gives; the slots' weights come through the choices.
    bytes: bytesOf(results[0], sizes) + Math.min(bytesOf(routing, sizes), 3 * bytesOf(results[0], sizes)),
  }),
});

// --- rows to experts and back ---

const group_tokens = defineOp({
  name: 'group_tokens',
  class: 'routing',
  doc: "each slot's row is its token's; padding rows are 0; scaled operands keep their scales",
  operands: ['x', 'routing'],
  attributes: {},
  infer: ([x, routing], _, declared) => {
    const t = expectTensor(x, 'x', 'group_tokens');
    const r = expectRouting(routing, 'routing', 'group_tokens');
    if (t.dims.length === 0 || !sameDim(t.dims[0], r.tokens))
      problem(`group_tokens: the rows of x must be ${showDim(r.tokens)}, but x is ${showType(t)}`, 'x');
    for (const { tile } of t.scales)
      if (tile[0] !== 1)
        problem(
          `group_tokens moves rows, but tiles of ${showType(t)} hold several`,
          'x',
          'quantize with tiles of one row, like 1x128',
        );
    return named([{ ...t, dims: [r.slots, ...t.dims.slice(1)] }], declared);
  },
  reference: ([x, routing]) => {
    const t = asTensor(x);
    const { tokenOf } = asRouting(routing);
    const scales = t.scales.map((s) => pickRows(s, tokenOf));
    const { shape, data } = pickRows(t, tokenOf);
    return [tensorData(t.dtype, shape, data, scales)];
  },
});

interface Rows {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Row `from[i]` as row i; zeros where it is −1. */
function pickRows({ shape, data }: Rows, from: Int32Array): Rows {
  const length = product(shape.slice(1));
  const out = new Float64Array(from.length * length);
  for (const [i, row] of from.entries())
    if (row >= 0) out.set(data.subarray(row * length, (row + 1) * length), i * length);
  return { shape: [from.length, ...shape.slice(1)], data: out };
}

const combine_tokens = defineOp({
  name: 'combine_tokens',
  class: 'routing',
  doc: "sum of the rows of each token's choices, without weights, in f32 inside",
  operands: ['y', 'routing'],
  attributes: {},
  infer: ([y, routing], _, declared) => {
    const t = expectElements('float', y, 'y', 'combine_tokens');
    const r = expectRouting(routing, 'routing', 'combine_tokens');
    if (t.dims.length === 0 || !sameDim(t.dims[0], r.slots))
      problem(`combine_tokens: the rows of y must be ${showDim(r.slots)}, but y is ${showType(t)}`, 'y');
    return named([{ ...t, dims: [r.tokens, ...t.dims.slice(1)] }], declared);
  },
  reference: ([y, routing]) => {
    const t = asTensor(y);
    const { tokens, top, slotOf } = asRouting(routing);
    const length = product(t.shape.slice(1));
    const out = new Float64Array(tokens * length);
    for (const [i, slot] of slotOf.entries()) {
      const to = Math.floor(i / top) * length;
      for (let d = 0; d < length; d++) out[to + d] += t.data[slot * length + d];
    }
    return [tensorData(t.dtype, [tokens, ...t.shape.slice(1)], out)];
  },
  cost: ([, routing], results, _, sizes) => {
    const top = (routing as RoutingType).top.size ?? 1;
    const [flops, row] = [top * elements(results[0] as TensorType, sizes), bytesOf(results[0], sizes)];
    // Reads a row per choice, not the padding between groups.
    return { flops, bytes: top * row + row + bytesOf(routing, sizes) };
  },
});

export const routingOps = { route, routing_field, group_tokens, combine_tokens };
