// Where a test runs a kernel: on the emulator's core with all checks on, or, where that is not built or a second opinion
// is wanted, in the functional interpreter of PTX text. Both have memory at addresses and the same launches.
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import type { Core, DeviceHandle, DeviceSettings, Report } from '../../runtime/emulator/device.ts';
import { loadCore } from '../../runtime/emulator/load-core.ts';
import { encodeTensorMap, type TensorMapDType } from '../../runtime/emulator/tensor-map.ts';
import { hasNative } from '../../runtime/native.ts';
import { DeviceMemory, runPtx, unwritten, type Order } from './ptx-run.ts';

/** A tensor map at the sizes of one launch, as a host encodes it. */
export interface LaunchTensorMap {
  readonly address: number;
  readonly dtype: string;
  readonly dims: readonly number[];
  readonly strides: readonly number[];
  readonly box: readonly number[];
  readonly swizzle: 'none' | '32B' | '64B' | '128B';
}

/** What of an emitted kernel a machine needs. */
export type LaunchedKernel = Pick<
  EmittedKernel,
  'name' | 'ptx' | 'threads' | 'cluster' | 'dynamicSharedBytes'
>;

export interface MachineLaunch {
  readonly grid: readonly [number, number, number];
  /** In the order of the kernel's: addresses, sizes, tensor maps. */
  readonly parameters: readonly (number | LaunchTensorMap)[];
  /** Of threads and blocks; on the core another seed. */
  readonly order?: Order;
  readonly seed?: number;
}

export interface Machine {
  /** Room for `bytes`, or a copy of them; its address. New room holds `unwritten` in every byte. */
  allocate(bytes: number | Uint8Array, name: string): number;
  /** What an allocation holds now. */
  bytesAt(address: number): Uint8Array;
  /** Throws what the kernel does wrong. */
  launch(kernel: LaunchedKernel, launch: MachineLaunch): void;
}

export type Engine = 'core' | 'text';

/** The core, where it is built. */
export const defaultEngine: Engine = hasNative() ? 'core' : 'text';

/** `onReports`: gets what the core says of a launch; without it an error throws. */
export const machineOf = (
  engine: Engine,
  settings: DeviceSettings = {},
  onReports?: (reports: readonly Report[]) => void,
): Machine => (engine === 'core' ? new CoreMachine(settings, onReports) : new TextMachine());

class TextMachine implements Machine {
  readonly #memory = new DeviceMemory();

  allocate(bytes: number | Uint8Array, name: string): number {
    return this.#memory.allocate(bytes, name);
  }

  bytesAt(address: number): Uint8Array {
    return this.#memory.bytesAt(address);
  }

  launch({ ptx, dynamicSharedBytes }: LaunchedKernel, { parameters, ...launch }: MachineLaunch): void {
    runPtx(ptx, {
      ...{ memory: this.#memory, ...launch, dynamicSharedBytes },
      parameters: parameters.map((p) =>
        typeof p === 'number'
          ? p
          : {
              ...{ address: p.address, dims: p.dims, strides: p.strides, box: p.box },
              elementBytes: { u8: 1, bf16: 2, f32: 4 }[p.dtype] ?? fail(`tensor map of ${p.dtype}`),
              swizzle: p.swizzle === 'none' ? 0 : Number.parseInt(p.swizzle),
            },
      ),
    });
  }
}

/** Decoded programs: tests run a kernel several times. */
const programs = new Map<string, Uint8Array>();

class CoreMachine implements Machine {
  readonly #core: Core = loadCore();
  readonly #device: DeviceHandle;
  readonly #lengths = new Map<number, number>();

  readonly #onReports: ((reports: readonly Report[]) => void) | undefined;

  constructor(settings: DeviceSettings, onReports?: (reports: readonly Report[]) => void) {
    this.#onReports = onReports;
    this.#device = this.#core.createDevice({ checks: ['all'], ...settings });
  }

  allocate(bytes: number | Uint8Array, name: string): number {
    const content = typeof bytes === 'number' ? new Uint8Array(bytes).fill(unwritten) : bytes;
    const address = this.#core.allocate(this.#device, Math.max(1, content.length), name);
    this.#core.write(this.#device, address, content);
    // To the checks it is room that nobody has written, as on a device.
    if (typeof bytes === 'number' && bytes > 0)
      this.#core.markInitialised(this.#device, address, bytes, false);
    this.#lengths.set(Number(address), content.length);
    return Number(address);
  }

  bytesAt(address: number): Uint8Array {
    return this.#core.read(this.#device, BigInt(address), this.#lengths.get(address)!);
  }

  launch(kernel: LaunchedKernel, { grid, parameters, order, seed = 0 }: MachineLaunch): void {
    const program = this.#core.loadProgram(this.#device, programOf(kernel));
    const info = this.#core.describeProgram(program).kernels.find((k) => k.name === kernel.name)!;
    const parameterBlock = new Uint8Array(info.parameterBytes);
    const view = new DataView(parameterBlock.buffer);
    parameters.forEach((p, i) => {
      const { offset, size } = info.parameters[i];
      if (typeof p !== 'number') parameterBlock.set(encoded(p), offset);
      else if (size === 8) view.setBigUint64(offset, BigInt(p), true);
      else view.setUint32(offset, p, true);
    });
    const { reports } = this.#core.launch(
      this.#device,
      program,
      {
        ...{ kernel: kernel.name, grid, block: [kernel.threads, 1, 1], cluster: kernel.cluster },
        ...{ dynamicSharedBytes: kernel.dynamicSharedBytes, parameterBlock },
      },
      { seed: 2 * seed + Number(order === 'reverse') },
    );
    if (this.#onReports) return this.#onReports(reports);
    const [error] = reports.filter((r) => r.severity === 'error');
    if (error)
      throw new Error(
        `${error.code}: ${error.message} (line ${error.ptxLine}: ${kernel.ptx.split('\n')[error.ptxLine - 1]?.trim()}; ` +
          `block ${error.block}, warp ${error.warp}, lane ${error.lane})`,
      );
  }
}

function programOf({ name, ptx }: LaunchedKernel): Uint8Array {
  const known = programs.get(ptx);
  if (known) return known;
  const { program, diagnostics } = decodePtx(ptx, `${name}.ptx`);
  if (!program) return fail(diagnostics.map((d) => d.message).join('\n'));
  programs.set(ptx, program);
  return program;
}

const encoded = ({ address, dtype, dims, strides, box, swizzle }: LaunchTensorMap): Uint8Array =>
  encodeTensorMap(BigInt(address), {
    ...{ dtype: dtype.toUpperCase() as TensorMapDType, dims, strides, box, swizzle },
    elementStrides: box.map(() => 1),
    interleave: 'none',
    fill: 'zero',
  });

function fail(message: string): never {
  throw new Error(`machine: ${message}`);
}
