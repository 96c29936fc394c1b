// Runs a parsed entry: every thread is a program counter and registers that go on until they need others (a barrier, a
// warp-wide exchange); then the scheduler lets those who have gathered pass. CTAs run one after another. Functional
// only: no timing, no weak memory; the order of threads can be reversed to show what depends on it, and asynchronous work
// lands in an order that depends on a seed.
import { AsyncWork } from './async-work.ts';
import { parameterBase, sharedBase, type DeviceMemory } from './memory.ts';
import { compile, type Step } from './instructions.ts';
import { parsePtx, type PtxEntry } from './parse.ts';
import { tensorMapProblem, type TensorMap } from './tensor-map.ts';

export type Order = 'forward' | 'reverse';

export interface LaunchOptions {
  readonly memory: DeviceMemory;
  readonly grid: readonly [number, number, number];
  /** Runs this CTA alone. */
  readonly only?: readonly [number, number, number];
  /** Values of the parameters in order: sizes, addresses and tensor maps. */
  readonly parameters: readonly (number | TensorMap)[];
  /** Which entry; may be left out when there is one. */
  readonly entry?: string;
  readonly dynamicSharedBytes?: number;
  readonly order?: Order;
  /** Decides when asynchronous work lands and which warps dawdle, in kernels that have such work. */
  readonly seed?: number;
  /** Instructions per thread before a loop counts as endless. */
  readonly limit?: number;
}

/** Why a thread stands still: at a collective of its warp or warpgroup, or at a barrier of its CTA. */
export interface Waiting {
  readonly kind: 'warp' | 'warpgroup' | 'barrier';
  /** Lanes that take part, or the barrier's number and how many threads it takes (0: all). */
  readonly mask: number;
  readonly barrier: number;
  readonly count: number;
}

/** What a thread of registers holds when nothing was written to them: NaN, and no address. */
const poison = 0x7fc0dead | 0;

export class Thread {
  readonly lo: Int32Array;
  readonly hi: Int32Array;
  readonly f32: Float32Array;
  readonly cta: Cta;
  readonly tid: number;
  pc = 0;
  done = false;
  waiting: Waiting | null = null;
  /** Polls something that others must do first: its turn is over. */
  rests = false;
  executed = 0;

  constructor(cta: Cta, tid: number, registers: number) {
    this.cta = cta;
    this.tid = tid;
    this.lo = new Int32Array(registers).fill(poison);
    this.hi = new Int32Array(registers).fill(poison);
    this.f32 = new Float32Array(this.lo.buffer);
  }
}

export class Cta {
  readonly machine: Machine;
  readonly id: readonly [number, number, number];
  readonly shared: Uint8Array;
  readonly sharedView: DataView;
  readonly threads: Thread[];
  readonly warps: readonly (readonly Thread[])[];
  readonly work: AsyncWork;

  constructor(machine: Machine, id: readonly [number, number, number], registers: number, seed: number) {
    this.machine = machine;
    this.id = id;
    this.work = new AsyncWork(seed * 7919 + id[0] + 65537 * id[1] + 1);
    // Not a number, whatever float it is read as.
    this.shared = new Uint8Array(machine.sharedBytes).fill(0xff);
    this.sharedView = new DataView(this.shared.buffer);
    const [x, y, z] = machine.entry.threads;
    this.threads = Array.from({ length: x * y * z }, (_, tid) => new Thread(this, tid, registers));
    this.warps = Array.from({ length: Math.ceil(this.threads.length / 32) }, (_, w) =>
      this.threads.slice(32 * w, 32 * w + 32),
    );
  }
}

/** Rounds of the scheduler in which nothing but polling happens, before that counts as a deadlock. */
const patience = 1000;

export class Machine {
  readonly entry: PtxEntry;
  readonly memory: DeviceMemory;
  readonly grid: readonly [number, number, number];
  readonly registers = new Map<string, number>();
  /** Addresses of shared variables. */
  readonly sharedVariables = new Map<string, number>();
  readonly sharedBytes: number;
  /** Bytes of the parameters, and where each starts. */
  readonly parameterView: DataView;
  readonly parameterOffsets = new Map<string, number>();
  private readonly tensorMaps = new Map<number, TensorMap>();
  private readonly program: readonly Step[];
  /** Whether threads may have to be interrupted and asynchronous work waited for. */
  private readonly isAsynchronous: boolean;

  constructor(entry: PtxEntry, options: LaunchOptions) {
    this.entry = entry;
    this.memory = options.memory;
    this.grid = options.grid;
    for (const name of entry.registers.keys()) this.registers.set(name, this.registers.size);
    let at = sharedBase;
    for (const s of entry.shared) {
      at = Math.ceil(at / s.align) * s.align;
      this.sharedVariables.set(s.name, at);
      at += s.bytes ?? options.dynamicSharedBytes ?? 0;
    }
    this.sharedBytes = at;
    if (options.parameters.length !== entry.parameters.length)
      throw new Error(
        `${entry.name} takes ${entry.parameters.length} parameters, but got ${options.parameters.length}`,
      );
    let bytes = 0;
    for (const p of entry.parameters) {
      bytes = Math.ceil(bytes / p.bytes) * p.bytes;
      this.parameterOffsets.set(p.name, bytes);
      bytes += p.bytes;
    }
    this.parameterView = new DataView(new ArrayBuffer(bytes));
    for (const [i, p] of entry.parameters.entries()) {
      const offset = this.parameterOffsets.get(p.name)!;
      const value = options.parameters[i];
      if (typeof value === 'object') this.addTensorMap(p, offset, value);
      else if (p.bytes === 8) this.parameterView.setBigUint64(offset, BigInt(value), true);
      else this.parameterView.setUint32(offset, value, true);
    }
    this.program = entry.instructions.map((i) => compile(i, this));
    this.isAsynchronous = entry.instructions.some((i) => i.opcode === 'mbarrier' || i.opcode === 'cp');
  }

  private addTensorMap(p: PtxEntry['parameters'][number], offset: number, map: TensorMap): void {
    if (p.bytes !== 128) throw new Error(`${p.name} has ${p.bytes} bytes, a tensor map has 128`);
    const problem = tensorMapProblem(map);
    if (problem) throw new Error(`tensor map ${p.name}: ${problem}`);
    this.tensorMaps.set(offset, map);
  }

  /** The tensor map at a generic address. */
  tensorMap(address: number): TensorMap {
    const found = this.tensorMaps.get(address - parameterBase);
    if (!found) throw new Error(`no tensor map at address ${address}`);
    return found;
  }

  /** Runs one CTA of the grid. */
  runOne(id: readonly [number, number, number], order: Order, limit: number, seed: number): void {
    this.runCta(new Cta(this, id, this.registers.size, seed), order, limit);
  }

  run(order: Order, limit: number, seed: number): void {
    const [gx, gy, gz] = this.grid;
    for (let z = 0; z < gz; z++)
      for (let y = 0; y < gy; y++)
        for (let x = 0; x < gx; x++)
          this.runOne([order === 'forward' ? x : gx - 1 - x, y, z], order, limit, seed);
  }

  private runCta(cta: Cta, order: Order, limit: number): void {
    const threads = order === 'forward' ? cta.threads : [...cta.threads].reverse();
    for (let idle = 0; ;) {
      const asleep = this.isAsynchronous
        ? threads.map((t) => t.tid % 32 === 0 && cta.work.sleeps(t.tid >> 5))
        : null;
      for (const t of threads)
        if (
          !t.done &&
          !t.waiting &&
          !asleep?.[order === 'forward' ? t.tid & ~31 : threads.length - 1 - (t.tid & ~31)]
        )
          this.runThread(t, limit);
      if (threads.every((t) => t.done)) break;
      const moved = this.release(cta);
      if (cta.work.land() || moved) idle = 0;
      else if (++idle > (this.isAsynchronous ? patience : 0)) throw this.stuck(cta);
    }
    if (!cta.work.isIdle) throw new Error(`${this.entry.name}: exits while copies are under way`);
  }

  private runThread(t: Thread, limit: number): void {
    const { program } = this;
    t.rests = false;
    const end = program.length;
    let executed = t.executed;
    try {
      while (!t.done && !t.waiting && !t.rests) {
        if (t.pc >= end) {
          t.done = true;
          break;
        }
        if (++executed > limit) throw new Error(`no end after ${limit} instructions`);
        program[t.pc++].run(t);
      }
    } catch (e) {
      t.pc--;
      throw this.error(t, e instanceof Error ? e.message : String(e));
    }
    t.executed = executed;
  }

  private error(t: Thread, message: string): Error {
    const i = this.entry.instructions[t.pc];
    return new Error(
      `${this.entry.name}, CTA ${t.cta.id.join(',')}, thread ${t.tid}, line ${i?.line}: ${i?.text}: ${message}`,
    );
  }

  private stuck(cta: Cta): Error {
    const places = new Map<string, number>();
    for (const t of cta.threads)
      if (!t.done) {
        const i = this.entry.instructions[Math.max(0, t.pc - 1)];
        const place = `line ${i.line}: ${i.text}`;
        places.set(place, (places.get(place) ?? 0) + 1);
      }
    return new Error(
      `${this.entry.name}: deadlock; ${[...places].map(([p, n]) => `${n} threads wait at ${p}`).join(', ')}`,
    );
  }

  /** Lets threads pass that have gathered. False when nobody could go on. */
  private release(cta: Cta): boolean {
    const kinds = new Set<Waiting['kind']>();
    for (const t of cta.threads) if (t.waiting) kinds.add(t.waiting.kind);
    let any = false;
    if (kinds.has('warp')) for (const lanes of cta.warps) any = this.releaseWarp(lanes) || any;
    if (kinds.has('warpgroup'))
      for (let first = 0; first < cta.threads.length; first += 128)
        any = this.releaseWarpgroup(cta.threads.slice(first, first + 128)) || any;
    return (kinds.has('barrier') && this.releaseBarriers(cta)) || any;
  }

  private releaseWarpgroup(members: readonly Thread[]): boolean {
    const [{ pc, waiting }] = members;
    if (waiting?.kind !== 'warpgroup' || members.length < 128) return false;
    if (members.some((t) => t.done || t.pc !== pc || t.waiting?.kind !== 'warpgroup')) return false;
    this.together(pc, members, members);
    for (const t of members) t.waiting = null;
    return true;
  }

  /** Runs what threads have gathered for at the instruction before `pc`. */
  private together(pc: number, members: readonly Thread[], lanes: readonly Thread[]): void {
    try {
      this.program[pc - 1].together?.(members, lanes);
    } catch (e) {
      const i = this.entry.instructions[pc - 1];
      const message = e instanceof Error ? e.message : String(e);
      throw new Error(
        `${this.entry.name}, thread ${members[0].tid} and others, line ${i.line}: ${i.text}: ${message}`,
      );
    }
  }

  private releaseWarp(lanes: readonly Thread[]): boolean {
    let any = false;
    for (const t of lanes) {
      const w = t.waiting;
      if (w?.kind !== 'warp') continue;
      const members = lanes.filter((_, i) => (w.mask >>> i) & 1);
      if (
        !members.every(
          (m) => !m.done && m.waiting?.kind === 'warp' && m.pc === t.pc && m.waiting.mask === w.mask,
        )
      )
        continue;
      this.together(t.pc, members, lanes);
      for (const m of members) m.waiting = null;
      any = true;
    }
    return any;
  }

  private releaseBarriers(cta: Cta): boolean {
    const live = cta.threads.filter((t) => !t.done);
    for (const t of live) {
      const w = t.waiting;
      if (w?.kind !== 'barrier') continue;
      const there = live.filter((o) => o.waiting?.kind === 'barrier' && o.waiting.barrier === w.barrier);
      // All threads of the CTA, those that have exited not counted; or as many as the instruction says.
      if (there.length < (w.count === 0 ? live.length : w.count)) continue;
      if (there.some((o) => o.waiting!.count !== w.count))
        throw new Error(`${this.entry.name}: barrier ${w.barrier} with different counts`);
      if (w.count !== 0 && there.length > w.count)
        throw new Error(`${this.entry.name}: more threads than ${w.count} at barrier ${w.barrier}`);
      this.together(t.pc, there, cta.threads);
      for (const o of there) o.waiting = null;
      return true;
    }
    return false;
  }
}

/**
 * Runs one launch of a kernel in PTX text on `memory`. Throws an Error that names the thread and the line when the
 * kernel leaves its memory, traps, deadlocks or does not end.
 */
export function runPtx(ptx: string, options: LaunchOptions): void {
  const entries = parsePtx(ptx);
  const entry =
    options.entry === undefined && entries.length === 1
      ? entries[0]
      : entries.find((e) => e.name === options.entry);
  if (!entry) throw new Error(`no entry ${options.entry} among ${entries.map((e) => e.name).join(', ')}`);
  const machine = new Machine(entry, options);
  const { order = 'forward', limit = 50_000_000, seed = 1, only } = options;
  if (only) machine.runOne(only, order, limit, seed);
  else machine.run(order, limit, seed);
}
