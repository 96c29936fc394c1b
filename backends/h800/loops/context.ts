// What the writers of one kernel share: the builder, the kernel's parameters (declared before the first instruction
// that needs one, so that every use is dominated), and constant tables in shared memory.
import { dtypeInfo } from '../../../ir/formats/index.ts';
import { indicesOf, partsOf, type Buffer, type Expr, type Pool } from '../../../ir/loops/expr.ts';
import type { Index } from '../../../ir/loops/indices.ts';
import type { Function, Module } from '../../../ir/module.ts';
import type { EmittedKernel, GridRule, KernelFamily, KernelParameter } from '../../../ir/plan.ts';
import type { RoutingType } from '../../../ir/types.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { ptxModule } from '../../ptx/module.ts';
import { special, type Reg } from '../../ptx/operands.ts';

/** Multiprocessors of the H800: how many CTAs make a full wave. */
export const multiprocessors = 132;

/** Bytes of an element; E5M6 packs two codes into three bytes and is addressed apart. */
export const bytesOf = (b: Buffer): number => dtypeInfo[b.dtype].bits / 8;

export class KernelContext {
  readonly k: Kernel;
  readonly fn: Function;
  readonly module: Module;
  readonly pool: Pool;
  readonly threads: number;
  readonly tid: Reg<'u32'>;
  readonly parameters: KernelParameter[] = [];
  /** Bytes of static shared memory taken so far. */
  sharedBytes = 0;
  private readonly pointers = new Map<string, Reg<'u64'>>();
  private readonly sizes = new Map<string, Reg<'u32'>>();
  private readonly tables = new Map<string, Reg<'u32'>>();
  private readonly names = new Set<string>();

  constructor(k: Kernel, fn: Function, module: Module, pool: Pool, threads: number) {
    this.k = k;
    this.fn = fn;
    this.module = module;
    this.pool = pool;
    this.threads = threads;
    this.tid = k.reg('u32', 'tid');
    k.mov.u32(this.tid, special.tidX);
  }

  /** A name for the PTX that nothing else has. */
  private unique(hint: string): string {
    const base = hint.replace(/[^A-Za-z0-9]+/g, '_').replace(/^_+|_+$/g, '') || 'p';
    let name = base;
    for (let i = 1; this.names.has(name); i++) name = `${base}_${i}`;
    this.names.add(name);
    return name;
  }

  /** The address of a buffer that `declare` has seen. */
  pointer(b: Buffer): Reg<'u64'> {
    const found = this.pointers.get(`${b.value} ${b.component}`);
    if (!found) throw new Error(`kernel @${this.fn.name}: buffer ${b.value}.${b.component} is not declared`);
    return found;
  }

  declareBuffer(b: Buffer): Reg<'u64'> {
    const key = `${b.value} ${b.component}`;
    const known = this.pointers.get(key);
    if (known) return known;
    const name = this.unique(b.component === 'data' ? b.value : `${b.value}_${b.component}`);
    // Register names end in a number of their own.
    const symbol = this.k.param(name, 'u64');
    const [raw, address] = [this.k.reg('u64'), this.k.reg('u64')];
    this.k.ld.param.u64(raw, symbol);
    this.k.cvta.to.global.u64(address, raw);
    this.parameters.push({ kind: 'pointer', value: b.value, component: b.component });
    this.pointers.set(key, address);
    return address;
  }

  /** Scratch memory of the launch. */
  declareScratch(): Reg<'u64'> {
    return this.declareBuffer({ value: '', component: 'scratch', dtype: 'i32' });
  }

  /** A run-time size by its atom's key: a dim as laid out, rows in use of a ragged dim, or pages per sequence. */
  size(key: string): Reg<'u32'> {
    const found = this.sizes.get(key);
    if (!found) throw new Error(`kernel @${this.fn.name}: size ${key} is not declared`);
    return found;
  }

  private u32(parameter: KernelParameter, hint: string): Reg<'u32'> {
    const value = this.k.reg('u32');
    this.k.ld.param.u32(value, this.k.param(this.unique(hint), 'u32'));
    this.parameters.push(parameter);
    return value;
  }

  private declareSize(key: string, dim: string, used: boolean): void {
    if (this.sizes.has(key)) return;
    if (!used) {
      this.sizes.set(key, this.u32({ kind: 'u32', dim }, dim));
      return;
    }
    // How many rows of a ragged dim are in use is known on the device only: the end of the last expert's group.
    const routing = this.fn.arguments.find(
      (a) => a.value.type.kind === 'routing' && a.value.type.slots.name === dim,
    );
    if (!routing) throw new Error(`kernel @${this.fn.name}: no routing says how many ${dim} there are`);
    const experts = (routing.value.type as RoutingType).experts.size!;
    const offsets = this.declareBuffer(this.pool.buffer(routing.value.name, 'offsets', 'i32'));
    const value = this.k.reg('u32');
    this.k.ld.global.u32(value, { kind: 'address', base: offsets, offset: 4 * experts });
    this.sizes.set(key, value);
  }

  /** Declares what indices need; extents of loop variables among them. */
  declareIndex(i: Index): void {
    for (const t of i.terms)
      for (const a of t.atoms) {
        if (a.kind === 'size') this.declareSize(a.key, a.dim, a.used);
        else if (a.kind === 'pages' && !this.sizes.has(a.key))
          this.sizes.set(a.key, this.u32({ kind: 'u32', pagesOf: a.value }, `${a.value}_pages_per_sequence`));
        else if (a.kind === 'quotient' || a.kind === 'remainder' || a.kind === 'smaller')
          [a.of, a.by].forEach((x) => this.declareIndex(x));
        else if (a.kind === 'value') {
          this.declare(a.value);
          if (a.below) this.declareIndex(a.below);
        }
      }
  }

  private readonly seen = new Set<number>();

  /** Declares the buffers, sizes and tables of an expression. Must be called where every later use is dominated. */
  declare(e: Expr): void {
    if (this.seen.has(e.id)) return;
    this.seen.add(e.id);
    if (e.kind === 'load') this.declareBuffer(e.buffer);
    if (e.kind === 'table') this.declareTable(e.values, e.carrier === 'f32');
    if (e.kind === 'turn') for (const part of turnsOf(e.frequencies)) this.declareTable(part, true);
    if (e.kind === 'reduce') for (const v of e.over) this.declareIndex(v.extent);
    for (const part of partsOf(e)) this.declare(part);
    for (const i of indicesOf(e)) this.declareIndex(i);
  }

  /** Shared memory of the CTA; its address. */
  shared(hint: string, bytes: number, align = 16): Reg<'u32'> {
    const address = this.k.reg('u32');
    this.k.mov.u32(address, this.k.sharedVariable(this.unique(`s_${hint}`), bytes, align));
    this.sharedBytes += bytes;
    return address;
  }

  private pendingBarrier = false;

  private declareTable(values: readonly number[], float: boolean): void {
    const key = tableKey(values, float);
    if (this.tables.has(key)) return;
    const { k } = this;
    const base = this.shared('table', 4 * values.length);
    const first = k.reg('pred');
    k.setp.eq.u32(first, this.tid, 0);
    k.branch(first, 'table', () => {
      for (const [i, v] of values.entries()) {
        const to = { kind: 'address', base, offset: 4 * i } as const;
        if (float) k.st.shared.f32(to, v);
        else k.st.shared.s32(to, v);
      }
    });
    this.pendingBarrier = true;
    this.tables.set(key, base);
  }

  /** Shared address of a table. */
  table(values: readonly number[], float: boolean): Reg<'u32'> {
    return this.tables.get(tableKey(values, float))!;
  }

  /** Ends the declarations: what they wrote to shared memory is seen by all threads afterwards. */
  ready(): void {
    if (this.pendingBarrier) this.k.bar.sync(0);
    this.pendingBarrier = false;
  }
}

const tableKey = (values: readonly number[], float: boolean): string => `${float} ${values.join(',')}`;

/**
 * Frequencies in turns per position as two f32 each: the nearest f32, and what it leaves. With both, the product with
 * a position is exact enough to be reduced to a fraction of a turn at any position below 2^24.
 */
export function turnsOf(frequencies: readonly number[]): [number[], number[]] {
  const high = frequencies.map((f) => Math.fround(f / (2 * Math.PI)));
  return [high, frequencies.map((f, i) => Math.fround(f / (2 * Math.PI) - high[i]))];
}

/** What a writer of one launch has to say besides its instructions. */
export interface Launch {
  readonly family: KernelFamily;
  readonly threads: number;
  readonly grid: GridRule;
  readonly scratchBytes?: number;
  readonly why?: string;
}

/** A legal PTX name. */
export const kernelName = (name: string): string =>
  name.replace(/[^A-Za-z0-9_]/g, '_').replace(/^(?=[0-9])/, '_');

/** Runs a writer and collects what the host needs. */
export function writeKernel(
  fn: Function,
  module: Module,
  pool: Pool,
  launch: Launch,
  body: (context: KernelContext) => void,
): EmittedKernel {
  const ptx = ptxModule();
  const name = kernelName(fn.name);
  const written: { parameters: readonly KernelParameter[]; sharedBytes: number } = {
    parameters: [],
    sharedBytes: 0,
  };
  ptx.kernel(name, { threads: launch.threads }, (k) => {
    const context = new KernelContext(k, fn, module, pool, launch.threads);
    body(context);
    k.at({ file: '', line: 0, column: 0 });
    k.ret();
    Object.assign(written, { parameters: context.parameters, sharedBytes: context.sharedBytes });
  });
  return {
    name,
    family: launch.family,
    ptx: ptx.toString(),
    parameters: written.parameters,
    grid: launch.grid,
    threads: launch.threads,
    cluster: [1, 1, 1],
    dynamicSharedBytes: 0,
    staticSharedBytes: written.sharedBytes,
    ...(launch.scratchBytes === undefined ? {} : { scratchBytes: launch.scratchBytes }),
    ...(launch.why === undefined ? {} : { why: launch.why }),
  };
}
