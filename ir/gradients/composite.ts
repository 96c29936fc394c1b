// Gradients of composite ops where a formula of its own beats the decomposition's, of routing, and of states.
import type { Attributes, Value } from '../module.ts';
import { castTo, fill, spreadTo, tensorOf } from '../ops/composite.ts';
import { flagOf, integerOf, numberOf, numbersOf, textOf } from '../ops/support.ts';
import { sameDim, type TensorType } from '../types.ts';
import { none, rule, type Gradient } from './rule.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const inF32 = (t: TensorType): TensorType => ({ ...t, dtype: 'f32' });

const quantizes = none(
  'its result is quantized, and codes have no gradient',
  'differentiate before insert-fp8, which quantizes forward and backward passes',
);

export const compositeGradients = {
  rms_norm: rule(({ b, operands: [x, w], upstream: [d], attributes, wanted, dtypes }) => {
    // With r = 1/sqrt(mean(x²) + ε) and g = d · w: dx = r · (g − x · r² · mean(g · x)), dw = Σ d · x · r.
    const type = inF32(tensorOf(x));
    const last = type.dims.length - 1;
    const rows = range(last);
    const length = type.dims[last].size!;
    const mul = (u: Value, v: Value): Value => b.one('mul', [u, v]);
    const [wx, wd] = [castTo(b, x, 'f32'), castTo(b, d!, 'f32')];
    const mean = (v: Value): Value => {
      const sum = b.one('sum', [v], { axes: [last] });
      return mul(sum, fill(b, 1 / length, tensorOf(sum)));
    };
    const squares = mean(mul(wx, wx));
    const r = b.one('rsqrt', [
      b.one('add', [squares, fill(b, numberOf(attributes, 'epsilon'), tensorOf(squares))]),
    ]);
    const normed = mul(wx, spreadTo(b, r, type, rows));
    let dx: Value | null = null;
    if (wanted[0]) {
      const g = mul(wd, spreadTo(b, castTo(b, w, 'f32'), type, [last]));
      const along = spreadTo(b, mean(mul(g, normed)), type, rows);
      const inner = b.one('sub', [g, mul(normed, along)]);
      dx = castTo(b, mul(inner, spreadTo(b, r, type, rows)), dtypes[0]);
    }
    const dw = wanted[1]
      ? castTo(
          b,
          rows.length > 0 ? b.one('sum', [mul(wd, normed)], { axes: rows }) : mul(wd, normed),
          dtypes[1],
        )
      : null;
    return [dx, dw];
  }),
  rms_norm_quantize: quantizes,
  softmax: rule(({ b, operands: [x], results: [y], upstream: [d], attributes }) => {
    // y · (d − Σ d · y).
    const axis = integerOf(attributes, 'axis');
    const type = inF32(tensorOf(x));
    const [wy, wd] = [castTo(b, y, 'f32'), castTo(b, d!, 'f32')];
    const others = range(type.dims.length).filter((i) => i !== axis);
    const dot = b.one('sum', [b.one('mul', [wd, wy])], { axes: [axis] });
    const inner = b.one('sub', [wd, spreadTo(b, dot, type, others)]);
    return [castTo(b, b.one('mul', [wy, inner]), tensorOf(x).dtype)];
  }),
  silu_mul: rule(({ b, operands, upstream: [d], wanted, dtypes }) => {
    // h = silu(gate) · up · weight; silu' = s + gate · s · (1 − s).
    const [gate, up, weight] = operands.map((v) => castTo(b, v, 'f32'));
    const type = inF32(tensorOf(operands[0]));
    const mul = (u: Value, v: Value): Value => b.one('mul', [u, v]);
    const wd = castTo(b, d!, 'f32');
    const s = b.one('sigmoid', [gate]);
    const silu = mul(gate, s);
    const scaled = weight ? mul(wd, spreadTo(b, weight, type, [0])) : wd;
    const slope = (): Value => {
      const rest = b.one('sub', [fill(b, 1, type), s]);
      return b.one('add', [s, mul(silu, rest)]);
    };
    const gradients: (Value | null)[] = [
      wanted[0] ? castTo(b, mul(mul(scaled, up), slope()), dtypes[0]) : null,
      wanted[1] ? castTo(b, mul(scaled, silu), dtypes[1]) : null,
    ];
    if (weight) {
      const columns = range(type.dims.length).slice(1);
      const product = mul(mul(wd, silu), up);
      const sum = (): Value => (columns.length > 0 ? b.one('sum', [product], { axes: columns }) : product);
      gradients.push(wanted[2] ? castTo(b, sum(), dtypes[2]) : null);
    }
    return gradients;
  }),
  silu_mul_quantize: quantizes,
  // The other way round: a rotation's transpose, with the same factor.
  rope: rule(({ b, operands: [, at], upstream: [d], attributes }) => {
    const frequencies = numbersOf(attributes, 'frequencies').map((f) => -f + 0);
    return [b.one('rope', [d!, at], { frequencies, scale: numberOf(attributes, 'scale') }), null];
  }),
  attention: rule(({ b, operands: [q, k, v, at], upstream: [d], attributes }) => {
    const { scale, causal, window } = attributes as Readonly<Record<string, Attributes[string]>>;
    return [...b.op('attention_gradient', [q, k, v, at, d!], { scale, causal, window }), null];
  }),
  cross_entropy: rule(({ b, operands: [logits, targets], upstream: [d] }) => [
    b.one('cross_entropy_gradient', [logits, targets, d!]),
    null,
  ]),
  cross_entropy_gradient: none(
    'gradients of gradients are not known for cross_entropy',
    'write the loss with softmax and log where second derivatives are needed',
  ),
  attention_gradient: none(
    'gradients of gradients are not known for attention',
    'write attention with einsum and softmax where second derivatives are needed',
  ),
} satisfies Record<string, Gradient>;

export const routingGradients = {
  // w = s / (Σ s + ε) · scale over the choices: ds = scale · (dw − Σ dw · s / total) / total.
  route: rule(({ b, operands, results: [routing], upstream: [d], attributes }) => {
    const [scores] = operands;
    const scale = numberOf(attributes, 'scale');
    const type = tensorOf(d!);
    const times = (v: Value, x: number): Value => b.one('mul', [v, fill(b, x, tensorOf(v))]);
    let chosen = times(d!, scale);
    if (flagOf(attributes, 'normalize')) {
      const s = b.one('gather_choices', [scores, routing]);
      const sum = b.one('sum', [s], { axes: [1] });
      const total = b.one('add', [sum, fill(b, numberOf(attributes, 'epsilon'), tensorOf(sum))]);
      const mean = b.one('div', [b.one('sum', [b.one('mul', [chosen, s])], { axes: [1] }), total]);
      const spread = (v: Value): Value => spreadTo(b, v, type, [0]);
      chosen = b.one('div', [b.one('sub', [chosen, spread(mean)]), spread(total)]);
    }
    return [b.one('scatter_choices', [chosen, routing]), ...operands.slice(1).map(() => null)];
  }),
  routing_field: rule(({ b, operands: [routing], upstream: [d], attributes }) => {
    const field = textOf(attributes, 'field');
    if (field === 'indices') return [null];
    return [field === 'weights' ? d! : b.one('ungroup_choices', [d!, routing])];
  }),
  group_tokens: rule(({ b, operands: [, routing], upstream: [d] }) => [
    b.one('combine_tokens', [d!, routing]),
    null,
  ]),
  combine_tokens: rule(({ b, operands: [, routing], upstream: [d] }) => [
    b.one('group_tokens', [d!, routing]),
    null,
  ]),
  gather_choices: rule(({ b, operands: [, routing], upstream: [d] }) => [
    b.one('scatter_choices', [d!, routing]),
    null,
  ]),
  scatter_choices: rule(({ b, operands: [, routing], upstream: [d] }) => [
    b.one('gather_choices', [d!, routing]),
    null,
  ]),
  group_choices: rule(({ b, operands: [, routing], upstream: [d] }) => [
    b.one('ungroup_choices', [d!, routing]),
    null,
  ]),
  ungroup_choices: rule(({ b, operands: [, routing], upstream: [d] }) => [
    b.one('group_choices', [d!, routing]),
    null,
  ]),
} satisfies Record<string, Gradient>;

const cached = none(
  'what is read from a cache was computed in another step, whose gradient is not known here',
  "train on packed sequences: keys that are the step's own tokens",
);

export const stateGradients = {
  cache_append: cached,
  cache_read: cached,
  // Packed, attention looks along the values themselves.
  remember: rule(({ operands, upstream }) => {
    const [, at] = operands;
    const packed = at.type.kind === 'positions' && sameDim(at.type.keys, at.type.tokens);
    if (!packed) throw new Error('remember: gradients need keys that are the tokens');
    return [null, null, ...upstream.slice(1)];
  }),
} satisfies Record<string, Gradient>;

const structural = none('calls are differentiated by autodiff itself', 'differentiate a whole module');
export const structureGradients = { call: structural, repeat: structural, launch: structural };
