// JSON with places. A config's mistakes are shown with a caret at the key or the value, which JSON.parse cannot give:
// it forgets positions, keeps the last of two equal keys without a word, and names no column on a syntax error. This
// is a strict RFC 8259 reader that gives a tree of nodes, each with its span, and stops at the first syntax error.
import type { Diagnostic } from '../../ir/diagnostics.ts';
import type { Span } from '../../ir/span.ts';

interface Placed {
  readonly span: Span;
}

/** One `"key": value` of an object. */
export interface JsonEntry {
  readonly key: string;
  readonly keySpan: Span;
  readonly value: JsonNode;
}

export type JsonNode =
  | (Placed & { readonly kind: 'object'; readonly entries: readonly JsonEntry[] })
  | (Placed & { readonly kind: 'list'; readonly items: readonly JsonNode[] })
  | (Placed & { readonly kind: 'text'; readonly value: string })
  | (Placed & { readonly kind: 'number'; readonly value: number })
  | (Placed & { readonly kind: 'boolean'; readonly value: boolean })
  | (Placed & { readonly kind: 'null' });

/** Deeper than any config is; keeps hostile input from overflowing the stack. */
const deepest = 100;

/** A syntax error on its way out of the recursion. */
class SyntaxProblem extends Error {
  readonly diagnostic: Diagnostic;
  constructor(diagnostic: Diagnostic) {
    super(diagnostic.message);
    this.diagnostic = diagnostic;
  }
}

const escapes: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
};

class JsonReader {
  private readonly text: string;
  private readonly file: string;
  /** Offset of each line's first character. */
  private readonly lines: readonly number[];
  private at = 0;
  private depth = 0;
  readonly diagnostics: Diagnostic[] = [];

  constructor(text: string, file: string) {
    this.text = text;
    this.file = file;
    const lines = [0];
    for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) lines.push(i + 1);
    this.lines = lines;
    // A byte order mark is what some editors leave; everything else in front of the value is an error.
    if (text.startsWith('\uFEFF')) this.at = 1;
  }

  document(): JsonNode {
    const value = this.value();
    this.space();
    if (this.at < this.text.length)
      this.bad(
        'more text after the end of the object',
        'the file must hold one JSON object and nothing after it',
      );
    return value;
  }

  private place(offset: number): { line: number; column: number } {
    let [low, high] = [0, this.lines.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.lines[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - this.lines[low] + 1 };
  }

  private span(from: number, to = this.at): Span {
    const [start, end] = [this.place(from), this.place(to)];
    return { file: this.file, ...start, endLine: end.line, endColumn: end.column };
  }

  private bad(label: string, fix: string, from = this.at): never {
    const place = this.place(from);
    const at = { file: this.file, ...place, endLine: place.line, endColumn: place.column + 1 };
    throw new SyntaxProblem({
      code: 'import/json',
      severity: 'error',
      message: `${this.file} is not JSON`,
      at,
      label,
      fix,
    });
  }

  private space(): void {
    while (' \t\n\r'.includes(this.text[this.at] ?? 'x')) this.at++;
    if (
      this.text.startsWith('//', this.at) ||
      this.text.startsWith('/*', this.at) ||
      this.text[this.at] === '#'
    )
      this.bad('JSON has no comments', 'remove the comment');
  }

  private value(): JsonNode {
    this.space();
    const from = this.at;
    const c = this.text[from];
    if (c === '{' || c === '[') {
      if (++this.depth > deepest)
        this.bad(`more than ${deepest} levels deep`, 'a config has two or three levels');
      const node = c === '{' ? this.object() : this.list();
      this.depth--;
      return node;
    }
    if (c === '"') return { kind: 'text', value: this.string(), span: this.span(from) };
    const word = /[-+.\w]+/y;
    word.lastIndex = from;
    const found = word.exec(this.text)?.[0];
    if (found === undefined) return this.noValue(c);
    this.at += found.length;
    const span = this.span(from);
    if (found === 'true' || found === 'false') return { kind: 'boolean', value: found === 'true', span };
    if (found === 'null') return { kind: 'null', span };
    if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/.test(found))
      return { kind: 'number', value: Number(found), span };
    const python: Readonly<Record<string, string>> = { True: 'true', False: 'false', None: 'null' };
    const meant = python[found];
    if (meant) return this.bad(`${found} is Python's word`, `write ${meant}`, from);
    if (/^[-+]?(NaN|Infinity|inf|nan)$/.test(found))
      return this.bad('JSON has no infinities and no NaN', 'write a finite number', from);
    if (/^[-+.\d]/.test(found))
      return this.bad(
        'not a number in JSON',
        'write digits, a point with digits on both sides, an exponent',
        from,
      );
    return this.bad('this word means nothing in JSON', 'write text in double quotes', from);
  }

  private noValue(c: string | undefined): never {
    if (c === undefined) return this.bad('the file ends here', 'write a value, and close every { and [');
    if (c === "'") return this.bad('JSON takes double quotes only', 'write "…" instead of \'…\'');
    if (c === '}' || c === ']' || c === ',')
      return this.bad('a value is missing here', 'write a value, or remove the comma');
    return this.bad(
      'no value starts like this',
      'write an object, a list, a text in double quotes, a number, true, false or null',
    );
  }

  /** Steps over a character, or says that it is missing. */
  private closes(close: '}' | ']', what: string): boolean {
    this.space();
    const c = this.text[this.at];
    if (c === close) return (this.at++, true);
    if (c === ',') {
      const comma = this.at++;
      this.space();
      if (this.text[this.at] === close) this.bad(`a comma before ${close}`, 'remove the comma', comma);
      return false;
    }
    return c === undefined
      ? this.bad(`the file ends here, and ${close} is missing`, `close it with ${close}`)
      : this.bad(`',' or '${close}' is missing before this`, `separate ${what} with commas`);
  }

  private object(): JsonNode {
    const from = this.at++;
    const entries: JsonEntry[] = [];
    const seen = new Map<string, Span>();
    this.space();
    if (this.text[this.at] === '}') return (this.at++, { kind: 'object', entries, span: this.span(from) });
    do {
      this.space();
      const start = this.at;
      if (this.text[start] !== '"')
        this.bad(
          this.text[start] === undefined
            ? 'the file ends here, and } is missing'
            : 'a key in double quotes is missing here',
          'write "key": value',
        );
      const key = this.string();
      const keySpan = this.span(start);
      this.space();
      if (this.text[this.at] !== ':') this.bad(`':' is missing after the key`, 'write "key": value');
      this.at++;
      const value = this.value();
      const first = seen.get(key);
      if (first) this.twice(key, keySpan, first);
      else {
        seen.set(key, keySpan);
        entries.push({ key, keySpan, value });
      }
    } while (!this.closes('}', 'keys'));
    return { kind: 'object', entries, span: this.span(from) };
  }

  private list(): JsonNode {
    const from = this.at++;
    const items: JsonNode[] = [];
    this.space();
    if (this.text[this.at] === ']') return (this.at++, { kind: 'list', items, span: this.span(from) });
    do items.push(this.value());
    while (!this.closes(']', 'items'));
    return { kind: 'list', items, span: this.span(from) };
  }

  private string(): string {
    const from = this.at++;
    let out = '';
    for (;;) {
      const c = this.text[this.at];
      if (c === undefined || c === '\n') this.bad('this text has no closing quote', 'close it with "', from);
      if (c < ' ') this.bad('a control character inside a text', 'write it as an escape, like \\t');
      this.at++;
      if (c === '"') return out;
      out += c === '\\' ? this.escape() : c;
    }
  }

  private escape(): string {
    const c = this.text[this.at];
    const known = c === undefined ? undefined : escapes[c];
    if (known !== undefined && Object.hasOwn(escapes, c)) return (this.at++, known);
    const hex = /u([0-9a-fA-F]{4})/y;
    hex.lastIndex = this.at;
    const code = hex.exec(this.text)?.[1];
    if (code === undefined)
      return this.bad(
        'no such escape in JSON',
        'use \\" \\\\ \\/ \\b \\f \\n \\r \\t or \\u and four hex digits',
      );
    this.at += 5;
    return String.fromCharCode(parseInt(code, 16));
  }

  private twice(key: string, at: Span, first: Span): void {
    this.diagnostics.push({
      code: 'import/duplicate-key',
      severity: 'error',
      message: `"${key}" is written twice in one object`,
      at,
      label: 'which of the two counts is not defined',
      notes: [{ message: 'written first here', at: first }],
      fix: 'keep one of them',
    });
  }
}

/**
 * Reads JSON text. `root` is null when the text is not JSON; the diagnostics then hold one `import/json` error with
 * its place. `import/duplicate-key` errors leave the tree with the first of the values.
 */
export function readJson(text: string, file: string): { root: JsonNode | null; diagnostics: Diagnostic[] } {
  const reader = new JsonReader(text, file);
  try {
    return { root: reader.document(), diagnostics: reader.diagnostics };
  } catch (e) {
    if (!(e instanceof SyntaxProblem)) throw e;
    return { root: null, diagnostics: [...reader.diagnostics, e.diagnostic] };
  }
}

/** How a node is called in a message: `"abc"`, `7`, `a list`. */
export function showNode(node: JsonNode): string {
  switch (node.kind) {
    case 'object':
      return 'an object';
    case 'list':
      return 'a list';
    case 'text':
      return JSON.stringify(node.value.length > 40 ? `${node.value.slice(0, 40)}…` : node.value);
    case 'null':
      return 'null';
    default:
      return String(node.value);
  }
}
