// Entry of the test interpreter: machine and semantics put together.
import type { PtxKernel } from '../ast.ts';
import { Cta, type TestLaunch } from './machine.ts';
import { collective, stepOf } from './semantics.ts';

/** Runs every CTA of a launch to its end. Throws on deadlock, on a wrong barrier, on an access out of range. */
export function interpret(kernel: PtxKernel, launch: TestLaunch): void {
  for (let cta = 0; cta < launch.grid; cta++) new Cta(kernel, launch, cta, { stepOf, collective }).run();
}
