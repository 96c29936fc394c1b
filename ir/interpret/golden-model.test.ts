// The whole language at once: DeepSeek-V3's forward pass written as IR text, interpreted, against the golden models.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import { decodeBytes, type DType } from '../formats/index.ts';
import type { Module } from '../module.ts';
import { parseModule } from '../text/index.ts';
import { interpret, type OpEvent } from './interpreter.ts';
import { cacheRows, newState, packedPositions, pageTable, stepPositions } from './positions.ts';
import type { RoutingData, TensorData } from './values.ts';
import { WeightCache, type WeightSource } from './weights.ts';

const folder = new URL('../../test/golden/', import.meta.url).pathname;
const formats: Readonly<Record<string, DType>> = {
  F32: 'f32',
  BF16: 'bf16',
  F8_E4M3: 'f8e4m3',
  I64: 'i64',
  I32: 'i32',
};

class Golden {
  readonly file: SafetensorsFile;
  constructor(path: string) {
    this.file = SafetensorsFile.open(folder + path);
  }
  load(name: string): TensorData {
    const { dtype, shape } = this.file.info(name);
    const count = shape.reduce((n, s) => n * s, 1);
    const bytes = this.file.read(name);
    // F64 has no dtype of ours: it is what the interpreter computes in.
    const data =
      dtype === 'F64'
        ? new Float64Array(bytes.slice().buffer, 0, count)
        : decodeBytes(formats[dtype], bytes, count);
    return { kind: 'tensor', dtype: formats[dtype] ?? 'f32', shape, data, scales: [] };
  }
  /** As weights: FP8 comes with its scales. */
  get source(): WeightSource {
    const { tensors: known } = this.file;
    return {
      get: (name) => {
        if (!known.has(name)) return undefined;
        const value = this.load(name);
        const scale = `${name}_scale_inv`;
        return known.has(scale) ? { ...value, scales: [this.load(scale)] } : value;
      },
    };
  }
}

type Config = Readonly<Record<string, number>> & {
  readonly rope_parameters: Readonly<Record<string, number>> & { readonly rope_type: string };
};

/** Frequencies and softmax scale: golden/README.md, "Rope" and "Scale". */
function rotary(c: Config): { frequencies: number[]; scale: number } {
  const {
    rope_type,
    rope_theta: theta,
    factor,
    ...yarn
  } = c.rope_parameters as Record<string, number> & { rope_type: string };
  const dim = c.qk_rope_head_dim;
  const plain = Array.from({ length: dim / 2 }, (_, j) => theta ** ((-2 * j) / dim));
  const base = (c.qk_nope_head_dim + dim) ** -0.5;
  if (rope_type === 'default') return { frequencies: plain, scale: base };
  const limit = (turns: number): number =>
    (dim * Math.log(yarn.original_max_position_embeddings / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const low = Math.max(Math.floor(limit(yarn.beta_fast)), 0);
  const high = Math.min(Math.ceil(limit(yarn.beta_slow)), dim - 1);
  const frequencies = plain.map((f, j) => {
    const ramp = Math.min(Math.max((j - low) / (high - low), 0), 1);
    return (f / factor) * ramp + f * (1 - ramp);
  });
  const m = 0.1 * yarn.mscale_all_dim * Math.log(factor) + 1;
  return { frequencies, scale: base * m * m };
}

const page = 4;

function modelText(c: Config): string {
  const { frequencies, scale } = rotary(c);
  const [h, H, nope, rope, v] = [
    c.hidden_size,
    c.num_attention_heads,
    c.qk_nope_head_dim,
    c.qk_rope_head_dim,
    c.v_head_dim,
  ];
  const [qr, kvr, E, top] = [c.q_lora_rank, c.kv_lora_rank, c.n_routed_experts, c.num_experts_per_tok];
  const [dense, moe, shared] = [
    c.intermediate_size,
    c.moe_intermediate_size,
    c.moe_intermediate_size * c.n_shared_experts,
  ];
  const qk = nope + rope;
  const align = 8;
  const rows = `f32[tokens, ${h}]`;
  const at = '%at: positions[tokens, keys, sequences, outputs]';
  const param = (name: string, stored: readonly number[], dims: readonly number[] = stored): string =>
    `    param "${name}": f32[${dims.join(', ')}] stored [${stored.join(', ')}]`;
  const turn = `{frequencies = [${frequencies.join(', ')}]}`;
  const mlp = (prefix: string, x: string, width: number): string[] => [
    `%${prefix}g = matmul ${x}, param "${prefix}gate_proj.weight" : f32[tokens, ${width}]`,
    `%${prefix}u = matmul ${x}, param "${prefix}up_proj.weight" : f32[tokens, ${width}]`,
    `%${prefix}a = silu_mul %${prefix}g, %${prefix}u : f32[tokens, ${width}]`,
    `%${prefix}y = matmul %${prefix}a, param "${prefix}down_proj.weight" : ${rows}`,
  ];
  const mlpWeights = (prefix: string, width: number): string[] => [
    ...['gate_proj', 'up_proj'].map((n) => param(`${prefix}${n}.weight`, [width, h])),
    param(`${prefix}down_proj.weight`, [h, width]),
  ];
  const query = qr
    ? [
        `%q_latent = matmul %x, param "q_a_proj.weight" : f32[tokens, ${qr}]`,
        `%q_norm = rms_norm %q_latent, param "q_a_layernorm.weight" {epsilon = 0.000001} : f32[tokens, ${qr}]`,
        `%q = matmul %q_norm, param "q_b_proj.weight" : f32[tokens, ${H}, ${qk}]`,
      ]
    : [`%q = matmul %x, param "q_proj.weight" : f32[tokens, ${H}, ${qk}]`];
  const queryWeights = qr
    ? [
        param('q_a_proj.weight', [qr, h]),
        param('q_a_layernorm.weight', [qr]),
        param('q_b_proj.weight', [H * qk, qr], [H, qk, qr]),
      ]
    : [param('q_proj.weight', [H * qk, h], [H, qk, h])];
  const lines = (...ops: string[]): string => ops.map((op) => `    ${op}`).join('\n');
  const layer = (kind: string): string => `
  block @${kind}_layer(%x: ${rows}, ${at}, inout %cache: state latent_cache) -> (${rows}) {
${param('input_layernorm.weight', [h])}
${param('post_attention_layernorm.weight', [h])}
    %n = rms_norm %x, param "input_layernorm.weight" {epsilon = 0.000001} : ${rows}
    %a, %cache.1 = call @self_attn %n, %at, %cache {prefix = "self_attn."} : ${rows}, state latent_cache
    %h = add %x, %a : ${rows}
    %m = rms_norm %h, param "post_attention_layernorm.weight" {epsilon = 0.000001} : ${rows}
    %f = call @${kind} %m {prefix = "mlp."} : ${rows}
    %y = add %h, %f : ${rows}
    return %y; %cache.1
  }`;
  const [first, last] = [c.first_k_dense_replace, c.num_hidden_layers];
  const entry = (name: string, keys: string): string => `
  entry @${name}(%ids: i32[tokens], %at: positions[tokens, ${keys}, sequences, outputs], inout %caches: state latent_cache[${last}]) -> (f32[outputs, ${c.vocab_size}]) {
${param('model.embed_tokens.weight', [c.vocab_size, h])}
${param('model.norm.weight', [h])}
${param('lm_head.weight', [c.vocab_size, h])}
    %h0 = gather param "model.embed_tokens.weight", %ids : ${rows}
    %h1, %caches.1 = repeat @dense_layer %h0, %at, %caches {start = 0, stop = ${first}, prefix = "model.layers.{i}.", modes = [carry, same, indexed]} : ${rows}, state latent_cache[${last}]
    %h2, %caches.2 = repeat @moe_layer %h1, %at, %caches.1 {start = ${first}, stop = ${last}, prefix = "model.layers.{i}.", modes = [carry, same, indexed]} : ${rows}, state latent_cache[${last}]
    %hidden_norm = rms_norm %h2, param "model.norm.weight" {epsilon = ${c.rms_norm_eps}} : ${rows}
    %wanted = position_field %at {field = outputs} : i32[outputs]
    %rows = gather %hidden_norm, %wanted : f32[outputs, ${h}]
    %logits = matmul %rows, param "lm_head.weight" : f32[outputs, ${c.vocab_size}]
    return %logits; %caches.2
  }`;
  return `dsir 1
module @tiny {
  dim tokens <= 64
  dim keys <= 256
  dim cached <= 256
  dim sequences <= 8
  dim outputs <= 64
  dim slots = ragged(tokens * ${top}, groups = ${E}, align = ${align}) <= ${64 * top + E * (align - 1)}
  state latent_cache paged(${page}) { latent: f32[cached, ${kvr}], rope: f32[cached, ${rope}] }

  block @self_attn(%x: ${rows}, ${at}, inout %cache: state latent_cache) -> (${rows}) {
${queryWeights.join('\n')}
${param('kv_a_proj_with_mqa.weight', [kvr + rope, h])}
${param('kv_a_layernorm.weight', [kvr])}
${param('kv_b_proj.weight', [H * (nope + v), kvr], [H, nope + v, kvr])}
${param('o_proj.weight', [h, H * v], [h, H, v])}
${lines(
  ...query,
  `%q_nope, %q_pe = split %q {axis = 2, sizes = [${nope}, ${rope}]} : f32[tokens, ${H}, ${nope}], f32[tokens, ${H}, ${rope}]`,
  `%q_rope = rope %q_pe, %at ${turn} : f32[tokens, ${H}, ${rope}]`,
  `%q_all = concat %q_nope, %q_rope {axis = 2} : f32[tokens, ${H}, ${qk}]`,
  `%kv_a = matmul %x, param "kv_a_proj_with_mqa.weight" : f32[tokens, ${kvr + rope}]`,
  `%c_kv, %k_pe = split %kv_a {axis = 1, sizes = [${kvr}, ${rope}]} : f32[tokens, ${kvr}], f32[tokens, ${rope}]`,
  `%c_norm = rms_norm %c_kv, param "kv_a_layernorm.weight" {epsilon = 0.000001} : f32[tokens, ${kvr}]`,
  `%k_rope = rope %k_pe, %at ${turn} : f32[tokens, ${rope}]`,
  `%cache.1, %latents, %ropes = remember %cache, %at, %c_norm, %k_rope : state latent_cache, f32[keys, ${kvr}], f32[keys, ${rope}]`,
  `%kv = matmul %latents, param "kv_b_proj.weight" : f32[keys, ${H}, ${nope + v}]`,
  `%k_nope, %v = split %kv {axis = 2, sizes = [${nope}, ${v}]} : f32[keys, ${H}, ${nope}], f32[keys, ${H}, ${v}]`,
  `%k_shared = broadcast %ropes {axes = [0, 2]} : f32[keys, ${H}, ${rope}]`,
  `%k = concat %k_nope, %k_shared {axis = 2} : f32[keys, ${H}, ${qk}]`,
  `%o = attention %q_all, %k, %v, %at {scale = ${scale}} : f32[tokens, ${H}, ${v}]`,
  `%y = matmul %o, param "o_proj.weight" {contract = 2} : ${rows}`,
  `return %y; %cache.1`,
)}
  }

  block @dense(%x: ${rows}) -> (${rows}) {
${mlpWeights('', dense).join('\n')}
${lines(...mlp('', '%x', dense), 'return %y')}
  }

  block @moe(%x: ${rows}) -> (${rows}) {
${param('gate.weight', [E, h])}
    buffer "gate.e_score_correction_bias": f32[${E}] stored [${E}]
${mlpWeights('shared_experts.', shared).join('\n')}
${['gate_proj', 'up_proj'].map((n) => param(`experts.{experts}.${n}.weight`, [moe, h], [E, moe, h])).join('\n')}
${param('experts.{experts}.down_proj.weight', [h, moe], [E, h, moe])}
${lines(
  `%router_logits = matmul %x, param "gate.weight" : f32[tokens, ${E}]`,
  `%scores = sigmoid %router_logits : f32[tokens, ${E}]`,
  `%route = route %scores, buffer "gate.e_score_correction_bias" {top = ${top}, groups = ${c.n_group}, top_groups = ${c.topk_group}, scale = ${c.routed_scaling_factor}} : routing[tokens, ${E}, ${top}, slots]`,
  `%xs = group_tokens %x, %route : f32[slots, ${h}]`,
  `%w = routing_field %route {field = slot_weights} : f32[slots]`,
  `%g = grouped_matmul %xs, param "experts.{experts}.gate_proj.weight", %route : f32[slots, ${moe}]`,
  `%u = grouped_matmul %xs, param "experts.{experts}.up_proj.weight", %route : f32[slots, ${moe}]`,
  `%a = silu_mul %g, %u, %w : f32[slots, ${moe}]`,
  `%d = grouped_matmul %a, param "experts.{experts}.down_proj.weight", %route : f32[slots, ${h}]`,
  `%routed = combine_tokens %d, %route : ${rows}`,
  ...mlp('shared_experts.', '%x', shared),
  `%y = add %routed, %shared_experts.y : ${rows}`,
  'return %y',
)}
  }
${layer('dense')}
${layer('moe')}
${entry('prefill', 'tokens')}
${entry('step', 'cached')}
}
`;
}

function model(name: string): { module: Module; config: Config; source: WeightSource } {
  const config = JSON.parse(readFileSync(`${folder}${name}/config.json`, 'utf8')) as Config;
  const { module, diagnostics } = parseModule(modelText(config), `${name}.dsir`);
  if (!module)
    throw new Error(diagnostics.map((d) => `${d.at?.line}: ${d.message} ${d.label ?? ''}`).join('\n'));
  return { module, config, source: new Golden(`${name}/model.safetensors`).source };
}

const largest = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) return Infinity;
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= most)) most = difference;
  }
  return most;
};
const ids = (tokens: ArrayLike<number>): TensorData => ({
  kind: 'tensor',
  dtype: 'i32',
  shape: [tokens.length],
  data: Float64Array.from(tokens),
  scales: [],
});

describe.each(['tiny_base', 'tiny_noqlora', 'tiny_yarn', 'tiny_nonpow2'])('%s', (name) => {
  const { module, config, source } = model(name);
  const golden = new Golden(`${name}/activations.safetensors`);
  const input = golden.load('input_ids');
  const [batch, length] = input.shape;
  const lengths = new Array<number>(batch).fill(length);
  const pages = pageTable(lengths, page);

  const run = (numerics: 'declared' | 'f64', onOp?: (event: OpEvent) => void): Float64Array => {
    const caches = newState(module.states[0], config.num_hidden_layers, cacheRows(pages, page));
    const at = packedPositions(lengths, 'all', page, pages);
    const { results } = interpret(module, 'prefill', [ids(input.data), at, caches], source, {
      numerics,
      onOp,
    });
    return (results[0] as TensorData).data;
  };

  test('f64: logits equal the golden f64 ones', () => {
    expect(largest(run('f64'), golden.load('logits_f64').data)).toBeLessThan(1e-9);
  });

  test('f32: logits, residual streams and routing', () => {
    const events: OpEvent[] = [];
    const logits = run('declared', (event) => events.push(event));
    expect(largest(logits, golden.load('logits').data)).toBeLessThan(1e-4);
    const streams = events.filter(
      ({ op }) => op.results.at(-1)?.name === 'y' && op.op === 'add' && op.operands[0].name === 'h',
    );
    expect(streams.length).toBe(config.num_hidden_layers);
    for (const { layer, outputs } of streams)
      expect(largest((outputs[0] as TensorData).data, golden.load(`hidden.${layer! + 1}`).data)).toBeLessThan(
        2e-4,
      );
    const routes = events.filter(({ op }) => op.op === 'route');
    expect(routes.length).toBe(config.num_hidden_layers - config.first_k_dense_replace);
    for (const { layer, outputs } of routes) {
      const routing = outputs[0] as RoutingData;
      expect([...routing.indices]).toEqual([...golden.load(`router.${layer}.indices`).data]);
      expect(largest(routing.weights, golden.load(`router.${layer}.weights`).data)).toBeLessThan(2e-5);
    }
  });
});

describe.each(['tiny_base', 'tiny_yarn'])('%s decodes', (name) => {
  const { module, config, source } = model(name);
  const golden = new Golden(`${name}/decode.safetensors`);
  const prompt = golden.load('prompt_ids').data;
  const generated = golden.load('generated_ids').data;

  test('greedily the same tokens, with the same logits and caches', () => {
    const weights = new WeightCache(source);
    const pages = pageTable([prompt.length + generated.length], page).map((p) => p.reverse());
    const caches = newState(module.states[0], config.num_hidden_layers, cacheRows(pages, page));
    const options = { numerics: 'f64' } as const;
    const logits: number[] = [];
    const chosen: number[] = [];
    const take = (rows: Float64Array): void => {
      logits.push(...rows);
      chosen.push(rows.indexOf(Math.max(...rows)));
    };
    const first = interpret(
      module,
      'prefill',
      [ids(prompt), packedPositions([prompt.length], 'last', page, pages), caches],
      weights,
      options,
    );
    take((first.results[0] as TensorData).data);
    for (let i = 0; i < generated.length; i++) {
      const at = stepPositions([prompt.length + i], [1], 'last', page, pages);
      take(
        (interpret(module, 'step', [ids([chosen[i]]), at, caches], weights, options).results[0] as TensorData)
          .data,
      );
    }
    expect(chosen.slice(0, generated.length)).toEqual([...generated]);
    expect(largest(logits, golden.load('step_logits_f64').data)).toBeLessThan(1e-9);
    for (const [layer, { fields }] of caches.layers.entries())
      for (const [field, stored] of [
        ['latent', 'c_kv'],
        ['rope', 'k_pe_interleaved'],
      ]) {
        const expected = golden.load(`cache.${layer}.${stored}`);
        const width = expected.shape[2];
        const rows = Array.from(
          { length: expected.shape[1] },
          (_, p) => pages[0][Math.floor(p / page)] * page + (p % page),
        );
        const data = rows.flatMap((r) => [...fields[field].data.slice(r * width, (r + 1) * width)]);
        expect(largest(data, expected.data)).toBeLessThan(5e-5);
      }
  });
});

test('tiny_fp8: weights stored in FP8 are dequantised', () => {
  const { module, config, source } = model('tiny_fp8');
  const golden = new Golden('tiny_fp8/activations.safetensors');
  const input = golden.load('input_ids');
  const [batch, length] = input.shape;
  const lengths = new Array<number>(batch).fill(length);
  const pages = pageTable(lengths, page);
  const caches = newState(module.states[0], config.num_hidden_layers, cacheRows(pages, page));
  const inputs = [ids(input.data), packedPositions(lengths, 'all', page, pages), caches];
  const { results } = interpret(module, 'prefill', inputs, source, { numerics: 'f64' });
  const expected = golden.load('logits_dequantised_weights_f64').data;
  expect(largest((results[0] as TensorData).data, expected)).toBeLessThan(1e-4);
});
