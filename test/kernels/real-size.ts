// The first and the last block of a kernel at the module's bounds: nobody computes gigabytes here, but addresses must
// hold them. Buffers are reserved, not filled; indices in them point to the last row of what they are for.
import { boundOfExtent, componentBytes, componentsOf } from '../../compiler/memory/buffers.ts';
import { boundOf, type Function, type Module, type Value } from '../../ir/module.ts';
import type { EmittedKernel, KernelParameter } from '../../ir/plan.ts';
import { dim, type Type } from '../../ir/types.ts';
import { DeviceMemory, runPtx, type TensorMap } from '../support/ptx-run.ts';

export interface Reach {
  /** Value and component. */
  readonly buffer: string;
  readonly kind: Type['kind'] | 'scratch';
  readonly isResult: boolean;
  /** Bytes of the buffer, of its last row, and how far the block has come. */
  readonly bytes: number;
  readonly lastRow: number;
  readonly reached: number;
}

const one = 0x3f800000;
/** Bytes of results before something is written. */
const unwritten = 0x5d5d5d5d;

/** What fills a component: zeros, scales of 1, and indices of the last of their kind. */
function wordFor(type: Type, component: string, fn: Function, module: Module): number {
  const last = (name: string | null, size: number | null): number => boundOf(module, dim(name, size)) - 1;
  if (type.kind === 'tensor') {
    if (component.startsWith('scale')) return one;
    if (type.dtype !== 'i32') return 0;
    const tables = fn.body.filter((op) => op.op === 'gather').map((op) => op.operands[0].type);
    return Math.min(...tables.map((t) => (t.kind === 'tensor' ? last(t.dims[0].name, t.dims[0].size) : 0)));
  }
  if (type.kind === 'positions') {
    const paged = type.keys.name !== type.tokens.name;
    const rows = paged ? boundOf(module, type.keys) : boundOf(module, dim('cached'));
    const page = module.states[0].page;
    const tokens = last(type.tokens.name, null);
    // A few keys are enough: those of the last page, or the last tokens.
    const words: Record<string, number> = {
      position: 2 * page - 1,
      sequence: last(type.sequences.name, null),
      first: tokens - 5,
    };
    return { ...words, outputs: tokens, pages: rows / page - 1 }[component]!;
  }
  if (type.kind === 'routing') {
    const [experts, top] = [type.experts.size!, type.top.size!];
    const slots = boundOf(module, type.slots);
    const words: Record<string, number> = {
      indices: experts - 1,
      weights: one,
      offsets: slots,
      slotOf: slots - 1,
    };
    return { ...words, tokenOf: last(type.tokens.name, null), choiceOf: top - 1, expertOfBlock: experts - 1 }[
      component
    ]!;
  }
  return 0;
}

const tensorMapAtBounds = (
  p: Extract<KernelParameter, { kind: 'tensorMap' }>,
  address: number,
  module: Module,
): TensorMap => ({
  address,
  elementBytes: { u8: 1, bf16: 2, f32: 4 }[p.dtype]!,
  dims: p.dims.map((e) => boundOfExtent(e, module)),
  strides: p.strides.map((e) => boundOfExtent(e, module)),
  box: p.box,
  swizzle: p.swizzle === 'none' ? 0 : Number.parseInt(p.swizzle),
});

/** Runs the outermost blocks of a kernel with every dim at its bound. Throws when they leave a buffer. */
export function runOuterBlocks(kernel: EmittedKernel, fn: Function, module: Module): readonly Reach[] {
  const memory = new DeviceMemory();
  const buffers = new Map<string, Omit<Reach, 'buffer' | 'reached'> & { readonly address: number }>();
  const add = ({ name, type }: Value, isResult: boolean): void => {
    for (const c of componentsOf(type, module)) {
      const bytes = componentBytes(c, module);
      const rows = c.shape.length > 0 ? boundOfExtent(c.shape[0], module) : 1;
      const word = isResult ? unwritten : wordFor(type, c.component, fn, module);
      const key = `${name} ${c.component}`;
      const address = memory.reserve(bytes, word, key);
      buffers.set(key, { address, kind: type.kind, isResult, bytes, lastRow: bytes / rows });
    }
  };
  for (const a of fn.arguments) add(a.value, false);
  for (const r of fn.results) add(r, true);
  if (kernel.scratchBytes !== undefined)
    buffers.set(' scratch', {
      address: memory.reserve(kernel.scratchBytes, 0, 'scratch'),
      kind: 'scratch',
      isResult: false,
      bytes: kernel.scratchBytes,
      lastRow: kernel.scratchBytes,
    });

  const parameters = kernel.parameters.map((p): number | TensorMap => {
    if (p.kind === 'u32') {
      if ('dim' in p) return boundOf(module, dim(p.dim));
      return boundOf(module, dim('cached')) / module.states[0].page;
    }
    const { address } = buffers.get(`${p.value} ${p.component}`)!;
    return p.kind === 'pointer' ? address + (p.offset ?? 0) : tensorMapAtBounds(p, address, module);
  });
  const [x, y = 1, z = 1] = kernel.grid.axes.map((a) => Math.ceil(boundOfExtent(a.extent, module) / a.per));
  // As if a persistent kernel had a block for every piece of work: it goes round once.
  const grid: [number, number, number] = kernel.grid.atMost === undefined ? [x, y, z] : [x * y * z, 1, 1];
  const launch = {
    memory,
    grid,
    parameters,
    dynamicSharedBytes: kernel.dynamicSharedBytes,
    limit: 5_000_000,
  };
  const [first, last] = [[0, 0, 0] as const, [grid[0] - 1, grid[1] - 1, grid[2] - 1] as const];
  for (const only of [last, first]) runPtx(kernel.ptx, { ...launch, only });
  return [...buffers].map(([buffer, { address, ...b }]) => ({
    buffer,
    ...b,
    reached: memory.reached(address),
  }));
}
