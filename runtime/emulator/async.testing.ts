// Runs small PTX kernels in tests: text in, buffers and reports out.
import { expect } from 'vitest';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import type { DeviceHandle, DeviceSettings, Report, Triple } from './device.ts';
import { loadCore } from './load-core.ts';
import { encodeTensorMap, tensorMapDTypes, type TensorMapShape } from './tensor-map.ts';

/** A kernel parameter: a 32-bit number, a 64-bit one, or bytes as they are. */
export type Argument = number | bigint | Uint8Array;

/** A module with one kernel `k`. `parameters` and `body` are PTX; registers %p, %r, %h, %rd, %f are declared. */
export const moduleOf = (parameters: string, body: string, head = ''): string => `
.version 8.6
.target sm_90a
.address_size 64
${head.includes('.entry') ? head : ''}
.visible .entry k(${parameters})
${head.includes('.entry') ? '' : head}
{
.reg .pred %p<16>;
.reg .b16 %h<16>;
.reg .b32 %r<64>;
.reg .b64 %rd<64>;
.reg .f32 %f<16>;
${body}
ret;
}
`;

/** Waits for phase 0 of `bar`. */
export const waitForBar = (label: string): string => `${label}:
mbarrier.try_wait.parity.shared::cta.b64 %p15, [bar], 0;
@!%p15 bra ${label};`;

/** Thread t copies 4-byte words t, t+32, … of shared memory at %r63 to %rd63: `bytes` of them, for a block of 32. */
export const dump = (bytes: number, label = 'DUMP'): string => `mov.u32 %r62, %tid.x;
shl.b32 %r62, %r62, 2;
${label}:
add.u32 %r61, %r63, %r62;
ld.shared.u32 %r60, [%r61];
cvt.u64.u32 %rd62, %r62;
add.u64 %rd61, %rd63, %rd62;
st.global.u32 [%rd61], %r60;
add.u32 %r62, %r62, 128;
setp.lt.u32 %p14, %r62, ${bytes};
@%p14 bra ${label};`;

export interface Launch {
  readonly grid?: Triple;
  readonly block?: Triple;
  readonly cluster?: Triple;
  readonly dynamicSharedBytes?: number;
  /** Of the grid, the blocks that run. */
  readonly blocks?: readonly number[];
  readonly settings?: DeviceSettings;
}

/** A device with buffers, on which kernels run. */
export class Bench {
  readonly core = loadCore();
  readonly device: DeviceHandle;

  constructor(settings: DeviceSettings = {}) {
    this.device = this.core.createDevice(settings);
  }

  buffer(content: Uint8Array | number, name = 'buffer'): bigint {
    const bytes = typeof content === 'number' ? content : content.length;
    const address = this.core.allocate(this.device, bytes, name);
    this.core.write(this.device, address, typeof content === 'number' ? new Uint8Array(bytes) : content);
    return address;
  }

  read(address: bigint, bytes: number): Uint8Array {
    return this.core.read(this.device, address, bytes).slice();
  }
  words(address: bigint, count: number): number[] {
    return [...new Uint32Array(this.read(address, 4 * count).buffer)];
  }

  /** Reports of the launch; a text that does not decode is an Error with its diagnostics. */
  run(ptx: string, args: readonly Argument[], launch: Launch = {}): readonly Report[] {
    const { program, diagnostics } = decodePtx(ptx, 'test.ptx');
    if (!program)
      throw new Error(diagnostics.map((d) => `${d.code} ${JSON.stringify(d.at)}: ${d.message}`).join('\n'));
    const handle = this.core.loadProgram(this.device, program);
    const { kernels } = this.core.describeProgram(handle);
    const kernel = kernels[0];
    const block = new Uint8Array(kernel.parameterBytes);
    const view = new DataView(block.buffer);
    for (const [i, value] of args.entries()) {
      const { offset } = kernel.parameters[i];
      if (typeof value === 'number') view.setUint32(offset, value, true);
      else if (typeof value === 'bigint') view.setBigUint64(offset, value, true);
      else block.set(value, offset);
    }
    const { reports } = this.core.launch(
      this.device,
      handle,
      {
        kernel: kernel.name,
        grid: launch.grid ?? [1, 1, 1],
        block: launch.block ?? [32, 1, 1],
        cluster: launch.cluster ?? [0, 0, 0],
        dynamicSharedBytes: launch.dynamicSharedBytes ?? 0,
        parameterBlock: block,
        ...(launch.blocks && { blocks: launch.blocks }),
      },
      launch.settings,
    );
    return reports;
  }
}

/** "error emu/x at 12", one line for each report. */
export const summary = (reports: readonly Report[]): string[] =>
  reports.map((r) => `${r.severity} ${r.code}`);

/** The one report of a launch, with the PTX line that it names. */
export function onlyReport(ptx: string, reports: readonly Report[]): Report & { readonly line: string } {
  if (reports.length !== 1)
    throw new Error(`expected one report, got ${JSON.stringify(reports.map((r) => [r.code, r.message]))}`);
  return { ...reports[0], line: (ptx.split('\n')[reports[0].ptxLine - 1] ?? '').trim() };
}

/** Runs the kernel and expects one error: its code, the PTX line that it names, its message, and a fix. */
export function expectMisuse(
  ptx: string,
  args: (bench: Bench) => readonly Argument[],
  launch: Launch,
  code: string,
  line: RegExp,
  message?: RegExp,
): void {
  const bench = new Bench();
  const report = onlyReport(ptx, bench.run(ptx, args(bench), launch));
  expect(report.code).toBe(code);
  expect(report.severity).toBe('error');
  expect(report.line).toMatch(line);
  if (message) expect(report.message).toMatch(message);
  expect(report.fix.length).toBeGreaterThan(10);
  expect(report.kernel).toBe('k');
}

/** A tensor map with the usual defaults: dense rows, whole box, no swizzle. */
export function mapOf(
  address: bigint,
  shape: Pick<TensorMapShape, 'dtype' | 'dims' | 'box'> & Partial<TensorMapShape>,
): Uint8Array {
  const size = tensorMapDTypes[shape.dtype].bytes;
  const strides: number[] = [];
  let stride = size * shape.dims[0];
  for (const n of shape.dims.slice(1)) {
    strides.push(Math.ceil(stride / 16) * 16);
    stride = strides[strides.length - 1] * n;
  }
  return encodeTensorMap(address, {
    strides,
    elementStrides: shape.dims.map(() => 1),
    swizzle: 'none',
    interleave: 'none',
    fill: 'zero',
    ...shape,
  });
}

/** Bytes that differ from place to place. */
export const pattern = (bytes: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + (i >> 8) * 13 + seed * 31) & 255);
