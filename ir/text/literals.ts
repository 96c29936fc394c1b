// What single tokens mean: numbers, strings, places, and types once their parts are read. Mistakes are reported
// through `find` and answered with a stand-in, so that the rest of the line is still read.
import type { IToken } from 'chevrotain';
import { dtypes, type DType } from '../formats/dtypes.ts';
import { noSpan, type Span } from '../span.ts';
import { tensor, type Dim, type ScaleFormat, type ScaleLevel, type Type } from '../types.ts';
import type { Finding } from './lines.ts';
import { clip, didYouMean } from './spelling.ts';

export type Find = (finding: Finding) => void;

const scaleFormats: readonly string[] = ['f32', 'pow2', 'ue8m0'] satisfies ScaleFormat[];
const typeWords: readonly string[] = [...dtypes, 'positions', 'routing', 'state'];

export function naturalNumber(token: IToken, find: Find): number {
  const value = Number(token.image);
  if (!/^\d+$/.test(token.image) || !Number.isSafeInteger(value)) {
    const message = `expected a natural number, but found ${clip(token.image)}`;
    find({
      code: 'ir/syntax',
      message,
      from: token,
      to: token,
      fix: 'sizes and counts are whole, at most 2^53 − 1',
    });
  }
  return value;
}

export function numberOf(token: IToken, find: Find): number {
  if (token.image === '-inf') return -Infinity;
  const value = Number(token.image);
  if (!Number.isFinite(value)) {
    const message = `${clip(token.image)} is beyond the largest number`;
    find({ code: 'ir/syntax', message, from: token, to: token, fix: `write ${value < 0 ? '-inf' : 'inf'}` });
  }
  return value;
}

/** A string literal's text; the empty string, reported, when its quotes or escapes are wrong. */
export function stringOf(token: IToken, find: Find): string {
  const { image } = token;
  try {
    const text: unknown = JSON.parse(image);
    if (typeof text === 'string') return text;
  } catch {
    // Reported below: which part of the literal is wrong does not change what to do about it.
  }
  const ended = image.length > 1 && image.endsWith('"');
  find({
    code: 'ir/syntax',
    message: ended
      ? 'this string has an escape or a character that JSON strings do not have'
      : 'this string does not end',
    from: token,
    to: token,
    fix: ended ? 'strings use JSON\'s escapes: \\n \\t \\" \\\\ \\u00e9' : 'close it with " on the same line',
  });
  return '';
}

const place = /^at[ \t]+("(?:[^"\\]|\\.)*"|[^\s":]+):(\d{1,9}):(\d{1,9})-(?:(\d{1,9}):)?(\d{1,9})$/;

/** `at file:line:column-end`; noSpan, reported, when it is something else. */
export function placeOf(token: IToken, find: Find): Span {
  const match = place.exec(token.image);
  const file = match && fileOf(match[1]);
  if (!match || !file) {
    find({
      code: 'ir/syntax',
      message: 'this is no place in a file',
      from: token,
      to: token,
      fix: 'write `at file:line:column-endColumn` or `at file:line:column-endLine:endColumn` (quote a file with blanks or colons)',
    });
    return noSpan;
  }
  const line = Number(match[2]);
  const endLine = match[4] === undefined ? line : Number(match[4]);
  return { file, line, column: Number(match[3]), endLine, endColumn: Number(match[5]) };
}

function fileOf(text: string): string | null {
  if (!text.startsWith('"')) return text;
  try {
    return String(JSON.parse(text));
  } catch {
    return null;
  }
}

/** One level of scaling, from `1x128` and `f32`. */
export function scaleLevel(tile: IToken, format: IToken, find: Find): ScaleLevel | null {
  const parts = tile.image.split('x');
  const lengths = parts.map((t) => (t === '*' ? 0 : Number(t)));
  if (!lengths.every((n, i) => parts[i] === '*' || (Number.isSafeInteger(n) && n > 0))) {
    const fix = 'a tile is positive lengths or *: 1x128, *x128';
    find({ code: 'ir/type', message: `${clip(tile.image)} is no tile`, from: tile, to: tile, fix });
    return null;
  }
  if (!scaleFormats.includes(format.image)) {
    const fix = didYouMean(format.image, scaleFormats) ?? `use one of ${scaleFormats.join(', ')}`;
    find({
      code: 'ir/type',
      message: `there is no scale format ${clip(format.image)}`,
      from: format,
      to: format,
      fix,
    });
    return null;
  }
  return { tile: lengths, format: format.image as ScaleFormat };
}

const structured: Readonly<Record<string, readonly string[]>> = {
  positions: ['tokens', 'keys', 'sequences', 'outputs'],
  routing: ['tokens', 'experts', 'top', 'slots'],
};

/** The type that starts with the word `from` and ends with the bracket `to`; null, reported, when there is none. */
export function typeOf(
  from: IToken,
  to: IToken,
  scales: readonly ScaleLevel[],
  dims: readonly Dim[],
  find: Find,
): Type | null {
  const word = from.image;
  if (word === 'positions' || word === 'routing') {
    const [a, b, c, d] = dims;
    if (scales.length === 0 && dims.length === 4)
      return word === 'positions'
        ? { kind: 'positions', tokens: a, keys: b, sequences: c, outputs: d }
        : { kind: 'routing', tokens: a, experts: b, top: c, slots: d };
    const what = scales.length > 0 ? 'has no scales' : `has 4 dims, but here are ${dims.length}`;
    const fix = `write ${word}[${structured[word].join(', ')}]`;
    find({ code: 'ir/type', message: `${word} ${what}`, from, to, fix });
    return null;
  }
  if (!dtypes.includes(word as DType)) {
    const fix = didYouMean(word, typeWords) ?? `types start with ${typeWords.join(', ')}`;
    find({ code: 'ir/type', message: `there is no type ${clip(word)}`, from, to: from, fix });
    return null;
  }
  const odd = scales.find((level) => level.tile.length !== dims.length);
  if (odd) {
    const message = `a tile of rank ${odd.tile.length} on a tensor of rank ${dims.length}`;
    find({ code: 'ir/type', message, from, to, fix: 'give one tile length per axis, * for the whole axis' });
    return null;
  }
  return tensor(word as DType, dims, scales);
}
