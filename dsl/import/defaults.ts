// What Hugging Face's configuration classes for DeepSeek say about keys: defaults, and which keys change nothing.
// Facts from transformers' configuration_deepseek_v2 and configuration_deepseek_v3.

export type Family = 'deepseek_v2' | 'deepseek_v3';

const common = {
  q_lora_rank: 1536,
  kv_lora_rank: 512,
  qk_rope_head_dim: 64,
  qk_nope_head_dim: 128,
  v_head_dim: 128,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  num_nextn_predict_layers: 0,
} as const;

/** Defaults of transformers' configuration classes. A key that is not here has none. */
export const defaults: Readonly<Record<Family, Readonly<Record<string, number | boolean | string | null>>>> =
  {
    deepseek_v3: {
      ...common,
      vocab_size: 129280,
      hidden_size: 7168,
      intermediate_size: 18432,
      moe_intermediate_size: 2048,
      num_hidden_layers: 61,
      num_attention_heads: 128,
      n_shared_experts: 1,
      n_routed_experts: 256,
      routed_scaling_factor: 2.5,
      n_group: 8,
      topk_group: 4,
      num_experts_per_tok: 8,
      first_k_dense_replace: 3,
      norm_topk_prob: true,
      max_position_embeddings: 4096,
      // Not keys of Hugging Face's class, which knows nothing else.
      scoring_func: 'sigmoid',
      topk_method: 'noaux_tc',
    },
    deepseek_v2: {
      ...common,
      vocab_size: 32000,
      hidden_size: 4096,
      intermediate_size: 11008,
      moe_intermediate_size: 1407,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      n_shared_experts: 2,
      n_routed_experts: 64,
      routed_scaling_factor: 1,
      n_group: null,
      topk_group: null,
      first_k_dense_replace: 0,
      norm_topk_prob: false,
      max_position_embeddings: 2048,
      scoring_func: 'softmax',
      topk_method: 'greedy',
    },
  };

/** Defaults that need no mention: their absence is common and they are no sizes. */
export const unsaid =
  /^(rope_theta|num_nextn_predict_layers|rms_norm_eps|routed_scaling_factor|max_position_embeddings) = /;

/** Keys without a say in what the model computes. */
export const irrelevant = [
  'architectures',
  'auto_map',
  'aux_loss_alpha',
  'bos_token_id',
  'eos_token_id',
  'pad_token_id',
  'dtype',
  'torch_dtype',
  'ep_size',
  'initializer_range',
  'pretraining_tp',
  'seq_aux',
  'transformers_version',
  'use_cache',
  '_name_or_path',
  '_attn_implementation_autoset',
  'attn_implementation',
  'output_attentions',
  'output_hidden_states',
  'output_router_logits',
  'router_aux_loss_coef',
  'return_dict',
  'chunk_size_feed_forward',
  'is_encoder_decoder',
  'is_decoder',
  'id2label',
  'label2id',
  'problem_type',
  'unsloth_version',
];
