// Functions that PTX has no instruction for, or only a coarse one. f32 throughout; error bounds are those of the
// approximate instructions (facts: ex2 2 ulp, lg2 2^-22 near 1, rcp 1 ulp) unless said otherwise.
import type { DType } from '../../../ir/formats/index.ts';
import type { Kernel } from '../../ptx/builder.ts';
import type { Reg } from '../../ptx/operands.ts';

export type F32 = Reg<'f32'>;

const log2e = Math.fround(Math.LOG2E);
const log2eRest = Math.fround(Math.LOG2E - log2e);

/** A new register that `write` fills. */
function made(k: Kernel, write: (d: F32) => void): F32 {
  const d = k.reg('f32');
  write(d);
  return d;
}

/** e^x within about 3 ulp everywhere: 2^t with what rounding t = x·log2 e lost put back. */
export function exp(k: Kernel, x: F32): F32 {
  const [a, t, rest, d] = k.regs('f32', 4);
  // Beyond these the result is 0 or infinity anyway, and the correction would be infinity minus infinity.
  k.max.NaN.f32(a, x, -110);
  k.min.NaN.f32(a, a, 90);
  k.mul.rn.f32(t, a, log2e);
  k.neg.f32(rest, t);
  k.fma.rn.f32(rest, a, log2e, rest);
  k.fma.rn.f32(rest, a, log2eRest, rest);
  k.ex2.approx.f32(d, t);
  k.fma.rn.f32(rest, rest, Math.fround(Math.LN2), 1);
  k.mul.rn.f32(d, d, rest);
  return d;
}

/** 1 / (1 + e^-x) */
export function sigmoid(k: Kernel, x: F32): F32 {
  const d = k.reg('f32');
  k.mul.rn.f32(d, x, -log2e);
  k.ex2.approx.f32(d, d);
  k.add.rn.f32(d, d, 1);
  k.rcp.approx.f32(d, d);
  return d;
}

export const silu = (k: Kernel, x: F32): F32 => made(k, (d) => k.mul.rn.f32(d, x, sigmoid(k, x)));

/** 1 − 2 / (1 + e^2x); near 0, where that cancels, the Taylor series to x^9 (error 8e-9). */
export function tanh(k: Kernel, x: F32): F32 {
  const [far, near, square, size] = k.regs('f32', 4);
  k.mul.rn.f32(far, x, 2 * log2e);
  k.ex2.approx.f32(far, far);
  k.add.rn.f32(far, far, 1);
  k.rcp.approx.f32(far, far);
  k.fma.rn.f32(far, far, -2, 1);
  k.mul.rn.f32(square, x, x);
  polynomial(k, near, square, [62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1]);
  k.mul.rn.f32(near, near, x);
  const small = k.reg('pred');
  k.abs.f32(size, x);
  k.setp.lt.f32(small, size, 0.25);
  k.selp.f32(far, near, far, small);
  return far;
}

/** d = Σ coefficients · x^n, highest first. */
function polynomial(k: Kernel, d: F32, x: F32, coefficients: readonly number[]): void {
  const [first, ...rest] = coefficients;
  k.mov.f32(d, first);
  for (const c of rest) k.fma.rn.f32(d, d, x, c);
}

/** sin or cos of r + quadrant·π/2 for |r| <= π/4: minimax polynomials of Cephes, error below 1e-7. */
function quadrantOf(k: Kernel, turn: 'sin' | 'cos', r: F32, quadrant: Reg<'s32'>): F32 {
  const [square, s, c, d] = k.regs('f32', 4);
  k.mul.rn.f32(square, r, r);
  polynomial(k, s, square, [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1, 0]);
  k.fma.rn.f32(s, s, r, r);
  polynomial(k, c, square, [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2, -0.5, 1]);
  const q = k.reg('s32');
  if (turn === 'cos') k.add.s32(q, quadrant, 1);
  else k.mov.s32(q, quadrant);
  // sin of quadrants 0 … 3: s, c, −s, −c; cos is one quadrant further.
  const bit = k.reg('b32');
  const swap = k.reg('pred');
  const minus = k.reg('pred');
  k.and.b32(bit, q, 1);
  k.setp.ne.u32(swap, bit, 0);
  k.selp.f32(d, c, s, swap);
  k.and.b32(bit, q, 2);
  k.setp.ne.u32(minus, bit, 0);
  k.neg.f32(s, d);
  k.selp.f32(d, s, d, minus);
  return d;
}

/** sin or cos by Cody and Waite: π/2 in three f32 parts, so that up to 10^5 radians nothing is lost. */
export function sinOrCos(k: Kernel, turn: 'sin' | 'cos', x: F32): F32 {
  const [n, r] = k.regs('f32', 2);
  const quadrant = k.reg('s32');
  k.mul.rn.f32(n, x, Math.fround(2 / Math.PI));
  k.cvt.rni.f32.f32(n, n);
  k.cvt.rzi.s32.f32(quadrant, n);
  const first = Math.fround(Math.PI / 2);
  const second = Math.fround(Math.PI / 2 - first);
  k.fma.rn.f32(r, n, -first, x);
  k.fma.rn.f32(r, n, -second, r);
  k.fma.rn.f32(r, n, -Math.fround(Math.PI / 2 - first - second), r);
  return quadrantOf(k, turn, r, quadrant);
}

/** sin or cos of position · frequency, the frequency as turns per position in two parts (see turnsOf). */
export function turned(
  k: Kernel,
  turn: 'sin' | 'cos',
  position: Reg<'s32'>,
  high: F32 | number,
  low: F32 | number,
): F32 {
  const [p, product, rest, whole, r] = k.regs('f32', 5);
  const quadrant = k.reg('s32');
  k.cvt.rn.f32.s32(p, position);
  k.mul.rn.f32(product, p, high);
  k.neg.f32(rest, product);
  k.fma.rn.f32(rest, p, high, rest);
  k.fma.rn.f32(rest, p, low, rest);
  // Whole turns do not matter; what is left is exact before `rest` joins it.
  k.cvt.rni.f32.f32(whole, product);
  k.sub.rn.f32(product, product, whole);
  k.add.rn.f32(product, product, rest);
  k.mul.rn.f32(whole, product, 4);
  k.cvt.rni.f32.f32(whole, whole);
  k.cvt.rzi.s32.f32(quadrant, whole);
  k.fma.rn.f32(product, whole, -0.25, product);
  k.mul.rn.f32(r, product, Math.fround(2 * Math.PI));
  return quadrantOf(k, turn, r, quadrant);
}

/** a to the b as 2^(b · log2 |a|), with the signs and special cases of IEEE pow. */
export function pow(k: Kernel, a: F32, b: F32): F32 {
  const [d, t, half, other] = k.regs('f32', 4);
  k.abs.f32(t, a);
  k.lg2.approx.f32(t, t);
  k.mul.rn.f32(t, t, b);
  k.ex2.approx.f32(d, t);
  const [negative, whole, odd, none] = k.regs('pred', 4);
  k.setp.lt.f32(negative, a, 0);
  k.cvt.rmi.f32.f32(t, b);
  k.setp.eq.f32(whole, t, b);
  k.mul.rn.f32(half, b, 0.5);
  k.cvt.rmi.f32.f32(t, half);
  k.setp.neu.f32(odd, t, half);
  k.neg.f32(t, d);
  k.selp.f32(t, t, d, odd);
  k.mov.f32(other, NaN);
  k.selp.f32(t, t, other, whole);
  k.selp.f32(d, t, d, negative);
  k.setp.eq.f32(none, b, 0);
  k.selp.f32(d, 1, d, none);
  return d;
}

// --- rounding to a dtype, staying in f32 ---

/** x rounded to a float dtype; `saturate`: beyond the largest finite value it becomes that, else infinity. */
export function roundTo(k: Kernel, dtype: DType, saturate: boolean, x: F32): F32 {
  const d = k.reg('f32');
  switch (dtype) {
    case 'f32':
      return x;
    case 'bf16':
    case 'f16': {
      const h = k.reg('b16');
      const limit = dtype === 'bf16' ? 2 ** 127 * (2 - 2 ** -7) : 65504;
      const from = saturate ? clamped(k, x, limit) : x;
      if (dtype === 'bf16') {
        k.cvt.rn.bf16.f32(h, from);
        k.cvt.f32.bf16(d, h);
      } else {
        k.cvt.rn.f16.f32(h, from);
        k.cvt.f32.f16(d, h);
      }
      return d;
    }
    case 'f8e4m3':
    case 'f8e5m2': {
      const [code, low, high] = k.regs('b16', 3);
      const pair = k.reg('b32');
      if (dtype === 'f8e4m3') {
        k.cvt.rn.satfinite.e4m3x2.f32(code, 0, x);
        k.cvt.rn.f16x2.e4m3x2(pair, code);
      } else {
        k.cvt.rn.satfinite.e5m2x2.f32(code, 0, x);
        k.cvt.rn.f16x2.e5m2x2(pair, code);
      }
      k.mov.b32([low, high], pair);
      k.cvt.f32.f16(d, low);
      return d;
    }
    case 'f8ue8m0':
      return scaleAbove(k, x);
    case 'f12e5m6':
      return roundE5m6(k, saturate, x);
    default:
      throw new Error(`roundTo: ${dtype} is no float`);
  }
}

/** An even number of values rounded to bf16, two per conversion. */
export function roundPairs(k: Kernel, values: readonly F32[]): F32[] {
  const out: F32[] = [];
  for (let i = 0; i < values.length; i += 2) {
    const pair = k.reg('b32');
    const [low, high] = k.regs('f32', 2);
    k.cvt.rn.bf16x2.f32(pair, values[i + 1], values[i]);
    k.shl.b32(low, pair, 16);
    k.and.b32(high, pair, 0xffff0000);
    out.push(low, high);
  }
  return out;
}

/** Into ±limit; NaN stays. */
function clamped(k: Kernel, x: F32, limit: number): F32 {
  const d = k.reg('f32');
  k.min.NaN.f32(d, x, limit);
  k.max.NaN.f32(d, d, -limit);
  return d;
}

/** The next power of two at or above x within 2^-127 … 2^127, NaN for what is negative or NaN: f8ue8m0. */
function scaleAbove(k: Kernel, x: F32): F32 {
  const [bits, up] = k.regs('b32', 2);
  const [low, bad] = k.regs('pred', 2);
  const d = k.reg('f32');
  k.mov.b32(bits, x);
  k.add.u32(up, bits, 0x7fffff);
  k.and.b32(up, up, 0xff800000);
  k.min.u32(up, up, 0x7f000000);
  k.setp.le.u32(low, bits, 0x00400000);
  k.selp.b32(up, 0x00400000, up, low);
  // As unsigned numbers negative floats and NaN lie above infinity.
  k.setp.gt.u32(bad, bits, 0x7f800000);
  k.selp.b32(up, 0x7fffffff, up, bad);
  k.mov.b32(d, up);
  return d;
}

/** The smallest power of two that is not below x > 0; infinity stays. */
export function powerOfTwoAbove(k: Kernel, x: F32): F32 {
  const [bits, up, small] = k.regs('b32', 3);
  const zeros = k.reg('u32');
  const tiny = k.reg('pred');
  const d = k.reg('f32');
  k.mov.b32(bits, x);
  k.add.u32(up, bits, 0x7fffff);
  k.and.b32(up, up, 0xff800000);
  // Subnormals are multiples of 2^-149: round the multiple up to a power of two.
  k.sub.u32(small, bits, 1);
  k.clz.b32(zeros, small);
  k.sub.u32(zeros, 32, zeros);
  k.mov.b32(small, 1);
  k.shl.b32(small, small, zeros);
  k.setp.lt.u32(tiny, bits, 0x00800000);
  k.selp.b32(up, small, up, tiny);
  k.mov.b32(d, up);
  return d;
}

const e5m6Max = 65024;

/** x rounded to five exponent and six mantissa bits, ties to even, subnormals too. */
function roundE5m6(k: Kernel, saturate: boolean, x: F32): F32 {
  const [size, small, d, limit] = k.regs('f32', 4);
  const [bits, odd, sign] = k.regs('b32', 3);
  const [isSmall, over, nan] = k.regs('pred', 3);
  k.abs.f32(size, x);
  // Below the normals the spacing is 2^-20, that of f32 between 8 and 16.
  k.add.rn.f32(small, size, 8);
  k.sub.rn.f32(small, small, 8);
  k.mov.b32(bits, size);
  k.shr.b32(odd, bits, 17);
  k.and.b32(odd, odd, 1);
  k.add.u32(bits, bits, 0xffff);
  k.add.u32(bits, bits, odd);
  k.and.b32(bits, bits, 0xfffe0000);
  k.mov.b32(d, bits);
  k.setp.lt.f32(isSmall, size, 2 ** -14);
  k.selp.f32(d, small, d, isSmall);
  k.setp.gt.f32(over, d, e5m6Max);
  k.mov.f32(limit, saturate ? e5m6Max : Infinity);
  k.selp.f32(d, limit, d, over);
  k.mov.b32(bits, d);
  k.mov.b32(sign, x);
  k.and.b32(sign, sign, 0x80000000);
  k.or.b32(bits, bits, sign);
  k.mov.b32(d, bits);
  k.setp.nan.f32(nan, x, x);
  k.selp.f32(d, x, d, nan);
  return d;
}

/** The twelve bits of an f32 that is exactly an E5M6 value (top exponent: infinity, NaN). */
export function e5m6Code(k: Kernel, x: F32): Reg<'b32'> {
  const [size, scaled] = k.regs('f32', 2);
  const [bits, sign] = k.regs('b32', 2);
  const [over, nan] = k.regs('pred', 2);
  k.abs.f32(size, x);
  // A change of bias by 112 is a product, also for subnormals.
  k.mul.rn.f32(scaled, size, 2 ** -112);
  k.mov.b32(bits, scaled);
  k.shr.b32(bits, bits, 17);
  k.setp.gt.f32(over, size, e5m6Max);
  k.selp.b32(bits, 0x7c0, bits, over);
  k.setp.nan.f32(nan, x, x);
  k.selp.b32(bits, 0x7ff, bits, nan);
  k.mov.b32(sign, x);
  k.shr.u32(sign, sign, 31);
  k.shl.b32(sign, sign, 11);
  k.or.b32(bits, bits, sign);
  return bits;
}

/** The f32 of a twelve-bit code. */
export function e5m6Value(k: Kernel, code: Reg<'b32'>): F32 {
  const [d, special, none] = k.regs('f32', 3);
  const [bits, sign] = k.regs('b32', 2);
  const [top, infinite] = k.regs('pred', 2);
  k.and.b32(bits, code, 0x7ff);
  k.setp.eq.u32(infinite, bits, 0x7c0);
  k.setp.ge.u32(top, bits, 0x7c0);
  k.shl.b32(bits, bits, 17);
  k.mov.b32(d, bits);
  k.mul.rn.f32(d, d, 2 ** 112);
  k.mov.f32(special, Infinity);
  k.mov.f32(none, NaN);
  k.selp.f32(special, special, none, infinite);
  k.selp.f32(d, special, d, top);
  k.and.b32(sign, code, 0x800);
  k.shl.b32(sign, sign, 20);
  k.mov.b32(bits, d);
  k.or.b32(bits, bits, sign);
  k.mov.b32(d, bits);
  return d;
}
