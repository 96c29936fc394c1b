// Operands that try the tensor cores: every code of a format, numbers of like size, zeros, cancellation, extremes.
import { binaryFormats, type FormatName, type SumKind } from './tensor-model.ts';
import type { Random } from './tensor-bench.ts';

/** How a tile's values are drawn. */
export type Mood = 'alike' | 'any' | 'sparse' | 'special';
export const moods: readonly Mood[] = ['alike', 'any', 'sparse', 'special'];

const isSpecial = (name: FormatName, code: number): boolean => {
  const { exponentBits, fractionBits, ieee } = binaryFormats[name];
  const bits = name === 'tf32' ? code >>> 13 : code;
  const field = Math.floor(bits / 2 ** fractionBits) % 2 ** exponentBits;
  const fraction = bits % 2 ** fractionBits;
  return field === 2 ** exponentBits - 1 && (ieee || fraction === 2 ** fractionBits - 1);
};

const widthOf = (name: FormatName): number =>
  name === 'tf32' ? 32 : 1 + binaryFormats[name].exponentBits + binaryFormats[name].fractionBits;

/** A code of the format; infinities and NaN only in the mood for them, and rarely. */
export function drawCode(r: Random, name: FormatName, mood: Mood): number {
  const { exponentBits, fractionBits } = binaryFormats[name];
  const width = widthOf(name);
  const shift = name === 'tf32' ? 13 : 0;
  if (mood === 'sparse' && !r.oneIn(4)) return r.oneIn(2) ? 0 : 2 ** (width - 1);
  for (;;) {
    let code = width === 32 ? r.next() : r.below(2 ** width);
    if (mood === 'alike' || (mood === 'special' && !r.oneIn(50))) {
      // Exponents within four of the middle, so that all terms count.
      const middle = 2 ** (exponentBits - 1) - 3 + r.below(5);
      const sign = r.below(2) * 2 ** (width - 1);
      code =
        sign +
        (middle * 2 ** fractionBits + r.below(2 ** fractionBits)) * 2 ** shift +
        (shift ? r.below(2 ** shift) : 0);
    }
    if (!isSpecial(name, code) || (mood === 'special' && r.oneIn(20))) return code;
  }
}

/** An accumulator's code. */
export function drawAccumulator(r: Random, kind: SumKind, mood: Mood): number {
  if (r.oneIn(8)) return 0;
  if (kind === 'f16') return drawCode(r, 'f16', mood);
  if (mood === 'any') {
    const code = r.next();
    return isSpecial('f32', code) ? 0 : code;
  }
  if (mood === 'special' && r.oneIn(30))
    return [0x7f800000, 0xff800000, 0x7fc00000, 0x80000000, 1][r.below(5)];
  return ((r.below(2) << 31) | ((112 + r.below(30)) << 23) | r.below(1 << 23)) >>> 0;
}

export const bitsOfElement: Readonly<Record<string, number>> = {
  f16: 16,
  bf16: 16,
  tf32: 32,
  e4m3: 8,
  e5m2: 8,
  s8: 8,
  u8: 8,
  s4: 4,
  u4: 4,
  b1: 1,
};
export const isIntegerElement = (name: string): boolean => /^[su]\d$|^b1$/.test(name);

/** The integer that a code of an integer element means. */
export function integerOf(name: string, code: number): number {
  if (name === 's8') return (code << 24) >> 24;
  if (name === 's4') return (code << 28) >> 28;
  return code;
}
