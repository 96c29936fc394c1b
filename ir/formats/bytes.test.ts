import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeBytes, encodeBytes, roundInto } from './bytes.ts';
import { decode, encode, round, type CodedDType } from './codec.ts';
import { bytesFor, dtypeInfo, dtypes, isFloat, maxFinite } from './dtypes.ts';

const coded = dtypes.filter((d) => d !== 'i64') as CodedDType[];
const number = fc.oneof(fc.double(), fc.double({ min: -1000, max: 1000 }), fc.float(), fc.integer());

test('sizes', () => {
  expect([0, 1, 2, 3, 4].map((n) => bytesFor('f12e5m6', n))).toEqual([0, 2, 3, 5, 6]);
  expect(dtypes.map((d) => bytesFor(d, 8))).toEqual([32, 16, 16, 8, 8, 12, 8, 32, 64, 8]);
  for (const n of [-1, 0.5, NaN, 2 ** 53]) expect(() => bytesFor('f32', n)).toThrow(RangeError);
  expect(dtypes.filter(isFloat)).toEqual(['f32', 'bf16', 'f16', 'f8e4m3', 'f8e5m2', 'f12e5m6']);
  expect(maxFinite('f8ue8m0')).toBe(2 ** 127);
  expect(() => maxFinite('i32')).toThrow(RangeError);
});

test.each(dtypes.filter(isFloat))('%s: the table is consistent with itself', (dtype) => {
  const { bits, exponentBits, mantissaBits, bias, maxFinite, hasInfinity } = dtypeInfo[dtype];
  expect(1 + exponentBits! + mantissaBits!).toBe(bits);
  expect(bias).toBe(2 ** (exponentBits! - 1) - 1);
  // Without infinity the top exponent holds numbers, except for one code: 1.75 · 2^8 in e4m3.
  const largest = hasInfinity ? (2 - 2 ** -mantissaBits!) * 2 ** bias! : 1.75 * 2 ** (bias! + 1);
  expect(maxFinite).toBe(largest);
});

/** Codes as bytes, by bit arithmetic on one big integer: bit i·bits of the whole is bit 0 of code i. */
function pack(bits: number, codes: readonly number[]): number[] {
  let whole = 0n;
  codes.forEach((code, i) => (whole |= BigInt(code) << BigInt(i * bits)));
  const bytes = Math.ceil((codes.length * bits) / 8);
  return Array.from({ length: bytes }, (_, i) => Number((whole >> BigInt(8 * i)) & 255n));
}

describe.each(coded)('%s', (dtype) => {
  test('bulk casts are the scalar ones, at any alignment, with bytes to spare', () => {
    fc.assert(
      fc.property(fc.array(number, { maxLength: 9 }), fc.nat(7), fc.nat(3), (values, before, after) => {
        const options = { fraction: 'truncate' } as const;
        const codes = values.map((x) => encode(dtype, x, options));
        const bytes = encodeBytes(dtype, values, options);
        expect([...bytes]).toEqual(pack(dtypeInfo[dtype].bits, codes));
        const within = new Uint8Array(before + bytes.length + after).fill(0xa5);
        within.set(bytes, before);
        const decoded = decodeBytes(dtype, within.subarray(before), values.length);
        expect([...decoded]).toEqual(codes.map((code) => decode(dtype, code)));
        expect([...roundInto(dtype, Float64Array.from(values), options)]).toEqual([...decoded]);
        if (bytes.length > 0)
          expect(() => decodeBytes(dtype, bytes.subarray(1), values.length)).toThrow(RangeError);
      }),
      { numRuns: 500 },
    );
  });
});

test.each(['bf16', 'f16', 'f12e5m6', 'f8e4m3', 'f8e5m2', 'f8ue8m0'] as const)(
  '%s: every code survives decode and encode in bulk',
  (dtype) => {
    const { bits } = dtypeInfo[dtype];
    const codes = Array.from({ length: 2 ** bits }, (_, code) => code).filter(
      (code) => !Number.isNaN(decode(dtype, code)),
    );
    const bytes = Uint8Array.from(pack(bits, codes.slice(0, 4096)));
    const values = decodeBytes(dtype, bytes, Math.min(codes.length, 4096));
    // Not saturating: infinity keeps its code.
    const again = encodeBytes(dtype, values, { overflow: 'nonsaturating' });
    expect(Buffer.from(again).equals(bytes)).toBe(true);
    expect(values.length).toBeGreaterThan(240);
  },
);

test('overflow options reach the bulk casts', () => {
  const beyond = [1e39, -1e39, Infinity, NaN];
  for (const dtype of dtypes.filter((d) => isFloat(d) || d === 'f8ue8m0') as CodedDType[])
    for (const overflow of ['saturating', 'nonsaturating'] as const) {
      const back = decodeBytes(dtype, encodeBytes(dtype, beyond, { overflow }), 4);
      expect([...back]).toEqual(beyond.map((x) => round(dtype, x, { overflow })));
      expect([...roundInto(dtype, Float64Array.from(beyond), { overflow })]).toEqual([...back]);
    }
  const down = encodeBytes('f8ue8m0', [3], { direction: 'down' });
  expect([...down]).toEqual([128]);
});

test('i64 agrees with BigInt64Array, and refuses what a double cannot hold', () => {
  fc.assert(
    fc.property(fc.array(fc.maxSafeInteger(), { maxLength: 5 }), fc.nat(7), (values, before) => {
      const want = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
      expect(encodeBytes('i64', values)).toEqual(want);
      const within = new Uint8Array(before + want.length);
      within.set(want, before);
      expect([...decodeBytes('i64', within.subarray(before), values.length)]).toEqual(
        values.map((x) => x + 0),
      );
    }),
  );
  for (const big of [2n ** 53n, 2n ** 53n + 1n, -(2n ** 63n), 2n ** 63n - 1n])
    expect(() => decodeBytes('i64', new Uint8Array(BigInt64Array.of(big).buffer), 1)).toThrow('index 0');
  expect(() => encodeBytes('i64', [2 ** 53])).toThrow(RangeError);
});
