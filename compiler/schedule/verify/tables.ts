// What a schedule's programs do, by chunk and by message: filled by the checks of programs and transfers, read by those
// that come after. Flat arrays of numbers, because long runs have hundreds of thousands of operations.
import type { Chunk, Payload, Schedule } from '../../../ir/schedule.ts';
import type { Flow } from '../flow.ts';

/** No operation, or no place. */
export const none = -1;

export class Tables {
  readonly schedule: Schedule;
  readonly flow: Flow;
  /** By place: the place of the stage after and of the stage before. */
  readonly next: Int32Array;
  readonly previous: Int32Array;
  /** By chunk of a place: which operation of the rank's program it is. Overlaps count as both of their parts. */
  readonly forwardAt: Int32Array;
  readonly backwardAt: Int32Array;
  readonly weightsAt: Int32Array;
  /** By message: which operation of its sender's and of its receiver's program queues it. */
  readonly sendAt: Int32Array;
  readonly receiveAt: Int32Array;
  /** By rank and operation: the message of a transfer that is entered above. */
  readonly messageOf: Int32Array[];
  /** By rank and operation: the commit that starts a queued transfer. */
  readonly commitOf: Int32Array[];

  constructor(schedule: Schedule, flow: Flow) {
    this.schedule = schedule;
    this.flow = flow;
    const places = flow.ranks * flow.directions;
    const toPlace = (p: { rank: number; direction: number } | null): number =>
      p ? p.rank * flow.directions + p.direction : none;
    const all = Array.from({ length: places }, (_, p) => ({
      rank: this.rankOf(p),
      direction: p % flow.directions,
    }));
    this.next = Int32Array.from(all, (p) => toPlace(flow.next(p)));
    this.previous = Int32Array.from(all, (p) => toPlace(flow.previous(p)));
    const chunks = places * flow.microBatches;
    const empty = (size: number) => new Int32Array(size).fill(none);
    this.forwardAt = empty(chunks);
    this.backwardAt = empty(chunks);
    this.weightsAt = empty(chunks);
    this.sendAt = empty(chunks * 2);
    this.receiveAt = empty(chunks * 2);
    this.messageOf = schedule.programs.map((p) => empty(p.ops.length));
    this.commitOf = schedule.programs.map((p) => empty(p.ops.length));
  }

  /** A rank and one of its directions as one number. */
  place(rank: number, direction: number): number {
    return rank * this.flow.directions + direction;
  }

  rankOf(place: number): number {
    return Math.trunc(place / this.flow.directions);
  }

  /** A chunk at a place as one number. */
  chunk(place: number, microBatch: number): number {
    return place * this.flow.microBatches + microBatch;
  }

  exists(c: Chunk): boolean {
    return inRange(c.direction, this.flow.directions) && inRange(c.microBatch, this.flow.microBatches);
  }

  /**
   * A message as one number. It is called by the chunk that makes it: sender and receiver name that one's direction, which
   * is also the receiver's own unless a micro-batch changes its direction on its way.
   */
  message(producer: number, microBatch: number, payload: Payload): number {
    return this.chunk(producer, microBatch) * 2 + (payload === 'activations' ? 0 : 1);
  }

  /** Where a message goes from a place: activations to the next stage, gradients back. */
  consumer(producer: number, payload: Payload): number {
    return payload === 'activations' ? this.next[producer] : this.previous[producer];
  }

  /** Where a message at a place comes from. */
  producer(consumer: number, payload: Payload): number {
    return payload === 'activations' ? this.previous[consumer] : this.next[consumer];
  }
}

const inRange = (n: number, end: number): boolean => Number.isInteger(n) && n >= 0 && n < end;
