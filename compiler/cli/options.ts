// The options of each command as commander hands them over, after program.ts has checked the words in them.

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

export interface RunOptions extends ModelOptions, PassOptions {
  readonly weights: string;
  readonly input: string;
  readonly output: string;
  readonly device: string;
  readonly entry: string;
  readonly steps?: number;
  readonly capture: readonly ('hidden' | 'router')[];
  readonly numerics?: 'f64';
}

export interface OptOptions extends PassOptions {
  readonly pass: readonly string[];
  readonly pipeline?: boolean;
  readonly output?: string;
}

export interface ImportOptions {
  readonly output: string;
}

export interface ListOptions {
  readonly format: 'text' | 'json';
}
