// Tensor maps of the tensor memory accelerator: the rules of cuTensorMapEncodeTiled, and the 128-byte object. Its layout
// is not published. Ours has every field where `tensormap.replace` writes it on sm_90a, so that device code can change a
// map, and a mark of our own in bytes that no field uses. The driver's bytes differ in the rest.

/** Element types with the numbers that they have inside the object (those of `tensormap.replace`, not the driver's). */
export const tensorMapDTypes = {
  U8: { code: 0, bytes: 1, float: false },
  U16: { code: 1, bytes: 2, float: false },
  U32: { code: 2, bytes: 4, float: false },
  I32: { code: 3, bytes: 4, float: false },
  U64: { code: 4, bytes: 8, float: false },
  I64: { code: 5, bytes: 8, float: false },
  F16: { code: 6, bytes: 2, float: true },
  F32: { code: 7, bytes: 4, float: true },
  F32_FTZ: { code: 8, bytes: 4, float: true },
  F64: { code: 9, bytes: 8, float: true },
  BF16: { code: 10, bytes: 2, float: true },
  TF32: { code: 11, bytes: 4, float: true },
  TF32_FTZ: { code: 12, bytes: 4, float: true },
} as const;

export type TensorMapDType = keyof typeof tensorMapDTypes;

// Positions in these lists are the numbers in the object.
export const swizzles = ['none', '32B', '64B', '128B'] as const;
export const interleaves = ['none', '16B', '32B'] as const;
export const fillModes = ['zero', 'nan'] as const;

/** Everything about a map but its address. Lists begin with the innermost dimension. */
export interface TensorMapShape {
  readonly dtype: TensorMapDType;
  readonly dims: readonly number[];
  /** In bytes, of dimensions 1 and up: the innermost is dense. */
  readonly strides: readonly number[];
  readonly box: readonly number[];
  readonly elementStrides: readonly number[];
  readonly swizzle: (typeof swizzles)[number];
  readonly interleave: (typeof interleaves)[number];
  /** What elements out of bounds read as. */
  readonly fill: (typeof fillModes)[number];
}

export interface TensorMapProblem {
  /** The part that breaks a rule. */
  readonly part: keyof TensorMapShape | 'address';
  readonly message: string;
  readonly fix: string;
}

/** Bytes of the object, and what its address must be a multiple of. */
export const tensorMapBytes = 128;
export const tensorMapAlignment = 64;

/** Stands at byte 0x40 of maps that were encoded here: other bytes are no map. */
export const tensorMapMark = 'dsvcTMAP';
const markAt = 0x40;

const maxRank = 5;
const swizzleBytes = { '32B': 32, '64B': 64, '128B': 128 } as const;

/** All rules of cuTensorMapEncodeTiled that the shape at this global address breaks; empty when it may be encoded. */
export function checkTensorMap(address: bigint, shape: TensorMapShape): readonly TensorMapProblem[] {
  const { dtype, dims, strides, box, elementStrides, swizzle, interleave, fill } = shape;
  const found: TensorMapProblem[] = [];
  const add = (part: TensorMapProblem['part'], message: string, fix: string): void =>
    void found.push({ part, message, fix });
  const rank = dims.length;
  if (rank < 1 || rank > maxRank) {
    add('dims', `has ${rank} dimensions`, `a tensor map has 1 to ${maxRank}`);
    return found;
  }
  const lengths = [
    ['strides', strides, rank - 1, 'one for each dimension but the innermost'],
    ['box', box, rank, 'one for each dimension'],
    ['elementStrides', elementStrides, rank, 'one for each dimension'],
  ] as const;
  for (const [part, list, wanted, why] of lengths)
    if (list.length !== wanted)
      add(part, `has ${list.length} for ${rank} dimensions`, `give ${wanted}: ${why}`);
  if (found.length > 0) return found;

  const { bytes: size, float } = tensorMapDTypes[dtype];
  const unit = interleave === '32B' ? 32 : 16;
  const because = interleave === '32B' ? ' with interleave 32B' : '';
  if (address % BigInt(unit) !== 0n)
    add('address', `is 0x${address.toString(16)}`, `a map's address is a multiple of ${unit}${because}`);
  for (const [i, n] of dims.entries())
    if (n < 1 || n > 2 ** 32) add('dims', `has the size ${n} in dimension ${i}`, 'sizes go from 1 to 2^32');
  for (const [i, n] of strides.entries())
    if (n % unit !== 0 || n >= 2 ** 40)
      add(
        'strides',
        `is ${n} bytes for dimension ${i + 1}`,
        `strides are multiples of ${unit} bytes${because}, below 2^40`,
      );
  for (const [i, n] of box.entries())
    if (n < 1 || n > 256) add('box', `is ${n} in dimension ${i}`, 'a box has 1 to 256 elements a dimension');
  const row = box[0] * size;
  if (interleave === 'none' && row % 16 !== 0)
    add('box', `has rows of ${row} bytes`, 'a row of a box is a multiple of 16 bytes');
  if (interleave === 'none' && swizzle !== 'none' && row > swizzleBytes[swizzle])
    add(
      'box',
      `has rows of ${row} bytes, more than swizzle ${swizzle} spans`,
      `at most ${swizzleBytes[swizzle] / size} elements of ${dtype} a row, or another swizzle`,
    );
  for (const [i, n] of elementStrides.entries())
    // The innermost is ignored without interleaving, but must still fit its field.
    if (n < 1 || n > 8) add('elementStrides', `is ${n} in dimension ${i}`, 'element strides go from 1 to 8');
  if (interleave !== 'none' && rank < 3)
    add('interleave', `is ${interleave} with ${rank} dimensions`, 'interleaved maps have at least 3');
  if (interleave === '32B' && swizzle !== '32B')
    add('swizzle', `is ${swizzle} with interleave 32B`, 'interleave 32B needs swizzle 32B');
  if (fill === 'nan' && !float)
    add('fill', `is nan, but the elements are ${dtype}`, 'NaN exists in floating-point types only: use zero');
  return found;
}

/** The object. The shape must have passed checkTensorMap; breaking that is a RangeError. */
export function encodeTensorMap(address: bigint, shape: TensorMapShape): Uint8Array {
  const [problem] = checkTensorMap(address, shape);
  if (problem) throw new RangeError(`tensor map: ${problem.part} ${problem.message}`);
  const { dtype, dims, strides, box, elementStrides, swizzle, interleave, fill } = shape;
  const out = new Uint8Array(tensorMapBytes);
  const view = new DataView(out.buffer);
  view.setBigUint64(0x00, address, true);
  view.setUint32(
    0x08,
    ((dims.length - 1) << 4) |
      (tensorMapDTypes[dtype].code << 7) |
      (interleaves.indexOf(interleave) << 11) |
      (swizzles.indexOf(swizzle) << 13) |
      (fillModes.indexOf(fill) << 15),
    true,
  );
  let high = 0;
  for (const [i, stride] of strides.entries()) {
    // In units of 16 bytes: 36 bits, the upper four of each apart.
    view.setUint32(0x0c + 4 * i, (stride / 16) % 2 ** 32, true);
    high |= Math.floor(stride / 16 / 2 ** 32) << (4 * i);
  }
  view.setUint32(0x1c, high, true);
  for (const [i, n] of dims.entries()) view.setUint32(0x20 + 4 * i, n - 1, true);
  const steps = elementStrides.reduce((bits, n, i) => bits | ((n - 1) << (3 * i)), 0);
  view.setUint32(0x34, (steps | ((box[0] - 1) << 24)) >>> 0, true);
  for (const [i, n] of box.entries()) if (i > 0) view.setUint8(0x38 + i - 1, n - 1);
  out.set(new TextEncoder().encode(tensorMapMark), markAt);
  return out;
}
