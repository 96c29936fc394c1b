// Kernels without a hand-written fast form: any function of ops that loops can express.
import { layOut } from '../../../ir/loops/layout.ts';
import { Pool } from '../../../ir/loops/expr.ts';
import type { Function, Module } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import { writeKernel } from './context.ts';
import { planNests } from './nests.ts';

/** Writes a kernel function as loops. Throws an Error when an op of its body has no loop form. */
export function emitNestedLoops(fn: Function, module: Module): EmittedKernel {
  const pool = new Pool();
  const plan = planNests(layOut(fn, module, pool), pool);
  return writeKernel(fn, module, pool, { family: 'loops', threads: plan.threads, grid: plan.grid }, plan.emit);
}
