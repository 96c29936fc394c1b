import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decode } from '../../ir/formats/index.ts';
import { encodeSmallFloat, integerRange, overflows, writeInteger, writeNumber } from './number-formats.ts';
import { randomWriter, xoshiro128 } from './random.ts';

const formats = [
  ['F16', 'f16', 16],
  ['BF16', 'bf16', 16],
  ['F8_E4M3', 'f8e4m3', 8],
  ['F8_E5M2', 'f8e5m2', 8],
] as const;

describe.each(formats)('%s', (dtype, name, bits) => {
  // Every code's value, by the compiler's own decoder, which golden data checks.
  const values = Array.from({ length: 2 ** bits }, (_, code) => decode(name, code));
  const finite = [...values.entries()].filter(([, v]) => Number.isFinite(v));

  test('every value has its code', () => {
    expect(finite.filter(([code, value]) => encodeSmallFloat(dtype, value) !== code)).toEqual([]);
  });

  test('what lies between goes to the nearest, ties to the even code', () => {
    const sorted = finite.filter(([code]) => code < 2 ** (bits - 1)).sort(([, a], [, b]) => a - b);
    const wrong = sorted.slice(0, -1).filter(([low, a], i) => {
      const [high, b] = sorted[i + 1];
      const middle = (a + b) / 2;
      return (
        encodeSmallFloat(dtype, middle) !== (low % 2 === 0 ? low : high) ||
        encodeSmallFloat(dtype, a + (middle - a) * 0.999) !== low ||
        encodeSmallFloat(dtype, -(b - (b - middle) * 0.999)) !== (high | (2 ** (bits - 1)))
      );
    });
    expect(wrong).toEqual([]);
  });

  test('NaN, infinity and overflow', () => {
    expect(decode(name, encodeSmallFloat(dtype, NaN))).toBeNaN();
    const largest = Math.max(...finite.map(([, v]) => v));
    expect(overflows(dtype, largest)).toBe(false);
    expect(overflows(dtype, -largest * 1.5)).toBe(true);
    const beyond = decode(name, encodeSmallFloat(dtype, largest * 2));
    expect(dtype === 'F8_E4M3' ? Number.isNaN(beyond) : beyond === Infinity).toBe(true);
  });
});

test('integers: little-endian, two complement', () => {
  const view = new DataView(new ArrayBuffer(8));
  writeInteger(view, 0, 'I16', -2n);
  expect(view.getInt16(0, true)).toBe(-2);
  writeInteger(view, 0, 'U64', 2n ** 64n - 1n);
  expect(view.getBigUint64(0, true)).toBe(2n ** 64n - 1n);
  writeNumber(view, 0, 'I32', -5);
  expect(view.getInt32(0, true)).toBe(-5);
  expect([integerRange('U8'), integerRange('I8'), integerRange('BOOL')]).toEqual([
    [0n, 255n],
    [-128n, 127n],
    [0n, 1n],
  ]);
});

describe('random', () => {
  test('the generator gives its fixed sequence', () => {
    // Computed apart, in Python, from the papers' definitions of splitmix32 and xoshiro128**.
    const next = xoshiro128(1);
    expect([next(), next(), next()]).toEqual([393288148, 2174103013, 3814759091]);
    const large = xoshiro128(5 * 2 ** 32 + 9);
    expect([large(), large(), large()]).toEqual([2364468785, 3164277425, 1760490764]);
  });

  test('seeds differ, also in their high halves', () => {
    const first = (seed: number): string => {
      const next = xoshiro128(seed);
      return [next(), next(), next(), next()].join();
    };
    fc.assert(fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (a, b) => a === b || first(a) !== first(b)));
    expect(first(1)).not.toBe(first(2 ** 32 + 1));
  });

  const draw = (dtype: 'F32' | 'F64' | 'I32' | 'U8' | 'BOOL', size: number, count: number): DataView => {
    const view = new DataView(new ArrayBuffer(size * count));
    randomWriter(dtype, 7)(view, count);
    return view;
  };
  test.each(['F32', 'F64'] as const)('%s is uniform in [-1, 1)', (dtype) => {
    const size = dtype === 'F32' ? 4 : 8;
    const n = 100_000;
    const view = draw(dtype, size, n);
    const bins = new Array<number>(20).fill(0);
    for (let i = 0; i < n; i++) {
      const x = size === 4 ? view.getFloat32(4 * i, true) : view.getFloat64(8 * i, true);
      bins[Math.floor((x + 1) * 10)]++;
    }
    // What lies outside would have made a bin of its own.
    expect(bins).toHaveLength(20);
    expect(bins.reduce((s, b) => s + b)).toBe(n);
    // Chi-squared with 19 degrees of freedom: 43.8 is passed once in a thousand.
    const expected = n / 20;
    expect(bins.reduce((s, b) => s + (b - expected) ** 2 / expected, 0)).toBeLessThan(43.8);
  });
  test('integers fill their range, BOOL is 0 or 1', () => {
    const view = draw('U8', 1, 10_000);
    const seen = new Set(new Uint8Array(view.buffer));
    expect(seen.size).toBe(256);
    const signs = new Int32Array(draw('I32', 4, 1000).buffer).filter((x) => x < 0).length;
    expect(Math.abs(signs - 500)).toBeLessThan(80);
    expect(new Set(new Uint8Array(draw('BOOL', 1, 100).buffer))).toEqual(new Set([0, 1]));
  });
});
