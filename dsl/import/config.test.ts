import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { renderDiagnostic, type Diagnostic } from '../../ir/diagnostics.ts';
import { readConfig } from './config.ts';

const golden = join(import.meta.dirname, '../../test/golden');
const text = (name: string): string => readFileSync(join(golden, name), 'utf8');
type Config = Record<string, unknown>;
const v3 = JSON.parse(text('configs/deepseek-v3.json')) as Config;
const v2 = JSON.parse(text('configs/deepseek-v2-lite.json')) as Config;

const lay = (config: Config): string => JSON.stringify(config, null, 2);
const read = (config: Config): ReturnType<typeof readConfig> => readConfig(lay(config), 'config.json');
const codes = (diagnostics: readonly Diagnostic[]): string[] =>
  diagnostics.map((d) => `${d.severity} ${d.code}`);
const without = (config: Config, ...keys: string[]): Config =>
  Object.fromEntries(Object.entries(config).filter(([k]) => !keys.includes(k)));

/** What the caret stands under. */
function underlined(config: Config, d: Diagnostic): string {
  const line = lay(config).split('\n')[d.at!.line - 1];
  return line.slice(d.at!.column - 1, d.at!.endLine === d.at!.line ? d.at!.endColumn - 1 : undefined);
}

test('reads DeepSeek-V3', () => {
  const { config, diagnostics } = read(v3);
  expect(codes(diagnostics)).toEqual(['note import/prediction-layers']);
  expect(config).toMatchInlineSnapshot(`
    {
      "denseLayers": 3,
      "denseWidth": 18432,
      "epsilon": 0.000001,
      "experts": {
        "bias": true,
        "count": 256,
        "groupScore": "top2",
        "groups": 8,
        "normalize": true,
        "scale": 2.5,
        "scoring": "sigmoid",
        "shared": 1,
        "top": 8,
        "topGroups": 4,
        "width": 2048,
      },
      "family": "deepseek_v3",
      "heads": 128,
      "hidden": 7168,
      "keyRank": 512,
      "layers": 61,
      "nope": 128,
      "positions": 163840,
      "predictionLayers": 1,
      "quantized": true,
      "queryRank": 1536,
      "rope": 64,
      "rotary": {
        "theta": 10000,
        "yarn": {
          "attentionFactor": null,
          "betaFast": 32,
          "betaSlow": 1,
          "factor": 40,
          "mscale": 1,
          "mscaleAllDim": 1,
          "original": 4096,
        },
      },
      "tied": false,
      "valueSize": 128,
      "vocab": 129280,
    }
  `);
});

test('reads DeepSeek-V2-Lite', () => {
  const { config, diagnostics } = read(v2);
  expect(diagnostics).toEqual([]);
  expect(config).toMatchInlineSnapshot(`
    {
      "denseLayers": 1,
      "denseWidth": 10944,
      "epsilon": 0.000001,
      "experts": {
        "bias": false,
        "count": 64,
        "groupScore": "max",
        "groups": 1,
        "normalize": false,
        "scale": 1,
        "scoring": "softmax",
        "shared": 2,
        "top": 6,
        "topGroups": 1,
        "width": 1408,
      },
      "family": "deepseek_v2",
      "heads": 16,
      "hidden": 2048,
      "keyRank": 512,
      "layers": 27,
      "nope": 128,
      "positions": 163840,
      "predictionLayers": 0,
      "quantized": false,
      "queryRank": null,
      "rope": 64,
      "rotary": {
        "theta": 10000,
        "yarn": {
          "attentionFactor": null,
          "betaFast": 32,
          "betaSlow": 1,
          "factor": 40,
          "mscale": 0.707,
          "mscaleAllDim": 0.707,
          "original": 4096,
        },
      },
      "tied": false,
      "valueSize": 128,
      "vocab": 102400,
    }
  `);
});

test.each(['base', 'noqlora', 'yarn', 'nonpow2', 'fp8'])('reads tiny_%s without a word', (name) => {
  const { config, diagnostics } = readConfig(text(`tiny_${name}/config.json`), 'config.json');
  expect(diagnostics).toEqual([]);
  expect(config?.experts).toMatchObject({ scoring: 'sigmoid', bias: true, groupScore: 'top2' });
  expect(config?.quantized).toBe(name === 'fp8');
});

test('DeepSeek-V2 takes the best of each group, the softmax, and no bias', () => {
  const { config } = read({
    ...v2,
    n_routed_experts: 160,
    n_group: 8,
    topk_group: 3,
    topk_method: 'group_limited_greedy',
    routed_scaling_factor: 16,
  });
  expect(config?.experts).toEqual({
    count: 160,
    top: 6,
    width: 1408,
    shared: 2,
    groups: 8,
    topGroups: 3,
    groupScore: 'max',
    scoring: 'softmax',
    bias: false,
    normalize: false,
    scale: 16,
  });
});

test('greedy leaves groups out', () => {
  expect(read({ ...v2, n_group: 8, topk_group: 3 }).config?.experts).toMatchObject({
    groups: 1,
    topGroups: 1,
  });
  expect(read(without(v2, 'n_group', 'topk_group')).config?.experts).toMatchObject({
    groups: 1,
    topGroups: 1,
  });
});

test('both spellings of rope mean the same', () => {
  const scaled = without(v3, 'rope_scaling', 'rope_theta');
  const { type: rope_type, ...rest } = v3.rope_scaling as { type: string };
  const { config, diagnostics } = read({
    ...scaled,
    rope_parameters: { ...rest, rope_type, rope_theta: 10000 },
  });
  expect(codes(diagnostics)).toEqual(['note import/prediction-layers']);
  expect(config?.rotary).toEqual(read(v3).config?.rotary);
  expect(read({ ...scaled, rope_parameters: null }).config?.rotary).toEqual({ theta: 10000, yarn: null });
});

test('original positions default to the largest position', () => {
  const { original_max_position_embeddings: _, ...rope } = v3.rope_scaling as {
    original_max_position_embeddings: number;
  };
  expect(read({ ...v3, rope_scaling: rope }).config?.rotary.yarn?.original).toBe(163840);
});

test('a model without experts is dense', () => {
  const dense = { ...v3, n_routed_experts: null, first_k_dense_replace: 61 };
  expect(read(dense).config?.experts).toBeNull();
  expect(read({ ...v3, first_k_dense_replace: 61 }).config?.experts).toBeNull();
  expect(codes(read({ ...dense, first_k_dense_replace: 3 }).diagnostics)).toContain(
    'error import/contradiction',
  );
});

test('sizes that are not written come from Hugging Face, with a note', () => {
  const { config, diagnostics } = read(without(v3, 'q_lora_rank', 'n_group', 'rope_theta', 'rms_norm_eps'));
  expect(config).toMatchObject({ queryRank: 1536, epsilon: 1e-6 });
  expect(diagnostics.find((d) => d.code === 'import/default-taken')?.message).toBe(
    "not written, taken from Hugging Face's deepseek_v3: q_lora_rank = 1536, n_group = 8",
  );
});

// Each row: what is changed in the config of V3 or V2-Lite, the code, what the caret stands under, words of the message.
const wrong: readonly [string, Config, string, string, RegExp][] = [
  ['zero', { ...v3, hidden_size: 0 }, 'wrong-value', '0', /"hidden_size" must be a whole number from 1/],
  ['negative', { ...v3, vocab_size: -5 }, 'wrong-value', '-5', /vocab_size/],
  ['fractional', { ...v3, num_hidden_layers: 2.5 }, 'wrong-value', '2.5', /num_hidden_layers/],
  ['beyond 32 bits', { ...v3, hidden_size: 1e12 }, 'wrong-value', '1000000000000', /hidden_size/],
  ['a text for a number', { ...v3, hidden_size: '7168' }, 'wrong-type', '"7168"', /hidden_size/],
  ['null for a number', { ...v3, kv_lora_rank: null }, 'wrong-type', 'null', /kv_lora_rank/],
  ['a number for a flag', { ...v3, norm_topk_prob: 1 }, 'wrong-type', '1', /norm_topk_prob/],
  ['an epsilon of 0', { ...v3, rms_norm_eps: 0 }, 'wrong-value', '0', /rms_norm_eps/],
  ['unknown family', { ...v3, model_type: 'llama' }, 'unsupported', '"llama"', /model_type/],
  ['no family', without(v3, 'model_type'), 'missing-key', '{', /model_type/],
  ['a family that is no text', { ...v3, model_type: 3 }, 'wrong-type', '3', /model_type/],
  [
    'missing without a default',
    without(v2, 'num_experts_per_tok'),
    'missing-key',
    '{',
    /num_experts_per_tok/,
  ],
  ['key heads', { ...v3, num_key_value_heads: 8 }, 'contradiction', '8', /key heads/],
  [
    'top above experts',
    { ...v3, num_experts_per_tok: 300 },
    'contradiction',
    '300',
    /more experts than there are/,
  ],
  [
    'top above open experts',
    { ...v3, num_experts_per_tok: 40, topk_group: 1 },
    'contradiction',
    '40',
    /1 groups hold 32/,
  ],
  ['groups above groups', { ...v3, topk_group: 9 }, 'contradiction', '9', /more groups than there are/],
  ['unequal groups', { ...v3, n_group: 7, topk_group: 4 }, 'contradiction', '7', /equal groups/],
  ['groups of one', { ...v3, n_group: 256, topk_group: 128 }, 'contradiction', '256', /two best/],
  [
    'dense beyond layers',
    { ...v3, first_k_dense_replace: 62 },
    'contradiction',
    '62',
    /first_k_dense_replace/,
  ],
  ['odd rope', { ...v3, qk_rope_head_dim: 63 }, 'wrong-value', '63', /even/],
  ['head_dim', { ...v3, head_dim: 128 }, 'contradiction', '128', /qk_rope_head_dim, which is 64/],
  ['experts under another name', { ...v3, num_local_experts: 8 }, 'contradiction', '8', /n_routed_experts/],
  ['scoring', { ...v3, scoring_func: 'softmax' }, 'unsupported', '"softmax"', /scoring_func/],
  ['method of V2', { ...v2, topk_method: 'noaux_tc' }, 'unsupported', '"noaux_tc"', /topk_method/],
  [
    'groups missing',
    without({ ...v2, topk_method: 'group_limited_greedy' }, 'n_group'),
    'missing-key',
    '{',
    /needs "n_group"/,
  ],
  ['activation', { ...v3, hidden_act: 'gelu' }, 'unsupported', '"gelu"', /hidden_act/],
  ['bias', { ...v3, attention_bias: true }, 'unsupported', 'true', /attention_bias/],
  ['frequency', { ...v3, moe_layer_freq: 2 }, 'unsupported', '2', /moe_layer_freq/],
  ['halves', { ...v3, rope_interleave: false }, 'unsupported', 'false', /rope_interleave/],
  ['rope type', { ...v3, rope_scaling: { type: 'linear', factor: 2 } }, 'unsupported', '"linear"', /"type"/],
  [
    'rope without factor',
    { ...v3, rope_scaling: { type: 'yarn' } },
    'missing-key',
    '{',
    /"factor" is missing in "rope_scaling"/,
  ],
  [
    'rope that shrinks',
    { ...v3, rope_scaling: { type: 'yarn', factor: 0.5 } },
    'wrong-value',
    '0.5',
    /factor/,
  ],
  [
    'rope betas',
    { ...v3, rope_scaling: { type: 'yarn', factor: 4, beta_fast: 1 } },
    'contradiction',
    '1',
    /beta_fast/,
  ],
  ['rope twice', { ...v3, rope_parameters: {} }, 'contradiction', '"rope_scaling"', /both/],
  [
    'rope types differ',
    { ...v3, rope_scaling: { type: 'yarn', rope_type: 'default' } },
    'contradiction',
    '"yarn"',
    /rope_type/,
  ],
  ['rope no object', { ...v3, rope_scaling: 'yarn' }, 'wrong-type', '"yarn"', /rope_scaling/],
  ['theta', { ...v3, rope_theta: 1 }, 'wrong-value', '1', /rope_theta/],
  [
    'quantisation',
    { ...v3, quantization_config: { quant_method: 'awq', weight_block_size: [128, 128] } },
    'unsupported',
    '"awq"',
    /quant_method/,
  ],
  [
    'format',
    { ...v3, quantization_config: { quant_method: 'fp8', fmt: 'e5m2', weight_block_size: [128, 128] } },
    'unsupported',
    '"e5m2"',
    /fmt/,
  ],
  [
    'blocks',
    { ...v3, quantization_config: { quant_method: 'fp8', weight_block_size: [64, 64] } },
    'unsupported',
    '[',
    /128, 128/,
  ],
  ['no blocks', { ...v3, quantization_config: { quant_method: 'fp8' } }, 'missing-key', '"fp8"', /128, 128/],
];

test.each(wrong)('refuses %s', (_, config, code, under, message) => {
  const { config: result, diagnostics } = read(config);
  expect(result).toBeNull();
  const errors = diagnostics.filter((d) => d.severity === 'error');
  expect(codes(errors)).toEqual([`error import/${code}`]);
  expect(errors[0].message).toMatch(message);
  expect(errors[0].fix).toBeTruthy();
  expect(underlined(config, errors[0])).toBe(under);
});

test('all independent mistakes come at once', () => {
  const broken = {
    ...v3,
    hidden_size: 0,
    num_key_value_heads: 8,
    hidden_act: 'gelu',
    rope_scaling: { type: 'yarn' },
    topk_group: 9,
  };
  expect(codes(read(broken).diagnostics).filter((c) => c.startsWith('error'))).toHaveLength(5);
});

test('warns of keys that it does not know, and of values that it does not follow', () => {
  const { config, diagnostics } = read({
    ...v2,
    sliding_window: 5,
    norm_topk_prob: true,
    attention_dropout: 0.1,
  });
  expect(config).not.toBeNull();
  expect(codes(diagnostics).sort()).toEqual([
    'warning import/ignored-value',
    'warning import/ignored-value',
    'warning import/unknown-key',
  ]);
});

test('power-of-two activation scales are read with a warning, other scale formats are refused', () => {
  const quantized = (scale_fmt: string): Config => ({
    ...v3,
    quantization_config: { ...(v3.quantization_config as Config), scale_fmt },
  });
  expect(codes(read(quantized('ue8m0')).diagnostics)).toContain('warning import/ignored-value');
  expect(read(quantized('ue8m0')).config?.quantized).toBe(true);
  expect(codes(read(quantized('int8')).diagnostics)).toContain('error import/unsupported');
});

test('shows mistakes as people read them', () => {
  const config = lay({
    ...without(v3, 'num_hidden_layers'),
    num_hidden_layer: 61,
    n_group: 7,
    rope_interleave: false,
  });
  const { diagnostics } = readConfig(config, 'config.json');
  const shown = diagnostics.map((d) => renderDiagnostic(d, { sourceOf: () => config })).join('\n\n');
  expect(shown).toMatchInlineSnapshot(`
    "note[import/default-taken]: not written, taken from Hugging Face's deepseek_v3: num_hidden_layers = 61
      --> config.json:1:1
    1 | {
        ^
    fix: write these keys if the checkpoint has other sizes

    error[import/contradiction]: the experts do not fall into equal groups
      --> config.json:21:14
    21 |   "n_group": 7,
                      ^ 256 experts are not divisible by 7
    note: "n_routed_experts" is 256 (config.json:22:23)
    fix: use a divisor of the number of experts

    note[import/prediction-layers]: the checkpoint has 1 multi-token-prediction layer, which prefill and decode do not use
      --> config.json:28:31
    28 |   "num_nextn_predict_layers": 1,
                                       ^ left out of the model file
    fix: add an MTP module where the model is trained; its weights follow the last layer

    warning[import/unknown-key]: "num_hidden_layer" is not a key that the importer knows
      --> config.json:63:3
    63 |   "num_hidden_layer": 61,
           ^^^^^^^^^^^^^^^^^^ it has no effect on the model file
    fix: "num_hidden_layers" was probably meant

    error[import/unsupported]: "rope_interleave" is false; only true can be imported
      --> config.json:64:22
    64 |   "rope_interleave": false
                              ^^^^^ the rotary op turns the pairs (0,1), (2,3), …, as DeepSeek checkpoints store them
    fix: write such a model in the DSL, or set "rope_interleave" to true if the checkpoint was made so"
  `);
});
