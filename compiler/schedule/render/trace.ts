// A simulated schedule as trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing open: a process for each
// rank; its chunk operations, and where phases were simulated its two streams; arrows for what goes from rank to rank;
// a counter of live activations. Format: "Trace Event Format" of the Chromium project, JSON object form.
import { showChunk, showPhase, type Chunk, type ComputeOp, type Schedule } from '../../../ir/schedule.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';
import { flowOf, type Place } from '../flow.ts';
import type { PhaseEvent, RankTimes, Simulation } from '../simulate.ts';
import { drawn, halvesOf, round, showStages } from './figures.ts';

export interface TraceOptions {
  /** Microseconds in a unit of the costs. */
  readonly microseconds: number;
  /** Said in the trace: what the times are. */
  readonly note: string;
  /** By rank, where phases were simulated. */
  readonly phases?: readonly (readonly PhaseEvent[])[];
}

type Args = Readonly<Record<string, number | string>>;

/** One event; `ts` and `dur` in microseconds. */
interface TraceEvent {
  readonly ph: 'M' | 'X' | 's' | 'f' | 'C';
  readonly name: string;
  readonly pid: number;
  readonly tid?: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly id?: number;
  readonly bp?: 'e';
  readonly args?: Args;
}

// Threads of a rank's process, shown in this order.
const threads = { operations: 0, compute: 1, comm: 2 } as const;

/** The trace as JSON text, one event a line, ending with a line break. */
export function renderTrace(schedule: Schedule, simulation: Simulation, options: TraceOptions): string {
  // Three decimals are nanoseconds, Perfetto's finest.
  const time = (t: number): number => Math.round(t * options.microseconds * 1e3) / 1e3;
  const events = simulation.ranks.flatMap((times, rank): readonly TraceEvent[] => [
    ...namesOf(schedule, rank, options),
    ...drawn(times.ops).map((t) =>
      slice(rank, threads.operations, [t.from, t.to], printScheduleOp(t.op), argsOf(t.op), time),
    ),
    ...(options.phases?.[rank] ?? []).map((p) =>
      slice(rank, threads[p.stream], [p.start, p.end], phaseName(p), phaseArgs(p), time),
    ),
    ...countersOf(rank, times, time),
  ]);
  return [
    `{"displayTimeUnit":"ms","otherData":${JSON.stringify({ schedule: schedule.name, kind: schedule.kind, note: options.note })},"traceEvents":[`,
    [...events, ...arrowsOf(schedule, simulation, options.phases, time)]
      .map((e) => JSON.stringify(e))
      .join(',\n'),
    ']}\n',
  ].join('\n');
}

function namesOf(schedule: Schedule, rank: number, { phases }: TraceOptions): readonly TraceEvent[] {
  const used = phases ? (['operations', 'compute', 'comm'] as const) : (['operations'] as const);
  return [
    {
      ph: 'M',
      name: 'process_name',
      pid: rank,
      args: { name: `rank ${rank} (${showStages(schedule, rank)})` },
    },
    { ph: 'M', name: 'process_sort_index', pid: rank, args: { sort_index: rank } },
    ...used.flatMap((thread): readonly TraceEvent[] => [
      { ph: 'M', name: 'thread_name', pid: rank, tid: threads[thread], args: { name: thread } },
      {
        ph: 'M',
        name: 'thread_sort_index',
        pid: rank,
        tid: threads[thread],
        args: { sort_index: threads[thread] },
      },
    ]),
  ];
}

function slice(
  pid: number,
  tid: number,
  [from, to]: readonly [number, number],
  name: string,
  args: Args,
  time: (t: number) => number,
): TraceEvent {
  const ts = time(from);
  // The difference of rounded ends: what follows without a gap must not seem to overlap.
  return {
    ph: 'X',
    name,
    cat: tid === 0 ? 'operation' : 'phase',
    pid,
    tid,
    ts,
    dur: round(time(to) - ts),
    args,
  };
}

const argsOf = (op: ComputeOp): Args =>
  op.op === 'overlap'
    ? {
        kind: op.op,
        direction: op.forward.direction,
        micro_batch: op.forward.microBatch,
        backward_direction: op.backward.direction,
        backward_micro_batch: op.backward.microBatch,
      }
    : { kind: op.op, direction: op.chunk.direction, micro_batch: op.chunk.microBatch };

const phaseName = ({ phase, part }: PhaseEvent): string => (part ? showPhase({ phase, part }) : phase);

const phaseArgs = ({ chunk, layer, part }: PhaseEvent): Args => ({
  ...(chunk && { direction: chunk.direction, micro_batch: chunk.microBatch }),
  ...(layer !== null && { layer }),
  ...(part && { part }),
});

const countersOf = (
  pid: number,
  { activations }: RankTimes,
  time: (t: number) => number,
): readonly TraceEvent[] =>
  activations.map((level) => ({
    ph: 'C',
    name: 'live activations',
    pid,
    ts: time(level.time),
    args: { chunks: level.count },
  }));

/** A slice that works on a chunk forward or backward: an operation's, or a phase's where phases were simulated. */
interface Work {
  readonly way: 'forward' | 'backward';
  readonly chunk: Chunk;
  readonly tid: number;
  readonly from: number;
  readonly to: number;
}

function workOf({ ops }: RankTimes, phases: readonly PhaseEvent[] | undefined): readonly Work[] {
  const work: Work[] = [];
  for (const { chunk, part, stream, start, end } of phases ?? [])
    // Gradients of weights stay where they are.
    if (chunk && part && part !== 'W')
      work.push({
        way: part === 'F' ? 'forward' : 'backward',
        chunk,
        tid: threads[stream],
        from: start,
        to: end,
      });
  if (phases) return work;
  for (const { op, from, to } of drawn(ops))
    for (const { kind, chunk } of halvesOf(op))
      if (kind !== 'weights')
        work.push({
          way: kind === 'forward' ? 'forward' : 'backward',
          chunk,
          tid: threads.operations,
          from,
          to,
        });
  return work;
}

/**
 * An arrow for every transfer: from the last slice that makes activations to the first that takes them on the next
 * stage's rank, and the same for gradients and the rank of the stage before.
 */
function arrowsOf(
  schedule: Schedule,
  simulation: Simulation,
  phases: TraceOptions['phases'],
  time: (t: number) => number,
): readonly TraceEvent[] {
  const flow = flowOf(schedule);
  if (typeof flow === 'string') return [];
  const keyOf = (way: string, place: Place, microBatch: number): string =>
    `${way} ${place.rank} ${place.direction} ${microBatch}`;
  const first = new Map<string, Work>();
  const last = new Map<string, Work & { readonly rank: number }>();
  for (const [rank, times] of simulation.ranks.entries())
    for (const work of workOf(times, phases?.[rank])) {
      const key = keyOf(work.way, { rank, direction: work.chunk.direction }, work.chunk.microBatch);
      if (work.from < (first.get(key)?.from ?? Infinity)) first.set(key, work);
      if (work.to >= (last.get(key)?.to ?? 0)) last.set(key, { ...work, rank });
    }
  const events: TraceEvent[] = [];
  let id = 0;
  for (const { rank, way, chunk, ...maker } of last.values()) {
    const place = { rank, direction: chunk.direction };
    const to = way === 'forward' ? flow.next(place) : flow.previous(place);
    const taker = to ? first.get(keyOf(way, to, chunk.microBatch)) : undefined;
    if (!to || !taker || to.rank === rank) continue;
    id++;
    const both = {
      name: `${way === 'forward' ? 'activations' : 'gradients'} ${showChunk(chunk)}`,
      cat: 'transfer',
      id,
    };
    // An arrow belongs to the slice around its end; the very end of a slice is already outside of it.
    const leaves = maker.to - (maker.to - maker.from) / 1024;
    events.push({ ph: 's', ...both, pid: rank, tid: maker.tid, ts: time(leaves) });
    events.push({ ph: 'f', ...both, pid: to.rank, tid: taker.tid, ts: time(taker.from), bp: 'e' });
  }
  return events;
}
