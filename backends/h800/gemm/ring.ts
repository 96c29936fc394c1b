// The shared-memory ring between producers and math warps: `stages` slots, each with a full and an empty mbarrier.
// A role walks it with two registers, the slot and a phase bit that flips at every wrap-around.
import type { Kernel } from '../../ptx/builder.ts';
import { at, type Reg } from '../../ptx/operands.ts';

export interface RingCursor {
  /** Current slot, 0..stages-1. */
  readonly stage: Reg<'u32'>;
  /** Parity of the current pass over the ring. */
  readonly phase: Reg<'u32'>;
}

/** Starts a walk at slot 0 of pass 0. Every role keeps its own cursor; they advance in step, once per K block. */
export function startRing(k: Kernel): RingCursor {
  const stage = k.reg('u32', 'stage');
  const phase = k.reg('u32', 'phase');
  k.mov.u32(stage, 0);
  k.mov.u32(phase, 0);
  return { stage, phase };
}

/** stage = (stage + 1) mod stages; the phase flips when it wraps. */
export function advanceRing(k: Kernel, { stage, phase }: RingCursor, stages: number): void {
  const wraps = k.reg('pred', 'wraps');
  k.add.u32(stage, stage, 1);
  k.setp.eq.u32(wraps, stage, stages);
  k.selp.u32(stage, 0, stage, wraps);
  const flip = k.reg('u32', 'flip');
  k.selp.u32(flip, 1, 0, wraps);
  k.xor.b32(phase, phase, flip);
}

/** The address of the current slot's barrier in an array of barriers. */
export function barrierOf(k: Kernel, barriers: Reg<'u32'>, { stage }: RingCursor): Reg<'u32'> {
  const address = k.reg('u32', 'barrier');
  k.mad.lo.u32(address, stage, 8, barriers);
  return address;
}

/**
 * Waits until the phase of `parity` has completed. `try_wait` may give up early by itself, hence the loop.
 * Consumers wait on full barriers with their phase; producers wait on empty barriers with the opposite one, which a
 * fresh barrier already satisfies: the first pass over the ring never waits.
 */
export function waitBarrier(k: Kernel, barrier: Reg<'u32'>, parity: Reg<'u32'>, hint: string): void {
  const done = k.reg('pred', 'done');
  const again = k.label(`wait_${hint}`);
  k.place(again);
  k.mbarrier.try_wait.parity.shared_cta.b64(done, at(barrier), parity);
  k.unless(done, () => k.bra(again));
}
