// The tests of real sizes: at its bounds a kernel's outermost blocks come to the last row of every operand and the last
// byte of every result, and leave none. An address computed in too few bits would end elsewhere.
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { h800Target } from '../../backends/h800/target.ts';
import { compileModule } from '../../compiler/compile.ts';
import * as dsl from '../../dsl/index.ts';
import { loadModel } from '../../dsl/load.ts';
import { traceModel, type PrecisionName } from '../../dsl/trace-model.ts';
import { opDefinition } from '../../ir/ops/index.ts';
import type { KernelCase } from './models.ts';
import { runOuterBlocks, type Reach } from './real-size.ts';

/** The kernels of an example at its real size. */
export async function realKernels(example: string, precision: PrecisionName): Promise<readonly KernelCase[]> {
  const path = join(import.meta.dirname, '../../examples', `${example}.ts`);
  const { model } = await loadModel(path, { settings: {}, dslNamespace: dsl });
  const traced = traceModel(model, { precision }).module;
  const options = { target: h800Target, disabled: new Set<string>(), verifyEach: false };
  const { module, kernels } = compileModule(traced, options);
  return kernels.map((kernel) => {
    const fn = module.functions.find((f) => f.name === kernel.name)!;
    return { title: `${example} ${precision} @${kernel.name}`, fn, module, kernel };
  });
}

/** Which blocks write a result's end is not known where they go by tokens and heads, or where the last to finish does. */
const isScattered = (family: string): boolean => family === 'attention' || family === 'routing';

/** Contractions multiply over thousands: seconds each. */
export const isContraction = ({ fn }: KernelCase): boolean =>
  fn.body.some((op) => opDefinition(op.op).class === 'contraction');

/** Buffers that a kernel does not come to the end of. Throws when it goes beyond. */
export function unreached({ fn, module, kernel }: KernelCase): readonly Reach[] {
  const reached = runOuterBlocks(kernel, fn, module);
  if (fn.arguments.length > 0 && !reached.some((b) => !b.isResult && b.reached > 0)) return reached;
  return reached.filter((b) => {
    if (b.kind !== 'tensor' && b.kind !== 'state') return false;
    if (b.isResult && !isScattered(kernel.family)) return b.reached < b.bytes;
    return (b.isResult || b.reached > 0) && b.reached <= b.bytes - b.lastRow;
  });
}

/** A test for each kernel. */
export function reaches(kernels: readonly KernelCase[]): void {
  describe('at its bounds', () => {
    for (const c of kernels)
      test(c.title, () => {
        expect(unreached(c)).toEqual([]);
      });
  });
}
