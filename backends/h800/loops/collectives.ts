// Joining what the threads of a warp or CTA have: every thread gets the result, in an order that never changes.
import type { Carrier, Reduce } from '../../../ir/loops/expr.ts';
import { at, type Reg } from '../../ptx/operands.ts';
import type { KernelContext } from './context.ts';
import type { Emitter } from './emit.ts';

const everyLane = 0xffffffff;

/** The register of the lane whose number differs in `mask`. */
function exchanged(context: KernelContext, value: Reg, mask: number): Reg {
  const { k } = context;
  const d = k.reg(value.type);
  if (value.type === 's64' || value.type === 'u64' || value.type === 'b64') {
    const halves = k.regs('b32', 2);
    const other = k.regs('b32', 2);
    k.emit('mov', ['b64'], [halves, value]);
    for (const i of [0, 1]) k.shfl.sync.bfly.b32(other[i], halves[i], mask, 31, everyLane);
    k.emit('mov', ['b64'], [d, other]);
  } else k.emit('shfl', ['sync', 'bfly', 'b32'], [d, value, mask, 31, everyLane]);
  return d;
}

/** Reduces accumulators over the lanes of a warp, in place. All lanes must be there. */
export function reduceWarp(emitter: Emitter, r: Reduce, acc: readonly Reg[]): void {
  const { k } = emitter;
  if (r.combine === 'or') {
    k.vote.sync.any.pred(acc[0] as Reg<'pred'>, acc[0] as Reg<'pred'>, everyLane);
    return;
  }
  for (let mask = 16; mask >= 1; mask /= 2) {
    const other = acc.map((a) => exchanged(emitter.context, a, mask));
    emitter.accumulate(r.combine, r.value.carrier, acc, other);
  }
}

const bytesOfCarrier = (c: Carrier): number => (c === 'i64' ? 8 : 4);

/** Carriers of a reduction's accumulators. */
const carriersOf = (r: Reduce): Carrier[] =>
  r.combine === 'argmax' ? ['i32', r.value.carrier] : [r.carrier];

/** Shared memory that reduceCta needs for reductions done at one time. */
export const reduceBytes = (reduces: readonly Reduce[]): number =>
  reduces.reduce((n, r) => n + 32 * carriersOf(r).reduce((m, c) => m + bytesOfCarrier(c), 0), 0);

/**
 * Reduces accumulators over a CTA of whole warps, in place: within each warp, then over the warps' results, which
 * every warp reads from `shared`. All threads must come.
 */
export function reduceCta(
  emitter: Emitter,
  reduces: readonly Reduce[],
  accumulators: readonly (readonly Reg[])[],
  shared: Reg<'u32'>,
): void {
  const { k, context } = emitter;
  for (const [n, r] of reduces.entries()) reduceWarp(emitter, r, accumulators[n]);
  const warps = context.threads / 32;
  if (warps === 1) return;
  const [lane, warp] = k.regs('u32', 2);
  k.and.b32(lane, context.tid, 31);
  k.shr.u32(warp, context.tid, 5);
  const [first, here] = k.regs('pred', 2);
  k.setp.eq.u32(first, lane, 0);
  k.setp.lt.u32(here, lane, warps);
  // Whoever still reads the previous results must be done.
  k.bar.sync(0);
  let offset = 0;
  const places = reduces.map((r) =>
    carriersOf(r).map((carrier) => {
      const place = { offset, carrier, bytes: bytesOfCarrier(carrier) };
      offset += 32 * place.bytes;
      return place;
    }),
  );
  for (const [n, parts] of places.entries())
    for (const [i, { offset: from, carrier, bytes }] of parts.entries()) {
      const address = k.reg('u32');
      k.mad.lo.u32(address, warp, bytes, shared);
      const acc = accumulators[n][i];
      if (carrier === 'bool') {
        const bit = k.reg('u32');
        k.selp.u32(bit, 1, 0, acc as Reg<'pred'>);
        k.when(first, () => k.st.shared.u32(at(address, from), bit));
      } else
        k.when(first, () => k.emit('st', ['shared', bytes === 8 ? 'b64' : 'b32'], [at(address, from), acc]));
    }
  k.bar.sync(0);
  for (const [n, r] of reduces.entries()) {
    const start = emitter.accumulators(r);
    for (const [i, { offset: from, carrier, bytes }] of places[n].entries()) {
      const address = k.reg('u32');
      k.mad.lo.u32(address, lane, bytes, shared);
      const acc = accumulators[n][i];
      if (carrier === 'bool') {
        const bit = k.reg('u32');
        k.mov.u32(bit, 0);
        k.when(here, () => k.ld.shared.u32(bit, at(address, from)));
        k.setp.ne.u32(acc as Reg<'pred'>, bit, 0);
        continue;
      }
      emitter.move(acc, start[i], carrier);
      k.when(here, () => k.emit('ld', ['shared', bytes === 8 ? 'b64' : 'b32'], [acc, at(address, from)]));
    }
    reduceWarp(emitter, r, accumulators[n]);
  }
}
