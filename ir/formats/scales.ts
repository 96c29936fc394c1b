// Tiled scaling: one scale per tile of an N-d array, elements in a narrow format. The format of FP8 activations
// (tile [1, 128]), weights ([128, 128]) and their transposed forms.
// Formulas: DeepSeek-V3's inference kernels, s = max(amax, floor) / max in f32, q = cast(x / s). The floor (1e-4 there)
// is an argument: it suits activations and destroys small gradients. The cast saturates.
import { roundInto } from './bytes.ts';
import { doubleBits, doubleWords, rounder } from './codec.ts';
import { isFloat, maxFinite, type DType } from './dtypes.ts';

/** How a scale is stored: any f32, a power of two in f32, or a power of two in eight bits (2^-127 to 2^127). */
export type ScaleFormat = 'f32' | 'pow2' | 'ue8m0';

export interface ScaleRule {
  /** Format of the scaled elements: a float. */
  readonly format: DType;
  readonly scale: ScaleFormat;
  /** Smallest amax that is believed, in units of the values. 0: only an all-zero tile is special, its scale is 1. */
  readonly amaxFloor: number;
}

export interface QuantizeTiles extends ScaleRule {
  /** Row-major. Rounded to f32 first, as a kernel's registers are. Not changed. */
  readonly values: Float64Array;
  readonly shape: readonly number[];
  /** Elements per tile along each axis, at least 1. Tiles at an edge may be ragged: they count as zero-padded. */
  readonly tile: readonly number[];
  /**
   * true (default): x / s in IEEE f32. false: x · (1 / s), both f32, as kernels that trade exactness for speed do;
   * at most one code off.
   */
  readonly exactDivide?: boolean;
}

export interface QuantizedTiles {
  /** The elements' values in `format`, before scaling: x is about codes · scale. Same shape as the values. */
  readonly codes: Float64Array;
  /** Factors to multiply by when dequantising (a checkpoint's weight_scale_inv). Row-major over scaleShape. */
  readonly scales: Float64Array;
  readonly scaleShape: number[];
}

/** Tiles along each axis: ceil(shape / tile). Throws a RangeError unless both are the same rank and tiles are >= 1. */
export function scaleShapeOf(shape: readonly number[], tile: readonly number[]): number[] {
  if (shape.length !== tile.length)
    throw new RangeError(`tile [${tile.join(', ')}] and shape [${shape.join(', ')}] differ in rank`);
  for (const n of shape)
    if (!Number.isSafeInteger(n) || n < 0) throw new RangeError(`not a shape: [${shape.join(', ')}]`);
  for (const n of tile)
    if (!Number.isSafeInteger(n) || n < 1) throw new RangeError(`not a tile: [${tile.join(', ')}]`);
  return shape.map((n, axis) => Math.ceil(n / tile[axis]!));
}

/**
 * The smallest power of two >= x, for x from 2^-1022 to 2^1023 (else a RangeError). From the exponent bits: a
 * logarithm in floating point is off just above powers of two.
 */
export function ceilPowerOfTwo(x: number): number {
  if (!(x >= 2 ** -1022 && x <= 2 ** 1023)) throw new RangeError(`no power of two for ${x}`);
  doubleBits[0] = x;
  const high = doubleWords[1]!;
  const inexact = (high & 0xfffff) !== 0 || doubleWords[0] !== 0;
  return 2 ** ((high >>> 20) - 1023 + (inexact ? 1 : 0));
}

/**
 * The scale of a tile whose largest magnitude is `amax`: f32(max(amax, floor)) / max(format) in f32, rounded up to a
 * power of two for `pow2` and `ue8m0`. Never zero: an all-zero tile without a floor gets 1, and an amax so small that
 * the quotient underflows gets the smallest f32 (2^-149; ue8m0: 2^-127). Both arguments must be >= 0 and the format a
 * float, else a RangeError. An infinite amax gives infinity (ue8m0:
 * 2^127), so an infinite element shows as NaN after f32 scaling and saturates under ue8m0.
 */
export function tileScale(amax: number, { format, scale, amaxFloor }: ScaleRule): number {
  if (!isFloat(format)) throw new RangeError(`elements cannot be scaled into ${format}: it is no float`);
  if (!(amax >= 0 && amaxFloor >= 0))
    throw new RangeError(`not magnitudes: amax ${amax}, floor ${amaxFloor}`);
  const believed = Math.fround(Math.max(amax, amaxFloor));
  if (believed === 0) return 1;
  // One f64 division then rounding to f32 equals an f32 division: 53 >= 2·24 + 2 bits.
  const s = Math.max(Math.fround(believed / maxFinite(format)), 2 ** -149);
  if (scale === 'f32') return s;
  if (scale === 'ue8m0') return rounder('f8ue8m0', { direction: 'up' })(s);
  return s === Infinity ? s : ceilPowerOfTwo(s);
}

/**
 * Splits `values` into tiles and casts each with its own scale. NaN elements stay NaN and do not touch their tile's
 * scale. Throws a RangeError if shape, tile and values do not fit, or the format is no float.
 */
export function quantizeTiles(args: QuantizeTiles): QuantizedTiles {
  const { values, shape, tile, format, exactDivide = true } = args;
  const scaleShape = scaleShapeOf(shape, tile);
  const runs = tileRuns(shape, tile, scaleShape, values.length);
  const scales = new Float64Array(product(scaleShape));
  // Scales hold each tile's amax until all rows are seen.
  forEachRun(runs, (scaleIndex, begin, end) => {
    let amax = scales[scaleIndex]!;
    for (let i = begin; i < end; i++) {
      const magnitude = Math.abs(Math.fround(values[i]!));
      if (magnitude > amax) amax = magnitude;
    }
    scales[scaleIndex] = amax;
  });
  for (let i = 0; i < scales.length; i++) scales[i] = tileScale(scales[i]!, args);
  const codes = new Float64Array(values.length);
  forEachRun(runs, (scaleIndex, begin, end) => {
    const s = scales[scaleIndex]!;
    if (exactDivide) {
      for (let i = begin; i < end; i++) codes[i] = Math.fround(Math.fround(values[i]!) / s);
    } else {
      const inverse = Math.fround(1 / s);
      for (let i = begin; i < end; i++) codes[i] = Math.fround(Math.fround(values[i]!) * inverse);
    }
  });
  roundInto(format, codes, { overflow: 'saturating' });
  return { codes, scales, scaleShape };
}

export interface DequantizeTiles {
  readonly codes: Float64Array;
  /** Row-major over ceil(shape / tile). */
  readonly scales: Float64Array;
  readonly shape: readonly number[];
  readonly tile: readonly number[];
}

/** f32(code · scale), element by element. Throws a RangeError if the sizes do not fit. */
export function dequantizeTiles({ codes, scales, shape, tile }: DequantizeTiles): Float64Array {
  const scaleShape = scaleShapeOf(shape, tile);
  if (scales.length !== product(scaleShape))
    throw new RangeError(`${scales.length} scales do not fill [${scaleShape.join(', ')}]`);
  const out = new Float64Array(codes.length);
  forEachRun(tileRuns(shape, tile, scaleShape, codes.length), (scaleIndex, begin, end) => {
    const s = scales[scaleIndex]!;
    for (let i = begin; i < end; i++) out[i] = Math.fround(codes[i]! * s);
  });
  return out;
}

interface TileRuns {
  readonly rows: number;
  readonly rowLength: number;
  readonly runLength: number;
  readonly runsPerRow: number;
  /** Outer axes, innermost first: how to get a row's first scale from its index. */
  readonly outer: readonly { readonly size: number; readonly tile: number; readonly stride: number }[];
}

/** The array as rows along its last axis, each cut into runs that share a scale. A scalar is one row of one. */
function tileRuns(
  shape: readonly number[],
  tile: readonly number[],
  scaleShape: readonly number[],
  count: number,
): TileRuns {
  if (product(shape) !== count)
    throw new RangeError(`${count} values do not fill shape [${shape.join(', ')}]`);
  const last = shape.length - 1;
  const outer = [];
  let stride = scaleShape[last] ?? 1;
  for (let axis = last - 1; axis >= 0; axis--) {
    outer.push({ size: shape[axis]!, tile: tile[axis]!, stride });
    stride *= scaleShape[axis]!;
  }
  return {
    rows: product(shape.slice(0, -1)),
    rowLength: shape[last] ?? 1,
    runLength: tile[last] ?? 1,
    runsPerRow: scaleShape[last] ?? 1,
    outer,
  };
}

/** Calls `visit` with each run's scale index and element range: a call per tile row, not per element. */
function forEachRun(
  { rows, rowLength, runLength, runsPerRow, outer }: TileRuns,
  visit: (scaleIndex: number, begin: number, end: number) => void,
): void {
  for (let row = 0; row < rows; row++) {
    let first = 0;
    let rest = row;
    for (const { size, tile, stride } of outer) {
      first += Math.floor((rest % size) / tile) * stride;
      rest = Math.floor(rest / size);
    }
    const begin = row * rowLength;
    for (let run = 0; run < runsPerRow; run++) {
      const at = run * runLength;
      visit(first + run, begin + at, begin + Math.min(at + runLength, rowLength));
    }
  }
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((a, b) => a * b, 1);
}
