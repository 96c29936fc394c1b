// Loss and the gradient of every parameter against the published code's, through the real front end: import, trace,
// passes, autodiff, interpreter. Tolerances: test/golden/README.md.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { differentiate } from '../compiler/autodiff/differentiate.ts';
import { namedGradients } from '../compiler/autodiff/named.ts';
import { withoutStates } from '../compiler/autodiff/states.ts';
import { CheckpointWeights } from '../compiler/cli/checkpoint-weights.ts';
import { runPipeline } from '../compiler/pass.ts';
import { specialize } from '../compiler/passes/specialize.ts';
import { importConfig } from '../dsl/import/index.ts';
import * as dsl from '../dsl/index.ts';
import { loadModel } from '../dsl/load.ts';
import { traceModel } from '../dsl/trace-model.ts';
import { decodeBytes } from '../ir/formats/index.ts';
import { interpret, packedPositions, WeightCache } from '../ir/interpret/index.ts';
import type { RuntimeValue, TensorData } from '../ir/interpret/values.ts';
import { functionNamed, type Module } from '../ir/module.ts';
import { verifyModule } from '../ir/verify.ts';
import { openCheckpoint, SafetensorsFile } from '../runtime/safetensors.ts';

const golden = join(import.meta.dirname, 'golden');
const scratch = mkdtempSync(join(tmpdir(), 'dsvc-gradients-'));
afterAll(() => rmSync(scratch, { recursive: true }));

async function gradientModule(name: string): Promise<Module> {
  const { source } = importConfig(readFileSync(join(golden, name, 'config.json'), 'utf8'), 'config.json');
  const file = join(scratch, `${name}.ts`);
  writeFileSync(file, source ?? '');
  const { model } = await loadModel(file, { settings: {}, dslNamespace: dsl });
  const { module } = traceModel(model, { precision: 'f32', entries: 'training' });
  const options = { target: null, disabled: new Set<string>(), verifyEach: true };
  const specialised = withoutStates(runPipeline(module, [specialize], options).module);
  expect(verifyModule(specialised)).toEqual([]);
  return differentiate(specialised, 'loss', 'gradients');
}

const numbers = (file: SafetensorsFile, name: string): Float64Array => {
  const { dtype, shape } = file.info(name);
  const count = shape.reduce((n, s) => n * s, 1);
  return decodeBytes(dtype === 'I64' ? 'i64' : 'f32', file.read(name), count);
};

const tensorOf = (dtype: 'i32', data: ArrayLike<number>): TensorData => ({
  kind: 'tensor',
  dtype,
  shape: [data.length],
  data: Float64Array.from(data),
  scales: [],
});

test.each(['tiny_base', 'tiny_noqlora', 'tiny_yarn', 'tiny_nonpow2'])('%s', async (name) => {
  const module = await gradientModule(name);
  expect(verifyModule(module)).toEqual([]);
  const activations = SafetensorsFile.open(join(golden, name, 'activations.safetensors'));
  const ids = numbers(activations, 'input_ids');
  const [batch, length] = activations.info('input_ids').shape;
  const targets = ids.map((_, i) => ((i + 1) % length === 0 ? -1 : ids[i + 1]));
  const entry = functionNamed(module, 'gradients');
  const inputs = entry.arguments.map(({ value }): RuntimeValue => {
    if (value.type.kind === 'positions') return packedPositions(Array<number>(batch).fill(length), 'all');
    return tensorOf('i32', value.name === 'targets' ? targets : ids);
  });
  const weights = new WeightCache(new CheckpointWeights(openCheckpoint(join(golden, name))));
  const results = interpret(module, 'gradients', inputs, weights).results as readonly TensorData[];
  expect(Math.abs(results[0].data[0] - numbers(activations, 'loss')[0])).toBeLessThan(1e-5);

  const wanted = SafetensorsFile.open(join(golden, name, 'grads.safetensors'));
  const found = new Map(namedGradients(entry, results).map((g) => [g.name, g.data]));
  const wrong: string[] = [];
  for (const key of wanted.tensors.keys()) {
    const [got, want] = [found.get(key), numbers(wanted, key)];
    if (got?.length !== want.length) {
      wrong.push(`${key}: ${got ? `${got.length} elements` : 'missing'}`);
      continue;
    }
    let [most, difference, norm] = [0, 0, 0];
    for (const [i, w] of want.entries()) {
      most = Math.max(most, Math.abs(got[i] - w));
      difference += (got[i] - w) ** 2;
      norm += w * w;
    }
    const relative = norm === 0 ? difference : Math.sqrt(difference / norm);
    if (!(most <= 1e-5 || relative <= 1e-4)) wrong.push(`${key}: ${most} at most, relative ${relative}`);
  }
  expect(wrong).toEqual([]);
});
