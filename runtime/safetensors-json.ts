// JSON from files that nobody vouches for: strict UTF-8, an object at the top, no key twice. JSON.parse keeps the
// last of two equal keys without a word, which would let one tensor silently replace another.
import { FormatError, quote, reason } from './safetensors-error.ts';

export interface StrictJson {
  readonly value: Readonly<Record<string, unknown>>;
  /** Bytes from the start of the text to the key of a top-level entry; undefined if there is none. */
  readonly offsetOf: (key: string) => number | undefined;
}

/**
 * Parses an object. `area` is the first part of error codes, `base` the offset of `bytes` in the file.
 * Throws FormatError `<area>/utf8`, `/json`, `/not-an-object`, `/duplicate-name`.
 */
export function parseStrictJson(bytes: Uint8Array, file: string, area: string, base: number): StrictJson {
  const bad = (code: string, message: string, byteOffset: number, cause?: unknown): never => {
    throw new FormatError({ code: `${area}/${code}`, file, message, byteOffset, cause });
  };
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    return bad('utf8', 'the header is not UTF-8', base, error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return bad('json', `the header is not JSON: ${reason(error).slice(0, 200)}`, base, error);
  }
  if (!isRecord(value)) return bad('not-an-object', 'the header is JSON, but not an object', base);
  const offset = (index: number): number => base + Buffer.byteLength(text.slice(0, index));
  const top = scanKeys(text, (key, index) =>
    bad('duplicate-name', `the name ${quote(key)} stands twice in one object`, offset(index)),
  );
  return {
    value,
    offsetOf: (key) => {
      const index = top.get(key);
      return index === undefined ? undefined : offset(index);
    },
  };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Walks text that JSON.parse has accepted and returns the top-level keys with their positions. Without recursion:
 * nesting as deep as the file is long must not overflow the stack.
 */
function scanKeys(text: string, onDuplicate: (key: string, index: number) => void): Map<string, number> {
  const top = new Map<string, number>();
  // One entry per open bracket: the keys seen in an object, null in an array.
  const open: (Map<string, number> | null)[] = [];
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 0x7b) open.push(open.length === 0 ? top : new Map());
    else if (c === 0x5b) open.push(null);
    else if (c === 0x7d || c === 0x5d) open.pop();
    else if (c === 0x22) {
      const start = i;
      i++;
      while (text.charCodeAt(i) !== 0x22) i += text.charCodeAt(i) === 0x5c ? 2 : 1;
      const keys = open.at(-1);
      if (keys && isFollowedByColon(text, i + 1)) {
        // Two spellings of one key (escapes) are one key.
        const key = JSON.parse(text.slice(start, i + 1)) as string;
        if (keys.has(key)) onDuplicate(key, start);
        keys.set(key, start);
      }
    }
  }
  return top;
}

function isFollowedByColon(text: string, index: number): boolean {
  for (let i = index; ; i++) {
    const c = text.charCodeAt(i);
    if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return c === 0x3a;
  }
}
