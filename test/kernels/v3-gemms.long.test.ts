// The FP8 GEMMs of DeepSeek-V3's bundle on more of their tiles, and the joint down-projection whole.
import { describe, expect, test } from 'vitest';
import { hasNative } from '../../runtime/native.ts';
import { allTiles, manyTiles, runTiles, v3Gemms } from './v3-gemms.ts';

describe.skipIf(!hasNative())('on the emulator', async () => {
  const gemms = await v3Gemms();

  describe.each(gemms.map((g) => [g.title, g] as const))('%s', (_, gemm) => {
    test.each([1, 65, 200])('M = %i: first, last, middle and the edges', (m) => {
      // The checks keep a bit for every byte: weights of all experts are too many for that.
      const checks = gemm.experts === null && m === 65 ? ['all'] : [];
      const { wrong, tiles } = runTiles(gemm, m, manyTiles, 8, { seed: m, checks });
      expect(wrong).toEqual([]);
      expect(tiles).toBeGreaterThanOrEqual(3);
    });
  });

  test.each(gemms.filter((g) => g.n === 2112 && g.k === 7168).map((g) => [g.title, g] as const))(
    '%s: all of M = 128',
    (_, gemm) => {
      const { wrong, tiles, compared } = runTiles(gemm, 128, allTiles, 1, { checks: ['all'] });
      expect(wrong).toEqual([]);
      expect(tiles).toBe(Math.ceil(2112 / gemm.bn));
      expect(compared).toBe(128 * 2112);
    },
  );
});
