// Costs of chunk operations as people write them: `F=1,B=2,I=1,W=1,FB=3`.
import { fail } from '../../ir/diagnostics.ts';
import type { OpCosts } from './scheduler.ts';

const names = ['F', 'B', 'I', 'W', 'FB'] as const;
type Name = (typeof names)[number];

const help =
  'F (forward), B (backward), I (backward_input), W (weights), FB (overlap), such as F=1,B=2,I=1,W=1,FB=3';
const refuse = (message: string): never =>
  fail({ code: 'schedule/bad-cost', message, fix: `name numbers from 0 up: ${help}` });

/**
 * Reads costs in any one unit. What is not named: F = 1, B = 2 F, I and W share B, equally or as the other one leaves,
 * FB = F + B. Throws a DiagnosticError
 * `schedule/bad-cost` for other names, a name said twice, and what is not a number from 0 up.
 */
export function parseOpCosts(text: string): OpCosts {
  const said = new Map<Name, number>();
  for (const item of text.split(',')) {
    const [, word, value] =
      /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.exec(item) ?? refuse(`'${item}' is not name=number`);
    const name = names.find((n) => n === word) ?? refuse(`there is no cost '${word}'`);
    if (said.has(name)) refuse(`the cost ${name} is given twice`);
    // Number() would take '' for 0, and hexadecimal.
    if (!/^\+?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value) || !Number.isFinite(Number(value)))
      refuse(`the cost ${name} is '${value}'`);
    said.set(name, Number(value));
  }
  const forward = said.get('F') ?? 1;
  const backward = said.get('B') ?? 2 * forward;
  const parts = { I: said.get('I'), W: said.get('W') };
  const backwardInput = parts.I ?? (parts.W === undefined ? backward / 2 : Math.max(0, backward - parts.W));
  return {
    forward,
    backward,
    backwardInput,
    weights: parts.W ?? Math.max(0, backward - backwardInput),
    overlap: said.get('FB') ?? forward + backward,
  };
}
