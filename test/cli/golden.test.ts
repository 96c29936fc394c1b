// The published code's results (test/golden) through the command line, as a user gets them: import the config, run the
// checkpoint. Tolerances: test/golden/README.md.
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeSafetensors } from '../../runtime/safetensors.ts';
import { dsvc, golden, root } from './process.ts';
import { i64 } from './small.ts';
import { cosine, distance, names, read } from './tensors.ts';

const core = existsSync(join(root, 'build/native/dsvc_core.node'));
if (!core) console.warn('the C++ core is not built: golden models on the emulator are skipped');

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-golden-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function run(...args: string[]): Promise<string> {
  const { code, stderr } = await dsvc(args, { cwd: dir });
  if (code !== 0) throw new Error(`dsvc ${args.join(' ')} gave ${code}:\n${stderr}`);
  return stderr;
}

const models = ['tiny_base', 'tiny_noqlora', 'tiny_yarn', 'tiny_nonpow2', 'tiny_fp8'];
beforeAll(async () => {
  await Promise.all(models.map((m) => run('import', join(golden, m, 'config.json'), '-o', `${m}.ts`)));
});

/** Every pass that can be disabled. */
const optional = [
  'canonicalize',
  'fuse-mla-projections',
  'fuse-gate-up',
  'insert-fp8',
  'fuse-loops',
  'plan-memory',
  'select-kernels',
];
const prefill = (model: string, output: string, ...flags: string[]): Promise<string> => {
  const at = join(golden, model);
  return run(
    'run',
    `${model}.ts`,
    '--weights',
    at,
    '--input',
    join(at, 'activations.safetensors'),
    '--output',
    output,
    ...flags,
  );
};

/** Compares everything captured with the golden activations. */
function expectActivations(model: string, output: string): void {
  const reference = join(golden, model, 'activations.safetensors');
  const got = join(dir, output);
  const tolerance = (name: string): number =>
    name === 'logits' || name.endsWith('.logits')
      ? 1e-4
      : name.startsWith('hidden')
        ? 2e-4
        : name.endsWith('.indices')
          ? 0
          : 2e-5;
  const compared = names(reference).filter((n) => /^(logits|hidden\..*|router\..*)$/.test(n));
  expect(names(got).sort()).toEqual([...compared].sort());
  for (const name of compared)
    expect([name, distance(read(got, name), read(reference, name)) <= tolerance(name)]).toEqual([name, true]);
}

describe.each(['tiny_base', 'tiny_noqlora', 'tiny_yarn', 'tiny_nonpow2'])('%s', (model) => {
  test('prefill: logits, residual stream and routers', async () => {
    await prefill(model, `${model}.out`, '--capture', 'hidden,router');
    expectActivations(model, `${model}.out`);
  });

  test('the same without any optional pass', async () => {
    await prefill(model, `${model}.bare`, '--capture', 'hidden,router', '--disable-pass', optional.join(','));
    expectActivations(model, `${model}.bare`);
  });

  test('without rounding: the f64 reference', async () => {
    await prefill(model, `${model}.f64`, '--numerics=f64');
    const reference = read(join(golden, model, 'activations.safetensors'), 'logits_f64');
    // The output file holds f32: half a unit of logits up to 8 is 2.4e-7.
    expect(distance(read(join(dir, `${model}.f64`), 'logits'), reference)).toBeLessThan(5e-7);
  });
});

describe.each(['tiny_base', 'tiny_yarn'])('%s decode', (model) => {
  const reference = join(golden, model, 'decode.safetensors');
  const steps = 16;
  const decode = async (output: string, forced: boolean, ...flags: string[]): Promise<void> => {
    const prompt = read(reference, 'prompt_ids');
    const ids = read(reference, 'generated_ids');
    const input = join(dir, `${output}.in`);
    writeSafetensors(input, [
      i64('input_ids', prompt.shape, [...prompt.data]),
      ...(forced ? [i64('forced_ids', ids.shape, [...ids.data])] : []),
    ]);
    const at = join(golden, model);
    await run(
      'run',
      `${model}.ts`,
      '--entry',
      'decode',
      '--steps',
      String(steps),
      '--weights',
      at,
      '--input',
      input,
      '--output',
      output,
      ...flags,
    );
  };
  const expectDecoded = (output: string): void => {
    const got = join(dir, output);
    const compared = names(reference).filter((n) => n !== 'prompt_ids' && n !== 'step_logits_f64');
    expect(names(got).sort()).toEqual(compared.sort());
    expect(distance(read(got, 'generated_ids'), read(reference, 'generated_ids'))).toBe(0);
    for (const name of compared)
      expect([
        name,
        distance(read(got, name), read(reference, name)) < (name.startsWith('cache') ? 5e-5 : 1e-4),
      ]).toEqual([name, true]);
  };

  test('greedy: ids, logits and caches', async () => {
    await decode(`${model}.dec`, false);
    expectDecoded(`${model}.dec`);
  });
  test.skipIf(!core)('on the emulator: the same', async () => {
    await decode(`${model}.emulated`, false, '--device', 'emulator');
    expectDecoded(`${model}.emulated`);
  });
  test('without any optional pass, fed with the golden ids', async () => {
    await decode(`${model}.bare-dec`, true, '--disable-pass', optional.join(','));
    expectDecoded(`${model}.bare-dec`);
  });
});

describe('FP8 checkpoint', () => {
  const reference = join(golden, 'tiny_fp8/activations.safetensors');
  test('in FP8, as the checkpoint asks for', async () => {
    await prefill('tiny_fp8', 'fp8.out');
    const logits = read(join(dir, 'fp8.out'), 'logits');
    const exact = read(reference, 'logits_dequantised_weights_f64');
    expect(logits.shape).toEqual(exact.shape);
    // Activations are quantised: official code measures 0.993 here.
    expect(cosine(logits, exact)).toBeGreaterThan(0.98);
    expect(distance(logits, exact)).toBeGreaterThan(0.01);
  });
  test('in f32: the dequantised weights, exactly', async () => {
    await prefill('tiny_fp8', 'fp8.f32', '--precision', 'f32');
    const logits = read(join(dir, 'fp8.f32'), 'logits');
    expect(distance(logits, read(reference, 'logits_dequantised_weights_f64'))).toBeLessThan(1e-4);
    expect(distance(logits, read(reference, 'logits.act_bf16.rest_f32.naive'))).toBeLessThan(1e-4);
  });
});

test('decoding over page borders, two sequences at once, equals prefill of the whole', async () => {
  const [batch, length, steps, vocabulary] = [2, 70, 4, 192];
  const at = join(golden, 'tiny_yarn');
  const prompt = Array.from({ length: batch * length }, (_, i) => (i * 37 + (i % 11) * 5) % vocabulary);
  writeSafetensors(join(dir, 'long.in'), [i64('input_ids', [batch, length], prompt)]);
  await run(
    'run',
    'tiny_yarn.ts',
    '--entry',
    'decode',
    '--steps',
    `${steps}`,
    '--weights',
    at,
    '--input',
    'long.in',
    '--output',
    'long.out',
  );
  const ids = read(join(dir, 'long.out'), 'generated_ids').data;
  const whole = Array.from({ length: batch }, (_, b) => [
    ...prompt.slice(b * length, (b + 1) * length),
    ...[...ids].slice(b * steps, (b + 1) * steps),
  ]);
  writeSafetensors(join(dir, 'whole.in'), [i64('input_ids', [batch, length + steps], whole.flat())]);
  await run('run', 'tiny_yarn.ts', '--weights', at, '--input', 'whole.in', '--output', 'whole.out');
  const logits = read(join(dir, 'whole.out'), 'logits').data;
  // Rows from the last prompt position to the last token fed, of each sequence.
  const rows = whole.flatMap((_, b) => [
    ...logits.slice(
      (b * (length + steps) + length - 1) * vocabulary,
      (b + 1) * (length + steps) * vocabulary,
    ),
  ]);
  const stepped = read(join(dir, 'long.out'), 'step_logits');
  expect(distance(stepped, { shape: [batch, steps + 1, vocabulary], data: rows })).toBeLessThan(1e-4);
  expect(read(join(dir, 'long.out'), 'cache.1.c_kv').shape).toEqual([batch, length + steps, 16]);
});

test('two sequences give what each gives alone', async () => {
  const { shape, data } = read(join(golden, 'tiny_base/activations.safetensors'), 'input_ids');
  const [, length] = shape;
  const second = join(dir, 'second.in');
  writeSafetensors(second, [i64('input_ids', [1, length], [...data].slice(length))]);
  await run(
    'run',
    'tiny_base.ts',
    '--weights',
    join(golden, 'tiny_base'),
    '--input',
    second,
    '--output',
    'second.out',
  );
  const both = read(join(golden, 'tiny_base/activations.safetensors'), 'logits');
  const alone = read(join(dir, 'second.out'), 'logits');
  const rest = { shape: alone.shape, data: [...both.data].slice(both.data.length / 2) };
  expect(distance(alone, rest)).toBeLessThan(1e-4);
});

test('a checkpoint in shards behind an index, with tensors to spare', async () => {
  copyFileSync(join(golden, 'tiny_yarn/model.safetensors'), join(dir, 'part-1.safetensors'));
  writeSafetensors(join(dir, 'part-2.safetensors'), [i64('model.layers.2.extra', [1], [0])]);
  const map = Object.fromEntries(
    names(join(dir, 'part-1.safetensors')).map((n) => [n, 'part-1.safetensors']),
  );
  const index = JSON.stringify({ weight_map: { ...map, 'model.layers.2.extra': 'part-2.safetensors' } });
  writeFileSync(join(dir, 'model.safetensors.index.json'), index);
  const input = join(golden, 'tiny_yarn/activations.safetensors');
  const said = await run(
    'run',
    'tiny_yarn.ts',
    '--weights',
    '.',
    '--input',
    input,
    '--output',
    'sharded.out',
  );
  expect(said).toContain('warning[weights/unexpected]');
  expect(said).toContain('model.layers.2.extra');
  expect(distance(read(join(dir, 'sharded.out'), 'logits'), read(input, 'logits'))).toBeLessThan(1e-4);
});

test('the example, made small, is the model that import writes', async () => {
  const config = JSON.parse(readFileSync(join(golden, 'tiny_yarn/config.json'), 'utf8')) as Record<
    string,
    number
  >;
  const settings: Record<string, number> = {
    layers: config.num_hidden_layers,
    dense_layers: config.first_k_dense_replace,
    hidden: config.hidden_size,
    vocab: config.vocab_size,
    heads: config.num_attention_heads,
    nope: config.qk_nope_head_dim,
    rope: config.qk_rope_head_dim,
    v: config.v_head_dim,
    q_rank: config.q_lora_rank,
    kv_rank: config.kv_lora_rank,
    experts: config.n_routed_experts,
    experts_per_token: config.num_experts_per_tok,
    expert_groups: config.n_group,
    top_groups: config.topk_group,
    route_scale: config.routed_scaling_factor,
    dense_ff: config.intermediate_size,
    expert_ff: config.moe_intermediate_size,
    shared_ff: config.moe_intermediate_size * config.n_shared_experts,
  };
  const at = join(golden, 'tiny_yarn');
  const flags = Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
  const example = join(golden, '../../examples/deepseek-v3.ts');
  await run(
    'run',
    example,
    ...flags,
    '--weights',
    at,
    '--input',
    join(at, 'activations.safetensors'),
    '--output',
    'example.out',
    '--capture',
    'hidden,router',
  );
  expectActivations('tiny_yarn', 'example.out');
});
