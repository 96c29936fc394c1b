import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { packedPositions, stepPositions } from '../interpret/positions.ts';
import {
  apply,
  decompositionError,
  largestDifference,
  randomTensor,
  type Application,
} from '../interpret/testing.ts';
import type { PositionsData, RuntimeValue, TensorData } from '../interpret/values.ts';
import { infer, problemOf } from './testing.ts';

const positions = 'positions[tokens, tokens, sequences, outputs]';
const at = packedPositions([4, 3], 'all');
const frequencies = [1, 0.1, 0.003];

/** Shapes with a run-time axis, several ranks, and dtypes that need casts. */
const cases: readonly (readonly [string, string, Application, readonly RuntimeValue[]])[] = [
  [
    'rms_norm',
    'f32 rows',
    { operands: ['f32[tokens, 24]', 'f32[24]'], attributes: { epsilon: 1e-6 } },
    [randomTensor([7, 24], 1), randomTensor([24], 2)],
  ],
  [
    'rms_norm',
    'bf16, three axes, f32 weight',
    { operands: ['bf16[tokens, 2, 8]', 'f32[8]'], attributes: { epsilon: 0.5 } },
    [randomTensor([3, 2, 8], 3, 'bf16'), randomTensor([8], 4)],
  ],
  [
    'rms_norm_quantize',
    '1x8 tiles',
    {
      operands: ['bf16[tokens, 24]', 'bf16[24]'],
      attributes: { epsilon: 1e-6 },
      declared: ['bf16[tokens, 24]', 'f8e4m3<1x8; f32>[tokens, 24]'],
    },
    [randomTensor([5, 24], 5, 'bf16'), randomTensor([24], 6, 'bf16')],
  ],
  [
    'softmax',
    'last axis',
    { operands: ['f32[tokens, 9]'], attributes: { axis: 1 } },
    [randomTensor([5, 9], 7)],
  ],
  [
    'softmax',
    'middle axis, bf16',
    { operands: ['bf16[3, tokens, 4]'], attributes: { axis: 1 } },
    [randomTensor([3, 6, 4], 8, 'bf16')],
  ],
  [
    'silu_mul',
    'two operands',
    { operands: ['bf16[slots, 6]', 'bf16[slots, 6]'] },
    [randomTensor([5, 6], 9, 'bf16'), randomTensor([5, 6], 10, 'bf16')],
  ],
  [
    'silu_mul',
    'with a weight per row',
    { operands: ['f32[slots, 2, 3]', 'f32[slots, 2, 3]', 'f32[slots]'] },
    [randomTensor([5, 2, 3], 11), randomTensor([5, 2, 3], 12), randomTensor([5], 13)],
  ],
  [
    'silu_mul_quantize',
    'with a weight per row',
    {
      operands: ['bf16[slots, 16]', 'bf16[slots, 16]', 'f32[slots]'],
      declared: ['f8e4m3<1x16; pow2>[slots, 16]'],
    },
    [randomTensor([5, 16], 14, 'bf16'), randomTensor([5, 16], 15, 'bf16'), randomTensor([5], 16)],
  ],
  [
    'rope',
    'one vector per token',
    { operands: ['f32[tokens, 6]', positions], attributes: { frequencies } },
    [randomTensor([7, 6], 17), at],
  ],
  [
    'rope',
    'heads, bf16, scaled',
    { operands: ['bf16[tokens, 4, 6]', positions], attributes: { frequencies, scale: 1.5 } },
    [randomTensor([7, 4, 6], 18, 'bf16'), at],
  ],
];

describe('the decomposition means the same', () => {
  test.each(cases)('%s: %s', (op, _, application, inputs) => {
    expect(decompositionError(op, application, inputs)).toBeLessThan(1e-9);
  });

  // With rounding, values in between are f32: plain results differ by ulps of their dtype at most.
  test.each(cases.filter(([op]) => !op.endsWith('quantize')))(
    '%s: %s, rounded',
    (op, _, application, inputs) => {
      expect(decompositionError(op, application, inputs, {})).toBeLessThan(0.03);
    },
  );
});

test('rms_norm_quantize is rms_norm, then quantize of the rounded result', () => {
  const [x, w] = [randomTensor([4, 256], 20, 'bf16'), randomTensor([256], 21, 'bf16')];
  const operands = ['bf16[tokens, 256]', 'bf16[256]'];
  const declared = ['bf16[tokens, 256]', 'f8e4m3<1x128; f32>[tokens, 256]'];
  const attributes = { epsilon: 1e-6 };
  const [normed, scaled] = apply('rms_norm_quantize', { operands, attributes, declared }, [
    x,
    w,
  ]) as TensorData[];
  const [alone] = apply('rms_norm', { operands, attributes }, [x, w]) as TensorData[];
  expect(largestDifference(normed, alone)).toBe(0);
  const [q] = apply('quantize', { operands: [declared[0]], declared: [declared[1]] }, [
    alone,
  ]) as TensorData[];
  expect(scaled).toEqual(q);
});

describe('rope', () => {
  const yarn = JSON.parse(readFileSync(new URL('../../test/golden/yarn.json', import.meta.url), 'utf8'));
  const standing = (position: readonly number[]): PositionsData => ({
    ...packedPositions([position.length]),
    position: Int32Array.from(position),
  });

  test('the layout example of the official code', () => {
    const { theta, dim, position, x, official_interleaved_out: expected } = yarn.layout_example;
    const attributes = { frequencies: Array.from({ length: dim / 2 }, (_, j) => theta ** ((-2 * j) / dim)) };
    const input: TensorData = {
      kind: 'tensor',
      dtype: 'f32',
      shape: [1, dim],
      data: Float64Array.from(x),
      scales: [],
    };
    const [out] = apply('rope', { operands: [`f32[tokens, ${dim}]`, positions], attributes }, [
      input,
      standing([position]),
    ]) as TensorData[];
    for (let i = 0; i < dim; i++) expect(out.data[i]).toBeCloseTo(expected[i], 6);
  });

  test.each(['deepseek_v3', 'none', 'v2_lite'])('cos and sin of %s', (name) => {
    const { inv_freq_f64, positions: steps, cos_f64, sin_f64, cos_sin_columns, cos_sin_factor } = yarn[name];
    const pairs = inv_freq_f64.length;
    // Pairs (1, 0) turn into (cos, sin).
    const data = Float64Array.from({ length: steps.length * 2 * pairs }, (_, i) => 1 - (i % 2));
    const input: TensorData = {
      kind: 'tensor',
      dtype: 'f32',
      shape: [steps.length, 2 * pairs],
      data,
      scales: [],
    };
    const attributes = { frequencies: inv_freq_f64, scale: cos_sin_factor };
    const [out] = apply('rope', { operands: [`f32[tokens, ${2 * pairs}]`, positions], attributes }, [
      input,
      standing(steps),
    ]) as TensorData[];
    for (const [row, cosines] of cos_f64.entries())
      for (const [i, column] of cos_sin_columns.entries()) {
        expect(out.data[row * 2 * pairs + 2 * column]).toBeCloseTo(cosines[i], 6);
        expect(out.data[row * 2 * pairs + 2 * column + 1]).toBeCloseTo(sin_f64[row][i], 6);
      }
  });

  test('turns by position, not by place in the batch', () => {
    const x = randomTensor([2, 6], 22);
    const twice: TensorData = {
      ...x,
      data: Float64Array.from([...x.data.slice(0, 6), ...x.data.slice(0, 6)]),
    };
    const pages = [Int32Array.from([0]), Int32Array.from([1])];
    const both = stepPositions([5, 5], [1, 1], 'last', 64, pages);
    const [out] = apply(
      'rope',
      {
        operands: ['f32[tokens, 6]', 'positions[tokens, keys, sequences, outputs]'],
        attributes: { frequencies },
      },
      [twice, both],
    ) as TensorData[];
    expect(out.data.slice(0, 6)).toEqual(out.data.slice(6));
  });
});

test('softmax of large and of masked scores', () => {
  const x: TensorData = {
    kind: 'tensor',
    dtype: 'f32',
    shape: [2, 3],
    data: Float64Array.from([1e30, 1e30, -1e30, -Infinity, 5, -Infinity]),
    scales: [],
  };
  const [out] = apply('softmax', { operands: ['f32[2, 3]'], attributes: { axis: 1 } }, [x]) as TensorData[];
  expect([...out.data]).toEqual([0.5, 0.5, 0, 0, 1, 0]);
});

test('infers shapes, keeping names', () => {
  expect(infer('rms_norm', ['bf16[tokens, hidden=8]', 'bf16[8]'], { epsilon: 1e-6 })).toEqual([
    'bf16[tokens, hidden=8]',
  ]);
  expect(infer('rope', ['bf16[tokens, 2, 4]', positions], { frequencies: [1, 2] })).toEqual([
    'bf16[tokens, 2, 4]',
  ]);
});

test('says what is wrong', () => {
  expect(problemOf('rms_norm', ['bf16[tokens, 8]', 'bf16[4]'], { epsilon: 1e-6 })).toMatchInlineSnapshot(
    `"w: rms_norm: w must have one element for each of x's last axis: x is bf16[tokens, 8], w is bf16[4]"`,
  );
  expect(
    problemOf('rms_norm', ['f8e4m3<1x8; f32>[tokens, 8]', 'bf16[8]'], { epsilon: 1e-6 }),
  ).toMatchInlineSnapshot(
    `"x: rms_norm needs plain values, but x is scaled: f8e4m3<1x8; f32>[tokens, 8] (dequantize x first, or quantize after rms_norm)"`,
  );
  expect(problemOf('silu_mul', ['bf16[8]', 'bf16[4]'])).toMatchInlineSnapshot(
    `"up: silu_mul needs gate and up of one type: gate is bf16[8], up is bf16[4]"`,
  );
  expect(problemOf('silu_mul', ['bf16[slots, 8]', 'bf16[slots, 8]', 'f32[tokens]'])).toMatchInlineSnapshot(
    `"weight: silu_mul: weight must have one element for each row of gate: gate is bf16[slots, 8], weight is f32[tokens] (use routing_field {field = slot_weights})"`,
  );
  expect(problemOf('rope', ['bf16[tokens, 8]', positions], { frequencies: [1] })).toMatchInlineSnapshot(
    `"frequencies: rope turns pairs: the last axis of bf16[tokens, 8] must be 2 long, twice the number of frequencies"`,
  );
  expect(problemOf('rope', ['bf16[rows, 2]', positions], { frequencies: [1] })).toMatchInlineSnapshot(
    `"x: rope needs x[tokens, …, D]: x is bf16[rows, 2], at is positions[tokens, tokens, sequences, outputs]"`,
  );
  expect(problemOf('silu_mul_quantize', ['bf16[8]', 'bf16[8]'])).toMatchInlineSnapshot(
    `"-: silu_mul_quantize cannot know how its codes are tiled (write its result type)"`,
  );
});
