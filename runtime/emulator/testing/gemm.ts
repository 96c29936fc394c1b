// Our emitted FP8 GEMM on the emulator's core: operands in, output out.
import { fp8Gemm } from '../../../backends/h800/gemm/fp8.ts';
import type { Fp8GemmPlan } from '../../../backends/h800/gemm/plan.ts';
import { persistentGrid, type Extent } from '../../../backends/h800/kernel.ts';
import { decodePtx } from '../../../backends/ptx/decode/index.ts';
import type { DeviceSettings, Report, Statistics } from '../device.ts';
import { loadCore } from '../load-core.ts';
import { encodeTensorMap } from '../tensor-map.ts';

export interface GemmOperands {
  readonly m: number;
  /** [m, k] and [n, k] codes of e4m3; f32 scales [m, k / 128] and [n / 128, k / 128], rounded up. */
  readonly a: Uint8Array;
  readonly b: Uint8Array;
  readonly aScale: Float32Array;
  readonly bScale: Float32Array;
}
export interface GemmRun {
  readonly out: Uint8Array;
  readonly reports: readonly Report[];
  readonly statistics: Statistics;
  /** Processor time of the launch: a busy machine changes it less than the clock's. */
  readonly cpuSeconds: number;
}

export function runGemm(plan: Fp8GemmPlan, o: GemmOperands, settings: DeviceSettings = {}): GemmRun {
  const kernel = fp8Gemm(plan);
  const { program, diagnostics } = decodePtx(kernel.ptx, 'gemm.ptx');
  if (!program) throw new Error(diagnostics.map((d) => d.message).join('\n'));
  const core = loadCore();
  const device = core.createDevice(settings);
  const handle = core.loadProgram(device, program);
  const outBytes = o.m * plan.n * (plan.outDtype === 'bf16' ? 2 : 4);
  const address = new Map<string, bigint>();
  const buffer = (name: string, bytes: Uint8Array | number): void => {
    const size = typeof bytes === 'number' ? bytes : bytes.length;
    const at = core.allocate(device, Math.ceil(Math.max(size, 1) / 16) * 16, name);
    if (typeof bytes !== 'number') core.write(device, at, bytes);
    address.set(name, at);
  };
  buffer('a', o.a);
  buffer('b', o.b);
  buffer('aScale', new Uint8Array(o.aScale.buffer, o.aScale.byteOffset, o.aScale.byteLength));
  buffer('bScale', new Uint8Array(o.bScale.buffer, o.bScale.byteOffset, o.bScale.byteLength));
  buffer('out', outBytes);
  const addressOf = (name: string): bigint => {
    const at = address.get(name);
    if (at === undefined) throw new Error(`no buffer ${name}`);
    return at;
  };
  const sizeOf = (e: Extent): number => ('const' in e ? e.const : o.m);
  const [info] = core.describeProgram(handle).kernels;
  const block = new Uint8Array(info.parameterBytes);
  const view = new DataView(block.buffer);
  for (const [i, p] of kernel.parameters.entries()) {
    const { offset } = info.parameters[i];
    if (p.kind === 'pointer') view.setBigUint64(offset, addressOf(p.name), true);
    else if (p.kind !== 'tensorMap') view.setUint32(offset, o.m, true);
    else {
      const { dims, stridesBytes, box, dtype, swizzle, tensor } = p.tensorMap;
      const map = encodeTensorMap(addressOf(tensor), {
        dtype: ({ u8: 'U8', bf16: 'BF16', f32: 'F32' } as const)[dtype],
        dims: dims.map(sizeOf),
        strides: [...stridesBytes],
        box: [...box],
        elementStrides: dims.map(() => 1),
        swizzle: swizzle === 'none' ? 'none' : `${Number.parseInt(swizzle) as 32 | 64 | 128}B`,
        interleave: 'none',
        fill: 'zero',
      });
      block.set(map, offset);
    }
  }
  const started = process.cpuUsage();
  const { reports, statistics } = core.launch(device, handle, {
    kernel: info.name,
    grid: [persistentGrid(kernel.gridRule, o.m), 1, 1],
    block: [info.reqntid[0], 1, 1],
    cluster: [0, 0, 0],
    dynamicSharedBytes: kernel.sharedBytes,
    parameterBlock: block,
  });
  const { user, system } = process.cpuUsage(started);
  const out = core.read(device, addressOf('out'), outBytes).slice();
  return { out, reports, statistics, cpuSeconds: (user + system) / 1e6 };
}
