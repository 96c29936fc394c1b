// Ways to make ranks wait for each other for ever in programs that are sound one by one.
import type { ScheduleOp, TransferOp } from '../../../ir/schedule.ts';
import type { Span } from '../../../ir/span.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';
import { fromTokens } from '../tokens.ts';
import {
  type Corruption,
  type At,
  line,
  withLines,
  choose,
  withOps,
  opsOf,
  workOf,
  otherEnd,
  nextOp,
  batchOf,
  commitAfter,
} from './corrupt.testing.ts';

export const progress: Readonly<Record<string, Corruption>> = {
  /** Two neighbours that each put off what the other waits for. */
  eachWaitsForTheOther(schedule) {
    if (schedule.kind !== '1f1b' || schedule.programs.length !== 2 || schedule.microBatches !== 2)
      return null;
    const tokens = [
      'F0:0 SF0:0@1 RB0:0@1 C B0:0 F0:1 SF0:1@1 RB0:1@1 C B0:1',
      'RF0:0@0 RF0:1@0 C F0:0 F0:1 B0:0 SB0:0@0 C B0:1 SB0:1@0 C',
    ];
    const edited = withLines(
      withOps(
        withOps(schedule, 0, () => fromTokens(tokens[0])),
        1,
        () => fromTokens(tokens[1]),
      ),
    );
    return {
      schedule: edited,
      codes: ['deadlock'],
      says: 'ranks 0, 1 wait for each other in a circle with asynchronous and with blocking transfers: rank 0 at backward d0 m0',
      at: line(0, 4),
      other: line(1, 4),
    };
  },

  /** The two middle ranks of DualPipe start with each other's micro-batches instead of their own. */
  eachStartsWithTheOthers(schedule) {
    if (schedule.kind !== 'dualpipe') return null;
    const a = schedule.programs.length / 2 - 1;
    let edited = schedule;
    for (const [rank, own] of [
      [a, 0],
      [a + 1, 1],
    ]) {
      const forward = workOf(schedule, rank, 'forward', { direction: own, microBatch: 0 });
      const other = workOf(schedule, rank, 'forward', { direction: 1 - own, microBatch: 0 });
      const ops = opsOf(schedule, rank);
      const send = nextOp(ops, forward, (o) => o.op === 'send' && o.chunk.direction === own);
      const put = [ops[forward], ops[send]];
      const rest = ops.filter((o) => !put.includes(o));
      edited = withOps(edited, rank, () => rest.toSpliced(rest.indexOf(ops[other]) + 1, 0, ...put));
    }
    const [first, second] = [a, a + 1].map((rank) => {
      const own = rank === a ? 0 : 1;
      return opsOf(schedule, rank)[workOf(schedule, rank, 'forward', { direction: 1 - own, microBatch: 0 })];
    });
    return {
      schedule: edited,
      codes: ['deadlock'],
      says: `ranks ${a}, ${a + 1} wait for each other in a circle with asynchronous and with blocking transfers: rank ${a} at ${printScheduleOp(first)}`,
      at: first.span,
      other: second.span,
    };
  },

  /** Both ends of two messages in one batch commit the one they send first, and wait for it to be taken. */
  bothSendFirst(schedule, pick) {
    const partner = (a: At): number | null => {
      if (a.op.op !== 'commit') return null;
      const ops = opsOf(schedule, a.rank);
      const batch = batchOf(ops, a.index).map((i) => ops[i] as TransferOp);
      for (const send of batch.filter((t) => t.op === 'send')) {
        const other = opsOf(schedule, send.peer);
        const commit = commitAfter(other, otherEnd(schedule, a.rank, send).index);
        const back = batch.find((t) => t.op === 'receive' && t.peer === send.peer);
        if (
          back &&
          a.rank < send.peer &&
          commitAfter(other, otherEnd(schedule, a.rank, back).index) === commit
        )
          return send.peer;
      }
      return null;
    };
    const at = choose(schedule, pick, (a) => partner(a) !== null);
    if (!at) return null;
    const peer = partner(at)!;
    const isBetween = (o: ScheduleOp): boolean => o.op === 'send' && o.peer === peer;
    const ownOps = opsOf(schedule, at.rank);
    const send = ownOps[batchOf(ownOps, at.index).find((i) => isBetween(ownOps[i]))!] as TransferOp;
    const theirs = opsOf(schedule, peer);
    const commit = commitAfter(theirs, otherEnd(schedule, at.rank, send).index);
    const split = (
      rank: number,
      end: number,
      to: number,
      span: Span,
    ): ((o: ScheduleOp[]) => ScheduleOp[]) => {
      const ops = opsOf(schedule, rank);
      const batch = batchOf(ops, end).map((i) => ops[i] as TransferOp);
      const first = batch.filter((t) => t.op === 'send' && t.peer === to);
      const rest = batch.filter((t) => !first.includes(t));
      return (o) => {
        const others = o.slice(0, end).filter((x) => !batch.includes(x as TransferOp));
        return [...others, ...first, { op: 'commit', span }, ...rest, ...o.slice(end)];
      };
    };
    const [ownSpan, otherSpan] = [line(700, 0), line(700, 1)];
    const edited = withOps(schedule, at.rank, split(at.rank, at.index, peer, ownSpan));
    return {
      schedule: withOps(edited, peer, split(peer, commit, at.rank, otherSpan)),
      codes: ['blocking-deadlock'],
      says: `ranks ${at.rank}, ${peer} wait for each other in a circle with blocking transfers, though not with asynchronous ones: rank ${at.rank} at commit`,
      at: ownSpan,
      other: otherSpan,
    };
  },
};
