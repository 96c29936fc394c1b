// Where in the author's file a value was written. Spans are mandatory on every op, survive every pass and end up
// as `.loc` lines in PTX. Files are relative to the model file's folder, so that artefacts carry no machine path.

/** A range of source text on one line or more; lines and columns count from 1, `endColumn` is exclusive. */
export interface Span {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Equals `line` when the expression ends on the line that it starts on. */
  readonly endLine: number;
  readonly endColumn: number;
}

/** The span of things that no author wrote (built by a pass without a source value, or by a test). */
export const noSpan: Span = { file: '', line: 0, column: 0, endLine: 0, endColumn: 0 };

export const sameSpan = (a: Span, b: Span): boolean =>
  a.file === b.file &&
  a.line === b.line &&
  a.column === b.column &&
  a.endLine === b.endLine &&
  a.endColumn === b.endColumn;

/** `file:line:column-endColumn`, or `file:line:column-endLine:endColumn` for a range over several lines. */
export function showSpan(span: Span): string {
  const end = span.endLine === span.line ? `${span.endColumn}` : `${span.endLine}:${span.endColumn}`;
  return `${span.file}:${span.line}:${span.column}-${end}`;
}
