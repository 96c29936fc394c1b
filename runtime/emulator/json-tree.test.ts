import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { JsonError, parseJsonTree, type JsonNode } from './json-tree.ts';

/** The value as JSON.parse would give it. */
function plain(node: JsonNode): unknown {
  switch (node.kind) {
    case 'object':
      return Object.fromEntries([...node.entries].map(([key, value]) => [key, plain(value)]));
    case 'list':
      return node.items.map(plain);
    case 'number':
      return Number(node.spelling);
    default:
      return node.value;
  }
}

function wrong(text: string): JsonError {
  try {
    parseJsonTree(text);
  } catch (error) {
    if (error instanceof JsonError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

test('says of every value its path and its characters', () => {
  const text = '{ "a": [1, {"b c": "x"}], "d": {"e": -2.5e3} }';
  const seen: [string, string][] = [];
  const walk = (node: JsonNode): void => {
    seen.push([node.path, text.slice(node.start, node.end)]);
    if (node.kind === 'object') node.entries.forEach(walk);
    if (node.kind === 'list') node.items.forEach(walk);
  };
  walk(parseJsonTree(text));
  expect(seen).toEqual([
    ['', text],
    ['a', '[1, {"b c": "x"}]'],
    ['a[0]', '1'],
    ['a[1]', '{"b c": "x"}'],
    ['a[1]["b c"]', '"x"'],
    ['d', '{"e": -2.5e3}'],
    ['d.e', '-2.5e3'],
  ]);
});

test('keeps the spelling of numbers that no double holds', () => {
  expect(parseJsonTree('18446744073709551615')).toMatchObject({ spelling: '18446744073709551615' });
});

describe('accepts and refuses what JSON.parse does', () => {
  const same = (text: string): void => {
    let expected: unknown;
    let valid = true;
    try {
      expected = JSON.parse(text);
    } catch {
      valid = false;
    }
    if (!valid) expect(wrong(text).place.start).toBeLessThanOrEqual(text.length);
    else expect(plain(parseJsonTree(text))).toEqual(expected);
  };
  test('random values in random layout', () => {
    fc.assert(
      fc.property(fc.json(), fc.integer({ min: 0, max: 3 }), (text, indent) => {
        same(JSON.stringify(JSON.parse(text), null, indent));
      }),
    );
  });
  test('texts with one character changed', () => {
    const text = '{"k": [1.5e+2, -0, true, null, "a\\u00e9\\n"], "zz": {}}';
    fc.assert(
      fc.property(fc.nat(text.length), fc.constantFrom(...'{}[]":,0-.eE+tn \n\\', ''), (at, c) =>
        same(text.slice(0, at) + c + text.slice(at + 1)),
      ),
      { numRuns: 2000 },
    );
  });
  test.each([
    '',
    ' ',
    '01',
    '1.',
    '.5',
    '+1',
    '1e',
    '"\n"',
    '"\\x"',
    '"a',
    '[1,]',
    '{"a":1,}',
    '{a:1}',
    "{'a':1}",
    'nul',
    '[1 2]',
    '1 2',
    '\u00a01',
    'NaN',
    '// x\n1',
    '"\u0001"',
  ])('%j', same);
});

test('refuses a key that stands twice, and hostile nesting', () => {
  expect(wrong('{"a": 1, "a": 2}')).toMatchObject({
    message: expect.stringContaining('twice'),
    place: { start: 9 },
  });
  expect(wrong('[['.repeat(50_000)).message).toContain('64 levels');
});
