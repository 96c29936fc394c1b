// combine_tokens: every token adds the rows of its choices, in order of choice, in f32, and rounds once. Reads `top`
// rows per token and writes one; limited by memory, so accesses are 16 bytes wide and all choices' loads of one piece
// are under way together.
import { dtypeInfo } from '../../../ir/formats/index.ts';
import { tensorOf } from '../../../ir/loops/components.ts';
import type { Function, Module, Op } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import type { RoutingType, TensorType } from '../../../ir/types.ts';
import type { Reg } from '../../ptx/operands.ts';
import { forEach } from '../loops/control.ts';
import { loadVector, storeVector, widest } from '../loops/memory.ts';
import { lanesFor, writeRows } from './launch.ts';

/** More choices than this are added in rounds: their addresses and loads would take too many registers at once. */
const together = 8;

/** Whether the kernel takes rows of a type: floats of whole bytes, static behind axis 0. */
export const combinable = ({ dtype, dims, scales }: TensorType): boolean =>
  dtypeInfo[dtype].kind === 'float' &&
  dtype !== 'f12e5m6' &&
  scales.length === 0 &&
  dims.length > 0 &&
  dims.slice(1).every((d) => d.size !== null && d.size > 0);

/** Writes the kernel: result[t] = Σ over c of y[slotOf[t, c]]. */
export function emitCombineTokens(fn: Function, module: Module, op: Op): EmittedKernel {
  const [y, routing] = op.operands;
  const [result] = op.results;
  const { dtype, dims } = tensorOf(y);
  const length = dims.slice(1).reduce((n, d) => n * d.size!, 1);
  const top = (routing.type as RoutingType).top.size!;
  const bytes = dtypeInfo[dtype].bits / 8;
  // Eight f32 sums and eight choices of that many elements fill the registers well enough.
  let width = Math.min(8, widest(dtype));
  while (length % width !== 0) width /= 2;
  const units = length / width;
  const lanes = lanesFor(units, 4);
  return writeRows(
    fn,
    module,
    { family: 'routing', rows: (pull) => pull.size(tensorOf(result).dims[0]), lanes, op },
    (r) => {
      const { k } = r;
      const rows = r.pointer({ value: y.name, component: 'data', dtype });
      const out = r.pointer({ value: result.name, component: 'data', dtype });
      const slotOf = r.array(routing.name, 'slotOf');
      const rowOf = (entry: Reg<'u64'>, choice: number): Reg<'u64'> => {
        const slot = k.reg('u32');
        k.ld.global.u32(slot, { kind: 'address', base: entry, offset: 4 * choice });
        return r.element(rows, slot, length * bytes);
      };
      /** Adds pieces of rows, first loading all of them. */
      const add = (sums: readonly Reg<'f32'>[], from: readonly Reg<'u64'>[], unit: Reg<'u32'>): void => {
        const pieces = from.map((base) =>
          loadVector(k, 'global', dtype, r.element(base, unit, width * bytes), 0, width),
        );
        for (const piece of pieces)
          for (const [i, v] of piece.entries()) k.add.rn.f32(sums[i], sums[i], v as Reg<'f32'>);
      };
      return ({ row, lane }) => {
        const entry = r.element(slotOf, row, 4 * top);
        const target = r.element(out, row, length * bytes);
        const known = top <= together ? Array.from({ length: top }, (_, c) => rowOf(entry, c)) : null;
        forEach(k, 'piece', lane, units, lanes, (unit) => {
          const sums = k.regs('f32', width);
          for (const s of sums) k.mov.f32(s, 0);
          if (known) add(sums, known, unit);
          else addRounds(unit, sums);
          storeVector(k, 'global', dtype, r.element(target, unit, width * bytes), 0, sums);
        });

        function addRounds(unit: Reg<'u32'>, sums: readonly Reg<'f32'>[]): void {
          const next = k.reg('u64');
          k.mov.u64(next, entry);
          const round = (count: number): void => {
            add(
              sums,
              Array.from({ length: count }, (_, c) => rowOf(next, c)),
              unit,
            );
            k.add.u64(next, next, 4 * count);
          };
          forEach(k, 'choices', 0, Math.floor(top / together), 1, () => round(together));
          if (top % together > 0) round(top % together);
        }
      };
    },
  );
}
