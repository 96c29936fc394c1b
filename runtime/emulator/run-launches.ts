// Runs the launches of a launch file on one emulated device, in order, over the same buffers.
import { elementBytes, type TensorToWrite } from '../safetensors.ts';
import { prepareBuffers, type Buffer } from './buffers.ts';
import { isFatal } from './checks.ts';
import {
  isCoreError,
  type Core,
  type DeviceHandle,
  type DeviceSettings,
  type KernelInfo,
  type Report,
  type Statistics,
} from './device.ts';
import type { LaunchFile, LaunchSpec } from './launch-file.ts';
import { checkKernelLimits } from './launch-limits.ts';
import { Problems } from './launch-problem.ts';
import { buildParameters, type DeviceRange } from './parameters.ts';

export interface LaunchResult {
  readonly kernel: string;
  readonly reports: readonly Report[];
  readonly statistics: Statistics;
}

export interface RunResult {
  /** Of the launches that ran: all of them, or up to the one that did not end well. */
  readonly launches: readonly LaunchResult[];
  /**
   * Null when a launch had an error that ends a kernel on the chip, or did not end: its buffers are half written, and
   * whoever found them in a file would take them for a result. Races and other hazards leave outputs in place: what the
   * kernel computed in this run is a result, and looking at it helps.
   */
  readonly outputs: readonly TensorToWrite[] | null;
}

/**
 * Runs a launch file. `program`: a decoded PTX file; `folder`: what the paths in it are relative to. Throws LaunchError
 * when the file fits neither the kernels nor the files that it names, and what the core refuses (CoreError).
 */
export function runLaunches(
  core: Core,
  file: LaunchFile,
  program: Uint8Array,
  folder: string,
  settings: DeviceSettings,
): RunResult {
  const problems = new Problems();
  const device = core.createDevice({ ...settings, stopAtError: false });
  const loaded = core.loadProgram(device, program);
  const { kernels } = core.describeProgram(loaded);
  const kernelOf = new Map(kernels.map((k) => [k.name, k]));
  for (const launch of file.launches) checkKernel(launch, kernelOf, problems);
  const buffers = prepareBuffers(file.buffers, folder, problems);
  problems.throwIfAny();
  const ranges = new Map([...buffers.values()].map((b) => [b.name, place(core, device, b)]));
  for (const { name } of file.outputs) core.markOutput(device, ranges.get(name)!.address);
  const blocks = file.launches.map((launch) =>
    buildParameters(
      launch.parameters,
      kernelOf.get(launch.kernel)!,
      (name) => ranges.get(name)!,
      launch.parametersPlace,
      problems,
    ),
  );
  problems.throwIfAny();

  const launches: LaunchResult[] = [];
  for (const [i, launch] of file.launches.entries()) {
    const { kernel, grid, block, dynamicSharedBytes } = launch;
    const cluster = launch.clusterGiven ? launch.cluster : ([0, 0, 0] as const);
    const request = { kernel, grid, block, cluster, dynamicSharedBytes, parameterBlock: blocks[i] };
    const { reports, statistics } = refusedAt(launch, problems, () => core.launch(device, loaded, request));
    launches.push({ kernel, reports, statistics });
    if (reports.some((r) => r.severity === 'error' && isFatal(r.code))) return { launches, outputs: null };
  }
  const last = launches.at(-1);
  if (last) {
    // What outputs lack shows when all launches are over: a later one may write what an earlier one left.
    const lacking = file.outputs.flatMap(({ name }) => core.outputReports(device, ranges.get(name)!.address));
    launches[launches.length - 1] = { ...last, reports: [...last.reports, ...lacking] };
  }
  const outputs = file.outputs.map(({ name }): TensorToWrite => {
    const { dtype, shape, bytes } = buffers.get(name)!;
    return { name, dtype, shape, data: () => core.read(device, ranges.get(name)!.address, bytes) };
  });
  return { launches, outputs };
}

function checkKernel(
  launch: LaunchSpec,
  kernelOf: ReadonlyMap<string, KernelInfo>,
  problems: Problems,
): void {
  const kernel = kernelOf.get(launch.kernel);
  if (kernel) {
    checkKernelLimits(launch, launch.clusterGiven, kernel, launch.places, problems);
    return;
  }
  const names = [...kernelOf.keys()];
  problems.add(
    'no-such-kernel',
    launch.kernelPlace,
    `names ${JSON.stringify(launch.kernel)}, which the PTX does not define`,
    names.length === 0
      ? 'the PTX has no .entry'
      : `kernels are: ${names.slice(0, 20).join(', ')}${names.length > 20 ? ', ...' : ''}`,
  );
}

/** What the core refuses about a launch, as a problem of its place in the file. */
function refusedAt<T>(launch: LaunchSpec, problems: Problems, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!isCoreError(error) || error.line !== undefined) throw error;
    problems.found.push({
      code: error.code,
      place: launch.kernelPlace,
      message: error.message,
      fix: 'change the launch or the kernel so that one fits the other',
    });
    problems.throwIfAny();
    throw error;
  }
}

function place(core: Core, device: DeviceHandle, buffer: Buffer): DeviceRange {
  const address = core.allocate(device, buffer.bytes, buffer.name, elementBytes[buffer.dtype]);
  let at = address;
  for (const piece of buffer.pieces()) {
    core.write(device, at, piece);
    at += BigInt(piece.length);
  }
  return { address, bytes: buffer.bytes };
}
