// From whatever was thrown to what the user is told and the exit code:
// 0 ok, 1 user error, 2 bad usage, 3 our bug, 4 missing tool under --require.
import { writeFileSync } from 'node:fs';
import { DiagnosticError, type Diagnostic } from '../../ir/diagnostics.ts';
import type { Module } from '../../ir/module.ts';
import { PassFailure } from '../pass.ts';
import { FormatError } from '../../runtime/safetensors-error.ts';
import { formatDiagnostic, systemDiagnostic } from './format-errors.ts';
import { MissingToolError, UsageError } from './names.ts';
import type { Terminal } from './terminal.ts';

export const exitCodes = { ok: 0, userError: 1, badUsage: 2, ourBug: 3, missingTool: 4 } as const;

/** What a command was doing, for the report of a crash. */
export interface CrashContext {
  /** The last module that was known to be good, and what was being done with it. */
  module?: Module;
  /** Where the reproducer goes, from `--reproducer`. */
  reproducer?: string;
}

/** Tells the user what went wrong and returns the exit code. Never throws, never prints a stack outside `debug`. */
export async function reportFailure(
  error: unknown,
  terminal: Terminal,
  crash: CrashContext,
): Promise<number> {
  terminal.endProgress();
  if (error instanceof Error && error.stack !== undefined) terminal.debug(error.stack);
  const known = asDiagnostics(error);
  if (known) {
    for (const d of known) terminal.report(d);
    if (error instanceof UsageError) return exitCodes.badUsage;
    if (error instanceof MissingToolError) return exitCodes.missingTool;
    return exitCodes.userError;
  }
  return reportBug(error, terminal, crash);
}

/** Diagnostics of errors that are not ours to fix; undefined for bugs. */
export function asDiagnostics(error: unknown): readonly Diagnostic[] | undefined {
  if (error instanceof DiagnosticError) return error.diagnostics;
  if (error instanceof FormatError) return [formatDiagnostic(error)];
  if (isSystemError(error)) return [systemDiagnostic(error)];
  return undefined;
}

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error &&
  typeof (error as NodeJS.ErrnoException).code === 'string' &&
  typeof (error as NodeJS.ErrnoException).syscall === 'string';

async function reportBug(error: unknown, terminal: Terminal, crash: CrashContext): Promise<number> {
  const notes: { message: string }[] = [];
  const pass = error instanceof PassFailure ? error.pass : undefined;
  const module = error instanceof PassFailure ? error.input : refusedKernel(error) ? undefined : crash.module;
  if (module) {
    const path =
      crash.reproducer ??
      `dsvc-reproducer-${(pass ?? 'crash').replace(/[^a-z0-9]+/gi, '-').replace(/-$/, '')}.dsir`;
    try {
      writeFileSync(path, await reproducerText(module, pass, path));
      notes.push({ message: `the module before it is in ${path}; its first line says how to repeat this` });
    } catch (cannot) {
      notes.push({
        message: `a reproducer could not be written to ${path}: ${cannot instanceof Error ? cannot.message : String(cannot)}`,
      });
    }
  }
  const kernel = refusedKernel(error);
  if (kernel) {
    const path = `dsvc-reproducer-${kernel.name}.ptx`;
    try {
      writeFileSync(path, kernel.ptx);
      notes.push({ message: `the kernel is in ${path}` });
    } catch {
      // The message above names the kernel: that must do.
    }
  }
  const wrong = error instanceof PassFailure ? error.diagnostics : [];
  for (const d of wrong) terminal.report(d);
  terminal.report({
    code: pass === undefined ? 'internal/error' : 'internal/pass',
    severity: 'error',
    message: error instanceof Error ? error.message.split('\n')[0] : String(error),
    notes,
    fix: 'this is a bug in dsvc, please report it with the model or the reproducer (--log-level=debug shows where)',
  });
  return exitCodes.ourBug;
}

/** The kernel of an AssemblyError; cubins.ts is not imported here, because it brings half the compiler along. */
function refusedKernel(error: unknown): { readonly name: string; readonly ptx: string } | undefined {
  const { name, kernel } = error as { name?: string; kernel?: { name: string; ptx: string } };
  return name === 'AssemblyError' ? kernel : undefined;
}

const isPassName = (name: string): boolean => /^[a-z0-9-]+$/.test(name);

async function reproducerText(module: Module, pass: string | undefined, path: string): Promise<string> {
  const { printModule } = await import('../../ir/text/printer.ts');
  const file = path.split('/').at(-1);
  const command =
    pass === undefined
      ? `opt ${file} -o -`
      : isPassName(pass)
        ? `opt ${file} --pass ${pass} -o -`
        : // Emission is no pass: it follows the last one.
          `compile ${file} --compile-from=select-kernels -o DIR`;
  return printModule(module, { header: [`dsvc ${command}`] });
}
