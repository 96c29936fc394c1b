import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  checkTensorMap,
  encodeTensorMap,
  fillModes,
  interleaves,
  swizzles,
  tensorMapDTypes,
  tensorMapMark,
  type TensorMapDType,
  type TensorMapShape,
} from './tensor-map.ts';

const address = 0x100_0000_0400n;
const good: TensorMapShape = {
  dtype: 'BF16',
  dims: [256, 128],
  strides: [512],
  box: [64, 32],
  elementStrides: [1, 1],
  swizzle: '128B',
  interleave: 'none',
  fill: 'zero',
};
const codes = Object.entries(tensorMapDTypes) as [
  TensorMapDType,
  { code: number; bytes: number; float: boolean },
][];

/** Bits `low` to `high` of the object, both inclusive, counted from byte 0: read without knowing of fields. */
function bits(map: Uint8Array, low: number, high: number): bigint {
  let value = 0n;
  for (let i = high; i >= low; i--) value = (value << 1n) | BigInt((map[i >> 3] >> (i & 7)) & 1);
  return value;
}

describe('the 128-byte object', () => {
  test('a plain map, byte by byte', () => {
    const map = encodeTensorMap(address, good);
    const hex = (from: number, to: number): string => Buffer.from(map.subarray(from, to)).toString('hex');
    // address | rank-1 = 1, type 10, swizzle 3 | 512/16 = 32 | high | 255, 127 | box 63 in the top byte | box 31
    expect(hex(0x00, 0x08)).toBe('0004000000010000');
    expect(hex(0x08, 0x0c)).toBe('10650000');
    expect(hex(0x0c, 0x20)).toBe('20000000' + '00'.repeat(16));
    expect(hex(0x20, 0x34)).toBe('ff0000007f000000' + '00'.repeat(12));
    expect(hex(0x34, 0x40)).toBe('0000003f' + '1f000000' + '00000000');
    expect(Buffer.from(map.subarray(0x40, 0x48)).toString()).toBe(tensorMapMark);
    expect(hex(0x48, 0x80)).toBe('00'.repeat(56));
  });

  const shape = fc.integer({ min: 1, max: 5 }).chain((rank) => {
    const list = (n: number, of: fc.Arbitrary<number>): fc.Arbitrary<number[]> =>
      fc.array(of, { minLength: n, maxLength: n });
    return fc
      .record({
        dtype: fc.constantFrom(...codes.map(([name]) => name)),
        dims: list(rank, fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 2 ** 32 }))),
        strides: list(
          rank - 1,
          fc.integer({ min: 0, max: 2 ** 35 - 1 }).map((n) => n * 32),
        ),
        box: list(rank, fc.integer({ min: 1, max: 256 })),
        elementStrides: list(rank, fc.integer({ min: 1, max: 8 })),
        swizzle: fc.constantFrom(...swizzles),
        interleave: fc.constantFrom(...interleaves),
        fill: fc.constantFrom(...fillModes),
      })
      .filter((s) => checkTensorMap(0n, s).length === 0);
  });

  test('every field stands in its bits, and nothing in others', () => {
    fc.assert(
      fc.property(shape, fc.bigInt({ min: 0n, max: 2n ** 59n - 1n }), (s, unit) => {
        const map = encodeTensorMap(unit * 32n, s);
        const covered = new Set<number>();
        const field = (low: number, high: number): bigint => {
          for (let i = low; i <= high; i++) covered.add(i);
          return bits(map, low, high);
        };
        expect(field(0, 63)).toBe(unit * 32n);
        const flags = 0x08 * 8;
        expect(field(flags + 4, flags + 6)).toBe(BigInt(s.dims.length - 1));
        expect(field(flags + 7, flags + 10)).toBe(BigInt(tensorMapDTypes[s.dtype].code));
        expect(field(flags + 11, flags + 12)).toBe(BigInt(interleaves.indexOf(s.interleave)));
        expect(field(flags + 13, flags + 14)).toBe(BigInt(swizzles.indexOf(s.swizzle)));
        expect(field(flags + 15, flags + 15)).toBe(s.fill === 'nan' ? 1n : 0n);
        for (const [i, stride] of s.strides.entries()) {
          const low = field((0x0c + 4 * i) * 8, (0x0c + 4 * i) * 8 + 31);
          const high = field(0x1c * 8 + 4 * i, 0x1c * 8 + 4 * i + 3);
          expect(((high << 32n) | low) * 16n).toBe(BigInt(stride));
        }
        for (const [i, n] of s.dims.entries())
          expect(field((0x20 + 4 * i) * 8, (0x20 + 4 * i) * 8 + 31) + 1n).toBe(BigInt(n));
        for (const [i, n] of s.elementStrides.entries())
          expect(field(0x34 * 8 + 3 * i, 0x34 * 8 + 3 * i + 2) + 1n).toBe(BigInt(n));
        for (const [i, n] of s.box.entries())
          expect(field((0x37 + i) * 8, (0x37 + i) * 8 + 7) + 1n).toBe(BigInt(n));
        // The mark is known; every bit that is left is zero.
        for (let i = 0x40 * 8; i < 0x48 * 8; i++) covered.add(i);
        for (let i = 0; i < 128 * 8; i++) if (!covered.has(i)) expect(bits(map, i, i)).toBe(0n);
      }),
    );
  });

  test('types have the numbers of tensormap.replace', () => {
    expect(codes.map(([name, { code }]) => [name, code])).toEqual([
      ['U8', 0],
      ['U16', 1],
      ['U32', 2],
      ['I32', 3],
      ['U64', 4],
      ['I64', 5],
      ['F16', 6],
      ['F32', 7],
      ['F32_FTZ', 8],
      ['F64', 9],
      ['BF16', 10],
      ['TF32', 11],
      ['TF32_FTZ', 12],
    ]);
  });
});

describe('rules', () => {
  const told = (change: Partial<TensorMapShape>, at = address): string[] =>
    checkTensorMap(at, { ...good, ...change }).map((p) => `${p.part} ${p.message}; ${p.fix}`);

  test('a good map breaks none', () => expect(told({})).toEqual([]));

  test.each<[string, Partial<TensorMapShape>, bigint?]>([
    ['no dimension', { dims: [], strides: [], box: [], elementStrides: [] }],
    ['six dimensions', { dims: [1, 1, 1, 1, 1, 1] }],
    ['strides for the wrong rank', { strides: [512, 1024] }],
    ['a box of the wrong rank', { box: [64] }],
    ['element strides of the wrong rank', { elementStrides: [1, 1, 1] }],
    ['an address off by 8', {}, address + 8n],
    [
      'an address off by 16 with interleave 32B',
      {
        dims: [256, 8, 8],
        strides: [512, 4096],
        box: [8, 8, 8],
        elementStrides: [1, 1, 1],
        interleave: '32B',
        swizzle: '32B',
      },
      address + 16n,
    ],
    ['a dimension of nothing', { dims: [0, 128] }],
    ['a dimension beyond 2^32', { dims: [2 ** 32 + 1, 128] }],
    ['a stride off by 8', { strides: [520] }],
    ['a stride of 2^40', { strides: [2 ** 40] }],
    [
      'a stride off by 16 with interleave 32B',
      {
        dims: [256, 8, 8],
        strides: [528, 4096],
        box: [8, 8, 8],
        elementStrides: [1, 1, 1],
        interleave: '32B',
        swizzle: '32B',
      },
    ],
    ['an empty box', { box: [64, 0] }],
    ['a box beyond 256', { box: [64, 257] }],
    ['rows of 8 bytes', { box: [4, 32] }],
    ['rows beyond the swizzle', { box: [128, 32] }],
    ['rows beyond 32B', { box: [32, 32], swizzle: '32B' }],
    ['rows beyond 64B', { box: [64, 32], swizzle: '64B' }],
    ['an element stride of 0', { elementStrides: [1, 0] }],
    ['an element stride of 9', { elementStrides: [1, 9] }],
    ['interleave with two dimensions', { interleave: '16B', swizzle: 'none' }],
    [
      'interleave 32B without its swizzle',
      {
        dims: [256, 8, 8],
        strides: [512, 4096],
        box: [8, 8, 8],
        elementStrides: [1, 1, 1],
        interleave: '32B',
        swizzle: '128B',
      },
    ],
    ['NaN for integers', { dtype: 'U16', fill: 'nan' }],
  ])('%s', (_, change, at) => {
    const all = told(change, at);
    expect(all).toHaveLength(1);
    expect(all[0]).toMatchSnapshot();
    expect(() => encodeTensorMap(at ?? address, { ...good, ...change })).toThrow(RangeError);
  });

  test('edges are allowed', () => {
    expect(
      told({ dims: [2 ** 32, 2 ** 32], strides: [2 ** 40 - 16], box: [64, 256], elementStrides: [8, 8] }),
    ).toEqual([]);
    expect(told({ dtype: 'U8', box: [128, 1] })).toEqual([]);
    expect(told({ dtype: 'F64', fill: 'nan', box: [16, 1] })).toEqual([]);
    expect(told({ swizzle: 'none', box: [256, 256] })).toEqual([]);
    expect(told({ dims: [7], strides: [], box: [64], elementStrides: [1] })).toEqual([]);
    // Interleaved rows need not be whole units.
    expect(
      told({
        dims: [256, 8, 8],
        strides: [512, 4096],
        box: [3, 8, 8],
        elementStrides: [1, 1, 1],
        interleave: '16B',
        swizzle: 'none',
      }),
    ).toEqual([]);
  });

  test('several broken rules are told together', () => {
    expect(
      told({ strides: [520], box: [64, 257], fill: 'nan', dtype: 'U16' }, address + 1n).map(
        (t) => t.split(' ')[0],
      ),
    ).toEqual(['address', 'strides', 'box', 'fill']);
  });
});
