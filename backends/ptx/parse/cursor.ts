// Walks over the tokens of a PTX text, finds where statements end, and has the grammar read them.
import type { IToken, TokenType } from 'chevrotain';
import type { Piece } from './ast.ts';
import type { Rule } from './grammar-constants.ts';
import { StatementGrammar } from './grammar.ts';
import type { Sink } from './sink.ts';
import * as T from './tokens.ts';

/** Brackets and conditionals nested deeper, together, are refused before the grammar recurses into them. */
const deepestNesting = 64;

/** Making one takes chevrotain a tenth of a second. */
let grammar: StatementGrammar | undefined;

export class Cursor {
  readonly text: string;
  readonly tokens: IToken[];
  readonly sink: Sink;
  readonly grammar: StatementGrammar;
  /** The token that is next. */
  at = 0;

  constructor(text: string, sink: Sink) {
    this.text = text;
    this.sink = sink;
    this.tokens = T.tokenize(text);
    this.grammar = grammar ??= new StatementGrammar();
    this.grammar.text = text;
  }

  // --- where statements end ------------------------------------------------------------------------------------------

  /** The end of a statement: before its semicolon, or before what shows that it is missing. */
  protected endOfStatement(begin: number): { readonly end: number; readonly next: number } {
    let braces = 0;
    let i = begin;
    for (; i < this.tokens.length; i++) {
      const type = this.tokens[i].tokenType;
      if (type === T.Semicolon) return { end: i, next: i + 1 };
      if (type === T.LeftBrace) braces++;
      else if (type === T.RightBrace && --braces < 0) break;
      else if (type === T.OpenComment) break;
    }
    return { end: i, next: Math.max(i, begin + 1) };
  }

  /** After a list that begins at `at`, its items one token long. */
  protected afterList(at: number, item: number): number {
    let i = at + item;
    while (this.tokens[i]?.tokenType === T.Comma) i += 1 + item;
    return i;
  }

  /** `.loc 1 2 3, function_name name+4, inlined_at 1 2 3` */
  protected endOfLoc(begin: number): number {
    let i = begin + 4;
    while (this.tokens[i]?.tokenType === T.Comma) {
      const word = this.tokens[i + 1]?.image;
      i += word === 'inlined_at' ? 5 : 3;
      if (word === 'function_name' && this.tokens[i]?.tokenType === T.Plus) i += 2;
    }
    return i;
  }

  // --- reading -------------------------------------------------------------------------------------------------------

  /** Reads tokens begin..end with a rule and moves on: to `next`, or to where a missing semicolon shows. */
  protected apply<R>(rule: Rule<R>, begin: number, end: number, next: number): R | null {
    this.at = next;
    const tokens = this.tokens.slice(begin, end);
    if (nestsTooDeep(tokens)) {
      this.report(`brackets nest deeper than ${deepestNesting} levels`, pieceOf(tokens[0]));
      return null;
    }
    const node = this.grammar.read(rule, tokens);
    for (const { message, from, to } of this.grammar.findings)
      this.sink.report('ptx/constant', message, { from, to });
    if (this.grammar.errors.length === 0) {
      const ended = this.tokens[end];
      if (next === end && end > begin && this.endsWithSemicolon(begin) && ended?.tokenType !== T.Semicolon)
        this.missingSemicolon(this.tokens[end - 1]);
      return node;
    }
    const { message, token } = this.grammar.errors[0];
    const index = Number.isNaN(token.startOffset) ? end : this.indexOf(token, begin, end);
    // What begins a line and does not fit begins the next statement, most likely.
    if (index > begin && index < end && this.beginsLine(index) && mayBegin.has(token.tokenType)) {
      this.missingSemicolon(this.tokens[index - 1]);
      this.at = index;
      return null;
    }
    const at = index < end ? pieceOf(this.tokens[index]) : after(this.tokens[Math.max(begin, end - 1)]);
    this.report(message, at);
    return null;
  }

  private endsWithSemicolon(begin: number): boolean {
    const image = this.tokens[begin].image;
    return !/^\.(version|target|address_size|file|loc|section|entry|func|visible|weak|extern|common)$/.test(
      image,
    );
  }

  private missingSemicolon(token: IToken): void {
    this.report('a `;` is missing here', after(token));
  }

  private beginsLine(index: number): boolean {
    const from = T.endOf(this.tokens[index - 1]);
    return this.text.slice(from, this.tokens[index].startOffset).includes('\n');
  }

  private indexOf(token: IToken, begin: number, end: number): number {
    for (let i = begin; i < end; i++) if (this.tokens[i] === token) return i;
    return end;
  }

  protected piece(begin: number, end: number): Piece {
    const last = this.tokens[Math.max(begin, end - 1)];
    return { from: this.tokens[begin].startOffset, to: T.endOf(last) };
  }

  protected report(message: string, at: Piece, fix?: string): void {
    this.sink.report('ptx/syntax', message, at, fix === undefined ? {} : { fix });
  }
}

const mayBegin: ReadonlySet<TokenType> = new Set([T.Dotted, T.Identifier, T.DotWord, T.At, T.RightBrace]);
export const pieceOf = (token: IToken): Piece => ({ from: token.startOffset, to: T.endOf(token) });
const after = (token: IToken): Piece => ({ from: T.endOf(token), to: T.endOf(token) });

const opening: ReadonlySet<TokenType> = new Set([T.LeftParen, T.LeftBracket, T.LeftBrace]);
const closing: ReadonlySet<TokenType> = new Set([T.RightParen, T.RightBracket, T.RightBrace]);

function nestsTooDeep(tokens: readonly IToken[]): boolean {
  if (tokens.length <= deepestNesting) return false;
  // How deep the grammar is when each open bracket begins; a comma ends the conditionals since then.
  const opened = [0];
  let depth = 0;
  for (const { tokenType } of tokens) {
    if (opening.has(tokenType)) opened.push(++depth);
    else if (closing.has(tokenType)) depth = Math.max(0, (opened.pop() ?? 1) - 1);
    else if (tokenType === T.Question) depth++;
    else if (tokenType === T.Comma) depth = opened.at(-1) ?? 0;
    if (depth > deepestNesting) return true;
  }
  return false;
}
