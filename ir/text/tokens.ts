// The words of IR text. Every character belongs to some token (the last one takes what nothing else does), so the
// lexer itself never fails: mistakes are found, and placed, by whoever reads the line.
import { createToken, Lexer, type IToken, type TokenType } from 'chevrotain';

export const DimName = createToken({
  name: 'DimName',
  pattern: /[A-Za-z_][A-Za-z0-9_.@*+]*/,
  label: 'a dim name',
});
export const Identifier = createToken({
  name: 'Identifier',
  pattern: /[A-Za-z_][A-Za-z0-9_.]*/,
  longer_alt: DimName,
  label: 'a name',
});

/** A word that is not the beginning of a longer name; as `longer_alt`, the first longer token would win, not the longest. */
const whole = (pattern: string): RegExp => new RegExp(`${pattern}(?![A-Za-z0-9_.@*+])`);

/** Keywords count as identifiers wherever a name may stand: they are special at their own place only. */
const keyword = (name: string, word: string): TokenType =>
  createToken({
    name,
    pattern: whole(word),
    line_breaks: false,
    categories: Identifier,
    label: `\`${word}\``,
  });

export const Dsir = keyword('Dsir', 'dsir');
export const ModuleWord = keyword('ModuleWord', 'module');
export const DimWord = keyword('DimWord', 'dim');
export const StateWord = keyword('StateWord', 'state');
export const Ragged = keyword('Ragged', 'ragged');
export const Groups = keyword('Groups', 'groups');
export const Align = keyword('Align', 'align');
export const Entry = keyword('Entry', 'entry');
export const Block = keyword('Block', 'block');
export const Kernel = keyword('Kernel', 'kernel');
export const Inout = keyword('Inout', 'inout');
export const Param = keyword('Param', 'param');
export const Buffer = keyword('Buffer', 'buffer');
export const Derived = keyword('Derived', 'derived');
export const Derive = keyword('Derive', 'derive');
export const Stored = keyword('Stored', 'stored');
export const Return = keyword('Return', 'return');
export const ScheduleWord = keyword('ScheduleWord', 'schedule');
export const Layer = keyword('Layer', 'layer');
export const Stages = keyword('Stages', 'stages');
export const Stage = keyword('Stage', 'stage');
export const Order = keyword('Order', 'order');
export const Rank = keyword('Rank', 'rank');
export const On = keyword('On', 'on');
export const After = keyword('After', 'after');
export const Compute = keyword('Compute', 'compute');
export const Commit = keyword('Commit', 'commit');
export const Comm = keyword('Comm', 'comm');
export const Forward = keyword('Forward', 'forward');
export const BackwardInput = keyword('BackwardInput', 'backward_input');
export const Backward = keyword('Backward', 'backward');
export const Weights = keyword('Weights', 'weights');
export const Overlap = keyword('Overlap', 'overlap');
export const Send = keyword('Send', 'send');
export const Receive = keyword('Receive', 'receive');
export const Activations = keyword('Activations', 'activations');
export const Gradients = keyword('Gradients', 'gradients');
export const Direction = createToken({
  name: 'Direction',
  pattern: whole('d\\d+'),
  line_breaks: false,
  categories: Identifier,
  label: 'a direction (`d0`)',
});
export const MicroBatch = createToken({
  name: 'MicroBatch',
  pattern: whole('m\\d+'),
  line_breaks: false,
  categories: Identifier,
  label: 'a micro-batch (`m0`)',
});

/** ` at file:line:column-end`: taken loosely here and checked by the reader, for a better message. */
export const Place = createToken({
  name: 'Place',
  pattern: /at[ \t]+(?:"(?:[^"\\\n]|\\[^\n])*"\S*|[^\s"=]\S*:\d\S*)/,
  line_breaks: false,
  label: '`at file:line:column-endColumn`',
});
export const ValueName = createToken({
  name: 'ValueName',
  pattern: /%[A-Za-z_][A-Za-z0-9_.]*/,
  label: 'a value (`%name`)',
});
export const FunctionName = createToken({
  name: 'FunctionName',
  pattern: /@[A-Za-z_][A-Za-z0-9_.]*/,
  label: 'a function (`@name`)',
});
// The closing quote is optional: a string that does not end would otherwise be tried again from every quote in it,
// which takes quadratic time on lines full of escapes.
export const StringLiteral = createToken({
  name: 'StringLiteral',
  pattern: /"(?:[^"\\\n]|\\[^\n])*"?/,
  line_breaks: false,
  label: 'a string',
});
export const Tile = createToken({
  name: 'Tile',
  pattern: /(?:\d+|\*)(?:x(?:\d+|\*))+/,
  label: 'a tile (`1x128`)',
});
export const NumberLiteral = createToken({
  name: 'NumberLiteral',
  pattern: /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|-inf/,
  label: 'a number',
});

const mark = (name: string, pattern: string): TokenType =>
  createToken({ name, pattern, label: `\`${pattern}\`` });
export const Arrow = mark('Arrow', '->');
export const LeftArrow = mark('LeftArrow', '<-');
export const AtMost = mark('AtMost', '<=');
export const Less = mark('Less', '<');
export const Greater = mark('Greater', '>');
export const Equals = mark('Equals', '=');
export const Star = mark('Star', '*');
export const Plus = mark('Plus', '+');
export const Ampersand = mark('Ampersand', '&');
export const Comma = mark('Comma', ',');
export const Colon = mark('Colon', ':');
export const Semicolon = mark('Semicolon', ';');
export const LeftParen = mark('LeftParen', '(');
export const RightParen = mark('RightParen', ')');
export const LeftBracket = mark('LeftBracket', '[');
export const RightBracket = mark('RightBracket', ']');
export const LeftBrace = mark('LeftBrace', '{');
export const RightBrace = mark('RightBrace', '}');

const Newline = createToken({ name: 'Newline', pattern: '\n', line_breaks: true });
const asciiCodes = Array.from({ length: 0x80 }, (_, i) => i);
const Blank = createToken({
  name: 'Blank',
  pattern: /[ \t\r\ufeff]+/,
  group: Lexer.SKIPPED,
  line_breaks: false,
});
const Comment = createToken({
  name: 'Comment',
  pattern: /\/\/[^\n]*/,
  group: Lexer.SKIPPED,
  line_breaks: false,
});
/** What no other token takes: one ASCII character, or a run of others. */
const Unknown = createToken({
  name: 'Unknown',
  pattern: /[^\u0000-\u007f]+|[^\n]/,
  line_breaks: false,
  // Code points above 255 share chevrotain's buckets from 256 on; naming one of each is what it asks for.
  start_chars_hint: [...asciiCodes, ...Array.from({ length: 0x10000 - 0x80 }, (_, i) => i + 0x80)],
});

export const vocabulary: TokenType[] = [
  ...[Newline, Blank, Comment, Place],
  ...[Dsir, ModuleWord, DimWord, StateWord, Ragged, Groups, Align, Entry, Block, Kernel],
  ...[Inout, Param, Buffer, Derived, Derive, Stored, Return],
  ...[ScheduleWord, Layer, Stages, Stage, Order, Rank, On, After, Compute, Commit, Comm],
  ...[Forward, BackwardInput, Backward, Weights, Overlap, Send, Receive, Activations, Gradients],
  ...[Direction, MicroBatch],
  ...[Identifier, DimName, ValueName, FunctionName, StringLiteral, Tile, NumberLiteral],
  ...[Arrow, LeftArrow, AtMost, Less, Greater, Equals, Star, Plus, Ampersand, Comma, Colon, Semicolon],
  ...[LeftParen, RightParen, LeftBracket, RightBracket, LeftBrace, RightBrace],
  Unknown,
];

const lexer = new Lexer(vocabulary, { positionTracking: 'onlyOffset', ensureOptimizations: true });

/** The tokens of one line, at least one, without blanks and comments. */
export type TokenLine = IToken[];

// Tokens of a piece die before the next piece is read, which keeps the collector cheap on large texts.
const pieceLength = 1 << 15;

/** The text's tokens, line by line and lazily; empty lines are left out. */
export function* tokenizeLines(text: string): Generator<TokenLine> {
  for (let base = 0; base < text.length;) {
    const newline = text.indexOf('\n', base + pieceLength);
    const end = newline < 0 ? text.length : newline + 1;
    const { tokens } = lexer.tokenize(base === 0 && end === text.length ? text : text.slice(base, end));
    let from = 0;
    for (let i = 0; i <= tokens.length; i++) {
      if (i < tokens.length) {
        tokens[i].startOffset += base;
        if (tokens[i].tokenType !== Newline) continue;
      }
      if (i > from) yield tokens.slice(from, i);
      from = i + 1;
    }
    base = end;
  }
}

/** Offset after a token's last character. */
export const endOf = (token: IToken): number => token.startOffset + token.image.length;
