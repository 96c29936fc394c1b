// FP8 GEMM for the H800: the kernel's frame. Roles live in producer.ts, math.ts and epilogue.ts, their common walk over
// tiles in scheduler.ts, the ring in ring.ts, layouts in layout.ts.
import type { Kernel } from '../../ptx/builder.ts';
import { ptxModule, type ModuleBuilder } from '../../ptx/module.ts';
import { at, special, type Reg } from '../../ptx/operands.ts';
import { h800, type Extent, type KernelParameter, type TileKernel } from '../kernel.ts';
import { blockK, waveRows } from './layout.ts';
import { emitMath } from './math.ts';
import { fp8GemmProblem, fp8GemmShape, groupAlignment, type Fp8GemmPlan, type Fp8GemmShape } from './plan.ts';
import { emitScaleProducer, emitTmaProducer, fullArrivals } from './producer.ts';
import type { SharedRegisters } from './roles.ts';
import type { SchedulerRegisters } from './scheduler.ts';

// 384 threads start with 168 registers each; the producers hand theirs to the math warps: 128·40 + 256·232 = 64512.
const launchRegisters = 168;
const producerRegisters = 40;
const mathRegisters = 232;

/**
 * Writes the kernel of a plan: PTX module and launch description. The entry's parameters are, in order,
 * a [rows, k] e4m3, b [n, k] or [experts, n, k] e4m3, out [rows, n] (tensor maps), aScale [rows, ceil(k/128)] f32,
 * bScale [ceil(n/128), ceil(k/128)] f32 with experts in front, then the row count m, or for a grouped GEMM
 * expertOfBlock [ceil(rows/128)] i32 (-1: unused), totalRows [1] i32, a multiple of 128, and tokenOf [rows] i32, negative
 * for rows that only fill up a group: their results are 0, whatever stands there.
 * Throws when fp8GemmProblem finds fault with the plan: choose the tile with chooseFp8GemmTile.
 */
export function fp8Gemm(plan: Fp8GemmPlan): TileKernel {
  const shape = fp8GemmShape(plan);
  return {
    name: plan.name,
    ptx: fp8GemmModule(plan).toString(),
    parameters: parametersOf(shape),
    threads: shape.threads,
    sharedBytes: shape.shared.bytes,
    gridRule: {
      kind: 'persistent',
      max: h800.multiprocessors,
      rows: rowsOf(plan),
      rowsPerTile: plan.tile.bm,
      columnTiles: shape.columnTiles,
    },
    cluster: [1, 1, 1],
  };
}

/** The kernel's PTX before it is printed. Throws as fp8Gemm does. */
export function fp8GemmModule(plan: Fp8GemmPlan): ModuleBuilder {
  const problem = fp8GemmProblem(plan);
  if (problem) throw new Error(`fp8Gemm ${plan.name}: ${problem}`);
  const shape = fp8GemmShape(plan);
  const module = ptxModule();
  const twoWarpgroups = shape.mathWarpgroups === 2;
  module.kernel(
    plan.name,
    // With 256 threads every thread can have 255 registers, and nothing needs to be moved.
    { threads: shape.threads, ...(twoWarpgroups ? { maxRegisters: launchRegisters } : { minCtasPerSm: 1 }) },
    (k) => emitKernel(k, shape),
  );
  return module;
}

function emitKernel(k: Kernel, shape: Fp8GemmShape): void {
  const { plan } = shape;
  const { bm, bn, stages } = plan.tile;
  k.at(plan.span);
  k.comment(
    `${bm}x${bn}x${blockK} tiles, ${stages} stages, ${shape.mathWarpgroups} math warpgroup(s) of ${shape.waves} wave(s)`,
  );
  const maps = { a: k.tensorMap('a'), b: k.tensorMap('b'), out: k.tensorMap('out') };
  const aScale = k.pointer('aScale');
  const bScale = k.pointer('bScale');
  const scheduler = loadRows(k, shape);

  const shared = sharedAddresses(k, shape);
  const thread = k.reg('u32', 'thread');
  const lane = k.reg('u32', 'lane');
  const warp = k.reg('u32', 'warp');
  k.mov.u32(thread, special.tidX);
  k.and.b32(lane, thread, 31);
  k.shr.u32(warp, thread, 5);

  const first = k.reg('pred', 'isFirst');
  k.setp.eq.u32(first, thread, 0);
  k.branch(first, 'init', () => {
    for (const map of [maps.a, maps.b, maps.out]) k.prefetch.tensormap(at(map));
    for (let s = 0; s < stages; s++) {
      k.mbarrier.init.shared_cta.b64(at(shared.full, 8 * s), fullArrivals);
      // One arrival per math warp.
      k.mbarrier.init.shared_cta.b64(at(shared.empty, 8 * s), 4 * shape.mathWarpgroups);
    }
    k.fence.mbarrier_init.release.cluster();
  });
  k.bar.sync(0);

  // The role is the warp's, not the lane's: shfl makes that visible to the compiler.
  const mathWarps = 4 * shape.mathWarpgroups;
  const uniformWarp = k.reg('u32', 'warp');
  k.shfl.sync.idx.b32(uniformWarp, warp, 0, 31, 0xffffffff);
  const isMath = k.reg('pred', 'isMath');
  const producers = k.label('producers');
  const end = k.label('end');
  k.setp.lt.u32(isMath, uniformWarp, mathWarps);
  k.unless(isMath, () => k.bra(producers));

  k.comment('math warpgroups');
  if (shape.mathWarpgroups === 2) k.setmaxnreg.inc.sync.aligned.u32(mathRegisters);
  const warpgroup = k.reg('u32', 'warpgroup');
  const inGroup = k.reg('u32', 'threadInGroup');
  k.shr.u32(warpgroup, uniformWarp, 2);
  k.and.b32(inGroup, thread, 127);
  emitMath(k, shape, scheduler, shared, { thread: inGroup, lane, warpgroup }, maps.out);
  k.bra(end);

  k.place(producers);
  k.comment('producers: one TMA thread, one warp for the scales, the other warps have nothing to do');
  if (shape.mathWarpgroups === 2) k.setmaxnreg.dec.sync.aligned.u32(producerRegisters);
  const role = k.reg('pred', 'role');
  k.setp.eq.u32(role, uniformWarp, mathWarps);
  k.branch(role, 'tma_warp', () => {
    const leads = k.reg('pred', 'leads');
    k.setp.eq.u32(leads, lane, 0);
    k.branch(leads, 'tma_thread', () => emitTmaProducer(k, shape, scheduler, shared, maps));
    k.bra(end);
  });
  k.setp.eq.u32(role, uniformWarp, mathWarps + 1);
  k.branch(role, 'scale_warp', () =>
    emitScaleProducer(k, shape, scheduler, shared, { aScale, bScale, lane }),
  );
  k.place(end);
  k.ret();
}

/** Declares the last parameters and reads how many rows there are. */
function loadRows(k: Kernel, shape: Fp8GemmShape): SchedulerRegisters {
  const rows = k.reg('u32', 'rows');
  if (!shape.plan.grouped) {
    k.ld.param.u32(rows, k.param('m', 'u32'));
    return { rows, expertOfBlock: undefined, tokenOf: undefined };
  }
  const expertOfBlock = k.pointer('expertOfBlock');
  const totalRows = k.pointer('totalRows');
  const tokenOf = k.pointer('tokenOf');
  k.ld.global.u32(rows, at(totalRows));
  return { rows, expertOfBlock, tokenOf };
}

function sharedAddresses(k: Kernel, shape: Fp8GemmShape): SharedRegisters {
  const base = k.reg('u32', 'shared');
  k.mov.u32(base, k.dynamicShared());
  const region = (name: string, offset: number): Reg<'u32'> => {
    const r = k.reg('u32', `${name}Shared`);
    k.add.u32(r, base, offset);
    return r;
  };
  const { a, b, out, scales, full, empty } = shape.shared;
  return {
    a: region('a', a),
    b: region('b', b),
    out: region('out', out),
    scales: region('scales', scales),
    full: region('full', full),
    empty: region('empty', empty),
  };
}

/** `m` for a dense GEMM, the size of the padded buffers for a grouped one. */
const rowsOf = (plan: Fp8GemmPlan): Extent => ({ symbol: plan.grouped ? 'rows' : 'm' });

function parametersOf(shape: Fp8GemmShape): KernelParameter[] {
  const { plan, output } = shape;
  const { n, k, grouped, tile, outDtype } = plan;
  const rows = rowsOf(plan);
  const fp8 = { dtype: 'u8', swizzle: '128B', l2Promotion: '256B' } as const;
  const experts: Extent[] = grouped ? [{ const: grouped.experts }] : [];
  return [
    {
      name: 'a',
      kind: 'tensorMap',
      tensorMap: {
        tensor: 'a',
        ...fp8,
        rank: 2,
        dims: [{ const: k }, rows],
        stridesBytes: [k],
        box: [blockK, tile.bm],
      },
    },
    {
      name: 'b',
      kind: 'tensorMap',
      tensorMap: {
        tensor: 'b',
        ...fp8,
        rank: 2 + experts.length,
        // The third dimension keeps a tile that overhangs N from reading the next expert.
        dims: [{ const: k }, { const: n }, ...experts],
        stridesBytes: [k, ...experts.map(() => n * k)],
        box: [blockK, tile.bn, ...experts.map(() => 1)],
      },
    },
    {
      name: 'out',
      kind: 'tensorMap',
      tensorMap: {
        tensor: 'out',
        dtype: outDtype,
        rank: 2,
        dims: [{ const: n }, rows],
        stridesBytes: [n * output.elementBytes],
        box: [output.chunkColumns, waveRows],
        swizzle: `${output.chunkBytes}B`,
        l2Promotion: 'none',
      },
    },
    { name: 'aScale', kind: 'pointer', dtype: 'f32', access: 'read', dims: [{ const: shape.kBlocks }, rows] },
    {
      name: 'bScale',
      kind: 'pointer',
      dtype: 'f32',
      access: 'read',
      dims: [{ const: shape.kBlocks }, { const: shape.nBlocks }, ...experts],
    },
    ...((grouped
      ? [
          {
            name: 'expertOfBlock',
            kind: 'pointer',
            dtype: 'i32',
            access: 'read',
            dims: [{ symbol: 'rows', dividedBy: groupAlignment }],
          },
          { name: 'totalRows', kind: 'pointer', dtype: 'i32', access: 'read', dims: [{ const: 1 }] },
          { name: 'tokenOf', kind: 'pointer', dtype: 'i32', access: 'read', dims: [rows] },
        ]
      : [{ name: 'm', kind: 'u32', symbol: 'm' }]) satisfies KernelParameter[]),
  ];
}
