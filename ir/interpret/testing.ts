// For tests: modules of one function, seeded random inputs, and the comparison of a composite op with its
// decomposition, both interpreted.
import { FunctionBuilder, inferContext } from '../builder.ts';
import type { Attributes, DimDeclaration, Module, StateDeclaration, Value } from '../module.ts';
import { completeAttributes } from '../ops/define.ts';
import { opDefinition } from '../ops/index.ts';
import { type as typeOf } from '../ops/testing.ts';
import type { TensorType, Type } from '../types.ts';
import { interpret, type InterpretOptions } from './interpreter.ts';
import type { RuntimeValue, TensorData } from './values.ts';
import type { WeightSource } from './weights.ts';

export const emptyModule: Module = {
  name: 'test',
  attributes: {},
  dims: [],
  states: [],
  functions: [],
  schedules: [],
};

/** A source for functions that have no weights. */
export const noWeights: WeightSource = { get: () => undefined };

/** Numbers in [-1, 1) from a seed (a 32-bit LCG: enough for test data). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

/** A plain f32 tensor of random numbers, exact in f32. */
export function randomTensor(
  shape: readonly number[],
  seed: number,
  dtype: TensorData['dtype'] = 'f32',
): TensorData {
  const next = randomNumbers(seed);
  const count = shape.reduce((n, s) => n * s, 1);
  const data = Float64Array.from({ length: count }, () => Math.round(next() * 128) / 64);
  return { kind: 'tensor', dtype, shape, data, scales: [] };
}

export interface Application {
  /** Types of the operands, spelled, or types. */
  readonly operands: readonly (string | Type)[];
  readonly attributes?: Attributes;
  /** Result types where the op cannot know them. */
  readonly declared?: readonly (string | Type)[];
  readonly dims?: readonly DimDeclaration[];
  readonly states?: readonly StateDeclaration[];
}

const asType = (t: string | Type): Type => (typeof t === 'string' ? typeOf(t) : t);

/** A module with `@direct`, which applies the op, and, where it has one, `@decomposed`. */
export function moduleOf(
  op: string,
  { operands, attributes = {}, declared, dims = [], states = [] }: Application,
): Module {
  const module = { ...emptyModule, dims, states };
  const build = (name: string, body: (b: FunctionBuilder, args: readonly Value[]) => readonly Value[]) => {
    const b = new FunctionBuilder(inferContext(module));
    const args = operands.map((t, i) => b.argument(`a${i}`, asType(t)));
    return b.finish({ kind: 'entry', name, results: body(b, args) });
  };
  const wanted = declared?.map(asType) ?? null;
  const direct = build('direct', (b, args) => b.op(op, args, attributes, wanted));
  const definition = opDefinition(op);
  const { decompose } = definition;
  if (!decompose) return { ...module, functions: [direct] };
  const complete = completeAttributes(definition, attributes);
  const types = direct.results.map((v) => v.type);
  const decomposed = build('decomposed', (b, args) => decompose(b, args, complete, types));
  return { ...module, functions: [direct, decomposed] };
}

/** Applies an op to values through the interpreter. */
export const apply = (
  op: string,
  application: Application,
  inputs: readonly RuntimeValue[],
  options: InterpretOptions = {},
): readonly RuntimeValue[] =>
  interpret(moduleOf(op, application), 'direct', inputs, noWeights, options).results;

/** Values that a result stands for: codes times scales along 1×n tiles. */
export function valuesOf(t: TensorData): Float64Array {
  if (t.scales.length === 0) return t.data;
  const [scales] = t.scales;
  const [length, tiles] = [t.shape.at(-1)!, scales.shape.at(-1)!];
  const tile = tiles === Math.ceil(length / 128) ? 128 : Math.ceil(length / tiles);
  return t.data.map(
    (v, i) => v * scales.data[Math.floor(i / length) * tiles + Math.floor((i % length) / tile)],
  );
}

/** The largest difference between the op and its decomposition over all results; types of both agree too. */
export function decompositionError(
  op: string,
  application: Application,
  inputs: readonly RuntimeValue[],
  options: InterpretOptions = { numerics: 'f64' },
): number {
  const module = moduleOf(op, application);
  const [a, b] = ['direct', 'decomposed'].map(
    (name) => interpret(module, name, inputs, noWeights, options).results,
  );
  return Math.max(...a.map((v, i) => largestDifference(v as TensorData, b[i] as TensorData)));
}

/** Largest |a − b|, infinite when their shapes or dtypes differ, or one is NaN alone. */
export function largestDifference(a: TensorData, b: TensorData): number {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return Infinity;
  const [x, y] = [valuesOf(a), valuesOf(b)];
  let largest = 0;
  for (let i = 0; i < x.length; i++) {
    const difference = Object.is(x[i], y[i]) ? 0 : Math.abs(x[i] - y[i]);
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Infinity : difference;
  }
  return largest;
}

export const asTensorType = (text: string): TensorType => typeOf(text) as TensorType;

/** A source over a table of tensors that records which names were read. */
export function tableSource(
  tensors: Readonly<Record<string, TensorData>>,
): WeightSource & { readonly read: string[] } {
  const read: string[] = [];
  return {
    read,
    get: (name) => {
      read.push(name);
      return tensors[name];
    },
  };
}
