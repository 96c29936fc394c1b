// The math warpgroups: per K block four chained wgmmas into fresh partial sums, then promotion, one FFMA per element
// with the block's scale, into FP32 accumulators. Hopper's FP8 tensor cores keep about 14 bits while accumulating, which
// is why sums leave them every 128 of K. One warpgroup promotes while the other's wgmmas run.
import type { Kernel } from '../../ptx/builder.ts';
import { at, sink, type Reg } from '../../ptx/operands.ts';
import { emitStore, type StoreContext } from './epilogue.ts';
import { blockK, descriptorHigh, descriptorLowBase, descriptorStep, stepK, waveRows } from './layout.ts';
import type { Fp8GemmShape } from './plan.ts';
import { advanceRing, barrierOf, startRing, waitBarrier } from './ring.ts';
import type { MathThread, SharedRegisters } from './roles.ts';
import { forEachTile, type SchedulerRegisters } from './scheduler.ts';

/** The whole life of a math warpgroup: tiles, K blocks, promotion, epilogue. */
export function emitMath(
  k: Kernel,
  shape: Fp8GemmShape,
  scheduler: SchedulerRegisters,
  shared: SharedRegisters,
  who: MathThread,
  outMap: Reg<'u64'>,
): void {
  const { bn, stages } = shape.plan.tile;
  const groupRows = waveRows * shape.waves;
  const ring = startRing(k);
  const descriptors = descriptorBases(k, shape, shared, who);
  const scaleBase = scaleAddress(k, shape, shared, who);
  const isLaneZero = k.reg('pred', 'isLaneZero');
  k.setp.eq.u32(isLaneZero, who.lane, 0);
  const never = k.reg('pred', 'never');
  const always = k.reg('pred', 'always');
  k.setp.ne.u32(never, 0, 0);
  k.setp.eq.u32(always, 0, 0);
  const store: StoreContext = { shape, who, outMap, out: shared.out, groupRows };
  const epilogue = emitStore(k, store);
  const accumulators = Array.from({ length: shape.waves }, () => k.regs('f32', bn / 2, 'acc'));
  const partial = k.regs('f32', bn / 2, 'part');

  forEachTile(k, shape, scheduler, 'math', (tile) => {
    for (const wave of accumulators) for (const r of wave) k.mov.f32(r, 0);
    const left = k.reg('u32', 'blocksLeft');
    const more = k.reg('pred', 'more');
    const kLoop = k.label('math_k');
    k.mov.u32(left, shape.kBlocks);
    k.place(kLoop);
    waitBarrier(k, barrierOf(k, shared.full, ring), ring.phase, 'full');
    const scales = loadScales(k, shape, scaleBase, ring.stage);
    const a = k.reg('u32', 'descA');
    const b = k.reg('u32', 'descB');
    k.mad.lo.u32(a, ring.stage, shape.aStageBytes >> 4, descriptors.a);
    k.mad.lo.u32(b, ring.stage, shape.bStageBytes >> 4, descriptors.b);
    accumulators.forEach((sums, wave) => {
      k.wgmma.fence.sync.aligned();
      for (let step = 0; step < blockK / stepK; step++) {
        const aStep = descriptor(k, a, step * descriptorStep + ((wave * waveRows * blockK) >> 4));
        const bStep = descriptor(k, b, step * descriptorStep);
        const scaleD = step === 0 ? never : always;
        const shapeName = `m64n${bn}k32` as 'm64n64k32';
        k.wgmma.mma_async.sync.aligned[shapeName].f32.e4m3.e4m3(partial, aStep, bStep, scaleD, 1, 1);
      }
      k.wgmma.commit_group.sync.aligned();
      const factors = scaleFactors(k, scales.rows[wave]!, scales.columns);
      k.wgmma.wait_group.sync.aligned(0);
      if (wave === shape.waves - 1) {
        // The slot has been read: scales into registers, tiles by the tensor core. The other lanes' loads are ordered
        // before lane 0's arrival by the warp barrier.
        k.bar.warp.sync(0xffffffff);
        const empty = barrierOf(k, shared.empty, ring);
        k.when(isLaneZero, () => k.mbarrier.arrive.shared_cta.b64(sink, at(empty)));
      }
      sums.forEach((sum, i) => {
        const unit = Math.floor((8 * (i >> 2)) / shape.scaleUnit);
        k.fma.rn.f32(sum, partial[i]!, factors[(i >> 1) & 1]![unit]!, sum);
      });
    });
    advanceRing(k, ring, stages);
    k.sub.u32(left, left, 1);
    k.setp.ne.u32(more, left, 0);
    k.when(more, () => k.bra(kLoop));
    if (scheduler.tokenOf) accumulators.forEach((sums, wave) => clearPadding(k, sums, scales.rows[wave]!));
    epilogue.tile(accumulators, tile);
  });
  epilogue.finish();
}

/** Rows whose scale is 0 are padding: 0 even where 0 times what stands there is not. */
function clearPadding(
  k: Kernel,
  sums: readonly Reg<'f32'>[],
  scales: readonly [Reg<'f32'>, Reg<'f32'>],
): void {
  const padding = scales.map((scale) => {
    const p = k.reg('pred', 'padding');
    k.setp.eq.f32(p, scale, 0);
    return p;
  });
  sums.forEach((sum, i) => k.selp.f32(sum, 0, sum, padding[(i >> 1) & 1]!));
}

/** Low words of the descriptors of this warpgroup's rows of A and of B, at slot 0. */
function descriptorBases(
  k: Kernel,
  shape: Fp8GemmShape,
  shared: SharedRegisters,
  who: MathThread,
): { a: Reg<'u32'>; b: Reg<'u32'> } {
  const a = k.reg('u32', 'descBaseA');
  const b = k.reg('u32', 'descBaseB');
  k.mad.lo.u32(a, who.warpgroup, waveRows * shape.waves * blockK, shared.a);
  // prettier-ignore
  for (const [word, from] of [[a, a], [b, shared.b]] as const) {
    // Shared addresses carry the CTA's rank above bit 18; descriptors hold the offset only.
    k.and.b32(word, from, 0x3ffff);
    k.shr.u32(word, word, 4);
    k.or.b32(word, word, descriptorLowBase);
  }
  return { a, b };
}

/** Steps and waves only move the start address: no carry into other fields, because tiles end below 256 KiB. */
function descriptor(k: Kernel, low: Reg<'u32'>, offset: number): Reg<'b64'> {
  const word = k.reg('u32');
  const whole = k.reg('b64', 'desc');
  k.add.u32(word, low, offset);
  const high = k.reg('u32');
  k.mov.u32(high, descriptorHigh);
  k.mov.b64(whole, [word, high]);
  return whole;
}

/** Address in slot 0 of the scale of this thread's first row: 64-row wave, 16-row warp, row lane / 4. */
function scaleAddress(
  k: Kernel,
  shape: Fp8GemmShape,
  shared: SharedRegisters,
  who: MathThread,
): { rows: Reg<'u32'>; columns: Reg<'u32'> } {
  const rows = k.reg('u32', 'rowScales');
  const warp = k.reg('u32');
  const row = k.reg('u32');
  k.shr.u32(warp, who.thread, 5);
  k.shr.u32(row, who.lane, 2);
  k.mad.lo.u32(row, warp, 16, row);
  k.mad.lo.u32(row, who.warpgroup, waveRows * shape.waves, row);
  k.mad.lo.u32(rows, row, 4, shared.scales);
  return { rows, columns: shared.scales };
}

interface Scales {
  /** Per wave the scales of rows g and g + 8. */
  readonly rows: readonly (readonly [Reg<'f32'>, Reg<'f32'>])[];
  /** One per unit of columns. */
  readonly columns: readonly Reg<'f32'>[];
}

function loadScales(
  k: Kernel,
  shape: Fp8GemmShape,
  base: { readonly rows: Reg<'u32'>; readonly columns: Reg<'u32'> },
  stage: Reg<'u32'>,
): Scales {
  const rowSlot = k.reg('u32');
  const columnSlot = k.reg('u32');
  k.mad.lo.u32(rowSlot, stage, shape.scaleStageBytes, base.rows);
  k.mad.lo.u32(columnSlot, stage, shape.scaleStageBytes, base.columns);
  const rows = Array.from({ length: shape.waves }, (_, wave) => {
    const pair: [Reg<'f32'>, Reg<'f32'>] = [k.reg('f32', 'rowScale'), k.reg('f32', 'rowScale')];
    pair.forEach((r, half) => k.ld.shared.f32(r, at(rowSlot, 4 * (wave * waveRows + 8 * half))));
    return pair;
  });
  const columns = k.regs('f32', shape.scaleUnits, 'columnScale');
  const from = 4 * shape.plan.tile.bm;
  for (let u = 0; u < columns.length;) {
    const remaining = columns.length - u;
    const width = remaining >= 4 ? 4 : remaining >= 2 ? 2 : 1;
    const part = columns.slice(u, u + width);
    if (width === 4) k.ld.shared.v4.f32(part, at(columnSlot, from + 4 * u));
    else if (width === 2) k.ld.shared.v2.f32(part, at(columnSlot, from + 4 * u));
    else k.ld.shared.f32(part[0]!, at(columnSlot, from + 4 * u));
    u += width;
  }
  return { rows, columns };
}

/** factors[half][unit]: what a partial sum of row g + 8·half and a column of that unit is multiplied by. */
const scaleFactors = (
  k: Kernel,
  rows: readonly [Reg<'f32'>, Reg<'f32'>],
  columns: readonly Reg<'f32'>[],
): Reg<'f32'>[][] =>
  rows.map((row) =>
    columns.map((column) => {
      const factor = k.reg('f32', 'factor');
      k.mul.f32(factor, row, column);
      return factor;
    }),
  );
