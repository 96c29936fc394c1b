// Ways to spoil a rank's own work: forwards, backwards, weights, and what they hold in memory.
import type { Chunk, Schedule, ScheduleOp } from '../../../ir/schedule.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';
import type { Flow } from '../flow.ts';
import {
  type Corruption,
  type At,
  says,
  choose,
  withOps,
  flow,
  same,
  opsOf,
  workOf,
  without,
  doubled,
  nextOp,
  moved,
  isTransfer,
} from './corrupt.testing.ts';

/** Removes one operation of a kind. */
const dropped =
  (kind: ScheduleOp['op'], other: 'forward' | 'backward'): Corruption =>
  (schedule, pick) => {
    const at = choose(schedule, pick, ({ op }) => op.op === kind);
    if (!at || !('chunk' in at.op)) return null;
    const stays = opsOf(schedule, at.rank)[workOf(schedule, at.rank, other, at.op.chunk)];
    return {
      schedule: without(schedule, at),
      codes: ['missing-op'],
      says: `rank ${at.rank}: ${printScheduleOp(at.op)} is missing`,
      at: stays.span,
    };
  };

/** The only deferred backward of a rank: nothing is done between it and its weights but transfers. */
const isAdjacentWeights = (schedule: Schedule, { rank, index, op }: At): boolean => {
  if (op.op !== 'weights') return false;
  const made = workOf(schedule, rank, 'backward', op.chunk);
  return opsOf(schedule, rank)
    .slice(made + 1, index)
    .every((o) => isTransfer(o) || o.op === 'commit');
};

/** Micro-batch numbers that do not exist. */
const misnumbered =
  (change: (c: Chunk, f: Flow) => Chunk): Corruption =>
  (schedule, pick) => {
    const at = choose(schedule, pick, ({ op }) => op.op === 'forward');
    if (!at || at.op.op !== 'forward') return null;
    const edited = { ...at.op, chunk: change(at.op.chunk, flow(schedule)) };
    return {
      schedule: withOps(schedule, at.rank, (ops) => ops.with(at.index, edited)),
      codes: ['no-such-chunk', 'missing-op'],
      says: `${says(at.rank, edited)}: there is no`,
      at: at.op.span,
    };
  };

export const work: Readonly<Record<string, Corruption>> = {
  droppedForward: dropped('forward', 'backward'),
  droppedBackward: dropped('backward', 'forward'),
  droppedBackwardInput: dropped('backward_input', 'forward'),
  droppedWeights: dropped('weights', 'backward'),

  droppedOverlap(schedule, pick) {
    const at = choose(schedule, pick, ({ op }) => op.op === 'overlap');
    if (!at || at.op.op !== 'overlap') return null;
    const { forward, backward } = at.op;
    const first = forward.direction < backward.direction ? forward : backward;
    const part = first === forward ? 'forward' : 'backward';
    const stays = workOf(schedule, at.rank, part === 'forward' ? 'backward' : 'forward', first);
    return {
      schedule: without(schedule, at),
      codes: ['missing-op', 'missing-op'],
      says: `rank ${at.rank}: ${part} d${first.direction} m${first.microBatch} is missing`,
      at: opsOf(schedule, at.rank)[stays].span,
    };
  },

  doubledForward: doubled('forward', 'duplicate-op'),
  doubledBackward: doubled('backward', 'duplicate-op'),
  doubledBackwardInput: doubled('backward_input', 'duplicate-op'),
  doubledWeights: doubled('weights', 'duplicate-op'),

  /** A full backward leaves no weight gradients to be done. */
  fullBackwardAndWeights(schedule, pick) {
    const at = choose(schedule, pick, ({ op }) => op.op === 'backward_input');
    if (!at || at.op.op !== 'backward_input') return null;
    const { chunk } = at.op;
    const full = { ...at.op, op: 'backward' as const };
    const weights = opsOf(schedule, at.rank).find((o) => o.op === 'weights' && same(o.chunk, chunk))!;
    return {
      schedule: withOps(schedule, at.rank, (ops) => ops.with(at.index, full)),
      // An order for full backwards is there when some rank has one.
      codes: ['duplicate-op', ...(schedule.orders.some((o) => o.op === 'backward') ? [] : ['missing-order'])],
      says: says(at.rank, weights),
      at: weights.span,
      other: at.op.span,
    };
  },

  weightsBeforeTheirBackward(schedule, pick) {
    const at = choose(schedule, pick, (a) => isAdjacentWeights(schedule, a));
    if (!at || at.op.op !== 'weights') return null;
    const made = workOf(schedule, at.rank, 'backward', at.op.chunk);
    return {
      schedule: withOps(schedule, at.rank, (ops) => moved(ops, at.index, made)),
      codes: ['order'],
      says: says(at.rank, at.op),
      at: at.op.span,
      other: opsOf(schedule, at.rank)[made].span,
    };
  },

  weightsOutOfOrder(schedule, pick) {
    const later = ({ rank, index }: At): number =>
      nextOp(opsOf(schedule, rank), index, (o) => o.op === 'weights');
    const at = choose(schedule, pick, (a) => {
      if (a.op.op !== 'weights' || later(a) < 0) return false;
      const next = opsOf(schedule, a.rank)[later(a)];
      return next.op === 'weights' && workOf(schedule, a.rank, 'backward', next.chunk) < a.index;
    });
    if (!at || at.op.op !== 'weights') return null;
    const next = opsOf(schedule, at.rank)[later(at)];
    if (next.op !== 'weights') return null;
    const edited = { ...at.op, chunk: next.chunk };
    const oldest = workOf(schedule, at.rank, 'backward', at.op.chunk);
    const { chunk } = at.op;
    return {
      schedule: withOps(schedule, at.rank, (ops) =>
        ops.with(at.index, edited).with(later(at), { ...next, chunk }),
      ),
      codes: ['fifo'],
      says: `${says(at.rank, edited)} is not the oldest`,
      at: at.op.span,
      other: opsOf(schedule, at.rank)[oldest].span,
    };
  },

  /** On a last stage no transfer comes between the two. */
  backwardBeforeForward(schedule, pick) {
    const f = flow(schedule);
    const at = choose(
      schedule,
      pick,
      ({ rank, op }) =>
        (op.op === 'backward' || op.op === 'backward_input') &&
        f.next({ rank, direction: op.chunk.direction }) === null,
    );
    if (!at || !('chunk' in at.op)) return null;
    const forward = workOf(schedule, at.rank, 'forward', at.op.chunk);
    const order = opsOf(schedule, at.rank)[forward];
    const moves = withOps(schedule, at.rank, (ops) => moved(ops, at.index, forward));
    return {
      schedule: moves,
      codes: ['order'],
      says: says(at.rank, at.op),
      at: at.op.span,
      other: order.span,
    };
  },

  /** Where a rank hands on to itself, only its own order says what comes first. */
  handoffBackwards(schedule, pick) {
    const f = flow(schedule);
    const next = (a: At): number => {
      if (a.op.op !== 'forward') return -1;
      const place = f.next({ rank: a.rank, direction: a.op.chunk.direction });
      if (place?.rank !== a.rank) return -1;
      return workOf(schedule, a.rank, 'forward', { ...a.op.chunk, direction: place.direction });
    };
    const at = choose(schedule, pick, (a) => opsOf(schedule, a.rank)[next(a)]?.op === 'forward');
    if (!at) return null;
    const used = opsOf(schedule, at.rank)[next(at)];
    return {
      schedule: withOps(schedule, at.rank, (ops) => moved(ops, next(at), at.index)),
      codes: ['order'],
      says: says(at.rank, used),
      at: used.span,
      other: at.op.span,
    };
  },

  /** Takes the backward of its own forward, and leaves the other one to where that was. */
  overlapsItself(schedule, pick) {
    const f = flow(schedule);
    // Where a rank hands on to itself the other direction of the chunk would come too late as well.
    const isHandedOn = (rank: number): boolean =>
      schedule.programs[rank].stages.some((_, direction) => f.next({ rank, direction })?.rank === rank);
    const own = ({ rank, op }: At): number =>
      op.op === 'overlap' && !isHandedOn(rank) ? workOf(schedule, rank, 'backward', op.forward) : -1;
    const at = choose(schedule, pick, (a) => opsOf(schedule, a.rank)[own(a)]?.op === 'backward');
    if (!at || at.op.op !== 'overlap') return null;
    const edited = { ...at.op, backward: at.op.forward };
    const put = { ...opsOf(schedule, at.rank)[own(at)], chunk: at.op.backward } as ScheduleOp;
    return {
      schedule: withOps(schedule, at.rank, (ops) => ops.with(at.index, edited).with(own(at), put)),
      codes: ['overlap-itself'],
      more: ['early-send', 'late-receive', 'order'],
      says: `${says(at.rank, edited)}: a chunk's backward needs all of its forward`,
      at: at.op.span,
    };
  },

  misnumberedMicroBatch: misnumbered((c, f) => ({ ...c, microBatch: f.microBatches })),
  misnumberedDirection: misnumbered((c, f) => ({ ...c, direction: f.directions })),

  emptiedProgram(schedule, pick) {
    const rank = Math.round(pick * (schedule.programs.length - 1));
    return {
      schedule: withOps(schedule, rank, () => []),
      codes: ['missing-op'],
      says: `rank ${rank} has no operations`,
      at: schedule.programs[rank].span,
    };
  },

  tooFewActivations(schedule) {
    const activations = schedule.bounds.activations - 1;
    // The first rank to go beyond, by counting.
    for (const [rank, { ops }] of schedule.programs.entries()) {
      let live = 0;
      for (const op of ops) {
        if (op.op === 'forward' || op.op === 'overlap') live++;
        if (live > activations)
          return {
            schedule: { ...schedule, bounds: { ...schedule.bounds, activations } },
            codes: schedule.programs
              .flatMap((p) => (peak(p.ops) > activations ? ['live-activations'] : []))
              .slice(0, 8),
            says: `${says(rank, op)} makes ${live} live chunk`,
            at: op.span,
          };
        if (op.op === 'backward' || op.op === 'weights' || op.op === 'overlap') live--;
      }
    }
    return null;
  },
};

function peak(ops: readonly ScheduleOp[]): number {
  let live = 0;
  let most = 0;
  for (const op of ops) {
    if (op.op === 'forward' || op.op === 'overlap') most = Math.max(most, ++live);
    if (op.op === 'backward' || op.op === 'weights' || op.op === 'overlap') live--;
  }
  return most;
}
