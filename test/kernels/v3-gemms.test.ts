// Each FP8 GEMM of DeepSeek-V3's bundle at its real N and K, for one token, an odd number of them and many: the last tile,
// which overhangs M and mostly N. More tiles: `npm run test:long`.
import { describe, expect, test } from 'vitest';
import { hasNative } from '../../runtime/native.ts';
import { lastTile, runTiles, v3Gemms } from './v3-gemms.ts';

describe.skipIf(!hasNative())('on the emulator', async () => {
  const gemms = await v3Gemms();

  test('the bundle has 19 of them, four grouped', () => {
    expect(gemms.length).toBe(19);
    expect(gemms.filter((g) => g.experts !== null).length).toBe(4);
    expect(new Set(gemms.map((g) => g.ptx)).size).toBe(19);
  });

  describe.each(gemms.map((g) => [g.title, g] as const))('%s', (_, gemm) => {
    test.each([1, 65, 200])('M = %i', (m) => {
      const { wrong, tiles, compared } = runTiles(gemm, m, lastTile, 16);
      expect(wrong).toEqual([]);
      expect(tiles).toBeGreaterThanOrEqual(1);
      expect(compared).toBeGreaterThanOrEqual(64);
    });
  });

  test('a kernel that promotes wrongly does not pass', () => {
    const [gemm] = gemms;
    // Scale-d of the first product of every 128 of K: it would accumulate on what stood there.
    const ptx = gemm.ptx.replace(/setp\.ne\.u32 (%never\d*), 0, 0;/, 'setp.eq.u32 $1, 0, 0;');
    expect(ptx).not.toBe(gemm.ptx);
    expect(runTiles({ ...gemm, ptx }, 1, lastTile, 1).wrong.length).toBeGreaterThan(0);
    // One product left out of every block of K.
    const less = gemm.ptx.replace(/^\s*wgmma\.mma_async(?:.|\n)*?;/m, '');
    expect(runTiles({ ...gemm, ptx: less }, 1, lastTile, 1).wrong.length).toBeGreaterThan(0);
  });
});
