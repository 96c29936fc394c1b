// One overlapped pair of chunks alone: what a rank does most of the time in a long step, and what DeepSeek published a
// profile of.
import type { Schedule } from '../../../ir/schedule.ts';
import type { PhaseCosts } from '../phase-costs.ts';
import { run, TaskGraph } from './engine.ts';
import { Expander } from './expand.ts';
import type { PhaseEvent } from './phases.ts';
import { streamTimes, type RankStreams, type Slice } from './streams.ts';

export interface PairTimes extends Pick<RankStreams, 'streams' | 'exposed' | 'noKernel'> {
  /** From the start of the first phase to the end of the last. */
  readonly span: number;
  readonly events: readonly Omit<PhaseEvent, 'chunk'>[];
}

/**
 * A forward of one stage and a backward of another, overlapped in the schedule's order, with all that they take there from
 * the start, in microseconds. Throws a DiagnosticError where an order, a layer or a cost is missing.
 */
export function simulatePair(
  schedule: Pick<Schedule, 'layers' | 'orders' | 'stages' | 'span'>,
  costs: PhaseCosts,
  { forward = 0, backward = 0 }: { readonly forward?: number; readonly backward?: number } = {},
): PairTimes {
  const { steps } = new Expander(schedule, costs).expandStages('overlap', forward, backward);
  const graph = new TaskGraph(steps.length, 2);
  for (const { stream, duration, waits } of steps) {
    graph.add(stream === 'compute' ? 0 : 1, duration);
    for (const at of waits) graph.wait(at);
  }
  const times = run(graph);
  if (!('end' in times)) throw new Error('the phases of an overlapped pair wait for each other');
  const events = steps.map(({ phase, part, stream, layer }, i) => ({
    phase,
    part,
    stream,
    layer,
    start: times.start[i],
    end: times.end[i],
  }));
  const slices: Record<'compute' | 'comm', Slice[]> = { compute: [], comm: [] };
  for (const [i, s] of steps.entries())
    slices[s.stream].push({ start: times.start[i], end: times.end[i], busy: s.busy });
  const span = times.end.reduce((most, t) => Math.max(most, t), 0);
  const { streams, exposed, noKernel } = streamTimes(slices, span);
  return { span, streams, exposed, noKernel, events };
}
