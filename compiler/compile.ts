// From a traced module to kernels, plan and report. Synchronous and pure: files, ptxas and the terminal are the
// caller's business.
import type { Diagnostic } from '../ir/diagnostics.ts';
import type { Function, Module } from '../ir/module.ts';
import type { EmittedKernel } from '../ir/plan.ts';
import type { Target } from '../ir/target.ts';
import { boundOfExtent } from './memory/buffers.ts';
import { PassFailure, runPipeline, type Pass, type PassRecord, type PipelineOptions } from './pass.ts';
import { inferencePasses } from './pipeline.ts';
import { makePlan, type Plan } from './plan.ts';
import {
  cacheBytesPerToken,
  countParameters,
  flopsPerToken,
  weightBytes,
  type ParameterCounts,
} from './report/counts.ts';
import { entriesOf } from './weights.ts';
import { valueBytes } from './memory/buffers.ts';

export interface CompileOptions {
  readonly target: Target;
  readonly disabled: ReadonlySet<string>;
  readonly verifyEach: boolean;
  readonly passes?: readonly Pass[];
  readonly onPass?: PipelineOptions['onPass'];
  readonly onKernel?: (done: number, total: number, name: string) => void;
}

export interface KernelReport {
  readonly name: string;
  readonly family: string;
  /** Blocks at the planning bounds. */
  readonly grid: readonly number[];
  readonly threads: number;
  readonly sharedBytes: number;
  readonly registers?: number;
  readonly spills?: number;
  readonly why?: string;
}

export interface Report {
  readonly model: string;
  readonly target: string;
  readonly precision: string;
  readonly parameters: ParameterCounts;
  readonly kvBytesPerToken: number;
  readonly flopsPerToken: Readonly<Record<string, number>>;
  readonly layers: number;
  readonly uniqueBlocks: number;
  readonly kernels: readonly KernelReport[];
  readonly passes: readonly {
    readonly name: string;
    readonly opsBefore: number;
    readonly opsAfter: number;
  }[];
  /** Weights, caches, the largest entry's arena and its arguments, at the declared bounds. */
  readonly peakBytes: number;
  readonly memory: { readonly weights: number; readonly states: number; readonly arena: number };
}

export interface Compiled {
  readonly module: Module;
  readonly kernels: readonly EmittedKernel[];
  readonly plan: Plan;
  readonly report: Report;
  readonly records: readonly PassRecord[];
  readonly diagnostics: readonly Diagnostic[];
  /** Milliseconds by phase. */
  readonly timings: Readonly<Record<string, number>>;
}

/** Throws DiagnosticError for the author's mistakes, PassFailure for ours. */
export function compileModule(traced: Module, options: CompileOptions): Compiled {
  const timings: Record<string, number> = {};
  const timed = <T>(phase: string, work: () => T): T => {
    const start = performance.now();
    const result = work();
    timings[phase] = performance.now() - start;
    return result;
  };
  const { module, records, diagnostics } = timed('passes', () =>
    runPipeline(traced, options.passes ?? inferencePasses(), options),
  );
  const kernels = timed('emit', () => emitKernels(module, options));
  const plan = timed('plan', () => makePlan(module));
  const report = timed('report', () => makeReport(traced, module, kernels, plan, records, options.target));
  return {
    module,
    kernels,
    plan,
    report,
    records,
    diagnostics: [...diagnostics, ...fitWarning(report, options.target)],
    timings,
  };
}

function emitKernels(module: Module, options: CompileOptions): readonly EmittedKernel[] {
  const functions = module.functions.filter((f) => f.kind === 'kernel');
  return functions.map((f, i) => {
    try {
      const kernel = options.target.emit(f, module);
      options.onKernel?.(i + 1, functions.length, f.name);
      return kernel;
    } catch (error) {
      throw new PassFailure(`emit (@${f.name})`, module, [], error);
    }
  });
}

function makeReport(
  traced: Module,
  module: Module,
  kernels: readonly EmittedKernel[],
  plan: Plan,
  records: readonly PassRecord[],
  target: Target,
): Report {
  const entries = entriesOf(module);
  const states = entries[0]?.arguments.reduce(
    (n, a) => n + (a.value.type.kind === 'state' ? valueBytes(a.value.type, module) : 0),
    0,
  );
  const arena = Math.max(0, ...plan.functions.filter((f) => f.kind === 'entry').map((f) => f.arenaBytes));
  const memory = { weights: weightBytes(module), states: states ?? 0, arena };
  return {
    model: module.name,
    target: target.name,
    precision: String(module.attributes.precision ?? 'f32'),
    parameters: countParameters(traced),
    kvBytesPerToken: cacheBytesPerToken(module),
    flopsPerToken: Object.fromEntries(entries.map((f) => [f.name, flopsPerToken(module, f)])),
    layers: layersOf(entries[0]),
    uniqueBlocks: module.functions.filter((f) => f.kind === 'block').length,
    kernels: kernels.map((k) => reportKernel(k, module)),
    passes: records.map(({ name, opsBefore, opsAfter }) => ({ name, opsBefore, opsAfter })),
    peakBytes: memory.weights + memory.states + memory.arena,
    memory,
  };
}

const layersOf = (entry: Function | undefined): number =>
  (entry?.body ?? []).reduce(
    (n, op) => n + (op.op === 'repeat' ? Number(op.attributes.stop) - Number(op.attributes.start) : 0),
    0,
  );

function reportKernel(k: EmittedKernel, module: Module): KernelReport {
  const blocks = k.grid.axes.map((a) => Math.ceil(boundOfExtent(a.extent, module) / a.per));
  // A persistent grid is one-dimensional: the chip's width, or the work when there is less.
  const grid =
    k.grid.atMost === undefined
      ? blocks
      : [
          Math.min(
            k.grid.atMost,
            blocks.reduce((a, b) => a * b, 1),
          ),
        ];
  return {
    name: k.name,
    family: k.family,
    grid: [...grid, 1, 1, 1].slice(0, 3),
    threads: k.threads,
    sharedBytes: k.dynamicSharedBytes + k.staticSharedBytes,
    ...(k.why ? { why: k.why } : {}),
  };
}

function fitWarning(report: Report, target: Target): readonly Diagnostic[] {
  if (target.memoryBytes === null || report.peakBytes <= target.memoryBytes) return [];
  const gib = (n: number): string => `${(n / 2 ** 30).toFixed(1)} GiB`;
  const { weights, states, arena } = report.memory;
  return [
    {
      code: 'memory/too-large-for-one-device',
      severity: 'warning',
      message: `${report.model} needs ${gib(report.peakBytes)} and one ${target.name} has ${gib(target.memoryBytes)}`,
      label: `weights ${gib(weights)}, caches ${gib(states)}, activations ${gib(arena)}`,
      fix: 'lower the bounds of tokens and cached with --set; a plan for several devices is still to come',
    },
  ];
}
