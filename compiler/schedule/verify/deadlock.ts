// Whether every rank gets to its end. Ranks run their programs in order. With asynchronous transfers a computation waits
// until what it uses has been sent, that is until the sender has passed the commit of it; with blocking transfers a commit
// waits until every peer has come to the commit of the other end of each message. What a rank waits for only ever becomes
// true, so how ranks are interleaved does not matter: running them until none can go on decides it.
import { showChunk, type Payload } from '../../../ir/schedule.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';
import { noteAt, spanOf, where, type Findings } from './report.ts';
import { none, type Tables } from './tables.ts';

/** An operation of another rank that an operation waits for, and the message between them. */
interface Wait {
  readonly rank: number;
  readonly index: number;
  readonly message: string;
}

/** The first thing that still holds an operation up, when ranks have come to the operations `at`. */
type FirstWait = (rank: number, index: number, at: Int32Array) => Wait | null;

interface Stuck {
  readonly at: Int32Array;
  readonly waits: ReadonlyMap<number, Wait>;
}

/** For programs and transfers without errors. */
export function verifyProgress(t: Tables, findings: Findings): void {
  const async = runToEnd(t, dataWaits(t));
  if (async) return report(t, async, 'deadlock', 'with asynchronous and with blocking transfers', findings);
  const blocking = runToEnd(t, commitWaits(t));
  if (blocking)
    report(
      t,
      blocking,
      'blocking-deadlock',
      'with blocking transfers, though not with asynchronous ones',
      findings,
    );
}

/** Runs all ranks as far as they go; null when they come to their ends. */
function runToEnd(t: Tables, firstWait: FirstWait): Stuck | null {
  const { ranks } = t.flow;
  const at = new Int32Array(ranks);
  const waits = new Map<number, Wait>();
  const waitedForBy: Set<number>[] = Array.from({ length: ranks }, () => new Set());
  const ready = Array.from({ length: ranks }, (_, rank) => rank);
  for (let rank = ready.pop(); rank !== undefined; rank = ready.pop()) {
    const { ops } = t.schedule.programs[rank];
    const start = at[rank];
    waits.delete(rank);
    while (at[rank] < ops.length) {
      const wait = firstWait(rank, at[rank], at);
      if (wait) {
        waits.set(rank, wait);
        waitedForBy[wait.rank].add(rank);
        break;
      }
      at[rank]++;
    }
    // Coming to an operation may be all that others wait for, so they are looked at even if it is held up itself.
    if (at[rank] === start) continue;
    ready.push(...waitedForBy[rank]);
    waitedForBy[rank].clear();
  }
  return waits.size > 0 ? { at, waits } : null;
}

/** Asynchronous: computations wait for the commits that send what they use. */
function dataWaits(t: Tables): FirstWait {
  const wait = (
    rank: number,
    direction: number,
    m: number,
    payload: Payload,
    at: Int32Array,
  ): Wait | null => {
    const producer = t.producer(t.place(rank, direction), payload);
    const from = producer === none ? rank : t.rankOf(producer);
    if (from === rank) return null;
    const index = t.commitOf[from][t.sendAt[t.message(producer, m, payload)]];
    if (at[from] > index) return null;
    const chunk = { direction: producer % t.flow.directions, microBatch: m };
    return { rank: from, index, message: `${payload} ${showChunk(chunk)}` };
  };
  return (rank, index, at) => {
    const op = t.schedule.programs[rank].ops[index];
    switch (op.op) {
      case 'forward':
        return wait(rank, op.chunk.direction, op.chunk.microBatch, 'activations', at);
      case 'backward':
      case 'backward_input':
        return wait(rank, op.chunk.direction, op.chunk.microBatch, 'gradients', at);
      case 'overlap':
        return (
          wait(rank, op.forward.direction, op.forward.microBatch, 'activations', at) ??
          wait(rank, op.backward.direction, op.backward.microBatch, 'gradients', at)
        );
      default:
        return null;
    }
  };
}

/** Blocking: commits wait until the commits at the other ends of their messages are come to. */
function commitWaits(t: Tables): FirstWait {
  return (rank, index, at) => {
    const { ops } = t.schedule.programs[rank];
    if (ops[index].op !== 'commit') return null;
    // Its batch is what was queued since the commit before.
    for (let i = index - 1; i >= 0; i--) {
      const op = ops[i];
      if (op.op === 'commit') return null;
      if (op.op !== 'send' && op.op !== 'receive') continue;
      const other = op.op === 'send' ? t.receiveAt : t.sendAt;
      const commit = t.commitOf[op.peer][other[t.messageOf[rank][i]]];
      if (at[op.peer] < commit)
        return { rank: op.peer, index: commit, message: `${op.payload} ${showChunk(op.chunk)}` };
    }
    return null;
  };
}

/** The ranks that wait for each other in a circle, from its lowest one. Others wait for one of these. */
function circle({ waits }: Stuck): number[] {
  const path: number[] = [];
  let rank = Math.min(...waits.keys());
  for (; !path.includes(rank); rank = waits.get(rank)!.rank) path.push(rank);
  const found = path.slice(path.indexOf(rank));
  const lowest = found.indexOf(Math.min(...found));
  return [...found.slice(lowest), ...found.slice(0, lowest)];
}

function report(t: Tables, stuck: Stuck, code: string, how: string, findings: Findings): void {
  const { schedule } = t;
  const ranks = circle(stuck);
  const ops = (rank: number): string => printScheduleOp(schedule.programs[rank].ops[stuck.at[rank]]);
  findings.error(code, ranks[0], () => ({
    message: `ranks ${ranks.join(', ')} wait for each other in a circle ${how}: rank ${ranks[0]} at ${ops(ranks[0])}`,
    at: spanOf(schedule, ranks[0], stuck.at[ranks[0]]),
    notes: ranks.map((rank) => {
      const index = stuck.at[rank];
      const wait = stuck.waits.get(rank)!;
      const span = spanOf(schedule, rank, index);
      const own = span.file === '' ? ` (operation ${index + 1})` : '';
      return noteAt(
        `rank ${rank} waits at \`${ops(rank)}\`${own} for rank ${wait.rank}, whose commit for ${wait.message} is at ${where(schedule, wait.rank, wait.index)}`,
        span,
      );
    }),
    fix: 'let one of these ranks commit what the one before waits for ahead of what it waits at itself',
  }));
}
