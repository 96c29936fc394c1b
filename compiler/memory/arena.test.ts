import fc from 'fast-check';
import { expect, test } from 'vitest';
import { packIntervals, packSequentially } from './arena.ts';

const interval = fc
  .record({
    bytes: fc.integer({ min: 1, max: 5000 }),
    a: fc.integer({ min: 0, max: 30 }),
    b: fc.integer({ min: 0, max: 30 }),
  })
  .map(({ bytes, a, b }) => ({ bytes, from: Math.min(a, b), to: Math.max(a, b) }));

test('values that live at the same time never share bytes, and offsets are aligned', () =>
  fc.assert(
    fc.property(fc.array(interval, { maxLength: 40 }), (intervals) => {
      const { offsets, bytes } = packIntervals(intervals);
      intervals.forEach((x, i) => {
        expect(offsets[i] % 256).toBe(0);
        expect(offsets[i] + x.bytes).toBeLessThanOrEqual(bytes);
        intervals.forEach((y, j) => {
          if (j <= i || x.from > y.to || y.from > x.to) return;
          expect(offsets[i] + x.bytes <= offsets[j] || offsets[j] + y.bytes <= offsets[i]).toBe(true);
        });
      });
      expect(bytes).toBeLessThanOrEqual(packSequentially(intervals).bytes);
    }),
  ));

test('reuses what is free: a chain of equal values needs two of them', () => {
  const chain = Array.from({ length: 10 }, (_, i) => ({ bytes: 1024, from: i, to: i + 1 }));
  expect(packIntervals(chain).bytes).toBe(2048);
  expect(packSequentially(chain).bytes).toBe(10240);
});
