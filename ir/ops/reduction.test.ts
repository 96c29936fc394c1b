import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { TensorData } from '../interpret/values.ts';
import { elementsOf, evaluate, infer, problemOf, value } from './testing.ts';

const x = value('f32[2, 3]', [1, 5, 3, 4, -2, 4]);
const on = (op: string, attributes: Record<string, number | number[]>) =>
  elementsOf(op, { operands: ['f32[2, 3]'], inputs: [x], attributes });

describe('meaning', () => {
  test.each<[string, Record<string, number | number[]>, number[]]>([
    ['sum', { axes: [1] }, [9, 6]],
    ['sum', { axes: [0] }, [5, 3, 7]],
    ['sum', { axes: [0, 1] }, [15]],
    ['max_over', { axes: [1] }, [5, 4]],
    ['max_over', { axes: [0] }, [4, 5, 4]],
    ['min_over', { axes: [1] }, [1, -2]],
    ['argmax', { axis: 1 }, [1, 0]],
    ['argmax', { axis: 0 }, [1, 0, 1]],
    ['cumsum', { axis: 1 }, [1, 6, 9, 4, 2, 6]],
    ['cumsum', { axis: 0 }, [1, 5, 3, 5, 3, 7]],
  ])('%s %j', (op, attributes, expected) => {
    expect(on(op, attributes)).toEqual(expected);
  });

  test('sums wider than its dtype', () => {
    // Each bf16 partial sum would stick at 256: 256 + 1 rounds back to it.
    const data = [256, ...new Array<number>(16).fill(1)];
    expect(
      elementsOf('sum', {
        operands: ['bf16[17]'],
        inputs: [value('bf16[17]', data)],
        attributes: { axes: [0] },
      }),
    ).toEqual([272]);
  });

  test('over an axis that is empty at run time', () => {
    const empty = { operands: ['f32[n]'], inputs: [value('f32[n]', [], [0])], sizes: { n: 0 } };
    expect(elementsOf('sum', { ...empty, attributes: { axes: [0] } })).toEqual([0]);
    expect(elementsOf('max_over', { ...empty, attributes: { axes: [0] } })).toEqual([-Infinity]);
    expect(() => elementsOf('argmax', { ...empty, attributes: { axis: 0 } })).toThrow('no elements');
  });

  test('top_k: descending, lowest index first on ties', () => {
    const row = value('f32[2, 5]', [3, 7, 7, -1, 7, 0, -Infinity, 0, NaN, 2]);
    const [values, indices] = evaluate('top_k', {
      operands: ['f32[2, 5]'],
      inputs: [row],
      attributes: { k: 3 },
    });
    expect([...(values as TensorData).data]).toEqual([7, 7, 7, 2, 0, 0]);
    expect([...(indices as TensorData).data]).toEqual([1, 2, 4, 4, 0, 2]);
  });

  test('top_k picks what no other element exceeds', () => {
    const row = fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(row, fc.nat(), (data, pick) => {
        const k = (pick % data.length) + 1;
        const t = `i32[${data.length}]`;
        const [values, indices] = evaluate('top_k', {
          operands: [t],
          inputs: [value(t, data)],
          attributes: { k },
        }).map((v) => [...(v as TensorData).data]);
        const rest = new Set(data.keys());
        for (const [i, index] of indices.entries()) {
          expect(values[i]).toBe(data[index]);
          // Nothing left beats it, and nothing equal stands before it.
          for (const other of rest) {
            expect(data[other]).toBeLessThanOrEqual(data[index]);
            if (data[other] === data[index]) expect(other).toBeGreaterThanOrEqual(index);
          }
          rest.delete(index);
        }
        expect(rest.size).toBe(data.length - k);
      }),
    );
  });
});

describe('types', () => {
  test('axes go, run-time axes may go', () => {
    expect(infer('sum', ['bf16[n, 4, m]'], { axes: [0, 2] })).toEqual(['bf16[4]']);
    expect(infer('argmax', ['f32[n, vocab=10]'], { axis: 1 })).toEqual(['i32[n]']);
    expect(infer('cumsum', ['i32[n, 4]'], { axis: 0 })).toEqual(['i32[n, 4]']);
    expect(infer('top_k', ['f32[n, 8]'], { k: 2 }, ['f32[n, top=2]', 'i32[n, top=2]'])).toEqual([
      'f32[n, top=2]',
      'i32[n, top=2]',
    ]);
  });

  test.each<[string, string, Record<string, number | number[]>, string]>([
    ['sum', 'bool[2]', { axes: [0] }, 'x: sum works on numbers, but x is bool[2] (cast x to f32)'],
    ['sum', 'f32[2]', { axes: [] }, 'axes: sum: no axes are given (name at least one axis)'],
    [
      'sum',
      'f32[2, 2]',
      { axes: [1, 0] },
      'axes: sum: axes [1, 0] must increase (name each axis once, in order)',
    ],
    ['max_over', 'f32[2]', { axes: [1] }, 'axes: max_over: axes 1 is no axis of f32[2] (use 0 to 0)'],
    ['min_over', 'f32[2]', { axes: [-1] }, 'axes: min_over: axes -1 is no axis of f32[2] (use 0 to 0)'],
    [
      'argmax',
      'f8e4m3<1x2; f32>[2, 2]',
      { axis: 0 },
      'x: argmax needs plain values, but x is scaled: f8e4m3<1x2; f32>[2, 2] (dequantize x first, or quantize after argmax)',
    ],
    ['cumsum', 'f32[2]', { axis: 1 }, 'axis: cumsum: axis 1 is no axis of f32[2] (use 0 to 0)'],
    ['top_k', 'f32[2, 4]', { k: 5 }, 'k: top_k: k is 5, but the last axis of f32[2, 4] has 4 (use 1 to 4)'],
    [
      'top_k',
      'f32[2, n]',
      { k: 1 },
      'x: top_k: the length of n is known only at run time, so k cannot be checked against it',
    ],
    ['top_k', 'f32[]', { k: 1 }, 'axis: top_k: axis -1 is no axis of f32[] (a scalar has no axes)'],
  ])('%s %s %j', (op, operand, attributes, expected) => {
    expect(problemOf(op, [operand], attributes)).toBe(expected);
  });
});
