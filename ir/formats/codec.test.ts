// The codec against golden vectors, and exhaustively against an encoder written the other way round: decode every
// code, sort, and find the nearest value by exact (BigInt) distances.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import { decode, encode, round, rounder, type CastOptions, type CodedDType } from './codec.ts';
import { roundInto } from './bytes.ts';
import { dtypeInfo, dtypes } from './dtypes.ts';

const golden = SafetensorsFile.open(
  new URL('../../test/golden/fp8_cast.safetensors', import.meta.url).pathname,
);
const f32s = (name: string): Float32Array => new Float32Array(golden.read(name).buffer);

const nonsaturating: CastOptions = { overflow: 'nonsaturating' };
const saturating: CastOptions = { overflow: 'saturating' };

describe.each([
  ['f8e4m3', 'e4m3fn'],
  ['f8e5m2', 'e5m2'],
] as const)('%s against golden vectors', (dtype, name) => {
  test('decode', () => {
    const table = f32s(`${name}.decode_table_f32`);
    const ours = Float64Array.from({ length: 256 }, (_, code) => decode(dtype, code));
    expect([...ours]).toEqual([...table]); // toEqual tells 0 from -0
  });

  test.each([
    ['code_saturating', undefined],
    ['code_saturating', saturating],
    ['code_nonsaturating', nonsaturating],
    // Torch saturates e4m3fn and not e5m2.
    ['code_torch_cast', name === 'e4m3fn' ? saturating : nonsaturating],
  ] as const)('%s %o', (variant, options) => {
    const x = f32s(`${name}.x`);
    const codes = golden.read(`${name}.${variant}`);
    let checked = 0;
    x.forEach((value, i) => {
      const code = encode(dtype, value, options);
      if (Number.isNaN(decode(dtype, codes[i]!))) expect(decode(dtype, code)).toBeNaN();
      else if (code !== codes[i]) expect.fail(`${value}: ${code}, not ${codes[i]}`);
      checked++;
    });
    expect(checked).toBeGreaterThan(1500);
  });
});

/** A finite double as an integer count of 2^-1074. */
function exact(x: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  const bits = view.getBigUint64(0);
  const exponent = (bits >> 52n) & 0x7ffn;
  const mantissa = bits & ((1n << 52n) - 1n);
  const magnitude = exponent === 0n ? mantissa : (mantissa | (1n << 52n)) << (exponent - 1n);
  return x < 0 ? -magnitude : magnitude;
}

/** The neighbouring double away from zero (step 1) or towards it (-1); x > 0. */
function neighbour(x: number, step: 1 | -1): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  view.setBigUint64(0, view.getBigUint64(0) + BigInt(step));
  return view.getFloat64(0);
}

const floats = ['f8e4m3', 'f8e5m2', 'f12e5m6', 'f16', 'bf16'] as const;

/** Values of all codes without the sign bit up to the largest finite one, from the definition of the format. */
function positiveValues(dtype: (typeof floats)[number]): number[] {
  const {
    mantissaBits: m,
    bias,
    maxFinite,
  } = dtypeInfo[dtype] as { mantissaBits: number; bias: number; maxFinite: number };
  const values = [];
  for (let code = 0; values.at(-1) !== maxFinite; code++) {
    const field = Math.floor(code / 2 ** m);
    const fraction = (code % 2 ** m) / 2 ** m;
    values.push(field === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (field - bias));
  }
  return values;
}

/** Round to nearest even among `values` by exact distances; values.length means "beyond the last". */
function nearest(values: readonly number[], beyond: number, x: number): number {
  let low = 0;
  let high = values.length; // the answer's lower neighbour is in [low, high)
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle]! <= x) low = middle;
    else high = middle;
  }
  const toLow = exact(x) - exact(values[low]!);
  const toHigh = exact(values[low + 1] ?? beyond) - exact(x);
  if (toLow === toHigh) return low % 2 === 0 ? low : low + 1;
  return toLow < toHigh ? low : low + 1;
}

describe.each(floats)('%s exhaustively', (dtype) => {
  const values = positiveValues(dtype);
  const signBit = 2 ** (dtypeInfo[dtype].bits - 1);
  // What the next value would be if the format went on.
  const beyond = values.at(-1)! * 2 - values.at(-2)!;
  const { hasInfinity, maxFinite } = dtypeInfo[dtype];

  test('every code decodes to its value, and every value encodes to its code', () => {
    const seen = { infinite: 0, nan: 0 };
    for (let code = 0; code < 2 * signBit; code++) {
      const magnitude = code % signBit;
      const value = decode(dtype, code);
      if (magnitude < values.length) {
        const want = code < signBit ? values[magnitude]! : -values[magnitude]!;
        if (!Object.is(value, want)) expect.fail(`code ${code}: ${value}, not ${want}`);
        if (encode(dtype, value) !== code)
          expect.fail(`value ${value}: ${encode(dtype, value)}, not ${code}`);
        if (!Object.is(round(dtype, value), value)) expect.fail(`round(${value})`);
      } else if (Number.isNaN(value)) seen.nan++;
      else if (value === (code < signBit ? Infinity : -Infinity)) seen.infinite++;
    }
    expect(seen.infinite).toBe(hasInfinity ? 2 : 0);
    expect(seen.nan).toBe(2 * (signBit - values.length) - seen.infinite);
    expect(seen.nan).toBeGreaterThan(0);
  });

  test('between neighbours: ties to even, one ulp of f64 beside the tie to the nearer', () => {
    let ties = 0;
    const one = rounder(dtype, nonsaturating);
    for (let i = 0; i < values.length; i++) {
      const middle = (values[i]! + (values[i + 1] ?? beyond)) / 2; // exact in f64
      for (const x of [middle, neighbour(middle, 1), neighbour(middle, -1)]) {
        const index = nearest(values, beyond, x);
        const code = index < values.length ? index : hasInfinity ? index : signBit - 1;
        if (encode(dtype, x, nonsaturating) !== code) expect.fail(`${x}`);
        const negative = encode(dtype, -x, nonsaturating);
        if (negative !== code + signBit) expect.fail(`${-x}: ${negative}, not ${code + signBit}`);
        const clamped = Math.min(index, values.length - 1);
        if (encode(dtype, x, saturating) !== clamped) expect.fail(`${x}, saturating`);
        const want = index < values.length ? values[index]! : hasInfinity ? Infinity : NaN;
        if (!Object.is(one(x), want) || !Object.is(one(-x), -want)) expect.fail(`round(${x})`);
        const bulk = roundInto(dtype, Float64Array.of(x, -x), nonsaturating);
        if (!Object.is(bulk[0], want) || !Object.is(bulk[1], -want)) expect.fail(`roundInto(${x})`);
        ties++;
      }
    }
    expect(ties).toBe(3 * values.length);
  });

  test('the ends of the number line', () => {
    const top = hasInfinity ? Infinity : NaN;
    for (const x of [1e300, Infinity, Number.MAX_VALUE, beyond]) {
      expect(round(dtype, x, saturating)).toBe(maxFinite);
      expect(round(dtype, -x, saturating)).toBe(-maxFinite!);
      expect(round(dtype, x, nonsaturating)).toBe(top);
      expect(round(dtype, -x, nonsaturating)).toBe(-top);
      expect(encode(dtype, x)).toBe(
        encode(dtype, x, dtypeInfo[dtype].bits === 8 ? saturating : nonsaturating),
      );
    }
    for (const options of [saturating, nonsaturating]) {
      expect(round(dtype, NaN, options)).toBeNaN();
      expect(encode(dtype, NaN, options)).toBe(signBit - 1);
      for (const x of [0, Number.MIN_VALUE, values[1]! / 2]) {
        expect(round(dtype, x, options)).toBe(0);
        expect(round(dtype, -x, options)).toBe(-0);
        expect(encode(dtype, -x, options)).toBe(signBit);
      }
    }
  });
});

test('bf16 is rounded once: through f32 this value would become 1', () => {
  const x = 1 + 2 ** -8 + 2 ** -40;
  expect(round('bf16', Math.fround(x))).toBe(1);
  expect(round('bf16', x)).toBe(1 + 2 ** -7);
});

describe('f32', () => {
  test('is the cast of the machine, saturating on request', () => {
    const view = new DataView(new ArrayBuffer(4));
    fc.assert(
      fc.property(fc.double(), (x) => {
        expect(round('f32', x)).toBe(Math.fround(x));
        if (Number.isNaN(x)) return;
        view.setFloat32(0, x);
        expect(encode('f32', x)).toBe(view.getUint32(0));
        expect(decode('f32', view.getUint32(0))).toBe(Math.fround(x));
      }),
    );
    const max = dtypeInfo.f32.maxFinite!;
    expect([Infinity, -1e39, NaN].map((x) => round('f32', x, saturating))).toEqual([max, -max, NaN]);
    expect(encode('f32', Infinity, saturating)).toBe(0x7f7fffff);
    expect(encode('f32', 1e39)).toBe(0x7f800000);
    expect(encode('f32', NaN)).toBe(0x7fffffff);
  });
});

describe('f8ue8m0', () => {
  test('every code round trips; in between goes up or down as asked', () => {
    for (let code = 0; code < 255; code++) {
      const value = 2 ** (code - 127);
      expect(decode('f8ue8m0', code)).toBe(value);
      for (const direction of ['up', 'down'] as const)
        expect(encode('f8ue8m0', value, { direction })).toBe(code);
      expect(round('f8ue8m0', value)).toBe(value);
      const above = Math.min(code + 1, 254);
      for (const x of [neighbour(value, 1), value * 1.5, value * 1.999]) {
        expect(encode('f8ue8m0', x)).toBe(above);
        expect(encode('f8ue8m0', x, { direction: 'down' })).toBe(code);
      }
    }
    expect(decode('f8ue8m0', 255)).toBeNaN();
  });

  test('ends: never zero, NaN for what is no scale', () => {
    expect([0, -0, 1e-300, Number.MIN_VALUE, 2 ** -128].map((x) => encode('f8ue8m0', x))).toEqual([
      0, 0, 0, 0, 0,
    ]);
    expect([-1, NaN, -Infinity].map((x) => encode('f8ue8m0', x))).toEqual([255, 255, 255]);
    expect([2 ** 128, Infinity, neighbour(2 ** 127, 1)].map((x) => encode('f8ue8m0', x))).toEqual([
      254, 254, 254,
    ]);
    expect(encode('f8ue8m0', neighbour(2 ** 127, 1), nonsaturating)).toBe(255);
    expect(encode('f8ue8m0', 2 ** 127, nonsaturating)).toBe(254);
  });
});

describe('integers and bool', () => {
  test('i32 saturates and refuses fractions unless told to truncate', () => {
    expect([-1, 2 ** 31, -(2 ** 40), Infinity].map((x) => round('i32', x))).toEqual([
      -1,
      2 ** 31 - 1,
      -(2 ** 31),
      2 ** 31 - 1,
    ]);
    expect(encode('i32', -1)).toBe(0xffffffff);
    expect(decode('i32', 0x80000000)).toBe(-(2 ** 31));
    expect(() => round('i32', 0.5)).toThrow("{ fraction: 'truncate' }");
    expect(() => encode('i32', NaN)).toThrow(RangeError);
    const whole = rounder('i32', { fraction: 'truncate' });
    expect([1.9, -1.9, -0.5, NaN].map(whole)).toEqual([1, -1, 0, 0]);
    expect(round('i32', -0)).toBe(0);
  });

  test('i64 is exact or refused', () => {
    expect(round('i64', 2 ** 53 - 1)).toBe(2 ** 53 - 1);
    for (const x of [2 ** 53, -Infinity, 0.5, NaN]) expect(() => round('i64', x)).toThrow(RangeError);
    expect(round('i64', -7.5, { fraction: 'truncate' })).toBe(-7);
  });

  test('bool is 0 or 1', () => {
    expect([0, -0, 1, 0.1, -3, NaN].map((x) => round('bool', x))).toEqual([0, 0, 1, 1, 1, 1]);
    expect(decode('bool', 255)).toBe(1);
  });

  test('a code outside the format is refused', () => {
    for (const [dtype, code] of [
      ['f8e4m3', 256],
      ['f12e5m6', 4096],
      ['f32', 2 ** 32],
      ['bf16', -1],
      ['bf16', 0.5],
    ] as const)
      expect(() => decode(dtype, code)).toThrow(RangeError);
  });
});

describe('properties of every cast', () => {
  const coded = dtypes.filter((d) => d !== 'i64' && d !== 'bool') as Exclude<CodedDType, 'bool'>[];
  const options = fc.record({
    overflow: fc.constantFrom('saturating', 'nonsaturating'),
    direction: fc.constantFrom('up', 'down'),
    fraction: fc.constant('truncate'),
  } as const);
  // Doubles of all magnitudes are mostly out of an 8-bit format's range: mix in likely ones.
  const number = fc.oneof(fc.double(), fc.double({ min: -1000, max: 1000 }), fc.float(), fc.integer());

  test.each(coded)('%s: rounder = decode(encode), idempotent, monotone, roundInto the same', (dtype) => {
    fc.assert(
      fc.property(number, number, options, (a, b, o) => {
        const cast = rounder(dtype, o);
        expect(cast(a)).toBe(decode(dtype, encode(dtype, a, o)));
        expect(cast(cast(a))).toBe(cast(a));
        expect([...roundInto(dtype, Float64Array.of(a, b), o)]).toEqual([cast(a), cast(b)]);
        const [low, high] = a < b ? [a, b] : [b, a];
        // A NaN result (overflow of a format without infinity, a negative scale) has no place in an order.
        if (low <= high && cast(low) > cast(high)) expect.fail(`${low} <= ${high} but not after the cast`);
      }),
      { numRuns: 1000 },
    );
  });
});
