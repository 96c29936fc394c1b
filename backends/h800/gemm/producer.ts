// The producer warpgroup: one thread issues TMA loads of A and B, one warp copies the scales. Both fill the same ring
// slot and arrive on the same full barrier, so the math warps wait once per K block.
import type { Kernel } from '../../ptx/builder.ts';
import { at, sink, tensorAt, type Reg } from '../../ptx/operands.ts';
import { blockK } from './layout.ts';
import type { Fp8GemmShape } from './plan.ts';
import type { SharedRegisters } from './roles.ts';
import { advanceRing, barrierOf, startRing, waitBarrier } from './ring.ts';
import { forEachTile, type SchedulerRegisters } from './scheduler.ts';

/** Arrivals that complete a full barrier's phase: the TMA thread's expect_tx and one per lane of the scale warp. */
export const fullArrivals = 1 + 32;

/** Run by one thread: per K block two TMA loads, out-of-range rows and columns arrive as zeros. */
export function emitTmaProducer(
  k: Kernel,
  shape: Fp8GemmShape,
  scheduler: SchedulerRegisters,
  shared: SharedRegisters,
  maps: { readonly a: Reg<'u64'>; readonly b: Reg<'u64'> },
): void {
  const { stages } = shape.plan.tile;
  const ring = startRing(k);
  forEachTile(k, shape, scheduler, 'tma', ({ row, column, expert }) => {
    const offset = k.reg('u32', 'kOffset');
    const more = k.reg('pred', 'more');
    const kLoop = k.label('tma_k');
    k.mov.u32(offset, 0);
    k.place(kLoop);
    const parity = k.reg('u32');
    k.xor.b32(parity, ring.phase, 1);
    waitBarrier(k, barrierOf(k, shared.empty, ring), parity, 'empty');
    const full = barrierOf(k, shared.full, ring);
    // TMA counts the whole box, zero-filled elements included.
    k.mbarrier.arrive.expect_tx.shared_cta.b64(sink, at(full), shape.aStageBytes + shape.bStageBytes);
    const a = k.reg('u32');
    const b = k.reg('u32');
    k.mad.lo.u32(a, ring.stage, shape.aStageBytes, shared.a);
    k.mad.lo.u32(b, ring.stage, shape.bStageBytes, shared.b);
    const load = k.cp.async.bulk.tensor;
    load._2d.shared_cluster.global.mbarrier_complete_tx_bytes(
      at(a),
      tensorAt(maps.a, [offset, row]),
      at(full),
    );
    if (expert) {
      const from = tensorAt(maps.b, [offset, column, expert]);
      load._3d.shared_cluster.global.mbarrier_complete_tx_bytes(at(b), from, at(full));
    } else {
      const from = tensorAt(maps.b, [offset, column]);
      load._2d.shared_cluster.global.mbarrier_complete_tx_bytes(at(b), from, at(full));
    }
    advanceRing(k, ring, stages);
    k.add.u32(offset, offset, blockK);
    k.setp.lt.u32(more, offset, shape.kBlocks * blockK);
    k.when(more, () => k.bra(kLoop));
  });
}

/**
 * Run by one warp: per K block the bm activation scales of its column and the tile's weight scales, 4 bytes each with
 * cp.async. Scales are row-major [M, K/128], so one column is a gather: bm sectors of 32 bytes, which serve the next
 * seven K blocks from L1. TMA cannot fetch 4-byte columns (its inner box is at least 16 bytes), and loads by the math
 * warps would stall them; here the latency hides behind the ring.
 */
export function emitScaleProducer(
  k: Kernel,
  shape: Fp8GemmShape,
  scheduler: SchedulerRegisters,
  shared: SharedRegisters,
  sources: { readonly aScale: Reg<'u64'>; readonly bScale: Reg<'u64'>; readonly lane: Reg<'u32'> },
): void {
  const { bm, stages } = shape.plan.tile;
  const { lane } = sources;
  const rowBytes = 4 * shape.kBlocks;
  const ring = startRing(k);
  const slots = k.reg('u32', 'slots');
  k.mad.lo.u32(slots, lane, 4, shared.scales);
  const hasWeightScale = k.reg('pred', 'hasWeightScale');
  k.setp.lt.u32(hasWeightScale, lane, shape.scaleUnits);

  forEachTile(k, shape, scheduler, 'scale', ({ row, column, expert }) => {
    // Lane l copies rows l, l + 32, ...: 4 bytes where the row exists, a zero from 0 bytes where it does not. A scale is
    // never 0 otherwise, so the math warps know rows of padding by it.
    const first = k.reg('u32');
    const rowsLeft = k.reg('s32');
    const aPointer = k.reg('u64', 'aScalePointer');
    k.add.u32(first, row, lane);
    k.sub.s32(rowsLeft, scheduler.rows, first);
    k.mad.wide.u32(aPointer, first, rowBytes, sources.aScale);
    const exist = Array.from({ length: bm / 32 }, (_, i) => {
      const exists = k.reg('pred');
      k.setp.gt.s32(exists, rowsLeft, 32 * i);
      return exists;
    });
    if (scheduler.tokenOf) dropPadding(k, scheduler.tokenOf, first, exist);
    const sizes = exist.map((exists) => {
      const size = k.reg('u32', 'size');
      k.selp.u32(size, 4, 0, exists);
      return size;
    });
    // Lane u copies the scale of columns u·unit...: the last row of scales stands in for columns beyond N.
    const bRow = k.reg('u32');
    const bPointer = k.reg('u64', 'bScalePointer');
    k.mad.lo.u32(bRow, lane, shape.scaleUnit, column);
    k.shr.u32(bRow, bRow, 7);
    k.min.u32(bRow, bRow, shape.nBlocks - 1);
    if (expert) k.mad.lo.u32(bRow, expert, shape.nBlocks, bRow);
    k.mad.wide.u32(bPointer, bRow, rowBytes, sources.bScale);

    const left = k.reg('u32', 'blocksLeft');
    const more = k.reg('pred', 'more');
    const kLoop = k.label('scale_k');
    k.mov.u32(left, shape.kBlocks);
    k.place(kLoop);
    const parity = k.reg('u32');
    k.xor.b32(parity, ring.phase, 1);
    waitBarrier(k, barrierOf(k, shared.empty, ring), parity, 'empty');
    const slot = k.reg('u32', 'slot');
    k.mad.lo.u32(slot, ring.stage, shape.scaleStageBytes, slots);
    const copy = k.cp.async.ca.shared_cta.global;
    sizes.forEach((size, i) => copy(at(slot, 128 * i), at(aPointer, 32 * i * rowBytes), 4, size));
    k.when(hasWeightScale, () => copy(at(slot, 4 * bm), at(bPointer), 4));
    // Arrives when this lane's copies have landed; noinc: these arrivals are part of the barrier's count.
    k.cp.async.mbarrier.arrive.noinc.shared_cta.b64(at(barrierOf(k, shared.full, ring)));
    advanceRing(k, ring, stages);
    k.add.u64(aPointer, aPointer, 4);
    k.add.u64(bPointer, bPointer, 4);
    k.sub.u32(left, left, 1);
    k.setp.ne.u32(more, left, 0);
    k.when(more, () => k.bra(kLoop));
  });
  k.cp.async.wait_all();
}

/** Rows of padding count as rows that do not exist: `exist[i]` is about row first + 32 · i. */
function dropPadding(k: Kernel, tokenOf: Reg<'u64'>, first: Reg<'u32'>, exist: readonly Reg<'pred'>[]): void {
  const pointer = k.reg('u64', 'tokenPointer');
  k.mad.wide.u32(pointer, first, 4, tokenOf);
  const tokens = exist.map((exists, i) => {
    const token = k.reg('s32', 'token');
    k.mov.s32(token, -1);
    k.when(exists, () => k.ld.global.s32(token, at(pointer, 128 * i)));
    return token;
  });
  // All loads are under way before the first is looked at.
  exist.forEach((exists, i) => k.setp.ge.s32(exists, tokens[i]!, 0));
}
