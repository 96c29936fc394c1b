import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import { decodeBytes } from './bytes.ts';
import { round } from './codec.ts';
import {
  ceilPowerOfTwo,
  dequantizeTiles,
  quantizeTiles,
  scaleShapeOf,
  tileScale,
  type ScaleRule,
} from './scales.ts';

const golden = SafetensorsFile.open(
  new URL('../../test/golden/fp8_quant_gemm.safetensors', import.meta.url).pathname,
);
const formats = { F32: 'f32', BF16: 'bf16', U8: 'f8e4m3' } as const;
/** A golden tensor as values; codes (U8) are decoded as e4m3. */
function load(name: string): { shape: number[]; values: Float64Array } {
  const { dtype, shape } = golden.info(name);
  const count = shape.reduce((a, b) => a * b, 1);
  const format = formats[dtype as keyof typeof formats];
  return { shape: [...shape], values: decodeBytes(format, golden.read(name), count) };
}

describe.each([
  ['tile', 'f32scale', 'f32'],
  ['tile', 'ue8m0', 'pow2'],
  ['tile', 'ue8m0', 'ue8m0'],
  ['block', 'f32scale', 'f32'],
  ['block', 'ue8m0', 'pow2'],
  ['block', 'ue8m0', 'ue8m0'],
] as const)('golden %s.%s as %s', (kind, variant, scale) => {
  const { shape, values } = load(kind === 'tile' ? 'tile.x' : 'block.w');
  const tile = kind === 'tile' ? [1, 128] : [128, 128];
  const q = quantizeTiles({ values, shape, tile, format: 'f8e4m3', scale, amaxFloor: 1e-4 });

  test('scales, codes and dequantised values are exact', () => {
    const scales = load(`${kind}.${variant}.${kind === 'tile' ? 's' : 'scale_inv'}`);
    expect(q.scaleShape).toEqual(scales.shape);
    expect(q.scales).toEqual(scales.values);
    expect(q.codes).toEqual(load(`${kind}.${variant}.q`).values);
    if (kind === 'tile') {
      const back = dequantizeTiles({ codes: q.codes, scales: q.scales, shape, tile });
      expect(back).toEqual(load(`tile.${variant}.dequant`).values);
    }
  });

  test('multiplying by 1 / s is at most one code off, and differs somewhere only for f32 scales', () => {
    const fast = quantizeTiles({
      values,
      shape,
      tile,
      format: 'f8e4m3',
      scale,
      amaxFloor: 1e-4,
      exactDivide: false,
    });
    expect(fast.scales).toEqual(q.scales);
    let off = 0;
    fast.codes.forEach((code, i) => {
      if (code === q.codes[i]) return;
      off++;
      expect(Math.abs(code - q.codes[i]!)).toBeLessThanOrEqual(Math.max(Math.abs(q.codes[i]!) / 8, 2 ** -9));
    });
    if (scale !== 'f32') expect(off).toBe(0);
  });
});

test('the ragged operands of the golden GEMMs are on their scales', () => {
  // gemm2 has K = 300: the last tile is ragged. The largest code of every tile is the format's largest.
  const { shape, values } = load('gemm2.a_q');
  const scales = load('gemm2.a_s');
  expect(scaleShapeOf(shape, [1, 128])).toEqual(scales.shape);
  const x = dequantizeTiles({ codes: values, scales: scales.values, shape, tile: [1, 128] });
  const again = quantizeTiles({
    values: x,
    shape,
    tile: [1, 128],
    format: 'f8e4m3',
    scale: 'f32',
    amaxFloor: 0,
  });
  expect(again.codes).toEqual(values);
});

const rule = (over: Partial<ScaleRule> = {}): ScaleRule => ({
  format: 'f8e4m3',
  scale: 'f32',
  amaxFloor: 0,
  ...over,
});

describe('tileScale', () => {
  test('floor, zero tiles and underflow never give a zero scale', () => {
    for (const scale of ['f32', 'pow2', 'ue8m0'] as const) {
      expect(tileScale(0, rule({ scale }))).toBe(1);
      expect(tileScale(2 ** -149, rule({ scale }))).toBe(scale === 'ue8m0' ? 2 ** -127 : 2 ** -149);
    }
    expect(tileScale(0, rule({ amaxFloor: 1e-4 }))).toBe(Math.fround(Math.fround(1e-4) / 448));
    expect(tileScale(0, rule({ amaxFloor: 1e-4, scale: 'pow2' }))).toBe(2 ** -22);
  });

  test('powers of two are exact at and just above a power', () => {
    const above = 448 * (1 + 2 ** -23);
    for (const scale of ['pow2', 'ue8m0'] as const) {
      expect(tileScale(448, rule({ scale }))).toBe(1);
      expect(tileScale(above, rule({ scale }))).toBe(2);
      expect(tileScale(57344, rule({ scale, format: 'f8e5m2' }))).toBe(1);
      expect(tileScale(65025, rule({ scale, format: 'f12e5m6' }))).toBe(2);
    }
    expect(tileScale(Infinity, rule({ scale: 'pow2' }))).toBe(Infinity);
    expect(tileScale(Infinity, rule({ scale: 'ue8m0' }))).toBe(2 ** 127);
  });

  test('refuses what is no magnitude or no float', () => {
    expect(() => tileScale(NaN, rule())).toThrow(RangeError);
    expect(() => tileScale(1, rule({ amaxFloor: NaN }))).toThrow(RangeError);
    expect(() => tileScale(1, rule({ amaxFloor: -1 }))).toThrow(RangeError);
    expect(() => tileScale(1, rule({ format: 'i32' }))).toThrow(RangeError);
    expect(() => tileScale(1, rule({ format: 'f8ue8m0' }))).toThrow(RangeError);
  });
});

test('ceilPowerOfTwo', () => {
  for (let e = -1022; e <= 1023; e++) {
    const power = 2 ** e;
    expect(ceilPowerOfTwo(power)).toBe(power);
    if (e < 1023) expect(ceilPowerOfTwo(power * (1 + Number.EPSILON))).toBe(2 * power);
    if (e > -1022) expect(ceilPowerOfTwo(power * (1 - Number.EPSILON / 2))).toBe(power);
  }
  for (const x of [0, -1, NaN, Infinity, 2 ** 1023 * 1.5])
    expect(() => ceilPowerOfTwo(x)).toThrow(RangeError);
});

describe('quantizeTiles', () => {
  test('any rank and tile: as if each element looked its tile up', () => {
    const arrays = fc
      .array(fc.tuple(fc.nat(6), fc.integer({ min: 1, max: 4 })), { maxLength: 4 })
      .chain((axes) => {
        const count = axes.reduce((n, [size]) => n * size, 1);
        const element = fc.oneof(fc.constant(0), fc.double({ min: -1e6, max: 1e6, noNaN: true }));
        const values = fc.array(element, { minLength: count, maxLength: count });
        return fc.record({ axes: fc.constant(axes), values });
      });
    const rules = fc.record({
      format: fc.constantFrom('f8e4m3', 'f8e5m2', 'f12e5m6'),
      scale: fc.constantFrom('f32', 'pow2', 'ue8m0'),
      amaxFloor: fc.constantFrom(0, 1e-4),
    } as const);
    fc.assert(
      fc.property(arrays, rules, ({ axes, values }, r) => {
        const shape = axes.map(([size]) => size);
        const tile = axes.map(([, size]) => size);
        const q = quantizeTiles({ values: Float64Array.from(values), shape, tile, ...r });
        const key = (index: number): string => {
          const at: number[] = [];
          for (let axis = shape.length - 1; axis >= 0; axis--) {
            at.unshift(Math.floor((index % shape[axis]!) / tile[axis]!));
            index = Math.floor(index / shape[axis]!);
          }
          return at.join();
        };
        const amax = new Map<string, number>();
        values.forEach((x, i) => amax.set(key(i), Math.max(amax.get(key(i)) ?? 0, Math.abs(Math.fround(x)))));
        const scaleOf = (i: number): number => tileScale(amax.get(key(i))!, r);
        expect([...q.codes]).toEqual(
          values.map((x, i) =>
            round(r.format, Math.fround(Math.fround(x) / scaleOf(i)), { overflow: 'saturating' }),
          ),
        );
        const back = dequantizeTiles({ codes: q.codes, scales: q.scales, shape, tile });
        expect([...back]).toEqual(values.map((_, i) => Math.fround(q.codes[i]! * scaleOf(i))));
        expect(q.scaleShape).toEqual(shape.map((n, axis) => Math.ceil(n / tile[axis]!)));
        expect(q.scales.every((s) => s > 0)).toBe(true);
      }),
      { numRuns: 400 },
    );
  });

  test('with power-of-two scales, quantising a quantised array along the other axis loses nothing', () => {
    // Why the recipe wants them where activations are requantised for the weight gradient. Holds as long as no
    // element falls among the subnormals of its new tile: values here span few binades.
    const shape = [128, 128];
    const values = Float64Array.from(
      { length: 128 * 128 },
      (_, i) => (1 + ((i * 37) % 97) / 64) * (1 + Math.floor(i / 128) / 50),
    );
    const error = (scale: 'f32' | 'pow2'): number => {
      const common = { shape, format: 'f8e4m3', scale, amaxFloor: 0 } as const;
      const rows = quantizeTiles({ values, tile: [1, 128], ...common });
      const once = dequantizeTiles({ ...rows, shape, tile: [1, 128] });
      const columns = quantizeTiles({ values: once, tile: [128, 1], ...common });
      const twice = dequantizeTiles({ ...columns, shape, tile: [128, 1] });
      return once.reduce((worst, x, i) => Math.max(worst, Math.abs(x - twice[i]!)), 0);
    };
    expect(error('pow2')).toBe(0);
    expect(error('f32')).toBeGreaterThan(0.01);
  });

  test('NaN stays where it is; an infinity shows in its tile', () => {
    const args = { shape: [3], tile: [3], format: 'f8e4m3', amaxFloor: 0 } as const;
    const nan = quantizeTiles({ values: Float64Array.of(NaN, 448, 1), scale: 'f32', ...args });
    expect([...nan.codes]).toEqual([NaN, 448, 1]);
    const f32 = quantizeTiles({ values: Float64Array.of(Infinity, 448, 1), scale: 'f32', ...args });
    expect([...f32.codes]).toEqual([NaN, 0, 0]);
    const ue8m0 = quantizeTiles({ values: Float64Array.of(Infinity, 448, 1), scale: 'ue8m0', ...args });
    expect([...ue8m0.codes]).toEqual([448, 0, 0]);
  });

  test('refuses sizes that do not fit', () => {
    const values = new Float64Array(6);
    const common = rule();
    for (const [shape, tile] of [
      [[2, 3], [1]],
      [
        [2, 2],
        [1, 1],
      ],
      [
        [2, 3],
        [0, 1],
      ],
      [
        [2, 3],
        [1, 1.5],
      ],
      [
        [-2, -3],
        [1, 1],
      ],
    ] as [number[], number[]][])
      expect(() => quantizeTiles({ values, shape, tile, ...common })).toThrow(RangeError);
    expect(() =>
      dequantizeTiles({ codes: values, scales: new Float64Array(2), shape: [2, 3], tile: [1, 1] }),
    ).toThrow(RangeError);
  });
});
