// What both simulators tell, and the sums that follow from when each op ran.
import { isCompute, type ComputeOp, type RankProgram } from '../../../ir/schedule.ts';

/** How many there are from `time` on. */
export interface Level {
  readonly time: number;
  readonly count: number;
}

export interface OpTime {
  readonly op: ComputeOp;
  /** In the rank's program. */
  readonly index: number;
  readonly start: number;
  readonly end: number;
}

/** All times are in the unit of the costs. */
export interface RankTimes {
  /** The compute ops in the order of the program. */
  readonly ops: readonly OpTime[];
  /** From the start of the first compute op to the end of the last. */
  readonly start: number;
  readonly end: number;
  readonly busy: number;
  /** The makespan of all ranks less what this one is busy. */
  readonly bubble: number;
  /** The bubble before the first op, between ops, and after the last. */
  readonly idle: { readonly before: number; readonly between: number; readonly after: number };
  /** Chunks between the start of their forward and the end of their backward or of their weights. */
  readonly activations: readonly Level[];
  readonly peakActivations: number;
  /** Chunks between the end of their backward_input and the start of their weights. */
  readonly deferredWeights: readonly Level[];
  readonly peakDeferredWeights: number;
}

export interface Simulation<Rank extends RankTimes = RankTimes> {
  readonly makespan: number;
  readonly ranks: readonly Rank[];
}

/** The compute ops of a rank with their times; `timeOf` is asked with an op's place in the program. */
export function timesOf(
  program: RankProgram,
  timeOf: (index: number) => { readonly start: number; readonly end: number },
): OpTime[] {
  const times: OpTime[] = [];
  for (const [index, op] of program.ops.entries())
    if (isCompute(op)) {
      const { start, end } = timeOf(index);
      times.push({ op, index, start, end });
    }
  return times;
}

/** Adds what follows from the times of a rank's ops; `busy` as the caller measures it. */
export function rankTimes(ops: readonly OpTime[], busy: number, makespan: number): RankTimes {
  let start = Infinity;
  let end = 0;
  for (const t of ops) {
    start = Math.min(start, t.start);
    end = Math.max(end, t.end);
  }
  // A rank without work idles before work that never comes.
  if (ops.length === 0) start = end = makespan;
  const [before, after, bubble] = [start, makespan - end, makespan - busy];
  const activations = levels(ops, heldFrom, heldTo);
  const deferred = levels(ops, deferredFrom, deferredTo);
  return {
    ops,
    start,
    end,
    busy,
    bubble,
    idle: { before, between: bubble - before - after, after },
    activations: activations.levels,
    peakActivations: activations.peak,
    deferredWeights: deferred.levels,
    peakDeferredWeights: deferred.peak,
  };
}

const heldFrom = ({ op, start }: OpTime): number | null =>
  op.op === 'forward' || op.op === 'overlap' ? start : null;
const heldTo = ({ op, end }: OpTime): number | null =>
  op.op === 'backward' || op.op === 'overlap' || op.op === 'weights' ? end : null;
const deferredFrom = ({ op, end }: OpTime): number | null => (op.op === 'backward_input' ? end : null);
const deferredTo = ({ op, start }: OpTime): number | null => (op.op === 'weights' ? start : null);

/** Counts what ops begin and end to hold. At equal times the order of the program decides: what ends frees the next. */
function levels(
  ops: readonly OpTime[],
  from: (t: OpTime) => number | null,
  to: (t: OpTime) => number | null,
): { levels: Level[]; peak: number } {
  const changes: { time: number; by: number }[] = [];
  for (const t of ops) {
    const [begins, ends] = [from(t), to(t)];
    if (begins !== null) changes.push({ time: begins, by: 1 });
    if (ends !== null) changes.push({ time: ends, by: -1 });
  }
  changes.sort((a, b) => a.time - b.time);
  const levels: Level[] = [];
  let count = 0;
  let peak = 0;
  for (const { time, by } of changes) {
    count += by;
    peak = Math.max(peak, count);
    if (levels.at(-1)?.time === time) levels.pop();
    levels.push({ time, count });
  }
  return { levels, peak };
}
