// Rotary embedding, with YaRN. Pairs (2j, 2j+1) of the last axis turn by position·f_j, as in DeepSeek's own code;
// weights need no permutation. Formulas: YaRN (arXiv 2309.00071) with the roundings that DeepSeek and Hugging Face
// share: the ramp's ends are whole pair numbers, clamped to the number of dims (not of pairs).
import type { Axes, Dim, Tensor } from '../axes.ts';
import { turn, type Positions } from '../ops/positions.ts';
import { report } from '../context.ts';
import { mistake } from '../trace.ts';
import { describe } from '../words.ts';

export interface YarnConfig {
  /** How much longer the context is than the one trained with. */
  readonly factor: number;
  /** Context length trained with. */
  readonly original: number;
  readonly betaFast?: number;
  readonly betaSlow?: number;
  readonly mscale?: number;
  readonly mscaleAllDim?: number;
}

export interface RopeConfig {
  /** Base of the frequencies θ^(−2j/D); 10000 unless said otherwise. */
  readonly theta?: number;
  readonly yarn?: YarnConfig;
}

/** Rotation of `dims` elements: a frequency per pair, radians per position, and the factor of cos and sin. */
export interface Rotation {
  readonly frequencies: readonly number[];
  readonly scale: number;
}

/** 0.1·m·ln(factor) + 1: YaRN's 1/√t, to the power that `mscale` says. 1 without stretching. */
export const yarnScale = (factor: number, mscale: number): number =>
  factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;

function checked(
  config: RopeConfig,
): Required<Omit<RopeConfig, 'yarn'>> & { yarn: Required<YarnConfig> | null } {
  const { theta = 10000, yarn } = config;
  const positive = (name: string, value: unknown, least = 0): void => {
    if (typeof value === 'number' && Number.isFinite(value) && value > least) return;
    mistake({
      code: 'dsl/bad-rope',
      message: `rope: ${name} must be a number above ${least}`,
      label: `this is ${describe(value)}`,
      fix: 'DeepSeek-V3 uses { theta: 10000, yarn: { factor: 40, original: 4096 } }',
    });
  };
  positive('theta', theta, 1);
  if (!yarn) return { theta, yarn: null };
  const full = { betaFast: 32, betaSlow: 1, mscale: 1, mscaleAllDim: 1, ...yarn };
  for (const name of ['factor', 'original', 'betaFast', 'betaSlow'] as const)
    positive(`yarn.${name}`, full[name]);
  if (full.factor < 1 || full.betaFast < full.betaSlow)
    mistake({
      code: 'dsl/bad-rope',
      message:
        full.factor < 1
          ? 'rope: yarn.factor must be at least 1'
          : 'rope: yarn.betaFast must not be below betaSlow',
      label: full.factor < 1 ? `this is ${full.factor}` : `${full.betaFast} < ${full.betaSlow}`,
      fix: 'DeepSeek-V3 uses { factor: 40, original: 4096, betaFast: 32, betaSlow: 1 }',
    });
  return { theta, yarn: full };
}

/** Pair number (not whole) at which a pair turns `turns` times over the original context. */
const pairTurning = (turns: number, dims: number, theta: number, original: number): number =>
  (dims * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta));

/** Pairs at which YaRN's ramp starts and ends, as whole numbers in [0, dims − 1]. */
export function yarnRamp(dims: number, theta: number, yarn: YarnConfig): { low: number; high: number } {
  const { betaFast = 32, betaSlow = 1, original } = yarn;
  const low = Math.max(Math.floor(pairTurning(betaFast, dims, theta, original)), 0);
  const high = Math.min(Math.ceil(pairTurning(betaSlow, dims, theta, original)), dims - 1);
  return { low, high };
}

/**
 * Frequencies for a rotation of `dims` elements. f_j = θ^(−2j/dims); with YaRN f_j·(1 − r_j) + f_j/factor·r_j,
 * r_j = clamp((j − low)/(high − low), 0, 1). cos and sin are scaled by m(mscale)/m(mscaleAllDim), 1 for DeepSeek.
 * Throws Mistake for numbers that make no sense.
 */
export function rotation(dims: number, config: RopeConfig): Rotation {
  const { theta, yarn } = checked(config);
  const plain = Array.from({ length: dims / 2 }, (_, j) => theta ** ((-2 * j) / dims));
  if (!yarn) return { frequencies: plain, scale: 1 };
  const { low, high } = yarnRamp(dims, theta, yarn);
  // A ramp without width would divide by zero; both references widen it by this much.
  const width = low === high ? 0.001 : high - low;
  const frequencies = plain.map((f, j) => {
    const ramp = Math.min(Math.max((j - low) / width, 0), 1);
    return (f / yarn.factor) * ramp + f * (1 - ramp);
  });
  return {
    frequencies,
    scale: yarnScale(yarn.factor, yarn.mscale) / yarnScale(yarn.factor, yarn.mscaleAllDim),
  };
}

/**
 * Factor of attention scores: length^(−½)·m², m = 0.1·mscaleAllDim·ln(factor) + 1 with YaRN, else 1.
 * 0.135234 for DeepSeek-V3 (length 192, factor 40).
 */
export function attentionScale(length: Dim | number, config: RopeConfig = {}): number {
  const n = typeof length === 'number' ? length : length.size;
  if (n === null || !(n > 0)) {
    report({
      code: 'dsl/bad-scale',
      message: 'attentionScale needs the length of a query per head',
      label: `this is ${describe(n)}`,
      fix: 'pass its dim: attentionScale(qk, ropeConfig)',
    });
    return 1;
  }
  const m = config.yarn ? yarnScale(config.yarn.factor, config.yarn.mscaleAllDim ?? 1) : 1;
  return n ** -0.5 * m * m;
}

/** Turns pairs of the last axis by position. x's first axis must be `tokens`. */
export const rope = <A extends Axes>(x: Tensor<A>, at: Positions, config: RopeConfig = {}): Tensor<A> =>
  turn(x, at, (pairs) => rotation(2 * pairs, config));
