import { describe, expect, test } from 'vitest';
import { list, oneOf, regexOf, setting, someOf, wholeNumber } from './flags.ts';
import { UsageError } from './names.ts';

test('list collects commas and repetitions', () => {
  expect(list('b, c,,', list('a'))).toEqual(['a', 'b', 'c']);
});

describe('setting', () => {
  test('collects pairs, the last one counts, values may hold =', () => {
    expect(setting('b=x=y', setting('a=1', setting('a=0')))).toEqual({ a: '1', b: 'x=y' });
    expect(setting('a=')).toEqual({ a: '' });
  });
  test.each(['layers', '=4', '4=layers', '', 'a b=1'])('refuses %j', (text) => {
    expect(() => setting(text)).toThrow(UsageError);
  });
});

describe('wholeNumber', () => {
  test.each([
    ['0', 0],
    ['16', 16],
  ])('%s', (text, n) => expect(wholeNumber('--steps', 0)(text)).toBe(n));
  test.each(['-1', '1.5', '1e3', '', 'x', '99999999999999999999'])('refuses %j', (text) => {
    expect(() => wholeNumber('--steps', 0)(text)).toThrow(UsageError);
  });
  test('refuses what is below the least', () =>
    expect(() => wholeNumber('--n', 1)('0')).toThrow(/--n is "0"/));
});

test('words are checked, with a suggestion', () => {
  expect(oneOf('--precision', ['f32', 'bf16'])('bf16')).toBe('bf16');
  expect(someOf('--emit', ['ir', 'ptx'])('ir,ptx', ['ir'])).toEqual(['ir', 'ir', 'ptx']);
  for (const act of [
    () => oneOf('--precision', ['f32', 'bf16'])('bf61'),
    () => someOf('--emit', ['ir', 'ptx'])('ir,ptxx'),
  ])
    try {
      act();
      expect.unreachable();
    } catch (error) {
      expect((error as UsageError).diagnostics[0].fix).toMatch(/did you mean (bf16|ptx)\?/);
    }
  expect(() => someOf('--emit', ['ir'])(',')).toThrow(/is empty/);
});

test('a bad regular expression is bad usage', () => {
  expect(regexOf('--dump-filter', undefined)).toBeUndefined();
  expect(regexOf('--dump-filter', '^moe')?.test('moe_layer')).toBe(true);
  expect(() => regexOf('--dump-filter', '(')).toThrow(UsageError);
});
