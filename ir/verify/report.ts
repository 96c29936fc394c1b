// How the verifier says what is wrong: at the author's place of the op or declaration, with its text beside it.
import type { Diagnostic, DiagnosticNote } from '../diagnostics.ts';
import type { Function, Module } from '../module.ts';
import type { Span } from '../span.ts';

export interface Place {
  readonly span: Span;
  /** The IR text of what is wrong. */
  readonly text: () => string;
}

/** Reports one finding. */
export type Report = (
  code: string,
  message: string,
  place: Place,
  fix?: string | null,
  notes?: readonly DiagnosticNote[],
) => void;

const longestLabel = 300;

export function reporter(found: Diagnostic[]): Report {
  return (code, message, place, fix, notes) => {
    const text = place.text();
    found.push({
      code,
      severity: 'error',
      message,
      ...(place.span.file === '' ? {} : { at: place.span }),
      label: text.length > longestLabel ? `${text.slice(0, longestLabel)}…` : text,
      ...(notes && notes.length > 0 ? { notes } : {}),
      ...(fix ? { fix } : {}),
    });
  };
}

/** A note that shows an op's text, with its place when it has one. */
export const noteAt = (message: string, span: Span): DiagnosticNote =>
  span.file === '' ? { message } : { message, at: span };

/** The module with what is looked up often by name. */
export interface ModuleTable {
  readonly module: Module;
  readonly dims: ReadonlyMap<string, Module['dims'][number]>;
  readonly states: ReadonlyMap<string, Module['states'][number]>;
  /** Functions that stand before the one being verified. */
  readonly earlier: ReadonlyMap<string, Function>;
  readonly all: ReadonlySet<string>;
}
