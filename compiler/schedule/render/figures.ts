// Words and figures that pictures, traces and tables of a simulated schedule share.
import type { Chunk, ComputeOp, Schedule } from '../../../ir/schedule.ts';
import type { OpTime } from '../simulate.ts';

/** Without the tail that binary fractions leave (0.30000000000000004): nine decimals are far below any cost. */
export const round = (x: number): number => Math.round(x * 1e9) / 1e9;

/** What times are counted in: a time is shown as so many `name`, each of `size` units of the costs. */
export interface TimeUnit {
  /** Empty for costs that have no unit. */
  readonly name: string;
  readonly size: number;
}

export const costUnit: TimeUnit = { name: '', size: 1 };
/** Of costs in microseconds. */
export const milliseconds: TimeUnit = { name: 'ms', size: 1000 };

/** A figure for people: at most three decimals, none that are zero. */
export const show = (x: number): string => String(Math.round(x * 1e3) / 1e3);

/** A time with its unit. */
export const showTime = (t: number, { name, size }: TimeUnit): string =>
  name === '' ? show(t / size) : `${show(t / size)} ${name}`;

/** Times of all ranks in a few words: `6 ms on every rank`, or `6 ms to 8 ms by rank`. */
export function showSpread(values: readonly number[], unit: TimeUnit = costUnit): string {
  const least = showTime(
    values.reduce((a, b) => Math.min(a, b), Infinity),
    unit,
  );
  const most = showTime(
    values.reduce((a, b) => Math.max(a, b), -Infinity),
    unit,
  );
  return least === most ? `${least} on every rank` : `${least} to ${most} by rank`;
}

/** `1 rank`, `2 ranks`. */
export const count = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;

/** What an op does with one chunk: one of the four kinds, in one colour. */
export interface Half {
  readonly kind: 'forward' | 'backward' | 'backward_input' | 'weights';
  readonly chunk: Chunk;
}

/** One half, or the two of an overlapped pair, forward first. */
export const halvesOf = (op: ComputeOp): readonly Half[] =>
  op.op === 'overlap'
    ? [
        { kind: 'forward', chunk: op.forward },
        { kind: 'backward', chunk: op.backward },
      ]
    : [{ kind: op.op, chunk: op.chunk }];

/** `stages 0, 7`, of a rank. */
export function showStages(schedule: Schedule, rank: number): string {
  const { stages } = schedule.programs[rank];
  return `${stages.length === 1 ? 'stage' : 'stages'} ${stages.join(', ')}`;
}

/** `dualpipe, 8 ranks, 20 micro-batches`. */
export const showSizes = ({ kind, programs, microBatches }: Schedule): string =>
  `${kind}, ${count(programs.length, 'rank')}, ${count(microBatches, 'micro-batch', 'micro-batches')}`;

/** An op with the stretch of its rank's row that it is drawn in. */
export interface DrawnOp extends OpTime {
  readonly from: number;
  readonly to: number;
}

/**
 * Where ops are drawn: at their times. Simulated by phases an op can begin on one stream while the one before still ends
 * on the other; then it is drawn from that one's end, so that boxes never lie over each other.
 */
export function drawn(ops: readonly OpTime[]): readonly DrawnOp[] {
  let free = 0;
  return ops.map((t) => {
    const from = Math.max(t.start, free);
    free = Math.max(from, t.end);
    return { ...t, from, to: free };
  });
}
