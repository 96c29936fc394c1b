// cumsum along any axis, accumulated in f32 (i32 wraps). Along the last axis a warp goes over its row, 32 elements at a
// time: a scan by shuffles plus what came before. Along another axis a thread adds up a column, its neighbours the
// columns beside it. The order of additions is fixed either way.
import { dtypeInfo } from '../../../ir/formats/index.ts';
import { tensorOf } from '../../../ir/loops/components.ts';
import { constant, constantOf, times, type Index } from '../../../ir/loops/indices.ts';
import type { Pull } from '../../../ir/loops/pull.ts';
import type { Function, Module, Op } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import type { Dim, TensorType } from '../../../ir/types.ts';
import type { Reg } from '../../ptx/operands.ts';
import { forEach } from '../loops/control.ts';
import { loadVector, storeVector } from '../loops/memory.ts';
import { writeRows, type RowContext } from './launch.ts';

const everyLane = 0xffffffff;

/** Whether the kernel takes a type: i32 and floats of whole bytes. */
export const summable = ({ dtype, scales }: TensorType): boolean =>
  scales.length === 0 && (dtype === 'i32' || (dtypeInfo[dtype].kind === 'float' && dtype !== 'f12e5m6'));

/** Writes the kernel. */
export function emitCumsum(fn: Function, module: Module, op: Op): EmittedKernel {
  const type = tensorOf(op.operands[0]);
  const axis = Number(op.attributes.axis);
  const { dims } = type;
  const sizeOf = (pull: Pull, over: readonly Dim[]): Index => pull.sizes(over).reduce(times, constant(1));
  const [outer, inner] = [dims.slice(0, axis), dims.slice(axis + 1)];
  const alongRows = inner.every((d) => d.size === 1);
  const rows = (pull: Pull): Index => times(sizeOf(pull, outer), sizeOf(pull, inner));
  return writeRows(fn, module, { family: 'routing', rows, lanes: alongRows ? 32 : 1, op }, (r) => {
    const [from, to] = [op.operands[0], op.results[0]].map((v) =>
      r.pointer({ value: v.name, component: 'data', dtype: type.dtype }),
    );
    const length = r.size(r.pull.size(dims[axis]));
    const width = sizeOf(r.pull, inner);
    const place: Place = { from, to, length, type };
    return alongRows ? scanRows(r, place) : addColumns(r, place, constantOf(width) ?? r.size(width));
  });
}

interface Place {
  readonly from: Reg<'u64'>;
  readonly to: Reg<'u64'>;
  readonly length: Reg<'u32'>;
  readonly type: TensorType;
}

/** base + (row · length) · bytes in 64 bits. */
function rowAddress(
  { k }: RowContext,
  base: Reg<'u64'>,
  row: Reg<'u32'>,
  length: Reg<'u32'>,
  bytes: number,
): Reg<'u64'> {
  const [count, address] = k.regs('u64', 2);
  k.mul.wide.u32(count, row, length);
  k.mad.lo.u64(address, count, bytes, base);
  return address;
}

function scanRows(r: RowContext, { from, to, length, type: { dtype } }: Place) {
  const { k } = r;
  const bytes = dtypeInfo[dtype].bits / 8;
  const carrier = dtype === 'i32' ? 's32' : 'f32';
  const words = carrier === 's32' ? ['s32'] : ['rn', 'f32'];
  return ({ row, lane }: { row: Reg<'u32'>; lane: Reg<'u32'> }): void => {
    const [source, target] = [from, to].map((b) => rowAddress(r, b, row, length, bytes));
    const before = k.reg(carrier);
    k.emit('mov', [carrier], [before, 0]);
    forEach(k, 'scan', 0, length, 32, (start) => {
      const i = k.reg('u32');
      const here = k.reg('pred');
      k.add.u32(i, start, lane);
      k.setp.lt.u32(here, i, length);
      const sum = k.reg(carrier);
      k.emit('mov', [carrier], [sum, 0]);
      k.branch(here, 'load', () => {
        const [value] = loadVector(k, 'global', dtype, r.element(source, i, bytes), 0, 1);
        k.emit('mov', [carrier], [sum, value]);
      });
      for (let by = 1; by < 32; by *= 2) {
        const other = k.reg(carrier);
        const has = k.reg('pred');
        k.emit('shfl', ['sync', 'up', 'b32'], [other, sum, by, 0, everyLane]);
        k.setp.ge.u32(has, lane, by);
        k.when(has, () => k.emit('add', words, [sum, other, sum]));
      }
      k.emit('add', words, [sum, before, sum]);
      k.emit('shfl', ['sync', 'idx', 'b32'], [before, sum, 31, 31, everyLane]);
      k.branch(here, 'store', () => storeVector(k, 'global', dtype, r.element(target, i, bytes), 0, [sum]));
    });
  };
}

function addColumns(r: RowContext, { from, to, length, type: { dtype } }: Place, inner: number | Reg<'u32'>) {
  const { k } = r;
  const bytes = dtypeInfo[dtype].bits / 8;
  const carrier = dtype === 'i32' ? 's32' : 'f32';
  const words = carrier === 's32' ? ['s32'] : ['rn', 'f32'];
  return ({ row }: { row: Reg<'u32'> }): void => {
    // Element (o, i, n) of [outer, axis, inner] lies at (o · length + i) · inner + n.
    const [o, n] = k.regs('u32', 2);
    k.div.u32(o, row, inner);
    k.rem.u32(n, row, inner);
    const [offset, step] = k.regs('u64', 2);
    const wide = k.reg('u64');
    if (typeof inner === 'number') k.mov.u64(step, inner * bytes);
    else k.mul.wide.u32(step, inner, bytes);
    k.mul.wide.u32(wide, o, length);
    k.mul.lo.u64(wide, wide, step);
    k.mul.wide.u32(offset, n, bytes);
    k.add.u64(offset, offset, wide);
    const [source, target] = k.regs('u64', 2);
    k.add.u64(source, from, offset);
    k.add.u64(target, to, offset);
    const sum = k.reg(carrier);
    k.emit('mov', [carrier], [sum, 0]);
    forEach(k, 'column', 0, length, 1, () => {
      const [value] = loadVector(k, 'global', dtype, source, 0, 1);
      k.emit('add', words, [sum, sum, value]);
      storeVector(k, 'global', dtype, target, 0, [sum]);
      k.add.u64(source, source, step);
      k.add.u64(target, target, step);
    });
  };
}
