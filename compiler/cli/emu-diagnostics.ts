// What the emulator says, as diagnostics: problems of a launch file at their characters, reports at their PTX lines.
import type { Diagnostic, DiagnosticNote } from '../../ir/diagnostics.ts';
import type { Span } from '../../ir/span.ts';
import type { CoreError, Report, Site } from '../../runtime/emulator/device.ts';
import type { LaunchProblem } from '../../runtime/emulator/launch-problem.ts';

/** Span of the characters from `start` to `end` of a text. */
export function spanOf(file: string, text: string, start: number, end: number): Span {
  const place = (at: number): readonly [line: number, column: number] => {
    const before = text.slice(0, at);
    return [before.split('\n').length, at - before.lastIndexOf('\n')];
  };
  const [line, column] = place(start);
  const [endLine, endColumn] = place(Math.max(end, start + 1));
  return { file, line, column, endLine, endColumn };
}

export const launchDiagnostic =
  (file: string, text: string) =>
  ({ code, place, message, fix }: LaunchProblem): Diagnostic => ({
    code,
    severity: 'error',
    message,
    // A mistake of the whole file has no characters to underline.
    at:
      place.path === '' && !code.endsWith('/json')
        ? spanOf(file, text, 0, 1)
        : spanOf(file, text, place.start, place.end),
    fix,
  });

/** From an instruction's first character to its semicolon, or to the end of its line. */
function lineSpan(file: string, lines: readonly string[], line: number, column: number): Span {
  const text = lines[line - 1] ?? '';
  const from = Math.max(column, text.length - text.trimStart().length + 1);
  const semicolon = text.indexOf(';', from - 1);
  const end = semicolon >= 0 ? semicolon + 2 : text.trimEnd().length + 1;
  return { file, line, column: from, endLine: line, endColumn: Math.max(end, from + 1) };
}

/** `block (0, 2, 0), warp 1, lane 3`. */
const whoOf = ({ block, warp, lane }: Site): string =>
  [
    `block (${block.join(', ')})`,
    ...(warp >= 0 ? [`warp ${warp}`] : []),
    ...(lane >= 0 ? [`lane ${lane}`] : []),
  ].join(', ');

function locNote(site: Site): readonly DiagnosticNote[] {
  if (site.locFile === '' || site.locLine === 0) return [];
  const { locFile: file, locLine: line } = site;
  const column = Math.max(1, site.locColumn);
  return [{ message: 'from this line', at: { file, line, column, endLine: line, endColumn: column + 1 } }];
}

/** A report at its line of the PTX; who it was, the other accesses and the source's line as notes. */
export const reportDiagnostic =
  (file: string, text: string) =>
  (report: Report): Diagnostic => {
    const lines = text.split('\n');
    const { code, severity, message, fix, count } = report;
    // What is told of a whole launch or buffer has no block.
    const who = severity === 'note' ? '' : `, ${whoOf(report)}${count > 1 ? `; ${count} times in all` : ''}`;
    const notes: DiagnosticNote[] = [
      ...(report.kernel === '' ? [] : [{ message: `kernel ${report.kernel}${who}` }]),
      ...locNote(report),
    ];
    for (const other of report.others) {
      const at = other.ptxLine > 0 ? { at: lineSpan(file, lines, other.ptxLine, other.ptxColumn) } : {};
      notes.push({ message: `${other.what || 'and'}: ${whoOf(other)}`, ...at }, ...locNote(other));
    }
    return {
      code,
      severity,
      message,
      ...(report.ptxLine > 0 ? { at: lineSpan(file, lines, report.ptxLine, report.ptxColumn) } : {}),
      notes,
      ...(fix === '' ? {} : { fix }),
    };
  };

/** What the core refused before anything ran. */
export function refusalDiagnostic(file: string, text: string, error: CoreError): Diagnostic {
  const unsupported = error.code === 'emu/unsupported-instruction';
  return {
    code: error.code,
    severity: 'error',
    message: error.message,
    ...(error.line === undefined
      ? {}
      : { at: lineSpan(file, text.split('\n'), error.line, error.column ?? 1) }),
    fix: unsupported
      ? 'the emulator does not execute this instruction: use another, or leave out the kernel that has it'
      : 'see docs/EMULATOR.md',
  };
}
