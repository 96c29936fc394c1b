// Kernels that are nothing but loops, in one call.
import { Pool } from '../../../ir/loops/expr.ts';
import { layOut } from '../../../ir/loops/layout.ts';
import type { Function, Module } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import { writeKernel } from './context.ts';
import { planNests } from './nests.ts';

/**
 * Writes a kernel function as nested loops: pointwise ops, views, reductions, quantisation, composite ops, what reads
 * positions, routings and caches, and contractions as plain sums. Results must not share memory with operands.
 * Throws an Error when an op of its body has no loop form (`route`, structure ops).
 */
export function emitNestedLoops(fn: Function, module: Module): EmittedKernel {
  const pool = new Pool();
  const plan = planNests(layOut(fn, module, pool), pool);
  return writeKernel(
    fn,
    module,
    pool,
    { family: 'loops', threads: plan.threads, grid: plan.grid },
    plan.emit,
  );
}
