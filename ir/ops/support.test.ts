import { describe, expect, test } from 'vitest';
import type { PositionsData } from '../interpret/values.ts';
import { bytesOf, keysVisibleTo, named, permute, rowsOver, walk } from './support.ts';
import { tensorType, type } from './testing.ts';

describe('walking arrays', () => {
  test('offsets follow the strides, positions count up', () => {
    const seen: number[][] = [];
    walk([2, 1, 2], [1, 50, 10], (offset, position) => seen.push([offset, position]));
    expect(seen).toEqual([
      [0, 0],
      [10, 1],
      [1, 2],
      [11, 3],
    ]);
  });

  test('a scalar has one element, an empty axis none', () => {
    let visits = 0;
    walk([], [], () => visits++);
    walk([3, 0, 2], [0, 2, 1], () => (visits += 100));
    expect(visits).toBe(1);
  });

  test('rows over a middle axis', () => {
    const data = Float64Array.of(0, 1, 2, 3, 4, 5, 6, 7);
    expect(rowsOver(data, [2, 2, 2], [1])).toEqual({
      data: Float64Array.of(0, 2, 1, 3, 4, 6, 5, 7),
      rows: 4,
      length: 2,
    });
    expect(permute(data, [2, 2, 2], [2, 0, 1])).toEqual(Float64Array.of(0, 2, 4, 6, 1, 3, 5, 7));
  });
});

test('bytes of every kind of value', () => {
  const bytes = (text: string): number => bytesOf(type(text), () => 130);
  expect(bytes('bool[n, 2]')).toBe(260);
  expect(bytes('f12e5m6[3]')).toBe(5);
  expect(bytes('f8e4m3<1x128; ue8m0><*x*; f32>[n, 200]')).toBe(130 * 200 + 130 * 2 + 4);
  // 130 is two tiles of 128, known only at run time.
  expect(bytes('f8e4m3<1x128; f32>[64, n]')).toBe(64 * 130 + 64 * 2 * 4);
  expect(bytes('positions[n, n, 4, 2]')).toBe(3 * 4 * 130 + 4 * 2);
  expect(bytes('routing[n, 4, 2, 600]')).toBe(3 * 4 * 260 + 2 * 4 * 600 + 4 * 5);
});

test('declared names are kept only where the types agree', () => {
  const [inferred, same, other] = ['f32[n, 4]', 'f32[n, qk=4]', 'f32[n, qk=5]'].map(tensorType);
  expect(named([inferred], [same])).toEqual([same]);
  expect(named([inferred], [other])).toEqual([inferred]);
  expect(named([inferred], null)).toEqual([inferred]);
});

describe('which keys a token sees', () => {
  const at = (fields: Partial<PositionsData>): PositionsData => ({
    kind: 'positions',
    position: Int32Array.of(0, 1, 2, 0, 1),
    sequence: Int32Array.of(0, 0, 0, 1, 1),
    outputs: Int32Array.of(),
    pages: [],
    page: 4,
    packed: true,
    ...fields,
  });
  const seen = (positions: PositionsData, causal: boolean, window: number): number[][] => {
    const keysOf = keysVisibleTo(positions, { causal, window });
    return [...positions.position.keys()].map((token) => [...keysOf(token)]);
  };

  test('packed: keys are the tokens of the same sequence', () => {
    expect(seen(at({}), true, 0)).toEqual([[0], [0, 1], [0, 1, 2], [3], [3, 4]]);
    expect(seen(at({}), false, 0)).toEqual([
      [0, 1, 2],
      [0, 1, 2],
      [0, 1, 2],
      [3, 4],
      [3, 4],
    ]);
    expect(seen(at({}), true, 2)).toEqual([[0], [0, 1], [1, 2], [3], [3, 4]]);
    expect(seen(at({}), false, 1)).toEqual([[0], [1], [2], [3], [4]]);
  });

  test('paged: rows of the cache by position', () => {
    // Two sequences decoding at positions 5 and 2, pages of 4 rows.
    const paged = at({
      packed: false,
      position: Int32Array.of(5, 2),
      sequence: Int32Array.of(0, 1),
      pages: [Int32Array.of(3, 0), Int32Array.of(1)],
    });
    expect(seen(paged, true, 0)).toEqual([
      [12, 13, 14, 15, 0, 1],
      [4, 5, 6],
    ]);
    expect(seen(paged, true, 3)).toEqual([
      [15, 0, 1],
      [4, 5, 6],
    ]);
  });

  test('paged, several tokens of one sequence: keys end at the last of them', () => {
    const chunk = at({
      packed: false,
      position: Int32Array.of(2, 3),
      sequence: Int32Array.of(0, 0),
      pages: [Int32Array.of(2)],
    });
    expect(seen(chunk, true, 0)).toEqual([
      [8, 9, 10],
      [8, 9, 10, 11],
    ]);
    expect(seen(chunk, false, 0)).toEqual([
      [8, 9, 10, 11],
      [8, 9, 10, 11],
    ]);
    expect(seen(chunk, false, 2)).toEqual([
      [9, 10, 11],
      [10, 11],
    ]);
  });
});
