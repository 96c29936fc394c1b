// What the generators write a rank's program with. It counts micro-batches and deferred weight gradients, leaves out
// transfers that do not exist (the first stage receives no activations, a stage on the same rank is sent nothing), and
// commits only what is queued.
import type { Chunk, ComputeOp, Payload, ScheduleOp, TransferOp } from '../../ir/schedule.ts';
import { noSpan } from '../../ir/span.ts';
import { flowOfPlacement, type Flow } from './flow.ts';

/** Which of an operation's transfers are queued around it; others are queued by the script itself, earlier or later. */
export interface Around {
  readonly receive?: boolean;
  readonly send?: boolean;
}

type Counted = ComputeOp['op'] | `${'send' | 'receive'} ${Payload}`;

export class RankScript {
  readonly ops: ScheduleOp[] = [];
  private readonly rank: number;
  private readonly flow: Flow;
  private readonly counts = new Map<string, number>();
  private readonly deferred: Chunk[] = [];
  private queued = 0;

  constructor(rank: number, flow: Flow) {
    this.rank = rank;
    this.flow = flow;
  }

  /** Queues the receive of a direction's next activations (from the stage before) or gradients (from the one after). */
  receive(payload: Payload, direction: number): void {
    const place = { rank: this.rank, direction };
    const from = payload === 'activations' ? this.flow.previous(place) : this.flow.next(place);
    this.transfer('receive', payload, direction, from?.rank);
  }

  /** Queues the send of a direction's next activations (to the stage after) or gradients (to the one before). */
  send(payload: Payload, direction: number): void {
    const place = { rank: this.rank, direction };
    const to = payload === 'activations' ? this.flow.next(place) : this.flow.previous(place);
    this.transfer('send', payload, direction, to?.rank);
  }

  commit(): void {
    if (this.queued > 0) this.ops.push({ op: 'commit', span: noSpan });
    this.queued = 0;
  }

  forward(direction: number, { receive = true, send = true }: Around = {}): void {
    if (receive) this.receive('activations', direction);
    this.commit();
    this.ops.push({ op: 'forward', chunk: this.next('forward', direction), span: noSpan });
    if (send) this.send('activations', direction);
  }

  backward(direction: number, { receive = true, send = true }: Around = {}): void {
    this.backwardAs('backward', direction, { receive, send });
  }

  /** Only the gradients of inputs; those of the weights join the queue for `weights`. */
  backwardInput(direction: number, { receive = true, send = true }: Around = {}): void {
    this.deferred.push(this.backwardAs('backward_input', direction, { receive, send }));
  }

  private backwardAs(op: 'backward' | 'backward_input', direction: number, { receive, send }: Around): Chunk {
    if (receive) this.receive('gradients', direction);
    this.commit();
    // Both kinds count the same micro-batches.
    const chunk = this.next('backward', direction);
    this.ops.push({ op, chunk, span: noSpan });
    if (send) this.send('gradients', direction);
    return chunk;
  }

  /** The oldest deferred weight gradients. */
  weights(): void {
    this.commit();
    const chunk = this.deferred.shift();
    if (!chunk) throw new Error(`rank ${this.rank}: no weight gradients are deferred`);
    this.ops.push({ op: 'weights', chunk, span: noSpan });
  }

  /** A forward chunk of one direction over a backward chunk of the other; `receive`: the forward one's activations. */
  overlap(forward: number, backward: number, { receive = true }: Pick<Around, 'receive'> = {}): void {
    if (receive) this.receive('activations', forward);
    this.receive('gradients', backward);
    this.commit();
    this.ops.push({
      op: 'overlap',
      forward: this.next('forward', forward),
      backward: this.next('backward', backward),
      span: noSpan,
    });
    this.send('activations', forward);
    this.send('gradients', backward);
  }

  /** All that is still to be done: queued transfers and deferred weight gradients. */
  finish(): readonly ScheduleOp[] {
    while (this.deferred.length > 0) this.weights();
    this.commit();
    return this.ops;
  }

  private transfer(
    op: TransferOp['op'],
    payload: Payload,
    direction: number,
    peer: number | undefined,
  ): void {
    if (peer === undefined || peer === this.rank) return;
    this.ops.push({ op, payload, chunk: this.next(`${op} ${payload}`, direction), peer, span: noSpan });
    this.queued++;
  }

  private next(what: Counted, direction: number): Chunk {
    const key = `${what} ${direction}`;
    const microBatch = this.counts.get(key) ?? 0;
    this.counts.set(key, microBatch + 1);
    return { direction, microBatch };
  }
}

/** The flow of a generator's own placement, which is right by construction. */
export function flowOfRanks(
  ranks: number,
  microBatches: number,
  stagesOf: (rank: number, ranks: number) => readonly number[],
): Flow {
  const placement = Array.from({ length: ranks }, (_, rank) => stagesOf(rank, ranks));
  const flow = flowOfPlacement(placement, microBatches);
  if (typeof flow === 'string') throw new Error(flow);
  return flow;
}
