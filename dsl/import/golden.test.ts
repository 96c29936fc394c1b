// Imported models against Hugging Face: config.json → model file → module → interpreter, on the reference weights.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { decodeBytes, type DType } from '../../ir/formats/index.ts';
import {
  cacheRows,
  interpret,
  newState,
  packedPositions,
  pageTable,
  stepPositions,
  WeightCache,
  type OpEvent,
  type RoutingData,
  type StateData,
  type TensorData,
  type WeightSource,
} from '../../ir/interpret/index.ts';
import type { Module } from '../../ir/module.ts';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import * as dsl from '../index.ts';
import { loadModel } from '../load.ts';
import { traceModel, type TracedModel } from '../trace-model.ts';
import { importConfig } from './index.ts';

const golden = join(import.meta.dirname, '../../test/golden');
const scratch = mkdtempSync(join(tmpdir(), 'dsvc-import-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const configText = (config: string): string => readFileSync(join(golden, config), 'utf8');

/** Imports a config and traces the model file in f32. */
async function importedText(
  text: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<TracedModel> {
  const { source } = importConfig(text, 'config.json');
  const file = join(scratch, 'model.ts');
  writeFileSync(file, source!);
  const { model } = await loadModel(file, { settings, dslNamespace: dsl });
  return traceModel(model, { precision: 'f32' });
}

/** The same for a config of the reference data. */
const imported = (config: string, settings: Readonly<Record<string, string>> = {}): Promise<TracedModel> =>
  importedText(configText(config), settings);

const dtypeOf: Readonly<Record<string, DType>> = {
  F32: 'f32',
  BF16: 'bf16',
  I32: 'i32',
  I64: 'i64',
  F8_E4M3: 'f8e4m3',
};

/** Reads a tensor, with the block scales that lie beside an FP8 weight. */
function tensorOf(file: SafetensorsFile, name: string): TensorData | undefined {
  const info = file.tensors.get(name);
  if (!info) return undefined;
  const bytes = file.read(name);
  // The IR has no f64: such tensors only stand on the expected side.
  if (info.dtype === 'F64')
    return {
      kind: 'tensor',
      dtype: 'f32',
      shape: info.shape,
      data: new Float64Array(bytes.slice().buffer),
      scales: [],
    };
  const dtype = dtypeOf[info.dtype];
  const count = info.shape.reduce((n, s) => n * s, 1);
  const data = decodeBytes(dtype, bytes, count);
  const scale = dtype === 'f8e4m3' ? tensorOf(file, name.replace(/weight$/, 'weight_scale_inv')) : undefined;
  return { kind: 'tensor', dtype, shape: info.shape, data, scales: scale ? [scale] : [] };
}

function tensors(path: string): (name: string) => TensorData {
  const file = SafetensorsFile.open(join(golden, path));
  return (name) => {
    const found = tensorOf(file, name);
    if (!found) throw new Error(`${path} has no ${name}`);
    return found;
  };
}

function weightsOf(folder: string): WeightSource {
  const file = SafetensorsFile.open(join(golden, folder, 'model.safetensors'));
  return { get: (name) => tensorOf(file, name) };
}

const difference = (a: Float64Array, b: Float64Array): number => {
  expect(a.length).toBe(b.length);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
};

const ids = (values: Float64Array): TensorData => ({
  kind: 'tensor',
  dtype: 'i32',
  shape: [values.length],
  data: values,
  scales: [],
});

const layersOf = (module: Module): number | null => {
  const state = module.functions
    .find((f) => f.name === 'prefill')
    ?.arguments.find((a) => a.value.type.kind === 'state');
  return state?.value.type.kind === 'state' ? state.value.type.count : null;
};

function emptyCaches(module: Module, rows: number): StateData {
  return newState(module.states[0], layersOf(module), rows);
}

/** Logits of all tokens of sequences of one length, laid one after the other. */
function prefill(
  module: Module,
  weights: WeightSource | WeightCache,
  input: TensorData,
  onOp?: (e: OpEvent) => void,
): TensorData {
  const lengths = Array.from({ length: input.shape[0] }, () => input.shape[1]);
  const at = packedPositions(lengths, 'all');
  const caches = emptyCaches(module, cacheRows(at.pages, at.page));
  const { results } = interpret(
    module,
    'prefill',
    [ids(input.data), at, caches],
    weights,
    onOp ? { onOp } : {},
  );
  return results[0] as TensorData;
}

describe.each(['tiny_base', 'tiny_noqlora', 'tiny_yarn', 'tiny_nonpow2'])('%s', (name) => {
  test('gives the logits and the routing of Hugging Face', async () => {
    const { module } = await imported(`${name}/config.json`);
    const expected = tensors(`${name}/activations.safetensors`);
    const routings = new Map<number, RoutingData>();
    const logits = prefill(module, weightsOf(name), expected('input_ids'), ({ op, outputs, layer }) => {
      if (op.op === 'route') routings.set(layer!, outputs[0] as RoutingData);
    });
    expect(difference(logits.data, expected('logits').data)).toBeLessThan(1e-4);
    expect(difference(logits.data, expected('logits_f64').data)).toBeLessThan(1e-4);
    expect(routings.size).toBeGreaterThan(0);
    for (const [layer, routing] of routings) {
      expect(Array.from(routing.indices)).toEqual(Array.from(expected(`router.${layer}.indices`).data));
      expect(difference(routing.weights, expected(`router.${layer}.weights`).data)).toBeLessThan(2e-5);
    }
  });
});

test.each(['tiny_base', 'tiny_yarn'])('%s decodes token by token as Hugging Face does', async (name) => {
  const { module } = await imported(`${name}/config.json`);
  const expected = tensors(`${name}/decode.safetensors`);
  const [prompt, generated, steps] = ['prompt_ids', 'generated_ids', 'step_logits'].map(expected);
  const [length, vocab, count] = [prompt.shape[1], steps.shape[2], generated.shape[1]];
  const page = module.states[0].page;
  const pages = pageTable([length + count], page);
  const caches = emptyCaches(module, cacheRows(pages, page));
  const weights = new WeightCache(weightsOf(name));
  const first = interpret(
    module,
    'prefill',
    [ids(prompt.data), packedPositions([length], 'last', page, pages), caches],
    weights,
  );
  const rows = [first.results[0] as TensorData];
  for (let i = 0; i < count; i++) {
    const at = stepPositions([length + i], [1], 'last', page, pages);
    const step = interpret(module, 'decode', [ids(generated.data.slice(i, i + 1)), at, caches], weights);
    rows.push(step.results[0] as TensorData);
  }
  for (const [i, row] of rows.entries())
    expect(difference(row.data, steps.data.slice(i * vocab, (i + 1) * vocab)), `step ${i}`).toBeLessThan(
      1e-4,
    );
});

test('tiny_fp8 gives the logits of its dequantised weights', async () => {
  const { module } = await imported('tiny_fp8/config.json');
  const expected = tensors('tiny_fp8/activations.safetensors');
  const logits = prefill(module, weightsOf('tiny_fp8'), expected('input_ids'));
  expect(difference(logits.data, expected('logits_dequantised_weights_f64').data)).toBeLessThan(1e-4);
});

test('parameter counts of the published models', async () => {
  expect((await imported('configs/deepseek-v3.json')).facts.parameters).toBe(671_026_419_200);
  expect((await imported('configs/deepseek-v2-lite.json')).facts.parameters).toBe(15_706_484_224);
});

test('an imported model can be cut short', async () => {
  const { facts } = await imported('configs/deepseek-v3.json', { layers: '4', dense_layers: '1' });
  expect(facts.layers).toBe(4);
  const { facts: shallow } = await imported('configs/deepseek-v3.json', { layers: '2' });
  expect(shallow.layers).toBe(2);
});

/** Attributes of the only op of a name in a module. */
function attributesOf(module: Module, name: string): Readonly<Record<string, unknown>> {
  const found = module.functions.flatMap((f) => f.body.filter((op) => op.op === name));
  expect(found).toHaveLength(1);
  return found[0].attributes;
}

const changed = (config: string, changes: object): string =>
  JSON.stringify({ ...(JSON.parse(configText(config)) as object), ...changes });

test('DeepSeek-V2 routes by the softmax, within the best groups by their best expert, without a bias', async () => {
  const grouped = {
    n_routed_experts: 160,
    n_group: 8,
    topk_group: 3,
    topk_method: 'group_limited_greedy',
    routed_scaling_factor: 16,
  };
  const { module, facts } = await importedText(changed('configs/deepseek-v2-lite.json', grouped));
  const route = { top: 6, groups: 8, top_groups: 3, group_score: 'max', normalize: false, scale: 16 };
  expect(attributesOf(module, 'route')).toMatchObject(route);
  expect(attributesOf(module, 'softmax')).toMatchObject({ axis: 1 });
  expect(facts.buffers).toBe(0);
});

test('a tied head uses the weight of the embedding', async () => {
  const { facts, module } = await importedText(
    changed('configs/deepseek-v3.json', { tie_word_embeddings: true }),
  );
  expect(facts.parameters).toBe(671_026_419_200 - 129280 * 7168);
  const forward = module.functions.find((f) => f.name === 'forward')!;
  const [embedding, head] = ['gather', 'matmul'].map((name) => forward.body.find((op) => op.op === name)!);
  expect(embedding.operands[0].name).toBe('model.embed_tokens.weight');
  expect(head.operands[1]).toBe(embedding.operands[0]);
});

test('norms of blocks take the epsilon of the config, norms of latents always 1e-6', async () => {
  const { module } = await importedText(changed('configs/deepseek-v3.json', { rms_norm_eps: 1e-5 }));
  const norms = module.functions.flatMap((f) => f.body.filter((op) => op.op === 'rms_norm'));
  const epsilons = new Map(norms.map((op) => [op.operands[1].name, op.attributes.epsilon]));
  expect(Object.fromEntries(epsilons)).toEqual({
    'q_a_layernorm.weight': 1e-6,
    'kv_a_layernorm.weight': 1e-6,
    'input_layernorm.weight': 1e-5,
    'post_attention_layernorm.weight': 1e-5,
    'model.norm.weight': 1e-5,
  });
});

// m(x) = 0.1·x·ln(40) + 1; cos and sin: attention_factor, or m(mscale)/m(mscale_all_dim), or m(1) when either is
// missing; scores: 192^-½ · m(mscale_all_dim)².
const m = (x: number): number => 0.1 * x * Math.log(40) + 1;
test.each([
  ['both', { mscale: 1, mscale_all_dim: 1 }, 1, m(1)],
  ['unequal', { mscale: 0.707, mscale_all_dim: 1 }, m(0.707) / m(1), m(1)],
  ['no mscale', { mscale_all_dim: 0.5 }, m(1), m(0.5)],
  ['no mscale_all_dim', { mscale: 0.707 }, m(1), 1],
  ['neither', {}, m(1), 1],
  ['a factor', { attention_factor: 1.25, mscale_all_dim: 0.707 }, 1.25, m(0.707)],
])('YaRN with %s scales angles and scores as Hugging Face does', async (_, scales, angles, scores) => {
  const rope_scaling = { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, ...scales };
  const { module } = await importedText(changed('configs/deepseek-v3.json', { rope_scaling }));
  const ropes = module.functions.flatMap((f) => f.body.filter((op) => op.op === 'rope'));
  expect(ropes).toHaveLength(2);
  for (const op of ropes) expect(op.attributes.scale).toBeCloseTo(angles, 12);
  expect(attributesOf(module, 'attention').scale).toBeCloseTo(192 ** -0.5 * scores * scores, 12);
});
