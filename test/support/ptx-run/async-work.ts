// What goes on in a CTA beside its threads: copies and products that land late and in a seeded random order, so that a
// missing wait shows as wrong numbers, and the mbarriers that say when they have landed.

export interface Barrier {
  phase: number;
  /** Arrivals and bytes that the phase still waits for. */
  pending: number;
  bytes: number;
  readonly expected: number;
}

/** Seeded numbers in [0, 1): xorshift32. */
const random = (seed: number): (() => number) => {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
};

/** Asynchronous work in groups, as `commit_group` and `wait_group` see it. */
export class Groups<T> {
  private open: T[] = [];
  private readonly committed: T[][] = [];

  add(work: T): void {
    this.open.push(work);
  }

  commit(): void {
    this.committed.push(this.open);
    this.open = [];
  }

  /** Committed groups, oldest first, that are not among the newest `keep`. */
  before(keep: number): readonly (readonly T[])[] {
    return this.committed.slice(0, Math.max(0, this.committed.length - keep));
  }

  /** Takes those groups away, and gives them. */
  take(keep: number): readonly (readonly T[])[] {
    return this.committed.splice(0, Math.max(0, this.committed.length - keep));
  }

  /** All that is under way, committed or not. */
  get all(): readonly T[] {
    return [...this.committed.flat(), ...this.open];
  }
}

/** Copies of one thread: of cp.async how many have not landed, of bulk stores their groups. */
export class Copies {
  underWay = 0;
  readonly stores = new Groups<{ done: boolean }>();
}

export class AsyncWork {
  /** Random decisions of the CTA: how late work lands, who sleeps, which polls fail. */
  readonly chance: () => number;
  /** By shared address. */
  readonly barriers = new Map<number, Barrier>();
  private readonly byThread = new Map<number, Copies>();
  private events: { delay: number; readonly run: () => void }[] = [];
  private readonly sleep = new Map<number, number>();
  private progress = false;

  constructor(seed: number) {
    this.chance = random(seed);
  }

  /** Runs something a few rounds of the scheduler later. */
  later(run: () => void): void {
    this.events.push({ delay: Math.floor(this.chance() * 6), run });
  }

  /** Nothing is under way. */
  get isIdle(): boolean {
    return this.events.length === 0;
  }

  copies(thread: number): Copies {
    let found = this.byThread.get(thread);
    if (!found) this.byThread.set(thread, (found = new Copies()));
    return found;
  }

  /** A round of the scheduler has passed: what is due lands. True when anything has moved since the last round. */
  land(): boolean {
    const due = this.events.filter((e) => e.delay <= 0).reverse();
    this.events = this.events.filter((e) => e.delay > 0);
    for (const e of this.events) e.delay--;
    for (const e of due) e.run();
    const moved = this.progress || due.length > 0;
    this.progress = false;
    return moved;
  }

  /** Warps fall asleep for a few rounds, so that they get out of step. Call it once per round and warp. */
  sleeps(warp: number): boolean {
    const left = this.sleep.get(warp) ?? 0;
    this.sleep.set(warp, left > 0 ? left - 1 : this.chance() < 0.1 ? Math.floor(this.chance() * 12) : 0);
    return left > 0;
  }

  barrier(address: number): Barrier {
    const found = this.barriers.get(address);
    if (!found) throw new Error(`no mbarrier was initialised at shared address ${address}`);
    return found;
  }

  /** Takes arrivals and bytes off a barrier's phase (negative bytes: more are to come) and completes it when both are 0. */
  arrive(b: Barrier, arrivals: number, bytes: number): void {
    b.pending -= arrivals;
    b.bytes -= bytes;
    if (b.pending < 0) throw new Error('more arrivals than the mbarrier counts');
    if (b.pending > 0 || b.bytes !== 0) return;
    b.phase++;
    b.pending = b.expected;
    this.progress = true;
  }
}
