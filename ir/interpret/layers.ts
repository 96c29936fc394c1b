// What repeat does with values: one layer's element of an operand, and results of all layers stacked. Layers may give
// rows of different number (each routing has its own slots): stacking pads them with zeros and remembers how many
// there were, so that a later repeat, the backward one, gets each layer's rows as they were.
import type { Dim, TensorType } from '../types.ts';
import { tensorData, walk, stridesOf } from '../ops/support.ts';
import type { RuntimeValue, StateData, TensorData } from './values.ts';

interface Part {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Shape of each layer's codes and scales where stacking padded them. */
const unpadded = new WeakMap<TensorData, readonly (readonly (readonly number[])[])[]>();

/** Element `index` of axis 0, or of a counted state. Shares the data. */
export function elementAt(value: RuntimeValue, index: number): RuntimeValue {
  if (value.kind === 'state') return { kind: 'state', layers: [value.layers[index]] } satisfies StateData;
  if (value.kind !== 'tensor') throw new Error(`${value.kind} cannot be indexed by layer`);
  const shapes = unpadded.get(value)?.[index];
  const [codes, ...scales] = [value, ...value.scales].map((part, n) => cut(part, index, shapes?.[n]));
  return tensorData(value.dtype, codes.shape, codes.data, scales);
}

function cut({ shape, data }: Part, index: number, own: readonly number[] | undefined): Part {
  const full = shape.slice(1);
  const length = full.reduce((n, s) => n * s, 1);
  const element = data.subarray(index * length, (index + 1) * length);
  if (!own || own.every((n, i) => n === full[i])) return { shape: full, data: element };
  const out = new Float64Array(own.reduce((n, s) => n * s, 1));
  walk(own, stridesOf(full), (offset, position) => {
    out[position] = element[offset];
  });
  return { shape: own, data: out };
}

/** Stacks the layers' values over a new axis 0; `sizeOf` is asked only when there are no layers. */
export function stacked(
  type: TensorType,
  layers: readonly TensorData[],
  sizeOf: (d: Dim) => number,
): TensorData {
  if (layers.length === 0)
    return tensorData(type.dtype, type.dims.map(sizeOf), new Float64Array(0), emptyScales(type, sizeOf));
  const parts = layers.map((v): readonly Part[] => [v, ...v.scales]);
  const [codes, ...scales] = parts[0].map((_, n) => stackParts(parts.map((p) => p[n])));
  const value = tensorData(type.dtype, codes.shape, codes.data, scales);
  const ragged = layers.some((v) => v.shape.some((n, i) => n !== codes.shape[i + 1]));
  if (ragged)
    unpadded.set(
      value,
      parts.map((p) => p.map(({ shape }) => shape)),
    );
  return value;
}

const emptyScales = (type: TensorType, sizeOf: (d: Dim) => number): Part[] =>
  type.scales.map(({ tile }) => ({
    shape: type.dims.map((d, i) => (tile[i] === 0 ? 1 : Math.ceil(sizeOf(d) / tile[i]))),
    data: new Float64Array(0),
  }));

function stackParts(parts: readonly Part[]): Part {
  const shape = parts[0].shape.map((_, i) => Math.max(...parts.map((p) => p.shape[i])));
  const length = shape.reduce((n, s) => n * s, 1);
  const strides = stridesOf(shape);
  const data = new Float64Array(parts.length * length);
  for (const [layer, part] of parts.entries()) {
    if (part.data.length === length) data.set(part.data, layer * length);
    // Walking the part's own shape with the strides of the padded one: offset is where the element goes.
    else
      walk(part.shape, strides, (offset, position) => {
        data[layer * length + offset] = part.data[position];
      });
  }
  return { shape: [parts.length, ...shape], data };
}

/** `value` with element `index` of axis 0 replaced: for tensors that each layer updates. */
export function withElement(value: RuntimeValue, index: number, element: RuntimeValue): RuntimeValue {
  if (value.kind === 'state' && element.kind === 'state')
    return { kind: 'state', layers: value.layers.with(index, element.layers[0]) };
  if (value.kind !== 'tensor' || element.kind !== 'tensor')
    throw new Error(`${value.kind} cannot be updated by layer`);
  const replaced = (to: Part, from: Part): Part => {
    const data = to.data.slice();
    data.set(from.data, index * from.data.length);
    return { shape: to.shape, data };
  };
  const [codes, ...scales] = [value, ...value.scales].map((to, n) =>
    replaced(to, [element, ...element.scales][n]),
  );
  return tensorData(value.dtype, codes.shape, codes.data, scales);
}
