// From a generator's name and sizes to a schedule.
import { fail } from '../../ir/diagnostics.ts';
import type { LayerKind, RankProgram, Schedule, StageLayers } from '../../ir/schedule.ts';
import { noSpan, type Span } from '../../ir/span.ts';
import { dualpipe, dualpipev } from './bidirectional.ts';
import { oneForwardOneBackward, zb1p } from './one-way.ts';
import { moeLayer, neededOrders, orderFor } from './phases.ts';
import { h800Sms, type Scheduler } from './scheduler.ts';

export const schedulers: readonly Scheduler[] = [dualpipe, dualpipev, zb1p, oneForwardOneBackward];

/** The generator of that name. Throws a DiagnosticError `schedule/unknown-kind`. */
export function schedulerNamed(name: string): Scheduler {
  return (
    schedulers.find((s) => s.name === name) ??
    fail({
      code: 'schedule/unknown-kind',
      message: `there is no kind of schedule '${name}'`,
      fix: `use one of ${schedulers.map((s) => s.name).join(', ')}`,
    })
  );
}

/** SMs that DeepSeek-V3's training gives to communication (report, section 3.2.2). */
const commSms = 20;

export interface ScheduleRequest {
  readonly ranks: number;
  readonly microBatches: number;
  readonly name?: string;
  /** SMs for communication kernels; the others compute. */
  readonly commSms?: number;
  /** What stages are made of; without a model four layers of routed experts each, as in DeepSeek's profile data. */
  readonly layers?: readonly LayerKind[];
  readonly stages?: readonly StageLayers[];
  readonly span?: Span;
}

/** Stages of a kind of schedule over so many ranks. */
export const stageCount = (kind: Scheduler, ranks: number): number =>
  1 + Math.max(...Array.from({ length: ranks }, (_, rank) => kind.stagesOf(rank, ranks)).flat());

const moeStage: StageLayers = { layers: [{ layer: moeLayer.name, count: 4 }], span: noSpan };

/** Throws a DiagnosticError: `schedule/unknown-kind`, or `schedule/bad-size` with the generator's rule. */
export function makeSchedule(kind: string, request: ScheduleRequest): Schedule {
  const scheduler = schedulerNamed(kind);
  const { ranks, microBatches, span = noSpan } = request;
  const sms = request.commSms ?? commSms;
  const layers = request.layers ?? [moeLayer];
  const refused = scheduler.refuse(ranks, microBatches);
  if (refused) fail({ code: 'schedule/bad-size', message: refused.rule, at: span, fix: refused.fix });
  const programs = Array.from({ length: ranks }, (_, rank): RankProgram => ({
    stages: scheduler.stagesOf(rank, ranks),
    ops: scheduler.opsOf(rank, ranks, microBatches),
    span: noSpan,
  }));
  const stages = request.stages ?? Array.from({ length: stageCount(scheduler, ranks) }, () => moeStage);
  const layerNamed = new Map(layers.map((l) => [l.name, l]));
  return {
    name: request.name ?? 'train',
    kind,
    microBatches,
    sms: { compute: h800Sms - sms, comm: sms },
    bounds: { activations: scheduler.liveActivations(ranks), stages: programs[0].stages.length },
    layers,
    stages,
    orders: neededOrders(programs, stages).map(({ op, layers: names }) =>
      orderFor(
        op,
        names.map((n) => layerNamed.get(n)!),
      ),
    ),
    programs,
    span,
  };
}
