// Every kernel of the examples in every precision under twenty seeds: other orders of blocks and warps, other times of
// copies, plain writes that others see late. No error is reported.
import { describe, expect, test } from 'vitest';
import { hasNative } from '../../runtime/native.ts';
import { kernelCases, precisions } from '../kernels/models.ts';
import { findingsOf } from './find.ts';

const seeds = Array.from({ length: 20 }, (_, i) => i);

describe.skipIf(!hasNative())('no error under twenty seeds', async () => {
  for (const precision of hasNative() ? precisions : [])
    for (const c of await kernelCases(precision))
      test(c.title, () => {
        expect(findingsOf(c, c.kernel, seeds, 'all')).toEqual([]);
      });
});
