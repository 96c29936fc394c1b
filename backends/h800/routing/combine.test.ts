import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { TensorData } from '../../../ir/interpret/values.ts';
import { random, tensorValue, type Close } from '../../../test/support/kernel-subject.ts';
import { check, routedDims, routingFor, routingType, type RoutingShape } from './testing.ts';

const scattered = (t: number, e: number): number => ((t * 5 + e * 11) % 19) / 19;

function combine(
  shape: RoutingShape,
  type: string,
  close?: Close,
  spoil: (rows: TensorData, padding: number) => void = () => {},
): Promise<string> {
  const routing = routingFor(shape, scattered);
  const rows = random(type.replace('slots', `${routing.tokenOf.length}`), 3);
  // Whatever stands in padding rows must not matter.
  const length = rows.data.length / routing.tokenOf.length;
  for (const [slot, token] of routing.tokenOf.entries())
    if (token < 0) rows.data.fill(NaN, slot * length, (slot + 1) * length);
  spoil(rows, length);
  return check(
    { args: [type, routingType(shape)], dims: routedDims(shape), name: 'combine_tokens' },
    [rows, routing],
    (b, [y, r]) => [b.one('combine_tokens', [y, r])],
    close,
  );
}

const shape: RoutingShape = { tokens: 13, experts: 10, top: 3, align: 8 };

test.each([
  'bf16[slots, 24]',
  'bf16[slots, 7]',
  'f32[slots, 10]',
  'f16[slots, 2, 8]',
  'f8e4m3[slots, 24]',
  'f32[slots]',
])('%s', async (type) => {
  await combine(shape, type, { absolute: 1e-6 });
});

test.each([1, 8, 9, 20])('%i choices', async (top) => {
  await combine({ tokens: 5, experts: 24, top, align: 4 }, 'bf16[slots, 40]', {
    absolute: 1e-5,
    share: 0.02,
  });
});

test('real width: 16-byte accesses', async () => {
  const ptx = await combine({ tokens: 2, experts: 16, top: 8, align: 4 }, 'bf16[slots, 7168]', {
    absolute: 1e-5,
  });
  expect(ptx.match(/ld\.global\.v4\.b32/g)).toHaveLength(8);
});

test('adds in order of choice, in f32', async () => {
  const one: RoutingShape = { tokens: 1, experts: 4, top: 4, align: 1 };
  const routing = routingFor(one, (_, e) => -e);
  // 2^24 swallows a 1 that is added later, not one that was added before.
  const rows = tensorValue('f32', [4, 1], [2 ** 24, 1, -(2 ** 24), 1]);
  const { emitRouting } = await import('./index.ts');
  const { kernelOf, run } = await import('../../../test/support/kernel-subject.ts');
  const subject = kernelOf(
    { args: ['f32[slots, 1]', routingType(one)], dims: routedDims(one) },
    (b, [y, r]) => [b.one('combine_tokens', [y, r])],
  );
  const [got] = run(emitRouting(subject.fn, subject.module), subject, [rows, routing]).results;
  expect([...(got as TensorData).data]).toEqual([1]);
});

test('any sizes', () =>
  fc.assert(
    fc.asyncProperty(
      fc.record({
        tokens: fc.integer({ min: 1, max: 30 }),
        experts: fc.integer({ min: 1, max: 12 }),
        top: fc.integer({ min: 1, max: 12 }),
        align: fc.constantFrom(1, 4, 16),
      }),
      fc.integer({ min: 1, max: 70 }),
      async ({ tokens, experts, top, align }, width) => {
        await combine({ tokens, experts, top: Math.min(top, experts), align }, `f32[slots, ${width}]`, {
          absolute: 1e-5,
        });
      },
    ),
    { numRuns: 10, seed: 3 },
  ));
