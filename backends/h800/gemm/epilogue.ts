// The epilogue of a math warpgroup: accumulators to bf16 (or f32) in shared memory, in the layout of the output's
// tensor map, then TMA stores, which clip at M and N. The store drains while the next tile's K loop runs.
import type { Kernel } from '../../ptx/builder.ts';
import { at, tensorAt, type Reg } from '../../ptx/operands.ts';
import { waveRows } from './layout.ts';
import type { Fp8GemmShape } from './plan.ts';
import type { MathThread } from './roles.ts';
import type { TileRegisters } from './scheduler.ts';

export interface StoreContext {
  readonly shape: Fp8GemmShape;
  readonly who: MathThread;
  readonly outMap: Reg<'u64'>;
  /** Shared address of the output tile. */
  readonly out: Reg<'u32'>;
  /** Rows of the tile that one warpgroup computes. */
  readonly groupRows: number;
}

export interface Epilogue {
  /** Stores one tile; accumulators by 64-row wave. */
  tile(accumulators: readonly (readonly Reg<'f32'>[])[], tile: TileRegisters): void;
  /** Waits until everything is written: the CTA's shared memory must outlive its stores. */
  finish(): void;
}

/** Emits what is constant over tiles and returns the per-tile emitters. */
export function emitStore(k: Kernel, context: StoreContext): Epilogue {
  const { shape, who, out, groupRows } = context;
  const { chunkBytes, elementBytes } = shape.output;
  // Each warpgroup owns its rows of the tile, a named barrier and the thread that issues its stores.
  const groupOut = k.reg('u32', 'groupOut');
  k.mad.lo.u32(groupOut, who.warpgroup, groupRows * shape.plan.tile.bn * elementBytes, out);
  const barrier = k.reg('u32', 'storeBarrier');
  k.add.u32(barrier, who.warpgroup, 1);
  const issues = k.reg('pred', 'issues');
  k.setp.eq.u32(issues, who.thread, 0);
  const writeWave =
    elementBytes === 2 ? bf16Writer(k, shape, who, groupOut) : f32Writer(k, shape, who, groupOut);
  const chunkSize = waveRows * chunkBytes;
  const groupRow = k.reg('u32', 'groupRow');
  k.mul.lo.u32(groupRow, who.warpgroup, groupRows);

  return {
    tile(accumulators, tile) {
      // The previous tile's stores have read this memory before it is written again.
      k.when(issues, () => k.cp.async.bulk.wait_group.read(0));
      k.bar.sync(barrier, 128);
      accumulators.forEach((wave, w) => writeWave(wave, w * shape.output.chunks * chunkSize));
      // Generic writes before the asynchronous proxy reads them, then all 128 threads have written.
      k.fence.proxy.async.shared_cta();
      k.bar.sync(barrier, 128);
      k.branch(issues, 'store', () => {
        const row = k.reg('u32');
        k.add.u32(row, tile.row, groupRow);
        accumulators.forEach((_, w) => {
          const waveRow = k.reg('u32');
          k.add.u32(waveRow, row, w * waveRows);
          for (let c = 0; c < shape.output.chunks; c++) {
            const column = k.reg('u32');
            k.add.u32(column, tile.column, c * shape.output.chunkColumns);
            k.cp.async.bulk.tensor._2d.global.shared_cta.bulk_group(
              tensorAt(context.outMap, [column, waveRow]),
              at(groupOut, (w * shape.output.chunks + c) * chunkSize),
            );
          }
        });
        k.cp.async.bulk.commit_group();
      });
    },
    finish() {
      k.when(issues, () => k.cp.async.bulk.wait_group(0));
    },
  };
}

type WaveWriter = (accumulators: readonly Reg<'f32'>[], offset: number) => void;

/** row · pitch + (unit XOR row pattern) · 16: the swizzled address of a 16-byte unit in the row's chunk. */
function swizzledUnit(
  k: Kernel,
  base: Reg<'u32'>,
  row: Reg<'u32'>,
  unit: Reg<'u32'>,
  chunkBytes: number,
): Reg<'u32'> {
  const pattern = k.reg('u32');
  const address = k.reg('u32', 'unitAddress');
  k.shr.u32(pattern, row, 7 - Math.log2(chunkBytes));
  k.and.b32(pattern, pattern, chunkBytes / 16 - 1);
  k.xor.b32(pattern, pattern, unit);
  k.mad.lo.u32(address, row, chunkBytes, base);
  k.mad.lo.u32(address, pattern, 16, address);
  return address;
}

/** Addresses for every unit step: flipping bits of the unit flips the same bits of the swizzled address. */
const flipped = (k: Kernel, address: Reg<'u32'>, bits: readonly number[]): Reg<'u32'>[] =>
  bits.map((b) => {
    if (b === 0) return address;
    const r = k.reg('u32', 'unitAddress');
    k.xor.b32(r, address, b);
    return r;
  });

/**
 * bf16 through stmatrix: one x4 stores 16 columns of the warp's 16 rows. Matrix i of the four has rows 8·(i mod 2) and
 * column unit i div 2, which is the order of accumulator pairs; lane l addresses row l mod 8 of matrix l div 8.
 */
function bf16Writer(k: Kernel, shape: Fp8GemmShape, who: MathThread, groupOut: Reg<'u32'>): WaveWriter {
  const { chunkBytes, chunkColumns, chunks } = shape.output;
  const row = k.reg('u32');
  const unit = k.reg('u32');
  const warp = k.reg('u32');
  k.and.b32(row, who.lane, 15);
  k.shr.u32(warp, who.thread, 5);
  k.mad.lo.u32(row, warp, 16, row);
  k.shr.u32(unit, who.lane, 4);
  const steps = chunkColumns / 16;
  const base = swizzledUnit(k, groupOut, row, unit, chunkBytes);
  const addresses = flipped(
    k,
    base,
    Array.from({ length: steps }, (_, t) => 32 * t),
  );
  return (accumulators, offset) => {
    for (let c = 0; c < chunks; c++) {
      addresses.forEach((address, t) => {
        // Two groups of 8 columns, 4 accumulators each: rows g and g + 8, columns 2q and 2q + 1.
        const first = 4 * (2 * (c * steps + t));
        const packed = [0, 2, 4, 6].map((i) => {
          const r = k.reg('b32', 'packed');
          // The first source becomes the upper half.
          k.cvt.rn.bf16x2.f32(r, accumulators[first + i + 1]!, accumulators[first + i]!);
          return r;
        });
        k.stmatrix.sync.aligned.m8n8.x4.shared.b16(at(address, offset + c * waveRows * chunkBytes), packed);
      });
    }
  };
}

/** f32 by pairs: thread (g, q) has columns 2q and 2q + 1 of each group of 8, half of a 16-byte unit. */
function f32Writer(k: Kernel, shape: Fp8GemmShape, who: MathThread, groupOut: Reg<'u32'>): WaveWriter {
  const { chunkBytes, chunkColumns, chunks } = shape.output;
  const row = k.reg('u32');
  const unit = k.reg('u32');
  const warp = k.reg('u32');
  const quad = k.reg('u32');
  k.shr.u32(row, who.lane, 2);
  k.shr.u32(warp, who.thread, 5);
  k.mad.lo.u32(row, warp, 16, row);
  k.and.b32(quad, who.lane, 3);
  k.shr.u32(unit, quad, 1);
  const base = swizzledUnit(k, groupOut, row, unit, chunkBytes);
  k.and.b32(quad, quad, 1);
  k.mad.lo.u32(base, quad, 8, base);
  const groups = chunkColumns / 8;
  const addresses = flipped(
    k,
    base,
    Array.from({ length: groups }, (_, j) => 32 * j),
  );
  return (accumulators, offset) => {
    for (let c = 0; c < chunks; c++) {
      addresses.forEach((address, j) => {
        const first = 4 * (c * groups + j);
        for (const half of [0, 1]) {
          const pair = [accumulators[first + 2 * half]!, accumulators[first + 2 * half + 1]!];
          // Eight rows further down the swizzle pattern is the same.
          k.st.shared.v2.f32(at(address, offset + c * waveRows * chunkBytes + 8 * half * chunkBytes), pair);
        }
      });
    }
  };
}
