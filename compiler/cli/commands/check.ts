// `dsvc check`: every mistake of a model file that can be found without compiling it.
import { DiagnosticError, type Diagnostic } from '../../../ir/diagnostics.ts';
import { entriesOf } from '../../weights.ts';
import { requireFile } from '../files.ts';
import { loadAndTrace } from '../model.ts';
import type { CheckOptions } from '../options.ts';
import type { Session } from '../session.ts';
import { typeCheck } from '../type-check.ts';

export async function check({ terminal }: Session, path: string, options: CheckOptions): Promise<void> {
  requireFile(path, 'a model file');
  const found: Diagnostic[] = [];
  const lines: string[] = [];
  try {
    const module = await loadAndTrace(
      path,
      { precision: options.precision ?? 'fp8', target: 'h800', set: options.set },
      terminal,
    );
    const entries = entriesOf(module).map((f) => f.name);
    lines.push(`${path}: ok, ${module.functions.length} functions, entries ${entries.join(', ')}`);
  } catch (error) {
    // The types may explain what the trace stumbled over: both are told together.
    if (!(error instanceof DiagnosticError)) throw error;
    found.push(...error.diagnostics);
  }
  if (options.types) {
    const types = await typeCheck(path);
    if ('unavailable' in types) terminal.debug(`types were not checked: ${types.unavailable}`);
    else found.push(...types.diagnostics.filter((d) => !found.some((other) => covers(other, d))));
  }
  for (const d of inOrder(found)) terminal.report(d);
  if (!found.some((d) => d.severity === 'error')) for (const line of lines) terminal.info(line);
}

/** One mistake, told by the trace already: in the library's words, with sizes and a fix. */
function covers({ at, severity }: Diagnostic, types: Diagnostic): boolean {
  const t = types.at;
  if (severity !== 'error' || !at || !t || at.file !== t.file) return false;
  // An error about a whole model or block says nothing about what is wrong in one of its lines.
  if (at.line !== at.endLine && at.line !== t.line) return false;
  const startsBefore = at.line < t.line || (at.line === t.line && at.column <= t.column);
  const endsAfter = at.endLine > t.line || (at.endLine === t.line && at.endColumn > t.column);
  return startsBefore && endsAfter;
}

/** By place: what stands first in the file is told first; what has no place comes before. */
function inOrder(found: readonly Diagnostic[]): readonly Diagnostic[] {
  const key = (d: Diagnostic): readonly [string, number, number] => [
    d.at?.file ?? '',
    d.at?.line ?? 0,
    d.at?.column ?? 0,
  ];
  return [...found].sort((a, b) => {
    const [fileA, lineA, columnA] = key(a);
    const [fileB, lineB, columnB] = key(b);
    return fileA < fileB ? -1 : fileA > fileB ? 1 : lineA - lineB || columnA - columnB;
  });
}
