// Kernels for any function of ops, right first: contractions in tiles, `route` by its own writer, loops for the rest.
import type { Function, Module } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import { isContraction } from './contraction-form.ts';
import { emitContraction } from './contraction.ts';
import { emitNestedLoops } from './nested.ts';
import { emitRoute } from './route.ts';

export { emitNestedLoops } from './nested.ts';

/**
 * Writes any kernel function whose ops are not structure ops. Weights are arguments like others; inout states are
 * updated in place. Throws an Error on what no kernel function should hold, such as a `route` beside other results.
 */
export function emitLoops(kernel: Function, module: Module): EmittedKernel {
  if (kernel.body.some((op) => op.op === 'route')) return emitRoute(kernel, module);
  return (kernel.body.some(isContraction) ? emitContraction : emitNestedLoops)(kernel, module);
}
