// What the compiler asks of a backend. Backends implement it; the composition root hands one to the driver, so that
// passes stay free of any target.
import type { EmittedKernel, KernelFamily } from './plan.ts';
import type { Function, Module } from './module.ts';

/** How a kernel function is going to be emitted. */
export interface KernelChoice {
  readonly family: KernelFamily;
  /** Family-specific settings (tile shape, stages …), printed in the kernel function's attributes. */
  readonly settings: Readonly<Record<string, number | string | boolean | readonly number[]>>;
  /** One sentence with the inputs of the decision. */
  readonly why: string;
}

export interface Target {
  readonly name: string;
  /** One line for `dsvc targets`. */
  readonly doc: string;
  /** Bytes of device memory, for the "does not fit" warning; null when not limited. */
  readonly memoryBytes: number | null;
  /** Decides how a kernel function will be emitted. Must not fail: every op has at least a loops form. */
  choose(kernel: Function, module: Module): KernelChoice;
  /** Writes the kernel. `kernel.attributes` hold the choice. Throws only on our own bugs. */
  emit(kernel: Function, module: Module): EmittedKernel;
}
