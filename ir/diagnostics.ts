// Diagnostics are data: where, what, why, how to fix. Users' mistakes are collected and returned or thrown together
// as a `DiagnosticError`; anything else that is thrown is a bug of ours.
import { showSpan, type Span } from './span.ts';

export type Severity = 'error' | 'warning' | 'note';

export interface DiagnosticNote {
  readonly message: string;
  readonly at?: Span;
}

export interface Diagnostic {
  /** Stable, `area/what-is-wrong`: scripts and tests rely on it. */
  readonly code: string;
  readonly severity: Severity;
  readonly message: string;
  /** The text that the caret points at. */
  readonly at?: Span;
  /** Said beside the caret: what stands here. */
  readonly label?: string;
  readonly notes?: readonly DiagnosticNote[];
  /** One thing to do about it. */
  readonly fix?: string;
}

/** Carries the user's mistakes up to whoever shows them. */
export class DiagnosticError extends Error {
  readonly diagnostics: readonly Diagnostic[];
  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics.map((d) => `${d.code}: ${d.message}`).join('\n'));
    this.name = 'DiagnosticError';
    this.diagnostics = diagnostics;
  }
}

/** Throws one error. For code that can go on, collect diagnostics in an array instead. */
export function fail(d: Omit<Diagnostic, 'severity'>): never {
  throw new DiagnosticError([{ ...d, severity: 'error' }]);
}

export interface RenderOptions {
  /** Gives a file's text, or undefined when it cannot be read: the excerpt is then left out. */
  readonly sourceOf: (file: string) => string | undefined;
  readonly color?: boolean;
}

const paint = (color: boolean | undefined, code: string, text: string): string =>
  color ? `\u001b[${code}m${text}\u001b[0m` : text;

/**
 * Renders one diagnostic as people read it: header, place, the line with a caret, notes, fix.
 * Ends without a newline.
 */
export function renderDiagnostic(d: Diagnostic, options: RenderOptions): string {
  const { color } = options;
  const hue = d.severity === 'error' ? '1;31' : d.severity === 'warning' ? '1;33' : '1;36';
  const out = [`${paint(color, hue, `${d.severity}[${d.code}]`)}: ${d.message}`];
  if (d.at && d.at.file !== '') {
    out.push(`  --> ${d.at.file}:${d.at.line}:${d.at.column}`);
    const line = options.sourceOf(d.at.file)?.split('\n')[d.at.line - 1];
    if (line !== undefined) {
      const gutter = `${d.at.line} | `;
      // Long lines (minified or binary input) are cut around the caret; control characters never reach the terminal.
      const from = d.at.column > 100 ? d.at.column - 60 : 0;
      const shown = line
        .slice(from, from + 140)
        .replace(/\t/g, ' ')
        .replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
      const end = d.at.endLine === d.at.line ? d.at.endColumn : line.length + 1;
      const start = d.at.column - 1 - from;
      const width = Math.max(1, Math.min(end - 1 - from, shown.length) - start);
      out.push(gutter + shown);
      const label = d.label ? ` ${d.label}` : '';
      out.push(' '.repeat(gutter.length + start) + paint(color, hue, '^'.repeat(width)) + label);
    } else if (d.label) {
      out.push(`  ${d.label}`);
    }
  } else if (d.label) {
    out.push(`  ${d.label}`);
  }
  for (const note of d.notes ?? []) {
    const place =
      note.at && note.at.file !== '' ? ` (${note.at.file}:${note.at.line}:${note.at.column})` : '';
    out.push(`note: ${note.message}${place}`);
  }
  if (d.fix) out.push(`fix: ${d.fix}`);
  return out.join('\n');
}

/** One diagnostic as one JSON line, for editors and CI: `--diagnostics=json`. */
export function diagnosticToJson(d: Diagnostic): string {
  return JSON.stringify({
    code: d.code,
    severity: d.severity,
    message: d.message,
    file: d.at?.file,
    line: d.at?.line,
    column: d.at?.column,
    endLine: d.at?.endLine,
    endColumn: d.at?.endColumn,
    label: d.label,
    notes: d.notes?.map((n) => (n.at ? { message: n.message, at: showSpan(n.at) } : { message: n.message })),
    fix: d.fix,
  });
}
