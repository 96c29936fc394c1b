// Loads and stores of every dtype, one element or a vector of neighbours at a time. Values in registers are f32 for
// every float (also scales), s32, s64 or a predicate.
import { dtypeInfo, type DType } from '../../../ir/formats/index.ts';
import type { Kernel } from '../../ptx/builder.ts';
import { at, type Reg } from '../../ptx/operands.ts';
import { e5m6Code, e5m6Value } from './math.ts';

export type Space = 'global' | 'shared';

/** Bits 16 of one register up: two bf16 lie in one word, the first in the lower half. */
function unpackBf16(k: Kernel, word: Reg<'b32'>): Reg[] {
  const [low, high] = k.regs('f32', 2);
  k.shl.b32(low, word, 16);
  k.and.b32(high, word, 0xffff0000);
  return [low, high];
}

function unpackF16(k: Kernel, word: Reg<'b32'>): Reg[] {
  const [h0, h1] = k.regs('b16', 2);
  const out = k.regs('f32', 2);
  k.mov.b32([h0, h1], word);
  k.cvt.f32.f16(out[0], h0);
  k.cvt.f32.f16(out[1], h1);
  return out;
}

function unpackF8Pair(k: Kernel, dtype: DType, pair: Reg<'b16'>): Reg[] {
  const word = k.reg('b32');
  if (dtype === 'f8e4m3') k.cvt.rn.f16x2.e4m3x2(word, pair);
  else k.cvt.rn.f16x2.e5m2x2(word, pair);
  return unpackF16(k, word);
}

/** Elements in one 32-bit word, in order. */
function unpackWord(k: Kernel, dtype: DType, word: Reg<'b32'>): Reg[] {
  switch (dtype) {
    case 'bf16':
      return unpackBf16(k, word);
    case 'f16':
      return unpackF16(k, word);
    case 'f8e4m3':
    case 'f8e5m2': {
      const [h0, h1] = k.regs('b16', 2);
      k.mov.b32([h0, h1], word);
      return [...unpackF8Pair(k, dtype, h0), ...unpackF8Pair(k, dtype, h1)];
    }
    default:
      throw new Error(`unpackWord: ${dtype} does not come in words`);
  }
}

function packWord(k: Kernel, dtype: DType, values: readonly Reg<'f32'>[]): Reg<'b32'> {
  const word = k.reg('b32');
  if (dtype === 'bf16') k.cvt.rn.bf16x2.f32(word, values[1], values[0]);
  else if (dtype === 'f16') k.cvt.rn.f16x2.f32(word, values[1], values[0]);
  else {
    const pairs = k.regs('b16', 2);
    for (const [i, pair] of pairs.entries()) {
      if (dtype === 'f8e4m3') k.cvt.rn.satfinite.e4m3x2.f32(pair, values[2 * i + 1], values[2 * i]);
      else k.cvt.rn.satfinite.e5m2x2.f32(pair, values[2 * i + 1], values[2 * i]);
    }
    k.mov.b32(word, pairs);
  }
  return word;
}

const packs = (dtype: DType): boolean =>
  dtype === 'bf16' || dtype === 'f16' || dtype === 'f8e4m3' || dtype === 'f8e5m2';

/** How many neighbours one instruction may move, at most; 1 for dtypes that only go one by one. */
export const widest = (dtype: DType): number =>
  packs(dtype) || dtype === 'f32' || dtype === 'i32' ? 128 / dtypeInfo[dtype].bits : dtype === 'i64' ? 2 : 1;

/** Loads `count` neighbours from an aligned address: a power of two, up to `widest`. */
export function loadVector(
  k: Kernel,
  space: Space,
  dtype: DType,
  base: Reg<'u64'> | Reg<'u32'>,
  offset: number,
  count: number,
): Reg[] {
  if (count === 1) return [loadOne(k, space, dtype, base, offset)];
  const from = at(base, offset);
  if (dtype === 'f32' || dtype === 'i32') {
    const out = dtype === 'f32' ? k.regs('f32', count) : k.regs('s32', count);
    k.emit('ld', [space, `v${count}`, dtype === 'f32' ? 'f32' : 's32'], [out, from]);
    return out;
  }
  if (dtype === 'i64') {
    const out = k.regs('s64', count);
    k.emit('ld', [space, `v${count}`, 's64'], [out, from]);
    return out;
  }
  const bits = dtypeInfo[dtype].bits * count;
  if (bits === 16) {
    const pair = k.reg('b16');
    k.emit('ld', [space, 'b16'], [pair, from]);
    return unpackF8Pair(k, dtype, pair);
  }
  const words = k.regs('b32', bits / 32);
  if (words.length === 1) k.emit('ld', [space, 'b32'], [words[0], from]);
  else k.emit('ld', [space, `v${words.length}`, 'b32'], [words, from]);
  return words.flatMap((w) => unpackWord(k, dtype, w));
}

/** Stores neighbours to an aligned address; the inverse of loadVector. */
export function storeVector(
  k: Kernel,
  space: Space,
  dtype: DType,
  base: Reg<'u64'> | Reg<'u32'>,
  offset: number,
  values: readonly Reg[],
): void {
  const count = values.length;
  if (count === 1) return storeOne(k, space, dtype, base, offset, values[0]);
  const to = at(base, offset);
  if (dtype === 'f32' || dtype === 'i32' || dtype === 'i64') {
    k.emit(
      'st',
      [space, `v${count}`, dtype === 'f32' ? 'f32' : dtype === 'i32' ? 's32' : 's64'],
      [to, values],
    );
    return;
  }
  const floats = values as Reg<'f32'>[];
  const bits = dtypeInfo[dtype].bits * count;
  if (bits === 16) {
    const pair = k.reg('b16');
    if (dtype === 'f8e4m3') k.cvt.rn.satfinite.e4m3x2.f32(pair, floats[1], floats[0]);
    else k.cvt.rn.satfinite.e5m2x2.f32(pair, floats[1], floats[0]);
    k.emit('st', [space, 'b16'], [to, pair]);
    return;
  }
  const perWord = 32 / dtypeInfo[dtype].bits;
  const words = Array.from({ length: bits / 32 }, (_, i) =>
    packWord(k, dtype, floats.slice(i * perWord, (i + 1) * perWord)),
  );
  if (words.length === 1) k.emit('st', [space, 'b32'], [to, words[0]]);
  else k.emit('st', [space, `v${words.length}`, 'b32'], [to, words]);
}

function loadOne(k: Kernel, space: Space, dtype: DType, base: Reg<'u64'> | Reg<'u32'>, offset: number): Reg {
  const from = at(base, offset);
  switch (dtype) {
    case 'f32': {
      const d = k.reg('f32');
      k.emit('ld', [space, 'f32'], [d, from]);
      return d;
    }
    case 'i32': {
      const d = k.reg('s32');
      k.emit('ld', [space, 's32'], [d, from]);
      return d;
    }
    case 'i64': {
      const d = k.reg('s64');
      k.emit('ld', [space, 's64'], [d, from]);
      return d;
    }
    case 'bf16':
    case 'f16': {
      const h = k.reg('b16');
      const d = k.reg('f32');
      k.emit('ld', [space, 'b16'], [h, from]);
      if (dtype === 'bf16') k.cvt.f32.bf16(d, h);
      else k.cvt.f32.f16(d, h);
      return d;
    }
    case 'f8e4m3':
    case 'f8e5m2': {
      const h = k.reg('b16');
      k.emit('ld', [space, 'b8'], [h, from]);
      return unpackF8Pair(k, dtype, h)[0];
    }
    case 'bool': {
      const code = k.reg('u32');
      const p = k.reg('pred');
      k.emit('ld', [space, 'u8'], [code, from]);
      k.setp.ne.u32(p, code, 0);
      return p;
    }
    case 'f8ue8m0': {
      const [code, bits] = k.regs('u32', 2);
      const [low, bad] = k.regs('pred', 2);
      const d = k.reg('f32');
      k.emit('ld', [space, 'u8'], [code, from]);
      k.shl.b32(bits, code, 23);
      // Code 0 is 2^-127, a subnormal f32; 255 is NaN.
      k.setp.eq.u32(low, code, 0);
      k.selp.b32(bits, 0x00400000, bits, low);
      k.setp.eq.u32(bad, code, 255);
      k.selp.b32(bits, 0x7fffffff, bits, bad);
      k.mov.b32(d, bits);
      return d;
    }
    case 'f12e5m6':
      throw new Error('loadOne: f12e5m6 is addressed by element, see loadE5m6');
  }
}

function storeOne(
  k: Kernel,
  space: Space,
  dtype: DType,
  base: Reg<'u64'> | Reg<'u32'>,
  offset: number,
  value: Reg,
): void {
  const to = at(base, offset);
  switch (dtype) {
    case 'f32':
      k.emit('st', [space, 'f32'], [to, value]);
      return;
    case 'i32':
      k.emit('st', [space, 's32'], [to, value]);
      return;
    case 'i64':
      k.emit('st', [space, 's64'], [to, value]);
      return;
    case 'bf16':
    case 'f16': {
      const h = k.reg('b16');
      k.emit('cvt', ['rn', dtype, 'f32'], [h, value]);
      k.emit('st', [space, 'b16'], [to, h]);
      return;
    }
    case 'f8e4m3':
    case 'f8e5m2': {
      const h = k.reg('b16');
      k.emit('cvt', ['rn', 'satfinite', dtype === 'f8e4m3' ? 'e4m3x2' : 'e5m2x2', 'f32'], [h, 0, value]);
      k.emit('st', [space, 'b8'], [to, h]);
      return;
    }
    case 'bool': {
      const code = k.reg('u32');
      k.selp.u32(code, 1, 0, value as Reg<'pred'>);
      k.emit('st', [space, 'u8'], [to, code]);
      return;
    }
    case 'f8ue8m0': {
      // The value is a power of two already: its exponent field is the code (of a subnormal 0, of NaN 255).
      const code = k.reg('b32');
      k.mov.b32(code, value as Reg<'f32'>);
      k.shr.u32(code, code, 23);
      k.emit('st', [space, 'b8'], [to, code]);
      return;
    }
    case 'f12e5m6':
      throw new Error('storeOne: f12e5m6 is addressed by element, see storeE5m6');
  }
}

/** Element `i` of packed E5M6: byte 3·(i/2) + i mod 2, the lower or the upper twelve bits of two bytes. */
export function loadE5m6(k: Kernel, base: Reg<'u64'>, i: Reg<'u64'>): Reg {
  const [pair, odd, address] = k.regs('u64', 3);
  const [low, high] = k.regs('b32', 2);
  const isOdd = k.reg('pred');
  k.shr.u64(pair, i, 1);
  k.and.b64(odd, i, 1);
  k.mad.lo.u64(address, pair, 3, base);
  k.add.u64(address, address, odd);
  k.ld.global.u8(low, address);
  k.ld.global.u8(high, at(address, 1));
  k.shl.b32(high, high, 8);
  k.or.b32(low, low, high);
  k.setp.ne.u64(isOdd, odd, 0);
  k.shr.b32(high, low, 4);
  k.selp.b32(low, high, low, isOdd);
  k.and.b32(low, low, 0xfff);
  return e5m6Value(k, low);
}

/**
 * Stores element `i` alone. Its neighbours' bits lie in the same bytes and belong to other threads, so its own twelve
 * bits are cleared and set atomically in the one or two words that hold them.
 */
export function storeE5m6(k: Kernel, base: Reg<'u64'>, i: Reg<'u64'>, value: Reg<'f32'>): void {
  const code = e5m6Code(k, value);
  const [bit, word, address] = k.regs('u64', 3);
  const shift = k.reg('u32');
  const [mask, bits] = k.regs('b64', 2);
  const wide = k.reg('b64');
  k.mul.lo.u64(bit, i, 12);
  k.shr.u64(word, bit, 5);
  k.mad.lo.u64(address, word, 4, base);
  k.cvt.u32.u64(shift, bit);
  k.and.b32(shift, shift, 31);
  k.cvt.u64.u32(wide, code);
  k.shl.b64(bits, wide, shift);
  k.mov.b64(mask, 0xfff);
  k.shl.b64(mask, mask, shift);
  k.not.b64(mask, mask);
  const [maskLow, maskHigh] = k.regs('b32', 2);
  const [low, high] = k.regs('b32', 2);
  k.mov.b64([maskLow, maskHigh], mask);
  k.mov.b64([low, high], bits);
  k.red.global.and.b32(address, maskLow);
  k.red.global.or.b32(address, low);
  const straddles = k.reg('pred');
  k.setp.gt.u32(straddles, shift, 20);
  k.when(straddles, () => {
    k.red.global.and.b32(at(address, 4), maskHigh);
    k.red.global.or.b32(at(address, 4), high);
  });
}

/** Stores eight neighbours, the first at a multiple of eight elements: three words. */
export function storeE5m6Words(k: Kernel, address: Reg<'u64'>, values: readonly Reg<'f32'>[]): void {
  const codes = values.map((v) => e5m6Code(k, v));
  for (let word = 0; word < 3; word++) {
    const sum = k.reg('b32');
    k.mov.b32(sum, 0);
    for (const [i, code] of codes.entries()) {
      const shift = 12 * i - 32 * word;
      if (shift <= -12 || shift >= 32) continue;
      const part = k.reg('b32');
      if (shift >= 0) k.shl.b32(part, code, shift);
      else k.shr.b32(part, code, -shift);
      k.or.b32(sum, sum, part);
    }
    k.st.global.b32(at(address, 4 * word), sum);
  }
}
