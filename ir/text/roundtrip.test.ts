// Printing what was parsed gives the same bytes, and parsing what was printed gives the same module.
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { renderDiagnostic } from '../diagnostics.ts';
import { randomModule } from '../fixtures/random-module.ts';
import type { Module } from '../module.ts';
import { opNames } from '../ops/index.ts';
import { verifyModule } from '../verify.ts';
import { parseModule, printFunction, printModule, printOp } from './index.ts';

const fixture = (name: string): string =>
  readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');

/** The module in a text that must be right. */
function parsed(text: string): { module: Module; header: readonly string[] } {
  const { module, diagnostics, header } = parseModule(text, 'text.dsir');
  const rendered = diagnostics.map((d) => renderDiagnostic(d, { sourceOf: () => text })).join('\n');
  if (module === null) throw new Error(rendered);
  expect(rendered).toBe('');
  return { module, header };
}

test.each(['small.dsir', 'every-op.dsir'])('%s is printed as it is written, and sound', (name) => {
  const text = fixture(name);
  const { module, header } = parsed(text);
  expect(printModule(module, { header })).toBe(text);
  expect(verifyModule(module)).toEqual([]);
});

test('every op of the table stands in every-op.dsir', () => {
  const { module } = parsed(fixture('every-op.dsir'));
  const used = new Set(module.functions.flatMap((f) => f.body.map((op) => op.op)));
  expect(opNames().filter((name) => !used.has(name))).toEqual([]);
});

test('a parsed module holds the values, defaults and places that were written', () => {
  const { module } = parsed(fixture('small.dsir'));
  expect(module.attributes).toEqual({ precision: 'bf16', target: 'h800' });
  expect(module.dims.at(-1)).toEqual({
    name: 'slots',
    bound: 248,
    ragged: { of: 'tokens', per: 2, groups: 8, align: 16 },
  });
  const [attend, step] = module.functions;
  expect(attend.span).toEqual({ file: 'small.ts', line: 3, column: 1, endLine: 9, endColumn: 2 });
  const rows = attend.body[0];
  expect(rows.attributes).toMatchObject({ contract: 1, promote: 0 });
  // SSA by identity: operands are the very values that were declared.
  expect(rows.operands).toEqual([attend.arguments[0].value, attend.declarations[0].value]);
  expect(rows.operands[0]).toBe(attend.arguments[0].value);
  expect(rows.operands[1]).toBe(attend.declarations[0].value);
  expect(rows.span).toEqual({ file: 'small.ts', line: 4, column: 13, endLine: 4, endColumn: 40 });
  expect(attend.finals).toEqual([attend.body[1].results[0]]);
  expect(step.body[0].attributes).toMatchObject({ callee: 'attend', modes: ['carry', 'same', 'indexed'] });
});

test('header comments are kept, others are not, and blanks do not matter', () => {
  const text =
    '//one\n\n  //  two \r\n//\ndsir 1 // version\r\nmodule @m { // here\n\n// gone\n\tdim  n<=4\n}\n// end';
  const { module, header } = parsed(text);
  expect(header).toEqual(['one', ' two ', '']);
  expect(printModule(module, { header })).toBe(
    '// one\n//  two \n//\ndsir 1\nmodule @m {\n  dim n <= 4\n}\n',
  );
});

test('printFunction and printOp give their part of the module text', () => {
  const { module } = parsed(fixture('small.dsir'));
  const text = fixture('small.dsir');
  for (const f of module.functions) {
    const indented = printFunction(f).replace(/^(?=.)/gm, '  ');
    expect(text).toContain(indented);
    for (const op of f.body) expect(text).toContain(`    ${printOp(op)}\n`);
  }
});

test('random modules verify, round-trip byte for byte, and use most ops', () => {
  const ops = new Set<string>();
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      const made = randomModule(seed);
      made.ops.forEach((op) => ops.add(op));
      const header = ['made by a test', '', ' indented'];
      const text = printModule(made.module, { header });
      const once = parsed(text);
      expect(once.header).toEqual(header);
      expect(printModule(once.module, once)).toBe(text);
      expect(verifyModule(made.module)).toEqual([]);
      expect(verifyModule(once.module)).toEqual([]);
    }),
    { numRuns: 400 },
  );
  // A generator that makes nothing would prove nothing.
  expect(ops.size).toBeGreaterThan(45);
});
