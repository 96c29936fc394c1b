// The words of PTX. Four of them are coarse, because a token costs about as much as a rule and machine-made kernels
// have lists of a hundred registers: a mnemonic with its modifiers, braced lists of registers and of numbers, and a plain address are
// one token each. The last token takes what nothing else does, so the lexer itself never fails.
import { createToken, Lexer, type IToken, type TokenType } from 'chevrotain';

/** `ld.global.f32`, `v.x` */
export const Dotted = createToken({
  name: 'Dotted',
  pattern: /[A-Za-z_$][\w$]*(?:\.\w+(?:::\w+)*)+/,
  label: 'an instruction',
});
export const Identifier = createToken({
  name: 'Identifier',
  pattern: /[A-Za-z][\w$]*|[_$][\w$]+/,
  label: 'a name',
});
/** `%r12`, `%tid.x` */
export const Register = createToken({
  name: 'Register',
  pattern: /%[\w$]+(?:\.[A-Za-z]\w*)?/,
  label: 'a register',
});
export const Sink = createToken({ name: 'Sink', pattern: '_', label: '`_`' });
/** `.entry`, `.b32`, `.shared::cta` */
export const DotWord = createToken({
  name: 'DotWord',
  pattern: /\.[A-Za-z0-9_]+(?:::\w+)*/,
  label: 'a directive or type',
});
/** `{%r1, %r2}` */
export const RegisterList = createToken({
  name: 'RegisterList',
  pattern: /\{\s*%[\w$]+(?:\s*,\s*%[\w$]+)*\s*\}/,
  line_breaks: true,
  label: 'a list of registers',
});
/** `{1, 2}`: tables have thousands of numbers. */
export const NumberList = createToken({
  name: 'NumberList',
  pattern: /\{\s*(?:0|[1-9]\d{0,17})(?:\s*,\s*(?:0|[1-9]\d{0,17}))*\s*\}/,
  line_breaks: true,
  label: 'a list of numbers',
});
/** `[%rd1+16]` */
export const PlainAddress = createToken({
  name: 'PlainAddress',
  pattern: /\[\s*(?!WARP_SZ)[%A-Za-z$_][\w$]*(?:\s*\+\s*-?(?:0|[1-9]\d{0,17}))?\s*\]/,
  line_breaks: true,
  label: 'an address',
});
export const HexFloat = createToken({
  name: 'HexFloat',
  pattern: /0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}/,
  label: 'a number',
});
export const Float = createToken({
  name: 'Float',
  pattern: /\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+/,
  label: 'a number',
});
export const Integer = createToken({
  name: 'Integer',
  pattern: /(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)[uU]?/,
  label: 'an integer',
});
export const WarpSize = createToken({ name: 'WarpSize', pattern: /WARP_SZ(?![\w$])/, label: '`WARP_SZ`' });
// The closing quote is optional: a string that does not end would otherwise be tried again from every quote in it.
export const StringLiteral = createToken({
  name: 'StringLiteral',
  pattern: /"(?:[^"\\\n]|\\[^\n])*"?/,
  line_breaks: false,
  label: 'a string',
});

const mark = (name: string, pattern: string): TokenType =>
  createToken({ name, pattern, label: `\`${pattern}\`` });
export const Comma = mark('Comma', ',');
export const Semicolon = mark('Semicolon', ';');
export const Colon = mark('Colon', ':');
export const Question = mark('Question', '?');
export const At = mark('At', '@');
export const Equals = mark('Equals', '=');
export const Plus = mark('Plus', '+');
export const Minus = mark('Minus', '-');
export const Bang = mark('Bang', '!');
export const Tilde = mark('Tilde', '~');
export const Bar = mark('Bar', '|');
export const Less = mark('Less', '<');
export const Greater = mark('Greater', '>');
export const LeftParen = mark('LeftParen', '(');
export const RightParen = mark('RightParen', ')');
export const LeftBracket = mark('LeftBracket', '[');
export const RightBracket = mark('RightBracket', ']');
export const LeftBrace = mark('LeftBrace', '{');
export const RightBrace = mark('RightBrace', '}');
/** Operators that stand nowhere but between two constants. */
export const BinaryOperator = createToken({
  name: 'BinaryOperator',
  pattern: /<<|>>|<=|>=|==|!=|&&|\|\||[*/%&^]/,
  label: 'an operator',
});

/** Blanks, a backslash at a line's end, and preprocessor lines. */
const Blank = createToken({
  name: 'Blank',
  pattern: /[ \t\r\n\f\v\ufeff]+|\\\r?\n|#[^\n]*/,
  group: Lexer.SKIPPED,
  line_breaks: true,
});
const Comment = createToken({
  name: 'Comment',
  pattern: /\/\/[^\n]*|\/\*[^]*?\*\/|@@DWARF[^\n]*/,
  group: Lexer.SKIPPED,
  line_breaks: true,
});
/** Reaches to the end of the text, so that it is looked for once. */
export const OpenComment = createToken({
  name: 'OpenComment',
  pattern: /\/\*[^]*/,
  line_breaks: true,
  label: 'a comment',
});
const asciiCodes = Array.from({ length: 0x80 }, (_, i) => i);
/** What no other token takes: one ASCII character, or a run of others. */
export const Unknown = createToken({
  name: 'Unknown',
  pattern: /[^\u0000-\u007f]+|[^\n]/,
  line_breaks: false,
  // Code points above 255 share chevrotain's buckets from 256 on; naming one of each is what it asks for.
  start_chars_hint: [...asciiCodes, ...Array.from({ length: 0x10000 - 0x80 }, (_, i) => i + 0x80)],
  label: 'something else',
});

export const vocabulary: TokenType[] = [
  ...[
    Blank,
    Comment,
    OpenComment,
    PlainAddress,
    RegisterList,
    NumberList,
    Register,
    WarpSize,
    Dotted,
    Identifier,
    Sink,
  ],
  ...[DotWord, HexFloat, Float, Integer, StringLiteral, BinaryOperator],
  ...[Comma, Semicolon, Colon, Question, At, Equals, Plus, Minus, Bang, Tilde, Bar, Less, Greater],
  ...[LeftParen, RightParen, LeftBracket, RightBracket, LeftBrace, RightBrace],
  Unknown,
];

const lexer = new Lexer(vocabulary, { positionTracking: 'onlyOffset', ensureOptimizations: true });

/** All tokens of a text, without blanks and comments. */
export const tokenize = (text: string): IToken[] => lexer.tokenize(text).tokens;

/** Offset after a token's last character. */
export const endOf = (token: IToken): number => token.startOffset + token.image.length;
