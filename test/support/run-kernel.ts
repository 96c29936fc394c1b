// Runs an emitted kernel on values of the IR interpreter: lays them out in memory as docs/BUNDLE.md says, launches it on
// a machine, and reads results back.
import {
  pageColumns as columnsOf,
  positionsArrays,
  readRouting,
  readTensor,
  routingArrays,
  stateArrays,
  tensorArrays,
  tensorComponentBytes,
} from '../../ir/interpret/value-bytes.ts';
import type { RuntimeValue } from '../../ir/interpret/values.ts';
import type { Function, Module, Value } from '../../ir/module.ts';
import type { EmittedKernel, Extent } from '../../ir/plan.ts';
import { dimsOf, type Dim, type RoutingType } from '../../ir/types.ts';
import type { DeviceSettings, Report } from '../../runtime/emulator/device.ts';
import { defaultEngine, machineOf, type Engine, type LaunchTensorMap } from './machines.ts';
import { unwritten, type Order } from './ptx-run.ts';

/** Bytes that a kernel may touch word by word at an array's end. */
const padded = (bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array(Math.ceil(bytes.length / 16) * 16);
  out.set(bytes);
  return out;
};

export interface RunOptions {
  /** Default: the emulator's core, where it is built. */
  readonly engine?: Engine;
  /** Of the core. */
  readonly tensorCore?: DeviceSettings['tensorCore'];
  readonly settings?: DeviceSettings;
  /** Gets what the core says of the launch; without it an error throws. */
  readonly onReports?: (reports: readonly Report[]) => void;
  readonly order?: Order;
  /** Sizes of run-time dims that no input tells, and of ragged dims when they should be smaller than their bound. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Blocks of a persistent kernel, when fewer than it asks for: it must loop over the rest. */
  readonly atMost?: number;
  /** Of asynchronous work; on the core of everything that has no order. */
  readonly seed?: number;
}

/** What a run leaves: results in order, and the arrays of every value by `value component`. */
export interface RunResult {
  readonly results: readonly RuntimeValue[];
  readonly arrays: ReadonlyMap<string, Uint8Array>;
}

/** Sizes of run-time dims from the inputs; ragged ones are laid out for their bound. */
function sizesOf(
  fn: Function,
  module: Module,
  inputs: readonly RuntimeValue[],
  given: Readonly<Record<string, number>>,
): Map<string, number> {
  const sizes = new Map<string, number>(Object.entries(given));
  const put = (d: Dim, n: number): void => {
    if (d.size === null && !module.dims.some((x) => x.name === d.name && x.ragged)) sizes.set(d.name!, n);
  };
  for (const [i, { value }] of fn.arguments.entries()) {
    const [type, v] = [value.type, inputs[i]];
    if (type.kind === 'tensor' && v.kind === 'tensor') type.dims.forEach((d, axis) => put(d, v.shape[axis]));
    if (type.kind === 'positions' && v.kind === 'positions') {
      put(type.tokens, v.position.length);
      put(type.sequences, v.pages.length || 1 + Math.max(...v.sequence));
      put(type.outputs, v.outputs.length);
    }
    if (type.kind === 'routing' && v.kind === 'routing') put(type.tokens, v.tokens);
    if (type.kind === 'state' && v.kind === 'state')
      for (const f of module.states.find((s) => s.name === type.state)!.fields)
        f.type.dims.forEach((d, axis) => put(d, v.layers[0].fields[f.name].shape[axis]));
  }
  for (const d of module.dims)
    if (d.ragged && !sizes.has(d.name)) {
      const parent = sizes.get(d.ragged.of);
      if (parent !== undefined)
        sizes.set(
          d.name,
          parent * d.ragged.per + Math.min(d.ragged.groups, parent * d.ragged.per) * (d.ragged.align - 1),
        );
    }
  // Groups begin and end at whole blocks: what is left of one is never used.
  for (const d of module.dims)
    if (d.ragged && sizes.has(d.name))
      sizes.set(d.name, Math.floor(sizes.get(d.name)! / d.ragged.align) * d.ragged.align);
  return sizes;
}

/**
 * Launches `kernel` (written for `fn`) on `inputs`, one per argument of `fn`. States among them stay as they are. Throws
 * also when the kernel writes to an operand, or beyond the end of a result.
 */
export function runKernel(
  kernel: EmittedKernel,
  fn: Function,
  module: Module,
  inputs: readonly RuntimeValue[],
  options: RunOptions = {},
): RunResult {
  const sizes = sizesOf(fn, module, inputs, options.sizes ?? {});
  const sizeOf = (d: Dim): number => d.size ?? sizes.get(d.name!) ?? fail(`size of ${d.name} is unknown`);
  const alignOf = (type: RoutingType): number =>
    module.dims.find((d) => d.name === type.slots.name)!.ragged!.align;
  const { engine = defaultEngine, tensorCore, order, seed } = options;
  const memory = machineOf(
    engine,
    { ...options.settings, ...(tensorCore && { tensorCore }) },
    options.onReports,
  );
  const addresses = new Map<string, number>();
  const pageColumns = new Map<string, number>();
  const put = (value: string, arrays: Map<string, Uint8Array>): void => {
    for (const [component, bytes] of arrays)
      addresses.set(`${value} ${component}`, memory.allocate(padded(bytes), `${value}.${component}`));
  };
  for (const [i, { value }] of fn.arguments.entries()) {
    const [type, v] = [value.type, inputs[i]];
    if (type.kind === 'tensor' && v.kind === 'tensor') {
      const ragged = type.dims.map(sizeOf);
      const bytes = tensorArrays(type, v);
      // A ragged operand has room for its bound; what lies beyond the rows in use is not a number.
      for (const [component, b] of bytes) {
        const full = tensorComponentBytes(type, component, ragged);
        const room = new Uint8Array(Math.max(full, b.length)).fill(0xff);
        room.set(b);
        bytes.set(component, room);
      }
      put(value.name, bytes);
    } else if (v.kind === 'positions') {
      put(value.name, positionsArrays(v));
      pageColumns.set(value.name, columnsOf(v));
    } else if (type.kind === 'routing' && v.kind === 'routing')
      put(value.name, routingArrays(v, sizeOf(type.slots), alignOf(type)));
    else if (type.kind === 'state' && v.kind === 'state') put(value.name, stateArrays(module, type.state, v));
  }
  const inout = new Set(fn.arguments.filter((a) => a.inout).map((a) => a.value.name));
  const operands = new Map(
    [...addresses]
      .filter(([key]) => !inout.has(key.slice(0, key.indexOf(' '))))
      .map(([key, address]) => [key, memory.bytesAt(address).slice()]),
  );
  const ends = new Map<string, number>();
  for (const v of fn.results)
    for (const [component, bytes] of roomFor(v, sizeOf, alignOf)) {
      const key = `${v.name} ${component}`;
      if (addresses.has(key)) continue;
      addresses.set(key, memory.allocate(Math.ceil(bytes / 16) * 16, `${v.name}.${component}`));
      ends.set(key, bytes);
    }
  if (kernel.scratchBytes !== undefined)
    addresses.set(' scratch', memory.allocate(new Uint8Array(kernel.scratchBytes), 'scratch'));

  const evaluate = (e: Extent): number =>
    e.terms.reduce(
      (n, t) => n + t.factor * (sizes.get(t.dim) ?? fail(`size of ${t.dim} is unknown`)),
      e.constant,
    );
  const parameters = kernel.parameters.map((p): number | LaunchTensorMap => {
    if (p.kind === 'pointer' || p.kind === 'tensorMap') {
      const start = addresses.get(`${p.value} ${p.component}`) ?? fail(`no buffer ${p.value}.${p.component}`);
      return p.kind === 'pointer' ? start + (p.offset ?? 0) : tensorMapOf(p, start, evaluate);
    }
    if ('dim' in p) return sizes.get(p.dim) ?? fail(`size of ${p.dim} is unknown`);
    return pageColumns.get(p.pagesOf) ?? fail(`no page table of ${p.pagesOf}`);
  });
  const grid = gridOf(kernel, evaluate, options.atMost);
  if (grid.every((n) => n > 0)) memory.launch(kernel, { grid, parameters, order, seed });

  for (const [key, before] of operands)
    if (!Buffer.from(before).equals(memory.bytesAt(addresses.get(key)!)))
      fail(`${kernel.name} writes to operand ${key}`);
  const scratch = addresses.get(' scratch');
  if (scratch !== undefined && memory.bytesAt(scratch).some((byte) => byte !== 0))
    fail(`${kernel.name} does not leave its scratch zero`);
  for (const [key, end] of ends)
    if (
      memory
        .bytesAt(addresses.get(key)!)
        .subarray(end)
        .some((byte) => byte !== unwritten)
    )
      fail(`${kernel.name} writes beyond the end of ${key}`);
  const arrays = new Map([...addresses].map(([key, address]) => [key, memory.bytesAt(address)]));
  const results = fn.results.map((v) =>
    readValue(v, sizeOf, (component) => arrays.get(`${v.name} ${component}`)!),
  );
  return { results, arrays };
}

type TensorMapParameter = Extract<EmittedKernel['parameters'][number], { kind: 'tensorMap' }>;

const tensorMapOf = (
  p: TensorMapParameter,
  address: number,
  evaluate: (e: Extent) => number,
): LaunchTensorMap => ({
  ...{ address, dtype: p.dtype, box: p.box, swizzle: p.swizzle },
  dims: p.dims.map(evaluate),
  strides: p.strides.map(evaluate),
});

/** Blocks of a launch. Persistent kernels have one axis of blocks: as many as are allowed, or as there is work. */
function gridOf(
  { grid: { axes, atMost } }: EmittedKernel,
  evaluate: (e: Extent) => number,
  most = Infinity,
): [number, number, number] {
  const [x, y = 1, z = 1] = axes.map((a) => Math.ceil(evaluate(a.extent) / a.per));
  return atMost === undefined ? [x, y, z] : [Math.min(atMost, most, x * y * z), 1, 1];
}

function fail(message: string): never {
  throw new Error(`runKernel: ${message}`);
}

/** Bytes of every component of a result. */
function roomFor(
  v: Value,
  sizeOf: (d: Dim) => number,
  alignOf: (type: RoutingType) => number,
): Map<string, number> {
  const { type } = v;
  const shape = dimsOf(type).map(sizeOf);
  if (type.kind === 'tensor')
    return new Map(
      ['data', ...type.scales.map((_, i) => `scale${i}`)].map((c) => [
        c,
        tensorComponentBytes(type, c, shape),
      ]),
    );
  if (type.kind !== 'routing') return new Map();
  const [tokens, experts, top, slots] = shape;
  return new Map([
    ['indices', 4 * tokens * top],
    ['weights', 4 * tokens * top],
    ['offsets', 4 * (experts + 1)],
    ['tokenOf', 4 * slots],
    ['choiceOf', 4 * slots],
    ['slotOf', 4 * tokens * top],
    ['expertOfBlock', 4 * Math.ceil(slots / alignOf(type))],
  ]);
}

function readValue(
  v: Value,
  sizeOf: (d: Dim) => number,
  bytes: (component: string) => Uint8Array,
): RuntimeValue {
  const { type } = v;
  if (type.kind === 'tensor') return readTensor(type, type.dims.map(sizeOf), bytes);
  if (type.kind !== 'routing') return fail(`%${v.name} cannot be read back`);
  const [tokens, experts, top, slots] = [type.tokens, type.experts, type.top, type.slots].map(sizeOf);
  return readRouting({ tokens, experts, top, slots }, bytes);
}
