// The pipelines: one readable list each.
import type { Pass } from './pass.ts';
import { canonicalize } from './passes/canonicalize.ts';
import { fuseGateUp } from './passes/fuse-gate-up.ts';
import { fuseLoops } from './passes/fuse-loops.ts';
import { fuseMlaProjections } from './passes/fuse-mla-projections.ts';
import { insertFp8 } from './passes/insert-fp8.ts';
import { outlineKernels } from './passes/outline-kernels.ts';
import { planMemory } from './passes/plan-memory.ts';
import { scheduleDualpipe } from './passes/schedule-dualpipe.ts';
import { selectKernels } from './passes/select-kernels.ts';
import { specialize } from './passes/specialize.ts';

/** From the traced model to launches of kernels, for inference entries. */
export const inferencePasses = (): readonly Pass[] => [
  specialize,
  canonicalize,
  fuseMlaProjections,
  fuseGateUp,
  insertFp8,
  fuseLoops,
  outlineKernels,
  planMemory,
  selectKernels,
];

/** Before autodiff, where a loss is differentiated and nothing else is done to it. */
export const gradientPasses = (): readonly Pass[] => [specialize, canonicalize];

/** The same for training: what is done to a step, with the schedule of its micro-batches. */
export const trainingPasses = (): readonly Pass[] => [
  specialize,
  canonicalize,
  fuseMlaProjections,
  fuseGateUp,
  insertFp8,
  scheduleDualpipe,
  fuseLoops,
  outlineKernels,
  planMemory,
  selectKernels,
];

/** By the name that `dsvc opt --pipeline` takes. */
export const pipelines = { inference: inferencePasses, training: trainingPasses } as const;
export type PipelineName = keyof typeof pipelines;

/** Every pass once, in an order that all pipelines keep. */
export const allPasses = (): readonly Pass[] => [...new Set([...trainingPasses(), ...inferencePasses()])];
