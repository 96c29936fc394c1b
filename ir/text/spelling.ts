// How names, numbers, strings and places are spelled in IR text: what the printer writes and the parser accepts
// without quotes. No parser is imported here, so that printing stays cheap to load.
import type { Attribute } from '../module.ts';
import type { Span } from '../span.ts';

/** Names of values, functions, states, fields, attributes and ops. */
export const isIdentifier = (text: string): boolean => /^[A-Za-z_][A-Za-z0-9_.]*$/.test(text);

/** Dim names may also hold `@`, `*` and `+`: `heads*v`, `slots@experts`. */
export const isDimName = (text: string): boolean => /^[A-Za-z_][A-Za-z0-9_.@*+]*$/.test(text);

/** The only words that mean something else than themselves as an attribute's value. */
export const valueWords: ReadonlyMap<string, Attribute> = new Map<string, Attribute>([
  ['true', true],
  ['false', false],
  ['inf', Infinity],
  ['nan', NaN],
]);

/** Bare when it reads back as itself, else with JSON's quotes and escapes. */
export const spellString = (text: string): string =>
  isIdentifier(text) && !valueWords.has(text) ? text : JSON.stringify(text);

/** The shortest form that reads back the same; JavaScript has it, except for −0 and the names of the specials. */
export function spellNumber(value: number): string {
  if (Object.is(value, -0)) return '-0';
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

export function spellAttribute(value: Attribute): string {
  if (typeof value === 'number') return spellNumber(value);
  if (typeof value === 'string') return spellString(value);
  if (typeof value === 'boolean') return String(value);
  return `[${value.map(spellAttribute).join(', ')}]`;
}

/** `file:line:column-end`; the file in quotes when it holds spaces, quotes, colons or control characters. */
export function spellSpan(span: Span): string {
  const file = /^[^\s"=:\u0000-\u001f\u007f][^\s":\u0000-\u001f\u007f]*$/.test(span.file)
    ? span.file
    : JSON.stringify(span.file);
  const end = span.endLine === span.line ? `${span.endColumn}` : `${span.endLine}:${span.endColumn}`;
  return `${file}:${span.line}:${span.column}-${end}`;
}

/** ` at file:line:column-end` as it ends a line; nothing when there is no place. */
export const spellPlace = (span: Span): string => (span.file === '' ? '' : ` at ${spellSpan(span)}`);

const longestCompared = 64;

/**
 * The candidate that a misspelled name most likely meant: fewest insertions, deletions, replacements and swaps of
 * neighbours, about a third of the name's length at most; the first wins a tie. Null when none is near.
 */
export function nearest(name: string, candidates: Iterable<string>): string | null {
  if (name.length < 2 || name.length > longestCompared) return null;
  let best: string | null = null;
  // One letter is not much to go by: every other letter would be near it.
  let limit = Math.floor((name.length + 1) / 3);
  for (const candidate of candidates) {
    if (candidate === name || Math.abs(candidate.length - name.length) > limit) continue;
    const distance = editDistance(name, candidate, limit);
    if (distance > limit || (best !== null && distance === limit)) continue;
    best = candidate;
    limit = distance;
    if (distance <= 1) break;
  }
  return best;
}

/** Optimal string alignment distance; any number above `limit` once it is known to exceed it. */
function editDistance(a: string, b: string, limit: number): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let d = Math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        d = Math.min(d, before[j - 2] + 1);
      row.push(d);
      if (d < least) least = d;
    }
    if (least > limit) return least;
    before = previous;
    previous = row;
  }
  return previous[b.length];
}

/** ` did you mean …?` as a fix, or null. */
export function didYouMean(
  name: string,
  candidates: Iterable<string>,
  spell = (s: string): string => s,
): string | null {
  const found = nearest(name, candidates);
  return found === null ? null : `did you mean ${spell(found)}?`;
}

/** A word in a message: long ones are cut. */
export const clip = (text: string): string => (text.length > 40 ? `${text.slice(0, 40)}…` : text);
