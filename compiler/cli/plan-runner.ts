// Runs a compiled module's entries on the emulator: a thin face over the executor of the core (runtime/core/plan), which
// launches; here are the values of the interpreter, as arrays on the device. Holds one device with the weights for all
// its calls, and states where the last call left them.
import { fail } from '../../ir/diagnostics.ts';
import {
  pageColumns,
  positionsArrays,
  readTensor,
  tensorArrays,
  type Arrays,
} from '../../ir/interpret/value-bytes.ts';
import type { RuntimeValue, StateData } from '../../ir/interpret/values.ts';
import type { WeightCache } from '../../ir/interpret/weights.ts';
import { functionNamed, raggedBound, type Function, type Module } from '../../ir/module.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import type { Dim, Type } from '../../ir/types.ts';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import type { Core, DeviceHandle } from '../../runtime/emulator/device.ts';
import {
  isExecutorError,
  loadExecutor,
  type ExecutorCore,
  type ExecutorHandle,
  type LaunchPlaces,
  type PlacedValue,
} from '../../runtime/executor.ts';
import { alignUp, componentsOf } from '../memory/buffers.ts';
import { encodePlanFile } from '../plan-file/encode.ts';
import { lowerPlan } from '../plan-file/lower.ts';
import type { Plan } from '../plan.ts';
import { entriesOf, weightUses } from '../weights.ts';
import { DeviceStates } from './device-states.ts';

/** A compiled module with everything that a device needs. */
export interface Executable {
  readonly module: Module;
  readonly kernels: readonly EmittedKernel[];
  readonly plan: Plan;
}

/** A launch of the plan, about to run. */
export interface LaunchEvent {
  readonly kernel: EmittedKernel;
  /** What it computes. */
  readonly fn: Function;
  /** The author's line. */
  readonly at: string | undefined;
  /** The layer of the innermost repeat; null outside of one. */
  readonly layer: number | null;
  /** Run-time dims, ragged ones at their bound, and columns of the page table. */
  readonly dims: ReadonlyMap<string, number>;
  readonly pages: number;
  /** Bytes that the device holds now of an argument or result of `fn`. */
  readonly read: (value: string, component: string, bytes: number) => Uint8Array;
}

export type LaunchResult = ReturnType<Core['launch']>;

/** Who looks on while a plan runs. What its functions throw ends the run and comes out of it. */
export interface RunObserver {
  /** Called before a launch; what it returns is called when the launch has ended. */
  readonly launch?: (event: LaunchEvent) => () => void;
  /** What the emulator said and counted. A launch with an error ends the run, whether this throws or not. */
  readonly launched: (result: LaunchResult, event: LaunchEvent) => void;
}

export class PlanRunner {
  readonly #core: Core;
  readonly #device: DeviceHandle;
  readonly #executor: ExecutorCore;
  readonly #handle: ExecutorHandle;
  readonly #module: Module;
  readonly #kernels: ReadonlyMap<string, EmittedKernel>;
  readonly #observer: RunObserver;
  readonly #states: DeviceStates;

  /** Loads the weights, each when its turn comes. Throws DiagnosticError `plan/…` for a plan that is broken. */
  constructor(
    core: Core,
    device: DeviceHandle,
    executable: Executable,
    weights: WeightCache,
    observer: RunObserver,
  ) {
    const { module, kernels, plan } = executable;
    this.#core = core;
    this.#device = device;
    this.#executor = loadExecutor();
    this.#module = module;
    this.#kernels = new Map(kernels.map((k) => [k.name, k]));
    this.#observer = observer;
    this.#states = new DeviceStates(core, device, module);
    const file = encodePlanFile(lowerPlan(module, plan, kernels));
    this.#handle = told(() => this.#executor.createExecutor(device, file));
    this.#loadWeights(weights, plan);
  }

  /**
   * Runs an entry. Inputs are in the order of its arguments; finals in the order of its inout arguments. Throws
   * DiagnosticError for sizes beyond the plan's bounds and for PTX that the emulator refuses, CoreError for launches
   * that it refuses.
   */
  run(
    name: string,
    inputs: readonly RuntimeValue[],
  ): { readonly results: readonly RuntimeValue[]; readonly finals: readonly RuntimeValue[] } {
    const fn = functionNamed(this.#module, name);
    const sizes = this.#sizesOf(fn, inputs);
    const owned: bigint[] = [];
    try {
      const states = new Set<string>();
      const addresses = fn.arguments.flatMap(({ value: { name, type } }, i) => {
        const input = inputs[i];
        if (type.kind !== 'state' || input.kind !== 'state')
          return this.#upload(name, type, arraysOf(type, input), owned);
        if (states.has(type.state)) throw new Error(`entry @${fn.name} takes state ${type.state} twice`);
        states.add(type.state);
        return this.#states.place(type, input, name);
      });
      const arrays = told(() =>
        this.#executor.runEntry(this.#handle, {
          entry: name,
          sizes,
          arguments: addresses,
          codeOf: (kernel) => this.#programOf(kernel),
          ...this.#callbacks(),
        }),
      );
      const results = fn.results.map(({ type }, i) => {
        if (type.kind !== 'tensor') throw new Error(`entry @${name}: result ${i} is a ${type.kind}`);
        const shape = type.dims.map((d) => this.#sizeOf(d, sizes));
        const index = new Map(componentsOf(type, this.#module).map((c, k) => [c.component, k]));
        return readTensor(type, shape, (c) => arrays[i][index.get(c)!]);
      });
      const finals = fn.arguments.flatMap(({ value: { type }, inout }, i) =>
        inout && type.kind === 'state' ? [this.#states.after(type, inputs[i] as StateData)] : [],
      );
      return { results, finals };
    } finally {
      for (const address of owned) this.#core.free(this.#device, address);
    }
  }

  #upload(name: string, type: Type, arrays: Arrays, owned: bigint[]): readonly bigint[] {
    return componentsOf(type, this.#module).map(({ component }) => {
      const bytes = arrays.get(component)!;
      // Kernels may touch an array's last words whole.
      const size = Math.max(1, alignUp(bytes.length));
      const address = this.#core.allocate(this.#device, size, `${name}.${component}`);
      owned.push(address);
      this.#core.write(this.#device, address, bytes);
      return address;
    });
  }

  #callbacks() {
    const { launch, launched } = this.#observer;
    let event: LaunchEvent;
    let ended: (() => void) | undefined;
    return {
      onBefore: (places: LaunchPlaces): void => {
        event = this.#event(places);
        ended = launch?.(event);
      },
      onLaunched: (result: LaunchResult): void => launched(result, event),
      onAfter: launch && ((): void => ended?.()),
    };
  }

  #event({ kernel, layer, at, sizes, operands, results }: LaunchPlaces): LaunchEvent {
    const fn = functionNamed(this.#module, kernel);
    const places = new Map<string, PlacedValue>();
    fn.arguments.forEach(({ value }, i) => places.set(value.name, operands[i]));
    const made = fn.results.filter((v) => !places.has(v.name));
    made.forEach((v, i) => places.set(v.name, results[i]));
    const { pages = 0, ...dims } = sizes;
    return {
      ...{ kernel: this.#kernels.get(kernel)!, fn, layer, pages },
      at: at === '' ? undefined : at,
      dims: new Map(Object.entries(dims)),
      read: (value, component, bytes) => {
        const array = places.get(value)?.arrays.find((a) => a.component === component);
        if (!array) throw new Error(`launch of ${kernel}: ${value}.${component} has no place`);
        return this.#core.read(this.#device, array.address, bytes);
      },
    };
  }

  #loadWeights(cache: WeightCache, plan: Plan): void {
    for (const use of weightUses(this.#module, entriesOf(this.#module))) {
      const index = plan.weights.findIndex((w) => w.name === use.name && `${w.layers}` === `${use.layers}`);
      // Weights that no launch reads have no place.
      if (index < 0) continue;
      const { type, name } = use.declaration.value;
      const [start, stop] = use.layers ?? [0, 1];
      for (let layer = start; layer < stop; layer++) {
        const prefix = use.prefix.replaceAll('{i}', String(layer));
        const arrays = tensorArrays(type, cache.value(use.function, name, prefix, true));
        // On the device once is enough.
        cache.release(prefix);
        for (const [c, { component }] of componentsOf(type, this.#module).entries())
          this.#executor.writeWeight(this.#handle, index, layer, c, 0, arrays.get(component)!);
      }
    }
  }

  #programOf(name: string): Uint8Array {
    const kernel = this.#kernels.get(name);
    if (!kernel) throw new Error(`plan: there is no kernel ${name}`);
    const { program, diagnostics } = decodePtx(kernel.ptx, `${name}.ptx`);
    if (!program)
      return fail({
        code: 'emu/refused-kernel',
        message: `kernel ${name} cannot be decoded: ${diagnostics[0]?.message ?? 'no reason given'}`,
        fix: 'this is a bug in dsvc, please report it',
      });
    return program;
  }

  /** Run-time dims that the inputs' shapes tell, and columns of the page table. */
  /** The size of an axis at run time: a ragged one as large as its rows can be, in whole groups. */
  #sizeOf({ name, size }: Dim, sizes: Readonly<Record<string, number>>): number {
    if (size !== null) return size;
    const ragged = this.#module.dims.find((d) => d.name === name)?.ragged;
    if (!ragged) return sizes[name!];
    return Math.floor(raggedBound(ragged, sizes[ragged.of]) / ragged.align) * ragged.align;
  }

  #sizesOf(fn: Function, inputs: readonly RuntimeValue[]): Readonly<Record<string, number>> {
    const sizes: Record<string, number> = {};
    const put = (d: { readonly name: string | null; readonly size: number | null }, n: number): void => {
      if (d.size === null && d.name !== null) sizes[d.name] = n;
    };
    fn.arguments.forEach(({ value: { type } }, i) => {
      const v = inputs[i];
      if (type.kind === 'tensor' && v.kind === 'tensor')
        type.dims.forEach((d, axis) => put(d, v.shape[axis]));
      if (type.kind === 'positions' && v.kind === 'positions') {
        put(type.tokens, v.position.length);
        put(type.sequences, v.pages.length);
        put(type.outputs, v.outputs.length);
        sizes.pages = pageColumns(v);
      }
      if (type.kind === 'state' && v.kind === 'state')
        for (const [d, n] of this.#states.sizesOf(type, v)) put(d, n);
    });
    return sizes;
  }
}

function arraysOf(type: Type, v: RuntimeValue): Arrays {
  if (type.kind === 'tensor' && v.kind === 'tensor') return tensorArrays(type, v);
  if (v.kind === 'positions') return positionsArrays(v);
  throw new Error(`plan: a ${v.kind} cannot be an input`);
}

/** What is wrong with the plan, or with what it was given, is the user's to know; the emulator's errors stay what they are. */
function told<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!isExecutorError(error) || !error.code.startsWith('plan/')) throw error;
    const { code, message, fix, where } = error;
    return fail({
      code,
      message: where === '' ? message : `${where}: ${message}`,
      ...(fix === '' ? {} : { fix }),
    });
  }
}
