// For tests: the schedules recorded from DeepSeek's code, with the times that they were simulated to take; schedules from
// tokens, and layers and costs for them.
import { readFileSync } from 'node:fs';
import { noSpan } from '../../../ir/span.ts';
import type { LayerKind, Schedule, StageLayers } from '../../../ir/schedule.ts';
import type { PhaseCosts } from '../phase-costs.ts';
import { moeLayer, neededOrders, orderFor } from '../phases.ts';
import type { OpCosts } from '../scheduler.ts';
import { fromTokens } from '../tokens.ts';

interface RecordedTimes {
  readonly makespan: number;
  readonly busy: readonly number[];
  readonly bubble: readonly number[];
  readonly first_start: readonly number[];
  readonly end: readonly number[];
  readonly start_times_of_compute_ops?: readonly (readonly number[])[];
}

export interface RecordedCase {
  readonly schedule: 'DualPipe' | 'DualPipeV';
  readonly ranks: number;
  readonly num_chunks: number;
  readonly pp_stages: number;
  readonly ops: readonly string[];
  readonly simulation: Readonly<
    Record<
      string,
      {
        readonly cost: { F: number; B: number; I: number; W: number; FB: number };
        readonly async: RecordedTimes;
        readonly blocking: RecordedTimes;
      }
    >
  >;
}

export const recordedCases: Readonly<Record<string, RecordedCase>> = JSON.parse(
  readFileSync(new URL('../../../test/golden/dualpipe_schedules.json', import.meta.url), 'utf8'),
);

export const opCosts = (c: { F: number; B: number; I: number; W: number; FB: number }): OpCosts => ({
  forward: c.F,
  backward: c.B,
  backwardInput: c.I,
  weights: c.W,
  overlap: c.FB,
});

/** A schedule without layers from tokens, one text for each rank. */
export const handMade = (
  stages: readonly (readonly number[])[],
  microBatches: number,
  tokens: readonly string[],
): Schedule => ({
  name: 'test',
  kind: 'test',
  microBatches,
  sms: { compute: 112, comm: 20 },
  bounds: { activations: 99, stages: stages[0].length },
  layers: [],
  stages: [],
  orders: [],
  programs: tokens.map((t, rank) => ({ stages: stages[rank], ops: fromTokens(t), span: noSpan })),
  span: noSpan,
});

export const recordedSchedule = (c: RecordedCase): Schedule =>
  handMade(
    c.ops.map((_, rank) => [rank, c.pp_stages - 1 - rank]),
    c.num_chunks,
    c.ops,
  );

/** A layer that communicates nothing. */
export const dense: LayerKind = {
  name: 'dense',
  phases: [{ name: 'all', stream: 'compute', weights: true }],
  span: noSpan,
};
/** Each phase one kernel. */
export const costsOf = (phases: Record<string, number>, transfer = 0, launchGap = 0): PhaseCosts => ({
  unit: 'us',
  source: 'a test',
  launchGap,
  transfer,
  phases: Object.fromEntries(Object.entries(phases).map(([name, busy]) => [name, { busy, kernels: 1 }])),
});
/** Gives a schedule stages of these layers, and the orders for them. */
export function withLayers(schedule: Schedule, stages: readonly StageLayers['layers'][]): Schedule {
  const listed = stages.map((layers): StageLayers => ({ layers, span: noSpan }));
  const kinds = [moeLayer, dense];
  const orders = neededOrders(schedule.programs, listed).map((o) =>
    orderFor(
      o.op,
      o.layers.map((name) => kinds.find((k) => k.name === name)!),
    ),
  );
  return { ...schedule, layers: kinds, stages: listed, orders };
}
/** So many layers of one kind. */
export const one = (layer: string, count = 1): StageLayers['layers'] => [{ layer, count }];
