// The two workloads of `npm run bench:emulator`: a pointwise kernel and an FP8 GEMM, as the compiler writes them.
import { join } from 'node:path';
import { chooseFp8GemmTile } from '../backends/h800/gemm/choose.ts';
import { h800Target } from '../backends/h800/target.ts';
import { decodePtx } from '../backends/ptx/decode/index.ts';
import { compileModule } from '../compiler/compile.ts';
import * as dsl from '../dsl/index.ts';
import { loadModel } from '../dsl/load.ts';
import { traceModel } from '../dsl/trace-model.ts';
import { noSpan } from '../ir/span.ts';
import type { Fp8GemmTile } from '../backends/h800/gemm/plan.ts';
import type { DeviceSettings } from '../runtime/emulator/device.ts';
import { loadCore } from '../runtime/emulator/load-core.ts';
import { runGemm } from '../runtime/emulator/testing/gemm.ts';
import { bf16Code } from '../test/support/fp8-gemm-model.ts';
import { Random } from '../runtime/emulator/testing/tensor-bench.ts';

/** What a launch did, and its processor time: of one core, and less disturbed by a busy machine than the clock's. */
export interface Measured {
  readonly laneInstructions: number;
  readonly seconds: number;
}
/** Runs a workload once. Throws on reports. */
export type Workload = (settings: DeviceSettings) => Measured;

/** bf16 numbers in [-8, 8), most of them not small. */
function bf16Numbers(count: number): Uint8Array {
  const r = new Random(1);
  const codes = new Uint16Array(count);
  for (let i = 0; i < count; i++) codes[i] = bf16Code(r.next() * 2 ** -28 - 8);
  return new Uint8Array(codes.buffer);
}
/** Any e4m3 numbers. */
function fp8Numbers(count: number): Uint8Array {
  const r = new Random(1);
  const codes = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const code = r.next() & 255;
    codes[i] = code % 128 === 127 ? 0 : code;
  }
  return codes;
}

/** DeepSeek-V3's SwiGLU of the shared expert, bf16: `tokens` rows of 2048 gates and 2048 other halves. */
export async function siluMul(root: string, tokens: number): Promise<Workload> {
  const { model } = await loadModel(join(root, 'examples/deepseek-v3.ts'), {
    settings: {},
    dslNamespace: dsl,
  });
  const { module } = traceModel(model, { precision: 'bf16', settings: {} });
  const { kernels } = compileModule(module, { target: h800Target, disabled: new Set(), verifyEach: false });
  const width = 2048;
  const kernel = kernels.find(
    (k) => /^silu_mul_/.test(k.name) && k.grid.axes[0].extent.terms[0].factor === width / 8,
  );
  const { program } = decodePtx(kernel?.ptx ?? '', 'silu_mul.ptx');
  if (!kernel || !program) throw new Error('the example has no silu_mul of 2048 columns');
  const [x, bytes] = [bf16Numbers(2 * tokens * width), 2 * tokens * width];
  const { extent, per } = kernel.grid.axes[0];
  const blocks = Math.min(kernel.grid.atMost ?? Infinity, Math.ceil((tokens * extent.terms[0].factor) / per));
  return (settings) => {
    const core = loadCore();
    const device = core.createDevice(settings);
    const handle = core.loadProgram(device, program);
    const [info] = core.describeProgram(handle).kernels;
    const [from, to] = [core.allocate(device, x.length, 'x'), core.allocate(device, bytes, 'out')];
    core.write(device, from, x);
    const parameterBlock = new Uint8Array(info.parameterBytes);
    const view = new DataView(parameterBlock.buffer);
    view.setUint32(info.parameters[0].offset, tokens, true);
    view.setBigUint64(info.parameters[1].offset, from, true);
    view.setBigUint64(info.parameters[2].offset, to, true);
    const started = process.cpuUsage();
    const { reports, statistics } = core.launch(device, handle, {
      kernel: kernel.name,
      grid: [blocks, 1, 1],
      block: [kernel.threads, 1, 1],
      cluster: kernel.cluster,
      dynamicSharedBytes: kernel.dynamicSharedBytes,
      parameterBlock,
    });
    const { user, system } = process.cpuUsage(started);
    // The device itself goes when the garbage collector finds it.
    for (const address of [from, to]) core.free(device, address);
    if (reports.length > 0) throw new Error(reports[0].message);
    return { laneInstructions: statistics.laneInstructions, seconds: (user + system) / 1e6 };
  };
}

/** An FP8 GEMM, bf16 out, with a tile of its own or the compiler's. */
export function fp8Gemm(
  m: number,
  n: number,
  k: number,
  tile?: Fp8GemmTile,
): { readonly tile: Fp8GemmTile; readonly run: Workload } {
  const { bm, bn, stages } = tile ?? chooseFp8GemmTile({ m, n, k });
  const kBlocks = Math.ceil(k / 128);
  const operands = {
    m,
    a: fp8Numbers(m * k),
    b: fp8Numbers(n * k),
    aScale: new Float32Array(m * kBlocks).fill(1),
    bScale: new Float32Array(Math.ceil(n / 128) * kBlocks).fill(1),
  };
  const plan = { name: 'gemm', n, k, outDtype: 'bf16', tile: { bm, bn, stages }, span: noSpan } as const;
  const run: Workload = (settings) => {
    const { reports, statistics, cpuSeconds } = runGemm(plan, operands, settings);
    if (reports.length > 0) throw new Error(reports[0].message);
    return { laneInstructions: statistics.laneInstructions, seconds: cpuSeconds };
  };
  return { tile: { bm, bn, stages }, run };
}
