// Runs a schedule as ranks would, with names for numbers: what is computed from what. It knows none of the verifier's
// rules: a schedule is harmless when every rank comes to its end and each stage has gathered exactly the weight gradients
// that plain one-after-the-other computation gives it, each chunk's work was done once, in the stated memory.
import { isCompute, showChunk, type Chunk, type Schedule, type TransferOp } from '../../../ir/schedule.ts';
import { flowOf, type Flow, type Place } from '../flow.ts';

export type Transfers = 'async' | 'blocking';

/** Messages from one rank to another, in the order in which they meet. */
interface Channel {
  readonly sent: string[];
  receives: number;
}

interface RankState {
  at: number;
  /** Arrived at the commit at `at` and posted its batch. */
  posted: boolean;
  queue: { readonly op: TransferOp; readonly value: string; readonly label: string }[];
  /** By label: the channel and which of its messages. */
  readonly slots: Map<string, { readonly channel: Channel; readonly index: number }>;
  /** By label: activations and gradients made here, and inputs of forwards. */
  readonly made: Map<string, string>;
  readonly live: Set<string>;
  readonly deferred: { readonly label: string; readonly value: string }[];
  /** What the rank's last batch waits for (blocking). */
  pending: (() => boolean)[];
}

class Fault extends Error {}

const label = (payload: string, c: Chunk): string => `${payload} ${showChunk(c)}`;

/** Why running it does harm; null when it does none. */
export function harm(schedule: Schedule, transfers: Transfers): string | null {
  const flow = flowOf(schedule);
  if (typeof flow === 'string') return flow;
  const machine = new Machine(schedule, flow, transfers);
  try {
    return machine.run();
  } catch (error) {
    if (error instanceof Fault) return error.message;
    throw error;
  }
}

class Machine {
  readonly schedule: Schedule;
  readonly flow: Flow;
  readonly transfers: Transfers;
  readonly ranks: RankState[];
  readonly channels = new Map<string, Channel>();
  readonly done: string[] = [];

  constructor(schedule: Schedule, flow: Flow, transfers: Transfers) {
    this.schedule = schedule;
    this.flow = flow;
    this.transfers = transfers;
    this.ranks = schedule.programs.map(() => ({
      at: 0,
      posted: false,
      queue: [],
      slots: new Map(),
      made: new Map(),
      live: new Set(),
      deferred: [],
      pending: [],
    }));
  }

  run(): string | null {
    for (let moved = true; moved;) {
      moved = false;
      for (let rank = 0; rank < this.ranks.length; rank++) while (this.step(rank)) moved = true;
    }
    for (const [rank, state] of this.ranks.entries()) {
      if (state.at < this.schedule.programs[rank].ops.length) return `rank ${rank} hangs at op ${state.at}`;
      if (state.queue.length > 0) return `rank ${rank} leaves transfers queued`;
      if (state.deferred.length > 0) return `rank ${rank} owes weight gradients`;
    }
    for (const [name, c] of this.channels)
      if (c.sent.length !== c.receives) return `${name}: ${c.sent.length} sent, ${c.receives} received`;
    const expected = this.expected().sort().join('\n');
    return this.done.sort().join('\n') === expected
      ? null
      : 'other work was done than computation one by one does';
  }

  /** One operation of a rank; false when it has to wait or is at its end. */
  step(rank: number): boolean {
    const state = this.ranks[rank];
    const op = this.schedule.programs[rank].ops[state.at];
    if (op === undefined) return false;
    if (op.op === 'commit') {
      if (!this.commit(rank, state)) return false;
    } else if (isCompute(op)) {
      const parts =
        op.op === 'overlap'
          ? ([
              ['forward', op.forward],
              ['backward', op.backward],
            ] as const)
          : ([[op.op, op.chunk]] as const);
      // Both parts of an overlap start together: neither has what the other makes.
      const works = parts.map(([part, chunk]) => this.work(rank, state, part, chunk));
      if (works.some((w) => w === null)) return false;
      for (const w of works) w!();
    } else this.enqueue(rank, state, op);
    state.at++;
    return true;
  }

  enqueue(rank: number, state: RankState, op: TransferOp): void {
    const name = label(op.payload, op.chunk);
    const value = op.op === 'send' ? state.made.get(name) : '';
    if (value === undefined) throw new Fault(`rank ${rank} sends ${name}, which it does not have`);
    if (op.op === 'receive' && state.slots.has(name)) throw new Fault(`rank ${rank} receives ${name} twice`);
    state.queue.push({ op, value, label: name });
  }

  channel(from: number, to: number): Channel {
    const key = `${from} -> ${to}`;
    const known = this.channels.get(key) ?? { sent: [], receives: 0 };
    this.channels.set(key, known);
    return known;
  }

  commit(rank: number, state: RankState): boolean {
    if (!state.posted) {
      state.posted = true;
      for (const { op, value, label: name } of state.queue) {
        const channel = op.op === 'send' ? this.channel(rank, op.peer) : this.channel(op.peer, rank);
        const index = op.op === 'send' ? channel.sent.length : channel.receives;
        if (op.op === 'send') {
          channel.sent.push(value);
          state.pending.push(() => channel.receives > index);
        } else {
          channel.receives++;
          state.slots.set(name, { channel, index });
          state.pending.push(() => channel.sent.length > index);
        }
      }
      state.queue = [];
    }
    if (this.transfers === 'blocking' && !state.pending.every((isMet) => isMet())) return false;
    state.posted = false;
    state.pending = [];
    return true;
  }

  /** What a stage is given; undefined while it is on its way. */
  input(rank: number, state: RankState, payload: 'activations' | 'gradients', c: Chunk): string | undefined {
    const place = { rank, direction: c.direction };
    const from = payload === 'activations' ? this.flow.previous(place) : this.flow.next(place);
    if (from === null) {
      if (payload === 'activations') return this.tokens(place, c.microBatch);
      const out = state.made.get(label('activations', c));
      if (out === undefined) throw new Fault(`rank ${rank} has no loss of ${showChunk(c)}`);
      return `loss(${out})`;
    }
    const name = label(payload, { direction: from.direction, microBatch: c.microBatch });
    if (from.rank === rank) {
      const value = state.made.get(name);
      if (value === undefined) throw new Fault(`rank ${rank} uses ${name} before making it`);
      return value;
    }
    const slot = state.slots.get(name);
    if (!slot) throw new Fault(`rank ${rank} uses ${name} and has not started to receive it`);
    return slot.channel.sent[slot.index];
  }

  tokens({ direction }: Place, microBatch: number): string {
    // In DualPipe each direction has its own micro-batches.
    return this.flow.microBatches === this.schedule.microBatches
      ? `x${microBatch}`
      : `x${direction}:${microBatch}`;
  }

  /** Checks that a part can start; its effects as a function, null when it has to wait. */
  work(
    rank: number,
    state: RankState,
    part: 'forward' | 'backward' | 'backward_input' | 'weights',
    c: Chunk,
  ): (() => void) | null {
    const stage = this.schedule.programs[rank].stages[c.direction];
    const key = showChunk(c);
    const { microBatches, directions } = this.flow;
    if (c.microBatch >= microBatches || c.direction >= directions) throw new Fault(`there is no ${key}`);
    if (part === 'forward') {
      const given = this.input(rank, state, 'activations', c);
      if (given === undefined) return null;
      return () => {
        state.live.add(key);
        if (state.live.size > this.schedule.bounds.activations)
          throw new Fault(`rank ${rank} is out of memory`);
        state.made.set(label('activations', c), `f${stage}(${given})`);
        state.made.set(label('input', c), given);
        this.done.push(`f${stage}(${given})`);
      };
    }
    if (part === 'weights')
      return () => {
        const oldest = state.deferred.shift();
        if (oldest?.label !== key) throw new Fault(`rank ${rank} takes ${oldest?.label} for ${key}`);
        this.done.push(`w${stage}(${oldest.value})`);
        state.live.delete(key);
      };
    if (!state.live.has(key)) throw new Fault(`rank ${rank} has no activations of ${key}`);
    const given = this.input(rank, state, 'gradients', c);
    if (given === undefined) return null;
    return () => {
      state.made.set(label('gradients', c), `b${stage}(${given})`);
      this.done.push(`b${stage}(${given})`);
      const value = `${state.made.get(label('input', c))}, ${given}`;
      if (part === 'backward_input') state.deferred.push({ label: key, value });
      else {
        this.done.push(`w${stage}(${value})`);
        state.live.delete(key);
      }
    };
  }

  /** The work of every micro-batch, one after the other through all stages and back. */
  expected(): string[] {
    const { stages, microBatches } = this.flow;
    const ways = this.schedule.microBatches / microBatches;
    const work: string[] = [];
    for (let direction = 0; direction < ways; direction++)
      for (let m = 0; m < microBatches; m++) {
        const inputs = [this.tokens({ rank: 0, direction }, m)];
        for (let s = 0; s < stages; s++) inputs.push(`f${s}(${inputs[s]})`);
        let gradient = `loss(${inputs[stages]})`;
        for (let s = stages - 1; s >= 0; s--) {
          work.push(`w${s}(${inputs[s]}, ${gradient})`, inputs[s + 1]);
          gradient = `b${s}(${gradient})`;
          work.push(gradient);
        }
      }
    return work;
  }
}
