// The loop form of a kernel: what every backend that can loop emits. Each nest computes some of the kernel's results and
// needs no other nest: a value that two nests want is computed in both. There is no order between iterations of
// `rows` or `each`; steps follow one another. A backend without threads reads all of it as plain loops.
import type { Span } from '../span.ts';
import type { Buffer, Expr, Reduce } from './expr.ts';
import type { Index, Variable } from './indices.ts';

/** buffer[offset] = value, rounded to the buffer's dtype. */
export interface Store {
  readonly buffer: Buffer;
  readonly offset: Index;
  readonly value: Expr;
  readonly span: Span;
}

export type Step =
  /**
   * Computes reductions over equal extents together; later steps (and reductions) of the same row that contain these
   * expressions use the results. A reduction that no step computes is a loop of its own where it stands.
   */
  | { readonly kind: 'reduce'; readonly reduces: readonly Reduce[] }
  /** Runs steps for every index of `over`; iterations are independent. */
  | { readonly kind: 'each'; readonly over: readonly Variable[]; readonly steps: readonly Step[] }
  /** Stores for every index of `over`. */
  | { readonly kind: 'store'; readonly over: readonly Variable[]; readonly stores: readonly Store[] };

/**
 * Who works on one row: one thread (also when there are no reductions: then all axes are rows), a warp, or a CTA;
 * the threads of a warp or CTA share out a step's `over`, and the CTA's warps an `each`.
 */
export type Worker = 'thread' | 'warp' | 'cta';

export interface Nest {
  /** Outermost first. The last row is the fastest: neighbours in it should be neighbouring threads. */
  readonly rows: readonly Variable[];
  readonly worker: Worker;
  readonly steps: readonly Step[];
}

export interface LoopKernel {
  readonly name: string;
  readonly nests: readonly Nest[];
}

/** Every buffer that a kernel stores to, and every one that it loads from, is found in its expressions. */
export function* storesOf(steps: readonly Step[]): Generator<Store> {
  for (const s of steps) {
    if (s.kind === 'each') yield* storesOf(s.steps);
    else if (s.kind === 'store') yield* s.stores;
  }
}
