// Tolerances and distances: what passes, what does not, and that every difference is seen somewhere.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { round } from '../../../ir/formats/index.ts';
import type { RoutingData, RuntimeValue, StateData, TensorData } from '../../../ir/interpret/values.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import { differences, distanceOf, showTolerance, toleranceOf } from './values.ts';

const tensor = (dtype: TensorData['dtype'], data: readonly number[], shape = [data.length]): TensorData => ({
  ...{ kind: 'tensor', dtype, shape, data: Float64Array.from(data) },
  scales: [],
});
const many = (dtype: TensorData['dtype'], n: number, value: (i: number) => number): TensorData =>
  tensor(
    dtype,
    Array.from({ length: n }, (_, i) => round(dtype, value(i))),
  );

const isRight = (got: RuntimeValue, want: RuntimeValue, sums?: 'f32' | 'fp8'): boolean =>
  differences('x', got, want, sums).length === 0;

describe('f32', () => {
  const want = tensor('f32', [100, 1, 0, -3], [2, 2]);
  test.each<readonly [string, readonly number[], boolean]>([
    ['the same', [100, 1, 0, -3], true],
    ['within 1e-5 of the largest of its row, also where it is small', [100, 1.0009, 0, -3], true],
    ['beyond it', [100, 1.0011, 0, -3], false],
    ['the largest of another row does not count', [100, 1, 0.0009, -3], false],
    ['not a number', [100, NaN, 0, -3], false],
    ['infinite', [100, 1, 0, -Infinity], false],
  ])('%s', (_, data, right) => expect(isRight(tensor('f32', data, [2, 2]), want)).toBe(right));

  test('sums of FP8 products may be 5e-4 of the row off', () => {
    expect(isRight(tensor('f32', [100, 1.049, 0, -3], [2, 2]), want, 'fp8')).toBe(true);
    expect(isRight(tensor('f32', [100, 1.051, 0, -3], [2, 2]), want, 'fp8')).toBe(false);
  });

  test('NaN where NaN should be is right', () => {
    const nan = tensor('f32', [NaN, Infinity]);
    expect(isRight(nan, nan)).toBe(true);
    expect(distanceOf(typeOf('f32[2]'), nan, nan)).toEqual({ maxAbs: 0, relativeL2: 0 });
  });
});

describe('narrow floats', () => {
  const want = many('bf16', 1000, (i) => 1 + (i % 100) / 100);
  const moved = (count: number, by: number): TensorData => ({
    ...want,
    data: want.data.map((x, i) => (i < count ? x + by * 2 ** -7 : x)),
  });
  test('one step, of few', () => {
    expect(isRight(moved(12, 1), want)).toBe(true);
    expect(isRight(moved(12, -1), want)).toBe(true);
  });
  test('two steps of one', () => expect(isRight(moved(1, 2), want)).toBe(false));
  test('one step of many: 1 % and two', () => {
    expect(differences('x', moved(13, 1), want)).toEqual(['%x: 13 of 1000 elements rounded otherwise']);
    expect(isRight(moved(13, 1), want, 'fp8')).toBe(true);
    expect(isRight(moved(103, 1), want, 'fp8')).toBe(false);
  });
  test('codes of a scaled tensor have no tolerance but their step', () => {
    const codes = many('f8e4m3', 128, (i) => (i % 15) - 7);
    const scaled = (data: Float64Array, scale: number): TensorData => ({
      ...{ ...codes, shape: [1, 128], data },
      scales: [{ shape: [1, 1], data: Float64Array.of(scale) }],
    });
    const right = scaled(codes.data, 0.5);
    const off = (by: number): TensorData =>
      scaled(
        codes.data.map((x, i) => (i === 3 ? x + by : x)),
        0.5,
      );
    // Beside -4 a step is a half.
    expect(isRight(off(-0.5), right)).toBe(true);
    expect(isRight(off(-1.5), right)).toBe(false);
    expect(isRight(scaled(codes.data, 0.5 * (1 + 2 ** -23)), right)).toBe(true);
    expect(isRight(scaled(codes.data, 0.51), right)).toBe(false);
    const type = typeOf('f8e4m3[1, 128]');
    expect(type.kind === 'tensor' && distanceOf(type, off(-0.5), right)!.maxAbs).toBe(0.5);
  });
});

test('integers are exact', () => {
  expect(isRight(tensor('i32', [1, 2]), tensor('i32', [1, 2]))).toBe(true);
  expect(isRight(tensor('i32', [1, 3]), tensor('i32', [1, 2]))).toBe(false);
});

test('another kind, dtype or shape is a difference', () => {
  const want = tensor('f32', [1, 2]);
  expect(isRight(tensor('bf16', [1, 2]), want)).toBe(false);
  expect(isRight(tensor('f32', [1, 2], [1, 2]), want)).toBe(false);
  expect(isRight({ kind: 'state', layers: [] }, want)).toBe(false);
  // Rows beyond the reference's are not in use.
  expect(isRight(tensor('f32', [1, 2, 9], [3]), want)).toBe(true);
});

describe('routings', () => {
  const want: RoutingData = {
    ...{ kind: 'routing', tokens: 2, experts: 3, top: 1 },
    ...{ indices: Int32Array.of(2, 0), weights: Float64Array.of(0.5, 1) },
    ...{ offsets: Int32Array.of(0, 1, 1, 2), tokenOf: Int32Array.of(1, 0), choiceOf: Int32Array.of(0, 0) },
    slotOf: Int32Array.of(1, 0),
  };
  const type = typeOf('f32[2]');
  test('choices are exact, weights have units in the last place', () => {
    expect(isRight(want, want)).toBe(true);
    expect(isRight({ ...want, weights: Float64Array.of(0.5, 1 + 3e-7) }, want)).toBe(true);
    expect(isRight({ ...want, weights: Float64Array.of(0.5, 1 + 5e-7) }, want)).toBe(false);
    for (const field of ['indices', 'offsets', 'tokenOf', 'choiceOf', 'slotOf'] as const)
      expect(isRight({ ...want, [field]: want[field].map((x, i) => x + Number(i === 0)) }, want)).toBe(false);
  });
  test('other experts have no distance', () => {
    expect(distanceOf(type, want, want)).toEqual({ maxAbs: 0, relativeL2: 0 });
    expect(distanceOf(type, { ...want, indices: Int32Array.of(1, 0) }, want)).toBeNull();
  });
});

test('every field of every layer of a state counts', () => {
  const state = (x: number): StateData => ({
    kind: 'state',
    layers: [0, 1].map((n) => ({
      fields: { k: tensor('f32', [1, n === 1 ? x : 2]), v: tensor('f32', [3]) },
    })),
  });
  expect(isRight(state(4), state(4))).toBe(true);
  expect(differences('s', state(5), state(4))).toEqual(['%s.k[1] is 5, should be 4']);
  expect(distanceOf(typeOf('f32[2]'), state(5), state(4))!.maxAbs).toBe(1);
});

test('distances are those of the definition, zero only for equal values', () => {
  const number = fc.float({ min: -9, max: 9, noNaN: true });
  fc.assert(
    fc.property(fc.array(fc.tuple(number, number), { minLength: 1 }), (both) => {
      const [a, b] = [both.map(([x]) => x), both.map(([, y]) => y)];
      const d = distanceOf(typeOf('f32[x]'), tensor('f32', a), tensor('f32', b))!;
      expect(d.maxAbs).toBe(Math.max(...both.map(([x, y]) => Math.abs(x - y))));
      expect(d.relativeL2 === 0).toBe(d.maxAbs === 0);
      if (d.maxAbs === 0) return;
      const wanted = Math.hypot(...both.map(([x, y]) => x - y)) / Math.hypot(...b);
      if (Number.isFinite(wanted)) expect(d.relativeL2 / wanted).toBeCloseTo(1, 9);
      else expect(d.relativeL2).toBe(Infinity);
    }),
  );
});

test('tolerances as they are shown', () => {
  expect(showTolerance('f32', 'f32')).toBe('f32 1e-5');
  expect(showTolerance('bf16', 'fp8')).toBe('bf16 step + 5e-4');
  expect(showTolerance('i32', 'fp8')).toBe('i32 exact');
  expect(toleranceOf('f8e4m3').share).toBe(0.01);
});
