// Cuts PTX text into statements, has the grammar read each, and nests them. A broken statement is reported and left out;
// reading goes on behind it. Blocks are kept on a stack of our own: text nested to any depth never exhausts JavaScript's.
import type { IToken } from 'chevrotain';
import type { Diagnostic } from '../../../ir/diagnostics.ts';
import type { Block, FunctionDeclaration, ModuleStatement, Piece, PtxModule, Statement } from './ast.ts';
import { Cursor, pieceOf } from './cursor.ts';
import type { Rule } from './grammar-constants.ts';
import { linkages, spaces, type FunctionHead } from './grammar-declarations.ts';
import { shown } from './messages.ts';
import { Sink } from './sink.ts';
import * as T from './tokens.ts';

/** Blocks in blocks; nobody writes more, and later stages may recurse. */
const deepestBlocks = 200;

interface Open {
  readonly head: FunctionHead | null;
  readonly from: number;
  readonly brace: IToken;
  readonly statements: Statement[];
}

class Reader extends Cursor {
  readonly module: ModuleStatement[] = [];
  readonly open: Open[] = [];

  read(): void {
    while (this.at < this.tokens.length && !this.sink.full) this.statement();
    const unclosed = this.open[0];
    if (unclosed && !this.sink.full)
      this.report('this `{` has no `}`', pieceOf(unclosed.brace), 'close the function with }');
    while (this.open.length > 0) this.close(this.text.length);
  }

  private statement(): void {
    const token = this.tokens[this.at];
    switch (token.tokenType) {
      case T.Semicolon:
        this.at++;
        return;
      case T.LeftBrace:
        this.openBlock(null, token.startOffset, token);
        this.at++;
        return;
      case T.RightBrace:
        this.at++;
        if (this.open.length === 0) this.report('this `}` closes nothing', pieceOf(token));
        else this.close(T.endOf(token));
        return;
      case T.DotWord:
        this.directive(token);
        return;
      case T.Identifier:
      case T.Register:
      case T.Dotted:
      case T.At:
        if (this.tokens[this.at + 1]?.tokenType === T.Colon) this.label(token);
        else this.instruction(token);
        return;
      case T.OpenComment:
        this.report('this comment does not end', { from: token.startOffset, to: token.startOffset + 2 });
        this.at = this.tokens.length;
        return;
      default: {
        this.report(`a statement cannot begin with \`${shown(token.image)}\``, pieceOf(token));
        this.at = this.endOfStatement(this.at).next;
      }
    }
  }

  // --- blocks --------------------------------------------------------------------------------------------------------

  private openBlock(head: FunctionHead | null, from: number, brace: IToken): void {
    if (head === null && this.open.length === 0)
      this.report('a block stands outside of a function', pieceOf(brace));
    if (this.open.length === deepestBlocks)
      this.report(`blocks nest deeper than ${deepestBlocks} levels`, pieceOf(brace));
    this.open.push({ head, from, brace, statements: [] });
  }

  private close(to: number): void {
    const { head, from, brace, statements } = this.open.pop()!;
    const block: Block = { kind: 'block', statements, from: brace.startOffset, to };
    if (head) this.module.push({ kind: 'function', ...head, body: block, from, to });
    else if (this.open.length > 0 && this.open.length < deepestBlocks)
      this.open.at(-1)!.statements.push(block);
  }

  /** Puts a statement where it stands, if it may stand there. */
  private add(statement: Statement | ModuleStatement): void {
    const block = this.open.at(-1);
    if (!block) this.module.push(statement as ModuleStatement);
    else block.statements.push(statement as Statement);
  }

  // --- statements ----------------------------------------------------------------------------------------------------

  private instruction(first: IToken): void {
    const begin = this.at;
    const { end, next } = this.endOfStatement(begin);
    let opcode = begin;
    if (first.tokenType === T.At) opcode += this.tokens[begin + 1]?.tokenType === T.Bang ? 3 : 2;
    const isCall = /^call(\.|$)/.test(this.tokens[opcode]?.image ?? '');
    if (this.open.length === 0) {
      this.report(`\`${shown(first.image)}\` stands outside of a function`, pieceOf(first));
      this.at = next;
      return;
    }
    const node = this.apply(isCall ? this.grammar.call : this.grammar.instruction, begin, end, next);
    if (node) this.open.at(-1)!.statements.push({ kind: 'instruction', ...node, ...this.piece(begin, end) });
  }

  private label(token: IToken): void {
    const after = this.tokens[this.at + 2];
    const word = after?.tokenType === T.DotWord ? after.image : '';
    if (this.open.length === 0)
      this.report(`label \`${shown(token.image)}\` stands outside of a function`, pieceOf(token));
    if (word === '.branchtargets' || word === '.calltargets' || word === '.callprototype') {
      const begin = this.at;
      const { end, next } = this.endOfStatement(begin);
      if (word === '.callprototype') {
        const node = this.apply(this.grammar.prototype, begin, end, next);
        if (node) this.add({ kind: 'callPrototype', ...node, ...this.piece(begin, end) });
        return;
      }
      const node = this.apply(this.grammar.targets, begin, end, next);
      const kind = word === '.branchtargets' ? 'branchTargets' : 'callTargets';
      if (node) this.add({ kind, ...node, ...this.piece(begin, end) });
      return;
    }
    if (this.open.length > 0)
      this.open.at(-1)!.statements.push({ kind: 'label', name: token.image, ...pieceOf(token) });
    this.at += 2;
  }

  private directive(token: IToken): void {
    const begin = this.at;
    switch (token.image) {
      case '.version':
        return this.line(this.grammar.version, begin + 2, (node, piece) => ({
          kind: 'version',
          ...node,
          ...piece,
        }));
      case '.address_size':
        return this.line(this.grammar.addressSize, begin + 2, (bits, piece) => ({
          kind: 'addressSize',
          bits,
          ...piece,
        }));
      case '.target':
        return this.line(this.grammar.target, this.afterList(begin + 1, 1), (names, piece) => ({
          kind: 'target',
          names,
          ...piece,
        }));
      case '.file':
        return this.line(this.grammar.fileLine, this.afterList(begin + 2, 1), (node, piece) => ({
          kind: 'file',
          ...node,
          ...piece,
        }));
      case '.loc':
        return this.line(this.grammar.loc, this.endOfLoc(begin), (node, piece) => ({
          kind: 'loc',
          ...node,
          ...piece,
        }));
      case '.section':
        return this.section(begin);
      case '.pragma':
        return this.simple(this.grammar.pragma, (texts, piece) => ({ kind: 'pragma', texts, ...piece }));
      case '.alias':
        return this.simple(this.grammar.alias, (node, piece) => ({ kind: 'alias', ...node, ...piece }));
      case '.reg':
        return this.simple(this.grammar.registers, (node, piece) => ({
          kind: 'registers',
          ...node,
          ...piece,
        }));
    }
    for (let i = begin; this.tokens[i]?.tokenType === T.DotWord; i++) {
      const word = this.tokens[i].image.slice(1);
      if (word === 'entry' || word === 'func') return this.functionHead(begin);
      if (spaces.has(word))
        return this.simple(this.grammar.variables, (node, piece) => ({
          kind: 'variables',
          ...node,
          ...piece,
        }));
      if (!linkages.has(word)) break;
    }
    this.report(`\`${shown(token.image)}\` is no directive that can stand here`, pieceOf(token));
    this.at = this.endOfStatement(begin).next;
  }

  /** A directive without a semicolon, whose tokens end before `end`. */
  private line<R>(
    rule: Rule<R>,
    end: number,
    make: (node: R, piece: Piece) => ModuleStatement | Statement,
  ): void {
    const begin = this.at;
    const stop = Math.min(end, this.tokens.length);
    const node = this.apply(rule, begin, stop, stop);
    if (node !== null) this.add(make(node, this.piece(begin, stop)));
  }

  /** A directive that ends with a semicolon. */
  private simple<R>(rule: Rule<R>, make: (node: R, piece: Piece) => ModuleStatement | Statement): void {
    const begin = this.at;
    const { end, next } = this.endOfStatement(begin);
    const node = this.apply(rule, begin, end, next);
    if (node !== null) this.add(make(node, this.piece(begin, end)));
  }

  private functionHead(begin: number): void {
    let end = begin;
    let depth = 0;
    for (; end < this.tokens.length; end++) {
      const type = this.tokens[end].tokenType;
      if (type === T.LeftBrace || type === T.RightBrace) break;
      if (type === T.LeftParen) depth++;
      else if (type === T.RightParen) depth--;
      // A pragma ends with a semicolon, and the head goes on behind it.
      else if (type === T.Semicolon && this.tokens[end - 1].tokenType !== T.StringLiteral) break;
    }
    const last = this.tokens[end];
    const hasBody = last?.tokenType === T.LeftBrace;
    if (depth !== 0 && !hasBody && last === undefined) end = this.tokens.length;
    const head = this.apply(this.grammar.functionHead, begin, end, end);
    if (this.open.length > 0)
      this.report(
        'a function begins inside of another',
        pieceOf(this.tokens[begin]),
        'close the one before with }',
      );
    if (!hasBody) {
      if (last?.tokenType === T.Semicolon) this.at = end + 1;
      else if (head) this.report('the function has neither a body { … } nor a `;`', this.piece(begin, end));
      if (head) this.module.push({ kind: 'function', ...head, body: null, ...this.piece(begin, end) });
      return;
    }
    this.at = end + 1;
    // Without a head the body is still read: its statements have mistakes of their own.
    this.openBlock(head ?? nameless, this.tokens[begin].startOffset, last);
  }

  private section(begin: number): void {
    let depth = 0;
    let i = begin + 1;
    while (i < this.tokens.length && this.tokens[i].tokenType !== T.LeftBrace) {
      if (i - begin > 2) break;
      i++;
    }
    const from = this.tokens[i];
    if (from?.tokenType !== T.LeftBrace || i !== begin + 2) {
      this.report('a section is written .section .name { … }', pieceOf(this.tokens[begin]));
      this.at = Math.min(i + 1, this.tokens.length);
      return;
    }
    for (; i < this.tokens.length; i++) {
      if (this.tokens[i].tokenType === T.LeftBrace) depth++;
      else if (this.tokens[i].tokenType === T.RightBrace && --depth === 0) break;
    }
    if (i === this.tokens.length) this.report('this `{` has no `}`', pieceOf(from));
    const to = i < this.tokens.length ? T.endOf(this.tokens[i]) : this.text.length;
    this.at = Math.min(i + 1, this.tokens.length);
    const text = this.text.slice(from.startOffset, to);
    const name = this.tokens[begin + 1].image.replace(/^\./, '');
    this.add({ kind: 'section', name, text, from: this.tokens[begin].startOffset, to });
  }
}

/** Stands for a head that could not be read. */
const nameless: FunctionHead = {
  linkage: [],
  attributes: [],
  isEntry: true,
  name: '',
  returns: null,
  parameters: null,
  directives: [],
};

/** The module and the sink with what was found, for whoever goes on to decode it. */
export function readModule(text: string, file: string): { readonly module: PtxModule; readonly sink: Sink } {
  const sink = new Sink(text, file);
  const reader = new Reader(text, sink);
  reader.read();
  if (reader.module.length === 0 && sink.diagnostics.length === 0)
    sink.report(
      'ptx/syntax',
      'the file holds no PTX',
      { from: 0, to: 0 },
      { fix: 'begin with .version 8.0' },
    );
  const statements = reader.module.filter(
    (s) => s.kind !== 'function' || (s as FunctionDeclaration).name !== '',
  );
  return { module: { file, statements }, sink };
}

/**
 * Reads PTX text. `module` is null when something is wrong with it; the diagnostics then say what, in the order of the
 * text, at most fifty. Never throws.
 */
export function parsePtx(
  text: string,
  file: string,
): { readonly module: PtxModule | null; readonly diagnostics: readonly Diagnostic[] } {
  const { module, sink } = readModule(text, file);
  return { module: sink.diagnostics.length > 0 ? null : module, diagnostics: sink.sorted() };
}
