// A Hugging Face config.json, checked and brought into one form for DeepSeek-V2 and V3. Meaning and defaults follow
// transformers' configuration_deepseek_v2/v3 and modeling_deepseek_v2/v3; where DeepSeek's own code differs from it,
// the difference is said in a diagnostic. Nothing here knows how a model file looks.
import type { Diagnostic } from '../../ir/diagnostics.ts';
import { defaults, irrelevant, unsaid, type Family } from './defaults.ts';
import { readExperts, type Experts } from './experts.ts';
import { Fields, type JsonObject, type Maybe } from './fields.ts';
import { readJson, showNode, type JsonNode } from './json.ts';
import { readRope, type Rope } from './rope.ts';

/** What a config says about the model; all sizes checked against each other. */
export interface ModelConfig {
  readonly family: Family;
  readonly vocab: number;
  readonly hidden: number;
  readonly layers: number;
  /** The first layers, which have a dense MLP. */
  readonly denseLayers: number;
  readonly denseWidth: number;
  readonly heads: number;
  /** null: queries come from one projection (`q_proj`). */
  readonly queryRank: number | null;
  readonly keyRank: number;
  readonly nope: number;
  readonly rope: number;
  readonly valueSize: number;
  /** Of block and final norms; norms of the latents always have 1e-6 (Hugging Face passes them no other). */
  readonly epsilon: number;
  readonly rotary: Rope;
  /** null when every layer is dense. */
  readonly experts: Experts | null;
  /** The output head uses the embedding's weight. */
  readonly tied: boolean;
  /** Largest position that the checkpoint was made for. */
  readonly positions: number;
  /** The checkpoint's linear weights are FP8 with 128x128 block scales. */
  readonly quantized: boolean;
  /** Multi-token-prediction layers in the checkpoint, after the main layers. */
  readonly predictionLayers: number;
}

/**
 * Reads and checks a config. `config` is null when there is an error among the diagnostics (codes `import/…`).
 * Never throws on any text.
 */
export function readConfig(
  text: string,
  file: string,
): { config: ModelConfig | null; diagnostics: Diagnostic[] } {
  const { root, diagnostics } = readJson(text, file);
  const config = root && readRoot(root, diagnostics);
  const failed = diagnostics.some((d) => d.severity === 'error');
  // In the file's order: keys are checked in the order of their meaning, which no reader of the list knows.
  const place = ({ at }: Diagnostic): number => (at ? at.line * 1e6 + at.column : 0);
  return {
    config: failed || !config ? null : config,
    diagnostics: diagnostics.toSorted((a, b) => place(a) - place(b)),
  };
}

function readRoot(root: JsonNode, diagnostics: Diagnostic[]): ModelConfig | undefined {
  if (root.kind !== 'object') {
    diagnostics.push({
      code: 'import/not-an-object',
      severity: 'error',
      message: 'a config is an object',
      at: root.span,
      label: `this is ${showNode(root)}`,
      fix: 'give the config.json that lies beside the checkpoint',
    });
    return undefined;
  }
  const family = new Fields(root, diagnostics, '', {}).choice(
    'model_type',
    ['deepseek_v2', 'deepseek_v3'],
    'only DeepSeek-V2 and DeepSeek-V3 models can be imported',
  )?.value;
  // Without a family there is no saying which keys belong: one error is better than forty.
  return family && readModel(family, root, diagnostics);
}

function readModel(family: Family, root: JsonObject, diagnostics: Diagnostic[]): ModelConfig | undefined {
  const c = new Fields(root, diagnostics, '', defaults[family]);
  c.ignore(['model_type', ...irrelevant]);
  const vocab = c.count('vocab_size');
  const hidden = c.count('hidden_size');
  const layers = c.count('num_hidden_layers');
  const dense = c.count('first_k_dense_replace', 0);
  const denseWidth = c.count('intermediate_size');
  const heads = c.count('num_attention_heads');
  const queryRank = c.countOrNull('q_lora_rank');
  const keyRank = c.count('kv_lora_rank');
  const nope = c.count('qk_nope_head_dim');
  const rope = c.count('qk_rope_head_dim');
  const valueSize = c.count('v_head_dim');
  const epsilon = c.number('rms_norm_eps', { above: 0 });
  const positions = c.count('max_position_embeddings');
  const rotary = readRope(c, positions);
  const prediction =
    c.entry('num_nextn_predict_layers')?.value.kind === 'null'
      ? undefined
      : c.count('num_nextn_predict_layers', 0);
  const tied = readFlag(c, 'tie_word_embeddings');
  checkFixed(c);
  checkShape(c, { layers, dense, heads, nope, rope });
  const experts = readExperts(c, family, layers, dense);
  const quantized = readQuantization(c);
  c.warnUnknown();
  noteDefaults(c, family);
  notePrediction(c, prediction);
  if (!vocab || !hidden || !layers || !dense || !denseWidth || !heads || !queryRank || !keyRank)
    return undefined;
  if (!nope || !rope || !valueSize || !epsilon || !positions || !rotary || experts === undefined)
    return undefined;
  return {
    family,
    vocab: vocab.value,
    hidden: hidden.value,
    layers: layers.value,
    denseLayers: dense.value,
    denseWidth: denseWidth.value,
    heads: heads.value,
    queryRank: queryRank.value,
    keyRank: keyRank.value,
    nope: nope.value,
    rope: rope.value,
    valueSize: valueSize.value,
    epsilon: epsilon.value,
    rotary,
    experts,
    tied,
    positions: positions.value,
    quantized,
    predictionLayers: prediction?.value ?? 0,
  };
}

/** A flag whose absence means false. */
const readFlag = (c: Fields, key: string): boolean => (c.entry(key) ? (c.flag(key)?.value ?? false) : false);

function checkFixed(c: Fields): void {
  c.only('hidden_act', 'silu', 'DeepSeek MLPs are silu(gate) · up');
  c.only(
    'attention_bias',
    false,
    'the checkpoint would hold bias vectors, which the model file has no place for',
  );
  c.only('mlp_bias', false, 'the checkpoint would hold bias vectors, which the model file has no place for');
  c.only('moe_layer_freq', 1, 'every layer after the dense ones has experts');
  c.only(
    'rope_interleave',
    true,
    'the rotary op turns the pairs (0,1), (2,3), …, as DeepSeek checkpoints store them',
  );
  const dropout = c.entry('attention_dropout');
  if (
    dropout &&
    dropout.value.kind !== 'null' &&
    !(dropout.value.kind === 'number' && dropout.value.value === 0)
  )
    c.warn({
      code: 'import/ignored-value',
      message: `"attention_dropout" is ${showNode(dropout.value)}, but the model file has no dropout`,
      at: dropout.value.span,
      label: 'no effect on inference',
      fix: 'set it to 0, as DeepSeek trains',
    });
}

function checkShape(
  c: Fields,
  { layers, dense, heads, nope, rope }: Record<'layers' | 'dense' | 'heads' | 'nope' | 'rope', Maybe<number>>,
): void {
  const keyHeads = c.entry('num_key_value_heads')?.value;
  const groups = keyHeads && keyHeads.kind !== 'null' ? c.count('num_key_value_heads') : undefined;
  if (groups && heads && groups.value !== heads.value)
    c.conflict(
      'latent attention has as many key heads as query heads',
      groups,
      `this is ${groups.value}`,
      heads,
      `set "num_key_value_heads" to ${heads.value}`,
    );
  if (layers && dense && dense.value > layers.value)
    c.conflict(
      '"first_k_dense_replace" counts dense layers among all layers',
      dense,
      `this is ${dense.value}`,
      layers,
      `use 0 to ${layers.value}`,
    );
  if (rope && rope.value % 2 !== 0)
    c.error({
      code: 'import/wrong-value',
      message: '"qk_rope_head_dim" must be even: rotary embedding turns pairs',
      at: rope.at,
      label: `this is ${rope.value}`,
      fix: 'write the number that the checkpoint was made with',
    });
  // Hugging Face writes these beside what they follow from.
  if (rope) c.mustEqual('head_dim', rope.value, 'qk_rope_head_dim');
  if (nope && rope)
    c.mustEqual('qk_head_dim', nope.value + rope.value, 'qk_nope_head_dim + qk_rope_head_dim');
  c.ignore(['head_dim', 'qk_head_dim']);
}

function readQuantization(c: Fields): boolean {
  const found = c.object('quantization_config');
  if (!found) return false;
  const q = new Fields(found.node, c.diagnostics, 'quantization_config', {});
  const method = q.choice('quant_method', ['fp8'], 'only FP8 weights with block scales can be read');
  q.only('fmt', 'e4m3', 'weights are read as e4m3 with 128x128 block scales');
  q.only('activation_scheme', 'dynamic', "activations' scales follow from the activations");
  checkBlocks(q, method?.at ?? q.start);
  const scales = q.entry('scale_fmt');
  if (scales && scales.value.kind === 'text' && scales.value.value === 'ue8m0')
    q.warn({
      code: 'import/ignored-value',
      message: '"scale_fmt" is "ue8m0": the checkpoint was trained with power-of-two scales of activations',
      at: scales.value.span,
      label: "weights are read exactly; activation scales are the numeric plan's",
      fix: 'choose power-of-two scales where the model is compiled',
    });
  else q.only('scale_fmt', 'float', 'scales are f32 or powers of two');
  q.ignore(['modules_to_not_convert', 'ignored_layers']);
  q.warnUnknown();
  return true;
}

function checkBlocks(q: Fields, fallback: Fields['start']): void {
  const block = q.entry('weight_block_size')?.value;
  const sides = block?.kind === 'list' ? block.items.map((i) => (i.kind === 'number' ? i.value : NaN)) : [];
  if (sides.length === 2 && sides.every((n) => n === 128)) return;
  q.error({
    code: block ? 'import/unsupported' : 'import/missing-key',
    message: '"weight_block_size" must be [128, 128]',
    at: block?.span ?? fallback,
    label: block
      ? `this is ${block.kind === 'list' ? JSON.stringify(sides) : showNode(block)}`
      : '"weight_block_size" is missing',
    fix: 'only checkpoints with one scale per 128x128 block can be read; convert others to bf16 first',
  });
}

function noteDefaults(c: Fields, family: Family): void {
  const said = c.taken.filter((t) => !unsaid.test(t));
  if (said.length === 0) return;
  c.diagnostics.push({
    code: 'import/default-taken',
    severity: 'note',
    message: `not written, taken from Hugging Face's ${family}: ${said.join(', ')}`,
    at: c.start,
    fix: 'write these keys if the checkpoint has other sizes',
  });
}

function notePrediction(c: Fields, prediction: Maybe<number>): void {
  if (!prediction || prediction.value === 0) return;
  const many = prediction.value === 1 ? 'layer' : 'layers';
  c.diagnostics.push({
    code: 'import/prediction-layers',
    severity: 'note',
    message: `the checkpoint has ${prediction.value} multi-token-prediction ${many}, which prefill and decode do not use`,
    at: prediction.at,
    label: 'left out of the model file',
    fix: 'add an MTP module where the model is trained; its weights follow the last layer',
  });
}
