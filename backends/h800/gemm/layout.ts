// Where things lie: shared memory of a GEMM tile, the 128-byte swizzle, wgmma descriptors and the accumulator
// fragment. Pure functions: the kernel writer uses them for its constants and the tests model TMA and wgmma with them.

/** FP8 bytes along K in one stage: one swizzle atom, and the interval of promotion to FP32. */
export const blockK = 128;
/** K of one FP8 wgmma. */
export const stepK = 32;
/** Rows of one wgmma. */
export const waveRows = 64;
/** 8 rows of 128 bytes: the swizzle pattern repeats after these many bytes, and descriptors step by it (SBO). */
export const atomBytes = 1024;

export type SwizzleBytes = 32 | 64 | 128;

/** The swizzle that TMA and wgmma apply to a shared-memory byte address: XOR bits 4.. with bits 7... */
export const swizzle = (address: number, bytes: SwizzleBytes): number =>
  address ^ (((address >> 7) & (bytes / 16 - 1)) << 4);

/** High word of a K-major 128-byte-swizzled descriptor: SBO in 16-byte units, swizzle mode 1 in bits 63:62. */
export const descriptorHigh = (1 << 30) | (atomBytes >> 4);
/** Low word without the start address: LBO is ignored for this layout and written as 1. */
export const descriptorLowBase = 1 << 16;
/** What a K step of 32 bytes adds to the low word. */
export const descriptorStep = stepK >> 4;

/** Low word of the descriptor for a tile that starts at a shared-memory byte address. */
export const descriptorLow = (address: number): number => ((address & 0x3ffff) >> 4) | descriptorLowBase;

/** Where wgmma reads byte `k` (0..31) of row `row` through a descriptor of this kind (PTX ISA, K-major canonical layout). */
export function descriptorAddress(low: number, high: number, row: number, k: number): number {
  const start = (low & 0x3fff) << 4;
  const strideBytes = (high & 0x3fff) << 4;
  return swizzle(start + (row % 8) * 128 + Math.floor(row / 8) * strideBytes + k, 128);
}

/** Row within 64 and column within N of accumulator register `i` of thread `thread` (0..127) in a warpgroup. */
export function accumulatorPlace(thread: number, i: number): { row: number; column: number } {
  const warp = thread >> 5;
  const lane = thread & 31;
  return {
    row: 16 * warp + (lane >> 2) + 8 * ((i >> 1) & 1),
    column: 8 * (i >> 2) + 2 * (lane & 3) + (i & 1),
  };
}

/** The output tile in shared memory: chunks of one swizzle span by 64 rows, each stored by one TMA instruction. */
export interface OutputLayout {
  readonly elementBytes: 2 | 4;
  readonly chunkColumns: number;
  /** chunkColumns · elementBytes: the pitch of a row, and the swizzle of the output's tensor map. */
  readonly chunkBytes: SwizzleBytes;
  readonly chunks: number;
}

/** The widest chunks that divide a tile of `bn` columns, so that no store writes a neighbour's columns. */
export function outputLayout(bn: number, dtype: 'bf16' | 'f32'): OutputLayout {
  const elementBytes = dtype === 'bf16' ? 2 : 4;
  for (const chunkBytes of [128, 64, 32] as const) {
    const chunkColumns = chunkBytes / elementBytes;
    if (bn % chunkColumns === 0) return { elementBytes, chunkColumns, chunkBytes, chunks: bn / chunkColumns };
  }
  throw new Error(`gemm: no output chunk divides ${bn} columns of ${dtype}`);
}

/** Byte offset of an element inside a chunk (64 rows by chunkColumns), as TMA expects it. */
export const outputOffset = (layout: OutputLayout, row: number, column: number): number =>
  swizzle(row * layout.chunkBytes + column * layout.elementBytes, layout.chunkBytes);
