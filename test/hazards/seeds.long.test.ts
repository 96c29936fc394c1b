// Kernels of the examples in every precision, one for each list of ops, under twenty seeds: other orders of blocks and
// warps, other times of copies, plain writes that others see late. No error is reported. (`npm test` runs every kernel,
// under fewer seeds: test/kernels.)
import { describe, expect, test } from 'vitest';
import { hasNative } from '../../runtime/native.ts';
import { kernelCases, precisions, type KernelCase } from '../kernels/models.ts';
import { findingsOf } from './find.ts';

const seeds = Array.from({ length: 20 }, (_, i) => i);

const opsOf = ({ kernel, fn }: KernelCase): string =>
  [kernel.family, ...fn.body.map((op) => op.op)].join(' ');

describe.skipIf(!hasNative())('no error under twenty seeds', async () => {
  const seen = new Set<string>();
  for (const precision of hasNative() ? precisions.toReversed() : [])
    for (const c of await kernelCases(precision)) {
      if (seen.has(opsOf(c))) continue;
      seen.add(opsOf(c));
      test(c.title, () => {
        expect(findingsOf(c, c.kernel, seeds, 'all')).toEqual([]);
      });
    }
});
