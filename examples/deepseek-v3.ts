// DeepSeek-V3, 671B parameters, 37B active per token. Report: arXiv 2412.19437; weights under the official names.
// Try it small: dsvc compile examples/deepseek-v3.ts --set layers=4 --set dense_layers=1
import {
  add,
  attention,
  attentionScale,
  block,
  broadcast,
  buffer,
  cache,
  combineTokens,
  concat,
  dim,
  dualPipe,
  embedding,
  gather,
  groupedLinear,
  groupTokens,
  keys,
  linear,
  model,
  option,
  outputsOf,
  parallel,
  perLayer,
  range,
  remember,
  repeat,
  rmsNorm,
  rope,
  route,
  sigmoid,
  siluMul,
  slotWeights,
  split,
  sum,
  type Cache,
  type Positions,
  type RopeConfig,
  type Tensor,
} from 'dsvc';

const layers = option('layers', 61);
const denseLayers = option('dense_layers', 3);

const hidden = dim('hidden', 7168);
const vocab = dim('vocab', 129280);

// Multi-head latent attention: queries and keys have a part without position (nope) and one with (rope).
const heads = dim('heads', 128);
const nope = dim('nope', 128);
const ropeDim = dim('rope', 64);
const value = dim('v', 128);
const qRank = dim('q_rank', 1536);
const kvRank = dim('kv_rank', 512);
const qk = sum('qk', nope, ropeDim);
const nopeAndValue = sum('nope+v', nope, value);
const latentAndRope = sum('kv_rank+rope', kvRank, ropeDim);

// Experts: 256 in 8 groups, of which a token uses 8 experts out of at most 4 groups, and one expert for every token.
const experts = dim('experts', 256);
const top = option('experts_per_token', 8);
const groups = option('expert_groups', 8);
const topGroups = option('top_groups', 4);
const routeScale = option('route_scale', 2.5);
const denseWidth = dim('dense_ff', 18432);
const expertWidth = dim('expert_ff', 2048);
const sharedWidth = dim('shared_ff', 2048);

// Trained with 4K tokens of context and stretched 40 times by YaRN.
const rotary: RopeConfig = { theta: 10000, yarn: { factor: 40, original: 4096 } };

// All that attention needs of a past token: 512 + 64 numbers for all 128 heads together.
const latentCache = cache('latent_cache', { latent: kvRank, rope: ropeDim }, { page: 64 });

type Hidden = Tensor<['tokens', 'hidden']>;
type LatentCache = Cache<typeof latentCache>;

/** Written once in its training form; the compiler derives the absorbed form that decoding uses. */
const selfAttention = block('self_attn', (x: Hidden, at: Positions, cache: LatentCache) => {
  const qLatent = rmsNorm(linear(x, qRank, 'q_a_proj'), 'q_a_layernorm');
  const [qNope, qRope] = split(linear(qLatent, [heads, qk], 'q_b_proj'), qk);
  const q = concat([qNope, rope(qRope, at, rotary)], qk);

  const [kvLatent, kRope] = split(linear(x, latentAndRope, 'kv_a_proj_with_mqa'), latentAndRope);
  const seen = remember(
    cache,
    { latent: rmsNorm(kvLatent, 'kv_a_layernorm'), rope: rope(kRope, at, rotary) },
    at,
  );
  const [kNope, v] = split(linear(seen.latent, [heads, nopeAndValue], 'kv_b_proj'), nopeAndValue);
  const k = concat([kNope, broadcast(seen.rope, [keys, heads, ropeDim])], qk);

  const o = attention({ q, k, v, at, scale: attentionScale(qk, rotary) });
  return linear(o, hidden, 'o_proj', { over: [heads, value] });
});

/** SwiGLU: down(silu(gate(x)) · up(x)). */
const dense = block(
  'dense_mlp',
  (x: Hidden) => {
    const gate = linear(x, denseWidth, 'gate_proj');
    const up = linear(x, denseWidth, 'up_proj');
    return linear(siluMul(gate, up), hidden, 'down_proj');
  },
  { prefix: 'mlp.' },
);

const mixture = block(
  'mixture',
  (x: Hidden) => {
    // Router in f32. The bias balances the experts' load: it takes part in the choice, never in the weight.
    const scores = sigmoid(linear(x, experts, 'gate', { dtype: 'f32' }));
    const bias = buffer('gate.e_score_correction_bias', [experts]);
    const routing = route(scores, { top, bias, groups, topGroups, scale: routeScale });

    const rows = groupTokens(x, routing);
    const gate = groupedLinear(rows, routing, expertWidth, 'experts.{experts}.gate_proj');
    const up = groupedLinear(rows, routing, expertWidth, 'experts.{experts}.up_proj');
    // The routing weight goes in before the down projection, so that the sum over experts needs none.
    const h = siluMul(gate, up, slotWeights(routing));
    const routed = combineTokens(groupedLinear(h, routing, hidden, 'experts.{experts}.down_proj'), routing);

    const sharedGate = linear(x, sharedWidth, 'shared_experts.gate_proj');
    const sharedUp = linear(x, sharedWidth, 'shared_experts.up_proj');
    const shared = linear(siluMul(sharedGate, sharedUp), hidden, 'shared_experts.down_proj');
    return add(routed, shared);
  },
  { prefix: 'mlp.' },
);

const denseLayer = block('dense_layer', (x: Hidden, at: Positions, cache: LatentCache) => {
  const h = add(x, selfAttention(rmsNorm(x, 'input_layernorm'), at, cache));
  return add(h, dense(rmsNorm(h, 'post_attention_layernorm')));
});

const moeLayer = block('moe_layer', (x: Hidden, at: Positions, cache: LatentCache) => {
  const h = add(x, selfAttention(rmsNorm(x, 'input_layernorm'), at, cache));
  return add(h, mixture(rmsNorm(h, 'post_attention_layernorm')));
});

export default model('deepseek_v3', {
  state: { caches: perLayer(latentCache, layers) },
  forward(ids, at, { caches }) {
    const embedded = embedding(ids, vocab, hidden, 'model.embed_tokens');
    const shallow = repeat(range(0, denseLayers), denseLayer, embedded, at, caches);
    const deep = repeat(range(denseLayers, layers), moeLayer, shallow, at, caches);
    // Only the tokens whose logits are wanted go on: the head alone is a 129280 x 7168 product.
    const last = rmsNorm(gather(deep, outputsOf(at)), 'model.norm');
    return linear(last, vocab, 'lm_head', { dtype: 'f32' });
  },
  // Report, section 3.2: 2048 GPUs; 15360 sequences a step are 120 for each of 128 replicas.
  deployment: [parallel({ pp: 16, ep: 64, dp: 128, zero: 1, pipeline: dualPipe({ microBatches: 120 }) })],
});
