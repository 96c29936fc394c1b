// What the routing and state kernels share: how rows are shared out over the grid, and run-time sizes in registers.
// A row belongs to `lanes` neighbouring threads, a power of two; from 32 up whole warps, so that warp-wide
// instructions inside of the loop see all of their lanes.
import type { Buffer } from '../../../ir/loops/expr.ts';
import { Pool } from '../../../ir/loops/expr.ts';
import type { Index } from '../../../ir/loops/indices.ts';
import { Pull } from '../../../ir/loops/pull.ts';
import type { Function, Module, Op } from '../../../ir/module.ts';
import type { EmittedKernel, KernelFamily } from '../../../ir/plan.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { special, type Reg } from '../../ptx/operands.ts';
import { multiprocessors, writeKernel, type KernelContext } from '../loops/context.ts';
import { Emitter } from '../loops/emit.ts';
import { extentOf } from '../loops/nests.ts';

/** Threads that a multiprocessor holds. */
const threadsPerMultiprocessor = 2048;

/** Threads for a row of `units` accesses: about `each` per thread, so that several loads are under way at a time. */
export function lanesFor(units: number, each: number): number {
  let lanes = 1;
  while (lanes < 256 && lanes * each < units) lanes *= 2;
  return lanes;
}

/** One row of the launch: its number, and which of the row's threads this one is. */
export interface Row {
  readonly row: Reg<'u32'>;
  readonly lane: Reg<'u32'>;
}

export interface RowsLaunch {
  readonly family: KernelFamily;
  /** How many rows there are; fewer than 2^31. */
  readonly rows: (pull: Pull) => Index;
  readonly lanes: number;
  /** Threads of a CTA; a multiple of `lanes` and of 32. */
  readonly threads?: number;
  /** The op whose line the instructions carry. */
  readonly op: Op;
}

/** The writer's tools inside of one kernel. */
export class RowContext {
  readonly context: KernelContext;
  readonly k: Kernel;
  readonly pull: Pull;
  private readonly emitter: Emitter;

  constructor(context: KernelContext, pull: Pull) {
    this.context = context;
    this.k = context.k;
    this.pull = pull;
    this.emitter = new Emitter(context);
  }

  /** Address of a buffer; call it before the loop over rows. */
  pointer(b: Buffer): Reg<'u64'> {
    return this.context.declareBuffer(b);
  }

  /** An i32 or f32 array of an argument or result by its component. */
  array(value: string, component: string): Reg<'u64'> {
    return this.pointer(this.context.pool.buffer(value, component, component === 'weights' ? 'f32' : 'i32'));
  }

  /** A run-time size as u32; call it before the loop over rows. */
  size(i: Index): Reg<'u32'> {
    if (i.high >= 2 ** 31)
      throw new Error(`kernel @${this.context.fn.name}: ${i.key} may be ${i.high}, beyond 31 bits`);
    this.context.declareIndex(i);
    return this.emitter.indexRegister(i, false) as Reg<'u32'>;
  }

  /** base + index · bytes in 64 bits. */
  element(base: Reg<'u64'>, index: Reg<'u32'>, bytes: number): Reg<'u64'> {
    const address = this.k.reg('u64');
    this.k.mad.wide.u32(address, index, bytes, base);
    return address;
  }

  /** A 32-bit integer of an array. */
  load(base: Reg<'u64'>, index: Reg<'u32'>): Reg<'u32'> {
    const value = this.k.reg('u32');
    this.k.ld.global.u32(value, this.element(base, index, 4));
    return value;
  }

  /** True when an i32 that was loaded is not negative: the mark of padding is −1. */
  isSet(value: Reg<'u32'>): Reg<'pred'> {
    const p = this.k.reg('pred');
    this.k.emit('setp', ['ge', 's32'], [p, value, 0]);
    return p;
  }
}

/**
 * Writes a kernel that goes over rows. `prepare` declares buffers and sizes and gives what to do with one row. The
 * grid has a CTA for every `threads / lanes` rows up to a full machine, which then loops.
 */
export function writeRows(
  fn: Function,
  module: Module,
  launch: RowsLaunch,
  prepare: (context: RowContext) => (row: Row) => void,
): EmittedKernel {
  const pool = new Pool();
  const pull = new Pull(fn, module, pool);
  const rows = launch.rows(pull);
  const { lanes, threads = Math.max(128, lanes) } = launch;
  const perCta = threads / lanes;
  const extent = extentOf(rows) ?? { constant: rows.high, terms: [] };
  const atMost = multiprocessors * (threadsPerMultiprocessor / threads);
  const grid = { axes: [{ extent, per: perCta }], atMost };
  return writeKernel(fn, module, pool, { family: launch.family, threads, grid }, (context) => {
    const r = new RowContext(context, pull);
    const { k } = r;
    k.at(launch.op.span);
    const total = r.size(rows);
    const body = prepare(r);
    const [row, step, lane] = k.regs('u32', 3);
    k.mov.u32(row, special.ctaidX);
    k.mov.u32(step, special.nctaidX);
    k.mul.lo.u32(row, row, perCta);
    k.mul.lo.u32(step, step, perCta);
    k.and.b32(lane, context.tid, lanes - 1);
    const within = k.reg('u32');
    k.shr.u32(within, context.tid, Math.log2(lanes));
    k.add.u32(row, row, within);
    k.loop('rows', ({ done }) => {
      const end = k.reg('pred');
      k.setp.ge.u32(end, row, total);
      k.when(end, () => k.bra(done));
      body({ row, lane });
      k.add.u32(row, row, step);
    });
  });
}
