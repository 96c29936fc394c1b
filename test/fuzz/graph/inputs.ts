// Values for a random module's arguments and weights. They follow from the module's own attributes (seed, sizes) and
// from names and types, so that a module's text replays its run, and shrinking leaves what stays as it was.
import { quantizeTiles, roundInto } from '../../../ir/formats/index.ts';
import { newState, packedPositions, stepPositions } from '../../../ir/interpret/index.ts';
import type { WeightSource } from '../../../ir/interpret/index.ts';
import type { PositionsData, RuntimeValue, TensorData } from '../../../ir/interpret/values.ts';
import type { Function, Module } from '../../../ir/module.ts';
import { tileOf } from '../../../ir/ops/scaling.ts';
import { product } from '../../../ir/ops/support.ts';
import { sameDim, type TensorType } from '../../../ir/types.ts';
import { Choices } from '../random.ts';

const hash = (text: string): number =>
  [...text].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 16777619) >>> 0, 2166136261);

/** Numbers around zero, some of them equal, a few of them zero, rounded to the dtype. */
function numbers(type: TensorType, shape: readonly number[], seed: number): Float64Array {
  const c = new Choices(seed);
  const { dtype } = type;
  const one = (): number => {
    if (dtype === 'bool') return c.below(2);
    if (dtype === 'i32' || dtype === 'i64') return c.below(20) - 4;
    if (c.chance(0.1)) return c.pick([0, 1, -1, 0.5]);
    return c.chance(0.02) ? 64 * (c.next() - 0.5) : 4 * (c.next() - 0.5);
  };
  return roundInto(dtype, Float64Array.from({ length: product(shape) }, one));
}

/** Values of a type: plain, or quantised ones. */
export function tensorValue(type: TensorType, shape: readonly number[], seed: number): TensorData {
  const { dtype } = type;
  const [level] = type.scales;
  if (!level) return { kind: 'tensor', dtype, shape, data: numbers(type, shape, seed), scales: [] };
  const values = numbers({ ...type, dtype: 'f32' }, shape, seed);
  const tile = tileOf(level, shape);
  const { codes, scales, scaleShape } = quantizeTiles({
    values,
    shape,
    tile,
    format: dtype,
    scale: level.format,
    amaxFloor: 1e-4,
  });
  return { kind: 'tensor', dtype, shape, data: codes, scales: [{ shape: scaleShape, data: scales }] };
}

export interface RunInputs {
  readonly values: readonly RuntimeValue[];
  /** Of run-time dims that no input tells. */
  readonly sizes: Readonly<Record<string, number>>;
}

/** Tokens in sequences of uneven lengths. */
function lengthsOf(tokens: number, seed: number): number[] {
  const c = new Choices(seed);
  const first = c.below(tokens + 1);
  return [first, tokens - first, 0].filter((n, i) => n > 0 || i === 2);
}

function positionsOf(
  tokens: number,
  page: number,
  seed: number,
  packed: boolean,
): { at: PositionsData; rows: number } {
  const lengths = lengthsOf(tokens, seed);
  const c = new Choices(seed + 1);
  const cached = lengths.map(() => (packed ? 0 : c.below(40)));
  // Pages in no order, and one that nobody uses.
  const need = lengths.map((n, s) => Math.ceil((n + cached[s]) / page));
  const free = Array.from({ length: need.reduce((a, b) => a + b, 0) + 1 }, (_, i) => i);
  const rows = free.length * page;
  const pages = need.map((n) =>
    Int32Array.from({ length: n }, () => free.splice(c.below(free.length), 1)[0]),
  );
  const at = packed
    ? packedPositions(lengths, 'all', page, pages)
    : stepPositions(cached, lengths, 'all', page, pages);
  return { at, rows };
}

/** Fresh values for the arguments of an entry (a run changes states, so each run takes its own). */
export function inputsOf(module: Module, f: Function): RunInputs {
  const seed = Number(module.attributes.seed ?? 1);
  const tokens = Number(module.attributes.tokens ?? 5);
  const page = module.states.find((s) => s.policy === 'paged')?.page ?? 16;
  const type = f.arguments.map((a) => a.value.type).find((t) => t.kind === 'positions');
  const packed = !type || type.kind !== 'positions' || sameDim(type.tokens, type.keys);
  const { at, rows } = positionsOf(tokens, page, seed, packed);
  const sizes: Record<string, number> = {
    ...{ tokens, rows: Number(module.attributes.rows ?? 3), cached: rows },
    ...{ sequences: at.pages.length, outputs: at.outputs.length },
  };
  const values = f.arguments.map(({ value: { name, type } }): RuntimeValue => {
    if (type.kind === 'positions') return at;
    if (type.kind === 'routing') throw new Error('an entry takes no routing');
    if (type.kind === 'state') {
      const state = newState(
        module.states.find((s) => s.name === type.state)!,
        type.count,
        rows,
      );
      for (const [i, layer] of state.layers.entries())
        for (const [field, v] of Object.entries(layer.fields))
          v.data.set(
            numbers(
              { kind: 'tensor', dtype: v.dtype, dims: [], scales: [] },
              v.shape,
              hash(`${name} ${i} ${field} ${seed}`),
            ),
          );
      return state;
    }
    const value = tensorValue(
      type,
      type.dims.map((d) => d.size ?? sizes[d.name!]),
      hash(`${name} ${seed}`),
    );
    // Scores of experts, and their biases: multiples of 1/64, with many ties.
    if (name.includes('scores'))
      value.data.forEach((x, i) => (value.data[i] = Math.ceil(Math.abs(x) * 16) / 64));
    return value;
  });
  return { values, sizes };
}

/** Weights by a hash of their names: of a size that keeps sums near 1. */
export const weightsOf = (module: Module): WeightSource => ({
  get: (name, shape) => {
    const c = new Choices(hash(`${name} ${Number(module.attributes.seed ?? 1)}`));
    const fan = Math.sqrt(Math.min(256, shape.at(-1) ?? 1));
    const data = Float64Array.from({ length: product(shape) }, () =>
      Math.fround((4 * (c.next() - 0.5)) / fan),
    );
    return { kind: 'tensor', dtype: 'f32', shape, data, scales: [] };
  },
});
