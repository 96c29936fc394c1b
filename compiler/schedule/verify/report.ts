// How the verifier of schedules says what is wrong: rank and operation in the message, the operation's own place, the
// other place in a note. One mistake in a loop of micro-batches looks the same a thousand times: a few are shown, the
// rest counted.
import type { Diagnostic, DiagnosticNote, Severity } from '../../../ir/diagnostics.ts';
import type { PhaseOrder, Schedule } from '../../../ir/schedule.ts';
import type { Span } from '../../../ir/span.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';

/** Shown of one code: for one rank, and for all together. */
const shownOfRank = 3;
const shownOfCode = 8;

export interface Finding {
  readonly message: string;
  readonly at: Span;
  readonly notes?: readonly DiagnosticNote[];
  readonly fix: string;
}

export class Findings {
  readonly #found: { readonly diagnostic: Diagnostic; readonly code: string }[] = [];
  readonly #shown = new Map<string, number>();
  readonly #more = new Map<string, number>();
  readonly #ranksWithErrors = new Set<number>();
  #errors = 0;

  /** Errors reported so far, shown or not. */
  get errors(): number {
    return this.#errors;
  }

  hasErrors(rank: number): boolean {
    return this.#ranksWithErrors.has(rank);
  }

  /** `rank`: null when what is wrong belongs to none. The finding is made only when it is shown. */
  error(code: string, rank: number | null, finding: () => Finding): void {
    this.#errors++;
    if (rank !== null) this.#ranksWithErrors.add(rank);
    this.#add(`schedule/${code}`, 'error', rank, finding);
  }

  warning(code: string, rank: number | null, finding: () => Finding): void {
    this.#add(`schedule/${code}`, 'warning', rank, finding);
  }

  #add(code: string, severity: Severity, rank: number | null, finding: () => Finding): void {
    const all = this.#shown.get(code) ?? 0;
    const ofRank = this.#shown.get(`${code} ${rank}`) ?? 0;
    if (all >= shownOfCode || (rank !== null && ofRank >= shownOfRank)) {
      this.#more.set(code, (this.#more.get(code) ?? 0) + 1);
      return;
    }
    this.#shown.set(code, all + 1);
    this.#shown.set(`${code} ${rank}`, ofRank + 1);
    const { message, at, notes, fix } = finding();
    this.#found.push({
      code,
      diagnostic: {
        code,
        severity,
        message,
        ...(at.file === '' ? {} : { at }),
        ...(notes && notes.length > 0 ? { notes } : {}),
        fix,
      },
    });
  }

  /** Errors in the order in which they were found, then warnings; the last of each code counts what is not shown. */
  diagnostics(): Diagnostic[] {
    const last = new Map(this.#found.map((f, i) => [f.code, i]));
    const all = this.#found.map(({ diagnostic, code }, i): Diagnostic => {
      const more = last.get(code) === i ? this.#more.get(code) : undefined;
      if (!more) return diagnostic;
      const note = { message: `${more} more like this ${more === 1 ? 'is' : 'are'} not shown` };
      return { ...diagnostic, notes: [...(diagnostic.notes ?? []), note] };
    });
    return [...all.filter((d) => d.severity === 'error'), ...all.filter((d) => d.severity !== 'error')];
  }
}

/** A note with its place when there is one. */
export const noteAt = (message: string, span: Span): DiagnosticNote =>
  span.file === '' ? { message } : { message, at: span };

/** An operation as it is written. */
export const showOp = printScheduleOp;

/** What stands at a place of a rank's program, as messages begin. */
export const atOp = (schedule: Schedule, rank: number, index: number): string =>
  `rank ${rank}: ${showOp(schedule.programs[rank].ops[index])}`;

export const spanOf = (schedule: Schedule, rank: number, index: number): Span =>
  schedule.programs[rank].ops[index].span;

/** Where an operation stands, inside a sentence: by its line, or in a program without text by its number. */
export function where(schedule: Schedule, rank: number, index: number): string {
  const { file, line } = spanOf(schedule, rank, index);
  return file === '' ? `operation ${index + 1}` : `line ${line}`;
}

/** A note about an operation, with its rank, text and place. */
export function noteOp(schedule: Schedule, rank: number, index: number, tail = ''): DiagnosticNote {
  const at = spanOf(schedule, rank, index);
  const place = at.file === '' ? ` (operation ${index + 1})` : '';
  return noteAt(`${atOp(schedule, rank, index)}${tail}${place}`, at);
}

export const showOrder = (order: Pick<PhaseOrder, 'op' | 'layers'>): string =>
  `order ${order.op} ${order.layers.join(' & ')}`;

/** `one op`, `2 ops`. */
export const count = (n: number, noun: string): string =>
  `${n === 1 ? 'one' : n} ${noun}${n === 1 ? '' : 's'}`;
