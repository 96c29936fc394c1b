// Where findings go: turns offsets of the PTX text into spans, and stops at fifty.
import type { Diagnostic, Severity } from '../../../ir/diagnostics.ts';
import type { Span } from '../../../ir/span.ts';
import type { Piece } from './ast.ts';

/** After so many errors the rest is most likely noise from the first ones, or not PTX at all. */
export const mostDiagnostics = 50;

/** Line and column of offsets, both from 1. Quick when offsets rise. */
export class Lines {
  readonly #starts: number[] = [0];
  #last = 0;

  constructor(text: string) {
    for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) this.#starts.push(i + 1);
  }

  /** Index of the line, from 0. */
  #lineOf(offset: number): number {
    const starts = this.#starts;
    const near = this.#last;
    // Most questions are about the line that was asked for last, or the next.
    for (let i = near; i < near + 2 && i < starts.length; i++)
      if (starts[i] <= offset && (i + 1 === starts.length || offset < starts[i + 1])) return (this.#last = i);
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return (this.#last = low);
  }

  place(offset: number): { readonly line: number; readonly column: number } {
    const line = this.#lineOf(offset);
    return { line: line + 1, column: offset - this.#starts[line] + 1 };
  }

  /** Columns of a place over several lines end with its first line. */
  span(file: string, from: number, to: number): Span {
    const { line, column } = this.place(from);
    const end = line < this.#starts.length ? Math.min(to, this.#starts[line] - 1) : to;
    return { file, line, column, endLine: line, endColumn: Math.max(column + 1, column + end - from) };
  }
}

/** What may be said beside the message. */
export interface Detail {
  readonly label?: string;
  readonly fix?: string;
  readonly severity?: Severity;
  readonly notes?: readonly { readonly message: string; readonly at: Piece }[];
}

export class Sink {
  readonly diagnostics: Diagnostic[] = [];
  /** Codes that are not reported. */
  readonly muted = new Set<string>();
  readonly lines: Lines;
  readonly file: string;

  constructor(text: string, file: string) {
    this.file = file;
    this.lines = new Lines(text);
  }

  get full(): boolean {
    return this.diagnostics.length >= mostDiagnostics;
  }

  /** False when a report would be dropped. */
  wants(code: string): boolean {
    return !this.full && !this.muted.has(code);
  }

  report(code: string, message: string, at: Piece, detail: Detail = {}): void {
    if (!this.wants(code)) return;
    const { label, fix, notes, severity = 'error' } = detail;
    this.diagnostics.push({
      code,
      severity,
      message,
      at: this.lines.span(this.file, at.from, at.to),
      ...(label === undefined ? {} : { label }),
      ...(notes === undefined
        ? {}
        : {
            notes: notes.map(({ message: said, at: place }) => ({
              message: said,
              at: this.lines.span(this.file, place.from, place.to),
            })),
          }),
      ...(fix === undefined ? {} : { fix }),
    });
  }

  /** What was reported, in the order of the text. */
  sorted(): readonly Diagnostic[] {
    return [...this.diagnostics].sort((a, b) => a.at!.line - b.at!.line || a.at!.column - b.at!.column);
  }
}
