import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { complaints, around } from '../testing.ts';
import { attentionScale, rotation, yarnRamp, yarnScale, type RopeConfig } from './rope.ts';

interface Golden {
  readonly config: {
    readonly d: number;
    readonly qk: number;
    readonly factor: number;
    readonly m: number;
    readonly ma: number;
    readonly L: number;
    readonly th: number;
  };
  readonly low: number;
  readonly high: number;
  readonly inv_freq_f64: readonly number[];
  readonly cos_sin_factor: number;
  readonly mscale: number;
  readonly softmax_scale: number;
  readonly positions: readonly number[];
  readonly cos_f64: readonly (readonly number[])[];
  readonly sin_f64: readonly (readonly number[])[];
}

const file = join(import.meta.dirname, '../../test/golden/yarn.json');
const golden = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Golden> & {
  cos_sin_columns?: readonly number[];
};

describe.each(['deepseek_v3', 'v2_lite', 'none'])('%s', (name) => {
  const g = golden[name];
  const { d, qk, factor, m, ma, L, th } = g.config;
  const config: RopeConfig =
    factor === 1 ? { theta: th } : { theta: th, yarn: { factor, original: L, mscale: m, mscaleAllDim: ma } };
  const { frequencies, scale } = rotation(d, config);

  test('frequencies', () => {
    expect(frequencies).toHaveLength(d / 2);
    for (const [j, f] of frequencies.entries())
      expect(Math.abs(f / g.inv_freq_f64[j] - 1)).toBeLessThan(1e-14);
  });

  test('factor of cos and sin, softmax scale', () => {
    expect(scale).toBeCloseTo(g.cos_sin_factor, 14);
    expect(attentionScale(qk, config)).toBeCloseTo(g.softmax_scale, 15);
    expect(factor === 1 ? 1 : yarnScale(factor, ma)).toBeCloseTo(g.mscale, 14);
  });

  test('ends of the ramp', () => {
    const yarn = config.yarn ?? { factor: 1, original: L };
    expect(yarnRamp(d, th, yarn)).toEqual({ low: g.low, high: g.high });
  });

  test('angles at sampled positions', () => {
    const columns = [0, 4, 8, 12, 16, 20, 24, 28];
    for (const [p, position] of g.positions.entries())
      for (const [c, j] of columns.entries()) {
        const within = 1e-9 + position * 1e-13;
        expect(Math.abs(Math.cos(position * frequencies[j]) * scale - g.cos_f64[p][c])).toBeLessThan(within);
        expect(Math.abs(Math.sin(position * frequencies[j]) * scale - g.sin_f64[p][c])).toBeLessThan(within);
      }
  });
});

test('unequal mscales scale cos and sin', () => {
  const { scale } = rotation(64, { yarn: { factor: 40, original: 4096, mscale: 1, mscaleAllDim: 0.707 } });
  expect(scale).toBeCloseTo(1.3688879454113936 / 1.2608037774058554, 14);
});

test('a ramp without width does not divide by zero', () => {
  const { frequencies } = rotation(2, { theta: 10000, yarn: { factor: 4, original: 64 } });
  expect(frequencies.every(Number.isFinite)).toBe(true);
});

test.each([
  ['{ theta: 0 }', 'rope: theta must be a number above 1'],
  ['{ yarn: { factor: 0.5, original: 4096 } }', 'rope: yarn.factor must be at least 1'],
  ['{ yarn: { factor: 40, original: NaN } }', 'rope: yarn.original must be a number above 0'],
  [
    '{ yarn: { factor: 40, original: 4096, betaFast: 1, betaSlow: 32 } }',
    'rope: yarn.betaFast must not be below betaSlow',
  ],
])('refuses %s', async (config, message) => {
  expect(await complaints(around(`  return rope(x, at, ${config});`))).toContain(message);
});

test('a model without YaRN may be stretched by its factor 1', () => {
  const plain = rotation(64, {}).frequencies;
  const one = rotation(64, { yarn: { factor: 1, original: 4096 } });
  expect(one.frequencies.every((f, j) => Math.abs(f / plain[j] - 1) < 1e-15)).toBe(true);
  expect(one.scale).toBe(1);
});
