// Simulation by phases: chunk ops are launched phase by phase on two streams of each rank. A phase starts when its stream is
// free and the events that it waits for have happened; nothing else orders the ops of a rank, so streams run on from one
// chunk op into the next.
//
// A commit's transfers are one phase on the communication stream. `async`: it waits for what it sends and runs then, and
// elsewhere those who take what it sent wait for it; to receive takes no time of a stream. `blocking`: it also waits until the
// batches at the other ends are ready, and the rank's compute stream waits for its end.
import { isCompute, type Chunk, type Part, type Schedule, type Stream } from '../../../ir/schedule.ts';
import type { PhaseCosts } from '../phase-costs.ts';
import { failDeadlock } from './deadlock.ts';
import { run, type Times } from './engine.ts';
import { Expander } from './expand.ts';
import { linksOf } from './links.ts';
import type { TransferMode } from './operations.ts';
import { PhaseGraph } from './phase-graph.ts';
import { rankTimes, timesOf, type RankTimes, type Simulation } from './result.ts';
import { streamTimes, type RankStreams, type Slice } from './streams.ts';

export interface PhaseEvent {
  readonly stream: Stream;
  /** `transfer` for a batch of pipeline transfers: then part, layer and chunk are null. */
  readonly phase: string;
  readonly part: Part | null;
  /** The layer's place in its stage. */
  readonly layer: number | null;
  readonly chunk: Chunk | null;
  readonly start: number;
  readonly end: number;
}

/** `busy` of a rank is the time in which one of its streams is in a phase, its `bubble` the rest of the makespan. */
export interface PhaseRankTimes extends RankTimes, Pick<RankStreams, 'streams' | 'exposed' | 'noKernel'> {
  /** In the order of launches; none unless they are asked for. */
  readonly events: readonly PhaseEvent[];
}

export interface SimulatePhasesOptions {
  readonly costs: PhaseCosts;
  readonly transfer: TransferMode;
  /** Whether to list every phase: millions for long schedules. */
  readonly events?: boolean;
}

/** When every phase of every rank runs, in microseconds. Throws a DiagnosticError for a schedule that cannot proceed. */
export function simulatePhases(
  schedule: Schedule,
  { costs, transfer, events = false }: SimulatePhasesOptions,
): Simulation<PhaseRankTimes> {
  const links = linksOf(schedule);
  const graph = new PhaseGraph(schedule, links, new Expander(schedule, costs), costs.transfer, transfer);
  const times = run(graph.tasks);
  if (!('end' in times))
    failDeadlock(schedule, graph.tasks, times, (task) => {
      const { rank, index } = graph.opOf(task);
      return { rank, index, what: graph.stepName(task) };
    });
  const makespan = times.end.reduce((most, t) => Math.max(most, t), 0);
  return {
    makespan,
    ranks: schedule.programs.map((program, rank) => {
      const ops = timesOf(program, (index) => graph.spanOf(links.firstOp[rank] + index, times));
      const { occupied, ...busy } = streamTimes(slicesOf(graph, rank, times), makespan);
      return {
        ...rankTimes(ops, occupied, makespan),
        ...busy,
        events: events ? eventsOf(schedule, graph, rank, times) : [],
      };
    }),
  };
}

function slicesOf(graph: PhaseGraph, rank: number, { start, end }: Times): Record<Stream, Slice[]> {
  const slices: Record<Stream, Slice[]> = { compute: [], comm: [] };
  const [from, to] = graph.tasksOf(rank);
  for (let task = from; task < to; task++)
    if (graph.isPhase(task))
      slices[graph.streamOf(task)].push({ start: start[task], end: end[task], busy: graph.busy[task] });
  return slices;
}

function eventsOf(schedule: Schedule, graph: PhaseGraph, rank: number, { start, end }: Times): PhaseEvent[] {
  const events: PhaseEvent[] = [];
  const [from, to] = graph.tasksOf(rank);
  for (let task = from; task < to; task++) {
    if (!graph.isPhase(task)) continue;
    const op = schedule.programs[rank].ops[graph.opOf(task).index];
    const step = graph.stepOf(task);
    const chunk = !isCompute(op)
      ? null
      : op.op !== 'overlap'
        ? op.chunk
        : step?.part === 'F'
          ? op.forward
          : op.backward;
    events.push({
      stream: graph.streamOf(task),
      phase: step?.phase ?? 'transfer',
      part: step?.part ?? null,
      layer: step?.layer ?? null,
      chunk,
      start: start[task],
      end: end[task],
    });
  }
  return events;
}
