// Dims and options as an author declares them. Each `dim` and `option` can be changed with `--set name=value`.
import type { Dim, NamesOf, Product, Sum } from './axes.ts';
import { currentSpan, declareSetting, nanReported, report, settingOf } from './context.ts';
import { toPrimitive } from './operators.ts';
import { describe } from './words.ts';

/** A finished dim. Its conversion is not enumerable: copies and comparisons of dims see plain data. */
function frozen<D extends Dim>(d: D): D {
  const convert = (hint: string): string | number =>
    toPrimitive(hint, 'dims', () => `dim '${d.name}'`, `compute with its size: ${d.name}.size`);
  return Object.freeze(Object.defineProperty(d, Symbol.toPrimitive, { value: convert }));
}

/** Names with a meaning of their own: the run-time axes of every entry. */
export const reservedDims = ['tokens', 'keys', 'sequences', 'outputs', 'cached', 'batch'] as const;

const namePattern = /^[A-Za-z_][A-Za-z0-9_.@*+]*$/;

function checkName(what: string, name: unknown): void {
  if (typeof name !== 'string' || !namePattern.test(name))
    report({
      code: 'dsl/bad-name',
      message: `a ${what} needs a name made of letters, digits, _ . * + @ and not starting with a digit`,
      label: `this is ${describe(name)}`,
      fix: `write it like 'hidden' or 'heads*v'`,
    });
}

/** A whole number from 1 up, or a reported mistake and 1. */
export function checkSize(what: string, size: unknown, setBy?: string): number {
  if (typeof size === 'number' && Number.isSafeInteger(size) && size >= 1) return size;
  if (Number.isNaN(size) && nanReported()) return 1;
  report({
    code: 'dsl/bad-size',
    message: `${what} must be a whole number from 1 up`,
    label: setBy === undefined ? `this is ${describe(size)}` : `--set ${setBy} makes it ${describe(size)}`,
    fix: 'give the number of elements along the axis',
  });
  return 1;
}

/** What `--set` says, as a number; reports text that is none. */
function setNumber(name: string, declared: number): number {
  const text = settingOf(name);
  if (text === undefined) return declared;
  const value = /^[-+]?(\d[\d_]*(\.\d*)?|\.\d+)(e[-+]?\d+)?$/i.test(text.trim())
    ? Number(text.replaceAll('_', ''))
    : NaN;
  if (Number.isFinite(value)) return value;
  report({
    code: 'dsl/bad-setting',
    message: `--set ${name}=${text}: '${name}' takes a number`,
    label: `declared here as ${declared}`,
    fix: `write --set ${name}=${declared}`,
  });
  return declared;
}

/**
 * A named axis of a known size: `dim('hidden', 7168)`. The name must be a literal, so that tensor types can hold it.
 * Reports `dsl/bad-size`, `dsl/bad-name`, `dsl/reserved-name`, `dsl/declared-twice`, `dsl/bad-setting`.
 */
export function dim<const N extends string>(name: N, size: number): Dim<N, 'static'> {
  checkName('dim', name);
  if ((reservedDims as readonly string[]).includes(name))
    report({
      code: 'dsl/reserved-name',
      message: `'${name}' is a run-time axis; its size comes with each call`,
      fix: `import ${name} from 'dsvc', or choose another name`,
    });
  const set = setNumber(name, size);
  const value = checkSize(
    `dim '${name}'`,
    set,
    settingOf(name) === undefined ? undefined : `${name}=${settingOf(name)}`,
  );
  declareSetting({ name, kind: 'dim', declared: size, value, at: currentSpan() });
  return frozen({ name, kind: 'static', size: value });
}

/** A dim whose size follows from others and cannot be set by itself. */
export const derivedDim = <const N extends string>(name: N, size: number): Dim<N, 'static'> =>
  frozen({ name, kind: 'static', size });

const symbolicDim = <const N extends string>(name: N): Dim<N, 'symbolic'> =>
  frozen({ name, kind: 'symbolic', size: null });

/** Tokens of one call: of all sequences, laid one after the other. */
export const tokens = symbolicDim('tokens');
/** What attention looks along: the call's own tokens (prefill) or the cache's rows (decode). */
export const keys = symbolicDim('keys');
/** Sequences of one call. */
export const sequences = symbolicDim('sequences');
/** Tokens whose logits are wanted. */
export const outputs = symbolicDim('outputs');
/** Rows of a cache. */
export const cached = symbolicDim('cached');

function checkParts(what: 'sum' | 'product', name: string, parts: readonly Dim[]): void {
  checkName(what, name);
  const bad = parts.findIndex((p) => p?.kind !== 'static');
  if (parts.length < 2 || bad >= 0)
    report({
      code: 'dsl/bad-parts',
      message: `${what} '${name}' needs at least two dims of known size`,
      label:
        bad >= 0
          ? `part ${bad + 1} is ${parts[bad]?.name ? `the run-time axis '${parts[bad].name}'` : describe(parts[bad])}`
          : 'too few parts',
      fix: `write it like ${what}('${what === 'sum' ? 'qk' : 'heads*v'}', ${what === 'sum' ? 'nope, rope' : 'heads, v'})`,
    });
  const names = parts.map((p) => p?.name);
  const twice = names.find((n, i) => n !== undefined && names.indexOf(n) !== i);
  if (twice !== undefined)
    report({
      code: 'dsl/bad-parts',
      message: `${what} '${name}' names '${twice}' twice`,
      fix: 'declare a second dim of the same size under another name',
    });
}

/** One axis made of several laid one after the other: `sum('qk', nope, rope)`. `split` takes it apart, `concat` makes it. */
export function sum<const N extends string, const D extends readonly Dim<string, 'static'>[]>(
  name: N,
  ...parts: D
): Sum<N, NamesOf<D>> {
  checkParts('sum', name, parts);
  const size = parts.reduce((n, p) => n + (p?.size ?? 1), 0);
  return frozen({ name, kind: 'static', size, parts }) as unknown as Sum<N, NamesOf<D>>;
}

/** One axis made of several merged row-major: `product('heads*v', heads, v)`. `merge` makes it, `unmerge` takes it apart. */
export function product<const N extends string, const D extends readonly Dim<string, 'static'>[]>(
  name: N,
  ...factors: D
): Product<N, NamesOf<D>> {
  checkParts('product', name, factors);
  const size = factors.reduce((n, p) => n * (p?.size ?? 1), 1);
  return frozen({ name, kind: 'static', size, factors }) as unknown as Product<N, NamesOf<D>>;
}

/**
 * A number, text or truth value that `--set name=value` can change: `option('layers', 61)`. It keeps the type of its
 * default. Reports `dsl/bad-setting` when the text given is of another type, and `dsl/bad-option` for other defaults.
 */
export function option(name: string, value: number): number;
export function option(name: string, value: boolean): boolean;
export function option(name: string, value: string): string;
export function option<const S extends string>(name: string, value: NoInfer<S>, oneOf: readonly S[]): S;
export function option(
  name: string,
  declared: number | string | boolean,
  oneOf?: readonly string[],
): number | string | boolean {
  checkName('option', name);
  const text = settingOf(name);
  const wrong = (wanted: string): void =>
    report({
      code: 'dsl/bad-setting',
      message: `--set ${name}=${text}: '${name}' takes ${wanted}`,
      label: `declared here as ${String(declared)}`,
      fix: `write --set ${name}=${String(oneOf?.[0] ?? declared)}`,
    });
  let value = declared;
  if (typeof declared === 'number') value = setNumber(name, declared);
  else if (typeof declared === 'boolean') {
    if (text === 'true' || text === 'false') value = text === 'true';
    else if (text !== undefined) wrong('true or false');
  } else if (typeof declared === 'string') {
    if (text !== undefined && oneOf && !oneOf.includes(text)) wrong(`one of ${oneOf.join(', ')}`);
    else value = text ?? declared;
  } else
    report({
      code: 'dsl/bad-option',
      message: `option '${name}' needs a number, a text or true/false as its default`,
      label: `this is ${describe(declared)}`,
    });
  if (typeof value === 'number' && !Number.isFinite(value))
    report({ code: 'dsl/bad-option', message: `option '${name}' must be finite`, label: `this is ${value}` });
  declareSetting({ name, kind: 'option', declared, value, at: currentSpan() });
  return value;
}
