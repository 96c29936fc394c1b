// Runs a parsed entry: every thread is a program counter and registers that go on until they need others (a barrier, a
// warp-wide exchange); then the scheduler lets those who have gathered pass. CTAs run one after another. Functional
// only: no timing, no weak memory; the order of threads can be reversed to show what depends on it.
import { DeviceMemory } from './memory.ts';
import { compile, type Step } from './instructions.ts';
import { parsePtx, type PtxEntry } from './parse.ts';

export type Order = 'forward' | 'reverse';

export interface LaunchOptions {
  readonly memory: DeviceMemory;
  readonly grid: readonly [number, number, number];
  /** Values of the parameters in order: sizes and addresses. */
  readonly parameters: readonly number[];
  /** Which entry; may be left out when there is one. */
  readonly entry?: string;
  readonly dynamicSharedBytes?: number;
  readonly order?: Order;
  /** Instructions per thread before a loop counts as endless. */
  readonly limit?: number;
}

/** Why a thread stands still: at a collective of its warp, or at a barrier of its CTA. */
export interface Waiting {
  readonly kind: 'warp' | 'barrier';
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

  constructor(machine: Machine, id: readonly [number, number, number], registers: number) {
    this.machine = machine;
    this.id = id;
    this.shared = new Uint8Array(machine.sharedBytes).fill(0xcd);
    this.sharedView = new DataView(this.shared.buffer);
    const [x, y, z] = machine.entry.threads;
    this.threads = Array.from({ length: x * y * z }, (_, tid) => new Thread(this, tid, registers));
  }
}

/** First byte of shared memory that variables get: the system keeps what is below. */
export const sharedBase = 0x400;

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
  private readonly program: readonly Step[];

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
      throw new Error(`${entry.name} takes ${entry.parameters.length} parameters, but got ${options.parameters.length}`);
    let bytes = 0;
    for (const p of entry.parameters) {
      bytes = Math.ceil(bytes / p.bytes) * p.bytes;
      this.parameterOffsets.set(p.name, bytes);
      bytes += p.bytes;
    }
    this.parameterView = new DataView(new ArrayBuffer(bytes));
    for (const [i, p] of entry.parameters.entries()) {
      const offset = this.parameterOffsets.get(p.name)!;
      if (p.bytes === 8) this.parameterView.setBigUint64(offset, BigInt(options.parameters[i]), true);
      else this.parameterView.setUint32(offset, options.parameters[i], true);
    }
    this.program = entry.instructions.map((i) => compile(i, this));
  }

  run(order: Order, limit: number): void {
    const [gx, gy, gz] = this.grid;
    for (let z = 0; z < gz; z++)
      for (let y = 0; y < gy; y++) for (let x = 0; x < gx; x++) this.runCta(new Cta(this, [order === 'forward' ? x : gx - 1 - x, y, z], this.registers.size), order, limit);
  }

  private runCta(cta: Cta, order: Order, limit: number): void {
    const threads = order === 'forward' ? cta.threads : [...cta.threads].reverse();
    for (;;) {
      for (const t of threads) if (!t.done && !t.waiting) this.runThread(t, limit);
      if (threads.every((t) => t.done)) return;
      if (!this.release(cta)) throw this.stuck(cta);
    }
  }

  private runThread(t: Thread, limit: number): void {
    const { program } = this;
    while (!t.done && !t.waiting) {
      if (t.pc >= program.length) {
        t.done = true;
        return;
      }
      if (++t.executed > limit) throw this.error(t, `no end after ${limit} instructions`);
      const step = program[t.pc];
      t.pc++;
      try {
        step.run(t);
      } catch (e) {
        t.pc--;
        throw this.error(t, e instanceof Error ? e.message : String(e));
      }
    }
  }

  private error(t: Thread, message: string): Error {
    const i = this.entry.instructions[t.pc];
    return new Error(`${this.entry.name}, CTA ${t.cta.id.join(',')}, thread ${t.tid}, line ${i?.line}: ${i?.text}: ${message}`);
  }

  private stuck(cta: Cta): Error {
    const places = new Map<string, number>();
    for (const t of cta.threads)
      if (t.waiting) {
        const i = this.entry.instructions[t.pc - 1];
        const place = `line ${i.line}: ${i.text}`;
        places.set(place, (places.get(place) ?? 0) + 1);
      }
    return new Error(`${this.entry.name}: deadlock; ${[...places].map(([p, n]) => `${n} threads wait at ${p}`).join(', ')}`);
  }

  /** Lets threads pass that have gathered. False when nobody could go on. */
  private release(cta: Cta): boolean {
    let any = false;
    for (let first = 0; first < cta.threads.length; first += 32) any = this.releaseWarp(cta.threads.slice(first, first + 32)) || any;
    return this.releaseBarriers(cta) || any;
  }

  private releaseWarp(lanes: readonly Thread[]): boolean {
    let any = false;
    for (const t of lanes) {
      const w = t.waiting;
      if (w?.kind !== 'warp') continue;
      const members = lanes.filter((_, i) => (w.mask >>> i) & 1);
      if (!members.every((m) => !m.done && m.waiting?.kind === 'warp' && m.pc === t.pc && m.waiting.mask === w.mask)) continue;
      this.program[t.pc - 1].together!(members, lanes);
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
      if (there.some((o) => o.waiting!.count !== w.count)) throw new Error(`${this.entry.name}: barrier ${w.barrier} with different counts`);
      this.program[t.pc - 1].together?.(there, cta.threads);
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
  const entry = options.entry === undefined && entries.length === 1 ? entries[0] : entries.find((e) => e.name === options.entry);
  if (!entry) throw new Error(`no entry ${options.entry} among ${entries.map((e) => e.name).join(', ')}`);
  new Machine(entry, options).run(options.order ?? 'forward', options.limit ?? 50_000_000);
}
