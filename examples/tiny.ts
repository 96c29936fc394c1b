// DeepSeek-V3 in small: every mechanism of the large model, seconds on one CPU. For trying things out and for tests.
import {
  add,
  block,
  cache,
  deepseekMoe,
  dim,
  dualPipe,
  embedding,
  head,
  mla,
  model,
  option,
  parallel,
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

const layers = option('layers', 8);
const denseLayers = option('dense_layers', 2);

// Multiples of 128 where FP8 has tiles of 128, multiples of 64 where tensor cores have tiles of 64.
const hidden = dim('hidden', 256);
const vocab = dim('vocab', 512);
const kvRank = dim('kv_rank', 128);
const ropeDim = dim('rope', 64);
const denseWidth = dim('dense_ff', 512);

const attentionOptions: MlaOptions = {
  heads: dim('heads', 4),
  nope: dim('nope', 64),
  ropeDim,
  value: dim('v', 64),
  qRank: dim('q_rank', 128),
  kvRank,
  rope: { theta: 10000, yarn: { factor: 40, original: 4096 } },
};

const expertOptions: MoeOptions = {
  experts: dim('experts', 8),
  top: option('experts_per_token', 2),
  groups: 4,
  topGroups: 2,
  ff: dim('expert_ff', 128),
  shared: dim('shared_ff', 128),
  scale: 2.5,
};

const latentCache = cache('latent_cache', { latent: kvRank, rope: ropeDim }, { page: 64 });

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

export default model('tiny', {
  state: { caches: perLayer(latentCache, layers) },
  forward(ids, at, { caches }) {
    const embedded = embedding(ids, vocab, hidden);
    const shallow = repeat(range(0, denseLayers), denseLayer, embedded, at, caches);
    const deep = repeat(range(denseLayers, layers), moeLayer, shallow, at, caches);
    return head(deep, at, vocab);
  },
  deployment: [parallel({ pp: 4, pipeline: dualPipe({ microBatches: 8 }) })],
  bounds: { tokens: 512, batch: 16, cached: 4096, sequences: 16, outputs: 16 },
});
