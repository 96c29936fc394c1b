import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { TensorData } from '../../../ir/interpret/values.ts';
import type { DimDeclaration } from '../../../ir/module.ts';
import { kernelOf, random, run, tensorValue } from '../../../test/support/kernel-subject.ts';
import { emitRouting } from './index.ts';
import { check } from './testing.ts';

const dims: readonly DimDeclaration[] = [{ name: 'tokens', bound: 64 }];

const topK = (type: string, x: TensorData, k: number, results: readonly number[] = [0, 1]): Promise<string> =>
  check({ args: [type], dims, name: 'top_k' }, [x], (b, [v]) => {
    const both = b.op('top_k', [v], { k });
    return results.map((i) => both[i]);
  });

test.each([
  ['f32[tokens, 40]', 5],
  ['bf16[tokens, 256]', 8],
  ['f16[tokens, 7]', 7],
  ['i32[tokens, 24]', 5],
  ['f8e5m2[tokens, 64]', 3],
  ['f32[tokens, 3, 20]', 4],
  ['f32[tokens, 1]', 1],
] as const)('%s, %i largest', async (type, k) => {
  await topK(type, random(type, 5, { tokens: 6 }), k);
});

test('ties, signs, zeros and infinities', async () => {
  const x = tensorValue(
    'f32',
    [2, 8],
    [0, -0, 1, 1, -1, -Infinity, Infinity, 1, -Infinity, -Infinity, -Infinity, -0, 0, -1e-40, 1e-40, -3],
  );
  await topK('f32[2, 8]', x, 8);
  const extreme = tensorValue('i32', [1, 6], [-(2 ** 31), 2 ** 31 - 1, 0, -1, 2 ** 31 - 1, -(2 ** 31)]);
  await topK('i32[1, 6]', extreme, 6);
});

test('equal rows give the first indices', async () => {
  await topK('bf16[tokens, 100]', tensorValue('bf16', [3, 100], new Array(300).fill(-2)), 9);
});

test('rows of a CTA', async () => {
  const x = random('f32[2, 2500]', 9);
  x.data[2400] = x.data[17] = 3;
  await topK('f32[2, 2500]', x, 4);
});

test('rows of a vocabulary, indices alone', async () => {
  await topK('f32[tokens, 40000]', random('f32[1, 40000]', 9), 2, [1]);
});

test('NaN comes first, and indices stay in range', () => {
  const subject = kernelOf({ args: ['f32[1, 5]'] }, (b, [v]) => b.op('top_k', [v], { k: 5 }));
  const x = tensorValue('f32', [1, 5], [NaN, 1, NaN, Infinity, NaN]);
  const [values, indices] = run(emitRouting(subject.fn, subject.module), subject, [x])
    .results as TensorData[];
  expect([...indices.data]).toEqual([0, 2, 4, 3, 1]);
  expect([...values.data]).toEqual([NaN, NaN, NaN, Infinity, 1]);
});

test('any sizes, many ties', () =>
  fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 90 }),
      fc.integer({ min: 1, max: 90 }),
      fc.integer({ min: 1, max: 99 }),
      async (rows, n, k, seed) => {
        const x = random(`f32[${rows}, ${n}]`, seed, {}, 4);
        x.data.forEach((v, i) => (x.data[i] = Math.round(v)));
        await topK(`f32[tokens, ${n}]`, x, Math.min(k, n, 12));
      },
    ),
    { numRuns: 12, seed: 5 },
  ));
