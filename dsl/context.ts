// What is going on while a model file is loaded and traced: where the author stands (call sites), what `--set` asks
// for, and the mistakes found so far. One model is loaded or traced at a time; both are synchronous.
import { DiagnosticError, type Diagnostic, type DiagnosticNote } from '../ir/diagnostics.ts';
import { noSpan, type Span } from '../ir/span.ts';
import { dirname, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Names that the author gives to a call's result: `const q = …`, `const [a, b] = …`, `const { k: v } = …`. */
export type ResultNames = string | readonly (string | null)[] | Readonly<Record<string, string>>;

/** One call expression of the author's file. */
export interface Site {
  readonly span: Span;
  readonly names: ResultNames | null;
  /** Parameter names of the function that is passed in the call. */
  readonly parameters?: readonly string[];
}

/** A block being traced: for "in moe_layer, called here". */
export interface Frame {
  readonly block: string;
  readonly called: Span;
}

/** What an author may change with `--set`. */
export interface Setting {
  readonly name: string;
  readonly kind: 'dim' | 'option' | 'bound' | 'deployment';
  /** As written in the model. */
  readonly declared: number | string | boolean;
  /** After `--set`. */
  readonly value: number | string | boolean;
  readonly at: Span;
}

const state = {
  sites: [] as Site[],
  frames: [] as Frame[],
  sink: null as Diagnostic[] | null,
  /** A reported mistake made a NaN: later ones are probably the same. */
  nan: false,
  settings: new Map<string, string>() as ReadonlyMap<string, string>,
  declared: null as Map<string, Setting> | null,
  /** Files that were rewritten: from a place in what runs to a place in what the author wrote. */
  mappers: new Map<string, (line: number, column: number) => Span | null>(),
};

export interface CollectOptions {
  readonly settings?: ReadonlyMap<string, string>;
  /** Collects what may be set; without it declarations are not recorded. */
  readonly declared?: Map<string, Setting>;
}

/**
 * Runs `body` with mistakes collected instead of thrown, and gives back what it returns and what was found.
 * What else `body` throws passes through with the call sites as they were when it was thrown (see `thrownAt`).
 */
export function collecting<T>(
  options: CollectOptions,
  body: () => T,
): { value: T; diagnostics: Diagnostic[] } {
  const before = { ...state };
  const diagnostics: Diagnostic[] = [];
  Object.assign(state, {
    sites: [],
    frames: [],
    sink: diagnostics,
    nan: false,
    settings: options.settings ?? before.settings,
    declared: options.declared ?? before.declared,
  });
  try {
    return { value: body(), diagnostics };
  } finally {
    Object.assign(state, before);
  }
}

/** Enters a call of the author's: evaluated after its arguments, as the spread of an empty list. */
export function enterSite(site: Site): readonly never[] {
  state.sites.push(site);
  return nothing;
}
const nothing: readonly never[] = Object.freeze([]) as readonly never[];

/** Leaves a call; sites above it are left over from calls that threw. */
export function leaveSite(site: Site): void {
  while (state.sites.length > 0 && state.sites.pop() !== site);
}

/** Forgets the call sites above `depth`: after an exception was caught. */
export const siteDepth = (): number => state.sites.length;
export const unwindSites = (depth: number): void =>
  void (state.sites.length = Math.min(state.sites.length, depth));

/** The author's call that is being evaluated. */
export function currentSpan(): Span {
  return state.sites.at(-1)?.span ?? spanOfStack(new Error().stack ?? '') ?? noSpan;
}

/** Parameter names of the function passed in the author's current call, as the author wrote them. */
export const writtenParameters = (): readonly string[] | null => state.sites.at(-1)?.parameters ?? null;

export const frames = (): readonly Frame[] => state.frames;

/** Runs `body` as the trace of a block. */
export function inFrame<T>(frame: Frame, body: () => T): T {
  state.frames.push(frame);
  try {
    return body();
  } finally {
    state.frames.pop();
  }
}

export const addMapper = (file: string, map: (line: number, column: number) => Span | null): void =>
  void state.mappers.set(file, map);
export const removeMapper = (file: string): void => void state.mappers.delete(file);

const here = dirname(fileURLToPath(import.meta.url));

/** The first place of a stack trace that is the author's: neither this library nor Node's own. */
export function spanOfStack(stack: string): Span | null {
  for (const line of stack.split('\n')) {
    const m = /(?:\(|at )(?:async )?((?:file:\/\/)?[^()]+):(\d+):(\d+)\)?$/.exec(line);
    if (!m) continue;
    const file = m[1].startsWith('file://') ? fileURLToPath(m[1]) : m[1];
    const [row, column] = [Number(m[2]), Number(m[3])];
    const mapper = state.mappers.get(file);
    if (mapper) {
      const mapped = mapper(row, column);
      if (mapped) return mapped;
      continue;
    }
    if (file.startsWith('node:') || file.includes('node_modules')) continue;
    if (file.startsWith(here) && !file.endsWith('.test.ts')) continue;
    const shown = relative(process.cwd(), file);
    return { file: shown, line: row, column, endLine: row, endColumn: column + 1 };
  }
  return null;
}

/** Reports a mistake of the author's: collected, or thrown when nobody collects. */
export function report(
  d: Omit<Diagnostic, 'severity'> & { readonly severity?: Diagnostic['severity'] },
): void {
  const chain = state.frames
    .toReversed()
    .map((f): DiagnosticNote => ({ message: `in ${f.block}, called here`, at: f.called }));
  const notes = [...(d.notes ?? []), ...chain];
  const at = d.at ?? currentSpan();
  const full: Diagnostic = { severity: 'error', ...d, at, ...(notes.length > 0 ? { notes } : {}) };
  if (!state.sink) throw new DiagnosticError([full]);
  const key = (x: Diagnostic): string => JSON.stringify([x.code, x.at, x.message]);
  if (!state.sink.some((x) => key(x) === key(full))) state.sink.push(full);
}

/** Mistakes collected so far. */
export const mistakeCount = (): number => state.sink?.length ?? 0;

/** Notes that a reported mistake gave NaN where the author meant a number. */
export const noteNaN = (): void => void (state.nan = true);
/** True when a NaN follows from a mistake that was reported. */
export const nanReported = (): boolean => state.nan && mistakeCount() > 0;

/** What `--set` says for a name, or undefined. */
export const settingOf = (name: string): string | undefined => state.settings.get(name);

/** Records that a name can be set. Two declarations of one name must agree. */
export function declareSetting(setting: Setting): void {
  const known = state.declared?.get(setting.name);
  if (known && (known.kind !== setting.kind || known.declared !== setting.declared))
    report({
      code: 'dsl/declared-twice',
      message: `${setting.kind} '${setting.name}' is declared twice, as ${String(known.declared)} and as ${String(setting.declared)}`,
      at: setting.at,
      notes: [{ message: 'first declared here', at: known.at }],
      fix: 'give one of the two another name',
    });
  else state.declared?.set(setting.name, setting);
}
