// From kernel functions to FP8 GEMM tile kernels: which functions are one, which tile they get, and how the operands'
// buffers become tensor maps and pointers.
import { boundOf, type Function, type Module, type Op } from '../../../ir/module.ts';
import type { EmittedKernel, Extent, KernelParameter } from '../../../ir/plan.ts';
import type { KernelChoice } from '../../../ir/target.ts';
import type { Dim, RoutingType, TensorType } from '../../../ir/types.ts';
import type { Extent as TileExtent, KernelParameter as TileParameter } from '../kernel.ts';
import { chooseFp8GemmTile } from './choose.ts';
import { fp8Gemm } from './fp8.ts';
import { fp8GemmProblem, groupAlignment, type Fp8GemmPlan, type Fp8GemmTile } from './plan.ts';

/** A kernel function that is one FP8 GEMM: 1x128 activations times 128x128 weights, promoted every 128 of K. */
interface Fp8Gemm {
  readonly op: Op;
  /** The row axis: tokens, or slots grouped by expert. */
  readonly rows: Dim;
  readonly n: number;
  readonly k: number;
  readonly outDtype: 'bf16' | 'f32';
  readonly experts: number | null;
}

/** Recognises the function, or says in one sentence why it is not one that the tile kernel takes. */
function recognise(f: Function, module: Module): Fp8Gemm | string {
  const [op, ...more] = f.body;
  if (!op || more.length > 0 || (op.op !== 'matmul' && op.op !== 'grouped_matmul'))
    return 'not a single matmul';
  const [x, w] = op.operands.map((v) => v.type as TensorType);
  const out = op.results[0].type as TensorType;
  const grouped = op.op === 'grouped_matmul';
  const tiles = [x, w].map((t) => t.scales.map((s) => `${s.tile.join('x')} ${s.format}`).join());
  const wanted = [`1x128 f32`, grouped ? '1x128x128 f32' : '128x128 f32'];
  if (x.dtype !== 'f8e4m3' || w.dtype !== 'f8e4m3' || tiles.join() !== wanted.join())
    return `operands are not e4m3 with ${wanted.join(' and ')} scales`;
  if (out.dtype !== 'bf16' && out.dtype !== 'f32') return `result is ${out.dtype}`;
  if (x.dims.length !== 2 || x.dims[0].size !== null) return 'rows are not one run-time axis';
  const [n, k] = w.dims.slice(-2).map((d) => d.size ?? 0);
  if (grouped) {
    const slots = (op.operands[2].type as RoutingType).slots;
    const align = module.dims.find((d) => d.name === slots.name)?.ragged?.align ?? 1;
    if (align !== groupAlignment) return `groups are aligned to ${align} rows, not ${groupAlignment}`;
  }
  return { op, rows: x.dims[0], n, k, outDtype: out.dtype, experts: grouped ? (w.dims[0].size ?? 0) : null };
}

const planOf = (gemm: Fp8Gemm, name: string, tile: Fp8GemmTile): Fp8GemmPlan => ({
  name,
  n: gemm.n,
  k: gemm.k,
  ...(gemm.experts === null ? {} : { grouped: { experts: gemm.experts } }),
  outDtype: gemm.outDtype,
  tile,
  span: gemm.op.span,
});

/** The GEMM family's choice for a kernel function, or why it cannot take it. */
export function chooseFp8Gemm(f: Function, module: Module): KernelChoice | string {
  const gemm = recognise(f, module);
  if (typeof gemm === 'string') return gemm;
  const wrong = fp8GemmProblem(planOf(gemm, f.name, { bm: 64, bn: 16, stages: 2 }));
  if (wrong) return wrong;
  const { bm, bn, stages, why } = chooseFp8GemmTile({
    m: boundOf(module, gemm.rows),
    n: gemm.n,
    k: gemm.k,
    ...(gemm.experts === null ? {} : { grouped: { experts: gemm.experts } }),
    outDtype: gemm.outDtype,
  });
  return { family: 'gemm', settings: { bm, bn, stages }, why };
}

/** Writes the tile kernel with the tile that the function's attributes name. */
export function emitFp8Gemm(f: Function, module: Module): EmittedKernel {
  const gemm = recognise(f, module);
  if (typeof gemm === 'string') throw new Error(`emitFp8Gemm @${f.name}: ${gemm}`);
  const { bm, bn, stages, why } = f.attributes;
  const tile = { bm: Number(bm), bn: Number(bn), stages: Number(stages) } as Fp8GemmTile;
  const kernel = fp8Gemm(planOf(gemm, f.name, tile));
  const rows: Extent = { constant: 0, terms: [{ dim: gemm.rows.name ?? '', factor: 1 }] };
  return {
    name: kernel.name,
    family: 'gemm',
    ptx: kernel.ptx,
    parameters: kernel.parameters.map((p) => parameterOf(p, gemm, f, rows)),
    grid: {
      axes: [
        { extent: rows, per: kernel.gridRule.rowsPerTile },
        { extent: { constant: kernel.gridRule.columnTiles, terms: [] }, per: 1 },
      ],
      atMost: kernel.gridRule.max,
    },
    threads: kernel.threads,
    cluster: kernel.cluster,
    dynamicSharedBytes: kernel.sharedBytes,
    staticSharedBytes: 0,
    ...(why === undefined ? {} : { why: String(why) }),
  };
}

/** The kernel's own names for its operands, as buffers of the function's values. */
function parameterOf(p: TileParameter, gemm: Fp8Gemm, f: Function, rows: Extent): KernelParameter {
  const [x, w, routing] = gemm.op.operands.map((v) => v.name);
  const buffers: Readonly<
    Record<string, { readonly value: string; readonly component: string; readonly offset?: number }>
  > = {
    a: { value: x, component: 'data' },
    b: { value: w, component: 'data' },
    out: { value: f.results[0].name, component: 'data' },
    aScale: { value: x, component: 'scale0' },
    bScale: { value: w, component: 'scale0' },
    expertOfBlock: { value: routing, component: 'expertOfBlock' },
    tokenOf: { value: routing, component: 'tokenOf' },
    // The last of experts + 1 offsets is the number of rows in use.
    totalRows: { value: routing, component: 'offsets', offset: 4 * (gemm.experts ?? 0) },
  };
  const buffer = buffers[p.name];
  switch (p.kind) {
    case 'pointer':
      return { kind: 'pointer', ...buffer };
    case 'tensorMap': {
      const extent = (e: TileExtent): Extent => ('const' in e ? { constant: e.const, terms: [] } : rows);
      const { dtype, dims, stridesBytes, box, swizzle } = p.tensorMap;
      return {
        kind: 'tensorMap',
        ...buffer,
        dtype,
        dims: dims.map(extent),
        strides: stridesBytes.map((bytes) => ({ constant: bytes, terms: [] })),
        box,
        swizzle,
      };
    }
    default:
      return { kind: 'u32', dim: gemm.rows.name ?? '' };
  }
}
