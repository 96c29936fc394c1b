// What a generator of schedules is. It says what it takes, where stages lie, who does what in which order, and what its
// authors promise of it; everything else (phases, verification, simulation, pictures) knows no generator.
import type { ScheduleOp } from '../../ir/schedule.ts';

/** Streaming multiprocessors of the H800: those of an H100 SXM (NVIDIA H100 Tensor Core GPU Architecture, table 1). */
export const h800Sms = 132;

/** Durations of chunk operations, in any one unit. */
export interface OpCosts {
  readonly forward: number;
  /** Inputs and weights together. */
  readonly backward: number;
  readonly backwardInput: number;
  readonly weights: number;
  /** A forward and a backward chunk overlapped. */
  readonly overlap: number;
}

export interface Scheduler {
  /** As users and the IR call it. */
  readonly name: string;
  /** One line for help texts. */
  readonly doc: string;
  /** Why these sizes cannot be scheduled, as a rule with the numbers and what to do; null when they can. */
  refuse(ranks: number, microBatches: number): { readonly rule: string; readonly fix: string } | null;
  /** The stage of each direction on a rank. */
  stagesOf(rank: number, ranks: number): readonly number[];
  /** What a rank does in order. Only for sizes that are not refused. */
  opsOf(rank: number, ranks: number, microBatches: number): readonly ScheduleOp[];
  /** Chunks that a rank holds between their forward and the end of their backward, at most. */
  liveActivations(ranks: number): number;
  /** Idle time of every rank by the paper's formula. */
  bubble(ranks: number, costs: OpCosts): number;
}
