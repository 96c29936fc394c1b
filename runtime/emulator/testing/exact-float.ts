// Floating-point arithmetic in exact integers, as the oracle of the emulator's: a number is sign * m * 2^e with a big
// integer m, and every result is rounded once from an exact fraction. Shares no formula with the emulator.

/** `inf` false: the largest exponent holds numbers, and only all ones is NaN (e4m3). */
export interface FloatFormat {
  readonly bits: number;
  readonly fraction: number;
  readonly bias: number;
  readonly inf: boolean;
  readonly nan: bigint;
}
export const f16: FloatFormat = { bits: 16, fraction: 10, bias: 15, inf: true, nan: 0x7fffn };
export const bf16: FloatFormat = { bits: 16, fraction: 7, bias: 127, inf: true, nan: 0x7fffn };
export const f32: FloatFormat = { bits: 32, fraction: 23, bias: 127, inf: true, nan: 0x7fffffffn };
export const f64: FloatFormat = { bits: 64, fraction: 52, bias: 1023, inf: true, nan: 0x7fffffffffffffffn };
export const e4m3: FloatFormat = { bits: 8, fraction: 3, bias: 7, inf: false, nan: 0x7fn };
export const e5m2: FloatFormat = { bits: 8, fraction: 2, bias: 15, inf: true, nan: 0x7fn };

export type RoundingMode = 'rn' | 'rz' | 'rm' | 'rp' | 'rna';
export type Value =
  | { readonly kind: 'nan' }
  | { readonly kind: 'inf'; readonly negative: boolean }
  /** numerator / denominator * 2^exponent; a zero has a sign too. */
  | {
      readonly kind: 'number';
      readonly negative: boolean;
      readonly n: bigint;
      readonly d: bigint;
      readonly e: number;
    };

export const nan: Value = { kind: 'nan' };
export const infinity = (negative: boolean): Value => ({ kind: 'inf', negative });
export const number = (negative: boolean, n: bigint, e = 0, d = 1n): Value => ({
  kind: 'number',
  negative,
  n,
  d,
  e,
});
export const zero = (negative: boolean): Value => number(negative, 0n);

const exponentMask = (f: FloatFormat): bigint => (1n << BigInt(f.bits - 1 - f.fraction)) - 1n;

export function decode(f: FloatFormat, bits: bigint): Value {
  const negative = bits >> BigInt(f.bits - 1) === 1n;
  const fraction = bits & ((1n << BigInt(f.fraction)) - 1n);
  const exponent = (bits >> BigInt(f.fraction)) & exponentMask(f);
  if (f.inf && exponent === exponentMask(f)) return fraction === 0n ? infinity(negative) : nan;
  if (!f.inf && (bits & ((1n << BigInt(f.bits - 1)) - 1n)) === f.nan) return nan;
  if (exponent === 0n) return number(negative, fraction, 1 - f.bias - f.fraction);
  return number(negative, fraction | (1n << BigInt(f.fraction)), Number(exponent) - f.bias - f.fraction);
}

const width = (v: bigint): number => v.toString(2).length;

/** Rounds once. `saturate`: beyond the largest number comes the largest number instead of infinity. */
export function encode(f: FloatFormat, v: Value, mode: RoundingMode, saturate = false): bigint {
  if (v.kind === 'nan') return f.nan;
  const sign = v.negative ? 1n << BigInt(f.bits - 1) : 0n;
  const infinite = exponentMask(f) << BigInt(f.fraction);
  const largest = f.inf ? infinite - 1n : f.nan - 1n;
  if (v.kind === 'inf') return sign | (saturate || !f.inf ? largest : infinite);
  if (v.n === 0n) return sign;
  // The unit of the last place: from the position of the leading bit, not below the subnormals'.
  let top = width(v.n) - width(v.d) + v.e;
  const scaled = (unit: number): [bigint, bigint] =>
    v.e - unit >= 0 ? [v.n << BigInt(v.e - unit), v.d] : [v.n, v.d << BigInt(unit - v.e)];
  const [n0, d0] = scaled(top);
  if (n0 < d0) top -= 1;
  const unit = Math.max(top, 1 - f.bias) - f.fraction;
  const [n, d] = scaled(unit);
  let q = n / d;
  const rest = 2n * (n % d);
  const up =
    mode === 'rn'
      ? rest > d || (rest === d && q % 2n === 1n)
      : mode === 'rna'
        ? rest >= d
        : rest > 0n && (mode === 'rm' ? v.negative : mode === 'rp' && !v.negative);
  if (up) q += 1n;
  // Counting on from zero in units: the encoding of positive numbers is monotonic, carries included.
  const hidden = 1n << BigInt(f.fraction);
  const code = q < hidden ? q : q + (BigInt(unit + f.fraction + f.bias) - 1n) * hidden;
  if (code <= largest) return sign | code;
  const inwards = mode === 'rz' || (mode === 'rm' && !v.negative) || (mode === 'rp' && v.negative);
  return sign | (saturate || inwards || !f.inf ? largest : infinite);
}

const signed = (v: { negative: boolean; n: bigint }): bigint => (v.negative ? -v.n : v.n);
const isZero = (v: Value): boolean => v.kind === 'number' && v.n === 0n;

export function negate(v: Value): Value {
  return v.kind === 'nan' ? v : { ...v, negative: !v.negative };
}
/** `mode` decides the sign of an exact zero of opposites. */
export function add(a: Value, b: Value, mode: RoundingMode): Value {
  if (a.kind === 'nan' || b.kind === 'nan') return nan;
  if (a.kind === 'inf') return b.kind === 'inf' && a.negative !== b.negative ? nan : a;
  if (b.kind === 'inf') return b;
  if (isZero(a) && isZero(b)) return zero(a.negative === b.negative ? a.negative : mode === 'rm');
  const e = Math.min(a.e, b.e);
  const sum = (signed(a) << BigInt(a.e - e)) + (signed(b) << BigInt(b.e - e));
  if (sum === 0n) return zero(mode === 'rm');
  return number(sum < 0n, sum < 0n ? -sum : sum, e);
}
export function multiply(a: Value, b: Value): Value {
  if (a.kind === 'nan' || b.kind === 'nan') return nan;
  const negative = a.negative !== b.negative;
  if (a.kind === 'inf' || b.kind === 'inf') return isZero(a) || isZero(b) ? nan : infinity(negative);
  return number(negative, a.n * b.n, a.e + b.e);
}
export function divide(a: Value, b: Value): Value {
  if (a.kind === 'nan' || b.kind === 'nan') return nan;
  const negative = a.negative !== b.negative;
  if (a.kind === 'inf') return b.kind === 'inf' ? nan : infinity(negative);
  if (b.kind === 'inf') return zero(negative);
  if (b.n === 0n) return a.n === 0n ? nan : infinity(negative);
  return number(negative, a.n, a.e - b.e, b.n);
}
/** Exact to more bits than any format has, with a sticky last one. */
export function squareRoot(a: Value): Value {
  if (a.kind === 'nan' || isZero(a)) return a;
  if (a.negative) return nan;
  if (a.kind === 'inf') return a;
  let e = a.e - 256;
  let n = a.n << 256n;
  if (e % 2 !== 0) {
    e -= 1;
    n <<= 1n;
  }
  let x = 1n << BigInt(Math.ceil(width(n) / 2) + 1);
  for (;;) {
    const y = (x + n / x) >> 1n;
    if (y >= x) break;
    x = y;
  }
  return number(false, 2n * x + (x * x === n ? 0n : 1n), e / 2 - 1);
}
/** Toward an integer. */
export function toInteger(v: Value, mode: RoundingMode): bigint | 'nan' | '+inf' | '-inf' {
  if (v.kind === 'nan') return 'nan';
  if (v.kind === 'inf') return v.negative ? '-inf' : '+inf';
  const shifted: [bigint, bigint] = v.e >= 0 ? [v.n << BigInt(v.e), v.d] : [v.n, v.d << BigInt(-v.e)];
  let q = shifted[0] / shifted[1];
  const rest = 2n * (shifted[0] % shifted[1]);
  const up =
    mode === 'rn'
      ? rest > shifted[1] || (rest === shifted[1] && q % 2n === 1n)
      : rest > 0n && (mode === 'rm' ? v.negative : mode === 'rp' && !v.negative);
  if (up) q += 1n;
  return v.negative ? -q : q;
}

/** Subnormals become zero of their sign. */
export const flush = (f: FloatFormat, bits: bigint): bigint =>
  (bits >> BigInt(f.fraction)) & exponentMask(f) ? bits : bits & (1n << BigInt(f.bits - 1));
