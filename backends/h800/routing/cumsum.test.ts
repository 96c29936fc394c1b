import fc from 'fast-check';
import { test } from 'vitest';
import type { DimDeclaration } from '../../../ir/module.ts';
import { random } from '../../../test/support/kernel-subject.ts';
import { check } from './testing.ts';

const dims: readonly DimDeclaration[] = ['tokens', 'keys'].map((name) => ({ name, bound: 256 }));

async function cumsum(
  type: string,
  axis: number,
  sizes: Readonly<Record<string, number>> = {},
): Promise<void> {
  const x = random(type, 3, sizes);
  await check(
    { args: [type], dims, name: 'cumsum' },
    [x],
    (b, [v]) => [b.one('cumsum', [v], { axis })],
    { absolute: 3e-5, share: 0.05 },
    sizes,
  );
}

test.each([
  ['f32[3, 20]', 1, {}],
  ['f32[2, 100]', 1, {}],
  ['f32[5]', 0, {}],
  ['bf16[tokens, 70]', 1, { tokens: 4 }],
  ['i32[4, 33]', 1, {}],
  ['i32[40, 5]', 0, {}],
  ['f16[3, 6, 4]', 1, {}],
  ['f32[tokens, 9]', 0, { tokens: 50 }],
  ['f32[tokens]', 0, { tokens: 77 }],
  ['f32[3, tokens, keys]', 1, { tokens: 11, keys: 13 }],
  ['f32[tokens, keys]', 1, { tokens: 3, keys: 65 }],
  ['f32[tokens, 7, 1]', 1, { tokens: 3 }],
] as const)('%s along %i', async (type, axis, sizes) => {
  await cumsum(type, axis, sizes);
});

test('any sizes', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 3 }),
      fc.nat(2),
      async (shape, axis) => {
        await cumsum(`i32[${shape.join(', ')}]`, axis % shape.length);
      },
    ),
    { numRuns: 12, seed: 5 },
  ));
