// The executor of plans, as typed functions: what the addon offers (runtime/core/addon_plan.cpp), and nothing else.
import { loadNative } from './native.ts';
import type { DeviceHandle, Report, Statistics } from './emulator/device.ts';

declare const handle: unique symbol;
/** A plan on a device, with its weights and arena. */
export type ExecutorHandle = { readonly [handle]: 'executor' };

/** What the executor or its device refuses. */
export interface ExecutorError extends Error {
  /** `plan/…`, or a code of the device. */
  readonly code: string;
  /** May be empty. */
  readonly fix: string;
  /** The launch that failed, with layer and line; may be empty. */
  readonly where: string;
  /** Of the kernel's PTX, when it is at fault. */
  readonly line?: number;
  readonly column?: number;
}

export const isExecutorError = (error: unknown): error is ExecutorError =>
  error instanceof Error && typeof (error as Partial<ExecutorError>).where === 'string';

/** A launch of a run. */
export interface LaunchSite {
  readonly kernel: string;
  readonly function: string;
  /** Number of the step in the function. */
  readonly step: number;
  /** Counts the launches of the run. */
  readonly launch: number;
  /** Null outside of repeats. */
  readonly layer: number | null;
  /** The author's line, or ''. */
  readonly at: string;
}

/** Where an array lies on the device, and its bytes at the sizes of this run. */
export interface PlacedArray {
  readonly component: string;
  readonly address: bigint;
  readonly bytes: number;
}

export interface PlacedValue {
  /** As the IR prints it. */
  readonly type: string;
  readonly arrays: readonly PlacedArray[];
}

/** A launch with the places of the kernel's operands, and of its results that are no operands (states are). */
export interface LaunchPlaces extends LaunchSite {
  readonly operands: readonly PlacedValue[];
  readonly results: readonly PlacedValue[];
  /** Run-time dims that are known, those that follow from others at their largest; `pages`: columns of the page table. */
  readonly sizes: Readonly<Record<string, number>>;
}

export interface EntryRequest {
  readonly entry: string;
  /** Run-time dims by name; those that follow from others are left out. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Where each array of each argument lies, in order. */
  readonly arguments: readonly bigint[];
  /** Gives a kernel's decoded program when it is first launched. */
  readonly codeOf: (kernel: string) => Uint8Array;
  /** Around every launch; memory may be read and written. What they throw ends the run and comes out of it. */
  readonly onBefore?: ((places: LaunchPlaces) => void) | undefined;
  readonly onAfter?: ((places: LaunchPlaces) => void) | undefined;
  /** What the device says about a launch that ran, also before the launch fails for it. */
  readonly onLaunched?:
    | ((
        said: { readonly reports: readonly Report[]; readonly statistics: Statistics },
        at: LaunchSite,
      ) => void)
    | undefined;
}

export interface PlanDescription {
  readonly entries: readonly {
    readonly name: string;
    readonly arenaBytes: number;
    readonly arguments: readonly {
      readonly name: string;
      readonly type: string;
      readonly components: readonly string[];
      readonly inout: boolean;
    }[];
  }[];
  readonly functions: number;
  readonly steps: number;
  readonly kernels: number;
  readonly weights: number;
  readonly weightBytes: number;
}

/** All of them throw ExecutorError, and CoreError for arguments of a wrong kind. */
export interface ExecutorCore {
  /** Checks a plan file. */
  createExecutor(device: DeviceHandle, plan: Uint8Array): ExecutorHandle;
  describePlan(executor: ExecutorHandle): PlanDescription;
  /** Bytes from `at` of an array of a weight, for one layer; layer 0 for weights outside of repeats. */
  writeWeight(
    executor: ExecutorHandle,
    weight: number,
    layer: number,
    component: number,
    at: number,
    bytes: Uint8Array,
  ): void;
  /** The arrays of each result. */
  runEntry(executor: ExecutorHandle, request: EntryRequest): readonly (readonly Uint8Array[])[];
  /** The device's own encoder of tensor maps; numbers as in emulator/tensor-map.ts. */
  encodeTensorMap(
    address: bigint,
    map: {
      readonly element: number;
      readonly dims: readonly number[];
      readonly strides: readonly number[];
      readonly box: readonly number[];
      readonly elementStrides: readonly number[];
      readonly swizzle: number;
      readonly interleave: number;
      readonly fill: number;
    },
  ): Uint8Array;
}

/** Throws what native.ts says is missing. */
export const loadExecutor = (): ExecutorCore => loadNative() as unknown as ExecutorCore;
