// A variant that no pass was written for: differential attention (arXiv 2410.05258) with capped scores and a gate,
// experts with squared ReLU, and both side by side on one residual stream. Only primitives: it compiles to every target
// because they do.
import {
  add,
  block,
  cache,
  cast,
  combineTokens,
  dim,
  einsum,
  embedding,
  groupedLinear,
  groupTokens,
  head,
  keys,
  linear,
  max,
  model,
  mul,
  option,
  parameter,
  perLayer,
  range,
  remember,
  repeat,
  rmsNorm,
  rope,
  route,
  select,
  sigmoid,
  slotWeights,
  softmax,
  sub,
  tanh,
  tokens,
  visible,
  type Cache,
  type Positions,
  type Tensor,
} from 'dsvc';

const layers = option('layers', 4);
const cap = option('score_cap', 30);

const hidden = dim('hidden', 256);
const vocab = dim('vocab', 512);
const heads = dim('heads', 4);
const length = dim('length', 64);
const experts = dim('experts', 8);
const width = dim('expert_ff', 256);

const pairCache = cache('pair_cache', {
  signal: [heads, length],
  noise: [heads, length],
  values: [heads, length],
});

type Hidden = Tensor<['tokens', 'hidden']>;
type Heads = Tensor<['tokens', 'heads', 'length']>;
type Keys = Tensor<['keys', 'heads', 'length']>;

/** Attention weights of one query and key pair: scores capped to (-cap, cap), hidden keys out, softmax in f32. */
function weights(q: Heads, k: Keys, at: Positions) {
  const scores = mul(einsum(q, k, [heads, tokens, keys], { dtype: 'f32' }), 1 / Math.sqrt(64));
  const capped = mul(tanh(mul(scores, 1 / cap)), cap);
  return softmax(select(visible(at), capped, -Infinity), keys);
}

/** What two attentions agree on is noise: the second is subtracted, by a learned share per head. */
const attend = block('attention', (x: Hidden, at: Positions, cache: Cache<typeof pairCache>) => {
  const project = (name: string) => linear(x, [heads, length], name);
  const seen = remember(
    cache,
    { signal: rope(project('k_signal'), at), noise: rope(project('k_noise'), at), values: project('v_proj') },
    at,
  );
  const signal = weights(rope(project('q_signal'), at), seen.signal, at);
  const noise = weights(rope(project('q_noise'), at), seen.noise, at);
  const share = sigmoid(parameter('noise_share', [heads], { dtype: 'f32' }));
  const difference = cast(sub(signal, mul(noise, share)), 'activation');
  const o = einsum(difference, seen.values, [tokens, heads, length]);
  const gated = mul(o, sigmoid(project('gate_proj')));
  return linear(gated, hidden, 'o_proj', { over: [heads, length] });
});

/** Two of eight experts, max(x, 0)² inside. */
const mixture = block('experts', (x: Hidden) => {
  const routing = route(softmax(linear(x, experts, 'router', { dtype: 'f32' }), experts), { top: 2 });
  const up = max(groupedLinear(groupTokens(x, routing), routing, width, '{experts}.up_proj'), 0);
  const weighted = mul(cast(mul(up, up), 'f32'), slotWeights(routing));
  return combineTokens(
    groupedLinear(cast(weighted, 'activation'), routing, hidden, '{experts}.down_proj'),
    routing,
  );
});

const layer = block('layer', (x: Hidden, at: Positions, cache: Cache<typeof pairCache>) => {
  const normed = rmsNorm(x, 'norm');
  return add(x, add(attend(normed, at, cache), mixture(normed)));
});

export default model('differential', {
  state: { caches: perLayer(pairCache, layers) },
  forward(ids, at, { caches }) {
    const h = repeat(range(0, layers), layer, embedding(ids, vocab, hidden), at, caches);
    return head(h, at, vocab);
  },
  bounds: { tokens: 512, batch: 16, cached: 4096, sequences: 16, outputs: 16 },
});
