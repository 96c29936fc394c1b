// docs/IR.md lists every op by hand, because its table is the specification. This keeps it and the op table one list.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { opDefinition, opNames } from './index.ts';

interface Row {
  readonly class: string;
  readonly ops: readonly string[];
  readonly text: string;
}

/** Rows of the table under "## Ops". A class stands in its first row only; one row may list several ops. */
function documented(): readonly Row[] {
  const text = readFileSync(new URL('../../docs/IR.md', import.meta.url), 'utf8');
  const section = text.slice(text.indexOf('\n## Ops\n'), text.indexOf('\n## Meaning\n'));
  const rows: Row[] = [];
  for (const line of section.split('\n').filter((l) => /^\|.*`/.test(l))) {
    // `\|` is a bar inside a cell.
    const [, first, ops] = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
    const names = [...ops.matchAll(/`([^`]*)`/g)].flatMap((m) => m[1].split(' '));
    rows.push({ class: first || rows.at(-1)!.class, ops: names, text: line });
  }
  return rows;
}

const rows = documented();

test('every op has a row, and every row an op', () => {
  expect(rows.flatMap((r) => r.ops).sort()).toEqual([...opNames()].sort());
});

test.each([...opNames()])('%s is what its row says', (name) => {
  const definition = opDefinition(name);
  const row = rows.find((r) => r.ops.includes(name))!;
  expect(definition.name).toBe(name);
  expect(definition.class).toBe(row.class);
  expect(definition.doc).not.toBe('');
  // The attributes of structure ops stand in a table of their own.
  if (definition.class === 'structure') return;
  for (const attribute of Object.keys(definition.attributes))
    expect(row.text).toMatch(new RegExp(`\\b${attribute}\\b`));
});
