// Every example, traced in every precision: figures, checkpoint names, and results. DeepSeek-V3's model file, made small with
// settings, must give what Hugging Face's code gives on the reference weights.
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { checkpointNames } from '../dsl/facts.ts';
import * as dsl from '../dsl/index.ts';
import { loadModel } from '../dsl/load.ts';
import { traceModel, type PrecisionName, type TracedModel } from '../dsl/trace-model.ts';
import { decodeBytes, type DType } from '../ir/formats/index.ts';
import {
  cacheRows,
  interpret,
  newState,
  packedPositions,
  pageTable,
  stepPositions,
  WeightCache,
  type TensorData,
  type WeightSource,
} from '../ir/interpret/index.ts';
import type { Module } from '../ir/module.ts';
import { parseModule, printModule } from '../ir/text/index.ts';
import { verifyModule } from '../ir/verify.ts';
import { SafetensorsFile } from '../runtime/safetensors.ts';

async function traced(
  name: string,
  settings: Readonly<Record<string, string>> = {},
  precision: PrecisionName = 'bf16',
): Promise<TracedModel> {
  const { model } = await loadModel(join(import.meta.dirname, `${name}.ts`), { settings, dslNamespace: dsl });
  return traceModel(model, { precision });
}

describe.each([
  // name, parameters, active per token, bytes of cache per token in bf16
  ['deepseek-v3', 671_026_419_200, 37_552_297_472, 70_272],
  ['deepseek-v2-lite', 15_706_484_224, 2_661_150_208, 31_104],
  ['dense-gqa', 8_030_261_248, 8_030_261_248, 131_072],
  ['tiny', 8_603_952, 5_065_008, 3_072],
  ['differential', 6_300_944, 3_155_216, 6_144],
])('%s', (name, parameters, active, cacheBytes) => {
  test('has the parameters that were published', async () => {
    const { facts } = await traced(name);
    expect(facts.parameters).toBe(parameters);
    expect(facts.activeParameters).toBe(active);
    expect(facts.cacheBytesPerToken).toBe(cacheBytes);
  });

  test.each(['f32', 'bf16', 'fp8'] as const)('is sound in %s, and its text reads back', async (precision) => {
    const { module, diagnostics } = await traced(name, {}, precision);
    expect(diagnostics).toEqual([]);
    expect(verifyModule(module)).toEqual([]);
    expect(module.attributes.precision).toBe(precision);
    const text = printModule(module);
    const read = parseModule(text, 'model.dsir');
    expect(read.diagnostics).toEqual([]);
    expect(printModule(read.module!)).toBe(text);
  });

  test('names and places of the author are everywhere', async () => {
    const { module } = await traced(name);
    for (const f of module.functions)
      for (const op of f.body) expect(op.span).toMatchObject({ file: `${name}.ts` });
  });
});

test('DeepSeek-V3 has three blocks of layers, whatever their number', async () => {
  const { module } = await traced('deepseek-v3');
  expect(module.functions.map((f) => f.name)).toEqual([
    'self_attn',
    'dense_mlp',
    'dense_layer',
    'mixture',
    'moe_layer',
    'forward',
    'prefill',
    'decode',
  ]);
  const small = await traced('deepseek-v3', { layers: '7', dense_layers: '2' });
  expect(small.facts.layers).toBe(7);
  expect(small.module.functions).toHaveLength(8);
});

// --- results ---

const numbers: Readonly<Record<string, DType>> = { F32: 'f32', BF16: 'bf16', I64: 'i64' };

function golden(path: string): { get: (name: string) => TensorData; file: SafetensorsFile } {
  const file = SafetensorsFile.open(join(import.meta.dirname, '../test/golden', path));
  const get = (name: string): TensorData => {
    const info = file.tensors.get(name);
    if (!info) throw new Error(`${path} has no ${name}`);
    const count = info.shape.reduce((n, s) => n * s, 1);
    const dtype = numbers[info.dtype];
    return {
      kind: 'tensor',
      dtype,
      shape: info.shape,
      data: decodeBytes(dtype, file.read(name), count),
      scales: [],
    };
  };
  return { get, file };
}

const ids = (values: Iterable<number>): TensorData => {
  const data = Float64Array.from(values);
  return { kind: 'tensor', dtype: 'i32', shape: [data.length], data, scales: [] };
};

const difference = (a: Float64Array, b: Float64Array): number => {
  expect(a.length).toBe(b.length);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
};

/** Sizes of test/golden/tiny_yarn: DeepSeek-V3 with YaRN, two layers. */
const tinyYarn = {
  ...{
    layers: '2',
    dense_layers: '1',
    hidden: '64',
    vocab: '192',
    heads: '4',
    nope: '16',
    rope: '16',
    v: '16',
  },
  ...{ q_rank: '24', kv_rank: '16', dense_ff: '96', expert_ff: '16', shared_ff: '16' },
  ...{ experts: '8', experts_per_token: '3', expert_groups: '4', top_groups: '2' },
};

describe('DeepSeek-V3 on the reference weights', () => {
  const weights = golden('tiny_yarn/model.safetensors');
  const source: WeightSource = {
    get: (name) => (weights.file.tensors.has(name) ? weights.get(name) : undefined),
  };

  test("names and shapes are the checkpoint's", async () => {
    const { module } = await traced('deepseek-v3', tinyYarn);
    const ours = new Map([...checkpointNames(module)].map(({ name, stored }) => [name, [...stored]]));
    const theirs = new Map([...weights.file.tensors].map(([name, { shape }]) => [name, [...shape]]));
    expect(Object.fromEntries([...ours].sort())).toEqual(Object.fromEntries([...theirs].sort()));
  });

  // tiny.ts is made of the library's layers, deepseek-v3.ts spells them out.
  test.each(['deepseek-v3', 'tiny'])("prefill of %s gives the reference's logits", async (name) => {
    const { expert_groups, top_groups, ...sizes } = tinyYarn;
    const settings = name === 'tiny' ? sizes : { ...sizes, expert_groups, top_groups };
    const { module } = await traced(name, settings, 'f32');
    const reference = golden('tiny_yarn/activations.safetensors');
    const tokens = reference.get('input_ids').data;
    const state = newState(module.states[0], 2, 64);
    const { results } = interpret(
      module,
      'prefill',
      [ids(tokens), packedPositions([tokens.length], 'all'), state],
      source,
    );
    expect(difference((results[0] as TensorData).data, reference.get('logits').data)).toBeLessThan(1e-4);
  });

  test("decoding token by token gives the reference's logits and caches", async () => {
    const { module } = await traced('deepseek-v3', tinyYarn, 'f32');
    const reference = golden('tiny_yarn/decode.safetensors');
    const prompt = reference.get('prompt_ids').data;
    const generated = reference.get('generated_ids').data;
    const wanted = reference.get('step_logits').data;
    const kept = new WeightCache(source);
    const pages = pageTable([prompt.length + generated.length], 64);
    const state = newState(module.states[0], 2, cacheRows(pages, 64));
    interpret(
      module,
      'prefill',
      [ids(prompt), packedPositions([prompt.length], 'last', 64, pages), state],
      kept,
    );
    for (const [i, token] of generated.entries()) {
      const at = stepPositions([prompt.length + i], [1], 'last', 64, pages);
      const { results } = interpret(module, 'decode', [ids([token]), at, state], kept);
      expect(
        difference((results[0] as TensorData).data, wanted.subarray((i + 1) * 192, (i + 2) * 192)),
      ).toBeLessThan(1e-4);
    }
    const rows = prompt.length + generated.length;
    for (const [layer, { fields }] of state.layers.entries()) {
      const part = (field: string, width: number): Float64Array =>
        fields[field].data.subarray(0, rows * width);
      expect(difference(part('latent', 16), reference.get(`cache.${layer}.c_kv`).data)).toBeLessThan(5e-5);
      expect(
        difference(part('rope', 16), reference.get(`cache.${layer}.k_pe_interleaved`).data),
      ).toBeLessThan(5e-5);
    }
  });
});

/** Weights that depend on their name and place only. */
const madeUp: WeightSource = {
  get: (name, stored) => {
    let seed = [...name].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 16777619) >>> 0, 2166136261);
    const norm = name.endsWith('norm.weight') ? 1 : 0;
    const data = new Float64Array(stored.reduce((n, s) => n * s, 1));
    const spread = stored.length > 1 ? 2 / Math.sqrt(stored.at(-1)!) : 0.1;
    for (let i = 0; i < data.length; i++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      data[i] = Math.fround(norm + spread * (seed / 2 ** 32 - 0.5));
    }
    return { kind: 'tensor', dtype: 'f32', shape: stored, data, scales: [] };
  },
};

/** Logits of the last token of each sequence: all at once, and the last token fed to the caches of the others. */
function bothWays(
  module: Module,
  sequences: readonly (readonly number[])[],
): { packed: Float64Array; stepped: Float64Array } {
  const kept = new WeightCache(madeUp);
  const lengths = sequences.map((s) => s.length);
  const pages = pageTable(lengths, 64);
  const count = module.functions.find((f) => f.name === 'forward')!.arguments[2].value.type as {
    count: number;
  };
  const fresh = () => newState(module.states[0], count.count, cacheRows(pages, 64));
  const packed = interpret(
    module,
    'prefill',
    [ids(sequences.flat()), packedPositions(lengths, 'last', 64, pages), fresh()],
    kept,
  );
  const state = fresh();
  const before = lengths.map((n) => n - 1);
  const heads = sequences.flatMap((s) => s.slice(0, -1));
  interpret(module, 'prefill', [ids(heads), packedPositions(before, 'last', 64, pages), state], kept);
  const lasts = sequences.map((s) => s.at(-1)!);
  const at = stepPositions(
    before,
    lengths.map(() => 1),
    'last',
    64,
    pages,
  );
  const stepped = interpret(module, 'decode', [ids(lasts), at, state], kept);
  return { packed: (packed.results[0] as TensorData).data, stepped: (stepped.results[0] as TensorData).data };
}

test.each([
  ['tiny', {}],
  ['differential', {}],
  [
    'dense-gqa',
    { layers: '2', hidden: '64', vocab: '128', ff: '128', heads: '4', key_heads: '2', length: '16' },
  ],
  [
    'deepseek-v2-lite',
    {
      layers: '2',
      hidden: '64',
      vocab: '128',
      dense_ff: '96',
      expert_ff: '32',
      shared_ff: '64',
      heads: '2',
      nope: '16',
      rope: '8',
      v: '16',
      kv_rank: '32',
      experts: '8',
    },
  ],
])('%s: a decoding step agrees with prefill', async (name, settings) => {
  const { module } = await traced(name, settings, 'f32');
  const { packed, stepped } = bothWays(module, [
    [3, 14, 15, 92, 65, 35, 89],
    [27, 18, 28],
  ]);
  expect(packed.some((x) => Math.abs(x) > 0.01)).toBe(true);
  expect(packed.every(Number.isFinite)).toBe(true);
  expect(difference(packed, stepped)).toBeLessThan(1e-4);
});
