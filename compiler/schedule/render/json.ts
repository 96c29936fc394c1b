// A schedule and its simulation for programs: ops in the one-line notation, times in the unit of the costs.
import type { Schedule } from '../../../ir/schedule.ts';
import type { Simulation, TransferMode } from '../simulate.ts';
import { toTokens } from '../tokens.ts';
import { round } from './figures.ts';
import { hasStreams } from './table.ts';

export interface ScheduleJson {
  /** By rank, in the notation of tokens.ts. */
  readonly ops: readonly string[];
  readonly simulation: {
    readonly makespan: number;
    /** By rank, as all that follow. */
    readonly bubble: readonly number[];
    readonly busy: readonly number[];
    /** The most chunks at a time between the start of their forward and the end of their backward. */
    readonly liveActivations: readonly number[];
    /** Time in which a rank communicates and does not compute; only where phases were simulated. */
    readonly exposedCommunication?: readonly number[];
    readonly transfer: TransferMode;
    /** Of all times: that of the costs, or microseconds. */
    readonly unit: 'cost' | 'us';
  };
}

export function scheduleJson(
  schedule: Schedule,
  { makespan, ranks }: Simulation,
  transfer: TransferMode,
  unit: 'cost' | 'us',
): ScheduleJson {
  return {
    ops: schedule.programs.map((p) => toTokens(p.ops)),
    simulation: {
      makespan: round(makespan),
      bubble: ranks.map((r) => round(r.bubble)),
      busy: ranks.map((r) => round(r.busy)),
      liveActivations: ranks.map((r) => r.peakActivations),
      ...(ranks.every(hasStreams) && { exposedCommunication: ranks.map((r) => round(r.exposed)) }),
      transfer,
      unit,
    },
  };
}

/** As text: an op string a line, so that a difference shows its rank. */
export const renderJson = (...of: Parameters<typeof scheduleJson>): string =>
  `${JSON.stringify(scheduleJson(...of), null, 2)}\n`;
