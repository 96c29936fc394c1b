// Tensor maps as a host would encode them, their rules, and how a box of one lies in shared memory.

/** Dims and box innermost first; strides in bytes of dims 1…; `swizzle` 0, 32, 64 or 128 bytes. */
export interface TensorMap {
  readonly address: number;
  readonly elementBytes: number;
  readonly dims: readonly number[];
  readonly strides: readonly number[];
  readonly box: readonly number[];
  readonly swizzle: number;
}

/** What cuTensorMapEncodeTiled would refuse, in words, or null. */
export function tensorMapProblem({
  address,
  elementBytes,
  dims,
  strides,
  box,
  swizzle,
}: TensorMap): string | null {
  const rank = dims.length;
  if (rank < 1 || rank > 5 || box.length !== rank || strides.length !== rank - 1) return `rank ${rank}`;
  if (address % 16 !== 0) return `address ${address} is not a multiple of 16`;
  if (dims.some((n) => n < 1 || n > 2 ** 32)) return `dims ${dims}`;
  if (strides.some((n) => n % 16 !== 0 || n >= 2 ** 40)) return `strides ${strides} are not multiples of 16`;
  if (box.some((n) => n < 1 || n > 256)) return `box ${box}`;
  const inner = box[0] * elementBytes;
  if (inner % 16 !== 0) return `${inner} bytes of the box's inner dim are no multiple of 16`;
  if (swizzle > 0 && inner > swizzle)
    return `${inner} bytes of the box's inner dim exceed the swizzle's ${swizzle}`;
  return null;
}

/** The TMA and wgmma swizzle of a shared-memory address; 0 bytes: none. */
export const swizzled = (address: number, bytes: number): number =>
  bytes === 0 ? address : address ^ (((address >> 7) & (bytes / 16 - 1)) << 4);

/**
 * Visits a box at `origin` in rows of its inner dim: shared address of the row before swizzling, global address of its
 * first byte, and which of its bytes [from, to) lie in the tensor (none: from = to).
 */
export function forEachBoxRow(
  map: TensorMap,
  origin: readonly number[],
  shared: number,
  visit: (shared: number, global: number, from: number, to: number) => void,
): void {
  const rowBytes = map.box[0] * map.elementBytes;
  const rows = map.box.slice(1).reduce((a, b) => a * b, 1);
  const clip = (x: number): number => Math.min(map.box[0], Math.max(0, x)) * map.elementBytes;
  const from = clip(-origin[0]);
  const to = clip(map.dims[0] - origin[0]);
  for (let row = 0; row < rows; row++) {
    let rest = row;
    let inside = from < to;
    let global = map.address + origin[0] * map.elementBytes;
    for (let d = 1; d < map.dims.length; d++) {
      const c = origin[d] + (rest % map.box[d]);
      rest = Math.floor(rest / map.box[d]);
      if (c < 0 || c >= map.dims[d]) inside = false;
      global += c * map.strides[d - 1];
    }
    visit(shared + row * rowBytes, global, inside ? from : 0, inside ? to : 0);
  }
}
