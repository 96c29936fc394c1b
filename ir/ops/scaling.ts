// Quantisation: values become codes of a narrow float with one scale per tile, and back. The format itself (scale of
// a tile, rounding, saturation) is ir/formats/scales.ts; here it becomes ops, and the two helpers that other
// references share.
import { dequantizeTiles, quantizeTiles, roundInto, scaleShapeOf } from '../formats/index.ts';
import type { TensorData } from '../interpret/values.ts';
import { sameDims, showType, type ScaleLevel, type TensorType, type Type } from '../types.ts';
import { defineOp, problem } from './define.ts';
import {
  asTensor,
  costOf,
  elements,
  expectDeclared,
  expectDeclaredPlain,
  expectElements,
  expectTensor,
  isOf,
  numberOf,
  tensorData,
} from './support.ts';

/** Amax that activations are believed to have at least (DeepSeek-V3's inference kernels); gradients want 0. */
export const defaultFloor = 1e-4;

/** Lengths of a level's tiles for an array at run time: 0 becomes the whole axis, which is at least 1. */
export const tileOf = (level: ScaleLevel, shape: readonly number[]): number[] =>
  shape.map((n, axis) => level.tile[axis] || Math.max(n, 1));

/** The scale of every element of an array with one scale per tile. */
export function spreadScales(
  scales: Float64Array,
  shape: readonly number[],
  tile: readonly number[],
): Float64Array {
  const perAxis = scaleShapeOf(shape, tile);
  let spread = scales;
  // One axis at a time, innermost last: each step repeats blocks of what is already spread.
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const inner = shape.slice(axis + 1).reduce((n, s) => n * s, 1);
    const outer = perAxis.slice(0, axis).reduce((n, s) => n * s, 1);
    const out = new Float64Array(outer * shape[axis] * inner);
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < shape[axis]; i++) {
        const from = (o * perAxis[axis] + Math.floor(i / tile[axis])) * inner;
        out.set(spread.subarray(from, from + inner), (o * shape[axis] + i) * inner);
      }
    spread = out;
  }
  return spread;
}

/**
 * Values to codes and scales, as `type` says (exactly one level). With `rounding` off the codes are the exact
 * quotients, so that dequantising gives the values back and only the format's rounding is missing.
 */
export function quantizeTensor(
  x: TensorData,
  type: TensorType,
  floor: number,
  rounding: boolean,
): TensorData {
  const level = type.scales[0];
  const tile = tileOf(level, x.shape);
  const { codes, scales, scaleShape } = quantizeTiles({
    values: x.data,
    shape: x.shape,
    tile,
    format: type.dtype,
    scale: level.format,
    amaxFloor: floor,
  });
  const spread = rounding ? null : spreadScales(scales, x.shape, tile);
  const data = spread ? x.data.map((v, i) => v / spread[i]) : codes;
  return tensorData(type.dtype, x.shape, data, [{ shape: scaleShape, data: scales }]);
}

/** Code times the scale of each level; every product is rounded to f32, as a kernel's registers are, if `rounding`. */
export function dequantizeTensor(
  x: TensorData,
  levels: readonly ScaleLevel[],
  rounding: boolean,
): Float64Array {
  let data = x.data;
  for (const [n, level] of levels.entries()) {
    const tile = tileOf(level, x.shape);
    const scales = x.scales[n].data;
    if (rounding) data = dequantizeTiles({ codes: data, scales, shape: x.shape, tile });
    else {
      const spread = spreadScales(scales, x.shape, tile);
      data = data.map((v, i) => v * spread[i]);
    }
  }
  return data;
}

/** Checks a declared type that holds quantised `x`. Throws OpProblem. */
export function expectScaled(type: Type, x: TensorType, op: string): TensorType {
  const t = expectTensor(type, 'result', op);
  if (t.scales.length !== 1)
    problem(
      `${op} gives codes with one level of scales, but ${showType(t)} is declared`,
      null,
      'write the tile and the scale format, like f8e4m3<1x128; f32>[…]',
    );
  if (!isOf('float', t)) problem(`${op}: codes are floats, but ${t.dtype} is declared`, null, 'use f8e4m3');
  if (!sameDims(t.dims, x.dims))
    problem(`${op} keeps the shape: x is ${showType(x)}, but ${showType(t)} is declared`, null);
  expectTile(t, op);
  return t;
}

function expectTile(t: TensorType, op: string): void {
  for (const { tile } of t.scales) {
    if (tile.length !== t.dims.length)
      problem(`${op}: ${showType(t)} has ${t.dims.length} axes, but the tile has ${tile.length} lengths`);
    if (!tile.every((n) => Number.isSafeInteger(n) && n >= 0))
      problem(`${op}: tile lengths of ${showType(t)} must be whole numbers, 0 for a whole axis`);
  }
}

export const floorAttribute = {
  kind: 'number',
  default: defaultFloor,
  doc: 'smallest largest-magnitude of a tile that is believed; 0 for gradients',
} as const;

/** Refuses a floor that is negative or not a number. */
export function expectFloor(floor: number, op: string): void {
  if (!(floor >= 0 && floor < Infinity))
    problem(`${op}: floor is ${floor}`, 'floor', 'use a number of at least 0');
}

export const quantize = defineOp({
  name: 'quantize',
  class: 'scaling',
  doc: 'codes of a narrow float, one scale per tile: scale = max(amax, floor) / largest, code = round(x / scale)',
  operands: ['x'],
  attributes: { floor: floorAttribute },
  infer: ([x], attributes, declared) => {
    const t = expectElements('float', x, 'x', 'quantize');
    expectFloor(numberOf(attributes, 'floor'), 'quantize');
    return [expectScaled(expectDeclared(declared, 'quantize'), t, 'quantize')];
  },
  reference: ([x], attributes, { results, rounding }) => [
    quantizeTensor(asTensor(x), results[0] as TensorType, numberOf(attributes, 'floor'), rounding),
  ],
  // Two passes over the values: a comparison for the amax, a product for the code.
  cost: ([x], results, _, sizes) => costOf(2 * elements(x as TensorType, sizes), [x], results, sizes),
});

export const dequantize = defineOp({
  name: 'dequantize',
  class: 'scaling',
  doc: 'code times the scale of its tile, as a plain float',
  operands: ['x'],
  attributes: {},
  infer: ([x], _, declared) => {
    const t = expectTensor(x, 'x', 'dequantize');
    if (t.scales.length === 0)
      problem(
        `dequantize needs a scaled tensor, but x is ${showType(t)}`,
        'x',
        'use cast to change a plain dtype',
      );
    expectTile(t, 'dequantize');
    const result = expectDeclaredPlain(declared, 'dequantize');
    if (!isOf('float', result)) problem(`dequantize gives a float, but ${showType(result)} is declared`);
    if (!sameDims(t.dims, result.dims))
      problem(`dequantize keeps the shape: x is ${showType(t)}, but ${showType(result)} is declared`);
    return [result];
  },
  reference: ([x], _, { operands, results, rounding }) => {
    const t = asTensor(x);
    const { scales } = operands[0] as TensorType;
    return [tensorData((results[0] as TensorType).dtype, t.shape, dequantizeTensor(t, scales, rounding))];
  },
  cost: ([x], results, _, sizes) =>
    costOf((x as TensorType).scales.length * elements(x as TensorType, sizes), [x], results, sizes),
});

/** `data` rounded to `dtype` where it stands, unless rounding is off; for references that round inside. */
export function roundedIf(rounding: boolean, dtype: TensorData['dtype'], data: Float64Array): Float64Array {
  if (rounding) roundInto(dtype, data);
  return data;
}

export const scalingOps = { quantize, dequantize };
