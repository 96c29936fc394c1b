// The generator behind `{"random": seed}`: xoshiro128** (Blackman and Vigna, 2018), its state four outputs of splitmix32
// on the seed. Fixed for good: a launch file must give the same bytes with every version.
import { elementBytes, type SafetensorsDType } from '../safetensors.ts';
import { isFloatDType, writeNumber } from './number-formats.ts';

/** Outputs are whole numbers from 0 to 2^32 - 1. `seed`: a whole number from 0 to 2^53 - 1. */
export function xoshiro128(seed: number): () => number {
  // Both halves of the seed count, also where it is larger than 32 bits.
  let mix = (seed >>> 0) ^ Math.imul(Math.floor(seed / 2 ** 32), 0x85ebca6b);
  const splitmix32 = (): number => {
    mix = (mix + 0x9e3779b9) | 0;
    let z = mix;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return z ^ (z >>> 15);
  };
  const rotate = (x: number, by: number): number => (x << by) | (x >>> (32 - by));
  let [a, b, c, d] = [splitmix32(), splitmix32(), splitmix32(), splitmix32()];
  return () => {
    const out = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = rotate(d, 11);
    return out;
  };
}

/**
 * A writer of the next `count` elements into a buffer. Floats are uniform in [-1, 1): 24 random bits, 53 for F64, then
 * rounded to the dtype; integers are uniform over their whole range; BOOL is 0 or 1. Every element takes one output
 * (the high bits count), 64-bit ones two, low half first.
 */
export function randomWriter(dtype: SafetensorsDType, seed: number): (view: DataView, count: number) => void {
  const next = xoshiro128(seed);
  const size = elementBytes[dtype];
  if (dtype === 'F64')
    return (view, count) => {
      for (let i = 0; i < count; i++) {
        const low = next();
        const high = next();
        view.setFloat64(8 * i, ((high >>> 5) * 2 ** 26 + (low >>> 6)) * 2 ** -52 - 1, true);
      }
    };
  if (isFloatDType(dtype))
    return (view, count) => {
      for (let i = 0; i < count; i++) writeNumber(view, size * i, dtype, (next() >>> 8) * 2 ** -23 - 1);
    };
  return (view, count) => {
    for (let i = 0; i < count; i++) {
      if (dtype === 'BOOL') view.setUint8(i, next() >>> 31);
      else if (size === 1) view.setUint8(i, next() >>> 24);
      else if (size === 2) view.setUint16(2 * i, next() >>> 16, true);
      else {
        view.setUint32(size * i, next(), true);
        if (size === 8) view.setUint32(8 * i + 4, next(), true);
      }
    }
  };
}
