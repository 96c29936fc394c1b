import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { quantizeTiles } from '../formats/index.ts';
import type { TensorData } from '../interpret/values.ts';
import { showType, type ScaleLevel } from '../types.ts';
import { opDefinition } from './index.ts';
import { elementsOf, evaluate, infer, problemOf, tensorType, value, type Application } from './testing.ts';

const counting = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const matrix = value('f32[2, 3]', [0, 1, 2, 3, 4, 5]);

describe('meaning', () => {
  test.each<[string, string, Application, number[]]>([
    [
      'a splat',
      'const',
      { operands: [], inputs: [], attributes: { value: -Infinity }, declared: ['f32[2]'] },
      [-Infinity, -Infinity],
    ],
    [
      'a splat over a run-time axis',
      'const',
      { operands: [], inputs: [], attributes: { value: 2 }, declared: ['i32[n]'], sizes: { n: 3 } },
      [2, 2, 2],
    ],
    ['nothing said is zero', 'const', { operands: [], inputs: [], declared: ['f32[]'] }, [0]],
    [
      'a table',
      'const',
      { operands: [], inputs: [], attributes: { values: [1, 2, 3, 4] }, declared: ['i32[2, 2]'] },
      [1, 2, 3, 4],
    ],
    [
      'along the last axis',
      'iota',
      { operands: [], inputs: [], attributes: { axis: 1 }, declared: ['i32[2, 3]'] },
      [0, 1, 2, 0, 1, 2],
    ],
    [
      'along the first axis',
      'iota',
      { operands: [], inputs: [], attributes: { axis: 0 }, declared: ['f32[n, 2]'], sizes: { n: 3 } },
      [0, 0, 1, 1, 2, 2],
    ],
    [
      'to rows',
      'broadcast',
      {
        operands: ['f32[2]'],
        inputs: [value('f32[2]', [5, 6])],
        attributes: { axes: [1] },
        declared: ['f32[n, 2]'],
        sizes: { n: 2 },
      },
      [5, 6, 5, 6],
    ],
    [
      'to columns',
      'broadcast',
      {
        operands: ['f32[2]'],
        inputs: [value('f32[2]', [5, 6])],
        attributes: { axes: [0] },
        declared: ['f32[2, 3]'],
      },
      [5, 5, 5, 6, 6, 6],
    ],
    [
      'a scalar',
      'broadcast',
      {
        operands: ['f32[]'],
        inputs: [value('f32[]', [7])],
        attributes: { axes: [] },
        declared: ['f32[2, 2]'],
      },
      [7, 7, 7, 7],
    ],
    [
      'keeps the order',
      'reshape',
      { operands: ['f32[2, 3]'], inputs: [matrix], declared: ['f32[3, 2]'] },
      counting(6),
    ],
    [
      'of a matrix',
      'transpose',
      { operands: ['f32[2, 3]'], inputs: [matrix], attributes: { order: [1, 0] } },
      [0, 3, 1, 4, 2, 5],
    ],
    [
      'columns',
      'slice',
      { operands: ['f32[2, 3]'], inputs: [matrix], attributes: { axis: 1, start: 1, stop: 3 } },
      [1, 2, 4, 5],
    ],
    [
      'rows',
      'slice',
      { operands: ['f32[2, 3]'], inputs: [matrix], attributes: { axis: 0, start: 1, stop: 2 } },
      [3, 4, 5],
    ],
    [
      'along the last axis',
      'concat',
      {
        operands: ['f32[2, 3]', 'f32[2, 1]'],
        inputs: [matrix, value('f32[2, 1]', [8, 9])],
        attributes: { axis: 1 },
      },
      [0, 1, 2, 8, 3, 4, 5, 9],
    ],
    [
      'along the first axis',
      'concat',
      {
        operands: ['f32[2, 3]', 'f32[1, 3]'],
        inputs: [matrix, value('f32[1, 3]', [7, 8, 9])],
        attributes: { axis: 0 },
      },
      [0, 1, 2, 3, 4, 5, 7, 8, 9],
    ],
    [
      'of one, over a run-time axis',
      'concat',
      {
        operands: ['f32[n]'],
        inputs: [value('f32[n]', [1, 2], [2])],
        attributes: { axis: 0 },
        sizes: { n: 2 },
      },
      [1, 2],
    ],
    [
      'columns',
      'pad',
      { operands: ['f32[2, 3]'], inputs: [matrix], attributes: { axis: 1, before: 1, after: 1, value: 9 } },
      [9, 0, 1, 2, 9, 9, 3, 4, 5, 9],
    ],
    [
      'rows',
      'pad',
      { operands: ['f32[2, 3]'], inputs: [matrix], attributes: { axis: 0, before: 0, after: 1 } },
      [0, 1, 2, 3, 4, 5, 0, 0, 0],
    ],
    [
      'by a list',
      'gather',
      {
        operands: ['f32[2, 3]', 'i32[n]'],
        inputs: [matrix, value('i32[n]', [1, 0, 1], [3])],
        sizes: { n: 3 },
      },
      [3, 4, 5, 0, 1, 2, 3, 4, 5],
    ],
    [
      'by a table',
      'gather',
      { operands: ['f32[2, 3]', 'i32[2, 1]'], inputs: [matrix, value('i32[2, 1]', [1, 0])] },
      [3, 4, 5, 0, 1, 2],
    ],
    [
      'by a scalar',
      'gather',
      { operands: ['f32[2, 3]', 'i32[]'], inputs: [matrix, value('i32[]', [1])] },
      [3, 4, 5],
    ],
  ])('%s: %s', (_, op, application, expected) => {
    expect(elementsOf(op, application)).toEqual(expected);
  });

  test('split gives every part', () => {
    const parts = evaluate('split', {
      operands: ['f32[2, 3]'],
      inputs: [matrix],
      attributes: { axis: 1, sizes: [2, 1] },
    });
    expect(parts.map((p) => [...(p as TensorData).data])).toEqual([
      [0, 1, 3, 4],
      [2, 5],
    ]);
  });

  test.each([-1, 2])('gather refuses the index %i at run time', (index) => {
    const inputs = [matrix, value('i32[1]', [index])];
    expect(() => evaluate('gather', { operands: ['f32[2, 3]', 'i32[1]'], inputs })).toThrow(`index ${index}`);
  });

  test('transpose moves element by element, for any order of axes', () => {
    const order = fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 });
    fc.assert(
      fc.property(fc.tuple(...[1, 2, 3, 4].map(() => fc.integer({ min: 1, max: 4 }))), order, (shape, by) => {
        const n = shape.reduce((a, b) => a * b, 1);
        const t = `i32[${shape.join(', ')}]`;
        const got = elementsOf('transpose', {
          operands: [t],
          inputs: [value(t, counting(n))],
          attributes: { order: by },
        });
        const resultShape = by.map((axis) => shape[axis]);
        for (let at = 0; at < n; at++) {
          // The index of this element in the result, then in x, then its place there.
          const index = resultShape.map(
            (_, i) => Math.floor(at / resultShape.slice(i + 1).reduce((a, b) => a * b, 1)) % resultShape[i],
          );
          const place = shape.reduce((sum, length, axis) => sum * length + index[by.indexOf(axis)], 0);
          expect(got[at]).toBe(place);
        }
      }),
    );
  });

  test('concat undoes split, along any axis', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 0, max: 2 }), (parts, axis) => {
        const shape = [2, 3, 2].with(
          axis,
          parts.reduce((a, b) => a + b, 0),
        );
        const t = `i32[${shape.join(', ')}]`;
        const x = value(t, counting(shape.reduce((a, b) => a * b, 1)));
        const cut = evaluate('split', { operands: [t], inputs: [x], attributes: { axis, sizes: parts } });
        const types = cut.map((p) => `i32[${(p as TensorData).shape.join(', ')}]`);
        expect(elementsOf('concat', { operands: types, inputs: cut, attributes: { axis } })).toEqual([
          ...x.data,
        ]);
      }),
    );
  });
});

describe('scaled operands keep their scales', () => {
  /** A value whose tiles all have different scales, and what it stands for. */
  function quantized(
    typeText: string,
    shape: readonly number[],
  ): { value: TensorData; meaning: Float64Array } {
    const t = tensorType(typeText);
    const tile = t.scales[0].tile;
    const n = shape.reduce((a, b) => a * b, 1);
    const values = Float64Array.from({ length: n }, (_, i) => Math.sin(i * 7.3) * (1 + i));
    const { codes, scales, scaleShape } = quantizeTiles({
      values,
      shape,
      tile,
      format: 'f8e4m3',
      scale: 'f32',
      amaxFloor: 0,
    });
    const v: TensorData = {
      kind: 'tensor',
      dtype: 'f8e4m3',
      shape,
      data: codes,
      scales: [{ shape: scaleShape, data: scales }],
    };
    return { value: v, meaning: decoded(v, t.scales[0]) };
  }

  /** code · scale of the tile, by index arithmetic. */
  function decoded(v: TensorData, level: ScaleLevel): Float64Array {
    return v.data.map((code, at) => {
      let [rest, place, step] = [at, 0, 1];
      for (let axis = v.shape.length - 1; axis >= 0; axis--) {
        place += Math.floor((rest % v.shape[axis]) / level.tile[axis]) * step;
        step *= v.scales[0].shape[axis];
        rest = Math.floor(rest / v.shape[axis]);
      }
      return code * v.scales[0].data[place];
    });
  }

  /** The op on the scaled value means what the op on the plain value means. */
  function commutes(
    op: string,
    typeText: string,
    shape: readonly number[],
    attributes: Record<string, number | number[]>,
    more: { type: string; value: TensorData }[] = [],
  ) {
    const x = quantized(typeText, shape);
    const plain = `f32[${shape.join(', ')}]`;
    const [types, values] = [more.map((m) => m.type), more.map((m) => m.value)];
    const scaled = evaluate(op, {
      operands: [typeText, ...types],
      inputs: [x.value, ...values],
      attributes,
      sizes: { n: shape[0] },
      rounding: false,
    });
    const resultTypes = infer(op, [typeText, ...types], attributes).map(tensorType);
    const expected = evaluate(op, {
      operands: [plain, ...types],
      inputs: [value(plain, [...x.meaning]), ...values],
      attributes,
      rounding: false,
    });
    for (const [i, v] of scaled.entries())
      expect([...decoded(v as TensorData, resultTypes[i].scales[0])]).toEqual([
        ...(expected[i] as TensorData).data,
      ]);
    return resultTypes.map(showType);
  }

  test('transpose', () => {
    expect(commutes('transpose', 'f8e4m3<2x4; f32>[6, 10]', [6, 10], { order: [1, 0] })).toEqual([
      'f8e4m3<4x2; f32>[10, 6]',
    ]);
  });
  test('slice between tiles, up to a ragged edge', () => {
    expect(commutes('slice', 'f8e4m3<2x4; f32>[6, 10]', [6, 10], { axis: 1, start: 4, stop: 10 })).toEqual([
      'f8e4m3<2x4; f32>[6, 6]',
    ]);
  });
  test('split between tiles', () => {
    expect(commutes('split', 'f8e4m3<2x4; f32>[6, 10]', [6, 10], { axis: 0, sizes: [4, 2] })).toEqual([
      'f8e4m3<2x4; f32>[4, 10]',
      'f8e4m3<2x4; f32>[2, 10]',
    ]);
  });
  test('gather of rows with scales of their own', () => {
    const index = { type: 'i32[2, 2]', value: value('i32[2, 2]', [3, 0, 1, 3]) };
    expect(commutes('gather', 'f8e4m3<1x4; pow2>[n, 10]', [4, 10], {}, [index])).toEqual([
      'f8e4m3<1x1x4; pow2>[2, 2, 10]',
    ]);
  });
  test('concat of whole tiles', () => {
    const [a, b] = [quantized('f8e4m3<2x4; f32>[4, 6]', [4, 6]), quantized('f8e4m3<2x4; f32>[3, 6]', [3, 6])];
    const operands = ['f8e4m3<2x4; f32>[4, 6]', 'f8e4m3<2x4; f32>[3, 6]'];
    const [joined] = evaluate('concat', {
      operands,
      inputs: [a.value, b.value],
      attributes: { axis: 0 },
      rounding: false,
    });
    expect([...decoded(joined as TensorData, tensorType(operands[0]).scales[0])]).toEqual([
      ...a.meaning,
      ...b.meaning,
    ]);
  });
});

describe('types', () => {
  test.each<[string, string[], Record<string, number | number[]>, string[] | undefined, string[]]>([
    ['reshape', ['bf16[tokens, 8, 4]'], {}, ['bf16[tokens, 32]'], ['bf16[tokens, 32]']],
    ['reshape', ['bf16[6, tokens, 8]'], {}, ['bf16[2, 3, tokens, 2, 4]'], ['bf16[2, 3, tokens, 2, 4]']],
    ['reshape', ['bf16[tokens]'], {}, ['bf16[tokens, 1]'], ['bf16[tokens, 1]']],
    [
      'transpose',
      ['f8e4m3<1x128x64; f32>[8, n, 64]'],
      { order: [2, 0, 1] },
      undefined,
      ['f8e4m3<64x1x128; f32>[64, 8, n]'],
    ],
    ['slice', ['f32[n, hidden=8]'], { axis: 1, start: 0, stop: 8 }, undefined, ['f32[n, hidden=8]']],
    ['slice', ['f32[n, hidden=8]'], { axis: 1, start: 2, stop: 8 }, undefined, ['f32[n, 6]']],
    [
      'split',
      ['f32[n, qk=192]'],
      { axis: 1, sizes: [128, 64] },
      ['f32[n, nope=128]', 'f32[n, rope=64]'],
      ['f32[n, nope=128]', 'f32[n, rope=64]'],
    ],
    [
      'concat',
      ['f8e4m3<128x128; f32>[1536, 7168]', 'f8e4m3<128x128; f32>[576, 7168]'],
      { axis: 0 },
      undefined,
      ['f8e4m3<128x128; f32>[2112, 7168]'],
    ],
    ['gather', ['bf16[vocab=10, 8]', 'i32[tokens]'], {}, undefined, ['bf16[tokens, 8]']],
    ['pad', ['f32[n, 3]'], { axis: 1, before: 0, after: 0 }, undefined, ['f32[n, 3]']],
  ])('%s %j %j', (op, operands, attributes, declared, expected) => {
    expect(infer(op, operands, attributes, declared)).toEqual(expected);
  });

  test.each<[string, string[], Record<string, number | number[]>, string[] | undefined, string]>([
    [
      'const',
      [],
      { values: [1, 2, 3] },
      ['f32[2]'],
      'values: const: 3 values do not fill f32[2] (give 2 values)',
    ],
    ['const', [], { values: [1], value: 2 }, ['f32[1]'], 'values: const takes value or values, not both'],
    [
      'const',
      [],
      { values: [1] },
      ['f32[n]'],
      'values: const: the length of n is known only at run time, so a table cannot fill it (broadcast a table over static axes)',
    ],
    [
      'const',
      [],
      { value: 0.5 },
      ['i32[2]'],
      'value: const: 0.5 is no i32 (write a whole number in range, or declare a float dtype)',
    ],
    [
      'const',
      [],
      { value: 2 ** 31 },
      ['i32[2]'],
      'value: const: 2147483648 is no i32 (write a whole number in range, or declare a float dtype)',
    ],
    ['const', [], { values: [0, 2] }, ['bool[2]'], 'values: const: 2 is no bool (write 0 or 1)'],
    ['const', [], {}, undefined, '-: const cannot know its result type (write the result type)'],
    ['iota', [], { axis: 0 }, ['f32[]'], 'axis: iota: axis 0 is no axis of f32[] (a scalar has no axes)'],
    [
      'iota',
      [],
      { axis: 0 },
      ['bool[2]'],
      '-: iota counts in integers or floats, but bool[2] is declared (declare i32)',
    ],
    [
      'broadcast',
      ['f32[4]'],
      { axes: [] },
      ['f32[4, 4]'],
      'axes: broadcast: x is f32[4], but 0 axes are given (give 1, one for each axis of x)',
    ],
    [
      'broadcast',
      ['f32[2, 3]'],
      { axes: [1, 0] },
      ['f32[3, 2]'],
      'axes: broadcast: axes [1, 0] must increase (transpose x first)',
    ],
    [
      'broadcast',
      ['f32[1]'],
      { axes: [0] },
      ['f32[4]'],
      'x: broadcast: axis 0 of x is 1, axis 0 of the result is 4: x is f32[1], the result f32[4] (an axis of length 1 is not stretched: reshape it away first)',
    ],
    [
      'broadcast',
      ['f32[4]'],
      { axes: [2] },
      ['f32[4, 4]'],
      'axes: broadcast: axes 2 is no axis of f32[4, 4] (use 0 to 1)',
    ],
    [
      'broadcast',
      ['f32[4]'],
      { axes: [0] },
      ['bf16[4, 4]'],
      'x: broadcast keeps the dtype: x is f32[4], the result is bf16[4, 4] (cast in a step of its own)',
    ],
    [
      'broadcast',
      ['f8e4m3<4; f32>[4]'],
      { axes: [0] },
      ['f8e4m3[4, 4]'],
      'x: broadcast needs plain values, but x is scaled: f8e4m3<4; f32>[4] (dequantize x first, or quantize after broadcast)',
    ],
    [
      'reshape',
      ['f32[n, 4]'],
      {},
      ['f32[4, n]'],
      'x: reshape keeps the number of elements: x is f32[n, 4] with 1 before n, the result f32[4, n] has 4',
    ],
    [
      'reshape',
      ['f32[n, 6]'],
      {},
      ['f32[n, 2, 4]'],
      'x: reshape keeps the number of elements: x is f32[n, 6] with 6 after n, the result f32[n, 2, 4] has 8',
    ],
    [
      'reshape',
      ['f32[n, m]'],
      {},
      ['f32[m, n]'],
      'x: reshape cannot merge, split or reorder run-time axes: x is f32[n, m], the result is f32[m, n] (keep the run-time axes as they are; transpose reorders)',
    ],
    [
      'reshape',
      ['f32[6]'],
      {},
      ['f32[7]'],
      'x: reshape keeps the number of elements: x is f32[6] with 6, the result f32[7] has 7',
    ],
    [
      'reshape',
      ['f32[6]'],
      {},
      ['bf16[6]'],
      'x: reshape keeps the dtype: x is f32[6], the result is bf16[6] (cast in a step of its own)',
    ],
    [
      'transpose',
      ['f32[2, 3]'],
      { order: [0, 0] },
      undefined,
      'order: transpose: order [0, 0] does not name every axis of f32[2, 3] once (give the numbers 0 to 1 in some order)',
    ],
    [
      'slice',
      ['f32[2, 3]'],
      { axis: 1, start: 1, stop: 4 },
      undefined,
      'stop: slice: 1 to 4 is no part of axis 3 (use 0 <= start < stop <= 3)',
    ],
    [
      'slice',
      ['f32[2, 3]'],
      { axis: 1, start: 1, stop: 1 },
      undefined,
      'stop: slice: 1 to 1 is no part of axis 3 (use 0 <= start < stop <= 3)',
    ],
    [
      'slice',
      ['f32[n, 3]'],
      { axis: 0, start: 0, stop: 1 },
      undefined,
      'axis: slice: the length of n is known only at run time, so it cannot be cut (gather the rows by index)',
    ],
    [
      'slice',
      ['f8e4m3<128x128; f32>[256, 256]'],
      { axis: 0, start: 64, stop: 256 },
      undefined,
      'start: slice would cut through a scale tile: f8e4m3<128x128; f32>[256, 256] has tiles of 128 along axis 0, the cut is at 64 (cut at a multiple of 128, or slice before quantize)',
    ],
    [
      'slice',
      ['f8e4m3<*x128; f32>[256, 256]'],
      { axis: 0, start: 0, stop: 128 },
      undefined,
      'start: slice would cut through a scale tile: f8e4m3<*x128; f32>[256, 256] has tiles of 256 along axis 0, the cut is at 128 (cut at a multiple of 256, or slice before quantize)',
    ],
    [
      'split',
      ['f32[2, 8]'],
      { axis: 1, sizes: [4, 3] },
      undefined,
      'sizes: split: sizes [4, 3] add up to 7, but axis 1 of f32[2, 8] has 8 (give sizes that add up to 8)',
    ],
    [
      'split',
      ['f32[2, 8]'],
      { axis: 1, sizes: [8, 0] },
      undefined,
      'sizes: split: sizes [8, 0] must be one or more positive lengths',
    ],
    [
      'split',
      ['f8e4m3<1x128; f32>[n, 576]'],
      { axis: 1, sizes: [500, 76] },
      undefined,
      'sizes: split would cut through a scale tile: f8e4m3<1x128; f32>[n, 576] has tiles of 128 along axis 1, the cut is at 500 (cut at a multiple of 128, or split before quantize)',
    ],
    ['concat', [], { axis: 0 }, undefined, 'x: concat needs at least one operand'],
    [
      'concat',
      ['f32[2]', 'bf16[2]'],
      { axis: 0 },
      undefined,
      'x: concat joins tensors that differ along axis 0 only: operand 0 is f32[2], operand 1 is bf16[2] (cast operand 1 to f32)',
    ],
    [
      'concat',
      ['f32[2, 3]', 'f32[2, 4]'],
      { axis: 0 },
      undefined,
      'x: concat joins tensors that differ along axis 0 only: operand 0 is f32[2, 3], operand 1 is f32[2, 4]',
    ],
    [
      'concat',
      ['f32[n]', 'f32[2]'],
      { axis: 0 },
      undefined,
      'x: concat: the length of n is known only at run time, so it cannot be joined with others',
    ],
    [
      'concat',
      ['f8e4m3<128x128; f32>[576, 256]', 'f8e4m3<128x128; f32>[128, 256]'],
      { axis: 0 },
      undefined,
      'x: concat would mix scale tiles: operand 0 is f8e4m3<128x128; f32>[576, 256], whose axis 0 ends inside a tile (concat before quantize)',
    ],
    [
      'pad',
      ['f32[2]'],
      { axis: 0, before: -1, after: 0 },
      undefined,
      'before: pad: before is -1 (give 0 or more; slice removes elements)',
    ],
    [
      'pad',
      ['f32[n]'],
      { axis: 0, before: 1, after: 0 },
      undefined,
      'axis: pad: the length of n is known only at run time, so it cannot be lengthened (declare a longer run-time axis)',
    ],
    [
      'pad',
      ['i32[2]'],
      { axis: 0, before: 1, after: 0, value: 0.5 },
      undefined,
      'value: pad: 0.5 is no i32 (write a whole number in range, or declare a float dtype)',
    ],
    [
      'gather',
      ['f32[2]', 'f32[2]'],
      {},
      undefined,
      'i: gather works on integers, but i is f32[2] (cast i to i32)',
    ],
    ['gather', ['f32[]', 'i32[2]'], {}, undefined, 'x: gather needs rows, but x is the scalar f32[]'],
    [
      'gather',
      ['f8e4m3<128x128; f32>[256, 256]', 'i32[2]'],
      {},
      undefined,
      'x: gather takes single rows, but x is f8e4m3<128x128; f32>[256, 256], whose scale tiles hold several rows (gather before quantize, or quantize with one scale row per row)',
    ],
  ])('%s %j %j', (op, operands, attributes, declared, expected) => {
    expect(problemOf(op, operands, attributes, declared)).toBe(expected);
  });
});

test('costs: what is moved, not what it is taken from', () => {
  const cost = (op: string, operands: string[], results: string[]) =>
    opDefinition(op).cost!(operands.map(tensorType), results.map(tensorType), {}, () => 4);
  expect(cost('gather', ['bf16[1000, 8]', 'i32[n]'], ['bf16[n, 8]']).bytes).toBe(2 * 4 * 8 * 2 + 4 * 4);
  expect(cost('slice', ['f32[n, 100]'], ['f32[n, 10]']).bytes).toBe(2 * 4 * 10 * 4);
  expect(cost('reshape', ['f32[n, 100]'], ['f32[n, 10, 10]']).bytes).toBe(0);
});
