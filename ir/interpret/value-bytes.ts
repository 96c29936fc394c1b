// Values of the interpreter as the arrays that devices hold (docs/BUNDLE.md, "Buffers of a value"), by component, and back.
import { bytesFor, decodeBytes, encodeBytes, type DType } from '../formats/index.ts';
import type { Module } from '../module.ts';
import type { ScaleLevel, TensorType } from '../types.ts';
import type { PositionsData, RoutingData, StateData, TensorData } from './values.ts';

export type Arrays = Map<string, Uint8Array>;

const ints = (values: ArrayLike<number>): Uint8Array => encodeBytes('i32', values);
const product = (shape: readonly number[]): number => shape.reduce((n, s) => n * s, 1);

export const scaleDType = (level: ScaleLevel): DType => (level.format === 'ue8m0' ? 'f8ue8m0' : 'f32');

/** Shape of a level's scales over a tensor of the given shape. */
export const scaleShape = (shape: readonly number[], level: ScaleLevel): number[] =>
  shape.map((n, axis) => (level.tile[axis] === 0 ? 1 : Math.ceil(n / level.tile[axis])));

/** `data`, then `scale0` and so on. */
export function tensorArrays(type: TensorType, t: TensorData): Arrays {
  const out: Arrays = new Map([['data', encodeBytes(type.dtype, t.data)]]);
  for (const [i, level] of type.scales.entries())
    out.set(`scale${i}`, encodeBytes(scaleDType(level), t.scales[i].data));
  return out;
}

/** Bytes of one component of a tensor of the given shape. */
export function tensorComponentBytes(type: TensorType, component: string, shape: readonly number[]): number {
  if (component === 'data') return bytesFor(type.dtype, product(shape));
  const level = type.scales[Number(component.slice('scale'.length))];
  return bytesFor(scaleDType(level), product(scaleShape(shape, level)));
}

/** A tensor from its arrays. */
export function readTensor(
  type: TensorType,
  shape: readonly number[],
  bytes: (component: string) => Uint8Array,
): TensorData {
  const scales = type.scales.map((level, i) => {
    const s = scaleShape(shape, level);
    return { shape: s, data: decodeBytes(scaleDType(level), bytes(`scale${i}`), product(s)) };
  });
  return {
    kind: 'tensor',
    dtype: type.dtype,
    shape,
    data: decodeBytes(type.dtype, bytes('data'), product(shape)),
    scales,
  };
}

/** Pages per sequence: columns of the page table. */
export const pageColumns = (p: PositionsData): number => Math.max(0, ...p.pages.map((row) => row.length));

export function positionsArrays(p: PositionsData): Arrays {
  const columns = pageColumns(p);
  // Where a sequence has no page, -1: whoever reads it by mistake leaves memory.
  const pages = p.pages.flatMap((row) => Array.from({ length: columns }, (_, i) => row[i] ?? -1));
  return new Map([
    ['position', ints(p.position)],
    ['sequence', ints(p.sequence)],
    ['first', ints(Int32Array.from(p.position, (position, t) => t - position))],
    ['outputs', ints(p.outputs)],
    ['pages', ints(pages)],
  ]);
}

/** Arrays of a routing over `slots` rows, groups aligned to `align`. */
export function routingArrays(r: RoutingData, slots: number, align: number): Arrays {
  const filled = (values: Int32Array): Int32Array => {
    const out = new Int32Array(slots).fill(-1);
    out.set(values);
    return out;
  };
  const blocks = new Int32Array(Math.ceil(slots / align)).fill(-1);
  for (let e = 0; e < r.experts; e++) blocks.fill(e, r.offsets[e] / align, r.offsets[e + 1] / align);
  return new Map([
    ['indices', ints(r.indices)],
    ['weights', encodeBytes('f32', r.weights)],
    ['offsets', ints(r.offsets)],
    ['tokenOf', ints(filled(r.tokenOf))],
    ['choiceOf', ints(filled(r.choiceOf))],
    ['slotOf', ints(r.slotOf)],
    ['expertOfBlock', ints(blocks)],
  ]);
}

const fieldsOf = (module: Module, state: string) => module.states.find((d) => d.name === state)!.fields;

/** A state's component as the field and the component of its tensor: `k.scale0` is `scale0` of `k`. */
const stateComponent = (field: string, component: string): string =>
  component === 'data' ? field : `${field}.${component}`;

/** Arrays of a state, its layers one behind the other. */
export function stateArrays(module: Module, name: string, s: StateData): Arrays {
  const out: Arrays = new Map();
  for (const f of fieldsOf(module, name)) {
    const layers = s.layers.map(({ fields }) => tensorArrays(f.type, fields[f.name]));
    for (const component of layers[0].keys())
      out.set(stateComponent(f.name, component), Buffer.concat(layers.map((l) => l.get(component)!)));
  }
  return out;
}

/** The state that `like` has the shape of, from its arrays. */
export function readState(
  module: Module,
  name: string,
  like: StateData,
  bytes: (component: string) => Uint8Array,
): StateData {
  const layers = like.layers.map(({ fields }, layer) => ({
    fields: Object.fromEntries(
      fieldsOf(module, name).map((f): [string, TensorData] => {
        const { shape } = fields[f.name];
        const part = (component: string): Uint8Array => {
          const n = tensorComponentBytes(f.type, component, shape);
          return bytes(stateComponent(f.name, component)).subarray(layer * n, (layer + 1) * n);
        };
        return [f.name, readTensor(f.type, shape, part)];
      }),
    ),
  }));
  return { kind: 'state', layers };
}

const readInts = (bytes: Uint8Array, count: number): Int32Array =>
  Int32Array.from(decodeBytes('i32', bytes, count));

/** Sizes that the arrays of a value do not tell. */
export interface PositionsSizes {
  readonly tokens: number;
  readonly sequences: number;
  readonly outputs: number;
  /** Columns of the page table. */
  readonly columns: number;
  /** Rows of a page. */
  readonly page: number;
  /** The keys are the tokens themselves. */
  readonly packed: boolean;
}

/** Positions from their arrays. */
export function readPositions(
  { tokens, sequences, outputs, columns, page, packed }: PositionsSizes,
  bytes: (component: string) => Uint8Array,
): PositionsData {
  const table = readInts(bytes('pages'), sequences * columns);
  const pages = Array.from({ length: sequences }, (_, s) => {
    const row = table.subarray(s * columns, (s + 1) * columns);
    const end = row.indexOf(-1);
    return row.slice(0, end < 0 ? columns : end);
  });
  return {
    kind: 'positions',
    position: readInts(bytes('position'), tokens),
    sequence: readInts(bytes('sequence'), tokens),
    outputs: readInts(bytes('outputs'), outputs),
    pages,
    page,
    packed,
  };
}

/** A routing from its arrays, which have room for `slots` rows: what lies beyond those in use is left out. */
export function readRouting(
  { tokens, experts, top, slots }: Record<'tokens' | 'experts' | 'top' | 'slots', number>,
  bytes: (component: string) => Uint8Array,
): RoutingData {
  const offsets = readInts(bytes('offsets'), experts + 1);
  // A kernel that goes wrong may write anything here.
  const used = Math.min(Math.max(offsets[experts], 0), slots);
  return {
    kind: 'routing',
    tokens,
    experts,
    top,
    indices: readInts(bytes('indices'), tokens * top),
    weights: decodeBytes('f32', bytes('weights'), tokens * top),
    offsets,
    tokenOf: readInts(bytes('tokenOf'), used),
    choiceOf: readInts(bytes('choiceOf'), used),
    slotOf: readInts(bytes('slotOf'), tokens * top),
  };
}
