// What travels between ranks: each chunk's activations and gradients once, from the rank that makes them to the one that
// needs them, sent after they are made and received before they are used. Per message one finding, at most. Fills the
// tables by message; the order between messages is for messages.ts.
import type { DiagnosticNote } from '../../../ir/diagnostics.ts';
import { showChunk, type TransferOp } from '../../../ir/schedule.ts';
import { noSuchChunk } from './program.ts';
import { atOp, count, noteOp, spanOf, where, type Findings } from './report.ts';
import { none, type Tables } from './tables.ts';

export function verifyTransfers(t: Tables, findings: Findings): void {
  // Messages whose other end was said to be wrong already.
  const excused = new Set<number>();
  for (let rank = 0; rank < t.flow.ranks; rank++) {
    const { ops } = t.schedule.programs[rank];
    for (let index = 0; index < ops.length; index++) {
      const op = ops[index];
      if (op.op === 'send' || op.op === 'receive') placeTransfer(t, rank, index, op, excused, findings);
    }
    verifyCommits(t, rank, findings);
  }
  for (let producer = 0; producer < t.next.length; producer++)
    for (const payload of ['activations', 'gradients'] as const) {
      const consumer = t.consumer(producer, payload);
      if (consumer === none || t.rankOf(consumer) === t.rankOf(producer)) continue;
      for (let m = 0; m < t.flow.microBatches; m++) {
        const message = t.message(producer, m, payload);
        const table = payload === 'activations' ? t.forwardAt : t.backwardAt;
        const made = table[t.chunk(producer, m)];
        const used = table[t.chunk(consumer, m)];
        const end: End = {
          message,
          from: t.rankOf(producer),
          to: t.rankOf(consumer),
          made,
          used,
          name: payload,
        };
        verifyMessage(t, end, excused.has(message), findings);
      }
    }
}

/** Enters a transfer under its message, or says why there is no such message. */
function placeTransfer(
  t: Tables,
  rank: number,
  index: number,
  op: TransferOp,
  excused: Set<number>,
  findings: Findings,
): void {
  if (!t.exists(op.chunk)) return noSuchChunk(t, rank, index, op.chunk, findings);
  const { direction, microBatch } = op.chunk;
  const isSend = op.op === 'send';
  const from = isSend ? rank : op.peer;
  const producer = from < t.flow.ranks ? t.place(from, direction) : none;
  const consumer = producer === none ? none : t.consumer(producer, op.payload);
  if (consumer === none || op.peer === rank || t.rankOf(consumer) !== (isSend ? op.peer : rank))
    return misplaced(t, rank, index, op, excused, findings);
  const message = t.message(producer, microBatch, op.payload);
  const table = isSend ? t.sendAt : t.receiveAt;
  const first = table[message];
  if (first === none) {
    table[message] = index;
    t.messageOf[rank][index] = message;
    return;
  }
  findings.error('duplicate-transfer', rank, () => ({
    message: `${atOp(t.schedule, rank, index)} is queued already at ${where(t.schedule, rank, first)}`,
    at: spanOf(t.schedule, rank, index),
    notes: [noteOp(t.schedule, rank, first)],
    fix: 'remove one of them',
  }));
}

function misplaced(
  t: Tables,
  rank: number,
  index: number,
  op: TransferOp,
  excused: Set<number>,
  findings: Findings,
): void {
  const { direction, microBatch } = op.chunk;
  const isSend = op.op === 'send';
  // Who makes what goes by this name: the rank itself, or those whose messages of it come here.
  const producers = isSend
    ? [t.place(rank, direction)]
    : Array.from({ length: t.flow.ranks }, (_, r) => t.place(r, direction)).filter((p) => {
        const consumer = t.consumer(p, op.payload);
        return consumer !== none && t.rankOf(consumer) === rank;
      });
  const others = (isSend ? [t.consumer(producers[0], op.payload)].filter((p) => p !== none) : producers).map(
    (p) => t.rankOf(p),
  );
  const other = others.find((r) => r !== rank);
  if (other === undefined) return needless(t, rank, index, op, others.length > 0, findings);
  for (const p of producers) excused.add(t.message(p, microBatch, op.payload));
  findings.error('wrong-peer', rank, () => ({
    message: `${atOp(t.schedule, rank, index)}: ${op.payload} ${showChunk(op.chunk)} ${isSend ? 'go to' : 'come from'} rank ${other}`,
    at: spanOf(t.schedule, rank, index),
    notes: otherEnd(t, other, rank, op),
    fix: `make its peer ${other}`,
  }));
}

/** A note about the transfer of the right peer that was to meet this one, when it has it. */
function otherEnd(
  t: Tables,
  peer: number,
  rank: number,
  { op, payload, chunk }: TransferOp,
): DiagnosticNote[] {
  const index = t.schedule.programs[peer].ops.findIndex(
    (o) =>
      (o.op === 'send' || o.op === 'receive') &&
      o.op !== op &&
      o.payload === payload &&
      o.peer === rank &&
      o.chunk.direction === chunk.direction &&
      o.chunk.microBatch === chunk.microBatch,
  );
  return index < 0 ? [] : [noteOp(t.schedule, peer, index, ', which waits for it')];
}

function needless(
  t: Tables,
  rank: number,
  index: number,
  op: TransferOp,
  isOwn: boolean,
  findings: Findings,
): void {
  const stage = t.schedule.programs[rank].stages[op.chunk.direction];
  const side = (op.op === 'send') === (op.payload === 'activations') ? 'last' : 'first';
  findings.error('needless-transfer', rank, () => ({
    message:
      `${atOp(t.schedule, rank, index)}: ` +
      (!isOwn
        ? `stage ${stage} is the ${side}, ${op.op === 'send' ? 'nobody takes' : 'nobody makes'} these ${op.payload}`
        : `the stages on both sides are on rank ${rank}, which hands them on itself`),
    at: spanOf(t.schedule, rank, index),
    fix: 'remove it',
  }));
}

/** Which commit starts each transfer; what is left in the queue at the end never starts. */
function verifyCommits(t: Tables, rank: number, findings: Findings): void {
  const { ops } = t.schedule.programs[rank];
  const commitOf = t.commitOf[rank];
  const queue: number[] = [];
  for (const [index, { op }] of ops.entries()) {
    if (op === 'send' || op === 'receive') queue.push(index);
    if (op !== 'commit') continue;
    if (queue.length === 0)
      findings.warning('empty-commit', rank, () => ({
        message: `rank ${rank}: commit at ${where(t.schedule, rank, index)} has nothing to start`,
        at: spanOf(t.schedule, rank, index),
        fix: 'remove it',
      }));
    for (const transfer of queue) commitOf[transfer] = index;
    queue.length = 0;
  }
  if (queue.length === 0) return;
  const rest =
    queue.length === 1
      ? ''
      : `, nor ${queue.length === 2 ? 'is' : 'are'} ${count(queue.length - 1, 'transfer')} after it`;
  findings.error('uncommitted', rank, () => ({
    message: `${atOp(t.schedule, rank, queue[0])} is queued and never committed${rest}`,
    at: spanOf(t.schedule, rank, queue[0]),
    notes: queue.slice(1, 4).map((q) => noteOp(t.schedule, rank, q)),
    fix: 'add a commit after it, before what needs it',
  }));
}

interface End {
  readonly message: number;
  readonly from: number;
  readonly to: number;
  /** The operation of `from` that makes it and the one of `to` that uses it. */
  readonly made: number;
  readonly used: number;
  readonly name: string;
}

/** A chunk that lacks its operation was reported as such: its transfers are not looked at. */
function verifyMessage(t: Tables, e: End, isExcused: boolean, findings: Findings): void {
  const { schedule } = t;
  const send = t.sendAt[e.message];
  const receive = t.receiveAt[e.message];
  if (send === none && e.made !== none && !isExcused) {
    const other =
      receive !== none
        ? [noteOp(schedule, e.to, receive, ', which waits for them')]
        : e.used !== none
          ? [noteOp(schedule, e.to, e.used, ', which needs them; no receive is queued there either')]
          : [];
    findings.error('missing-send', e.from, () => ({
      message: `${atOp(schedule, e.from, e.made)}: its ${e.name} are never sent to rank ${e.to}`,
      at: spanOf(schedule, e.from, e.made),
      notes: other,
      fix: `queue a send of ${e.name} -> ${e.to} after it`,
    }));
    return;
  }
  if (receive === none && e.used !== none && !isExcused) {
    findings.error('missing-receive', e.to, () => ({
      message: `${atOp(schedule, e.to, e.used)}: its ${e.name} are never received from rank ${e.from}`,
      at: spanOf(schedule, e.to, e.used),
      notes: send === none ? [] : [noteOp(schedule, e.from, send, ', which nobody takes')],
      fix: `queue a receive of ${e.name} <- ${e.from} and a commit before it`,
    }));
    return;
  }
  if (send !== none && e.made !== none && send < e.made)
    findings.error('early-send', e.from, () => ({
      message: `${atOp(schedule, e.from, send)} comes before what makes it, at ${where(schedule, e.from, e.made)}`,
      at: spanOf(schedule, e.from, send),
      notes: [noteOp(schedule, e.from, e.made)],
      fix: 'queue it after',
    }));
  if (receive === none || e.used === none) return;
  const commit = t.commitOf[e.to][receive];
  const isLate = receive > e.used;
  if (!isLate && (commit === none || commit < e.used)) return;
  findings.error('late-receive', e.to, () => ({
    message: isLate
      ? `${atOp(schedule, e.to, e.used)} comes before the receive of its ${e.name}, at ${where(schedule, e.to, receive)}`
      : `${atOp(schedule, e.to, e.used)} comes before the commit that starts the receive of its ${e.name}, at ${where(schedule, e.to, commit)}`,
    at: spanOf(schedule, e.to, e.used),
    notes: [noteOp(schedule, e.to, receive), ...(isLate ? [] : [noteOp(schedule, e.to, commit)])],
    fix: isLate ? 'queue and commit the receive before it' : 'commit before it',
  }));
}
