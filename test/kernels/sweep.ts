// The tests of one precision: every kernel of every example as the compiler makes it, executed and compared.
import { afterAll, describe, expect, test } from 'vitest';
import type { PrecisionName } from '../../dsl/trace-model.ts';
import { showType, type Type } from '../../ir/types.ts';
import { defaultEngine } from '../support/machines.ts';
import { check, sizes } from './check.ts';
import { kernelCases, type KernelCase } from './models.ts';

/** What a writer may treat alike: the same ops on the same formats, of sizes that allow the same accesses. */
function kind({ fn, kernel }: KernelCase): string {
  const format = (t: Type): string => {
    if (t.kind !== 'tensor') return t.kind;
    const width = t.dims.at(-1)?.size ?? 1;
    return `${showType({ ...t, dims: [] })} ${[16, 8, 4, 2, 1].find((n) => width % n === 0)}`;
  };
  const types = [...fn.arguments.map((a) => a.value), ...fn.results].map((v) => format(v.type));
  return [kernel.family, ...fn.body.map((op) => op.op), ...types].join(' ');
}

/**
 * Runs the kernels of all examples in one precision with one token, and with many: `sampled` takes for the latter the
 * first kernel of each kind, as does whoever has no emulator. The interpreter of PTX text, which shares nothing with it,
 * runs the first of each kind too. `variants`: passes that are off, one set after the other. Says at the end how many
 * there were.
 */
export async function sweep(
  precision: PrecisionName,
  many: 'sampled' | 'all',
  variants?: readonly (readonly string[])[],
): Promise<void> {
  const cases = await kernelCases(precision, variants);
  const kinds = new Set<string>();
  const families = new Map<string, number>();
  const isSampled = many === 'sampled' || defaultEngine === 'text';
  const runs = { one: 0, many: 0, text: 0 };

  describe(`kernels of the examples in ${precision}`, () => {
    test('there are some of every family', () => {
      const found = new Set<string>(cases.map((c) => c.kernel.family));
      for (const family of [
        'loops',
        'attention',
        'routing',
        'state',
        ...(precision === 'fp8' ? ['gemm'] : []),
      ])
        expect(found).toContain(family);
    });

    for (const c of cases) {
      const isFirst = !kinds.has(kind(c));
      kinds.add(kind(c));
      families.set(c.kernel.family, (families.get(c.kernel.family) ?? 0) + 1);
      for (const size of sizes) {
        if (size.tokens === 'many' && isSampled && !isFirst) continue;
        runs[size.tokens]++;
        test(`${c.title}, ${size.tokens === 'one' ? 'one token' : 'many tokens'}`, () => {
          expect(check(c, size)).toEqual([]);
        });
      }
      if (!isFirst || defaultEngine === 'text') continue;
      runs.text++;
      test(`${c.title}, by its text`, () => {
        expect(check(c, sizes[0], 'text')).toEqual([]);
      });
    }
  });

  afterAll(() => {
    const by = [...families].map(([family, n]) => `${n} ${family}`).join(', ');
    console.log(
      `${precision}: ${cases.length} kernels (${by}); ${runs.one} run with one token, ${runs.many} with many, ${runs.text} by their text`,
    );
  });
}
