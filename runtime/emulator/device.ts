// The emulator's core as typed functions: what the native addon offers, and nothing else. load-core.ts loads it.

export interface DeviceSettings {
  /** Streaming multiprocessors; 132 as on the card. */
  readonly sms?: number;
  /** Chooses the order of blocks and warps and when asynchronous work completes. */
  readonly seed?: number | bigint;
  /** Warp instructions of a launch. */
  readonly maxInstructions?: number;
  /** Names of checks, or "all"; none by default. */
  readonly checks?: readonly string[];
  readonly tensorCore?: 'exact' | 'f32';
  /** End a launch at its first error instead of going on. */
  readonly stopAtError?: boolean;
  /** Count instructions by opcode. */
  readonly statistics?: boolean;
}

export type Triple = readonly [number, number, number];

export interface LaunchRequest {
  readonly kernel: string;
  readonly grid: Triple;
  readonly block: Triple;
  /** Zeros: as the kernel declares. */
  readonly cluster: Triple;
  readonly dynamicSharedBytes: number;
  readonly parameterBlock: Uint8Array;
  /**
   * Linear ids (x fastest) of the only blocks that run, whole clusters of them. The others never start: the kernel still
   * sees the whole grid, and what waits for them deadlocks. All blocks when left out.
   */
  readonly blocks?: readonly number[];
}

/** One lane, warp or block at one instruction. */
export interface Site {
  readonly kernel: string;
  /** The device's ordinal (Core.deviceOrdinal). */
  readonly device?: number;
  readonly block: Triple;
  /** -1: not of one warp. */
  readonly warp: number;
  /** -1: the whole warp. */
  readonly lane: number;
  /** From 1; 0 when there is none. */
  readonly ptxLine: number;
  readonly ptxColumn: number;
  /** What `.loc` says; empty without. */
  readonly locFile: string;
  readonly locLine: number;
  readonly locColumn: number;
  /** Of another access: what it was. */
  readonly what: string;
}

export interface Report extends Site {
  readonly code: string;
  readonly severity: 'error' | 'warning' | 'note';
  readonly message: string;
  readonly fix: string;
  /** How often the same code came from the same instruction. */
  readonly count: number;
  /** The other access of a race; who waits in a deadlock. */
  readonly others: readonly Site[];
}

export interface ByteCounts {
  readonly read: number;
  readonly written: number;
}

/** What --stats tells of a launch (docs/EMULATOR.md explains each). */
export interface Performance {
  /** Active lanes of an executed instruction, of 32: 0 to 1. */
  readonly laneUtilisation: number;
  /** By space, of instructions. */
  readonly bytes: Readonly<Record<string, ByteCounts>>;
  /** By space, of asynchronous copies. */
  readonly copiedBytes: Readonly<Record<string, ByteCounts>>;
  /** By what was waited at. Turns: of warps of the device, while one was blocked. */
  readonly waits: Readonly<
    Record<string, { readonly count: number; readonly blocked: number; readonly turns: number }>
  >;
  /** Waits for data that copies bring; null when there were none. Lead in phases. */
  readonly ring: {
    readonly waits: number;
    readonly waited: number;
    readonly averageLead: number;
    readonly leastLead: number;
  } | null;
  /** By the types of D, A and B. */
  readonly tensorCore: Readonly<Record<string, { readonly instructions: number; readonly flop: number }>>;
  /** Instructions that access shared or global memory. */
  readonly instructions: readonly {
    readonly function: string;
    readonly line: number;
    readonly column: number;
    readonly text: string;
    readonly shared?: {
      readonly phases: number;
      readonly passes: number;
      readonly averageConflicts: number;
      readonly worstConflicts: number;
    };
    readonly global?: {
      readonly requests: number;
      readonly sectors: number;
      readonly idealSectors: number;
      readonly sectorsPerRequest: number;
    };
  }[];
}

export interface Statistics {
  readonly warpInstructions: number;
  readonly laneInstructions: number;
  readonly ctas: number;
  readonly turns: number;
  readonly asyncEvents: number;
  /** Of the host; everything else replays exactly. */
  readonly seconds: number;
  /** Warp instructions by opcode, with `statistics`. */
  readonly byMnemonic?: Readonly<Record<string, number>>;
  /** With `statistics`, of a launch that ran to its end. */
  readonly performance?: Performance;
  readonly [more: string]: unknown;
}

export interface KernelInfo {
  readonly name: string;
  readonly parameters: readonly {
    readonly name: string;
    readonly size: number;
    readonly align: number;
    readonly offset: number;
  }[];
  readonly parameterBytes: number;
  readonly staticShared: number;
  readonly registers: number;
  readonly reqntid: Triple;
  readonly maxntid: Triple;
  readonly minnctapersm: number;
  readonly maxnreg: number;
  readonly reqnctapercluster: Triple;
}

/** What the core throws when it refuses a call; `line` and `column` where the PTX is at fault. */
export interface CoreError extends Error {
  readonly code: string;
  readonly line?: number;
  readonly column?: number;
}

export const isCoreError = (error: unknown): error is CoreError =>
  error instanceof Error && /^emu\//.test(String((error as { code?: unknown }).code));

declare const handle: unique symbol;
/** A device of the core. */
export type DeviceHandle = { readonly [handle]: 'device' };
/** A program that a device has loaded. */
export type ProgramHandle = { readonly [handle]: 'program' };

/** The functions of the addon (runtime/core/addon.cpp). All of them throw CoreError. */
export interface Core {
  createDevice(settings?: DeviceSettings): DeviceHandle;
  /** Devices of one process: they may become peers and run together. */
  createDevices(count: number, settings?: DeviceSettings): DeviceHandle[];
  /** Whether kernels of `from` may reach the memory of `to`; both made by one createDevices. */
  setPeerAccess(from: DeviceHandle, to: DeviceHandle, enabled: boolean): void;
  /** The number that reports name the device by. */
  deviceOrdinal(device: DeviceHandle): number;
  /** Address of new memory: zeros, but uninitialised to the checks. Messages count in elements of `elementBytes`. */
  allocate(device: DeviceHandle, bytes: number | bigint, name: string, elementBytes?: number): bigint;
  free(device: DeviceHandle, address: bigint): void;
  write(device: DeviceHandle, address: bigint, bytes: Uint8Array): void;
  read(device: DeviceHandle, address: bigint, bytes: number | bigint): Uint8Array;
  /** Copies bytes on the device, with what is known of them. */
  copy(device: DeviceHandle, to: bigint, from: bigint, bytes: number | bigint): void;
  /** Offset of the first byte that holds no initialised data; -1 when all do, or when nobody looks. */
  firstUninitialised(device: DeviceHandle, address: bigint, bytes: number | bigint): number;
  markInitialised(device: DeviceHandle, address: bigint, bytes: number | bigint, initialised: boolean): void;
  /** The allocation is an output: stores of uninitialised data to it are remembered for outputReports. */
  markOutput(device: DeviceHandle, address: bigint): void;
  /** What an output lacks after the launches: uninitialised data that instructions stored, bytes that none wrote. */
  outputReports(device: DeviceHandle, address: bigint): readonly Report[];
  loadProgram(device: DeviceHandle, program: Uint8Array): ProgramHandle;
  describeProgram(program: ProgramHandle): { readonly kernels: readonly KernelInfo[] };
  launch(
    device: DeviceHandle,
    program: ProgramHandle,
    request: LaunchRequest,
    settings?: DeviceSettings,
  ): { readonly reports: readonly Report[]; readonly statistics: Statistics };
  /** Runs grids on several devices at once: they may wait for each other. Settings default to the first device's. */
  launchTogether(
    launches: readonly {
      readonly device: DeviceHandle;
      readonly program: ProgramHandle;
      readonly request: LaunchRequest;
    }[],
    settings?: DeviceSettings,
  ): { readonly reports: readonly Report[]; readonly statistics: Statistics };
}
