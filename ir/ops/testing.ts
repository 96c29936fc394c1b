// For tests of ops: types from their spelling, and one application of an op without a module or an interpreter.
import { dtypeInfo, roundInto, type DType } from '../formats/index.ts';
import type { Attributes, Module } from '../module.ts';
import type { ReferenceContext, RuntimeValue, TensorData } from '../interpret/values.ts';
import { dim, showType, tensor, type Dim, type ScaleLevel, type TensorType, type Type } from '../types.ts';
import { completeAttributes, OpProblem, type InferContext } from './define.ts';
import { opDefinition } from './index.ts';

function dimOf(text: string): Dim {
  const [first, size] = text.split('=').map((s) => s.trim());
  if (size !== undefined) return dim(first, Number(size));
  return /^\d+$/.test(first) ? dim(null, Number(first)) : dim(first);
}

/** A tensor, positions or routing type as IR text spells it. */
export function type(text: string): Type {
  const match = /^(\w+)((?:<[^>]*>)*)\[(.*)\]$/.exec(text);
  if (!match) throw new Error(`not a type: ${text}`);
  const dims = match[3].trim() === '' ? [] : match[3].split(',').map(dimOf);
  if (match[1] === 'positions') {
    const [tokens, keys, sequences, outputs] = dims;
    return { kind: 'positions', tokens, keys, sequences, outputs };
  }
  if (match[1] === 'routing') {
    const [tokens, experts, top, slots] = dims;
    return { kind: 'routing', tokens, experts, top, slots };
  }
  if (!(match[1] in dtypeInfo)) throw new Error(`not a type: ${text}`);
  const scales = [...match[2].matchAll(/<([^;]*);([^>]*)>/g)].map(([, tile, format]): ScaleLevel => ({
    tile: tile.split('x').map((t) => (t.trim() === '*' ? 0 : Number(t))),
    format: format.trim() as ScaleLevel['format'],
  }));
  return tensor(match[1] as DType, dims, scales);
}

export const tensorType = (text: string): TensorType => type(text) as TensorType;

const emptyModule: Module = {
  name: 'test',
  attributes: {},
  dims: [],
  states: [],
  functions: [],
  schedules: [],
};
const noCallees: InferContext = {
  module: emptyModule,
  callee: (name) => {
    throw new Error(`no function @${name}`);
  },
};

/** Result types, spelled. Throws OpProblem. */
export function infer(
  op: string,
  operands: readonly string[],
  attributes: Attributes = {},
  declared?: readonly string[],
): string[] {
  const definition = opDefinition(op);
  const complete = completeAttributes(definition, attributes);
  return definition
    .infer(operands.map(type), complete, declared?.map(type) ?? null, noCallees)
    .map((t) => showType(t));
}

/** The OpProblem that an application has, as `at: message (fix)`. Throws when there is none. */
export function problemOf(
  op: string,
  operands: readonly string[],
  attributes: Attributes = {},
  declared?: readonly string[],
): string {
  try {
    infer(op, operands, attributes, declared);
  } catch (error) {
    if (!(error instanceof OpProblem)) throw error;
    return `${error.at ?? '-'}: ${error.message}${error.fix ? ` (${error.fix})` : ''}`;
  }
  throw new Error(`${op} ${operands.join(', ')} has no problem`);
}

/** A plain value; its type has static dims unless `shape` is given. */
export function value(typeText: string, data: readonly number[], shape?: readonly number[]): TensorData {
  const t = tensorType(typeText);
  return {
    kind: 'tensor',
    dtype: t.dtype,
    shape: shape ?? t.dims.map((d) => d.size!),
    data: Float64Array.from(data),
    scales: [],
  };
}

export interface Application {
  readonly operands: readonly string[];
  readonly inputs: readonly RuntimeValue[];
  readonly attributes?: Attributes;
  readonly declared?: readonly string[];
  /** Sizes of run-time dims. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Default true: f32 inside, and results rounded as the interpreter does. */
  readonly rounding?: boolean;
}

/** Infers, computes the reference, checks its shapes and dtypes against the types, and rounds. */
export function evaluate(op: string, application: Application): readonly RuntimeValue[] {
  const { inputs, sizes = {}, rounding = true } = application;
  const definition = opDefinition(op);
  const attributes = completeAttributes(definition, application.attributes ?? {});
  const operands = application.operands.map(type);
  const results = definition.infer(operands, attributes, application.declared?.map(type) ?? null, noCallees);
  const size = (name: string): number => {
    if (!(name in sizes)) throw new Error(`the test gives no size for ${name}`);
    return sizes[name];
  };
  const shapeOf = (t: Type): number[] => (t as TensorType).dims.map((d) => d.size ?? size(d.name!));
  const context: ReferenceContext = { operands, results, size, shapeOf, alignOf: () => 1, rounding };
  const values = definition.reference!(inputs, attributes, context);
  if (values.length !== results.length) throw new Error(`${op} gives ${values.length} values`);
  return values.map((v, i) => {
    const t = results[i];
    if (v.kind !== 'tensor' || t.kind !== 'tensor') return v;
    const shape = shapeOf(t);
    if (
      v.dtype !== t.dtype ||
      v.shape.join() !== shape.join() ||
      v.data.length !== shape.reduce((n, s) => n * s, 1)
    )
      throw new Error(`${op} gives ${v.dtype}[${v.shape.join(', ')}] of ${v.data.length} for ${showType(t)}`);
    if (v.scales.length !== t.scales.length)
      throw new Error(`${op} gives ${v.scales.length} levels of scales`);
    if (!rounding) return v;
    const data = v.data.slice();
    roundInto(t.dtype, data);
    return { ...v, data };
  });
}

/** The elements of an application's first result. */
export const elementsOf = (op: string, application: Application): number[] => [
  ...(evaluate(op, application)[0] as TensorData).data,
];
