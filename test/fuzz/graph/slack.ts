// How far a kernel's f32 arithmetic may lie from an op's exact meaning: the one place of the fuzzer's tolerances. Each is
// a bound for one op on exact operands; enclose.ts carries them through the graph, so no tolerance is made for a whole
// kernel. In units of u = 2^-24, half a unit in the last place of f32.
import type { OpName } from '../../../ir/ops/index.ts';

export const u = 2 ** -24;

/** Absolute error of a result y of |operands| up to a and b; all are largest magnitudes. */
type Slack = (y: number, a: number, b: number) => number;

const relative =
  (units: number): Slack =>
  (y) =>
    units * u * y;
/** ex2.approx: 2 ulp. What rounds the exponent shows |exponent| times. */
const power = (exponent: number): number => 6 + 2 * exponent;

/**
 * Ops whose instruction rounds to nearest (`.rn`): rounded ends enclose the rounded result, so that exact operands allow
 * one answer only. A composite may put them together in another way: there each may be off by one rounding.
 */
export const nearest: ReadonlySet<OpName> = new Set(['add', 'sub', 'mul', 'div', 'sqrt', 'reciprocal']);
export const nearestSlack = (y: number): number => 1.01 * u * y + 2 ** -149;

/** Ops that compute element by element; what is in neither table is exact, or has a rule of its own. */
export const slack: Partial<Record<OpName, Slack>> = {
  // e^x puts back what rounding x·log2(e) lost: 3 ulp.
  exp: relative(8),
  exp2: relative(6),
  // lg2.approx: 2^-22 absolute between 1/2 and 2, relative elsewhere.
  log2: (y) => 2 ** -21 * Math.max(1, y),
  log: (y) => 2 ** -21 * Math.max(1, y),
  rsqrt: (y) => 2 ** -22 * y,
  sigmoid: (y, x) => (power(x) + 4) * u * y,
  silu: (y, x) => (power(x) + 6) * u * y,
  // 1 − 2 / (1 + e^2x) cancels near 0: absolute.
  tanh: (_, x) => (24 + 8 * Math.min(x, 10)) * u,
  // Cephes' polynomials after Cody and Waite: below 1e-7, up to 10^5 radians.
  sin: () => 2.5e-7,
  cos: () => 2.5e-7,
  // 2^(b·log2 a): the logarithm's error is multiplied by b.
  pow: (y, a, b) =>
    (2 ** -21 * b * Math.max(1, Math.abs(Math.log2(a))) + power(b * Math.abs(Math.log2(a))) * u) * y,
};

/** Sums of n numbers, in any order: (n − 1) roundings of partial sums, none above the sum of magnitudes. */
export const sumSlack = (n: number, magnitudes: number): number => (n + 2) * u * magnitudes;
/** A scale is a quotient in f32, a routing weight two of them and a sum. */
export const scaleSlack = 2 * u;
export const routingSlack = 12 * u;
/** A composite may be computed by other formulas than its decomposition: so many times its ops' slack. */
export const compositeFactor = 4;
