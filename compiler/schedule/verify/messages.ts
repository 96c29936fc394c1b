// The order of messages between two ranks. A transfer carries no name on the wire: as in NCCL, the n-th send from a rank
// to another meets the n-th receive there, so both must queue them in one order. Batches start in the order in which
// they are queued, so that order is the programs'.
import { showChunk, type TransferOp } from '../../../ir/schedule.ts';
import { atOp, noteOp, spanOf, type Findings } from './report.ts';
import { none, type Tables } from './tables.ts';

/** Looks at messages that are sound at both ends, so that one dropped is not reported again as all others crossed. */
export function verifyMessageOrder(t: Tables, findings: Findings): void {
  const sent = new Map<number, number[]>();
  eachTransfer(t, 'send', (rank, op, message) => {
    const pair = rank * t.flow.ranks + op.peer;
    const known = sent.get(pair);
    if (known) known.push(message);
    else sent.set(pair, [message]);
  });
  const received = new Map<number, number>();
  const crossed = new Set<number>();
  eachTransfer(t, 'receive', (rank, op, message, index) => {
    const pair = op.peer * t.flow.ranks + rank;
    const n = received.get(pair) ?? 0;
    received.set(pair, n + 1);
    const meets = sent.get(pair)?.[n];
    // The first of a pair says it all: what is shifted once stays so.
    if (meets === undefined || meets === message || crossed.has(pair)) return;
    crossed.add(pair);
    const send = t.schedule.programs[op.peer].ops[t.sendAt[meets]] as TransferOp;
    findings.error('crossed', rank, () => ({
      message: `${atOp(t.schedule, rank, index)} would take ${send.payload} ${showChunk(send.chunk)}, which rank ${op.peer} sends first`,
      at: spanOf(t.schedule, rank, index),
      notes: [
        noteOp(t.schedule, op.peer, t.sendAt[meets]),
        noteOp(t.schedule, op.peer, t.sendAt[message]),
        noteOp(t.schedule, rank, t.receiveAt[meets]),
      ],
      fix: 'messages between two ranks meet in the order in which they are queued: queue sends and receives alike',
    }));
  });
}

/** Sound messages of one kind of transfer, rank by rank in program order: queued once and committed, at both ends. */
function eachTransfer(
  t: Tables,
  kind: TransferOp['op'],
  visit: (rank: number, op: TransferOp, message: number, index: number) => void,
): void {
  for (const [rank, { ops }] of t.schedule.programs.entries()) {
    const messages = t.messageOf[rank];
    for (let index = 0; index < messages.length; index++) {
      const message = messages[index];
      if (message === none || ops[index].op !== kind) continue;
      const op = ops[index] as TransferOp;
      const [from, to] = kind === 'send' ? [rank, op.peer] : [op.peer, rank];
      const send = t.sendAt[message];
      const receive = t.receiveAt[message];
      if (send === none || receive === none) continue;
      if (t.commitOf[from][send] !== none && t.commitOf[to][receive] !== none)
        visit(rank, op, message, index);
    }
  }
}
