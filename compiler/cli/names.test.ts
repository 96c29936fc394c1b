import { describe, expect, test } from 'vitest';
import { checkNames, editDistance, nearest, suggestion, UsageError } from './names.ts';

describe('editDistance', () => {
  test.each([
    ['', '', 0],
    ['abc', 'abc', 0],
    ['abc', 'abcd', 1],
    ['abc', 'bc', 1],
    ['abc', 'axc', 1],
    ['abc', 'acb', 1],
    ['kitten', 'sitting', 3],
    ['', 'xyz', 3],
  ])('%s -> %s is %i', (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
    expect(editDistance(b, a)).toBe(distance);
  });
});

describe('nearest', () => {
  const passes = ['specialize', 'canonicalize', 'insert-fp8', 'fuse-loops'];
  test('finds typing mistakes, other case and parts of names', () => {
    expect(nearest('insrt-fp8', passes)).toBe('insert-fp8');
    expect(nearest('Specialise', passes)).toBe('specialize');
    expect(nearest('fp8', passes)).toBe('insert-fp8');
  });
  test('holds back when nothing is near', () => {
    expect(nearest('zzzzzzzz', passes)).toBeUndefined();
    expect(nearest('x'.repeat(100_000), passes)).toBeUndefined();
    expect(nearest('a', [])).toBeUndefined();
  });
  test('prefers an exact name over a name that contains it', () => {
    expect(nearest('fp8', ['insert-fp8', 'fp8'])).toBe('fp8');
  });
});

test('suggestion lists what there is, shortened', () => {
  expect(suggestion('h80', ['h800'], 'targets')).toBe('did you mean h800? targets: h800');
  expect(suggestion('q', [], 'entries')).toBe('there are no entries');
  const many = Array.from({ length: 30 }, (_, i) => `name${i}`);
  expect(suggestion('zzzzzzzzz', many, 'names')).toMatch(/^names: name0, .*name19, …$/);
});

test('checkNames reports every unknown name at once', () => {
  expect(() => checkNames('pass', 'passes', ['a', 'b'], ['a', 'b'])).not.toThrow();
  try {
    checkNames('pass', 'passes', ['fuse-loop', 'ok', 'nonsense-entirely'], ['fuse-loops', 'ok']);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    expect((error as UsageError).diagnostics.map((d) => d.code)).toEqual([
      'usage/unknown-pass',
      'usage/unknown-pass',
    ]);
    expect((error as UsageError).diagnostics[0].fix).toContain('did you mean fuse-loops?');
  }
});
