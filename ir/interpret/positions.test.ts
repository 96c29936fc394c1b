import { expect, test } from 'vitest';
import { asTensorType } from './testing.ts';
import { cacheRows, newState, packedPositions, pageTable, stateBytes, stepPositions } from './positions.ts';

test('packed: positions restart with each sequence; the last token of each, or all, are wanted', () => {
  const at = packedPositions([3, 1], 'last', 2);
  expect([...at.position]).toEqual([0, 1, 2, 0]);
  expect([...at.sequence]).toEqual([0, 0, 0, 1]);
  expect([...at.outputs]).toEqual([2, 3]);
  expect(at.pages.map((p) => [...p])).toEqual([[0, 1], [2]]);
  expect(at.packed).toBe(true);
  expect([...packedPositions([2, 2], 'all').outputs]).toEqual([0, 1, 2, 3]);
  expect(packedPositions([2], 'last', 0).pages).toEqual([]);
});

test('steps go on where the cache ends; a resting sequence gets no token and no output', () => {
  const pages = pageTable([8, 8, 8], 4);
  const at = stepPositions([3, 5, 0], [1, 0, 2], 'last', 4, pages);
  expect([...at.position]).toEqual([3, 0, 1]);
  expect([...at.sequence]).toEqual([0, 2, 2]);
  expect([...at.outputs]).toEqual([0, 2]);
  expect(at.packed).toBe(false);
  expect(at.pages).toBe(pages);
});

test('refuses steps that do not fit', () => {
  expect(() => stepPositions([4], [1], 'last', 4, pageTable([4], 4))).toThrow(
    'sequence 0 grows to 5 tokens, but has 1 pages of 4 rows',
  );
  expect(() => stepPositions([4], [1, 1], 'last', 4, [])).toThrow('do not fit');
});

test('rows and bytes of a cache', () => {
  expect(cacheRows(pageTable([5, 4], 4), 4)).toBe(12);
  expect(cacheRows([Int32Array.from([6])], 4)).toBe(28);
  const fields = [{ name: 'k', type: asTensorType('bf16[cached, 3]') }];
  expect(stateBytes(newState({ name: 's', policy: 'paged', page: 4, fields }, 2, 8))).toBe(2 * 8 * 3 * 2);
});
