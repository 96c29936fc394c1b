// The options of each command as commander hands them over, after program.ts has checked the words in them.
import type { PipelineName } from '../pipeline.ts';

export interface ModelOptions {
  readonly precision?: 'f32' | 'bf16' | 'fp8';
  readonly set: Readonly<Record<string, string>>;
}

export interface PassOptions {
  readonly disablePass: readonly string[];
  readonly verifyEach: boolean;
  readonly dumpDir?: string;
  readonly printIrAfter: readonly string[];
  readonly printIrAfterAll?: boolean;
  readonly printIrAfterChange?: boolean;
  readonly dumpFilter?: string;
  readonly timing?: 'tree' | 'json' | 'chrome';
  readonly reproducer?: string;
}

export interface CheckOptions extends ModelOptions {
  readonly types: boolean;
}

export const emitKinds = ['ir', 'ptx', 'cubin', 'host', 'bundle'] as const;
export type EmitKind = (typeof emitKinds)[number];

export interface CompileOptions extends ModelOptions, PassOptions {
  readonly target: string;
  readonly entry: readonly string[];
  readonly output?: string;
  readonly emit?: readonly EmitKind[];
  readonly compileTo?: string;
  readonly compileFrom?: string;
  readonly dryRun?: boolean;
  readonly keep?: boolean;
  /** `ptxas=…` as written after -X. */
  readonly X: readonly string[];
  readonly resourceUsage?: boolean;
  readonly require: readonly string[];
  readonly cacheDir?: string;
  readonly cache: boolean;
  readonly explainCache?: boolean;
}

export const tensorCoreModes = ['exact', 'f32'] as const;

/** Of everything that runs on the emulator. */
export interface EmulatorOptions {
  readonly seed?: number;
  readonly threads?: number;
  readonly check: readonly string[];
  readonly tensorCore?: (typeof tensorCoreModes)[number];
  readonly maxInstructions?: number;
  readonly sms?: number;
  readonly stats?: string;
}

export interface RunOptions extends ModelOptions, PassOptions, EmulatorOptions {
  readonly weights: string;
  readonly input: string;
  readonly output: string;
  readonly device: string;
  readonly entry: string;
  readonly steps?: number;
  readonly capture: readonly ('hidden' | 'router')[];
  readonly numerics?: 'f64';
  readonly compare?: 'ref';
}

export const pipelineNames = ['inference', 'training'] as const satisfies readonly PipelineName[];

export interface OptOptions extends PassOptions {
  readonly pass: readonly string[];
  readonly pipeline?: PipelineName;
  readonly output?: string;
}

export interface ImportOptions {
  readonly output: string;
}

export interface ListOptions {
  readonly format: 'text' | 'json';
}

export const scheduleKinds = ['dualpipe', 'dualpipev', 'zb1p', '1f1b'] as const;
export const scheduleFormats = ['text', 'json', 'trace', 'svg'] as const;
export const transferModes = ['async', 'blocking'] as const;

export interface ScheduleOptions extends ModelOptions {
  readonly kind?: (typeof scheduleKinds)[number];
  readonly ranks?: number;
  readonly microBatches?: number;
  readonly cost?: string;
  readonly costs?: string;
  readonly transfer?: (typeof transferModes)[number];
  readonly format?: (typeof scheduleFormats)[number];
  readonly output?: string;
  readonly check?: boolean;
  readonly pair?: boolean;
  readonly layers?: number;
}

export interface EmuOptions extends EmulatorOptions {
  readonly launch?: string;
  readonly output?: string;
  readonly print?: boolean;
  readonly listChecks?: boolean;
}
