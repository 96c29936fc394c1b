// Kernels in the form that executors launch: a parameter names a value of the launch by number and one of its arrays, and
// has its byte in the parameter block, which is laid out as PTX lays out `.param`s.
import { functionNamed, type Function, type Module } from '../../ir/module.ts';
import type { EmittedKernel, Extent, KernelParameter } from '../../ir/plan.ts';
import { componentsOf } from '../memory/buffers.ts';
import { none, type FileExtent, type FileKernel, type FileParameter } from './form.ts';

/** Bytes and alignment of each kind of parameter. */
const layout: Readonly<Record<KernelParameter['kind'], { readonly bytes: number; readonly align: number }>> =
  {
    pointer: { bytes: 8, align: 8 },
    u32: { bytes: 4, align: 4 },
    tensorMap: { bytes: 128, align: 64 },
  };

/** Element types of tensor maps that kernels use, as tensormap.replace numbers them. */
const elements: Readonly<Record<string, number>> = { u8: 0, f16: 6, f32: 7, bf16: 10 };

export class LoweredKernels {
  readonly lowered: FileKernel[] = [];
  readonly #module: Module;
  readonly #kernels: ReadonlyMap<string, EmittedKernel>;
  readonly #dims: ReadonlyMap<string, number>;
  readonly #extent: (e: Extent) => FileExtent;
  readonly #numbers = new Map<string, number>();

  constructor(
    module: Module,
    kernels: readonly EmittedKernel[],
    dims: ReadonlyMap<string, number>,
    extent: (e: Extent) => FileExtent,
  ) {
    this.#module = module;
    this.#kernels = new Map(kernels.map((k) => [k.name, k]));
    this.#dims = dims;
    this.#extent = extent;
  }

  /** A kernel's function and number; it is lowered when it is first asked for. */
  named(name: string): { readonly fn: Function; readonly number: number } {
    const fn = functionNamed(this.#module, name);
    let number = this.#numbers.get(name);
    if (number === undefined) {
      const kernel = this.#kernels.get(name);
      if (!kernel) throw new Error(`plan: there is no kernel ${name}`);
      this.#numbers.set(name, (number = this.lowered.length));
      this.lowered.push(this.#lower(kernel, fn));
    }
    return { fn, number };
  }

  #lower(kernel: EmittedKernel, fn: Function): FileKernel {
    let end = 0;
    const parameters = kernel.parameters.map((p) => {
      const { bytes, align } = layout[p.kind];
      const at = Math.ceil(end / align) * align;
      end = at + bytes;
      return this.#parameter(p, at, kernel, fn);
    });
    const { name, threads, cluster, dynamicSharedBytes, scratchBytes = 0, grid } = kernel;
    return {
      ...{ name, threads, cluster, dynamicSharedBytes, scratchBytes, parameterBytes: end, parameters },
      grid: grid.axes.map(({ extent, per }) => ({ extent: this.#extent(extent), per })),
      atMost: grid.atMost ?? 0,
    };
  }

  #parameter(p: KernelParameter, at: number, kernel: EmittedKernel, fn: Function): FileParameter {
    if (p.kind === 'u32') {
      const name = 'dim' in p ? p.dim : 'pages';
      const dim = this.#dims.get(name);
      if (dim === undefined) throw new Error(`plan: kernel ${kernel.name} takes an unknown dim ${name}`);
      return { kind: 'u32', at, dim };
    }
    const array = this.#arrayOf(p.value, p.component, kernel, fn);
    if (p.kind === 'pointer') return { kind: 'pointer', at, ...array, offset: p.offset ?? 0 };
    const element = elements[p.dtype];
    if (element === undefined) throw new Error(`plan: kernel ${kernel.name} maps elements of ${p.dtype}`);
    return {
      ...{ kind: 'tensorMap', at, ...array, offset: 0, element, swizzle: p.swizzle, box: p.box },
      dims: p.dims.map((e) => this.#extent(e)),
      strides: p.strides.map((e) => this.#extent(e)),
    };
  }

  /** Operands are numbered first, then the results that are no operands. */
  #arrayOf(
    value: string,
    component: string,
    kernel: EmittedKernel,
    fn: Function,
  ): { readonly value: number; readonly component: number } {
    if (component === 'scratch' && kernel.scratchBytes !== undefined) return { value: none, component: 0 };
    const operands = fn.arguments.map((a) => a.value);
    const values = [...operands, ...fn.results.filter((r) => !operands.some((o) => o.name === r.name))];
    const index = values.findIndex((v) => v.name === value);
    const array =
      index < 0
        ? -1
        : componentsOf(values[index].type, this.#module).findIndex((c) => c.component === component);
    if (array < 0) throw new Error(`plan: kernel ${kernel.name} has no ${value}.${component}`);
    return { value: index, component: array };
  }
}
