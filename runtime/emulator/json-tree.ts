// JSON as a tree in which every value knows its path and its place in the text, so that a mistake in a launch file is
// told where it stands. Numbers keep their spelling: u64 values do not fit a JavaScript number.
// Strict: no key twice, no trailing text, no comments.

/** Where a value stands: `parameters[2].tensorMap.box`, and its characters in the text. */
export interface Place {
  /** Empty for the whole text. */
  readonly path: string;
  /** First character of the value. */
  readonly start: number;
  /** One past its last character. */
  readonly end: number;
}

export type JsonNode =
  | (Place & { readonly kind: 'object'; readonly entries: ReadonlyMap<string, JsonNode> })
  | (Place & { readonly kind: 'list'; readonly items: readonly JsonNode[] })
  | (Place & { readonly kind: 'text'; readonly value: string })
  | (Place & { readonly kind: 'number'; readonly spelling: string })
  | (Place & { readonly kind: 'word'; readonly value: boolean | null });

/** The text is no JSON, from `place` on. */
export class JsonError extends Error {
  readonly place: Place;
  constructor(message: string, place: Place) {
    super(message);
    this.name = 'JsonError';
    this.place = place;
  }
}

/** No launch file nests deeper than a few levels; hostile ones must not overflow the stack. */
const maxDepth = 64;

const space = /[ \t\r\n]*/y;
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const words: Readonly<Record<string, boolean | null>> = { true: true, false: false, null: null };

/** Path of a key inside an object. */
export const keyPath = (path: string, key: string): string => {
  if (!/^[A-Za-z_][\w-]*$/.test(key)) return `${path}[${JSON.stringify(key.slice(0, 80))}]`;
  return path === '' ? key : `${path}.${key}`;
};

/** Parses one JSON value. Throws JsonError at the first character that is wrong. */
export function parseJsonTree(text: string): JsonNode {
  let at = text.startsWith('\ufeff') ? 1 : 0;

  const bad = (message: string, path: string, start = at, end = start + 1): never => {
    throw new JsonError(message, { path, start, end });
  };
  const skipSpace = (): void => {
    space.lastIndex = at;
    space.test(text);
    at = space.lastIndex;
  };
  const shown = (): string => (at < text.length ? JSON.stringify(text[at]) : 'the end of the file');

  const string = (path: string): string => {
    const start = at;
    let end = start + 1;
    while (end < text.length && text[end] !== '"' && text[end] !== '\n') end += text[end] === '\\' ? 2 : 1;
    if (text[end] !== '"') bad('a text has no closing "', path, start);
    at = end + 1;
    try {
      return JSON.parse(text.slice(start, at)) as string;
    } catch {
      return bad('a text holds a control character or an escape that JSON does not know', path, start, at);
    }
  };

  const object = (path: string, depth: number): JsonNode => {
    const start = at++;
    const entries = new Map<string, JsonNode>();
    skipSpace();
    while (text[at] !== '}') {
      if (entries.size > 0) {
        if (text[at] !== ',') bad(`expected , or } but found ${shown()}`, path);
        at++;
        skipSpace();
      }
      const keyStart = at;
      if (text[at] !== '"') bad(`expected a key in quotes but found ${shown()}`, path);
      const key = string(path);
      if (entries.has(key))
        bad(`the key ${JSON.stringify(key.slice(0, 80))} stands twice in one object`, path, keyStart, at);
      skipSpace();
      if (text[at] !== ':') bad(`expected : after the key but found ${shown()}`, path);
      at++;
      entries.set(key, value(keyPath(path, key), depth + 1));
      skipSpace();
    }
    at++;
    return { kind: 'object', entries, path, start, end: at };
  };

  const listOf = (path: string, depth: number): JsonNode => {
    const start = at++;
    const items: JsonNode[] = [];
    skipSpace();
    while (text[at] !== ']') {
      if (items.length > 0) {
        if (text[at] !== ',') bad(`expected , or ] but found ${shown()}`, path);
        at++;
      }
      items.push(value(`${path}[${items.length}]`, depth + 1));
      skipSpace();
    }
    at++;
    return { kind: 'list', items, path, start, end: at };
  };

  const value = (path: string, depth: number): JsonNode => {
    if (depth > maxDepth) bad(`more than ${maxDepth} levels of nesting`, path);
    skipSpace();
    const start = at;
    if (text[at] === '{') return object(path, depth);
    if (text[at] === '[') return listOf(path, depth);
    if (text[at] === '"') return { kind: 'text', value: string(path), path, start, end: at };
    number.lastIndex = at;
    const spelling = number.exec(text)?.[0];
    if (spelling !== undefined) {
      at += spelling.length;
      return { kind: 'number', spelling, path, start, end: at };
    }
    for (const [word, meaning] of Object.entries(words))
      if (text.startsWith(word, at)) {
        at += word.length;
        return { kind: 'word', value: meaning, path, start, end: at };
      }
    return bad(`expected a value but found ${shown()}`, path);
  };

  const root = value('', 0);
  skipSpace();
  if (at < text.length) bad(`expected the end of the file but found ${shown()}`, '');
  return root;
}

/** What a value is, for messages: `a list`, `the text "x"`, `-3`. */
export function showNode(node: JsonNode): string {
  switch (node.kind) {
    case 'object':
      return 'an object';
    case 'list':
      return node.items.length === 0 ? 'an empty list' : `a list of ${node.items.length}`;
    case 'text':
      return `the text ${JSON.stringify(node.value.length <= 60 ? node.value : `${node.value.slice(0, 57)}...`)}`;
    case 'number':
      return node.spelling.slice(0, 60);
    case 'word':
      return String(node.value);
  }
}
