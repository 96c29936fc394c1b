import { describe, expect, test } from 'vitest';
import { newState, packedPositions, pageTable, stepPositions } from '../interpret/positions.ts';
import { apply, asTensorType, randomTensor } from '../interpret/testing.ts';
import type { PositionsData, StateData, TensorData } from '../interpret/values.ts';
import type { StateDeclaration } from '../module.ts';
import type { StateType, Type } from '../types.ts';

const cache: StateDeclaration = {
  name: 'latent_cache',
  policy: 'paged',
  page: 4,
  fields: [
    { name: 'latent', type: asTensorType('f32[cached, 3]') },
    { name: 'codes', type: asTensorType('f8e4m3<1x2; f32>[cached, 4]') },
  ],
};
const stateType: StateType = { kind: 'state', state: 'latent_cache', count: null };
const at = 'positions[tokens, keys, sequences, outputs]';
const values = ['f32[tokens, 3]', 'f8e4m3<1x2; f32>[tokens, 4]'];
const application = (operands: readonly (string | Type)[]) => ({
  operands: [stateType, ...operands],
  states: [cache],
});

const codes = (rows: number, seed: number): TensorData => ({
  ...randomTensor([rows, 4], seed, 'f8e4m3'),
  scales: [{ shape: [rows, 2], data: randomTensor([rows, 2], seed + 1).data }],
});
const row = (t: { shape: readonly number[]; data: Float64Array }, i: number): number[] => {
  const n = t.shape[1];
  return [...t.data.slice(i * n, (i + 1) * n)];
};

function append(state: StateData, where: PositionsData, seed: number): [TensorData, TensorData] {
  const rows = where.position.length;
  const written: [TensorData, TensorData] = [randomTensor([rows, 3], seed), codes(rows, seed + 10)];
  const [same] = apply('cache_append', application([at, ...values]), [state, where, ...written], {
    sizes: { keys: 1 },
  });
  expect(same).toBe(state);
  return written;
}

describe('cache_append', () => {
  test('writes each row, codes and scales, where its position lies, and nothing else', () => {
    const state = newState(cache, null, 12);
    const pages = [Int32Array.from([2]), Int32Array.from([1, 0])];
    const [latent, scaled] = append(state, stepPositions([1, 3], [1, 2], 'last', 4, pages), 1);
    const { fields } = state.layers[0];
    // Sequence 0, position 1: page 2. Sequence 1, positions 3 and 4: pages 1 and 0.
    for (const [token, to] of [9, 7, 0].entries()) {
      expect(row(fields.latent, to)).toEqual(row(latent, token));
      expect(row(fields.codes, to)).toEqual(row(scaled, token));
      expect(row(fields.codes.scales[0], to)).toEqual(row(scaled.scales[0], token));
    }
    for (const untouched of [1, 2, 3, 4, 5, 6, 8, 10, 11])
      expect([...row(fields.latent, untouched), ...row(fields.codes, untouched)]).toEqual([
        0, 0, 0, 0, 0, 0, 0,
      ]);
  });

  test('a position without a page, and a page beyond the cache, are errors with numbers', () => {
    const short = {
      ...stepPositions([3], [1], 'last', 4, [Int32Array.from([0])]),
      position: Int32Array.from([9]),
    };
    expect(() => append(newState(cache, null, 4), short, 1)).toThrow(
      'position 9 of sequence 0 has no page: 1 pages of 4 rows are given',
    );
    const far = stepPositions([0], [1], 'last', 4, [Int32Array.from([5])]);
    expect(() => append(newState(cache, null, 8), far, 1)).toThrow(
      'position 0 of sequence 0 lies in row 20, but the cache has 8 rows',
    );
  });
});

test('cache_read gives all rows as they are now; later appends do not change what was read', () => {
  const state = newState(cache, null, 8);
  const pages = pageTable([8], 4);
  const [first] = append(state, stepPositions([0], [2], 'last', 4, pages), 1);
  const read = (field: string): TensorData =>
    apply('cache_read', { ...application([]), attributes: { field } }, [state])[0] as TensorData;
  const before = read('latent');
  expect(before.shape).toEqual([8, 3]);
  expect([...before.data.slice(0, 6)]).toEqual([...first.data]);
  append(state, stepPositions([0], [2], 'last', 4, pages), 5);
  expect([...before.data.slice(0, 6)]).toEqual([...first.data]);
  expect([...read('latent').data.slice(0, 6)]).not.toEqual([...first.data]);
  expect(read('codes').scales[0].shape).toEqual([8, 2]);
});

describe('remember', () => {
  const written = [randomTensor([3, 3], 7), codes(3, 8)];

  test('packed: appends, and gives the values themselves', () => {
    const state = newState(cache, null, 8);
    const where = packedPositions([1, 2], 'last', 4);
    const out = apply('remember', application([at, ...values]), [state, where, ...written]);
    expect(out[0]).toBe(state);
    expect(out.slice(1)).toEqual(written);
    expect(row(state.layers[0].fields.latent, 4)).toEqual(row(written[0], 1));
  });

  test('paged: appends, and gives the whole cache', () => {
    const state = newState(cache, null, 8);
    const paged = 'positions[tokens, cached, sequences, outputs]';
    const where = stepPositions([0, 3], [2, 1], 'last', 4, pageTable([4, 4], 4));
    const [, latent, scaled] = apply('remember', application([paged, ...values]), [
      state,
      where,
      ...written,
    ]) as TensorData[];
    expect(latent).toEqual(state.layers[0].fields.latent);
    expect(scaled).toEqual(state.layers[0].fields.codes);
    expect(row(latent, 7)).toEqual(row(written[0], 2));
  });
});

test('newState makes one set of fields per layer, and recurrent states need no rows', () => {
  const three = newState(cache, 3, 4);
  expect(three.layers.length).toBe(3);
  three.layers[0].fields.latent.data[0] = 1;
  expect(three.layers[1].fields.latent.data[0]).toBe(0);
  const recurrent: StateDeclaration = {
    name: 'memory',
    policy: 'recurrent',
    page: 0,
    fields: [{ name: 's', type: asTensorType('f32[4, 5]') }],
  };
  expect(newState(recurrent, null, 0).layers[0].fields.s.shape).toEqual([4, 5]);
});

test('says what is wrong', () => {
  const attempt =
    (op: string, operands: readonly (string | Type)[], attributes = {}) =>
    () =>
      apply(op, { operands, attributes, states: [cache] }, []);
  expect(
    attempt('cache_append', [{ ...stateType, count: 3 }, at, ...values]),
  ).toThrowErrorMatchingInlineSnapshot(
    `[OpProblem: cache_append works on one state, but state latent_cache[3] is 3 of them]`,
  );
  expect(attempt('cache_append', [stateType, at, values[0]])).toThrowErrorMatchingInlineSnapshot(
    `[OpProblem: cache_append: latent_cache has the fields latent, codes, but got 1 values]`,
  );
  expect(
    attempt('cache_append', [stateType, at, 'bf16[tokens, 3]', values[1]]),
  ).toThrowErrorMatchingInlineSnapshot(
    `[OpProblem: cache_append: field latent takes rows of f32[tokens, 3], but got bf16[tokens, 3]]`,
  );
  expect(
    attempt('cache_append', [stateType, at, values[0], 'f8e4m3<1x4; f32>[tokens, 4]']),
  ).toThrowErrorMatchingInlineSnapshot(
    `[OpProblem: cache_append: field codes takes rows of f8e4m3<1x2; f32>[tokens, 4], but got f8e4m3<1x4; f32>[tokens, 4]]`,
  );
  expect(attempt('cache_read', [stateType], { field: 'rope' })).toThrowErrorMatchingInlineSnapshot(
    `[OpProblem: cache_read: latent_cache has no field rope]`,
  );
  expect(
    attempt('cache_read', [{ ...stateType, state: 'other' }], { field: 'rope' }),
  ).toThrowErrorMatchingInlineSnapshot(`[OpProblem: cache_read: no state other is declared]`);
  expect(
    attempt('remember', [stateType, 'positions[tokens, 7, sequences, outputs]', ...values]),
  ).toThrowErrorMatchingInlineSnapshot(
    `[OpProblem: remember: keys must be the tokens or the cache's rows, but at is positions[tokens, 7, sequences, outputs]]`,
  );
});
