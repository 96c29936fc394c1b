// Passes keep the meaning of every example: the traced model, and what each set of passes makes of it, give the same
// logits on random weights, in prefill and in decode steps over the paged cache.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Driver, interpreted } from '../compiler/cli/run-entries.ts';
import { runPipeline } from '../compiler/pass.ts';
import { inferencePasses } from '../compiler/pipeline.ts';
import * as dsl from '../dsl/index.ts';
import { importConfig } from '../dsl/import/index.ts';
import { loadModel } from '../dsl/load.ts';
import { traceModel } from '../dsl/trace-model.ts';
import { WeightCache } from '../ir/interpret/index.ts';
import type { Module } from '../ir/module.ts';
import { randomWeights } from './support/random-weights.ts';

const examples = join(import.meta.dirname, '../examples');

/** Small sizes for the real models, so that the interpreter needs seconds. */
const models: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
  ['tiny.ts', { layers: '3', dense_layers: '1' }],
  ['differential.ts', { layers: '2' }],
  [
    'dense-gqa.ts',
    { layers: '2', hidden: '128', heads: '4', key_heads: '2', length: '32', ff: '192', vocab: '200' },
  ],
  [
    'deepseek-v3.ts',
    {
      ...{
        layers: '2',
        dense_layers: '1',
        hidden: '128',
        vocab: '96',
        heads: '2',
        nope: '32',
        rope: '16',
        v: '32',
      },
      ...{
        q_rank: '128',
        kv_rank: '64',
        experts: '8',
        experts_per_token: '2',
        expert_groups: '4',
        top_groups: '2',
      },
      ...{ dense_ff: '128', expert_ff: '128', shared_ff: '128' },
    },
  ],
];

/** Logits of a packed prefill of two sequences, then of two decode steps. */
function logits(module: Module, weights: WeightCache): Float64Array[] {
  const driver = new Driver(module, interpreted(module, weights), 2, 9);
  const ids = (n: number, seed: number): Int32Array =>
    Int32Array.from({ length: n }, (_, i) => (i * 37 + seed) % 90);
  return [
    driver.step('prefill', { batch: 2, length: 7, ids: ids(14, 3) }).data,
    driver.step('decode', { batch: 2, length: 1, ids: ids(2, 11) }).data,
    driver.step('decode', { batch: 2, length: 1, ids: ids(2, 17) }).data,
  ];
}

/** Runs all passes, and all but one each, and compares with the module before them. */
function expectPreserved(module: Module, without: readonly string[]): void {
  const weights = new WeightCache(randomWeights);
  const before = logits(module, weights);
  expect(before[0].every(Number.isFinite)).toBe(true);
  const largest = Math.max(...before[0].map(Math.abs));
  expect(largest).toBeGreaterThan(0.01);
  for (const disabled of [[], ...without.map((name) => [name])]) {
    const passes = { target: null, disabled: new Set(disabled), verifyEach: true };
    const after = logits(runPipeline(module, inferencePasses(), passes).module, weights);
    after.forEach((step, s) =>
      step.forEach((x, i) => {
        if (!(Math.abs(x - before[s][i]) < 2e-5 * largest))
          expect.fail(`without [${disabled}] step ${s}, logit ${i}: ${x}, before ${before[s][i]}`);
      }),
    );
  }
}

const optional = inferencePasses()
  .filter((p) => !p.required)
  .map((p) => p.name);

test.each(models)('%s in f32', async (file, settings) => {
  const { model } = await loadModel(join(examples, file), { settings, dslNamespace: dsl });
  expectPreserved(traceModel(model, { precision: 'f32', settings }).module, optional);
});

/** Configs of the families that `dsvc import` reads, in sizes and combinations that nobody publishes. */
const config = fc
  .record({
    v2: fc.boolean(),
    q_lora_rank: fc.constantFrom(null, 5, 24),
    kv_lora_rank: fc.constantFrom(3, 16, 20),
    heads: fc.integer({ min: 1, max: 5 }),
    qk_nope_head_dim: fc.integer({ min: 1, max: 18 }),
    qk_rope_head_dim: fc.constantFrom(2, 6, 8),
    v_head_dim: fc.integer({ min: 1, max: 18 }),
    hidden_size: fc.integer({ min: 2, max: 50 }),
    intermediate_size: fc.integer({ min: 1, max: 60 }),
    moe_intermediate_size: fc.integer({ min: 1, max: 30 }),
    n_group: fc.constantFrom(1, 2, 4),
    perGroup: fc.integer({ min: 2, max: 5 }),
    n_shared_experts: fc.integer({ min: 1, max: 2 }),
    layers: fc.integer({ min: 1, max: 3 }),
    dense: fc.integer({ min: 0, max: 3 }),
    top: fc.integer({ min: 1, max: 4 }),
    topk_group: fc.integer({ min: 1, max: 4 }),
    norm: fc.boolean(),
    yarn: fc.boolean(),
  })
  .map((c) => {
    const { v2, heads, perGroup, layers, dense, top, norm, yarn, ...rest } = c;
    const topk_group = Math.min(rest.topk_group, rest.n_group);
    const rope = {
      rope_type: 'yarn',
      factor: 40,
      original_max_position_embeddings: 4096,
      beta_fast: 32,
      beta_slow: 1,
    };
    return {
      ...rest,
      architectures: [v2 ? 'DeepseekV2ForCausalLM' : 'DeepseekV3ForCausalLM'],
      model_type: v2 ? 'deepseek_v2' : 'deepseek_v3',
      scoring_func: v2 ? 'softmax' : 'sigmoid',
      topk_method: v2 ? (rest.n_group > 1 ? 'group_limited_greedy' : 'greedy') : 'noaux_tc',
      norm_topk_prob: !v2 && norm,
      topk_group,
      vocab_size: 97,
      num_attention_heads: heads,
      num_key_value_heads: heads,
      num_hidden_layers: layers,
      first_k_dense_replace: Math.min(dense, layers),
      n_routed_experts: rest.n_group * perGroup,
      num_experts_per_tok: Math.min(top, topk_group * perGroup),
      routed_scaling_factor: 1.5,
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-6,
      rope_theta: 10000,
      rope_scaling: yarn ? { ...rope, type: 'yarn', mscale: 0.7, mscale_all_dim: 1.1 } : null,
    };
  });

test('imported configs of any shape', async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'dsvc-preserve-'));
  let n = 0;
  try {
    await fc.assert(
      fc.asyncProperty(config, async (c) => {
        const { source, diagnostics } = importConfig(JSON.stringify(c), 'config.json');
        expect(diagnostics.filter((d) => d.severity === 'error')).toEqual([]);
        const file = join(scratch, `m${n++}.ts`);
        writeFileSync(file, source ?? '');
        const { model } = await loadModel(file, { settings: {}, dslNamespace: dsl });
        expectPreserved(traceModel(model, { precision: 'f32' }).module, []);
      }),
      { numRuns: 25 },
    );
  } finally {
    rmSync(scratch, { recursive: true });
  }
});
