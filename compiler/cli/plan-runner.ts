// Runs a compiled module's plan on the emulator: weights, arenas and states in its memory, every launch of the plan in
// order, repeats layer by layer (docs/BUNDLE.md says how). Holds one device with the weights for all its calls.
import { fail } from '../../ir/diagnostics.ts';
import {
  pageColumns,
  positionsArrays,
  readState,
  readTensor,
  stateArrays,
  tensorArrays,
  tensorComponentBytes,
  type Arrays,
} from '../../ir/interpret/value-bytes.ts';
import type { RuntimeValue, StateData } from '../../ir/interpret/values.ts';
import type { WeightCache } from '../../ir/interpret/weights.ts';
import { functionNamed, type Function, type Module } from '../../ir/module.ts';
import type { EmittedKernel, Extent } from '../../ir/plan.ts';
import { bytesFor } from '../../ir/formats/index.ts';
import type { Type } from '../../ir/types.ts';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import type { Core, DeviceHandle, KernelInfo, ProgramHandle, Report } from '../../runtime/emulator/device.ts';
import { encodeTensorMap, type TensorMapDType } from '../../runtime/emulator/tensor-map.ts';
import { alignUp, componentBytes, componentsOf } from '../memory/buffers.ts';
import type { Location, Plan, PlanFunction, PlanStep } from '../plan.ts';
import { entriesOf, weightUses } from '../weights.ts';

/** A compiled module with everything that a device needs. */
export interface Executable {
  readonly module: Module;
  readonly kernels: readonly EmittedKernel[];
  readonly plan: Plan;
}

/** What the emulator said about a launch. */
export type OnReport = (report: Report, kernel: string, at: string | undefined) => void;

/** Where the arrays of a value begin. */
type Place = (component: string) => bigint;

interface Loaded {
  readonly program: ProgramHandle;
  readonly info: KernelInfo;
  readonly kernel: EmittedKernel;
  readonly fn: Function;
  /** Its own scratch memory, zero before its first launch. */
  readonly scratch: bigint | null;
}

/** One call of a plan's function. */
interface Call {
  readonly plan: PlanFunction;
  readonly fn: Function;
  readonly arena: bigint;
  readonly arguments: readonly Place[];
  /** Prefix of its weights' names, with `{i}`, and the layer. */
  readonly prefix: string;
  readonly layer: number | null;
}

/** Run-time sizes of one call of an entry. */
interface Sizes {
  readonly dims: ReadonlyMap<string, number>;
  readonly pages: number;
}

const dtypeNames: Readonly<Record<string, TensorMapDType>> = {
  u8: 'U8',
  bf16: 'BF16',
  f16: 'F16',
  f32: 'F32',
};

export class PlanRunner {
  readonly #core: Core;
  readonly #device: DeviceHandle;
  readonly #executable: Executable;
  readonly #onReport: OnReport;
  readonly #kernels = new Map<string, Loaded>();
  readonly #weights: bigint;

  /** Loads the weights. Throws DiagnosticError for PTX that the emulator refuses. */
  constructor(
    core: Core,
    device: DeviceHandle,
    executable: Executable,
    weights: WeightCache,
    onReport: OnReport,
  ) {
    this.#core = core;
    this.#device = device;
    this.#executable = executable;
    this.#onReport = onReport;
    this.#weights = core.allocate(device, Math.max(1, executable.plan.weightBytes), 'weights');
    this.#loadWeights(weights);
  }

  /** Runs an entry. Inputs are in the order of its arguments; finals in the order of its inout arguments. */
  run(
    name: string,
    inputs: readonly RuntimeValue[],
  ): { readonly results: readonly RuntimeValue[]; readonly finals: readonly RuntimeValue[] } {
    const { module } = this.#executable;
    const fn = functionNamed(module, name);
    const entry = this.#planOf(name);
    const sizes = this.#sizesOf(fn, inputs);
    const owned: bigint[] = [];
    const allocate = (bytes: number, what: string): bigint => {
      const address = this.#core.allocate(this.#device, Math.max(1, bytes), what);
      owned.push(address);
      return address;
    };
    try {
      const places = fn.arguments.map(({ value }, i): Place => {
        const addresses = new Map<string, bigint>();
        for (const [component, bytes] of arraysOf(module, value.type, inputs[i])) {
          // Kernels may touch an array's last words whole.
          const address = allocate(alignUp(bytes.length), `${value.name}.${component}`);
          this.#core.write(this.#device, address, bytes);
          addresses.set(component, address);
        }
        return (component) => addresses.get(component) ?? missing(`${value.name}.${component}`);
      });
      const arena = allocate(entry.arenaBytes, `arena of ${name}`);
      const call: Call = { plan: entry, fn, arena, arguments: places, prefix: '', layer: null };
      this.#steps(call, sizes);
      const results = fn.results.map(({ type }, i) => {
        if (type.kind !== 'tensor') throw new Error(`entry @${name}: result ${i} is a ${type.kind}`);
        const shape = type.dims.map((d) => d.size ?? sizeOf(sizes, d.name!));
        const place = this.#place(entry.results[i], type, call);
        return readTensor(type, shape, (c) =>
          this.#readResult(name, i, place(c), tensorComponentBytes(type, c, shape)),
        );
      });
      const finals = fn.arguments.flatMap(({ value, inout }, i) => {
        if (!inout || value.type.kind !== 'state') return [];
        const like = inputs[i] as StateData;
        const lengths = stateArrays(module, value.type.state, like);
        return [
          readState(module, value.type.state, like, (c) =>
            this.#core.read(this.#device, places[i](c), lengths.get(c)!.length),
          ),
        ];
      });
      return { results, finals };
    } finally {
      for (const address of owned) this.#core.free(this.#device, address);
    }
  }

  /** A result's bytes. Throws DiagnosticError when a kernel left some of them uninitialised. */
  #readResult(entry: string, index: number, at: bigint, bytes: number): Uint8Array {
    const first = this.#core.firstUninitialised(this.#device, at, bytes);
    if (first >= 0)
      fail({
        code: 'emu/uninitialised-output',
        message: `entry @${entry}: result ${index} holds data that no kernel initialised, from its byte ${first} on`,
        fix: 'this is a bug in dsvc, please report it',
      });
    return this.#core.read(this.#device, at, bytes);
  }

  #planOf(name: string): PlanFunction {
    return this.#executable.plan.functions.find((f) => f.name === name) ?? missing(`function ${name}`);
  }

  #loadWeights(cache: WeightCache): void {
    const { module, plan } = this.#executable;
    for (const use of weightUses(module, entriesOf(module))) {
      const planned = plan.weights.find((w) => w.name === use.name && `${w.layers}` === `${use.layers}`);
      // Weights that no launch reads have no place.
      if (!planned) continue;
      const { type, name } = use.declaration.value;
      const [start, stop] = use.layers ?? [0, 1];
      for (let layer = start; layer < stop; layer++) {
        const value = cache.value(use.function, name, use.prefix.replaceAll('{i}', String(layer)), true);
        let at = this.#weights + BigInt(planned.offset + (layer - start) * planned.stride);
        const arrays = tensorArrays(type, value);
        for (const c of componentsOf(type, module)) {
          this.#core.write(this.#device, at, arrays.get(c.component)!);
          at += BigInt(alignUp(componentBytes(c, module)));
        }
      }
    }
  }

  #steps(call: Call, sizes: Sizes): void {
    for (const step of call.plan.steps)
      if (step.launch !== undefined) this.#launch(step, call, sizes);
      else this.#repeat(step, call, sizes);
  }

  #repeat(step: PlanStep, caller: Call, sizes: Sizes): void {
    const { function: name, start, stop, prefix, modes } = step.repeat!;
    const fn = functionNamed(this.#executable.module, name);
    const plan = this.#planOf(name);
    const types = fn.arguments.map((a) => a.value.type);
    const operands = step.operands.map((l, i) => this.#place(l, types[i], caller));
    // Carried values come first among the results, in the order of the operands.
    const carried = modes.flatMap((mode, i) => (mode === 'carry' ? [i] : []));
    const results = carried.map((i, k) => this.#place(step.results[k], types[i], caller));
    carried.forEach((i, k) => this.#copy(operands[i], results[k], types[i], sizes));
    for (let layer = start; layer < stop; layer++) {
      const places = operands.map((place, i): Place => {
        if (modes[i] === 'carry') return results[carried.indexOf(i)];
        if (modes[i] === 'same') return place;
        const bytes = this.#layerBytes(types[i], sizes);
        return (c) => place(c) + BigInt(layer) * bytes(c);
      });
      const call: Call = {
        ...{ plan, fn, arguments: places, layer },
        arena: caller.arena + BigInt(step.arena ?? 0),
        prefix: caller.prefix + prefix,
      };
      this.#steps(call, sizes);
      carried.forEach((i, k) =>
        this.#copy(this.#place(plan.results[k], types[i], call), results[k], types[i], sizes),
      );
    }
  }

  /** Bytes of one layer's part of each component of a stack of layers. */
  #layerBytes(type: Type, sizes: Sizes): (component: string) => bigint {
    const components = componentsOf(type, this.#executable.module);
    return (name) => {
      const c = components.find((x) => x.component === name) ?? missing(name);
      return BigInt(
        bytesFor(
          c.dtype,
          c.shape.reduce((n, e) => n * evaluate(e, sizes), 1),
        ),
      );
    };
  }

  #copy(from: Place, to: Place, type: Type, sizes: Sizes): void {
    const bytes = this.#layerBytes(type, sizes);
    for (const { component } of componentsOf(type, this.#executable.module)) {
      const [source, target] = [from(component), to(component)];
      if (source === target) continue;
      this.#core.copy(this.#device, target, source, bytes(component));
    }
  }

  /** The arrays of a value at a plan's location. */
  #place(location: Location, type: Type, call: Call): Place {
    if ('argument' in location) return call.arguments[location.argument];
    if ('of' in location) {
      const { component } = location;
      // A part needs no type of its own: the whole says where its arrays lie.
      const whole = this.#place(location.of, wholeOf(location.of, call), call);
      return (c) => whole(c === 'data' ? component : `${component}.${c}`);
    }
    const base =
      'arena' in location ? call.arena + BigInt(location.arena) : this.#weight(location.weight, call);
    return (component) => {
      let at = base;
      for (const c of componentsOf(type, this.#executable.module)) {
        if (c.component === component) return at;
        at += BigInt(alignUp(componentBytes(c, this.#executable.module)));
      }
      return missing(component);
    };
  }

  #weight(name: string, { prefix, layer }: Call): bigint {
    const found = this.#executable.plan.weights.find(
      (w) =>
        w.name === prefix + name &&
        (w.layers === null || (layer !== null && layer >= w.layers[0] && layer < w.layers[1])),
    );
    if (!found) return missing(`weight ${prefix}${name}`);
    return (
      this.#weights + BigInt(found.offset + (found.layers ? layer! - found.layers[0] : 0) * found.stride)
    );
  }

  #loaded(name: string): Loaded {
    const known = this.#kernels.get(name);
    if (known) return known;
    const { kernels, module } = this.#executable;
    const kernel = kernels.find((k) => k.name === name) ?? missing(`kernel ${name}`);
    const { program, diagnostics } = decodePtx(kernel.ptx, `${name}.ptx`);
    if (!program)
      return fail({
        code: 'emu/refused-kernel',
        message: `kernel ${name} cannot be decoded: ${diagnostics[0]?.message ?? 'no reason given'}`,
        fix: 'this is a bug in dsvc, please report it',
      });
    const handle = this.#core.loadProgram(this.#device, program);
    const info = this.#core.describeProgram(handle).kernels.find((k) => k.name === name)!;
    let scratch: bigint | null = null;
    if (kernel.scratchBytes !== undefined) {
      scratch = this.#core.allocate(this.#device, kernel.scratchBytes, `scratch of ${name}`);
      this.#core.write(this.#device, scratch, new Uint8Array(kernel.scratchBytes));
    }
    const loaded: Loaded = { program: handle, info, kernel, fn: functionNamed(module, name), scratch };
    this.#kernels.set(name, loaded);
    return loaded;
  }

  #launch(step: PlanStep, call: Call, sizes: Sizes): void {
    const loaded = this.#loaded(step.launch!);
    const { kernel, fn, info, program } = loaded;
    const places = new Map<string, Place>();
    fn.arguments.forEach(({ value }, i) =>
      places.set(value.name, this.#place(step.operands[i], value.type, call)),
    );
    // Results that are states are the operands themselves.
    fn.results.forEach((v, i) => {
      if (!places.has(v.name)) places.set(v.name, this.#place(step.results[i], v.type, call));
    });
    const grid = gridOf(kernel, sizes);
    if (grid.some((n) => n === 0)) return;
    const { reports } = this.#core.launch(this.#device, program, {
      kernel: kernel.name,
      grid,
      block: [kernel.threads, 1, 1],
      cluster: kernel.cluster,
      dynamicSharedBytes: kernel.dynamicSharedBytes,
      parameterBlock: parameterBlock(loaded, info, places, sizes),
    });
    for (const r of reports) this.#onReport(r, kernel.name, step.at);
  }

  #sizesOf(fn: Function, inputs: readonly RuntimeValue[]): Sizes {
    const dims = new Map<string, number>();
    let pages = 0;
    const put = (name: string | null, size: number | null, n: number): void => {
      if (size === null && name !== null) dims.set(name, n);
    };
    fn.arguments.forEach(({ value: { type } }, i) => {
      const v = inputs[i];
      if (type.kind === 'tensor' && v.kind === 'tensor')
        type.dims.forEach((d, axis) => put(d.name, d.size, v.shape[axis]));
      if (type.kind === 'positions' && v.kind === 'positions') {
        put(type.tokens.name, type.tokens.size, v.position.length);
        put(type.sequences.name, type.sequences.size, v.pages.length);
        put(type.outputs.name, type.outputs.size, v.outputs.length);
        pages = pageColumns(v);
      }
      if (type.kind === 'state' && v.kind === 'state') {
        const declared = this.#executable.module.states.find((s) => s.name === type.state)!;
        for (const f of declared.fields)
          f.type.dims.forEach((d, axis) => put(d.name, d.size, v.layers[0].fields[f.name].shape[axis]));
      }
    });
    for (const { name, ragged } of this.#executable.module.dims) {
      const parent = ragged && dims.get(ragged.of);
      if (!ragged || parent === undefined) continue;
      const rows = parent * ragged.per;
      const most = rows + Math.min(ragged.groups, rows) * (ragged.align - 1);
      dims.set(name, Math.floor(most / ragged.align) * ragged.align);
    }
    return { dims, pages };
  }
}

const missing = (what: string): never => {
  throw new Error(`plan: ${what} has no place`);
};

const sizeOf = ({ dims, pages }: Sizes, name: string): number =>
  name === 'pages' ? pages : (dims.get(name) ?? missing(`dim ${name}`));

const evaluate = (e: Extent, sizes: Sizes): number =>
  e.terms.reduce((n, t) => n + t.factor * sizeOf(sizes, t.dim), e.constant);

/** The type of a value that others are parts of: an argument of the function, or a result of one of its launches. */
function wholeOf(location: Location, { fn, plan }: Call): Type {
  if ('argument' in location) return fn.arguments[location.argument].value.type;
  const launches = fn.body.filter((op) => op.op === 'launch' || op.op === 'repeat');
  for (const [i, step] of plan.steps.entries())
    for (const [k, r] of step.results.entries())
      if ('arena' in location && 'arena' in r && r.arena === location.arena) {
        const { type } = launches[i].results[k];
        if (type.kind === 'routing' || type.kind === 'positions' || type.kind === 'state') return type;
      }
  return missing('a whole value');
}

function arraysOf(module: Module, type: Type, v: RuntimeValue): Arrays {
  if (type.kind === 'tensor' && v.kind === 'tensor') return tensorArrays(type, v);
  if (v.kind === 'positions') return positionsArrays(v);
  if (type.kind === 'state' && v.kind === 'state') return stateArrays(module, type.state, v);
  throw new Error(`plan: a ${v.kind} cannot be an input`);
}

function gridOf({ grid: { axes, atMost } }: EmittedKernel, sizes: Sizes): [number, number, number] {
  const [x, y = 1, z = 1] = axes.map((a) => Math.ceil(evaluate(a.extent, sizes) / a.per));
  return atMost === undefined ? [x, y, z] : [Math.min(atMost, x * y * z), 1, 1];
}

function parameterBlock(
  { kernel, scratch }: Loaded,
  info: KernelInfo,
  places: ReadonlyMap<string, Place>,
  sizes: Sizes,
): Uint8Array {
  const block = new Uint8Array(info.parameterBytes);
  const view = new DataView(block.buffer);
  kernel.parameters.forEach((p, i) => {
    const { offset } = info.parameters[i];
    if (p.kind === 'u32')
      return view.setUint32(offset, 'dim' in p ? sizeOf(sizes, p.dim) : sizes.pages, true);
    const start =
      p.component === 'scratch' && scratch !== null
        ? scratch
        : (places.get(p.value) ?? missing(p.value))(p.component);
    if (p.kind === 'pointer') return view.setBigUint64(offset, start + BigInt(p.offset ?? 0), true);
    const map = encodeTensorMap(start, {
      dtype: dtypeNames[p.dtype] ?? missing(`tensor map of ${p.dtype}`),
      dims: p.dims.map((e) => evaluate(e, sizes)),
      strides: p.strides.map((e) => evaluate(e, sizes)),
      box: p.box,
      elementStrides: p.box.map(() => 1),
      swizzle: p.swizzle,
      interleave: 'none',
      fill: 'zero',
    });
    return block.set(map, offset);
  });
  return block;
}
