// Picks tile and ring of an FP8 GEMM from a small analytic model: no autotuning, every input is printed. Cycles are SM
// clocks; the constants are facts about the machine or instruction counts of the emitted main loop.
import { h800 } from '../kernel.ts';
import { noSpan } from '../../../ir/span.ts';
import { blockK, waveRows } from './layout.ts';
import {
  accumulatorRegisters,
  fp8GemmProblem,
  fp8GemmShape,
  groupAlignment,
  largestStages,
  type Fp8GemmPlan,
  type Fp8GemmTile,
} from './plan.ts';

export interface Fp8GemmSize {
  /** Rows that are expected: M, or all padded rows of a grouped GEMM. Only speed depends on it, not correctness. */
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly grouped?: { readonly experts: number };
  readonly outDtype?: 'bf16' | 'f32';
}

export type ChosenTile = Fp8GemmTile & {
  /** The model's inputs and result, for reports. */
  readonly why: string;
};

// Bytes per clock that L2 delivers to all SMs together: 96 slices of 64 bytes, at the share that copies reach.
const l2BytesPerClock = 5200;
// From the last wgmma's issue to the first partial sum, and a full barrier's round trip.
const wgmmaLatency = 60;
const barrierLatency = 40;
// Main-loop instructions per warp and K block that are not FFMA: barrier, descriptors, wgmma, scales (counted in SASS).
const loopInstructions = 30;
const waveInstructions = 14;
// First TMA load of a kernel, and what a tile's end costs beside its instructions (two barriers, a fence).
const startCycles = 1500;
const tileEndCycles = 250;

interface Estimate {
  readonly tile: Fp8GemmTile;
  readonly cycles: number;
  readonly tiles: number;
  readonly rounds: number;
  readonly block: {
    readonly tensor: number;
    readonly l2: number;
    readonly issue: number;
    readonly chain: number;
  };
  readonly memory: number;
}

function estimate(size: Fp8GemmSize, tile: Fp8GemmTile, plan: Fp8GemmPlan): Estimate {
  const shape = fp8GemmShape(plan);
  const { bm, bn } = tile;
  const tiles = Math.max(1, Math.ceil(size.m / bm)) * shape.columnTiles;
  const rounds = Math.ceil(tiles / h800.multiprocessors);
  const busy = Math.min(tiles, h800.multiprocessors);
  const tensor = (bm * bn * blockK) / h800.fp8MacsPerClock;
  const l2 = Math.max(
    ((bm + bn) * blockK * busy) / l2BytesPerClock,
    ((bm + bn) * blockK) / h800.l2BytesPerClock,
  );
  const perWave = bn / 2 + 2 * shape.scaleUnits + waveInstructions;
  const perWarp = loopInstructions + shape.waves * perWave;
  // One math warp of each warpgroup on each of the four schedulers.
  const issue = shape.mathWarpgroups * perWarp;
  // What one warpgroup does one after the other; the other one's wgmmas can fill its gaps.
  const ownTensor = shape.waves * ((waveRows * bn * blockK) / h800.fp8MacsPerClock + wgmmaLatency);
  const chain = ownTensor + perWarp + barrierLatency;
  const perBlock = Math.max(tensor, l2, issue, chain);
  const end = tileEndCycles + 2 * shape.mathWarpgroups * shape.waves * bn;
  const compute = startCycles + rounds * (shape.kBlocks * perBlock + end);
  const experts = size.grouped?.experts ?? 1;
  const bytes =
    Math.min(experts, Math.ceil(size.m / groupAlignment)) * size.n * size.k +
    size.m * size.k +
    size.m * size.n * shape.output.elementBytes;
  const memory = (bytes * h800.clock) / h800.memoryBandwidth;
  // Memory and compute overlap, but not entirely: a tenth of the shorter one shows.
  const cycles = Math.max(compute, memory) + 0.1 * Math.min(compute, memory);
  return { tile, cycles, tiles, rounds, block: { tensor, l2, issue, chain }, memory };
}

const candidates = (size: Fp8GemmSize): Pick<Fp8GemmTile, 'bm' | 'bn'>[] => {
  const widest = Math.min(256, Math.ceil(size.n / 16) * 16);
  const heights: readonly Fp8GemmTile['bm'][] = size.grouped ? [64, 128] : [64, 128, 256];
  return heights.flatMap((bm) =>
    Array.from({ length: widest / 16 }, (_, i) => ({ bm, bn: 16 * (i + 1) })).filter(
      (tile) => accumulatorRegisters(tile) <= 192,
    ),
  );
};

/**
 * The tile with the lowest estimate; among equals (within 1 %) the one that reads fewer bytes from L2.
 * Throws when no tile fits, which only an n or k that TMA cannot address can cause.
 */
export function chooseFp8GemmTile(size: Fp8GemmSize): ChosenTile {
  const base: Omit<Fp8GemmPlan, 'tile'> = {
    name: 'candidate',
    n: size.n,
    k: size.k,
    outDtype: size.outDtype ?? 'bf16',
    span: noSpan,
    ...(size.grouped ? { grouped: size.grouped } : {}),
  };
  const estimates: Estimate[] = [];
  let problem = 'no candidate';
  for (const { bm, bn } of candidates(size)) {
    // More slots than K blocks of two tiles are never filled.
    const useful = Math.max(3, 2 * Math.ceil(size.k / blockK));
    const tile: Fp8GemmTile = { bm, bn, stages: Math.min(largestStages(base, { bm, bn }), useful, 16) };
    const plan: Fp8GemmPlan = { ...base, tile };
    const wrong = fp8GemmProblem(plan);
    if (wrong) problem = wrong;
    // Two slots cannot hide a load behind a promotion.
    else if (tile.stages >= 3) estimates.push(estimate(size, tile, plan));
  }
  const best = estimates.reduce<Estimate | undefined>((a, b) => (a && !better(b, a) ? a : b), undefined);
  if (!best) throw new Error(`chooseFp8GemmTile: n ${size.n}, k ${size.k}: ${problem}`);
  return { ...best.tile, why: explain(size, best) };
}

const traffic = ({ tile, tiles }: Estimate): number => tiles * (tile.bm + tile.bn);
function better(a: Estimate, b: Estimate): boolean {
  if (Math.abs(a.cycles - b.cycles) > 0.01 * b.cycles) return a.cycles < b.cycles;
  return traffic(a) < traffic(b);
}

function explain(size: Fp8GemmSize, e: Estimate): string {
  const { tile, block } = e;
  const round = Math.round;
  const limits = Object.entries(block).sort((a, b) => b[1] - a[1]);
  const microseconds = (e.cycles / h800.clock) * 1e6;
  const tflops = (2 * size.m * size.n * size.k) / (microseconds * 1e6);
  return (
    `m ${size.m}, n ${size.n}, k ${size.k}${size.grouped ? `, ${size.grouped.experts} experts` : ''}: ` +
    `${tile.bm}x${tile.bn}, ${tile.stages} stages; ${e.tiles} tiles in ${e.rounds} round(s) of ${h800.multiprocessors} SMs; ` +
    `cycles per K block: ${limits.map(([name, c]) => `${name} ${round(c)}`).join(', ')}; ` +
    `memory ${round((e.memory / h800.clock) * 1e6)} us; estimate ${round(microseconds)} us, ${round(tflops)} TFLOPS`
  );
}
