import fc from 'fast-check';
import { expect, test } from 'vitest';
import { renderDiagnostic } from '../../ir/diagnostics.ts';
import { readJson, type JsonNode } from './json.ts';

/** The plain value of a tree. */
function plain(node: JsonNode): unknown {
  switch (node.kind) {
    case 'object':
      return Object.fromEntries(node.entries.map((e) => [e.key, plain(e.value)]));
    case 'list':
      return node.items.map(plain);
    case 'null':
      return null;
    default:
      return node.value;
  }
}

const caret = (text: string): string => {
  const { diagnostics } = readJson(text, 'c.json');
  return diagnostics.map((d) => renderDiagnostic(d, { sourceOf: () => text })).join('\n');
};

test('reads what JSON.parse reads, whatever the spacing', () => {
  // Keys like __proto__ are own properties in both: fromEntries and JSON.parse define them.
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      const { root, diagnostics } = readJson(text, 'c.json');
      expect(diagnostics).toEqual([]);
      expect(plain(root!)).toEqual(JSON.parse(text));
    }),
  );
});

test('accepts a text exactly when JSON.parse does', () => {
  const pieces = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"a"',
    '"',
    '1',
    '-',
    '0',
    '.5',
    'e9',
    'true',
    'nul',
    ' ',
    '\\',
    '\n',
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 9 }), (parts) => {
      const text = parts.join('');
      let accepted = true;
      try {
        JSON.parse(text);
      } catch {
        accepted = false;
      }
      expect(readJson(text, 'c.json').root !== null, text).toBe(accepted);
    }),
    { numRuns: 3000 },
  );
});

test('places every key and value', () => {
  const { root } = readJson('{\n  "a": 1,\n  "b": [true,\n "x"]\n}', 'c.json');
  const entries = root?.kind === 'object' ? root.entries : [];
  expect(entries.map((e) => [e.keySpan.line, e.keySpan.column, e.keySpan.endColumn])).toEqual([
    [2, 3, 6],
    [3, 3, 6],
  ]);
  expect(entries.map((e) => e.value.span)).toEqual([
    { file: 'c.json', line: 2, column: 8, endLine: 2, endColumn: 9 },
    { file: 'c.json', line: 3, column: 8, endLine: 4, endColumn: 6 },
  ]);
});

test.each([
  ['', 'the file ends here'],
  ['{"a": 1,}', 'a comma before }'],
  ['[1, 2', 'the file ends here, and ] is missing'],
  ['{"a": 1', 'the file ends here, and } is missing'],
  ['{"a" 1}', "':' is missing after the key"],
  ['{a: 1}', 'a key in double quotes is missing here'],
  ["{'a': 1}", 'a key in double quotes is missing here'],
  ['{"a": \'x\'}', 'JSON takes double quotes only'],
  ['{"a": None}', "None is Python's word"],
  ['{"a": NaN}', 'JSON has no infinities and no NaN'],
  ['{"a": 01}', 'not a number in JSON'],
  ['{"a": .5}', 'not a number in JSON'],
  ['{"a": yes}', 'this word means nothing in JSON'],
  ['{"a": 1 "b": 2}', "',' or '}' is missing before this"],
  ['{"a": 1} x', 'more text after the end of the object'],
  ['{"a": "x\ny"}', 'this text has no closing quote'],
  ['{"a": "\\q"}', 'no such escape in JSON'],
  ['// hi\n{}', 'JSON has no comments'],
  ['{"a": @}', 'no value starts like this'],
  ['{"a": ,}', 'a value is missing here'],
])('says what is wrong in %j', (text, label) => {
  const { root, diagnostics } = readJson(text, 'c.json');
  expect(root).toBeNull();
  expect(diagnostics).toHaveLength(1);
  expect(diagnostics[0]).toMatchObject({ code: 'import/json', label });
});

test('points at the place', () => {
  expect(caret('{\n  "a": 1,\n  "b": 2,\n}')).toMatchInlineSnapshot(`
    "error[import/json]: c.json is not JSON
      --> c.json:3:9
    3 |   "b": 2,
                ^ a comma before }
    fix: remove the comma"
  `);
  expect(caret('{\n  "a": 1,\n  "a": 2\n}')).toMatchInlineSnapshot(`
    "error[import/duplicate-key]: "a" is written twice in one object
      --> c.json:3:3
    3 |   "a": 2
          ^^^ which of the two counts is not defined
    note: written first here (c.json:2:3)
    fix: keep one of them"
  `);
});

test('refuses depth instead of overflowing the stack', () => {
  const { root, diagnostics } = readJson('['.repeat(100_000), 'c.json');
  expect(root).toBeNull();
  expect(diagnostics[0].label).toBe('more than 100 levels deep');
});

test('steps over a byte order mark', () => {
  expect(readJson('\uFEFF{}', 'c.json').root?.kind).toBe('object');
});
