// Kernels for any function of ops, right first: contractions in tiles, loops for the rest.
import type { Function, Module } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import { isContraction } from './contraction-form.ts';
import { emitContraction } from './contraction.ts';
import { emitNestedLoops } from './nested.ts';

export { emitNestedLoops } from './nested.ts';

/**
 * Writes any kernel function whose ops are neither structure ops nor `route` (backends/h800/routing). Weights are
 * arguments like others; inout states are updated in place. Throws an Error on what no kernel function should hold.
 */
export function emitLoops(kernel: Function, module: Module): EmittedKernel {
  return (kernel.body.some(isContraction) ? emitContraction : emitNestedLoops)(kernel, module);
}
