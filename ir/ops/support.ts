// What op definitions share: reading attributes, checking operand types in the author's terms, sizes and bytes for
// costs, and walking row-major arrays. Checks throw OpProblem; wrong run-time values are bugs and throw Error.
import { bytesFor, dtypeInfo, isFloat } from '../formats/index.ts';
import type { Attributes } from '../module.ts';
import type { PositionsData, RoutingData, RuntimeValue, StateData, TensorData } from '../interpret/values.ts';
import {
  dim,
  sameDim,
  sameType,
  showDim,
  showType,
  type Dim,
  type PositionsType,
  type RoutingType,
  type ScaleLevel,
  type StateType,
  type TensorType,
  type Type,
} from '../types.ts';
import { problem, type Cost, type DimSizes } from './define.ts';

// --- attributes: completeAttributes has checked their kinds already ---

export const integerOf = (a: Attributes, name: string): number => a[name] as number;
export const numberOf = (a: Attributes, name: string): number => a[name] as number;
export const flagOf = (a: Attributes, name: string): boolean => a[name] as boolean;
export const textOf = (a: Attributes, name: string): string => a[name] as string;
export const numbersOf = (a: Attributes, name: string): readonly number[] => a[name] as readonly number[];

// --- types ---

const kindName = {
  tensor: 'a tensor',
  positions: 'positions',
  routing: 'a routing',
  state: 'a state',
} as const;

function expectKind<K extends Type['kind']>(
  kind: K,
  type: Type,
  operand: string,
  op: string,
): Extract<Type, { kind: K }> {
  if (type.kind !== kind)
    problem(`${op} needs ${kindName[kind]} as ${operand}, but got ${showType(type)}`, operand);
  return type as Extract<Type, { kind: K }>;
}

/** The operand as a tensor type, scaled or plain. Throws OpProblem for positions, routings and states. */
export const expectTensor = (type: Type, operand: string, op: string): TensorType =>
  expectKind('tensor', type, operand, op);
export const expectPositions = (type: Type, operand: string, op: string): PositionsType =>
  expectKind('positions', type, operand, op);
export const expectRouting = (type: Type, operand: string, op: string): RoutingType =>
  expectKind('routing', type, operand, op);
export const expectState = (type: Type, operand: string, op: string): StateType =>
  expectKind('state', type, operand, op);

/** The operand as a tensor without scales: ops that compute need values, not codes. */
export function expectPlain(type: Type, operand: string, op: string): TensorType {
  const t = expectTensor(type, operand, op);
  if (t.scales.length > 0)
    problem(
      `${op} needs plain values, but ${operand} is scaled: ${showType(t)}`,
      operand,
      `dequantize ${operand} first, or quantize after ${op}`,
    );
  return t;
}

/** What an op computes with. f8ue8m0 is a number format for scales only. */
export type Numbers = 'float' | 'number' | 'int' | 'bool';
const numbersName = { float: 'floats', number: 'numbers', int: 'integers', bool: 'bools' } as const;

export function isOf(numbers: Numbers, type: TensorType): boolean {
  const { kind } = dtypeInfo[type.dtype];
  return numbers === 'number' ? kind === 'float' || kind === 'int' : kind === numbers;
}

/** A plain tensor of the given kind of elements. */
export function expectElements(numbers: Numbers, type: Type, operand: string, op: string): TensorType {
  const t = expectPlain(type, operand, op);
  if (!isOf(numbers, t))
    problem(
      `${op} works on ${numbersName[numbers]}, but ${operand} is ${showType(t)}`,
      operand,
      `cast ${operand} to ${numbers === 'bool' ? 'bool, or compare it with ne' : numbers === 'int' ? 'i32' : 'f32'}`,
    );
  return t;
}

/** Refuses unless both have one type. `a` and `b` are operand names. */
export function expectSame(a: TensorType, aName: string, b: TensorType, bName: string, op: string): void {
  if (sameType(a, b)) return;
  const fix =
    a.dims.length !== b.dims.length
      ? `broadcast the smaller one: ${op} does not stretch axes by itself`
      : a.dims.every((d, i) => sameDim(d, b.dims[i]))
        ? `cast ${bName} to ${a.dtype}`
        : null;
  problem(
    `${op} needs ${aName} and ${bName} of one type: ${aName} is ${showType(a)}, ${bName} is ${showType(b)}`,
    bName,
    fix,
  );
}

/** The one declared result type, for ops that cannot know their result. */
export function expectDeclared(declared: readonly Type[] | null, op: string): TensorType {
  if (declared?.length !== 1) problem(`${op} cannot know its result type`, null, 'write the result type');
  const t = declared[0];
  if (t.kind !== 'tensor') problem(`${op} gives a tensor, but ${showType(t)} is declared`);
  return t;
}

/** As expectDeclared, without scales. */
export function expectDeclaredPlain(declared: readonly Type[] | null, op: string): TensorType {
  const t = expectDeclared(declared, op);
  if (t.scales.length > 0)
    problem(`${op} gives plain values, but ${showType(t)} is declared`, null, `quantize the result of ${op}`);
  return t;
}

/**
 * The inferred types, but with the declared ones' names for static axes where the types are otherwise the same: what
 * the author called an axis is kept. A declared type that differs is left to the verifier, which shows both.
 */
export const named = (inferred: readonly Type[], declared: readonly Type[] | null): readonly Type[] =>
  inferred.map((t, i) => (declared?.[i] && sameType(declared[i], t) ? declared[i] : t));

/** An axis of `type` from an attribute. Axes count from 0; negative ones are the DSL's business. */
export function expectAxis(axis: number, type: TensorType, op: string, attribute = 'axis'): number {
  if (axis < 0 || axis >= type.dims.length)
    problem(
      `${op}: ${attribute} ${axis} is no axis of ${showType(type)}`,
      attribute,
      type.dims.length > 0 ? `use 0 to ${type.dims.length - 1}` : 'a scalar has no axes',
    );
  return axis;
}

/** The length of an axis that must be known when compiling. */
export function expectStatic(
  d: Dim,
  op: string,
  why: string,
  at: string | null,
  fix: string | null = null,
): number {
  if (d.size === null)
    problem(`${op}: the length of ${showDim(d)} is known only at run time, ${why}`, at, fix);
  return d.size;
}

/** Same dims with other dtype, plain. */
export const withDType = (type: TensorType, dtype: TensorType['dtype']): TensorType => ({
  ...type,
  dtype,
  scales: [],
});

/** `dims` with axis `axis` of another length; a length that does not change keeps its name. */
export const resized = (dims: readonly Dim[], axis: number, size: number): readonly Dim[] =>
  dims.map((d, i) => (i === axis && d.size !== size ? dim(null, size) : d));

/** True for the signed float formats. */
export const hasFloats = (type: TensorType): boolean => isFloat(type.dtype);

// --- sizes and costs ---

export const sizeOf = (d: Dim, sizes: DimSizes): number => d.size ?? sizes(d.name!);

/** Elements of a shape. */
export const product = (shape: readonly number[]): number => shape.reduce((n, s) => n * s, 1);

/** Elements of a tensor, run-time dims at their sizes. */
export const elements = (type: TensorType, sizes: DimSizes): number =>
  product(type.dims.map((d) => sizeOf(d, sizes)));

/** Tiles of a scale level along each axis of an array: ceil(shape / tile); tile 0 is the whole axis. */
export const tilesOf = (shape: readonly number[], level: ScaleLevel): number[] =>
  shape.map((n, i) => (level.tile[i] === 0 ? 1 : Math.ceil(n / level.tile[i])));

/**
 * Bytes that a value takes, codes and scales; positions and routings count their index arrays (docs/BUNDLE.md).
 * States count 0: an op that touches one states its own bytes, because it touches rows, not the whole.
 */
export function bytesOf(type: Type, sizes: DimSizes): number {
  switch (type.kind) {
    case 'tensor': {
      const shape = type.dims.map((d) => sizeOf(d, sizes));
      const scaleBytes = (level: ScaleLevel): number =>
        product(tilesOf(shape, level)) * (level.format === 'ue8m0' ? 1 : 4);
      return (
        bytesFor(type.dtype, product(shape)) + type.scales.reduce((n, level) => n + scaleBytes(level), 0)
      );
    }
    case 'positions':
      return 12 * sizeOf(type.tokens, sizes) + 4 * sizeOf(type.outputs, sizes);
    case 'routing': {
      // Index, weight and slot of every choice; token and choice of every slot; the groups' offsets.
      const choices = sizeOf(type.tokens, sizes) * sizeOf(type.top, sizes);
      return 12 * choices + 8 * sizeOf(type.slots, sizes) + 4 * (sizeOf(type.experts, sizes) + 1);
    }
    case 'state':
      return 0;
  }
}

/** Bytes of every operand and result once, with the given FLOPs. */
export const costOf = (
  flops: number,
  operands: readonly Type[],
  results: readonly Type[],
  sizes: DimSizes,
): Cost => ({
  flops,
  bytes: [...operands, ...results].reduce((n, t) => n + bytesOf(t, sizes), 0),
});

/** What is moved is read once and written once; the rest of the operand is not touched. */
export const moved = (
  _: readonly Type[],
  results: readonly Type[],
  __: Attributes,
  sizes: DimSizes,
): Cost => ({
  flops: 0,
  bytes: 2 * results.reduce((n, t) => n + bytesOf(t, sizes), 0),
});

// --- run-time values ---

/** A plain tensor value. */
export const tensorData = (
  dtype: TensorData['dtype'],
  shape: readonly number[],
  data: Float64Array,
  scales: TensorData['scales'] = [],
): TensorData => ({ kind: 'tensor', dtype, shape, data, scales });

function runtimeKind<K extends RuntimeValue['kind']>(
  kind: K,
  value: RuntimeValue | undefined,
): Extract<RuntimeValue, { kind: K }> {
  if (value?.kind !== kind) throw new Error(`expected ${kindName[kind]} at run time, got ${value?.kind}`);
  return value as Extract<RuntimeValue, { kind: K }>;
}

export const asTensor = (value: RuntimeValue | undefined): TensorData => runtimeKind('tensor', value);
export const asPositions = (value: RuntimeValue | undefined): PositionsData =>
  runtimeKind('positions', value);
export const asRouting = (value: RuntimeValue | undefined): RoutingData => runtimeKind('routing', value);
export const asState = (value: RuntimeValue | undefined): StateData => runtimeKind('state', value);

/** Elements to step over per axis, row-major. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

/** An array seen along one axis: element (o, i, n) of [outer, size, inner] lies at (o·size + i)·inner + n. */
export const along = (
  shape: readonly number[],
  axis: number,
): { outer: number; size: number; inner: number } => ({
  outer: product(shape.slice(0, axis)),
  size: shape[axis],
  inner: product(shape.slice(axis + 1)),
});

/**
 * Calls `visit` for every index of `shape` in row-major order with the offset that `strides` (one per axis, any sign,
 * 0 to repeat) gives it, and the row-major position.
 */
export function walk(
  shape: readonly number[],
  strides: readonly number[],
  visit: (offset: number, position: number) => void,
): void {
  const last = shape.length - 1;
  const total = product(shape);
  if (total === 0) return;
  if (last < 0) return visit(0, 0);
  const inner = shape[last];
  const step = strides[last];
  const index = new Array<number>(last).fill(0);
  let base = 0;
  for (let position = 0; position < total;) {
    for (let i = 0, offset = base; i < inner; i++, offset += step) visit(offset, position++);
    for (let axis = last - 1; axis >= 0; axis--) {
      base += strides[axis];
      if (++index[axis] < shape[axis]) break;
      base -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

/** Row-major copy of `data` with its axes in another order: result axis i is axis order[i]. */
export function permute(
  data: Float64Array,
  shape: readonly number[],
  order: readonly number[],
): Float64Array {
  if (order.every((axis, i) => axis === i)) return data;
  const strides = stridesOf(shape);
  const out = new Float64Array(data.length);
  walk(
    order.map((axis) => shape[axis]),
    order.map((axis) => strides[axis]),
    (offset, position) => {
      out[position] = data[offset];
    },
  );
  return out;
}

/** Rows over `axes`: contiguous runs of `length` elements, one run per index of the other axes in order. */
export function rowsOver(
  data: Float64Array,
  shape: readonly number[],
  axes: readonly number[],
): { data: Float64Array; rows: number; length: number } {
  const kept = shape.map((_, i) => i).filter((i) => !axes.includes(i));
  return {
    data: permute(data, shape, [...kept, ...axes]),
    rows: product(kept.map((i) => shape[i])),
    length: product(axes.map((i) => shape[i])),
  };
}

/**
 * Which keys each token may attend to: rows of the key axis in order of position. The one rule for `visible` and
 * `attention`. A key is seen when it belongs to the token's sequence, is not later than the token (`causal`), and is
 * less than `window` positions away (0: no window). Keys of the cache exist up to the sequence's last token.
 */
export function keysVisibleTo(
  at: PositionsData,
  { causal, window }: { readonly causal: boolean; readonly window: number },
): (token: number) => Int32Array {
  const near = (token: number, key: number): boolean =>
    (!causal || key <= token) && (window === 0 || Math.abs(token - key) < window);
  if (at.packed) {
    const members = new Map<number, number[]>();
    for (const [token, s] of at.sequence.entries()) {
      const list = members.get(s);
      if (list) list.push(token);
      else members.set(s, [token]);
    }
    for (const list of members.values()) list.sort((a, b) => at.position[a] - at.position[b]);
    return (token) =>
      Int32Array.from(
        members.get(at.sequence[token])!.filter((key) => near(at.position[token], at.position[key])),
      );
  }
  const ends = new Map<number, number>();
  for (const [token, s] of at.sequence.entries())
    ends.set(s, Math.max(ends.get(s) ?? 0, at.position[token] + 1));
  return (token) => {
    const s = at.sequence[token];
    const position = at.position[token];
    const first = window === 0 ? 0 : Math.max(0, position - window + 1);
    const end = Math.min(ends.get(s)!, causal ? position + 1 : window === 0 ? Infinity : position + window);
    const pages = at.pages[s];
    return Int32Array.from({ length: end - first }, (_, i) => {
      const key = first + i;
      return pages[Math.floor(key / at.page)] * at.page + (key % at.page);
    });
  };
}
