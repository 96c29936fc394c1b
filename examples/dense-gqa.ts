// A dense model with grouped queries, of the shape of Llama 3 8B: no experts, no latents, keys and values cached as
// they are. Rotations pair neighbouring elements (2j, 2j+1); checkpoints that pair halves need their q and k rows
// permuted first.
import {
  add,
  attention,
  block,
  cache,
  dim,
  embedding,
  head,
  linear,
  model,
  option,
  perLayer,
  range,
  remember,
  repeat,
  rmsNorm,
  rope,
  swiglu,
  type Cache,
  type Positions,
  type Tensor,
} from 'dsvc';

const layers = option('layers', 32);
const epsilon = option('rms_norm_epsilon', 1e-5);

const hidden = dim('hidden', 4096);
const vocab = dim('vocab', 128256);
const width = dim('ff', 14336);
// Four query heads share one key head: a quarter of the cache.
const heads = dim('heads', 32);
const keyHeads = dim('key_heads', 8);
const length = dim('length', 128);
const rotary = { theta: 500000 };

const keysAndValues = cache('kv_cache', { k: [keyHeads, length], v: [keyHeads, length] }, { page: 64 });

type Hidden = Tensor<['tokens', 'hidden']>;

const selfAttention = block('self_attn', (x: Hidden, at: Positions, cache: Cache<typeof keysAndValues>) => {
  const q = rope(linear(x, [heads, length], 'q_proj'), at, rotary);
  const k = rope(linear(x, [keyHeads, length], 'k_proj'), at, rotary);
  const v = linear(x, [keyHeads, length], 'v_proj');
  const seen = remember(cache, { k, v }, at);
  const o = attention({ q, k: seen.k, v: seen.v, at });
  return linear(o, hidden, 'o_proj', { over: [heads, length] });
});

const layer = block('layer', (x: Hidden, at: Positions, cache: Cache<typeof keysAndValues>) => {
  const h = add(x, selfAttention(rmsNorm(x, 'input_layernorm', { epsilon }), at, cache));
  return add(h, swiglu(rmsNorm(h, 'post_attention_layernorm', { epsilon }), width));
});

export default model('dense_gqa', {
  state: { caches: perLayer(keysAndValues, layers) },
  forward(ids, at, { caches }) {
    const h = repeat(range(0, layers), layer, embedding(ids, vocab, hidden), at, caches);
    return head(h, at, vocab, { epsilon });
  },
});
