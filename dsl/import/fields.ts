// Reading an object's keys with their types checked: each mistake becomes a diagnostic with a caret in the JSON, and
// reading goes on, so that all independent mistakes are shown at once. What could be read comes back with its place,
// for checks that compare two keys.
import type { Diagnostic, DiagnosticNote } from '../../ir/diagnostics.ts';
import type { Span } from '../../ir/span.ts';
import { nearest } from '../words.ts';
import { showNode, type JsonEntry, type JsonNode } from './json.ts';

/** A key's value that passed its own checks. `given` is false when it is Hugging Face's default. */
export interface Read<T> {
  readonly key: string;
  readonly value: T;
  readonly at: Span;
  readonly given: boolean;
}

/** undefined: the key was wrong or missing, and that was reported. */
export type Maybe<T> = Read<T> | undefined;

export type JsonObject = Extract<JsonNode, { kind: 'object' }>;

/** Sizes are counted in 32 bits at run time. */
const largestSize = 2 ** 31 - 1;

type Problem = Omit<Diagnostic, 'severity' | 'at'> & { readonly at: Span };

export class Fields {
  readonly diagnostics: Diagnostic[];
  /** Where a key is missing: the opening brace. */
  readonly start: Span;
  private readonly entries: ReadonlyMap<string, JsonEntry>;
  private readonly known = new Set<string>();
  private readonly inside: string;
  private readonly defaults: Readonly<Record<string, number | boolean | string | null>>;
  /** Sizes that were not written, as `key = value`, for the note about them. */
  readonly taken: string[] = [];

  /** `inside` names the object in messages, `""` for the config itself. */
  constructor(node: JsonObject, diagnostics: Diagnostic[], inside: string, defaults: Fields['defaults']) {
    this.diagnostics = diagnostics;
    this.entries = new Map(node.entries.map((e) => [e.key, e]));
    this.inside = inside;
    this.defaults = defaults;
    const { file, line, column } = node.span;
    this.start = { file, line, column, endLine: line, endColumn: column + 1 };
  }

  error(problem: Problem): undefined {
    this.diagnostics.push({ severity: 'error', ...problem });
  }

  warn(problem: Problem): void {
    this.diagnostics.push({ severity: 'warning', ...problem });
  }

  /** The key's entry, or undefined when it is not written. The key counts as known from now on. */
  entry(key: string): JsonEntry | undefined {
    this.known.add(key);
    return this.entries.get(key);
  }

  /** Keys that change nothing in the model. */
  ignore(keys: readonly string[]): void {
    for (const key of keys) this.known.add(key);
  }

  private wrong(
    entry: JsonEntry,
    code: 'wrong-type' | 'wrong-value',
    wanted: string,
    fix: string,
  ): undefined {
    this.error({
      code: `import/${code}`,
      message: `"${entry.key}" must be ${wanted}`,
      at: entry.value.span,
      label: `this is ${showNode(entry.value)}`,
      fix,
    });
  }

  /** What stands for a key that is not written: Hugging Face's default, or a reported error. */
  private absent<T>(key: string): Maybe<T> {
    const value = this.defaults[key];
    if (value !== undefined) {
      if (typeof value === 'number') this.taken.push(`${key} = ${value}`);
      return { key, value: value as T, at: this.start, given: false };
    }
    return this.error({
      code: 'import/missing-key',
      message: `"${key}" is missing${this.inside === '' ? '' : ` in "${this.inside}"`}`,
      at: this.start,
      label: 'Hugging Face has no default for it',
      fix: `add "${key}", as the checkpoint's own config.json has it`,
    });
  }

  private read<T>(key: string, take: (entry: JsonEntry) => T | undefined): Maybe<T> {
    const entry = this.entry(key);
    if (!entry) return this.absent(key);
    const value = take(entry);
    return value === undefined ? undefined : { key, value, at: entry.value.span, given: true };
  }

  /** A whole number of at least `least`. */
  count(key: string, least = 1): Maybe<number> {
    const wanted = `a whole number from ${least} to ${largestSize}`;
    return this.read(key, (entry) => {
      const { value } = entry;
      if (value.kind !== 'number') return this.wrong(entry, 'wrong-type', wanted, numberFix(value));
      if (Number.isInteger(value.value) && value.value >= least && value.value <= largestSize)
        return value.value;
      return this.wrong(entry, 'wrong-value', wanted, 'write the number that the checkpoint was made with');
    });
  }

  /** A whole number, or null. */
  countOrNull(key: string, least = 1): Maybe<number | null> {
    if (this.entry(key)?.value.kind !== 'null') return this.count(key, least);
    return { key, value: null, at: this.entry(key)!.value.span, given: true };
  }

  /** A finite number above `above`, or of at least `least`. */
  number(key: string, bound: { readonly above: number } | { readonly least: number }): Maybe<number> {
    const wanted = 'above' in bound ? `a number above ${bound.above}` : `a number of at least ${bound.least}`;
    const fits = (n: number): boolean => ('above' in bound ? n > bound.above : n >= bound.least);
    return this.read(key, (entry) => {
      const { value } = entry;
      if (value.kind !== 'number') return this.wrong(entry, 'wrong-type', wanted, numberFix(value));
      if (Number.isFinite(value.value) && fits(value.value)) return value.value;
      return this.wrong(entry, 'wrong-value', wanted, 'write the number that the checkpoint was made with');
    });
  }

  /** true or false. */
  flag(key: string): Maybe<boolean> {
    return this.read(key, (entry) =>
      entry.value.kind === 'boolean'
        ? entry.value.value
        : this.wrong(entry, 'wrong-type', 'true or false', 'write true or false, without quotes'),
    );
  }

  /** One of the given texts. */
  choice<S extends string>(key: string, oneOf: readonly S[], why: string): Maybe<S> {
    return this.read(key, (entry) => {
      const { value } = entry;
      const wanted = oneOf.map((s) => `"${s}"`).join(' or ');
      if (value.kind !== 'text') return this.wrong(entry, 'wrong-type', wanted, `write ${wanted}`);
      const found = oneOf.find((s) => s === value.value);
      if (found !== undefined) return found;
      const near = nearest(value.value, oneOf);
      return this.error({
        code: 'import/unsupported',
        message: `"${key}" is ${showNode(value)}, which is not supported`,
        at: value.span,
        label: why,
        fix: near === null ? `${wanted} can be imported` : `"${near}" was probably meant`,
      });
    });
  }

  /** A key that only one value is supported for; absence means that value. */
  only(key: string, wanted: string | number | boolean, why: string): void {
    const entry = this.entry(key);
    if (!entry) return;
    const { value } = entry;
    if (
      (value.kind === 'text' || value.kind === 'number' || value.kind === 'boolean') &&
      value.value === wanted
    )
      return;
    const kind = typeof wanted === 'string' ? 'text' : typeof wanted;
    if (value.kind !== kind)
      this.wrong(entry, 'wrong-type', JSON.stringify(wanted), `write ${JSON.stringify(wanted)}`);
    else
      this.error({
        code: 'import/unsupported',
        message: `"${key}" is ${showNode(value)}; only ${JSON.stringify(wanted)} can be imported`,
        at: value.span,
        label: why,
        fix: `write such a model in the DSL, or set "${key}" to ${JSON.stringify(wanted)} if the checkpoint was made so`,
      });
  }

  /** A nested object; undefined when it is null, not written, or (then reported) something else. */
  object(key: string): { readonly node: JsonObject; readonly entry: JsonEntry } | undefined {
    const entry = this.entry(key);
    if (!entry || entry.value.kind === 'null') return undefined;
    if (entry.value.kind === 'object') return { node: entry.value, entry };
    return this.wrong(entry, 'wrong-type', 'an object or null', 'write {…} or null');
  }

  /** Two keys that contradict each other. */
  conflict(message: string, at: Read<unknown>, label: string, other: Read<unknown>, fix: string): void {
    const place = at.given ? at : other;
    const notes: DiagnosticNote[] = [at, other]
      .filter((r) => r !== place)
      .map((r) =>
        r.given
          ? { message: `"${r.key}" is ${String(r.value)}`, at: r.at }
          : { message: `"${r.key}" is not written; Hugging Face takes ${String(r.value)}` },
      );
    this.error({
      code: 'import/contradiction',
      message,
      at: place.at,
      label: place === at ? label : `"${other.key}" is ${String(other.value)}`,
      notes,
      fix,
    });
  }

  /** A key that repeats what follows from others; `from` says from which. */
  mustEqual(key: string, value: number, from: string): void {
    const entry = this.entry(key);
    if (!entry || entry.value.kind === 'null') return;
    const read = this.count(key);
    if (read && read.value !== value)
      this.error({
        code: 'import/contradiction',
        message: `"${key}" must be ${from}, which is ${value}`,
        at: read.at,
        label: `this is ${read.value}`,
        fix: `set it to ${value}, or remove it`,
      });
  }

  /** Warns of every key that nothing has asked for. */
  warnUnknown(): void {
    const known = [...this.known];
    for (const { key, keySpan } of this.entries.values()) {
      if (this.known.has(key)) continue;
      const unwritten = known.filter((k) => !this.entries.has(k));
      const near = nearest(key, unwritten);
      this.warn({
        code: 'import/unknown-key',
        message: `"${key}" is not a key that the importer knows${this.inside === '' ? '' : ` in "${this.inside}"`}`,
        at: keySpan,
        label: 'it has no effect on the model file',
        fix:
          near === null
            ? 'remove it, or check that the model does not depend on it'
            : `"${near}" was probably meant`,
      });
    }
  }
}

const numberFix = (node: JsonNode): string =>
  node.kind === 'text' && node.value.trim() !== '' && Number.isFinite(Number(node.value))
    ? `write ${node.value.trim()} without quotes`
    : 'write a number';
