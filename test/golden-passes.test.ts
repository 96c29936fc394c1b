// The published code's numbers through the real front end (import, trace, passes, interpreter), with all passes on, each
// off, and all off that can be: passes must not change what a model means. Tolerances: test/golden/README.md.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { Capture } from '../compiler/cli/capture.ts';
import { CheckpointWeights } from '../compiler/cli/checkpoint-weights.ts';
import { Driver, interpreted } from '../compiler/cli/run-entries.ts';
import type { TokenIds } from '../compiler/cli/run-inputs.ts';
import { runPipeline } from '../compiler/pass.ts';
import { inferencePasses } from '../compiler/pipeline.ts';
import * as dsl from '../dsl/index.ts';
import { importConfig } from '../dsl/import/index.ts';
import { loadModel } from '../dsl/load.ts';
import { traceModel } from '../dsl/trace-model.ts';
import { decodeBytes } from '../ir/formats/index.ts';
import { WeightCache, type TensorData } from '../ir/interpret/index.ts';
import type { Module } from '../ir/module.ts';
import { printModule } from '../ir/text/printer.ts';
import { openCheckpoint, SafetensorsFile } from '../runtime/safetensors.ts';

const golden = join(import.meta.dirname, 'golden');
const scratch = mkdtempSync(join(tmpdir(), 'dsvc-golden-'));
afterAll(() => rmSync(scratch, { recursive: true }));

type Precision = 'f32' | 'bf16' | 'fp8';

async function traced(name: string, precision: Precision): Promise<Module> {
  const { source } = importConfig(readFileSync(join(golden, name, 'config.json'), 'utf8'), 'config.json');
  const file = join(scratch, `${name}.ts`);
  writeFileSync(file, source ?? '');
  const { model } = await loadModel(file, { settings: {}, dslNamespace: dsl });
  return traceModel(model, { precision }).module;
}

function after(module: Module, disabled: readonly string[]): Module {
  return runPipeline(module, inferencePasses(), {
    target: null,
    disabled: new Set(disabled),
    verifyEach: true,
  }).module;
}

/** Reads a tensor of the reference data as numbers. */
function reference(path: string): (name: string) => { shape: readonly number[]; data: Float64Array } {
  const file = SafetensorsFile.open(join(golden, path));
  return (name) => {
    const { dtype, shape } = file.info(name);
    const bytes = file.read(name);
    const count = shape.reduce((n, s) => n * s, 1);
    if (dtype === 'F64') return { shape, data: new Float64Array(bytes.slice().buffer) };
    const of = { F32: 'f32', I32: 'i32', I64: 'i64' } as const;
    if (!(dtype in of)) throw new Error(`${name} is ${dtype}`);
    return { shape, data: decodeBytes(of[dtype as keyof typeof of], bytes, count) };
  };
}

const tokensOf = ({ shape, data }: { shape: readonly number[]; data: Float64Array }): TokenIds => ({
  batch: shape[0],
  length: shape[1],
  ids: Int32Array.from(data),
});

const maxDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length);
  let most = 0;
  for (let i = 0; i < a.length; i++)
    most = Math.max(most, Number.isNaN(a[i]) ? Infinity : Math.abs(a[i] - b[i]));
  return most;
};

const weightsOf = (name: string): WeightCache =>
  new WeightCache(new CheckpointWeights(openCheckpoint(join(golden, name))));

const optional = inferencePasses()
  .filter((p) => !p.required)
  .map((p) => p.name);
const variants: readonly (readonly [string, readonly string[]])[] = [
  ['all passes', []],
  ...optional.map((name): [string, string[]] => [`without ${name}`, [name]]),
  ['only the required passes', optional],
];

describe.each(['tiny_base', 'tiny_noqlora', 'tiny_yarn', 'tiny_nonpow2'])('%s', (name) => {
  const expected = reference(`${name}/activations.safetensors`);
  const input = tokensOf(expected('input_ids'));
  const weights = weightsOf(name);

  test.each(variants)('f32 logits, hidden states and routing: %s', async (_, disabled) => {
    const model = await traced(name, 'f32');
    const final = after(model, disabled);
    const capture = new Capture(['hidden', 'router'], model, final, 'prefill');
    const driver = new Driver(
      final,
      interpreted(final, weights, { onOp: capture.onOp }),
      input.batch,
      input.length,
    );
    const logits = driver.step('prefill', input);
    expect(maxDifference(logits.data, expected('logits').data)).toBeLessThan(1e-4);
    let routers = 0;
    for (const [key, value] of capture.tensors) {
      const tolerance = key.endsWith('.indices') ? 0 : key.endsWith('.weights') ? 2e-5 : 2e-4;
      expect(maxDifference(value.data, expected(key).data), key).toBeLessThanOrEqual(tolerance);
      if (key.endsWith('.indices')) routers++;
    }
    expect([...capture.tensors.keys()]).toEqual(
      expect.arrayContaining(['hidden.0', 'hidden.1', 'hidden.norm']),
    );
    expect(routers).toBeGreaterThan(0);
  });

  test('bf16: median over tokens of the largest logit error at most 0.1', async () => {
    const final = after(await traced(name, 'bf16'), []);
    const driver = new Driver(final, interpreted(final, weightsOf(name)), input.batch, input.length);
    const logits = driver.step('prefill', input);
    const exact = expected('logits_f64');
    const vocabulary = exact.shape[2];
    const errors = Array.from({ length: input.batch * input.length }, (_, t) =>
      maxDifference(
        logits.data.subarray(t * vocabulary, (t + 1) * vocabulary),
        exact.data.subarray(t * vocabulary, (t + 1) * vocabulary),
      ),
    ).sort((a, b) => a - b);
    const median = errors[Math.floor(errors.length / 2)];
    expect(median).toBeLessThanOrEqual(0.1);
    // Rounding really happened.
    expect(median).toBeGreaterThan(1e-3);
  });
});

describe.each(['tiny_base', 'tiny_yarn'])('%s decode', (name) => {
  const expected = reference(`${name}/decode.safetensors`);
  const prompt = tokensOf(expected('prompt_ids'));
  const weights = weightsOf(name);

  test.each(variants)('ids, logits and caches: %s', async (_, disabled) => {
    const final = after(await traced(name, 'f32'), disabled);
    const generated = expected('generated_ids');
    const steps = generated.shape[1];
    const driver = new Driver(final, interpreted(final, weights), 1, prompt.length + steps);
    let logits: TensorData = driver.step('prefill', prompt);
    expect(maxDifference(logits.data, expected('prefill_logits').data)).toBeLessThan(1e-4);
    const rows = expected('step_logits');
    const vocabulary = rows.shape[2];
    for (let step = 0; step <= steps; step++) {
      const last = logits.data.subarray(logits.data.length - vocabulary);
      expect(
        maxDifference(last, rows.data.subarray(step * vocabulary, (step + 1) * vocabulary)),
        `step ${step}`,
      ).toBeLessThan(1e-4);
      if (step === steps) break;
      const next = last.indexOf(Math.max(...last));
      expect(next).toBe(generated.data[step]);
      logits = driver.step('decode', { batch: 1, length: 1, ids: Int32Array.of(next) });
    }
    for (const [key, value] of driver.caches())
      expect(maxDifference(value.data, expected(key).data), key).toBeLessThan(5e-5);
  });

  test('decode is absorbed unless fuse-mla-projections is off', async () => {
    const text = (disabled: string[]): Promise<string> =>
      traced(name, 'f32').then((m) => printModule(after(m, disabled)));
    expect(await text([])).toContain('thn,hnr->thr');
    expect(await text(['fuse-mla-projections'])).not.toContain('thn,hnr->thr');
  });
});

describe('tiny_fp8', () => {
  const expected = reference('tiny_fp8/activations.safetensors');
  const input = tokensOf(expected('input_ids'));
  const exact = expected('logits_dequantised_weights_f64').data;

  async function logits(precision: Precision, disabled: readonly string[]): Promise<Float64Array> {
    const final = after(await traced('tiny_fp8', precision), disabled);
    return new Driver(final, interpreted(final, weightsOf('tiny_fp8')), input.batch, input.length).step(
      'prefill',
      input,
    ).data;
  }

  const relativeError = (x: Float64Array): { cosine: number; l2: number } => {
    let [dot, xx, ee, difference] = [0, 0, 0, 0];
    x.forEach((v, i) => {
      dot += v * exact[i];
      xx += v * v;
      ee += exact[i] ** 2;
      difference += (v - exact[i]) ** 2;
    });
    return { cosine: dot / Math.sqrt(xx * ee), l2: Math.sqrt(difference / ee) };
  };

  test('with bf16 activations the dequantised weights give the exact logits in f32', async () =>
    expect(maxDifference(await logits('f32', []), exact)).toBeLessThan(1e-4));

  test.each(variants.filter(([, disabled]) => !disabled.includes('insert-fp8')))(
    'fp8 errs as FP8 must, no more and no less: %s',
    async (_, disabled) => {
      const { cosine, l2 } = relativeError(await logits('fp8', disabled));
      expect(cosine).toBeGreaterThan(0.98);
      expect(l2).toBeGreaterThan(0.05);
      expect(l2).toBeLessThan(0.25);
    },
  );

  test('the final IR multiplies FP8 codes', async () => {
    const text = printModule(after(await traced('tiny_fp8', 'fp8'), []));
    expect(text).toMatch(/matmul %a0, %a1 \{promote = 128\} : bf16/);
    expect(text).toContain('f8e4m3<1x128; f32>');
    expect(text).toContain('f8e4m3<128x128; f32>');
  });

  test('without insert-fp8 the error is that of bf16, far below', async () =>
    expect(relativeError(await logits('fp8', ['insert-fp8'])).l2).toBeLessThan(0.05));
});
