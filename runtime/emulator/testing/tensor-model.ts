// An independent model of the tensor cores: one output at a time, every number an exact rational (a BigInt times a power
// of two). Nothing here is shared with the emulator's core; docs/EMULATOR.md names the published model that both follow.

/** Layout of a binary floating-point format. `ieee`: its highest exponent means infinity and NaN. */
export interface BinaryFormat {
  readonly exponentBits: number;
  readonly fractionBits: number;
  readonly ieee: boolean;
}

export const binaryFormats = {
  f32: { exponentBits: 8, fractionBits: 23, ieee: true },
  f16: { exponentBits: 5, fractionBits: 10, ieee: true },
  bf16: { exponentBits: 8, fractionBits: 7, ieee: true },
  tf32: { exponentBits: 8, fractionBits: 10, ieee: true },
  e4m3: { exponentBits: 4, fractionBits: 3, ieee: false },
  e5m2: { exponentBits: 5, fractionBits: 2, ieee: true },
} as const satisfies Record<string, BinaryFormat>;
export type FormatName = keyof typeof binaryFormats;

/** `units · 2^scale`; `exponent` is the one that the number enters an adder with. */
export interface Exact {
  readonly kind: 'finite' | 'infinite' | 'nan';
  readonly units: bigint;
  readonly scale: number;
  readonly exponent: number;
}

const nan: Exact = { kind: 'nan', units: 0n, scale: 0, exponent: 0 };
const infinite = (sign: bigint): Exact => ({ kind: 'infinite', units: sign, scale: 0, exponent: 0 });
const finite = (units: bigint, scale: number, exponent: number): Exact => ({
  kind: 'finite',
  units,
  scale,
  exponent,
});

/** The number that a code stands for. tf32 codes are whole words, whose low 13 bits say nothing. */
export function decodeExact(name: FormatName, code: number): Exact {
  const { exponentBits, fractionBits, ieee } = binaryFormats[name];
  const bits = name === 'tf32' ? code >>> 13 : code;
  const fraction = bits % 2 ** fractionBits;
  const field = Math.floor(bits / 2 ** fractionBits) % 2 ** exponentBits;
  const sign = Math.floor(bits / 2 ** (fractionBits + exponentBits)) % 2 === 1 ? -1n : 1n;
  const top = 2 ** exponentBits - 1;
  if (field === top && ieee) return fraction === 0 ? infinite(sign) : nan;
  if (field === top && fraction === 2 ** fractionBits - 1) return nan;
  const exponent = Math.max(field, 1) - (2 ** (exponentBits - 1) - 1);
  const significand = fraction + (field === 0 ? 0 : 2 ** fractionBits);
  return finite(sign * BigInt(significand), exponent - fractionBits, exponent);
}

const magnitude = (x: bigint): bigint => (x < 0n ? -x : x);
const bitLength = (x: bigint): number => (x === 0n ? 0 : magnitude(x).toString(2).length);

/** `x · 2^shift` with the fraction cut off (toward zero). */
const cut = (x: bigint, shift: number): bigint => {
  if (shift >= 0) return x << BigInt(shift);
  const kept = magnitude(x) >> BigInt(-shift);
  return x < 0n ? -kept : kept;
};

/** The code of `units · 2^scale` in a format, toward zero or to nearest even; zeros are positive. */
export function encodeExact(
  name: 'f32' | 'f16',
  units: bigint,
  scale: number,
  rounding: 'zero' | 'nearest',
  keptBits: number = binaryFormats[name].fractionBits,
): number {
  if (units === 0n) return 0;
  const { exponentBits, fractionBits } = binaryFormats[name];
  const bias = 2 ** (exponentBits - 1) - 1;
  const least = 1 - bias;
  const size = magnitude(units);
  const exponent = Math.max(bitLength(units) - 1 + scale, least);
  const shift = exponent - keptBits - scale;
  let kept = cut(size, -shift);
  if (rounding === 'nearest' && shift > 0) {
    const rest = size - (kept << BigInt(shift));
    const half = 1n << BigInt(shift - 1);
    if (rest > half || (rest === half && kept % 2n === 1n)) kept++;
  }
  // A carry out of the significand adds one to the exponent, as the code's layout wants it.
  let code =
    kept * 2n ** BigInt(fractionBits - keptBits) + (BigInt(exponent - least) << BigInt(fractionBits));
  if (code === 0n) return 0;
  const limit = BigInt(2 ** exponentBits - 1) << BigInt(fractionBits);
  if (code > limit) code = limit;
  return Number(units < 0n ? code + (1n << BigInt(exponentBits + fractionBits)) : code);
}

const quietNan = { f32: 0x7fffffff, f16: 0x7fff } as const;

export type SumKind = 'f32' | 'f16';

export interface FusedSum {
  readonly a: FormatName;
  readonly b: FormatName;
  /** Format of C. */
  readonly c: SumKind;
  readonly d: SumKind;
  /** Bits behind the point of the largest exponent that a term keeps. */
  readonly fraction: number;
  /** Fraction bits of an f32 result. */
  readonly kept: number;
}

/** `C + Σ a·b` as one fused sum. Codes in, code out. */
export function fusedSum(how: FusedSum, a: readonly number[], b: readonly number[], c: number): number {
  return fused(
    how,
    a.map((x) => decodeExact(how.a, x)),
    b.map((x) => decodeExact(how.b, x)),
    decodeExact(how.c, c),
  );
}

function fused(how: FusedSum, a: readonly Exact[], b: readonly Exact[], c: Exact): number {
  const products = a.map((x, k) => product(x, b[k]));
  const all = [...products, c];
  const signs = new Set(all.filter((x) => x.kind === 'infinite').map((x) => x.units));
  if (all.some((x) => x.kind === 'nan') || signs.size === 2) return quietNan[how.d];
  const [sign] = signs;
  if (sign !== undefined) {
    const { exponentBits, fractionBits } = binaryFormats[how.d];
    const code = (2 ** exponentBits - 1) * 2 ** fractionBits;
    return sign > 0n ? code : code + 2 ** (exponentBits + fractionBits);
  }
  const largest = Math.max(-126, ...all.filter((x) => x.units !== 0n).map((x) => x.exponent));
  const unit = largest - how.fraction;
  const sum = all.reduce((s, x) => s + cut(x.units, x.scale - unit), 0n);
  return how.d === 'f32'
    ? encodeExact('f32', sum, unit, 'zero', how.kept)
    : encodeExact('f16', sum, unit, 'nearest');
}

function product(x: Exact, y: Exact): Exact {
  if (x.kind === 'nan' || y.kind === 'nan') return nan;
  if (x.kind === 'infinite' || y.kind === 'infinite')
    return x.units === 0n || y.units === 0n ? nan : infinite(x.units * y.units > 0n ? 1n : -1n);
  return finite(x.units * y.units, x.scale + y.scale, x.exponent + y.exponent);
}

/** Number of the `kept` and `fraction` bits of a wgmma: FP8 keeps 13, everything else 25 (and a full f32). */
export function wgmmaSum(a: FormatName, b: FormatName, d: SumKind): FusedSum {
  const fp8 = a === 'e4m3' || a === 'e5m2';
  return { a, b, c: d, d, fraction: fp8 ? 13 : 25, kept: fp8 ? 13 : 23 };
}

/** mma.sync of the 16-bit types and tf32. */
export const mmaSum = (a: FormatName, b: FormatName, c: SumKind, d: SumKind): FusedSum => ({
  a,
  b,
  c,
  d,
  fraction: 25,
  kept: 23,
});

/**
 * mma.sync of FP8 types as ptxas lowers it for sm_90a: everything becomes f16; a fused sum of the elements 0 and 1 of
 * every four, without C; one of the elements 2 and 3 on top of it; then an addition to C, rounded to nearest.
 */
export function fp8MmaSum(
  a: FormatName,
  b: FormatName,
  d: SumKind,
  av: readonly number[],
  bv: readonly number[],
  c: number,
): number {
  // In f16 every FP8 number but zero is normal, so exponents are those of the leading bit.
  const widened = (format: FormatName, codes: readonly number[]): Exact[] =>
    codes.map((code) => {
      const x = decodeExact(format, code);
      if (x.kind !== 'finite') return x;
      return finite(x.units, x.scale, Math.max(-14, bitLength(x.units) - 1 + x.scale));
    });
  const [aw, bw] = [widened(a, av), widened(b, bv)];
  const half = <T>(list: readonly T[], upper: boolean): T[] => list.filter((_, k) => k % 4 > 1 === upper);
  const how: FusedSum = { a: 'f16', b: 'f16', c: d, d, fraction: 25, kept: 23 };
  const first = fused(how, half(aw, false), half(bw, false), finite(0n, 0, -126));
  const second = fused(how, half(aw, true), half(bw, true), decodeExact(d, first));
  return addNearest(d, second, c);
}

/** IEEE addition of two codes. */
function addNearest(kind: SumKind, x: number, y: number): number {
  const [p, q] = [decodeExact(kind, x), decodeExact(kind, y)];
  if (p.kind === 'nan' || q.kind === 'nan') return quietNan[kind];
  if (p.kind === 'infinite' || q.kind === 'infinite') {
    if (p.kind === q.kind && p.units !== q.units) return quietNan[kind];
    return p.kind === 'infinite' ? x : y;
  }
  const unit = Math.min(p.scale, q.scale);
  const sum = cut(p.units, p.scale - unit) + cut(q.units, q.scale - unit);
  const sign = kind === 'f32' ? 2 ** 31 : 2 ** 15;
  // Of two zeros the sum is negative only when both are.
  if (sum === 0n) return p.units === 0n && q.units === 0n && x >= sign && y >= sign ? sign : 0;
  return encodeExact(kind, sum, unit, 'nearest');
}

/** `C + Σ a·b` of integers in 32 bits, wrapped or saturated. */
export function integerSum(a: readonly number[], b: readonly number[], c: number, saturate: boolean): number {
  let sum = BigInt(c | 0);
  for (const [k, x] of a.entries()) sum += BigInt(x) * BigInt(b[k]);
  if (saturate) {
    if (sum > 0x7fffffffn) sum = 0x7fffffffn;
    if (sum < -0x80000000n) sum = -0x80000000n;
  }
  return Number(BigInt.asUintN(32, sum));
}
