// What depends on where tokens stand: fields of positions, which keys a token may see, and attention. Packed prefill
// (the keys are the step's own tokens) and a paged cache (decode, chunked prefill) are one op: `at` tells which.
// The rule of visibility itself is keysVisibleTo in support.ts.
import type { Attributes, Value } from '../module.ts';
import type { TensorData } from '../interpret/values.ts';
import { dim, sameDim, showDim, showType, tensor, type Dim, type TensorType, type Type } from '../types.ts';
import { castTo, fill, spreadTo, tensorOf } from './composite.ts';
import { defineOp, problem, type AttributeSpec, type DimSizes, type OpBuilder } from './define.ts';
import {
  asPositions,
  asTensor,
  bytesOf,
  expectElements,
  expectPositions,
  expectStatic,
  flagOf,
  integerOf,
  keysVisibleTo,
  named,
  numberOf,
  sizeOf,
  tensorData,
  textOf,
} from './support.ts';

const position_field = defineOp({
  name: 'position_field',
  class: 'view',
  doc: "a token's position or sequence, or the rows of the tokens whose outputs are wanted",
  operands: ['at'],
  attributes: {
    field: {
      kind: 'string',
      oneOf: ['position', 'sequence', 'outputs'],
      doc: 'which of the arrays of positions',
    },
  },
  infer: ([at], attributes, declared) => {
    const p = expectPositions(at, 'at', 'position_field');
    return named(
      [tensor('i32', [textOf(attributes, 'field') === 'outputs' ? p.outputs : p.tokens])],
      declared,
    );
  },
  reference: ([at], attributes) => {
    const array = asPositions(at)[textOf(attributes, 'field') as 'position' | 'sequence' | 'outputs'];
    return [tensorData('i32', [array.length], Float64Array.from(array))];
  },
});

export const visibility: Readonly<Record<'causal' | 'window', AttributeSpec>> = {
  causal: { kind: 'boolean', default: true, doc: 'a token sees no later position' },
  window: { kind: 'integer', default: 0, doc: 'sees positions less than this far away; 0: any distance' },
};

function expectWindow(window: number, op: string): void {
  if (window < 0) problem(`${op}: window is ${window}`, 'window', 'use 0 for no window');
}

const visible = defineOp({
  name: 'visible',
  class: 'view',
  doc: 'which keys each token may attend to: bool[tokens, keys]',
  operands: ['at'],
  attributes: visibility,
  infer: ([at], attributes, declared) => {
    const p = expectPositions(at, 'at', 'visible');
    expectWindow(integerOf(attributes, 'window'), 'visible');
    return named([tensor('bool', [p.tokens, p.keys])], declared);
  },
  reference: ([at], attributes, { results, shapeOf }) => {
    const [tokens, keys] = shapeOf(results[0]);
    const seen = keysVisibleTo(asPositions(at), viewOf(attributes));
    const data = new Float64Array(tokens * keys);
    for (let t = 0; t < tokens; t++) for (const key of inRange(seen(t), keys, t)) data[t * keys + key] = 1;
    return [tensorData('bool', [tokens, keys], data)];
  },
});

export const viewOf = (attributes: Attributes): { causal: boolean; window: number } => ({
  causal: flagOf(attributes, 'causal'),
  window: integerOf(attributes, 'window'),
});

/** The same keys; throws when pages point beyond the key axis. */
function inRange(keys: Int32Array, count: number, token: number): Int32Array {
  for (const key of keys)
    if (!(key >= 0 && key < count))
      throw new Error(
        `token ${token} sees key row ${key}, but there are ${count} key rows: check the page table`,
      );
  return keys;
}

interface Heads {
  readonly q: TensorType;
  readonly k: TensorType;
  readonly v: TensorType;
  /** Query heads, key heads, and lengths of keys and values per head. */
  readonly sizes: {
    readonly heads: number;
    readonly groups: number;
    readonly depth: number;
    readonly width: number;
  };
}

export function expectHeads([q, k, v]: readonly Type[], op: string): Heads {
  const [tq, tk, tv] = [q, k, v].map((type, i) => expectElements('float', type, 'qkv'[i], op));
  const shown = `q is ${showType(tq)}, k is ${showType(tk)}, v is ${showType(tv)}`;
  if ([tq, tk, tv].some((t) => t.dims.length !== 3))
    problem(`${op} needs q[tokens, heads, depth], k[keys, groups, depth], v[keys, groups, width]: ${shown}`);
  if (tq.dtype !== tk.dtype || tk.dtype !== tv.dtype)
    problem(`${op} needs q, k and v of one dtype: ${shown}`, 'k', `cast all to ${tq.dtype}`);
  const size = (d: Dim): number => expectStatic(d, op, 'but heads and their lengths must be static', null);
  const [heads, depth] = [size(tq.dims[1]), size(tq.dims[2])];
  const [groups, keyDepth] = [size(tk.dims[1]), size(tk.dims[2])];
  const [valueGroups, width] = [size(tv.dims[1]), size(tv.dims[2])];
  if (depth !== keyDepth) problem(`${op}: q and k must be equally long per head: ${shown}`, 'k');
  if (groups !== valueGroups || !sameDim(tk.dims[0], tv.dims[0]))
    problem(`${op}: k and v must have the same keys and heads: ${shown}`, 'v');
  if (groups === 0 || heads % groups !== 0)
    problem(
      `${op}: ${groups} key heads do not divide ${heads} query heads`,
      'k',
      'use 1 key head to share it',
    );
  return { q: tq, k: tk, v: tv, sizes: { heads, groups, depth, width } };
}

const attention = defineOp({
  name: 'attention',
  class: 'composite',
  doc: 'softmax(q · k · scale) · v over the keys that each token may see, in f32 inside',
  operands: ['q', 'k', 'v', 'at'],
  attributes: {
    scale: { kind: 'number', doc: 'factor of the scores, 1/sqrt(depth) without YaRN' },
    ...visibility,
  },
  infer: (operands, attributes, declared) => {
    const { q, k, v } = expectHeads(operands, 'attention');
    const p = expectPositions(operands[3], 'at', 'attention');
    expectWindow(integerOf(attributes, 'window'), 'attention');
    if (!sameDim(q.dims[0], p.tokens))
      problem(`attention: q has the rows ${showDim(q.dims[0])}, but at places ${showDim(p.tokens)}`, 'q');
    if (!sameDim(k.dims[0], p.keys))
      problem(
        `attention: k has the rows ${showDim(k.dims[0])}, but at looks along ${showDim(p.keys)}`,
        'k',
        'take k and v from remember, which gives what attention looks along',
      );
    return named([tensor(q.dtype, [q.dims[0], q.dims[1], v.dims[2]])], declared);
  },
  reference: ([q, k, v, at], attributes) => {
    const seen = keysVisibleTo(asPositions(at), viewOf(attributes));
    return [attend(asTensor(q), asTensor(k), asTensor(v), seen, numberOf(attributes, 'scale'))];
  },
  decompose: (b, operands, attributes) => [decompose(b, operands, attributes)],
  cost: (operands, results, attributes, sizes) => {
    const { q, k, v, sizes: h } = expectHeads(operands, 'attention');
    const pairs = seenPairs(q.dims[0], k.dims[0], viewOf(attributes), sizes);
    // Per pair and head: q·k and p·v as multiply-accumulates, and 5 for the softmax.
    const flops = pairs * h.heads * (2 * (h.depth + h.width) + 5);
    return { flops, bytes: [q, k, v, operands[3], results[0]].reduce((n, t) => n + bytesOf(t, sizes), 0) };
  },
});

/**
 * Token and key pairs that are computed, at most: all, or with causal attention among the step's own tokens half of
 * them, or a window's worth. Several sequences in one batch see less: lengths are not known from sizes of dims.
 */
export function seenPairs(
  tokens: Dim,
  keys: Dim,
  { causal, window }: { causal: boolean; window: number },
  sizes: DimSizes,
): number {
  const [t, k] = [sizeOf(tokens, sizes), sizeOf(keys, sizes)];
  const all = causal && sameDim(tokens, keys) ? (t * (t + 1)) / 2 : t * k;
  return window === 0 ? all : Math.min(all, t * (causal ? window : 2 * window - 1));
}

function attend(
  q: TensorData,
  k: TensorData,
  v: TensorData,
  seen: (token: number) => Int32Array,
  scale: number,
): TensorData {
  const [tokens, heads, depth] = q.shape;
  const [keys, groups, width] = v.shape;
  const out = new Float64Array(tokens * heads * width);
  for (let t = 0; t < tokens; t++) {
    const rows = inRange(seen(t), keys, t);
    const scores = new Float64Array(rows.length);
    for (let h = 0; h < heads; h++) {
      const group = Math.floor((h * groups) / heads);
      const head = q.data.subarray((t * heads + h) * depth, (t * heads + h + 1) * depth);
      scoreRows(scores, head, k.data, rows, groups, group, scale);
      const total = exponentials(scores);
      const result = out.subarray((t * heads + h) * width, (t * heads + h + 1) * width);
      for (let i = 0; i < rows.length; i++) {
        const p = scores[i] / total;
        const from = (rows[i] * groups + group) * width;
        for (let d = 0; d < width; d++) result[d] += p * v.data[from + d];
      }
    }
  }
  return tensorData(q.dtype, [tokens, heads, width], out);
}

/** scores[i] = scale · head · k[rows[i], group]. */
function scoreRows(
  scores: Float64Array,
  head: Float64Array,
  k: Float64Array,
  rows: Int32Array,
  groups: number,
  group: number,
  scale: number,
): void {
  const depth = head.length;
  for (let i = 0; i < rows.length; i++) {
    const from = (rows[i] * groups + group) * depth;
    let dot = 0;
    for (let d = 0; d < depth; d++) dot += head[d] * k[from + d];
    scores[i] = dot * scale;
  }
}

/** exp(score − largest) in place; gives their sum. */
function exponentials(scores: Float64Array): number {
  let largest = -Infinity;
  for (const s of scores) if (!(s <= largest)) largest = s;
  let total = 0;
  for (let i = 0; i < scores.length; i++) total += scores[i] = Math.exp(scores[i] - largest);
  return total;
}

/** Scores as einsum, masked by `visible`, softmax, and einsum with the values. */
function decompose(b: OpBuilder, operands: readonly Value[], attributes: Attributes): Value {
  const [q, k, v, at] = operands;
  const form = headForm(b, [q, k, v]);
  const scoresType = tensor('f32', [tensorOf(q).dims[0], ...form.head, tensorOf(k).dims[0]]);
  const dots = b.one('einsum', [form.q, form.k], { spec: form.qk }, scoresType);
  const scores = b.one('mul', [dots, fill(b, numberOf(attributes, 'scale'), scoresType)]);
  const last = scoresType.dims.length - 1;
  const mask = spreadTo(b, b.one('visible', [at], { ...viewOf(attributes) }), scoresType, [0, last]);
  const masked = b.one('select', [mask, scores, fill(b, -Infinity, scoresType)]);
  const weights = b.one('softmax', [masked], { axis: last });
  const [tokens, heads] = tensorOf(q).dims;
  const width = tensorOf(v).dims[2];
  const out = b.one(
    'einsum',
    [weights, form.v],
    { spec: form.pv },
    tensor('f32', [tokens, ...form.head, width]),
  );
  const flat =
    form.head.length === 1 ? out : b.one('reshape', [out], {}, tensor('f32', [tokens, heads, width]));
  return castTo(b, flat, tensorOf(q).dtype);
}

interface HeadForm {
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
  /** einsum specs of q · k and p · v. */
  readonly qk: string;
  readonly pv: string;
  /** Axes of the scores between tokens and keys. */
  readonly head: readonly Dim[];
}

/** q, k and v in f32, shaped so that one einsum covers all heads. */
function headForm(b: OpBuilder, values: readonly Value[]): HeadForm {
  const { heads, groups, depth, width } = expectHeads(
    values.map((x) => x.type),
    'attention',
  ).sizes;
  const [q, k, v] = values.map((x) => castTo(b, x, 'f32'));
  const reshape = (x: Value, ...sizes: number[]): Value =>
    b.one('reshape', [x], {}, tensor('f32', [tensorOf(x).dims[0], ...sizes.map((n) => dim(null, n))]));
  const head = [tensorOf(q).dims[1]];
  if (groups === heads) return { q, k, v, qk: 'thd,khd->thk', pv: 'thk,khv->thv', head };
  // One key head for all: without an axis of length 1 it is one product per token, as absorbed decode wants it.
  if (groups === 1)
    return { q, k: reshape(k, depth), v: reshape(v, width), qk: 'thd,kd->thk', pv: 'thk,kv->thv', head };
  const each = heads / groups;
  const split = reshape(q, groups, each, depth);
  return {
    q: split,
    k,
    v,
    qk: 'tghd,kgd->tghk',
    pv: 'tghk,kgv->tghv',
    head: [dim(null, groups), dim(null, each)],
  };
}

export const attentionOps = { position_field, visible, attention };
