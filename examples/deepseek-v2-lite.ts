// DeepSeek-V2-Lite, 15.7B parameters, 2.7B active per token. Report: arXiv 2405.04434; weights under the official
// names. Made of the library's layers; deepseek-v3.ts spells the same layers out.
import {
  add,
  block,
  cache,
  deepseekMoe,
  dim,
  embedding,
  head,
  mla,
  model,
  option,
  perLayer,
  range,
  repeat,
  rmsNorm,
  swiglu,
  type Cache,
  type MlaOptions,
  type MoeOptions,
  type Positions,
  type Tensor,
} from 'dsvc';

const layers = option('layers', 27);
const denseLayers = option('dense_layers', 1);

const hidden = dim('hidden', 2048);
const vocab = dim('vocab', 102400);
const kvRank = dim('kv_rank', 512);
const ropeDim = dim('rope', 64);

// No qRank: queries come from one projection. YaRN's two mscales are equal, so cos and sin stay unscaled.
const attentionOptions: MlaOptions = {
  heads: dim('heads', 16),
  nope: dim('nope', 128),
  ropeDim,
  value: dim('v', 128),
  kvRank,
  rope: { theta: 10000, yarn: { factor: 40, original: 4096, mscale: 0.707, mscaleAllDim: 0.707 } },
};

// Softmax scores, the six best of all experts, weights as they are; two shared experts are one MLP of twice the width.
const denseWidth = dim('dense_ff', 10944);
const expertOptions: MoeOptions = {
  experts: dim('experts', 64),
  top: option('experts_per_token', 6),
  ff: dim('expert_ff', 1408),
  shared: dim('shared_ff', 2816),
  score: 'softmax',
  normalize: false,
};

const latentCache = cache('latent_cache', { latent: kvRank, rope: ropeDim });

type Hidden = Tensor<['tokens', 'hidden']>;
type LatentCache = Cache<typeof latentCache>;

const denseLayer = block('dense_layer', (x: Hidden, at: Positions, cache: LatentCache) => {
  const h = add(x, mla(rmsNorm(x, 'input_layernorm'), at, cache, attentionOptions));
  return add(h, swiglu(rmsNorm(h, 'post_attention_layernorm'), denseWidth));
});

const moeLayer = block('moe_layer', (x: Hidden, at: Positions, cache: LatentCache) => {
  const h = add(x, mla(rmsNorm(x, 'input_layernorm'), at, cache, attentionOptions));
  return add(h, deepseekMoe(rmsNorm(h, 'post_attention_layernorm'), expertOptions));
});

export default model('deepseek_v2_lite', {
  state: { caches: perLayer(latentCache, layers) },
  forward(ids, at, { caches }) {
    const embedded = embedding(ids, vocab, hidden);
    const shallow = repeat(range(0, denseLayers), denseLayer, embedded, at, caches);
    const deep = repeat(range(denseLayers, layers), moeLayer, shallow, at, caches);
    return head(deep, at, vocab);
  },
});
