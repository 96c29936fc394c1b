// Runs small kernels over buffers that are partly uninitialised and lists what the poison check finds.
import { expect } from 'vitest';
import { Bench, moduleOf, type Argument, type Launch } from '../async.testing.ts';
import type { DeviceSettings, Report } from '../device.ts';

/**
 * A kernel with the buffers `known` (1024 words, 0, 1, 2, …) at %rd1, `raw` (1024 words, never written) at %rd2 and
 * `out` (1024 words, an output) at %rd3; 4 * %tid.x is added to each in %rd11, %rd12, %rd13. %r0 is %tid.x.
 */
const poisonChecks = [
  'uninitialised-address',
  'uninitialised-predicate',
  'uninitialised-operand',
  'uninitialised-output',
  'output-not-written',
];

export const poisonKernel = (body: string, head = ''): string =>
  moduleOf(
    '.param .u64 p_known, .param .u64 p_raw, .param .u64 p_out',
    `ld.param.u64 %rd1, [p_known];
ld.param.u64 %rd2, [p_raw];
ld.param.u64 %rd3, [p_out];
mov.u32 %r0, %tid.x;
mul.wide.u32 %rd10, %r0, 4;
add.u64 %rd11, %rd1, %rd10;
add.u64 %rd12, %rd2, %rd10;
add.u64 %rd13, %rd3, %rd10;
${body}`,
  ).replace('.address_size 64\n', `.address_size 64\n${head}`);

export interface Findings {
  readonly reports: readonly Report[];
  readonly ptx: string;
  /** `code: the line's text`, in order. */
  readonly told: readonly string[];
}

/** Launches the kernel, then asks what `out` lacks. */
export function runPoisoned(body: string, launch: Launch & { readonly head?: string } = {}): Findings {
  const ptx = poisonKernel(body, launch.head);
  // Threads of these kernels write one word all together: races are not what they are about.
  const settings: DeviceSettings = { checks: poisonChecks, ...launch.settings };
  const bench = new Bench(settings);
  const { core, device } = bench;
  const words = new Uint32Array(1024).map((_, k) => k);
  const known = core.allocate(device, 4096, 'known', 4);
  core.write(device, known, new Uint8Array(words.buffer));
  const raw = core.allocate(device, 4096, 'raw', 4);
  const out = core.allocate(device, 4096, 'out', 4);
  core.markOutput(device, out);
  const args: Argument[] = [known, raw, out];
  const found = bench.run(ptx, args, { ...launch, settings: { ...settings, stopAtError: false } });
  const reports = [...found, ...core.outputReports(device, out).filter((r) => r.severity === 'error')];
  const lines = ptx.split('\n');
  const told = reports.map((r) => `${r.code.replace('emu/', '')}: ${(lines[r.ptxLine - 1] ?? '').trim()}`);
  return { reports, ptx, told };
}

/** What is found, by code, line and message. */
export function expectPoison(
  body: string,
  told: readonly string[],
  message?: RegExp,
  launch: Launch = {},
): void {
  const found = runPoisoned(body, launch);
  expect(found.told).toEqual(told);
  if (message) expect(found.reports[0].message).toMatch(message);
}
