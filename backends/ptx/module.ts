// A module under construction: kernels added one by one, printed with the lowest PTX version that has what they use.
import type { PtxKernel, PtxModule } from './ast.ts';
import type { Form } from './form.ts';
import { KernelBuilder, type Kernel, type KernelOptions } from './builder.ts';
import { printModule } from './print.ts';

/** sm_90a exists since PTX 8.0; anything older is of no use here. */
const oldestVersion = '8.0';

const versionNumber = (version: string): number => {
  const [major, minor] = version.split('.').map(Number);
  return major! * 100 + minor!;
};

/**
 * Collects kernels for one target. `kernel(name, options, body)` runs `body` with a builder at once; errors in an
 * instruction are thrown there. `toString()` prints the module: no dates, no paths of this machine.
 */
export class ModuleBuilder {
  readonly #target: string;
  readonly #kernels: PtxKernel[] = [];
  readonly #used = new Set<Form>();
  #version = oldestVersion;

  constructor(target = 'sm_90a') {
    this.#target = target;
  }

  kernel(name: string, options: KernelOptions, body: (k: Kernel) => void): void {
    if (!/^[A-Za-z_][A-Za-z0-9_$]*$/.test(name))
      throw new Error(`ptx: ${JSON.stringify(name)} is no kernel name`);
    if (this.#kernels.some((k) => k.name === name)) throw new Error(`ptx: two kernels are called ${name}`);
    const builder = new KernelBuilder(name, options, (form: Form) => this.#need(form));
    body(builder as unknown as Kernel);
    this.#kernels.push(builder.finish());
  }

  #need(form: Form): void {
    if (this.#used.has(form)) return;
    this.#used.add(form);
    if (form.target === 'sm_90a' && this.#target !== 'sm_90a')
      throw new Error(`ptx: ${form.opcode} ${form.row[0]} needs sm_90a, the target is ${this.#target}`);
    if (versionNumber(form.ptx) > versionNumber(this.#version)) this.#version = form.ptx;
  }

  get module(): PtxModule {
    return { version: this.#version, target: this.#target, kernels: this.#kernels };
  }

  toString(): string {
    return printModule(this.module);
  }
}

/** A new, empty module for `target`. */
export const ptxModule = (target?: string): ModuleBuilder => new ModuleBuilder(target);
