// Gives every call of the author's its place and its variable's name. On the bundled JavaScript `f(a, b)` becomes
// `leave(s, f(a, b, ...enter(s)))`: the spread of an empty list runs after the arguments and just before the call, so
// that while `f` runs the top of the site stack is this call. Nothing is wrapped in a function: `this`, `await`,
// `yield` and exceptions behave as before. Places come from the bundle's source map, names from the source itself.
//
// acorn (no dependencies, 15 ms to load) parses what esbuild printed; importing ts-morph for the same would take half
// a second, and TypeScript 7 has no stable API yet.
import { parse, type Node } from 'acorn';
import { SourceMap } from 'node:module';
import type { Span } from '../ir/span.ts';
import type { ResultNames, Site } from './context.ts';

export interface TagInput {
  readonly code: string;
  /** Source map of `code`, as JSON. */
  readonly map: string;
  /** Text of an original file by the name that the map gives it; undefined for files that are not the author's. */
  readonly sourceOf: (name: string) => string | undefined;
  /** Name of an original file as spans show it. */
  readonly shownAs: (name: string) => string;
  /** Names of the two functions in the tagged code. */
  readonly enter: string;
  readonly leave: string;
}

export interface Tagged {
  readonly code: string;
  readonly sites: readonly Site[];
  /** From a place in the tagged code (both from 1) to the author's. */
  readonly spanAt: (line: number, column: number) => Span | null;
}

/** Any syntax node, looked at without a full type per kind. */
interface AnyNode extends Node {
  readonly [key: string]: unknown;
}

interface Insertion {
  readonly offset: number;
  readonly text: string;
}

export function tagCalls(input: TagInput): Tagged {
  const { code } = input;
  const tree = parse(code, { ecmaVersion: 2024, sourceType: 'script', allowReturnOutsideFunction: true });
  const places = new Places(input);
  const sites: Site[] = [];
  const insertions: (Insertion & { readonly opens: boolean })[] = [];
  visit(tree as unknown as AnyNode, null, false, (call, parent) => {
    const span = places.spanOf(call);
    if (!span) return;
    const names = places.namesFor(call, parent);
    const parameters = places.parametersOf(call);
    const id = sites.push({ span, names, ...(parameters ? { parameters } : {}) }) - 1;
    const list = (call.arguments as readonly unknown[]).length === 0 ? '' : ', ';
    insertions.push({ offset: call.start, text: `${input.leave}(${id}, `, opens: true });
    insertions.push({ offset: call.end - 1, text: `${list}...${input.enter}(${id})`, opens: false });
    insertions.push({ offset: call.end, text: ')', opens: false });
  });
  // Inner calls are visited first. At one place (`f(x).g(y)`, `f(g(x))`) the outer opening must stand before the inner
  // one, and the inner closing before what the outer call gets.
  const ordered = insertions
    .map((x, i) => ({ ...x, i }))
    .sort((a, b) => a.offset - b.offset || (a.opens && b.opens ? b.i - a.i : a.i - b.i));
  return {
    code: insert(code, ordered),
    sites,
    spanAt: (line, column) => places.unshifted(ordered, line, column),
  };
}

function insert(code: string, insertions: readonly Insertion[]): string {
  const parts: string[] = [];
  let from = 0;
  for (const { offset, text } of insertions) {
    parts.push(code.slice(from, offset), text);
    from = offset;
  }
  parts.push(code.slice(from));
  return parts.join('');
}

const isNode = (v: unknown): v is AnyNode =>
  typeof v === 'object' && v !== null && typeof (v as AnyNode).type === 'string';

/** Visits calls, inner ones first. `chained`: inside an optional chain, where wrapping would undo `?.`. */
function visit(
  node: AnyNode,
  parent: AnyNode | null,
  chained: boolean,
  found: (call: AnyNode, parent: AnyNode | null) => void,
): void {
  for (const [key, value] of Object.entries(node)) {
    // The chain goes down along callee and object; arguments and computed keys are expressions of their own.
    const spine = key === 'callee' || key === 'object';
    const inChain = node.type === 'ChainExpression' || (chained && spine);
    for (const child of Array.isArray(value) ? value : [value])
      if (isNode(child)) visit(child, node, inChain, found);
  }
  const callee = node.callee as AnyNode | undefined;
  if (node.type === 'CallExpression' && !chained && callee?.type !== 'Super') found(node, parent);
}

/** Places and words of the original files. */
class Places {
  private readonly input: TagInput;
  private readonly map: SourceMap;
  private readonly lineStarts: readonly number[];
  private readonly lines = new Map<string, readonly string[]>();

  constructor(input: TagInput) {
    this.input = input;
    this.map = new SourceMap(JSON.parse(input.map));
    this.lineStarts = startsOf(input.code);
  }

  private lineOf(file: string, line: number): string | undefined {
    let lines = this.lines.get(file);
    if (!lines) this.lines.set(file, (lines = this.input.sourceOf(file)?.split('\n') ?? []));
    return lines[line];
  }

  /** Original place of a generated offset, from 0. `exact`: only where the map has an entry for that very place. */
  private original(offset: number, exact: boolean): { file: string; line: number; column: number } | null {
    const line = lineAt(this.lineStarts, offset);
    return this.originalAt(line, offset - this.lineStarts[line], exact);
  }

  private originalAt(
    line: number,
    column: number,
    exact: boolean,
  ): { file: string; line: number; column: number } | null {
    const entry = this.map.findEntry(line, column);
    if (!('originalSource' in entry) || entry.originalSource === undefined) return null;
    if (entry.generatedLine !== line || (exact && entry.generatedColumn !== column)) return null;
    if (this.input.sourceOf(entry.originalSource) === undefined) return null;
    // Of a statement esbuild maps the start of its indentation to the start of its text.
    const from = this.lineStarts[line] + entry.generatedColumn;
    const between = this.input.code.slice(from, this.lineStarts[line] + column);
    const extra = between.trim() === '' ? 0 : between.length;
    return { file: entry.originalSource, line: entry.originalLine, column: entry.originalColumn + extra };
  }

  spanOf(call: AnyNode): Span | null {
    const start = this.original(call.start, true) ?? this.original(call.start, false);
    const close = this.original(call.end - 1, true);
    if (!start) return null;
    const end =
      close && close.file === start.file && close.line >= start.line
        ? close
        : { ...start, column: this.wordEnd(start) - 1 };
    return {
      file: this.input.shownAs(start.file),
      line: start.line + 1,
      column: start.column + 1,
      endLine: end.line + 1,
      endColumn: end.column + 2,
    };
  }

  private wordEnd(at: { file: string; line: number; column: number }): number {
    const text = this.lineOf(at.file, at.line) ?? '';
    return at.column + (/^[\w$.]+/.exec(text.slice(at.column))?.[0].length ?? 1);
  }

  /** The word that the author wrote where `node` is: esbuild renames variables that clash. */
  private word(node: unknown): string | null {
    if (!isNode(node)) return null;
    if (node.type === 'AssignmentPattern') return this.word(node.left);
    if (node.type !== 'Identifier') return null;
    const at = this.original(node.start, true);
    const text = at && this.lineOf(at.file, at.line)?.slice(at.column);
    return (text && /^[\p{ID_Start}$_][\p{ID_Continue}$]*/u.exec(text)?.[0]) || String(node.name);
  }

  namesFor(call: AnyNode, parent: AnyNode | null): ResultNames | null {
    if (parent?.type === 'VariableDeclarator' && parent.init === call) return this.pattern(parent.id);
    if (parent?.type === 'AssignmentExpression' && parent.right === call) return this.pattern(parent.left);
    if (
      parent?.type === 'Property' &&
      parent.value === call &&
      parent.computed !== true &&
      isNode(parent.key) &&
      parent.key.type === 'Identifier'
    )
      return String(parent.key.name);
    return null;
  }

  private pattern(node: unknown): ResultNames | null {
    if (!isNode(node)) return null;
    if (node.type === 'ArrayPattern') return (node.elements as readonly unknown[]).map((e) => this.word(e));
    if (node.type !== 'ObjectPattern') return this.word(node);
    const names: Record<string, string> = {};
    for (const p of node.properties as readonly AnyNode[]) {
      const key = p.key as AnyNode | undefined;
      const word = this.word(p.value);
      if (key?.type === 'Identifier' && word) names[String(key.name)] = word;
    }
    return names;
  }

  /** Parameter names of the function that is passed in the call: a block's argument names. */
  parametersOf(call: AnyNode): readonly string[] | null {
    const f = (call.arguments as readonly AnyNode[]).find(
      (a) => a.type === 'ArrowFunctionExpression' || a.type === 'FunctionExpression',
    );
    return f ? (f.params as readonly AnyNode[]).map((p) => this.word(p) ?? '') : null;
  }

  /** The author's place of a place in the tagged code. */
  unshifted(insertions: readonly Insertion[], line: number, column: number): Span | null {
    const start = this.lineStarts[line - 1];
    if (start === undefined) return null;
    const end = this.lineStarts[line] ?? Infinity;
    let at = column - 1;
    for (const { offset, text } of insertions) {
      if (offset < start || offset >= end) continue;
      if (offset - start >= at) break;
      // A place inside an inserted text belongs to what follows it.
      at = Math.max(at - text.length, offset - start);
    }
    const found = this.originalAt(line - 1, at, false);
    if (!found) return null;
    const width = this.wordEnd(found) - found.column;
    return {
      file: this.input.shownAs(found.file),
      line: found.line + 1,
      column: found.column + 1,
      endLine: found.line + 1,
      endColumn: found.column + 1 + width,
    };
  }
}

function startsOf(text: string): readonly number[] {
  const starts = [0];
  for (let i = text.indexOf('\n'); i >= 0; i = text.indexOf('\n', i + 1)) starts.push(i + 1);
  return starts;
}

function lineAt(starts: readonly number[], offset: number): number {
  let [low, high] = [0, starts.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}
