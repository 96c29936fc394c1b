// What can be wrong without any assembler noticing: addresses. TMA's writes are modelled from its definition (box rows
// dense, then XOR by address), wgmma's reads from the canonical layout of the ISA, and both must meet.
import { expect, test } from 'vitest';
import {
  accumulatorPlace,
  atomBytes,
  blockK,
  descriptorAddress,
  descriptorHigh,
  descriptorLow,
  descriptorStep,
  outputLayout,
  outputOffset,
  stepK,
  swizzle,
  waveRows,
} from './layout.ts';

/** Where TMA puts byte k of row `row` of a box 128 bytes wide whose smem address is `base`. */
const tmaAddress = (base: number, row: number, k: number): number => {
  const dense = base + row * 128 + k;
  // The 128-byte swizzle of the ISA as a table: 16-byte unit u of row r goes to unit u XOR (r mod 8) of the row.
  const unit = ((dense >> 4) & 7) ^ ((dense >> 7) & 7);
  return (dense & ~0x70) | (unit << 4);
};

test('wgmma descriptors read what TMA wrote, for every row, K step and wave', () => {
  const wrong: string[] = [];
  for (const base of [1024, 1024 + 128 * 128, 0x400 + 5 * 16384]) {
    expect(base % atomBytes).toBe(0);
    for (const wave of [0, 1]) {
      for (let step = 0; step < blockK / stepK; step++) {
        const low = descriptorLow(base) + step * descriptorStep + ((wave * waveRows * blockK) >> 4);
        for (let row = 0; row < waveRows; row++)
          for (let k = 0; k < stepK; k++)
            if (
              descriptorAddress(low, descriptorHigh, row, k) !==
              tmaAddress(base, wave * waveRows + row, step * stepK + k)
            )
              wrong.push(`base ${base}, wave ${wave}, step ${step}, row ${row}, byte ${k}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test('descriptor fields: start and SBO in units of 16, swizzle 1 in bits 62 and 63, no base offset', () => {
  const whole = (BigInt(descriptorHigh) << 32n) | BigInt(descriptorLow(0x2400));
  expect(whole & 0x3fffn).toBe(0x240n);
  expect((whole >> 32n) & 0x3fffn).toBe(BigInt(atomBytes >> 4));
  expect((whole >> 49n) & 7n).toBe(0n);
  expect(whole >> 62n).toBe(1n);
  // Shared addresses of another CTA of a cluster carry its rank; the descriptor does not.
  expect(descriptorLow((3 << 24) | 0x2400)).toBe(descriptorLow(0x2400));
});

test('a descriptor never carries out of its start address: the last stage still fits 14 bits', () => {
  const last = 0x400 + 232448 - 1024;
  expect(descriptorLow(last) + 3 * descriptorStep).toBeLessThan((1 << 16) + (1 << 14));
});

test('accumulator fragments cover 64 x N exactly once', () => {
  for (const n of [16, 96, 192]) {
    const seen = new Set<number>();
    for (let thread = 0; thread < 128; thread++)
      for (let i = 0; i < n / 2; i++) {
        const { row, column } = accumulatorPlace(thread, i);
        if (row < 64 && column < n) seen.add(row * n + column);
      }
    expect(seen.size).toBe(64 * n);
  }
  // The first registers of lane 5 in warp 1, from the ISA's figure: row 16 + 5/4, columns 2·(5 mod 4) and next.
  expect([0, 1, 2, 3, 4].map((i) => accumulatorPlace(37, i))).toEqual([
    { row: 17, column: 2 },
    { row: 17, column: 3 },
    { row: 25, column: 2 },
    { row: 25, column: 3 },
    { row: 17, column: 10 },
  ]);
});

test.each([
  [128, 'bf16', 64, 128],
  [192, 'bf16', 64, 128],
  [96, 'bf16', 32, 64],
  [112, 'bf16', 16, 32],
  [96, 'f32', 32, 128],
  [48, 'f32', 16, 64],
] as const)('output chunks of %i columns of %s', (bn, dtype, columns, bytes) => {
  const layout = outputLayout(bn, dtype);
  expect(layout).toMatchObject({ chunkColumns: columns, chunkBytes: bytes, chunks: bn / columns });
  // One chunk is 64 rows: a permutation of its elements, each 16-byte unit in its own row.
  const places = new Set<number>();
  for (let row = 0; row < 64; row++)
    for (let column = 0; column < columns; column++) {
      const offset = outputOffset(layout, row, column);
      expect(Math.floor(offset / bytes)).toBe(row);
      places.add(offset);
    }
  expect(places.size).toBe(64 * columns);
  expect((64 * bytes) % atomBytes).toBe(0);
});

test('the swizzles are their own inverses and keep 16-byte units whole', () => {
  for (const bytes of [32, 64, 128] as const)
    for (let a = 0; a < 4096; a += 7) {
      expect(swizzle(swizzle(a, bytes), bytes)).toBe(a);
      expect(swizzle(a, bytes) & 15).toBe(a & 15);
    }
});
