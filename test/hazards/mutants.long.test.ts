// Of every kernel with synchronisation, every mutant that lacks one: the emulator finds each, or it is listed in find.ts
// with the reason why nothing is wrong with it. The kernels themselves give no error under twenty seeds.
import { describe, expect, test } from 'vitest';
import { hasNative } from '../../runtime/native.ts';
import { findingsOf, hanging, redundant } from './find.ts';
import { mutantsOf } from './mutants.ts';
import { synchronisedKernels } from './subjects.ts';

const kernels = hasNative() ? await synchronisedKernels() : [];
const seeds = Array.from({ length: 20 }, (_, i) => i);

describe.skipIf(!hasNative())('hazards', () => {
  test('there are kernels of every sort', () => {
    const families = new Set<string>(kernels.map((c) => c.kernel.family));
    for (const family of ['gemm', 'loops', 'routing']) expect(families).toContain(family);
  });

  for (const c of kernels)
    describe(c.title, () => {
      test('is right, whatever the seed', () => {
        expect(findingsOf(c, c.kernel, seeds, 'all')).toEqual([]);
      });
      for (const m of mutantsOf(c.kernel)) {
        const reason = redundant(c, m);
        const name = `line ${m.line}, ${m.original} ${m.change}`;
        if (reason === null)
          test(`${name}: found`, () => {
            // A store that nobody waited for at the end is a warning: the specification leaves it open.
            expect(
              findingsOf(c, m.kernel, seeds.slice(0, 4), 'first', {
                warnings: true,
                maxInstructions: hanging,
              }),
            ).not.toEqual([]);
          });
        else
          test(`${name}: redundant, ${reason}`, () => {
            expect(findingsOf(c, m.kernel, seeds, 'all')).toEqual([]);
          });
      }
    });
});
