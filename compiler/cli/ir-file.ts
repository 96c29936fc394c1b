// Reads IR text from a file or standard input, with the header comments that say where it came from.
import { DiagnosticError, type Diagnostic } from '../../ir/diagnostics.ts';
import type { Module } from '../../ir/module.ts';
import { verifyModule } from '../../ir/verify.ts';
import { verifySchedule } from '../schedule/verify.ts';
import { readText, stdinName } from './files.ts';
import type { Terminal } from './terminal.ts';

/**
 * Parses and verifies. Throws DiagnosticError with every mistake of the text, or, when it reads well, of the module.
 * `header` holds the comment lines before `dsir 1`, without their slashes.
 */
export async function readIr(
  path: string,
  terminal: Terminal,
): Promise<{ readonly module: Module; readonly header: readonly string[] }> {
  const text = readText(path, 'a .dsir file');
  const name = path === '-' ? stdinName : path;
  terminal.addText(name, text);
  // The parser library takes a third of a second to load: only who reads IR pays for it.
  const { parseModule } = await import('../../ir/text/parser.ts');
  const { module, diagnostics, header } = parseModule(text, name);
  const errors = (found: readonly Diagnostic[]): boolean => found.some((d) => d.severity === 'error');
  if (module === null || errors(diagnostics)) throw new DiagnosticError(diagnostics);
  for (const d of diagnostics) terminal.report(d);
  const wrong = verifyModule(module);
  if (errors(wrong)) throw new DiagnosticError(wrong);
  const schedules = module.schedules.flatMap(verifySchedule);
  if (errors(schedules)) throw new DiagnosticError(schedules);
  for (const d of schedules) terminal.report(d);
  return { module, header };
}
