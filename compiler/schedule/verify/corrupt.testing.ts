// What the ways to spoil a sound schedule are made of. Each takes a schedule and says what must be found, or null when the
// schedule has nothing to spoil in that way.
import type { Chunk, Schedule, ScheduleOp, TransferOp } from '../../../ir/schedule.ts';
import type { Span } from '../../../ir/span.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';
import { flowOf, type Flow } from '../flow.ts';

export interface Corrupted {
  readonly schedule: Schedule;
  /** Codes of the errors, without `schedule/`, in order. */
  readonly codes: readonly string[];
  /** Codes that may follow: what is moved far leaves its transfers behind. */
  readonly more?: readonly string[];
  /** How the first message begins: rank and operation. */
  readonly says: string;
  /** Where the first one stands. */
  readonly at: Span;
  /** Another place that its notes name. */
  readonly other?: Span;
}

/** `pick`: 0 for the first of what can be spoilt, 1 for the last. */
export type Corruption = (schedule: Schedule, pick: number) => Corrupted | null;

export interface At {
  readonly rank: number;
  readonly index: number;
  readonly op: ScheduleOp;
}

export const line = (rank: number, index: number): Span => ({
  file: 'edited.dsir',
  line: rank * 1000 + index + 1,
  column: 3,
  endLine: rank * 1000 + index + 1,
  endColumn: 9,
});

/** As if each operation had been read from a line of a text; an operation keeps its line wherever it is moved. */
export const withLines = (schedule: Schedule): Schedule => ({
  ...schedule,
  span: line(900, 0),
  orders: schedule.orders.map((o, i) => ({
    ...o,
    span: line(901 + i, 0),
    steps: o.steps.map((s, j) => ({ ...s, span: line(901 + i, j + 1) })),
  })),
  programs: schedule.programs.map((p, rank) => ({
    ...p,
    span: line(800 + rank, 0),
    ops: p.ops.map((op, index) => ({ ...op, span: line(rank, index) })),
  })),
});

export const says = (rank: number, op: ScheduleOp): string => `rank ${rank}: ${printScheduleOp(op)}`;

/** One of all operations that fit. */
export function choose(schedule: Schedule, pick: number, fits: (at: At) => boolean): At | null {
  const all = schedule.programs
    .flatMap(({ ops }, rank) => ops.map((op, index) => ({ rank, index, op })))
    .filter(fits);
  return all.length === 0 ? null : all[Math.round(pick * (all.length - 1))];
}

export function withOps(
  schedule: Schedule,
  rank: number,
  edit: (ops: ScheduleOp[]) => readonly ScheduleOp[],
): Schedule {
  return {
    ...schedule,
    programs: schedule.programs.map((p, r) => (r === rank ? { ...p, ops: edit([...p.ops]) } : p)),
  };
}

export const flow = (schedule: Schedule): Flow => {
  const found = flowOf(schedule);
  if (typeof found === 'string') throw new Error(found);
  return found;
};

export const same = (a: Chunk, b: Chunk): boolean =>
  a.direction === b.direction && a.microBatch === b.microBatch;

export const opsOf = (schedule: Schedule, rank: number): readonly ScheduleOp[] => schedule.programs[rank].ops;

/** The operation of a rank that is a chunk's forward or backward, overlapped or not. */
export function workOf(schedule: Schedule, rank: number, part: 'forward' | 'backward', c: Chunk): number {
  return opsOf(schedule, rank).findIndex((op) =>
    op.op === 'overlap'
      ? same(op[part], c)
      : (op.op === part || (part === 'backward' && op.op === 'backward_input')) && same(op.chunk, c),
  );
}

export const madeBy = (op: TransferOp): 'forward' | 'backward' =>
  op.payload === 'activations' ? 'forward' : 'backward';

export const without = (schedule: Schedule, { rank, index }: At): Schedule =>
  withOps(schedule, rank, (ops) => ops.toSpliced(index, 1));

/** Does one operation of a kind twice in a row; the second one is on a line of its own. */
export const doubled =
  (kind: ScheduleOp['op'], code: string): Corruption =>
  (schedule, pick) => {
    const at = choose(schedule, pick, ({ op }) => op.op === kind);
    if (!at) return null;
    const again = { ...at.op, span: line(700, 0) };
    return {
      schedule: withOps(schedule, at.rank, (ops) => ops.toSpliced(at.index + 1, 0, again)),
      codes: [code],
      says: says(at.rank, at.op),
      at: again.span,
      other: at.op.span,
    };
  };

export function otherEnd(schedule: Schedule, rank: number, t: TransferOp): At {
  const kind = t.op === 'send' ? 'receive' : 'send';
  const index = opsOf(schedule, t.peer).findIndex(
    (op) => op.op === kind && op.payload === t.payload && op.peer === rank && same(op.chunk, t.chunk),
  );
  return { rank: t.peer, index, op: opsOf(schedule, t.peer)[index] };
}

/** The next operation of a rank that fits, or -1. */
export const nextOp = (ops: readonly ScheduleOp[], from: number, fits: (op: ScheduleOp) => boolean): number =>
  ops.findIndex((op, i) => i > from && fits(op));

export const moved = (ops: readonly ScheduleOp[], from: number, to: number): ScheduleOp[] => {
  const rest = ops.toSpliced(from, 1);
  return rest.toSpliced(to > from ? to - 1 : to, 0, ops[from]);
};

export const isTransfer = (op: ScheduleOp): op is TransferOp => op.op === 'send' || op.op === 'receive';

/** Transfers of a batch, by the index of its commit. */
export function batchOf(ops: readonly ScheduleOp[], commit: number): number[] {
  const batch: number[] = [];
  for (let i = commit - 1; i >= 0 && ops[i].op !== 'commit'; i--) if (isTransfer(ops[i])) batch.unshift(i);
  return batch;
}

export const commitAfter = (ops: readonly ScheduleOp[], i: number): number =>
  nextOp(ops, i, (o) => o.op === 'commit');
