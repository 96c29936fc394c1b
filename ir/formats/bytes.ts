// Bulk casts between f64 arrays and dense little-endian bytes, and rounding of whole arrays in place.
// One loop per format, no call through a closure per element: weights pass through here.
import {
  decodeTable,
  doubleBits,
  doubleWords,
  f32Nan,
  narrow,
  narrowCode,
  narrowOf,
  rounder,
  saturates,
  scaleCode,
  singleBits,
  singleWord,
  toInt64,
  type CastOptions,
  type NarrowSpec,
} from './codec.ts';
import { bytesFor, dtypeInfo, type DType } from './dtypes.ts';

/**
 * The first `count` values in `bytes`, exactly. Bytes may start at any alignment and may be longer than needed.
 * Throws a RangeError if they are too short, or if an i64 is beyond ±(2^53 - 1) and so not exact in a double.
 */
export function decodeBytes(dtype: DType, bytes: Uint8Array, count: number): Float64Array {
  const need = bytesFor(dtype, count);
  if (bytes.length < need)
    throw new RangeError(`${count} ${dtype} values need ${need} bytes, there are ${bytes.length}`);
  const out = new Float64Array(count);
  let source: Uint8Array;
  switch (dtype) {
    case 'f8e4m3':
    case 'f8e5m2':
    case 'f8ue8m0': {
      const table = decodeTable(dtype);
      for (let i = 0; i < count; i++) out[i] = table[bytes[i]!]!;
      return out;
    }
    case 'bool':
      for (let i = 0; i < count; i++) out[i] = bytes[i] === 0 ? 0 : 1;
      return out;
    case 'bf16':
      for (let i = 0; i < count; i++) {
        // A bf16 is the upper half of an f32.
        singleWord[0] = (bytes[2 * i]! << 16) | (bytes[2 * i + 1]! << 24);
        out[i] = singleBits[0]!;
      }
      return out;
    case 'f16': {
      const table = decodeTable('f16');
      for (let i = 0; i < count; i++) out[i] = table[bytes[2 * i]! | (bytes[2 * i + 1]! << 8)]!;
      return out;
    }
    case 'f12e5m6': {
      const table = decodeTable('f12e5m6');
      for (let i = 0; i < count; i++) {
        const at = (i >> 1) * 3;
        const code =
          i % 2 === 0
            ? bytes[at]! | ((bytes[at + 1]! & 0x0f) << 8)
            : (bytes[at + 1]! >> 4) | (bytes[at + 2]! << 4);
        out[i] = table[code]!;
      }
      return out;
    }
    case 'f32':
      source = wordAligned(bytes, need);
      out.set(new Float32Array(source.buffer, source.byteOffset, count));
      return out;
    case 'i32':
      source = wordAligned(bytes, need);
      out.set(new Int32Array(source.buffer, source.byteOffset, count));
      return out;
    case 'i64': {
      source = wordAligned(bytes, need);
      const words = new Uint32Array(source.buffer, source.byteOffset, 2 * count);
      for (let i = 0; i < count; i++) {
        const value = (words[2 * i + 1]! | 0) * 2 ** 32 + words[2 * i]!;
        if (!Number.isSafeInteger(value))
          throw new RangeError(`i64 value at index ${i} (about ${value}) is not exact in a double`);
        out[i] = value;
      }
      return out;
    }
  }
}

/** The first `length` bytes where a typed array of 4-byte elements can view them: copied if a file's slice starts askew. */
function wordAligned(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.byteOffset % 4 === 0 ? bytes : bytes.slice(0, length);
}

/**
 * `values` as dense little-endian codes, each rounded once as by `encode`. The odd last code of f12e5m6 leaves its
 * upper four bits zero. Errors: as `encode`; an i64 beyond ±(2^53 - 1) is a RangeError.
 */
export function encodeBytes(dtype: DType, values: ArrayLike<number>, options?: CastOptions): Uint8Array {
  const count = values.length;
  const out = new Uint8Array(bytesFor(dtype, count));
  const saturating = saturates(dtype, options);
  switch (dtype) {
    case 'f8e4m3':
    case 'f8e5m2':
      encodeNarrow(narrow[dtype], values, out, saturating);
      return out;
    case 'bf16':
    case 'f16':
      encodeNarrow(narrow[dtype], values, new Uint16Array(out.buffer), saturating);
      return out;
    case 'f12e5m6': {
      const codes = new Uint16Array(count);
      encodeNarrow(narrow.f12e5m6, values, codes, saturating);
      for (let i = 0, at = 0; i < count; i += 2, at += 3) {
        const pair = codes[i]! | ((i + 1 < count ? codes[i + 1]! : 0) << 12);
        out[at] = pair;
        out[at + 1] = pair >> 8;
        if (i + 1 < count) out[at + 2] = pair >> 16;
      }
      return out;
    }
    case 'f8ue8m0': {
      const up = options?.direction !== 'down';
      for (let i = 0; i < count; i++) out[i] = scaleCode(values[i]!, saturating, up);
      return out;
    }
    case 'f32': {
      const floats = new Float32Array(out.buffer);
      const words = new Uint32Array(out.buffer);
      const max = saturating ? dtypeInfo.f32.maxFinite! : Infinity;
      for (let i = 0; i < count; i++) {
        const x = values[i]!;
        if (x !== x) words[i] = f32Nan;
        else floats[i] = x > max ? max : x < -max ? -max : x;
      }
      return out;
    }
    case 'i32': {
      const words = new Int32Array(out.buffer);
      const toInt = rounder('i32', options);
      for (let i = 0; i < count; i++) words[i] = toInt(values[i]!);
      return out;
    }
    case 'i64': {
      const words = new Int32Array(out.buffer);
      const truncate = options?.fraction === 'truncate';
      for (let i = 0; i < count; i++) {
        const value = toInt64(values[i]!, truncate);
        const high = Math.floor(value / 2 ** 32);
        words[2 * i] = (value - high * 2 ** 32) | 0;
        words[2 * i + 1] = high;
      }
      return out;
    }
    case 'bool':
      for (let i = 0; i < count; i++) out[i] = values[i] === 0 ? 0 : 1;
      return out;
  }
}

function encodeNarrow(
  spec: NarrowSpec,
  values: ArrayLike<number>,
  codes: Uint8Array | Uint16Array,
  saturating: boolean,
): void {
  for (let i = 0; i < values.length; i++) codes[i] = narrowCode(spec, values[i]!, saturating);
}

/**
 * Rounds every element of `values` to `dtype` in place, as `rounder` does, and returns it. For the interpreter's hot
 * loops: the narrow floats run in one inlined loop, without a boxed double per element.
 */
export function roundInto(dtype: DType, values: Float64Array, options?: CastOptions): Float64Array {
  const spec = narrowOf(dtype);
  if (spec !== undefined) {
    roundNarrow(spec, values, saturates(dtype, options) ? spec.maxFinite : spec.beyond);
  } else if (dtype === 'f32' && !saturates(dtype, options)) {
    for (let i = 0; i < values.length; i++) values[i] = Math.fround(values[i]!);
  } else {
    const roundOne = rounder(dtype, options);
    for (let i = 0; i < values.length; i++) values[i] = roundOne(values[i]!);
  }
  return values;
}

/** The body of codec.ts's narrowRounder, spelled out in a loop: about twice as fast as calling it. */
function roundNarrow(spec: NarrowSpec, values: Float64Array, beyond: number): void {
  const { shift, half, mask, minNormal, magic, maxHigh } = spec;
  for (let i = 0; i < values.length; i++) {
    const x = values[i]!;
    doubleBits[0] = x;
    const high = doubleWords[1]!;
    let h = high & 0x7fffffff;
    if (h < minNormal) {
      const r = Math.abs(x) + magic - magic;
      values[i] = high < 0 ? -r : r;
      continue;
    }
    if (doubleWords[0] !== 0) h |= 1;
    h = (h + half + ((h >>> shift) & 1)) & mask;
    // A NaN's sum may wrap to a negative number; both ways it is no finite value.
    if (h > maxHigh || h < 0) {
      values[i] = x !== x ? NaN : high < 0 ? -beyond : beyond;
      continue;
    }
    singleWord[0] = ((h - 0x38000000) << 3) | (high & 0x80000000);
    values[i] = singleBits[0]!;
  }
}
