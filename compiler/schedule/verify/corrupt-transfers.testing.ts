// Ways to spoil what travels between ranks.
import type { Schedule, TransferOp } from '../../../ir/schedule.ts';
import type { Place } from '../flow.ts';
import {
  type Corruption,
  type At,
  line,
  says,
  choose,
  withOps,
  flow,
  same,
  opsOf,
  workOf,
  madeBy,
  without,
  doubled,
  otherEnd,
  nextOp,
  moved,
  batchOf,
  commitAfter,
} from './corrupt.testing.ts';

/** Removes a send or a receive; the operation that made or needs it is where it is missed. */
const droppedTransfer =
  (kind: 'send' | 'receive', payload: TransferOp['payload']): Corruption =>
  (schedule, pick) => {
    const at = choose(schedule, pick, ({ op }) => op.op === kind && op.payload === payload);
    if (!at) return null;
    const transfer = at.op as TransferOp;
    const work = opsOf(schedule, at.rank)[workOf(schedule, at.rank, madeBy(transfer), transfer.chunk)];
    return {
      schedule: without(schedule, at),
      codes: [`missing-${kind}`],
      says: `${says(at.rank, work)}: its ${payload} are never`,
      at: work.span,
      other: otherEnd(schedule, at.rank, transfer).op.span,
    };
  };

/** Changes a transfer's peer, and expects just that to be said. */
const redirected =
  (
    kind: 'send' | 'receive',
    payload: TransferOp['payload'],
    peerOf: (schedule: Schedule, rank: number, op: TransferOp) => number | null,
  ): Corruption =>
  (schedule, pick) => {
    const peer = (at: At): number | null =>
      at.op.op === kind && at.op.payload === payload ? peerOf(schedule, at.rank, at.op) : null;
    const at = choose(schedule, pick, (a) => peer(a) !== null);
    if (!at) return null;
    const edited = { ...(at.op as TransferOp), peer: peer(at)! };
    return {
      schedule: withOps(schedule, at.rank, (ops) => ops.with(at.index, edited)),
      codes: ['wrong-peer'],
      says: says(at.rank, edited),
      at: at.op.span,
      other: otherEnd(schedule, at.rank, at.op as TransferOp).op.span,
    };
  };

/** Adds a transfer that nobody takes or makes, after the operation of a place. */
const needless =
  (
    op: 'send' | 'receive',
    payload: TransferOp['payload'],
    fits: (schedule: Schedule, place: Place) => number | null,
  ): Corruption =>
  (schedule, pick) => {
    const part = (op === 'send') === (payload === 'activations') ? 'forward' : 'backward';
    const peer = (at: At): number | null =>
      at.op.op === 'forward' ? fits(schedule, { rank: at.rank, direction: at.op.chunk.direction }) : null;
    const at = choose(schedule, pick, (a) => peer(a) !== null);
    if (!at || at.op.op !== 'forward') return null;
    const { chunk } = at.op;
    const added: TransferOp = { op, payload, chunk, peer: peer(at)!, span: line(700, 0) };
    const index = workOf(
      schedule,
      at.rank,
      op === 'send' && part === 'backward' ? 'backward' : 'forward',
      chunk,
    );
    return {
      schedule: withOps(schedule, at.rank, (ops) =>
        ops.toSpliced(index + 1, 0, added, { op: 'commit', span: line(700, 1) }),
      ),
      codes: ['needless-transfer'],
      says: says(at.rank, added),
      at: added.span,
    };
  };

export const transfers: Readonly<Record<string, Corruption>> = {
  doubledSend: doubled('send', 'duplicate-transfer'),
  doubledReceive: doubled('receive', 'duplicate-transfer'),
  droppedActivationsSend: droppedTransfer('send', 'activations'),
  droppedGradientsSend: droppedTransfer('send', 'gradients'),
  droppedActivationsReceive: droppedTransfer('receive', 'activations'),
  droppedGradientsReceive: droppedTransfer('receive', 'gradients'),

  droppedBothEnds(schedule, pick) {
    const at = choose(schedule, pick, ({ op }) => op.op === 'send');
    if (!at) return null;
    const send = at.op as TransferOp;
    const work = opsOf(schedule, at.rank)[workOf(schedule, at.rank, madeBy(send), send.chunk)];
    const user = workOf(schedule, send.peer, madeBy(send), send.chunk);
    return {
      schedule: without(without(schedule, at), otherEnd(schedule, at.rank, send)),
      codes: ['missing-send'],
      says: `${says(at.rank, work)}: its ${send.payload} are never sent to rank ${send.peer}`,
      at: work.span,
      other: opsOf(schedule, send.peer)[user].span,
    };
  },

  /** What is used next is then still queued. */
  droppedCommitBeforeUse(schedule, pick) {
    const at = choose(schedule, pick, ({ rank, index, op }) => {
      const ops = opsOf(schedule, rank);
      const batch = op.op === 'commit' ? batchOf(ops, index).map((i) => ops[i]) : [];
      const receives = batch.filter((o): o is TransferOp => o.op === 'receive');
      if (receives.length !== 1 || commitAfter(ops, index) < 0) return false;
      const [{ chunk, payload }] = receives;
      const next = ops[index + 1];
      return next.op === (payload === 'activations' ? 'forward' : 'backward') && same(next.chunk, chunk);
    });
    if (!at) return null;
    const ops = opsOf(schedule, at.rank);
    return {
      schedule: without(schedule, at),
      codes: ['late-receive'],
      says: `${says(at.rank, ops[at.index + 1])} comes before the commit`,
      at: ops[at.index + 1].span,
      other: ops[commitAfter(ops, at.index)].span,
    };
  },

  droppedLastCommit(schedule, pick) {
    const at = choose(
      schedule,
      pick,
      ({ rank, index, op }) =>
        op.op === 'commit' &&
        commitAfter(opsOf(schedule, rank), index) < 0 &&
        opsOf(schedule, rank)[batchOf(opsOf(schedule, rank), index)[0]].op === 'send',
    );
    if (!at) return null;
    const ops = opsOf(schedule, at.rank);
    const first = ops[batchOf(ops, at.index)[0]];
    return {
      schedule: without(schedule, at),
      codes: ['uncommitted'],
      says: `${says(at.rank, first)} is queued and never committed`,
      at: first.span,
    };
  },

  sendBeforeItsForward(schedule, pick) {
    const at = choose(schedule, pick, ({ op }) => op.op === 'send');
    if (!at) return null;
    const send = at.op as TransferOp;
    const made = workOf(schedule, at.rank, madeBy(send), send.chunk);
    const ops = opsOf(schedule, at.rank);
    // Over another message to the same rank it would be crossed as well.
    const between = ops.slice(made, at.index).some((o) => o.op === 'send' && o.peer === send.peer);
    if (between) return null;
    return {
      schedule: withOps(schedule, at.rank, (o) => moved(o, at.index, made)),
      codes: ['early-send'],
      says: says(at.rank, at.op),
      at: at.op.span,
      other: ops[made].span,
    };
  },

  receiveAfterItsUse(schedule, pick) {
    const isAlone = ({ rank, index, op }: At): boolean => {
      if (op.op !== 'receive') return false;
      const ops = opsOf(schedule, rank);
      const used = workOf(schedule, rank, madeBy(op), op.chunk);
      const between = ops.slice(index + 1, used + 1);
      return commitAfter(ops, used) >= 0 && !between.some((o) => o.op === 'receive' && o.peer === op.peer);
    };
    const at = choose(schedule, pick, isAlone);
    if (!at) return null;
    const receive = at.op as TransferOp;
    const used = workOf(schedule, at.rank, madeBy(receive), receive.chunk);
    return {
      schedule: withOps(schedule, at.rank, (ops) => moved(ops, at.index, used + 1)),
      codes: ['late-receive'],
      says: `${says(at.rank, opsOf(schedule, at.rank)[used])} comes before the receive`,
      at: opsOf(schedule, at.rank)[used].span,
      other: at.op.span,
    };
  },

  /** The sender queues two messages to a rank the other way round. */
  crossedSends(schedule, pick) {
    const next = ({ rank, index, op }: At): number =>
      op.op === 'send'
        ? nextOp(opsOf(schedule, rank), index, (o) => o.op === 'send' && o.peer === op.peer)
        : -1;
    const at = choose(schedule, pick, (a) => next(a) >= 0);
    if (!at) return null;
    const second = opsOf(schedule, at.rank)[next(at)] as TransferOp;
    const first = at.op as TransferOp;
    const receive = otherEnd(schedule, at.rank, first);
    return {
      schedule: withOps(schedule, at.rank, (ops) => moved(ops, at.index, next(at) + 1)),
      codes: ['crossed'],
      says: `${says(receive.rank, receive.op)} would take ${second.payload}`,
      at: receive.op.span,
      other: second.span,
    };
  },

  misdirectedSend: redirected('send', 'activations', (s, rank, op) => {
    const other = s.programs.findIndex((_, r) => r !== rank && r !== op.peer);
    return other < 0 ? null : other;
  }),

  misdirectedReceive: redirected('receive', 'gradients', (s, rank, op) => {
    const other = s.programs.findIndex((_, r) => r !== rank && r !== op.peer);
    return other < 0 ? null : other;
  }),

  gradientsToTheWrongSide: redirected('send', 'gradients', (s, rank, op) => {
    const next = flow(s).next({ rank, direction: op.chunk.direction });
    return next && next.rank !== rank && next.rank !== op.peer ? next.rank : null;
  }),

  sentToItself: redirected('send', 'activations', (_, rank) => rank),
  receivedFromNoRank: redirected('receive', 'activations', (s) => s.programs.length),

  gradientsBeyondTheFirst: needless('send', 'gradients', (s, p) =>
    flow(s).previous(p) === null && s.programs.length > 1 ? (p.rank === 0 ? 1 : 0) : null,
  ),

  activationsBeyondTheLast: needless('send', 'activations', (s, p) =>
    flow(s).next(p) === null && s.programs.length > 1 ? (p.rank === 0 ? 1 : 0) : null,
  ),

  activationsForTheFirst: needless('receive', 'activations', (s, p) =>
    flow(s).previous(p) === null && s.programs.length > 1 ? (p.rank === 0 ? 1 : 0) : null,
  ),

  sentThoughHandedOn: needless('send', 'activations', (s, p) =>
    flow(s).next(p)?.rank === p.rank && s.programs.length > 1 ? p.rank : null,
  ),
};
