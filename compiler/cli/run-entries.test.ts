import { expect, test } from 'vitest';
import { argmax } from './run-entries.ts';

test('argmax takes the lowest index on ties, within its row', () => {
  const rows = Float64Array.of(1, 3, 3, 2, 9, 9, 9, 8);
  expect(argmax(rows, 0, 4)).toBe(1);
  expect(argmax(rows, 4, 4)).toBe(0);
  expect(argmax(Float64Array.of(-Infinity, -Infinity), 0, 2)).toBe(0);
  expect(argmax(Float64Array.of(-0, 0), 0, 2)).toBe(0);
});

test('argmax never chooses NaN while there is a number', () => {
  expect(argmax(Float64Array.of(NaN, -5, NaN, -2), 0, 4)).toBe(3);
  expect(argmax(Float64Array.of(NaN, NaN), 0, 2)).toBe(1);
});
