// The H800 as a target: which family writes a kernel function, and with which settings.
import type { Function, Module } from '../../ir/module.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import type { KernelChoice, Target } from '../../ir/target.ts';
import { emitAttention } from './attention/index.ts';
import { chooseFp8Gemm, emitFp8Gemm } from './gemm/emit.ts';
import { emitLoops } from './loops/index.ts';
import { emitRouting, isRouting } from './routing/index.ts';

/** Memory of one H800 SXM, as its driver reports it (facts: 84,943,110,144 bytes). */
const memoryBytes = 84_943_110_144;

const contractions = new Set(['matmul', 'einsum', 'grouped_matmul']);

const has = (f: Function, names: ReadonlySet<string>): boolean => f.body.some((op) => names.has(op.op));

export const h800Target: Target = {
  name: 'h800',
  doc: 'NVIDIA H800 SXM (sm_90a): PTX, FP8 GEMMs on tensor cores, loops kernels for everything else',
  memoryBytes,

  choose(f: Function, module: Module): KernelChoice {
    const gemm = chooseFp8Gemm(f, module);
    if (typeof gemm !== 'string') return gemm;
    if (f.body.some((op) => op.op === 'attention'))
      return {
        family: 'attention',
        settings: {},
        why: 'plain online softmax: fast attention is a later family',
      };
    if (isRouting(f)) return { family: 'routing', settings: {}, why: 'one of the routing and state kernels' };
    const why = has(f, contractions)
      ? `tiled FFMA contraction: ${gemm}`
      : 'pointwise ops, row reductions and views';
    return { family: 'loops', settings: {}, why };
  },

  emit(f: Function, module: Module): EmittedKernel {
    // A module that select-kernels did not touch (it can be disabled) gets the family that always works.
    const { why, family = this.choose(f, module).family } = f.attributes;
    const kernel = emitFamily(String(family), f, module);
    return why === undefined ? kernel : { ...kernel, why: String(why) };
  },
};

function emitFamily(family: string, f: Function, module: Module): EmittedKernel {
  switch (family) {
    case 'gemm':
      // Without settings the function was never chosen for: loops compute the same.
      return f.attributes.bm === undefined ? emitLoops(f, module) : emitFp8Gemm(f, module);
    case 'attention':
      return emitAttention(f, module);
    case 'routing':
      return emitRouting(f, module);
    default:
      return emitLoops(f, module);
  }
}
