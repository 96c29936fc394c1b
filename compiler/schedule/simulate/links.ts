// Who gives what to whom. Ops are numbered through all ranks; for each compute op the op that made its input and the commit
// that sent it, for each commit the commits at the other ends. Both simulators build on it. The verifier, which runs first,
// explains broken schedules better: here it is only refused to invent times for them.
import { fail } from '../../../ir/diagnostics.ts';
import type { Chunk, Payload, Schedule, ScheduleOp } from '../../../ir/schedule.ts';
import { flowOf, type Flow, type Place } from '../flow.ts';
import { showOp } from '../verify/report.ts';

/** None of that kind, in the tables of Links. */
export const none = -1;

/** By number of the op, unless said otherwise. */
export interface Links {
  readonly flow: Flow;
  /** Number of the first op of a rank, by rank, and of all ops at the end. */
  readonly firstOp: Int32Array;
  /** The op that made what a forward (or the forward of an overlap) takes; none for the first stage. */
  readonly activationsFrom: Int32Array;
  /** The commit that sent it; none where it was made on the same rank. */
  readonly activationsVia: Int32Array;
  /** The same of a backward; none for the last stage. */
  readonly gradientsFrom: Int32Array;
  readonly gradientsVia: Int32Array;
  /** On the last stage: the forward that made what the loss, and so the backward, takes. */
  readonly lossFrom: Int32Array;
  /** The `backward_input` before a `weights`. */
  readonly deferredBy: Int32Array;
  /** The op that made what a send sends. */
  readonly sends: Int32Array;
  /** The commit that starts a send or a receive. */
  readonly startedBy: Int32Array;
  /** The commit that starts the other end of a send or a receive. */
  readonly answeredBy: Int32Array;
}

/** Throws a DiagnosticError when something is used that nobody made, sent or received. */
export function linksOf(schedule: Schedule): Links {
  const flow = flowOf(schedule);
  if (typeof flow === 'string')
    fail({
      code: 'schedule/no-flow',
      at: schedule.span,
      message: flow,
      fix: 'hold every stage in one direction, or every stage in each direction',
    });
  return new Linker(schedule, flow).link();
}

class Linker {
  private readonly firstOp: Int32Array;
  private readonly tables: Record<Exclude<keyof Links, 'flow' | 'firstOp'>, Int32Array>;
  // By chunk on a rank: what makes and what sends its activations and gradients, what receives them elsewhere.
  private readonly makes: Record<Payload, Int32Array>;
  private readonly sentBy: Record<Payload, Int32Array>;
  private readonly receivedBy: Record<Payload, Int32Array>;
  private readonly inputBackward: Int32Array;

  private readonly schedule: Schedule;
  private readonly flow: Flow;

  constructor(schedule: Schedule, flow: Flow) {
    this.schedule = schedule;
    this.flow = flow;
    this.firstOp = new Int32Array(flow.ranks + 1);
    for (const [r, p] of schedule.programs.entries()) this.firstOp[r + 1] = this.firstOp[r] + p.ops.length;
    const ops = this.firstOp[flow.ranks];
    const byOp = (): Int32Array => new Int32Array(ops).fill(none);
    this.tables = {
      activationsFrom: byOp(),
      activationsVia: byOp(),
      gradientsFrom: byOp(),
      gradientsVia: byOp(),
      lossFrom: byOp(),
      deferredBy: byOp(),
      sends: byOp(),
      startedBy: byOp(),
      answeredBy: byOp(),
    };
    const chunks = flow.ranks * flow.directions * flow.microBatches;
    const byChunk = (): Int32Array => new Int32Array(chunks).fill(none);
    this.makes = { activations: byChunk(), gradients: byChunk() };
    this.sentBy = { activations: byChunk(), gradients: byChunk() };
    this.receivedBy = { activations: byChunk(), gradients: byChunk() };
    this.inputBackward = byChunk();
  }

  link(): Links {
    this.each((op, number, rank) => this.note(op, number, rank));
    this.commits();
    this.each((op, number, rank) => this.connect(op, number, rank));
    return { flow: this.flow, firstOp: this.firstOp, ...this.tables };
  }

  private each(visit: (op: ScheduleOp, number: number, rank: number) => void): void {
    for (const [rank, { ops }] of this.schedule.programs.entries())
      for (let i = 0; i < ops.length; i++) visit(ops[i], this.firstOp[rank] + i, rank);
  }

  private chunk(rank: number, c: Chunk, op: ScheduleOp): number {
    const { ranks, directions, microBatches } = this.flow;
    const whole = (n: number, below: number): boolean => Number.isInteger(n) && n >= 0 && n < below;
    if (!whole(rank, ranks) || !whole(c.direction, directions) || !whole(c.microBatch, microBatches))
      this.refuse(
        op,
        rank,
        `there are ${ranks} ranks, ${directions} directions and ${microBatches} micro-batches in each`,
      );
    return (rank * directions + c.direction) * microBatches + c.microBatch;
  }

  private refuse(op: ScheduleOp, rank: number, why: string): never {
    return fail({
      code: 'schedule/cannot-run',
      at: op.span,
      message: `${showOp(op)} on rank ${rank} cannot run: ${why}`,
      fix: 'verify the schedule: it says what is missing or out of order',
    });
  }

  /** First look: who makes, sends and receives what. */
  private note(op: ScheduleOp, number: number, rank: number): void {
    const once = (table: Int32Array, at: number): void => {
      if (table[at] !== none) this.refuse(op, rank, 'the same was done before');
      table[at] = number;
    };
    switch (op.op) {
      case 'forward':
        return once(this.makes.activations, this.chunk(rank, op.chunk, op));
      case 'backward_input':
        this.inputBackward[this.chunk(rank, op.chunk, op)] = number;
        return once(this.makes.gradients, this.chunk(rank, op.chunk, op));
      case 'backward':
        return once(this.makes.gradients, this.chunk(rank, op.chunk, op));
      case 'overlap':
        once(this.makes.activations, this.chunk(rank, op.forward, op));
        return once(this.makes.gradients, this.chunk(rank, op.backward, op));
      case 'send':
        return once(this.sentBy[op.payload], this.chunk(rank, op.chunk, op));
      case 'receive':
        return once(this.receivedBy[op.payload], this.chunk(op.peer, op.chunk, op));
      default:
    }
  }

  private commits(): void {
    for (const [rank, { ops }] of this.schedule.programs.entries()) {
      let commit = none;
      for (let i = ops.length - 1; i >= 0; i--) {
        if (ops[i].op === 'commit') commit = this.firstOp[rank] + i;
        else if (ops[i].op === 'send' || ops[i].op === 'receive') {
          if (commit === none) this.refuse(ops[i], rank, 'no commit follows');
          this.tables.startedBy[this.firstOp[rank] + i] = commit;
        }
      }
    }
  }

  /** Second look: what each op takes from others. */
  private connect(op: ScheduleOp, number: number, rank: number): void {
    switch (op.op) {
      case 'forward':
        return this.takeActivations(op, op.chunk, number, rank);
      case 'backward':
      case 'backward_input':
        return this.takeGradients(op, op.chunk, number, rank);
      case 'overlap':
        this.takeActivations(op, op.forward, number, rank);
        return this.takeGradients(op, op.backward, number, rank);
      case 'weights':
        this.tables.deferredBy[number] = this.inputBackward[this.chunk(rank, op.chunk, op)];
        if (this.tables.deferredBy[number] === none)
          this.refuse(op, rank, 'no backward_input of that chunk is there');
        return;
      case 'send':
        return this.connectSend(op, op.payload, number, rank);
      case 'receive': {
        const sent = this.sentBy[op.payload][this.chunk(op.peer, op.chunk, op)];
        if (sent === none) this.refuse(op, rank, `rank ${op.peer} does not send it`);
        this.tables.answeredBy[number] = this.tables.startedBy[sent];
        return;
      }
      default:
    }
  }

  private connectSend(
    op: ScheduleOp & { op: 'send' | 'receive' },
    payload: Payload,
    number: number,
    rank: number,
  ): void {
    const chunk = this.chunk(rank, op.chunk, op);
    const made = this.makes[payload][chunk];
    if (made === none || made > number) this.refuse(op, rank, 'nothing before it made what it sends');
    const received = this.receivedBy[payload][chunk];
    if (received === none || received < this.firstOp[op.peer] || received >= this.firstOp[op.peer + 1])
      this.refuse(op, rank, `rank ${op.peer} does not receive it`);
    this.tables.sends[number] = made;
    this.tables.answeredBy[number] = this.tables.startedBy[received];
  }

  private takeActivations(op: ScheduleOp, c: Chunk, number: number, rank: number): void {
    const from = this.flow.previous({ rank, direction: c.direction });
    if (from) this.take('activations', op, c, number, rank, from);
  }

  private takeGradients(op: ScheduleOp, c: Chunk, number: number, rank: number): void {
    const from = this.flow.next({ rank, direction: c.direction });
    if (from) return this.take('gradients', op, c, number, rank, from);
    const forward = this.makes.activations[this.chunk(rank, c, op)];
    if (forward === none) this.refuse(op, rank, 'no forward of that chunk is there');
    this.tables.lossFrom[number] = forward;
  }

  private take(payload: Payload, op: ScheduleOp, c: Chunk, number: number, rank: number, from: Place): void {
    const [made, via] =
      payload === 'activations'
        ? [this.tables.activationsFrom, this.tables.activationsVia]
        : [this.tables.gradientsFrom, this.tables.gradientsVia];
    const chunk = this.chunk(from.rank, { direction: from.direction, microBatch: c.microBatch }, op);
    made[number] = this.makes[payload][chunk];
    if (made[number] === none)
      this.refuse(op, rank, `rank ${from.rank} does not make the ${payload} that it takes`);
    if (from.rank === rank) return;
    const received = this.receivedBy[payload][chunk];
    const arrives = received === none ? none : this.tables.startedBy[received];
    if (arrives < this.firstOp[rank] || arrives > number)
      this.refuse(op, rank, `its ${payload} are not received from rank ${from.rank} and committed before it`);
    const sent = this.sentBy[payload][chunk];
    if (sent === none) this.refuse(op, rank, `rank ${from.rank} does not send the ${payload} that it takes`);
    via[number] = this.tables.startedBy[sent];
  }
}
