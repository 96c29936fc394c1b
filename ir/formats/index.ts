// Number formats, exact casts between them, and tiled scaling.
export { bytesFor, dtypeInfo, dtypes, isFloat, maxFinite, type DType, type DTypeInfo } from './dtypes.ts';
export { decode, encode, round, rounder, type CastOptions, type CodedDType } from './codec.ts';
export { decodeBytes, encodeBytes, roundInto } from './bytes.ts';
export {
  ceilPowerOfTwo,
  dequantizeTiles,
  quantizeTiles,
  scaleShapeOf,
  tileScale,
  type DequantizeTiles,
  type QuantizedTiles,
  type QuantizeTiles,
  type ScaleFormat,
  type ScaleRule,
} from './scales.ts';
