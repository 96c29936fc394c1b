// Where the reader's findings go: turns offsets into spans in the .dsir text, and stops at a hundred.
import type { IToken } from 'chevrotain';
import type { Diagnostic, DiagnosticNote } from '../diagnostics.ts';
import type { Span } from '../span.ts';
import type { Finding } from './lines.ts';
import { endOf } from './tokens.ts';

/** After so many errors the rest is most likely noise from the first ones, or not IR text at all. */
export const mostDiagnostics = 100;

/** Something defined earlier, for notes: the token that named it. */
export interface Definition {
  readonly message: string;
  readonly at: IToken;
}

export class Sink {
  readonly diagnostics: Diagnostic[] = [];
  private readonly text: string;
  private readonly file: string;
  private lineStarts: number[] | null = null;

  constructor(text: string, file: string) {
    this.text = text;
    this.file = file;
  }

  get full(): boolean {
    return this.diagnostics.length >= mostDiagnostics;
  }

  /** Places are offsets into the text; a place of no width is shown one column wide. */
  error(
    code: string,
    message: string,
    from: number,
    to: number,
    more: { label?: string; fix?: string | null; notes?: readonly Definition[] } = {},
  ): void {
    if (this.full) return;
    const notes = more.notes?.map((n): DiagnosticNote => ({
      message: n.message,
      at: this.span(n.at.startOffset, endOf(n.at)),
    }));
    this.diagnostics.push({
      code,
      severity: 'error',
      message,
      at: this.span(from, to),
      ...(more.label === undefined ? {} : { label: more.label }),
      ...(notes === undefined ? {} : { notes }),
      ...(more.fix ? { fix: more.fix } : {}),
    });
  }

  at(
    code: string,
    message: string,
    from: IToken,
    more: { to?: IToken; label?: string; fix?: string | null; notes?: readonly Definition[] } = {},
  ): void {
    this.error(code, message, from.startOffset, endOf(more.to ?? from), more);
  }

  finding(f: Finding): void {
    this.at(f.code, f.message, f.from, { to: f.to, label: f.label, fix: f.fix });
  }

  /** The place between two offsets of the text. */
  span(from: number, to: number): Span {
    const starts = (this.lineStarts ??= this.startsOfLines());
    // The last line that starts at or before `from`.
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= from) low = middle;
      else high = middle - 1;
    }
    const column = from - starts[low] + 1;
    const endColumn = Math.max(column + 1, to - starts[low] + 1);
    return { file: this.file, line: low + 1, column, endLine: low + 1, endColumn };
  }

  private startsOfLines(): number[] {
    const starts = [0];
    for (let i = this.text.indexOf('\n'); i >= 0; i = this.text.indexOf('\n', i + 1)) starts.push(i + 1);
    return starts;
  }
}
