// top_k along the last axis. Each round takes the largest element below the one taken last, so nothing is marked and a
// row of any length needs no memory of its own: a row is read k times, from L1 or L2. An element and its index are one
// 64-bit key, whose order is that of the result: larger first, the lowest index first among equals.
import { dtypeInfo } from '../../../ir/formats/index.ts';
import { tensorOf } from '../../../ir/loops/components.ts';
import { constant, times } from '../../../ir/loops/indices.ts';
import type { Function, Module, Op } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import type { TensorType } from '../../../ir/types.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { at, type Reg } from '../../ptx/operands.ts';
import { forEach } from '../loops/control.ts';
import { loadVector, storeVector, widest } from '../loops/memory.ts';
import { writeRows } from './launch.ts';

const everyLane = 0xffffffff;
/** Rows up to this long are a warp's work, longer ones a CTA's. */
const warpLong = 2048;

/** Whether the kernel takes rows of a type: elements that order as 32 bits, the axis static. */
export const rankable = ({ dtype, dims, scales }: TensorType): boolean =>
  (dtype === 'i32' || (dtypeInfo[dtype].kind === 'float' && dtype !== 'f12e5m6')) &&
  scales.length === 0 &&
  (dims.at(-1)?.size ?? 0) > 0 &&
  dims.slice(1).every((d) => d.size !== null);

/** Bits that order as unsigned numbers like the elements do; −0 is 0, NaN is beyond infinity. */
function orderOf(k: Kernel, value: Reg): Reg<'b32'> {
  const bits = k.reg('b32');
  if (value.type !== 'f32') {
    k.xor.b32(bits, value as Reg<'b32'>, 0x80000000);
    return bits;
  }
  const plain = k.reg('f32');
  const [sign, flip] = [k.reg('s32'), k.reg('b32')];
  k.add.rn.f32(plain, value as Reg<'f32'>, 0);
  k.mov.b32(bits, plain);
  k.shr.s32(sign, bits as unknown as Reg<'s32'>, 31);
  // Negative: all bits turn round; else only the sign.
  k.or.b32(flip, sign as unknown as Reg<'b32'>, 0x80000000);
  k.xor.b32(bits, bits, flip);
  return bits;
}

/** The largest key of a warp, in every lane. */
function warpMax(k: Kernel, key: Reg<'u64'>): void {
  const [mine, theirs] = [k.regs('b32', 2), k.regs('b32', 2)];
  const other = k.reg('u64');
  for (let mask = 16; mask >= 1; mask /= 2) {
    k.emit('mov', ['b64'], [mine, key]);
    for (const i of [0, 1]) k.shfl.sync.bfly.b32(theirs[i], mine[i], mask, 31, everyLane);
    k.emit('mov', ['b64'], [other, theirs]);
    k.max.u64(key, key, other);
  }
}

/** Writes the kernel; of the op's two results (values, indices) those that the function returns. */
export function emitTopK(fn: Function, module: Module, op: Op): EmittedKernel {
  const [x] = op.operands;
  const { dtype, dims } = tensorOf(x);
  const length = dims.at(-1)!.size!;
  const count = Number(op.attributes.k);
  const lanes = length <= warpLong ? 32 : length <= 32768 ? 256 : 1024;
  const bytes = dtypeInfo[dtype].bits / 8;
  let width = Math.min(4, widest(dtype));
  while (length % width !== 0) width /= 2;
  const rows = dims.slice(0, -1);
  const launch = {
    family: 'routing',
    rows: (pull) => pull.sizes(rows).reduce(times, constant(1)),
    lanes,
    op,
  } as const satisfies Parameters<typeof writeRows>[2];
  return writeRows(fn, module, launch, (r) => {
    const { k, context } = r;
    const source = r.pointer({ value: x.name, component: 'data', dtype });
    const [values, indices] = op.results.map((v, i) =>
      fn.results.includes(v)
        ? r.pointer({ value: v.name, component: 'data', dtype: i === 0 ? dtype : 'i32' })
        : null,
    );
    const exchange = lanes > 32 ? context.shared('best', 8 * (lanes / 32)) : null;
    return ({ row, lane }) => {
      const base = r.element(source, row, length * bytes);
      const [last, best] = k.regs('u64', 2);
      // Above every key: the low half of a key, −2 minus the index, is never all ones.
      k.mov.u64(last, -1);
      const first = k.reg('pred');
      k.setp.eq.u32(first, lane, 0);
      forEach(k, 'taken', 0, count, 1, (n) => {
        k.mov.u64(best, 0);
        forEach(k, 'scan', lane, length / width, lanes, (unit) => {
          const loaded = loadVector(k, 'global', dtype, r.element(base, unit, width * bytes), 0, width);
          const index = k.reg('u32');
          k.mul.lo.u32(index, unit, width);
          k.not.b32(index, index);
          for (const [i, v] of loaded.entries()) {
            const below = k.reg('b32');
            const key = k.reg('u64');
            const open = k.reg('pred');
            k.sub.u32(below, index, i + 1);
            k.emit('mov', ['b64'], [key, [below, orderOf(k, v)]]);
            k.setp.lt.u64(open, key, last);
            k.when(open, () => k.max.u64(best, best, key));
          }
        });
        warpMax(k, best);
        if (exchange) ctaMax(best, exchange);
        k.mov.u64(last, best);
        k.branch(first, 'take', () => {
          const [low, high] = k.regs('b32', 2);
          const [chosen, place] = k.regs('u32', 2);
          k.emit('mov', ['b64'], [[low, high], best]);
          k.sub.u32(chosen, -2, low);
          k.mad.lo.u32(place, row, count, n);
          if (indices) k.st.global.u32(r.element(indices, place, 4), chosen);
          if (values) {
            const element = loadVector(k, 'global', dtype, r.element(base, chosen, bytes), 0, 1);
            storeVector(k, 'global', dtype, r.element(values, place, bytes), 0, element);
          }
        });
      });
    };

    /** Joins the warps of a CTA that works on one row: every thread gets the largest key. */
    function ctaMax(key: Reg<'u64'>, shared: Reg<'u32'>): void {
      const [warp, lane, own] = k.regs('u32', 3);
      const leads = k.reg('pred');
      k.shr.u32(warp, context.tid, 5);
      k.and.b32(lane, context.tid, 31);
      k.setp.eq.u32(leads, lane, 0);
      k.mad.lo.u32(own, warp, 8, shared);
      // Whoever still reads what the previous round left must be done.
      k.bar.sync(0);
      k.when(leads, () => k.st.shared.u64(own, key));
      k.bar.sync(0);
      for (let w = 0; w < lanes / 32; w++) {
        const other = k.reg('u64');
        k.ld.shared.u64(other, at(shared, 8 * w));
        k.max.u64(key, key, other);
      }
    }
  });
}
