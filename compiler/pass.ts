// The pass manager. A pass is a name, one line, and a pure function from module to module; what it needs to know
// stands in the module's attributes, so that a dumped module and the pass's name reproduce it.
import { DiagnosticError, type Diagnostic } from '../ir/diagnostics.ts';
import type { Module } from '../ir/module.ts';
import type { Target } from '../ir/target.ts';
import { verifyModule } from '../ir/verify.ts';

export interface PassContext {
  /** The target named by the module's attribute `target`; null when only the IR is wanted. */
  readonly target: Target | null;
  /** Warnings and notes for the author (why a fusion was declined, say). */
  readonly report: (d: Diagnostic) => void;
}

export interface Pass {
  readonly name: string;
  /** One line for `dsvc passes`. */
  readonly doc: string;
  /** Later stages cannot do without it: `--disable-pass` refuses. */
  readonly required?: boolean;
  readonly run: (module: Module, context: PassContext) => Module;
}

export interface PassRecord {
  readonly name: string;
  readonly opsBefore: number;
  readonly opsAfter: number;
  /** False when the pass gave back the very module it got. */
  readonly changed: boolean;
  readonly milliseconds: number;
}

export interface PipelineOptions {
  readonly target: Target | null;
  readonly disabled: ReadonlySet<string>;
  readonly verifyEach: boolean;
  /** Called around every pass that runs; `index` counts them from 1. */
  readonly onPass?: (event: {
    pass: Pass;
    index: number;
    before: Module;
    after: Module;
    record: PassRecord;
  }) => void;
}

/** A pass that threw or produced a module that does not verify: our bug, with what is needed to reproduce it. */
export class PassFailure extends Error {
  readonly pass: string;
  /** The module the pass was given. */
  readonly input: Module;
  readonly diagnostics: readonly Diagnostic[];
  constructor(pass: string, input: Module, diagnostics: readonly Diagnostic[], cause?: unknown) {
    super(
      `pass ${pass} ${cause instanceof Error ? `failed: ${cause.message}` : 'made a module that does not verify'}`,
    );
    this.name = 'PassFailure';
    this.pass = pass;
    this.input = input;
    this.diagnostics = diagnostics;
    if (cause !== undefined) this.cause = cause;
  }
}

/** Ops of every function, the unit of pass statistics. */
export const countOps = (module: Module): number => module.functions.reduce((n, f) => n + f.body.length, 0);

/**
 * Runs the passes in order, skipping disabled ones, verifying after each.
 * Throws PassFailure for our bugs and DiagnosticError for what a pass finds wrong with the author's model.
 */
export function runPipeline(
  module: Module,
  passes: readonly Pass[],
  options: PipelineOptions,
): { module: Module; records: readonly PassRecord[]; diagnostics: readonly Diagnostic[] } {
  const records: PassRecord[] = [];
  const diagnostics: Diagnostic[] = [];
  const said = new Set<string>();
  const report = (d: Diagnostic): void => {
    // Copies of one block have the same to say.
    const key = JSON.stringify(d);
    if (!said.has(key)) diagnostics.push(d);
    said.add(key);
  };
  const context: PassContext = { target: options.target, report };
  let current = module;
  for (const pass of passes) {
    if (options.disabled.has(pass.name) && !pass.required) continue;
    const before = current;
    const start = performance.now();
    try {
      current = pass.run(before, context);
    } catch (error) {
      if (error instanceof DiagnosticError) throw error;
      throw new PassFailure(pass.name, before, [], error);
    }
    const milliseconds = performance.now() - start;
    if (options.verifyEach && current !== before) {
      const wrong = verifyModule(current);
      if (wrong.length > 0) throw new PassFailure(pass.name, before, wrong);
    }
    const record: PassRecord = {
      name: pass.name,
      opsBefore: countOps(before),
      opsAfter: countOps(current),
      changed: current !== before,
      milliseconds,
    };
    records.push(record);
    options.onPass?.({ pass, index: records.length, before, after: current, record });
  }
  return { module: current, records, diagnostics };
}
