// JavaScript's operators turn objects into numbers and texts without a word: `x * 2` on a handle would be NaN, and
// `if (x > 0)` never true. Handles and dims answer the conversion with a mistake at the author's line.
import { currentSpan, noteNaN, report, spanOfStack } from './context.ts';

/**
 * What `Symbol.toPrimitive` of a traced thing gives: `text()` where text is wanted, as in String(x) and templates;
 * else NaN, after `dsl/operator-on-tensor` was reported. `what` is its kind, as in 'a tensor'.
 */
export function toPrimitive(hint: string, what: string, text: () => string, fix: string): string | number {
  if (hint === 'string') return text();
  noteNaN();
  report({
    code: 'dsl/operator-on-tensor',
    message: `JavaScript's operators do not work on ${what}`,
    // The operator is no call: the author's place is on the stack alone.
    at: spanOfStack(new Error().stack ?? '') ?? currentSpan(),
    label: `one operand is ${text()}`,
    fix,
  });
  return NaN;
}
