import { expect, test } from 'vitest';
import { parseModule } from '../../ir/text/parser.ts';
import { keepEntries } from './entries.ts';
import { UsageError } from './names.ts';

const text = `dsir 1
module @m {
  dim tokens <= 8

  block @inner(%x: f32[tokens]) -> (f32[tokens]) {
    %y = neg %x : f32[tokens]
    return %y
  }

  block @other(%x: f32[tokens]) -> (f32[tokens]) {
    %y = exp %x : f32[tokens]
    return %y
  }

  entry @prefill(%x: f32[tokens]) -> (f32[tokens]) {
    %y = repeat @inner %x {start = 0, stop = 2, prefix = "", modes = [carry]} : f32[tokens]
    return %y
  }

  entry @decode(%x: f32[tokens]) -> (f32[tokens]) {
    %y = call @other %x {prefix = ""} : f32[tokens]
    return %y
  }
}
`;
const module = parseModule(text, 'm.dsir').module!;
const names = (...entries: string[]): string[] => keepEntries(module, entries).functions.map((f) => f.name);

test('keeps the named entries and what they reach, in order', () => {
  expect(names('prefill')).toEqual(['inner', 'prefill']);
  expect(names('decode')).toEqual(['other', 'decode']);
  expect(names('decode', 'prefill')).toEqual(['inner', 'other', 'prefill', 'decode']);
  expect(keepEntries(module, [])).toBe(module);
});

test('an unknown entry is bad usage', () => {
  expect(() => names('prefil')).toThrow(UsageError);
  // A block is no entry.
  expect(() => names('inner')).toThrow(UsageError);
});
