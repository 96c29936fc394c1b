// Everything that a command says: diagnostics, notes, progress and the closing summary go to stderr; products go to
// stdout, and only when the user asked for that. Nothing here decides about exit codes.
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { diagnosticToJson, renderDiagnostic, type Diagnostic } from '../../ir/diagnostics.ts';
import type { Span } from '../../ir/span.ts';

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

export interface TerminalSettings {
  readonly level: LogLevel;
  readonly color: 'auto' | 'always' | 'never';
  readonly diagnostics: 'text' | 'json';
}

export const defaultSettings: TerminalSettings = { level: 'info', color: 'auto', diagnostics: 'text' };

/** Excerpts are read from files up to this size: a diagnostic about a huge file needs no excerpt. */
const maxSourceBytes = 16 * 2 ** 20;

export class Terminal {
  readonly settings: TerminalSettings;
  readonly #color: boolean;
  /** Folders that spans' files are relative to: the model's, then the current one. */
  readonly #roots: string[] = [];
  /** Texts that stand in no file under their name: stdin. */
  readonly #texts = new Map<string, string>();
  readonly #sources = new Map<string, string | undefined>();
  readonly #told = new Set<string>();
  #errors = 0;
  #progressShown = false;

  constructor(settings: TerminalSettings) {
    this.settings = settings;
    this.#color =
      settings.color === 'always' ||
      (settings.color === 'auto' &&
        process.stderr.isTTY === true &&
        !process.env.NO_COLOR &&
        process.env.TERM !== 'dumb');
  }

  /** Errors reported so far. */
  get errors(): number {
    return this.#errors;
  }

  /** Spans name files relative to the model's folder: tells where that is. */
  addRoot(folder: string): void {
    this.#roots.unshift(folder);
  }

  /** Gives the text of a "file" that diagnostics name but that is not on disk. */
  addText(name: string, text: string): void {
    this.#texts.set(name, text);
  }

  /** Shows a diagnostic; one that was shown already is not repeated. */
  report(diagnostic: Diagnostic): void {
    const { level, diagnostics } = this.settings;
    if (diagnostic.severity === 'error') this.#errors++;
    else if (diagnostic.severity === 'warning' && level === 'error') return;
    else if (diagnostic.severity === 'note' && (level === 'error' || level === 'warn')) return;
    const d = this.#placed(diagnostic);
    const text =
      diagnostics === 'json'
        ? diagnosticToJson(d)
        : renderDiagnostic(d, { sourceOf: (file) => this.#sourceOf(file), color: this.#color });
    if (this.#told.has(text)) return;
    this.#told.add(text);
    this.#write(text);
  }

  /** What a person may want to know about the run. Silent with `--diagnostics=json`: stderr is then for programs. */
  info(text: string): void {
    if (
      (this.settings.level === 'info' || this.settings.level === 'debug') &&
      this.settings.diagnostics === 'text'
    )
      this.#write(text);
  }

  debug(text: string): void {
    if (this.settings.level === 'debug') this.#write(text);
  }

  /** Text that was asked for by a flag (`--print-ir-after-all`, `--timing`): shown at every level. */
  show(text: string): void {
    this.#write(text.replace(/\n$/, ''));
  }

  /** One line that overwrites itself, on a terminal only. */
  progress(text: string): void {
    if (
      process.stderr.isTTY !== true ||
      this.settings.diagnostics === 'json' ||
      this.settings.level === 'error'
    )
      return;
    const width = Math.max(20, process.stderr.columns ?? 80) - 1;
    process.stderr.write(`\r\u001b[K${text.slice(0, width)}`);
    this.#progressShown = true;
  }

  endProgress(): void {
    if (this.#progressShown) process.stderr.write('\r\u001b[K');
    this.#progressShown = false;
  }

  #write(text: string): void {
    this.endProgress();
    process.stderr.write(`${text}\n`);
  }

  /** The diagnostic with its files as seen from the current folder, so that editors and terminals can open them. */
  #placed(d: Diagnostic): Diagnostic {
    const notes = d.notes?.map((n) => (n.at ? { ...n, at: this.#place(n.at) } : n));
    return { ...d, ...(d.at ? { at: this.#place(d.at) } : {}), ...(notes ? { notes } : {}) };
  }

  #place(at: Span): Span {
    if (at.file === '' || this.#texts.has(at.file)) return at;
    for (const root of this.#roots) {
      const path = join(root, at.file);
      if (existsSync(path)) {
        const shown = relative(process.cwd(), path);
        // A path that climbs out of the current folder says less than the full one.
        return { ...at, file: shown.startsWith('..') ? path : shown };
      }
    }
    return at;
  }

  #sourceOf(file: string): string | undefined {
    const known = this.#texts.get(file) ?? this.#sources.get(file);
    if (known !== undefined || this.#sources.has(file)) return known;
    let text: string | undefined;
    try {
      const bytes = readFileSync(file);
      text = bytes.length <= maxSourceBytes ? bytes.toString('utf8') : undefined;
    } catch {
      text = undefined;
    }
    this.#sources.set(file, text);
    return text;
  }
}
