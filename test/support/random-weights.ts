// Weights for models that have no checkpoint: the same for a name everywhere.
import { encodeBytes, round } from '../../ir/formats/index.ts';
import type { WeightSource } from '../../ir/interpret/index.ts';
import type { Module } from '../../ir/module.ts';
import { checkpointNames } from '../../dsl/facts.ts';
import type { TensorToWrite } from '../../runtime/safetensors.ts';

/** Weights from a hash of name and index, of a size that keeps activations near 1. */
export const randomWeights: WeightSource = {
  get(name, shape) {
    let state = [...name].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 16777619), 2166136261);
    const count = shape.reduce((n, s) => n * s, 1);
    const fan = shape.at(-1) ?? 1;
    const isNorm = shape.length === 1 && name.endsWith('.weight');
    const data = Float64Array.from({ length: count }, () => {
      state = Math.imul(state ^ (state >>> 15), 2246822519);
      state = Math.imul(state ^ (state >>> 13), 3266489917);
      const uniform = ((state ^= state >>> 16) >>> 0) / 2 ** 32 - 0.5;
      return Math.fround(isNorm ? 1 + 0.2 * uniform : (3.4 * uniform) / Math.sqrt(fan));
    });
    return { kind: 'tensor', dtype: 'f32', shape, data, scales: [] };
  },
};

/**
 * What trained models have and plain noise has not: embeddings near 1 that carry the residual stream, layers that add
 * little to it each, and experts whose biases set them apart, so that FP8's noise seldom moves a token to another.
 */
const factor = (name: string): number =>
  /embed_tokens/.test(name) ? 16 : /(o|down)_proj/.test(name) ? 0.25 : /_bias$/.test(name) ? 4 : 1;

/** The checkpoint of a traced model: random weights that bf16 holds exactly, as published ones are. */
export const randomCheckpoint = (traced: Module): TensorToWrite[] =>
  [...checkpointNames(traced)].map(({ name, stored: shape }) => ({
    ...{ name, shape, dtype: 'F32' },
    data: () => {
      const { data } = randomWeights.get(name, shape)!;
      return encodeBytes(
        'f32',
        data.map((x) => round('bf16', x * factor(name))),
      );
    },
  }));
