// Whole models on the emulator, as a user runs them: prefill of a prompt, then decode steps fed with known tokens, all
// checks on. The logits of both are compared with a reference of the whole text.
import { join } from 'node:path';
import { expect } from 'vitest';
import * as dsl from '../../dsl/index.ts';
import { loadModel } from '../../dsl/load.ts';
import { traceModel } from '../../dsl/trace-model.ts';
import { writeSafetensors } from '../../runtime/safetensors.ts';
import { randomCheckpoint } from '../support/random-weights.ts';
import { dsvc, golden, root } from './process.ts';
import { i64 } from './small.ts';
import { cosine, distance, read, type Tensor } from './tensors.ts';

export type Precision = 'f32' | 'bf16' | 'fp8';
export const precisions: readonly Precision[] = ['f32', 'bf16', 'fp8'];

/** A model with what its logits should be. */
export interface Whole {
  readonly title: string;
  readonly path: string;
  readonly weights: string;
  /** [B, T] token ids, and the exact logits [B, T, V] of all of them. */
  readonly ids: Tensor;
  readonly logits: Tensor;
}

export async function run(dir: string, ...args: readonly string[]): Promise<string> {
  const { code, stderr } = await dsvc(args, { cwd: dir });
  if (code !== 0) throw new Error(`dsvc ${args.join(' ')} gave ${code}:\n${stderr}`);
  return stderr;
}

export const goldenModels = ['tiny_base', 'tiny_noqlora', 'tiny_yarn', 'tiny_nonpow2', 'tiny_fp8'] as const;

/** A golden model, imported into `dir`. */
export async function goldenModel(dir: string, name: (typeof goldenModels)[number]): Promise<Whole> {
  const weights = join(golden, name);
  const path = join(dir, `${name}.ts`);
  await run(dir, 'import', join(weights, 'config.json'), '-o', path);
  const activations = join(weights, 'activations.safetensors');
  return {
    ...{ title: name, path, weights },
    ids: read(activations, 'input_ids'),
    logits: read(activations, name === 'tiny_fp8' ? 'logits_dequantised_weights_f64' : 'logits_f64'),
  };
}

/** examples/tiny.ts as it is, with a random checkpoint; its logits from the interpreter without rounding. */
export async function tinyModel(dir: string): Promise<Whole> {
  const path = join(root, 'examples/tiny.ts');
  const { model } = await loadModel(path, { settings: {}, dslNamespace: dsl });
  const { module } = traceModel(model, { precision: 'f32', settings: {} });
  const weights = join(dir, 'tiny.safetensors');
  writeSafetensors(weights, randomCheckpoint(module));
  const shape = [2, 12];
  const ids = Array.from({ length: 24 }, (_, i) => (i * 37 + (i % 11) * 5) % 512);
  writeSafetensors(join(dir, 'tiny.in'), [i64('input_ids', shape, ids)]);
  const files = ['--weights', weights, '--input', 'tiny.in', '--output', 'tiny.exact'];
  await run(dir, 'run', path, ...files, '--numerics=f64');
  const logits = read(join(dir, 'tiny.exact'), 'logits');
  return { title: 'tiny', path, weights, ids: { shape, data: ids }, logits };
}

const rows = ({ shape: [batch, length, width], data }: Tensor, from: number, to: number): Tensor => ({
  shape: [batch, to - from, width],
  data: Array.from({ length: batch }, (_, b) => [
    ...data.slice((b * length + from) * width, (b * length + to) * width),
  ]).flat(),
});

/** Runs the first half of the text as a prompt and the rest step by step; logits of every position, in order. */
export async function emulated(
  dir: string,
  model: Whole,
  precision: Precision,
  ...more: string[]
): Promise<Tensor> {
  const [batch, length] = model.ids.shape;
  const prompt = Math.ceil(length / 2);
  const ids = rows({ shape: [batch, length, 1], data: model.ids.data }, 0, prompt);
  const forced = rows({ shape: [batch, length, 1], data: model.ids.data }, prompt, length);
  const name = `${model.title}.${precision}`;
  writeSafetensors(join(dir, `${name}.in`), [
    i64('input_ids', [batch, prompt], [...ids.data]),
    i64('forced_ids', [batch, length - prompt], [...forced.data]),
  ]);
  const files = ['--weights', model.weights, '--input', `${name}.in`, '--output', `${name}.out`];
  const how = ['--entry', 'decode', '--steps', `${length - prompt}`, '--precision', precision];
  const device = ['--device', 'emulator', '--check', 'all'];
  await run(dir, 'run', model.path, ...files, ...how, ...device, ...more);
  const out = join(dir, `${name}.out`);
  const [before, after] = [read(out, 'prefill_logits'), read(out, 'step_logits')];
  const vocabulary = before.shape[2];
  const joined = Array.from({ length: batch }, (_, b) => {
    const part = (t: Tensor, from: number): readonly number[] => {
      const own = t.shape[1] * vocabulary;
      return [...t.data.slice(b * own + from * vocabulary, (b + 1) * own)];
    };
    // Row 0 of the steps is the last of the prompt again.
    return [...part(before, 0), ...part(after, 1)];
  });
  return { shape: [batch, length, vocabulary], data: joined.flat() };
}

/** The tolerances of each precision: test/golden/README.md for f32, the road's for the others. */
export function expectLogits(got: Tensor, want: Tensor, precision: Precision): void {
  expect(got.shape).toEqual(want.shape);
  if (precision === 'f32') return expect(distance(got, want)).toBeLessThan(1e-4);
  if (precision === 'bf16') return expect(medianDistance(got, want)).toBeLessThanOrEqual(0.1);
  expect(cosine(got, want)).toBeGreaterThan(0.98);
  const l2 = relativeL2(got, want);
  expect([l2 > 0.05, l2 < 0.25], `relative L2 ${l2}`).toEqual([true, true]);
}

/** A rounding that flips an expert moves single tokens by more: the median over tokens of the largest difference. */
function medianDistance(got: Tensor, want: Tensor): number {
  const vocabulary = want.shape.at(-1)!;
  const worst = Array.from({ length: want.data.length / vocabulary }, (_, t) => {
    let most = 0;
    for (let i = t * vocabulary; i < (t + 1) * vocabulary; i++)
      most = Math.max(most, Math.abs(got.data[i] - want.data[i]));
    return most;
  }).sort((a, b) => a - b);
  return worst[Math.floor(worst.length / 2)];
}

function relativeL2(got: Tensor, want: Tensor): number {
  let [squares, whole] = [0, 0];
  want.data.forEach((w, i) => {
    squares += (got.data[i] - w) ** 2;
    whole += w ** 2;
  });
  return Math.sqrt(squares / whole);
}
