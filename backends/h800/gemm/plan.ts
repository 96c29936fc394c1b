// The plan of one FP8 GEMM kernel and what follows from it: shared memory map, roles, registers.
import type { Span } from '../../../ir/span.ts';
import { h800 } from '../kernel.ts';
import { blockK, outputLayout, waveRows, type OutputLayout } from './layout.ts';

export interface Fp8GemmTile {
  /** Rows of a tile: 64 (one math warpgroup), 128 or 256 (two). */
  readonly bm: 64 | 128 | 256;
  /** Columns of a tile, a multiple of 16 up to 256; bm · bn is bounded by the register file. */
  readonly bn: number;
  /** Slots of the shared-memory ring. */
  readonly stages: number;
}

/**
 * out[m, n] = Σ_k a[m, k] · aScale[m, k/128] · b[n, k] · bScale[n/128, k/128], a and b e4m3, K innermost in both.
 * With `grouped`, b is [experts, n, k] and each block of 128 rows of a belongs to one expert.
 */
export interface Fp8GemmPlan {
  /** The entry's name. */
  readonly name: string;
  /** Multiple of 8 (bf16) or 4 (f32): rows of the output must be 16-byte multiples for TMA. */
  readonly n: number;
  /** Multiple of 16, for the same reason; the last block of 128 may be short. */
  readonly k: number;
  readonly grouped?: { readonly experts: number };
  readonly outDtype: 'bf16' | 'f32';
  readonly tile: Fp8GemmTile;
  /** The author's expression; becomes the `.loc` of the kernel. */
  readonly span: Span;
}

/** Rows of one expert's segment are padded to a multiple of this, so that no tile crosses experts. */
export const groupAlignment = 128;

/** Byte offsets from the start of dynamic shared memory. */
export interface SharedMap {
  readonly a: number;
  readonly b: number;
  readonly out: number;
  readonly scales: number;
  readonly full: number;
  readonly empty: number;
  readonly bytes: number;
}

export interface Fp8GemmShape {
  readonly plan: Fp8GemmPlan;
  /** 128-wide blocks along K, counting a short last one. */
  readonly kBlocks: number;
  /** 128-wide blocks along N, counting a short last one. */
  readonly nBlocks: number;
  readonly columnTiles: number;
  readonly mathWarpgroups: 1 | 2;
  /** 64-row wgmma waves per math warpgroup. */
  readonly waves: 1 | 2;
  readonly threads: number;
  readonly aStageBytes: number;
  readonly bStageBytes: number;
  /** Columns that surely share one weight scale: gcd(bn, 128). */
  readonly scaleUnit: number;
  /** Weight scales per tile and K block, one per unit. */
  readonly scaleUnits: number;
  /** One ring slot of scales: bm activation scales, then the weight scales. */
  readonly scaleStageBytes: number;
  /** M blocks that run before the scheduler moves to the next N block: how a wave of CTAs shares L2. */
  readonly rasterRows: number;
  readonly output: OutputLayout;
  readonly shared: SharedMap;
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
const roundUp = (x: number, to: number): number => Math.ceil(x / to) * to;

/** Registers that hold accumulators and one wgmma's partial sums, per math thread. */
export const accumulatorRegisters = (tile: Pick<Fp8GemmTile, 'bm' | 'bn'>): number => {
  const waves = tile.bm === 256 ? 2 : 1;
  return (waves + 1) * (tile.bn / 2);
};

/** What is wrong with a plan, in one sentence; null when a kernel can be written for it. */
export function fp8GemmProblem(plan: Fp8GemmPlan): string | null {
  const { n, k, tile, outDtype, grouped } = plan;
  const columns = outDtype === 'bf16' ? 8 : 4;
  if (!Number.isInteger(n) || n <= 0 || n % columns !== 0)
    return `n is ${n}: TMA needs rows of 16 bytes, a multiple of ${columns} columns of ${outDtype}`;
  if (!Number.isInteger(k) || k <= 0 || k % 16 !== 0)
    return `k is ${k}: TMA needs rows of 16 bytes, a multiple of 16 FP8 values`;
  if (![64, 128, 256].includes(tile.bm)) return `bm is ${tile.bm}, not 64, 128 or 256`;
  if (grouped && groupAlignment % tile.bm !== 0)
    return `bm is ${tile.bm}: a tile would cross experts, whose rows are aligned to ${groupAlignment}`;
  if (tile.bn % 16 !== 0 || tile.bn < 16 || tile.bn > 256)
    return `bn is ${tile.bn}, not a multiple of 16 in 16..256`;
  if (accumulatorRegisters(tile) > 192)
    return `a ${tile.bm}x${tile.bn} tile needs ${accumulatorRegisters(tile)} accumulator registers per thread, 192 fit`;
  if (!Number.isInteger(tile.stages) || tile.stages < 2)
    return `stages is ${tile.stages}, at least 2 are needed`;
  if (grouped && (grouped.experts < 1 || grouped.experts * n >= 2 ** 31))
    return `${grouped.experts} experts of ${n}`;
  const { bytes } = fp8GemmShape(plan).shared;
  if (bytes > h800.sharedBytesPerCta)
    return `${tile.stages} stages need ${bytes} bytes of shared memory, ${h800.sharedBytesPerCta} fit`;
  return null;
}

/** Everything that follows from a plan; does not judge it (see fp8GemmProblem). */
export function fp8GemmShape(plan: Fp8GemmPlan): Fp8GemmShape {
  const { bm, bn, stages } = plan.tile;
  const output = outputLayout(bn, plan.outDtype);
  const scaleUnit = gcd(bn, blockK);
  const scaleUnits = bn / scaleUnit;
  const aStageBytes = bm * blockK;
  const bStageBytes = bn * blockK;
  const scaleStageBytes = 4 * (bm + roundUp(scaleUnits, 4));
  // Tiles first: they need 1024-byte alignment for the swizzle, and their sizes keep it.
  const a = 0;
  const b = a + stages * aStageBytes;
  const out = b + stages * bStageBytes;
  const scales = out + bm * bn * output.elementBytes;
  const full = scales + stages * scaleStageBytes;
  const empty = full + 8 * stages;
  const mathWarpgroups = bm === 64 ? 1 : 2;
  return {
    plan,
    kBlocks: Math.ceil(plan.k / blockK),
    nBlocks: Math.ceil(plan.n / blockK),
    columnTiles: Math.ceil(plan.n / bn),
    mathWarpgroups,
    waves: bm === 256 ? 2 : 1,
    threads: 128 * (mathWarpgroups + 1),
    aStageBytes,
    bStageBytes,
    scaleUnit,
    scaleUnits,
    scaleStageBytes,
    rasterRows: rasterRows(bm, bn),
    output,
    shared: { a, b, out, scales, full, empty, bytes: empty + 8 * stages },
  };
}

/** 8 or 16 rows of tiles, whichever lets 132 tiles in flight read fewer distinct bytes of A and B. */
function rasterRows(bm: number, bn: number): number {
  const footprint = (rows: number): number => rows * bm + Math.ceil(h800.multiprocessors / rows) * bn;
  return footprint(8) <= footprint(16) ? 8 : 16;
}

/** Largest ring that fits beside the output tile; 0 when not even one stage does. */
export function largestStages(plan: Omit<Fp8GemmPlan, 'tile'>, tile: Pick<Fp8GemmTile, 'bm' | 'bn'>): number {
  const bytesAt = (stages: number): number =>
    fp8GemmShape({ ...plan, tile: { ...tile, stages } }).shared.bytes;
  const perStage = bytesAt(2) - bytesAt(1);
  return Math.max(0, Math.floor((h800.sharedBytesPerCta - bytesAt(0)) / perStage));
}

/** Rows of one wgmma wave in a tile: warpgroup `group`, wave `wave`. */
export const waveStart = (shape: Fp8GemmShape, group: number, wave: number): number =>
  (group * shape.waves + wave) * waveRows;
