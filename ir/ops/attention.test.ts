import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cacheRows, packedPositions, pageTable, stepPositions } from '../interpret/positions.ts';
import {
  apply,
  decompositionError,
  largestDifference,
  randomTensor,
  type Application,
} from '../interpret/testing.ts';
import type { PositionsData, TensorData } from '../interpret/values.ts';
import { infer, problemOf } from './testing.ts';

const packedType = 'positions[tokens, tokens, sequences, outputs]';
const pagedType = 'positions[tokens, cached, sequences, outputs]';
const rows = (t: TensorData, n: number): number[][] =>
  Array.from({ length: t.shape[0] }, (_, i) => [...t.data.slice(i * n, (i + 1) * n)]);

describe('position_field', () => {
  const at = stepPositions([3, 0, 5], [2, 0, 1], 'last', 4, pageTable([8, 4, 8], 4));
  test.each([
    ['position', 'i32[tokens]', [3, 4, 5]],
    ['sequence', 'i32[tokens]', [0, 0, 2]],
    ['outputs', 'i32[outputs]', [1, 2]],
  ])('%s', (field, type, expected) => {
    expect(infer('position_field', [pagedType], { field })).toEqual([type]);
    const application = { operands: [pagedType], attributes: { field } };
    const [out] = apply('position_field', application, [at], { sizes: { cached: 32 } }) as TensorData[];
    expect([...out.data]).toEqual(expected);
  });
});

describe('visible', () => {
  const see = (at: PositionsData, keys: number, attributes = {}): string[] => {
    const operands = [at.packed ? packedType : pagedType];
    const options = at.packed ? {} : { sizes: { cached: keys } };
    const [out] = apply('visible', { operands, attributes }, [at], options) as TensorData[];
    return rows(out, keys).map((r) => r.map((v) => (v ? 'x' : '.')).join(''));
  };

  test('packed: earlier tokens of the same sequence', () => {
    expect(see(packedPositions([3, 2]), 5)).toEqual(['x....', 'xx...', 'xxx..', '...x.', '...xx']);
  });
  test('packed, not causal: the whole sequence', () => {
    expect(see(packedPositions([1, 2]), 3, { causal: false })).toEqual(['x..', '.xx', '.xx']);
  });
  test('a window', () => {
    expect(see(packedPositions([4]), 4, { window: 2 })).toEqual(['x...', 'xx..', '.xx.', '..xx']);
    expect(see(packedPositions([4]), 4, { window: 2, causal: false })).toEqual([
      'xx..',
      'xxx.',
      '.xxx',
      '..xx',
    ]);
  });
  test('paged: rows of the pages, in any order, shared pages too', () => {
    // Sequence 0 lies in pages 2, 0; sequence 1 shares its first page and goes on in page 1.
    const pages = [Int32Array.from([2, 0]), Int32Array.from([2, 1])];
    expect(see(stepPositions([2, 3], [1, 1], 'last', 2, pages), 6)).toEqual(['x...xx', '..xxxx']);
  });
  test('a page beyond the key axis is an error with the numbers', () => {
    const at = stepPositions([0], [1], 'last', 4, [Int32Array.from([3])]);
    expect(() => see(at, 8)).toThrow(
      'token 0 sees key row 12, but there are 8 key rows: check the page table',
    );
  });
});

const heads = (h: number, g: number, d: number, v: number, keys: string, dtype = 'f32'): Application => ({
  operands: [
    `${dtype}[tokens, ${h}, ${d}]`,
    `${dtype}[${keys}, ${g}, ${d}]`,
    `${dtype}[${keys}, ${g}, ${v}]`,
    keys === 'tokens' ? packedType : pagedType,
  ],
  attributes: { scale: 0.4 },
});
const with_ = (a: Application, attributes: object): Application => ({
  ...a,
  attributes: { ...a.attributes, ...attributes },
});

describe('attention: the decomposition means the same', () => {
  test.each([
    ['a key head per head', 3, 3],
    ['one key head for all', 4, 1],
    ['two key heads for six', 6, 2],
    ['a single head', 1, 1],
  ])('%s', (_, h, g) => {
    const inputs = [randomTensor([7, h, 5], 1), randomTensor([7, g, 5], 2), randomTensor([7, g, 4], 3)];
    const at = packedPositions([4, 3]);
    for (const attributes of [{}, { causal: false }, { window: 2 }, { causal: false, window: 3 }])
      expect(
        decompositionError('attention', with_(heads(h, g, 5, 4, 'tokens'), attributes), [...inputs, at]),
      ).toBeLessThan(1e-9);
  });

  test('over pages, in bf16', () => {
    const inputs = [
      [5, 2, 4],
      [16, 1, 4],
      [16, 1, 6],
    ].map((s, i) => randomTensor(s, 4 + i, 'bf16'));
    const at = stepPositions([3, 1], [2, 3], 'last', 4, [Int32Array.from([3, 0]), Int32Array.from([2])]);
    const application = heads(2, 1, 4, 6, 'cached', 'bf16');
    expect(decompositionError('attention', application, [...inputs, at])).toBeLessThan(1e-9);
    expect(decompositionError('attention', application, [...inputs, at], {})).toBeLessThan(0.02);
  });
});

test('attention over a paged cache equals packed attention, step by step or in chunks', () => {
  const lengths = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(
      lengths,
      fc.integer({ min: 1, max: 5 }),
      fc.integer(),
      fc.boolean(),
      (counts, chunk, seed, twoGroups) => {
        const [page, g, d, v] = [4, twoGroups ? 2 : 1, 3, 2];
        const total = counts.reduce((n, c) => n + c, 0);
        const [q, k, values] = [
          randomTensor([total, 4, d], seed),
          randomTensor([total, g, d], seed + 1),
          randomTensor([total, g, v], seed + 2),
        ];
        const [whole] = apply('attention', heads(4, g, d, v, 'tokens'), [
          q,
          k,
          values,
          packedPositions(counts),
        ]) as TensorData[];
        // Each sequence's pages in reverse order, so that rows and positions differ.
        const table = pageTable(counts, page).map((p) => p.reverse());
        const size = cacheRows(table, page);
        const starts = counts.map((_, s) => counts.slice(0, s).reduce((n, c) => n + c, 0));
        const scatter = (x: TensorData): TensorData => {
          const width = x.data.length / total;
          const data = new Float64Array(size * width);
          for (const [s, n] of counts.entries())
            for (let p = 0; p < n; p++) {
              const row = table[s][Math.floor(p / page)] * page + (p % page);
              data.set(x.data.subarray((starts[s] + p) * width, (starts[s] + p + 1) * width), row * width);
            }
          return { ...x, shape: [size, ...x.shape.slice(1)], data };
        };
        // Rows in the future hold their values already: causality must hide them.
        const [ck, cv] = [scatter(k), scatter(values)];
        for (let done = 0; done < Math.max(...counts); done += chunk) {
          const cached = counts.map((n) => Math.min(n, done));
          const step = counts.map((n, s) => Math.min(n - cached[s], chunk));
          const at = stepPositions(cached, step, 'all', page, table);
          const tokens = [...at.position].map((p, i) => starts[at.sequence[i]] + p);
          const part = {
            ...q,
            shape: [tokens.length, 4, d],
            data: Float64Array.from(tokens.flatMap((t) => [...q.data.slice(t * 4 * d, (t + 1) * 4 * d)])),
          };
          const [out] = apply('attention', heads(4, g, d, v, 'cached'), [part, ck, cv, at]) as TensorData[];
          const expected = tokens.flatMap((t) => [...whole.data.slice(t * 4 * v, (t + 1) * 4 * v)]);
          expect([...out.data]).toEqual(expected);
        }
      },
    ),
    { numRuns: 40 },
  );
});

test('attention of one visible key gives its value', () => {
  const inputs = [randomTensor([1, 2, 3], 7), randomTensor([1, 1, 3], 8), randomTensor([1, 1, 4], 9)];
  const [out] = apply('attention', heads(2, 1, 3, 4, 'tokens'), [
    ...inputs,
    packedPositions([1]),
  ]) as TensorData[];
  const twice = { ...out, data: Float64Array.from([...inputs[2].data, ...inputs[2].data]) };
  expect(largestDifference(out, twice)).toBe(0);
});

test('infers tokens by heads by width', () => {
  const operands = ['bf16[tokens, heads=8, 192]', 'bf16[keys, 1, 192]', 'bf16[keys, 1, v=128]'];
  const at = 'positions[tokens, keys, sequences, outputs]';
  expect(infer('attention', [...operands, at], { scale: 1 })).toEqual(['bf16[tokens, heads=8, v=128]']);
});

test('says what is wrong', () => {
  const at = 'positions[tokens, keys, sequences, outputs]';
  const say = (q: string, k: string, v: string): string =>
    problemOf('attention', [q, k, v, at], { scale: 1 });
  expect(say('f32[tokens, 3, 4]', 'f32[keys, 2, 4]', 'f32[keys, 2, 4]')).toMatchInlineSnapshot(
    `"k: attention: 2 key heads do not divide 3 query heads (use 1 key head to share it)"`,
  );
  expect(say('f32[tokens, 2, 4]', 'f32[tokens, 2, 4]', 'f32[tokens, 2, 4]')).toMatchInlineSnapshot(
    `"k: attention: k has the rows tokens, but at looks along keys (take k and v from remember, which gives what attention looks along)"`,
  );
  expect(say('f32[tokens, 2, 4]', 'bf16[keys, 2, 4]', 'bf16[keys, 2, 4]')).toMatchInlineSnapshot(
    `"k: attention needs q, k and v of one dtype: q is f32[tokens, 2, 4], k is bf16[keys, 2, 4], v is bf16[keys, 2, 4] (cast all to f32)"`,
  );
  expect(say('f32[tokens, 2, 4]', 'f32[keys, 2, 5]', 'f32[keys, 2, 4]')).toMatchInlineSnapshot(
    `"k: attention: q and k must be equally long per head: q is f32[tokens, 2, 4], k is f32[keys, 2, 5], v is f32[keys, 2, 4]"`,
  );
});
