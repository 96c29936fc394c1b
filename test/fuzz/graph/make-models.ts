// Makers of the ops that models are written with: quantisation, norms, attention, routing, caches.
import type { Attributes, Value } from '../../../ir/module.ts';
import { dim, sameDim, tensor, type Dim, type ScaleLevel, type TensorType } from '../../../ir/types.ts';
import { elements, floats, type Drawing, type TensorValue } from './drawing.ts';
import { axisOf, mixable, scalable, type Maker } from './maker.ts';

// --- scaling ---

const levelFor = (d: Drawing, rank: number): ScaleLevel => ({
  tile: Array.from({ length: rank }, (_, i) => (i === rank - 1 ? d.c.pick([128, 128, 32, 16, 0]) : 1)),
  format: d.c.pick(['f32', 'f32', 'pow2', 'ue8m0'] as const),
});
const quantize: Maker = (d) => {
  const x = scalable(d);
  const dtype = d.c.pick(['f8e4m3', 'f8e4m3', 'f8e5m2', 'f12e5m6'] as const);
  d.one('quantize', [x], {}, tensor(dtype, x.type.dims, [levelFor(d, x.type.dims.length)]), 60000);
};
const dequantize: Maker = (d) => {
  const x = d.find((t) => t.scales.length > 0);
  if (x) d.one('dequantize', [x], {}, tensor(d.c.pick(['f32', 'bf16'] as const), x.type.dims), 100);
};

// --- composites ---

const normed = (d: Drawing): [TensorValue, TensorValue] => {
  const x = scalable(d);
  return [x, d.weight(tensor(d.c.chance(0.8) ? x.type.dtype : 'f32', [x.type.dims.at(-1)!]))];
};
const gated = (d: Drawing): TensorValue[] => {
  const gate = d.within(scalable(d), 30);
  const up = d.within(d.like(gate.type), 30);
  const weight = d.c.chance(0.3) ? [d.within(d.like(tensor('f32', [gate.type.dims[0]])), 4)] : [];
  return [gate, up, ...weight];
};
const codes = (d: Drawing, x: TensorType): TensorType =>
  tensor('f8e4m3', x.dims, [{ ...levelFor(d, x.dims.length), format: 'f32' }]);
const softmax: Maker = (d) => {
  const x = d.draw(
    (t) => floats(t) && t.dims.length > 0,
    () => d.type(),
  );
  const last = x.type.dims.length - 1;
  const axis = d.c.chance(0.7) && mixable(x.type.dims[last]) ? last : axisOf(d, x.type, mixable);
  if (axis !== null) d.one('softmax', [x], { axis }, null, 1);
};
const rope: Maker = (d) => {
  const at = d.positions();
  if (!at) return;
  const even = (t: TensorType): boolean =>
    floats(t) &&
    t.dims.length >= 2 &&
    t.dims[0].name === 'tokens' &&
    t.dims[0].size === null &&
    (t.dims.at(-1)!.size ?? 1) % 2 === 0;
  const x = d.draw(even, () => tensor(d.dtype, [dim('tokens'), dim(null, 2), dim(null, 8)]));
  const frequencies = Array.from({ length: x.type.dims.at(-1)!.size! / 2 }, (_, i) => 1 / 10 ** (i / 3));
  d.one('rope', [x, at], { frequencies, ...(d.c.chance(0.3) ? { scale: 1.25 } : {}) }, null, 2 * d.size(x));
};
const attention: Maker = (d) => {
  const at = d.positions();
  if (at?.type.kind !== 'positions') return;
  const { tokens, keys } = at.type;
  const groups = d.c.pick([1, 1, 2, 3]);
  const heads = groups * d.c.pick([1, 2, 4]);
  const [depth, width] = [d.c.pick([4, 8, 16, 24]), d.c.pick([4, 8, 16, 20])];
  const rows = (n: Dim, h: number, w: number): TensorType => tensor(d.dtype, [n, dim(null, h), dim(null, w)]);
  const paged = !sameDim(tokens, keys);
  // What lies beyond a sequence's rows is never looked at, so the cache's numbers may be anything.
  const [q, k, v] = [
    d.like(rows(tokens, heads, depth)),
    ...[depth, width].map((w) => (paged ? d.fresh(rows(keys, groups, w)) : d.like(rows(keys, groups, w)))),
  ].map((x) => d.within(x, 4));
  d.one(
    'attention',
    [q, k, v, at],
    { scale: 0.25, ...(d.c.chance(0.3) ? { window: 5 } : {}), ...(d.c.chance(0.2) ? { causal: false } : {}) },
    null,
    4,
  );
};

// --- routing ---

const route: Maker = (d) => {
  if (d.kind !== 'entry' || d.routing) return;
  // Scores are multiples of 1/64 and what is exact on them: no tie is broken by rounding.
  let scores: Value = d.b.argument('scores', tensor('f32', [dim('tokens'), dim(null, 8)]));
  if (d.c.chance(0.3)) scores = d.b.one('abs', [scores]);
  if (d.c.chance(0.3)) scores = d.b.one('mul', [scores, d.splat(0.5, scores.type as TensorType)]);
  const bias = d.c.chance(0.4) ? [d.b.argument('bias_scores', tensor('f32', [dim(null, 8)]))] : [];
  const type = {
    kind: 'routing',
    tokens: dim('tokens'),
    experts: dim(null, 8),
    top: dim(null, 2),
    slots: dim('slots'),
  } as const;
  const groups: Attributes = d.c.chance(0.4)
    ? { groups: 4, top_groups: 2, group_score: d.c.pick(['top2', 'max']) }
    : {};
  const weights: Attributes = {
    ...(d.c.chance(0.3) ? { normalize: false } : {}),
    ...(d.c.chance(0.3) ? { scale: 2.5 } : {}),
  };
  d.routing = d.op('route', [scores, ...bias], { top: 2, ...groups, ...weights }, [type], 1)[0];
};
const routing_field: Maker = (d) => {
  if (!d.routing) return route(d);
  d.one('routing_field', [d.routing], { field: d.c.pick(['weights', 'indices', 'slot_weights']) }, null, 8);
};
const bySlots = (t: TensorType): boolean => t.dims[0]?.name === 'slots' && t.dims[0].size === null;
const group_tokens: Maker = (d) => {
  if (!d.routing) return route(d);
  const x = d.draw(
    (t) => t.dims.length === 2 && t.dims[0].name === 'tokens' && elements(t.dims) <= 1600,
    () => tensor(d.dtype, [dim('tokens'), dim(null, d.c.pick([8, 16, 32]))]),
  );
  d.one('group_tokens', [x, d.routing]);
};
const grouped_matmul: Maker = (d) => {
  const found = d.find((t) => bySlots(t) && floats(t) && t.dims.length === 2 && t.dims[1].size !== null);
  if (!found || !d.routing) return group_tokens(d);
  const x = d.within(found, 16);
  const n = d.c.pick([8, 16, 24, 5]);
  const w = d.weight(tensor(x.type.dtype, [dim(null, 8), dim(null, n), x.type.dims[1]]));
  const size = d.size(x) * x.type.dims[1].size!;
  if (d.comfortable(x.type.dtype, size))
    d.one(
      'grouped_matmul',
      [x, w, d.routing],
      {},
      tensor(x.type.dtype, [x.type.dims[0], dim(null, n)]),
      size,
    );
};
const combine_tokens: Maker = (d) => {
  const y = d.find((t) => bySlots(t) && floats(t) && t.dims.length === 2);
  if (!y || !d.routing) return group_tokens(d);
  d.one('combine_tokens', [y, d.routing], {}, null, 2 * d.size(y));
};

// --- state ---

const fields = (d: Drawing): readonly TensorValue[] =>
  [4, 6].map((w, i) => d.within(d.like(tensor(i === 0 ? d.dtype : 'f32', [dim('tokens'), dim(null, w)])), 8));
const cache_append: Maker = (d) => {
  if (!d.cache || !d.at || d.isRead) return;
  d.cache = d.op('cache_append', [d.cache, d.at, ...fields(d)], {}, null, 8)[0];
};
const cache_read: Maker = (d) => {
  if (!d.cache) return;
  d.isRead = true;
  d.one('cache_read', [d.cache], { field: d.c.pick(['a', 'b']) }, null, 8);
};
const remember: Maker = (d) => {
  if (!d.cache || !d.at || d.isRead) return;
  d.isRead = true;
  d.cache = d.op('remember', [d.cache, d.at, ...fields(d)], {}, null, 8)[0];
};

const position_field: Maker = (d) => {
  const at = d.positions();
  if (at) d.one('position_field', [at], { field: d.c.pick(['position', 'sequence']) }, null, 512);
};
const visible: Maker = (d) => {
  const at = d.positions();
  if (at) d.one('visible', [at], d.c.chance(0.4) ? { window: 3 } : {}, null, 1);
};

export const modelMakers = {
  ...{ quantize, dequantize, softmax, rope, attention, position_field, visible },
  rms_norm: (d: Drawing) => void d.one('rms_norm', normed(d), { epsilon: 1e-5 }, null, 20),
  rms_norm_quantize: (d: Drawing) => {
    const [x, w] = normed(d);
    d.op('rms_norm_quantize', [x, w], { epsilon: 1e-5 }, [x.type, codes(d, x.type)], 448);
  },
  silu_mul: (d: Drawing) => void d.one('silu_mul', gated(d), {}, null, 1000),
  silu_mul_quantize: (d: Drawing) => {
    const all = gated(d);
    d.one('silu_mul_quantize', all, {}, codes(d, all[0].type), 448);
  },
  ...{ route, routing_field, group_tokens, grouped_matmul, combine_tokens },
  ...{ cache_append, cache_read, remember },
} as const;
