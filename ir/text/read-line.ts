// Reads one line with a rule of a grammar, and reports what is wrong with it.
import type { IToken, TokenType } from 'chevrotain';
import type { CommonGrammar, Rule } from './grammar-common.ts';
import { lineForms } from './messages.ts';
import type { Sink } from './sink.ts';
import * as T from './tokens.ts';

/** Brackets nested deeper than this are refused before parsing: recursion must not exhaust the stack. */
const deepestNesting = 64;

/** `form` is the rule's name in `lineForms`; `fixAt` says more about a syntax error at a token, or null. Null when the line is of no use, and then that has been reported. */
export function readLine<R>(
  grammar: CommonGrammar,
  rule: Rule<R>,
  form: string,
  tokens: IToken[],
  sink: Sink,
  fixAt: (token: IToken) => string | null = () => null,
): R | null {
  if (nestsTooDeep(tokens)) {
    const to = tokens[tokens.length - 1];
    sink.at('ir/syntax', `brackets nest deeper than ${deepestNesting} levels`, tokens[0], { to });
    return null;
  }
  const result = grammar.read(rule, tokens);
  for (const f of grammar.findings) sink.finding(f);
  // A header is of use even so: without it the body would be noise. Syntax errors mostly follow from findings.
  if (grammar.findings.length > 0) return form === 'headerLine' ? result : null;
  if (result !== null) return result;
  const { message, token } = grammar.errors[0];
  const fix = fixAt(token) ?? lineForms[form];
  if (Number.isNaN(token.startOffset)) {
    const end = T.endOf(tokens[tokens.length - 1]);
    sink.error('ir/syntax', message, end, end, { fix });
  } else sink.at('ir/syntax', message, token, { fix });
  return null;
}

/** True when brackets nest deeper than the parser may recurse. */
function nestsTooDeep(tokens: readonly IToken[]): boolean {
  if (tokens.length <= deepestNesting) return false;
  const opening: readonly TokenType[] = [T.LeftParen, T.LeftBracket, T.LeftBrace];
  const closing: readonly TokenType[] = [T.RightParen, T.RightBracket, T.RightBrace];
  let depth = 0;
  for (const { tokenType } of tokens) {
    if (opening.includes(tokenType) && ++depth > deepestNesting) return true;
    if (closing.includes(tokenType)) depth--;
  }
  return false;
}
