// Tests a pass by text before and after. Fixtures are modules in IR text; on a mismatch vitest shows the diff.
import { expect } from 'vitest';
import { verifyModule } from '../../ir/verify.ts';
import { renderDiagnostic } from '../../ir/diagnostics.ts';
import type { Diagnostic } from '../../ir/diagnostics.ts';
import type { Module } from '../../ir/module.ts';
import type { Target } from '../../ir/target.ts';
import { parseModule } from '../../ir/text/index.ts';
import { printModule } from '../../ir/text/printer.ts';
import type { Pass } from '../../compiler/pass.ts';

/** Parses a fixture and fails the test with rendered diagnostics when it is not a valid module. */
export function parsed(text: string): Module {
  const { module, diagnostics } = parseModule(text, 'fixture.dsir');
  const wrong = [...diagnostics, ...(module ? verifyModule(module) : [])];
  if (!module || wrong.length > 0)
    throw new Error(wrong.map((d) => renderDiagnostic(d, { sourceOf: () => text })).join('\n\n'));
  return module;
}

/** The module after the pass, verified, with what the pass reported. */
export function runPass(
  pass: Pass,
  module: Module,
  target: Target | null = null,
): { module: Module; reported: Diagnostic[] } {
  const reported: Diagnostic[] = [];
  const after = pass.run(module, { target, report: (d) => reported.push(d) });
  const wrong = verifyModule(after);
  if (wrong.length > 0)
    throw new Error(
      `${pass.name} made an invalid module:\n${wrong.map((d) => renderDiagnostic(d, { sourceOf: () => undefined })).join('\n\n')}\n${printModule(after)}`,
    );
  return { module: after, reported };
}

const trimmed = (text: string): string =>
  `${text
    .split('\n')
    .map((line) => line.replace(/^ {4}/, ''))
    .join('\n')
    .trim()}\n`;

/** Runs the pass over `before` and expects exactly `after` (both indented by four spaces for reading). */
export function expectPass(pass: Pass, before: string, after: string): Diagnostic[] {
  const { module, reported } = runPass(pass, parsed(trimmed(before)));
  expect(printModule(module)).toBe(trimmed(after));
  return reported;
}

/** Expects the pass to leave `text` alone. */
export const expectUnchanged = (pass: Pass, text: string): Diagnostic[] => expectPass(pass, text, text);
