// Runs a kernel of our builder in TypeScript, for tests only: one CTA after the other, threads one by one, warp-wide
// and warpgroup-wide instructions when all their threads have come to them. Asynchronous work (TMA, cp.async, wgmma)
// lands late and in a seeded random order, and shared memory starts as NaN patterns, so a missing wait shows up as a
// wrong number. It knows only the instructions that the tile kernels use and throws on any other.
import type { Instruction, PtxKernel } from '../ast.ts';
import type { Address, Operand, Reg, Sym, TensorAddress } from '../operands.ts';
import { bitsOf, type ScalarType } from '../types.ts';
import { swizzled } from './formats.ts';

/** A tensor map as the host would encode it; `address` in the interpreter's global memory. */
export interface TestTensorMap {
  readonly address: number;
  readonly elementBytes: number;
  readonly dims: readonly number[];
  readonly stridesBytes: readonly number[];
  readonly box: readonly number[];
  readonly swizzleBytes: number;
}

export interface TestLaunch {
  readonly grid: number;
  readonly threads: number;
  readonly sharedBytes: number;
  /** Values by parameter, in order: numbers, or tensor maps. */
  readonly parameters: readonly (number | TestTensorMap)[];
  /** Global memory; address 0 is its first byte. */
  readonly memory: ArrayBuffer;
  readonly seed: number;
}

/** User shared memory starts here on the hardware too. */
export const sharedBase = 0x400;
/** What a step returns instead of the next instruction. */
export const blocked = -1;
export const exits = -2;
/** Generic address of parameter i, far from any buffer. */
export const parameterBase = 2 ** 40;

export interface Barrier {
  phase: number;
  pending: number;
  expected: number;
  bytes: number;
}
export interface Thread {
  readonly id: number;
  readonly values: (number | bigint)[];
  pc: number;
  state: 'runs' | 'waits' | 'exited';
  /** cp.async copies of this thread that have not landed. */
  copies: number;
  /** Stores committed or being gathered whose source is still to be read. */
  storesUnread: number;
}
export interface Step {
  readonly instruction: Instruction;
  readonly scope: 'thread' | 'warp' | 'warpgroup' | 'barrier';
  readonly run: (t: Thread) => number | void;
}

const random = (seed: number) => {
  let state = seed >>> 0 || 1;
  return (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
};

/** The instructions' meaning, handed in so that machine and semantics do not import each other. */
export interface Semantics {
  stepOf(cta: Cta, i: Instruction): Step;
  collective(cta: Cta, i: Instruction, members: readonly Thread[]): void;
}

export class Cta {
  readonly semantics: Semantics;
  readonly launch: TestLaunch;
  readonly cta: number;
  readonly kernel: PtxKernel;
  readonly steps: Step[] = [];
  readonly labels = new Map<string, number>();
  readonly slots = new Map<string, number>();
  readonly threads: Thread[];
  readonly shared: DataView;
  readonly global: DataView;
  readonly barriers = new Map<number, Barrier>();
  /** Asynchronous work: counts down passes of the scheduler, then runs. */
  readonly events: { delay: number; run: () => void }[] = [];
  /** wgmmas issued and not yet waited for, per warpgroup. */
  readonly products = new Map<number, (() => void)[]>();
  readonly chance: () => number;
  activity = 0;
  /** Passes that a warp still sleeps. */
  readonly sleep = new Map<number, number>();

  constructor(kernel: PtxKernel, launch: TestLaunch, cta: number, semantics: Semantics) {
    this.semantics = semantics;
    this.kernel = kernel;
    this.launch = launch;
    this.cta = cta;
    this.chance = random(launch.seed * 7919 + cta + 1);
    this.shared = new DataView(new Uint8Array(launch.sharedBytes).fill(0xff).buffer);
    this.global = new DataView(launch.memory);
    for (const s of kernel.body) {
      if (s.kind === 'label') this.labels.set(s.name, this.steps.length);
      else if (s.kind === 'instruction') this.steps.push(semantics.stepOf(this, s));
    }
    this.threads = Array.from({ length: launch.threads }, (_, id) => ({
      id,
      values: [],
      pc: 0,
      state: 'runs',
      copies: 0,
      storesUnread: 0,
    }));
  }

  run(): void {
    // Spinning on a barrier is no progress; a phase that completes, a group that goes on, a copy that lands are.
    for (let idle = 0; this.threads.some((t) => t.state !== 'exited') || this.events.length > 0; idle++) {
      const before = this.activity;
      // Warps fall asleep for a while, so that they get out of step.
      for (let warp = 0; warp * 32 < this.threads.length; warp++) {
        const sleeps = this.sleep.get(warp) ?? 0;
        this.sleep.set(
          warp,
          sleeps > 0 ? sleeps - 1 : this.chance() < 0.1 ? Math.floor(this.chance() * 12) : 0,
        );
        if (sleeps === 0) for (const t of this.threads.slice(warp * 32, warp * 32 + 32)) this.advance(t);
      }
      this.release();
      this.land();
      if (this.activity !== before) idle = 0;
      if (idle > 1000) throw new Error(`cta ${this.cta}: deadlock, ${this.describe()}`);
    }
  }

  describe(): string {
    const places = new Map<string, number>();
    for (const t of this.threads) {
      const i = this.steps[t.pc]?.instruction;
      const key = t.state === 'exited' ? 'exited' : `${t.pc} ${i?.opcode}.${i?.modifiers.join('.')}`;
      places.set(key, (places.get(key) ?? 0) + 1);
    }
    return [...places].map(([at, n]) => `${n} threads at ${at}`).join(', ');
  }

  /** Runs a thread until it must wait, or branches back: a spinning thread must not starve the others. */
  advance(t: Thread): void {
    while (t.state === 'runs') {
      const step = this.steps[t.pc]!;
      const { guard } = step.instruction;
      if (guard && Boolean(this.get(t, guard.predicate)) === guard.negated) {
        t.pc++;
        continue;
      }
      if (step.scope !== 'thread') {
        t.state = 'waits';
        return;
      }
      const next = step.run(t);
      if (next === blocked) return;
      if (next === exits) {
        t.state = 'exited';
        this.activity++;
        return;
      }
      const from = t.pc;
      t.pc = next ?? from + 1;
      if (t.pc <= from) return;
    }
  }

  /** Lets groups go whose members all wait at one instruction. */
  release(): void {
    const size = { thread: 1, warp: 32, warpgroup: 128, barrier: 0 };
    const arrived = new Map<string, Thread[]>();
    for (const t of this.threads) {
      if (t.state !== 'waits') continue;
      const { scope, instruction } = this.steps[t.pc]!;
      // bar.sync: all that name the barrier, wherever they wait.
      const group =
        scope === 'barrier'
          ? `b${this.value(t, instruction.operands[0]!)}`
          : `${scope}${Math.floor(t.id / size[scope])}@${t.pc}`;
      const members = arrived.get(group) ?? [];
      members.push(t);
      arrived.set(group, members);
    }
    for (const members of arrived.values()) {
      const { scope, instruction } = this.steps[members[0]!.pc]!;
      const wanted =
        scope === 'barrier'
          ? instruction.operands[1] === undefined
            ? this.launch.threads
            : Number(this.value(members[0]!, instruction.operands[1]))
          : size[scope];
      if (members.length < wanted) continue;
      if (members.length > wanted) throw new Error(`more threads than ${wanted} at ${instruction.opcode}`);
      this.semantics.collective(this, instruction, members);
      for (const t of members) {
        t.pc++;
        t.state = 'runs';
      }
      this.activity++;
    }
  }

  land(): void {
    for (let i = this.events.length - 1; i >= 0; i--) {
      const event = this.events[i]!;
      if (event.delay-- > 0) continue;
      this.events.splice(i, 1);
      event.run();
      this.activity++;
    }
  }

  later(run: () => void): void {
    this.events.push({ delay: Math.floor(this.chance() * 6), run });
  }

  // --- registers and memory -------------------------------------------------------------------------------------

  slot(r: Reg): number {
    let slot = this.slots.get(r.name);
    if (slot === undefined) this.slots.set(r.name, (slot = this.slots.size));
    return slot;
  }
  get(t: Thread, r: Reg): number | bigint {
    const value = t.values[this.slot(r)];
    if (value === undefined) throw new Error(`${r.name} is read before it is written`);
    return value;
  }
  set(t: Thread, r: Operand, value: number | bigint): void {
    t.values[this.slot(r as Reg)] = value;
  }
  value(t: Thread, operand: Operand): number {
    if (typeof operand === 'number') return operand;
    const o = operand as Reg | Sym | { kind: 'special'; name: string };
    if (o.kind === 'reg') return Number(this.get(t, o));
    if (o.kind === 'symbol') return o.space === 'shared' ? sharedBase : this.parameter(o);
    const specials: Record<string, number> = {
      '%tid.x': t.id,
      '%ctaid.x': this.cta,
      '%nctaid.x': this.launch.grid,
      '%laneid': t.id % 32,
    };
    const special = specials[o.name];
    if (special === undefined) throw new Error(`no value for ${o.name}`);
    return special;
  }
  parameter(s: Sym): number {
    return parameterBase + this.kernel.parameters.findIndex((p) => p.name === s.name);
  }
  map(address: number): TestTensorMap {
    const map = this.launch.parameters[address - parameterBase];
    if (typeof map !== 'object') throw new Error(`no tensor map at ${address}`);
    return map;
  }
  address(t: Thread, operand: Operand): number {
    const { base, offset } = operand as Address;
    return this.value(t, base) + offset;
  }
  barrier(address: number): Barrier {
    const barrier = this.barriers.get(address);
    if (!barrier) throw new Error(`no mbarrier at ${address}`);
    return barrier;
  }
  settle(b: Barrier): void {
    if (b.pending < 0) throw new Error('more arrivals than the mbarrier counts');
    if (b.pending === 0 && b.bytes === 0) {
      b.phase++;
      this.activity++;
      b.pending = b.expected;
    }
  }
  load(view: DataView, at: number, type: ScalarType): number {
    if (at % (bitsOf[type] / 8) !== 0) throw new Error(`misaligned ${type} at ${at}`);
    if (type === 'f32') return view.getFloat32(at, true);
    return type.startsWith('s') ? view.getInt32(at, true) : view.getUint32(at, true);
  }

  // --- asynchronous copies --------------------------------------------------------------------------------------

  /** Visits a box: shared address, global address or undefined when out of bounds. */
  box(
    map: TestTensorMap,
    origin: readonly number[],
    shared: number,
    visit: (s: number, g: number | undefined) => void,
  ): void {
    const count = map.box.reduce((a, b) => a * b, 1);
    if (shared % 128 !== 0) throw new Error(`TMA: shared address ${shared} is not 128-byte aligned`);
    for (let i = 0; i < count; i++) {
      let rest = i;
      let from: number | undefined = map.address;
      for (let d = 0; d < map.dims.length; d++) {
        const c: number = origin[d]! + (rest % map.box[d]!);
        rest = Math.floor(rest / map.box[d]!);
        if (c < 0 || c >= map.dims[d]!) from = undefined;
        if (from !== undefined) from += c * (d === 0 ? map.elementBytes : map.stridesBytes[d - 1]!);
      }
      for (let b = 0; b < map.elementBytes; b++)
        visit(
          swizzled(shared + i * map.elementBytes + b, map.swizzleBytes) - sharedBase,
          from === undefined ? undefined : from + b,
        );
    }
  }

  tensor(t: Thread, operand: Operand): { map: TestTensorMap; origin: number[] } {
    const { map, coordinates } = operand as TensorAddress;
    return { map: this.map(this.value(t, map)), origin: coordinates.map((c) => this.value(t, c) | 0) };
  }
}
