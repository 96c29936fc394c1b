// What the grammar says when a statement does not fit: what was expected and what stands there.
import { EOF, tokenLabel, type IParserErrorMessageProvider, type IToken, type TokenType } from 'chevrotain';
import * as T from './tokens.ts';

/** A piece of source text, fit for a message: short, and without what a terminal would not show. */
export const shown = (text: string): string =>
  (text.length > 40 ? `${text.slice(0, 40)}…` : text).replace(
    /[^\u0020-\u007e\u00a1-\u024f…]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );

const found = (token: IToken): string =>
  token.tokenType === EOF
    ? 'the statement ends'
    : token.tokenType === T.OpenComment
      ? 'a comment begins that does not end'
      : `found \`${shown(token.image)}\``;

// What an operand can begin with, said as one thing.
const operandStarts: readonly TokenType[] = [T.Register, T.Identifier, T.PlainAddress, T.RegisterList];

const list = (types: readonly TokenType[]): string => {
  if (operandStarts.every((start) => types.includes(start))) return 'an operand';
  const labels = [...new Set(types.map((t) => tokenLabel(t)))];
  return labels.length > 1
    ? `${labels.slice(0, -1).join(', ')} or ${labels.at(-1)}`
    : (labels[0] ?? 'something else');
};

export const grammarMessages: IParserErrorMessageProvider = {
  buildMismatchTokenMessage: ({ expected, actual }) => `expected ${list([expected])}, but ${found(actual)}`,
  buildNotAllInputParsedMessage: ({ firstRedundant }) =>
    `expected \`,\` or the end of the statement, but ${found(firstRedundant)}`,
  buildNoViableAltMessage: ({ expectedPathsPerAlt, actual }) =>
    `expected ${list(expectedPathsPerAlt.flatMap((paths) => paths.map((path) => path[0])))}, but ${found(actual[0])}`,
  buildEarlyExitMessage: ({ expectedIterationPaths, actual }) =>
    `expected ${list(expectedIterationPaths.map((path) => path[0]))}, but ${found(actual[0])}`,
};
