import { describe, expect, test } from 'vitest';
import type { FunctionBuilder } from '../../../ir/builder.ts';
import type { Value } from '../../../ir/module.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import { assembled, kernelOf } from '../../../test/support/kernel-subject.ts';
import { emitRouting, isRouting } from './index.ts';
import { routedDims, routingType } from './testing.ts';

const shape = { tokens: 16384, experts: 256, top: 8, align: 128 };
const dims = routedDims(shape);
const subject = (
  args: readonly string[],
  body: (b: FunctionBuilder, args: readonly Value[]) => readonly Value[],
) => kernelOf({ args, dims }, body);

describe('which functions are for these kernels', () => {
  test('one op on arguments', () => {
    expect(
      isRouting(
        subject(['bf16[tokens, 8]', routingType(shape)], (b, [x, r]) => [b.one('group_tokens', [x, r])]).fn,
      ),
    ).toBe(true);
    expect(isRouting(subject(['f32[tokens, 8]'], (b, [x]) => [b.op('top_k', [x], { k: 2 })[1]]).fn)).toBe(
      true,
    );
  });

  test('not with other ops beside it', () => {
    const { fn, module } = subject(['bf16[tokens, 8]', routingType(shape)], (b, [x, r]) => [
      b.one('group_tokens', [b.one('neg', [x]), r]),
    ]);
    expect(isRouting(fn)).toBe(false);
    expect(() => emitRouting(fn, module)).toThrow('none of the routing and state kernels');
    expect(
      isRouting(
        subject(['bf16[tokens, 8]', routingType(shape)], (b, [x, r]) => [
          b.one('neg', [b.one('group_tokens', [x, r])]),
        ]).fn,
      ),
    ).toBe(false);
    expect(isRouting(subject(['bf16[tokens, 8]'], (b, [x]) => [b.one('neg', [x])]).fn)).toBe(false);
  });

  test('route also with scores made on the way, but not with a product or reduction', () => {
    const route = (b: FunctionBuilder, scores: Value) =>
      b.op('route', [scores], { top: 8 }, [typeOf(routingType(shape))]);
    expect(
      isRouting(subject(['f32[tokens, experts=256]'], (b, [x]) => route(b, b.one('sigmoid', [x]))).fn),
    ).toBe(true);
    expect(
      isRouting(
        subject(['f32[tokens, experts=256]'], (b, [x]) => route(b, b.one('softmax', [x], { axis: 1 }))).fn,
      ),
    ).toBe(false);
    expect(
      isRouting(
        subject(['f32[tokens, 64]', 'f32[experts=256, 64]'], (b, [x, w]) => route(b, b.one('matmul', [x, w])))
          .fn,
      ),
    ).toBe(false);
  });

  test('not where rows share bytes or the elements are wider than 32 bits', () => {
    expect(
      isRouting(
        subject(['f12e5m6[tokens, 7]', routingType(shape)], (b, [x, r]) => [b.one('group_tokens', [x, r])])
          .fn,
      ),
    ).toBe(false);
    expect(
      isRouting(
        subject(['f12e5m6[slots, 8]', routingType(shape)], (b, [y, r]) => [b.one('combine_tokens', [y, r])])
          .fn,
      ),
    ).toBe(false);
    expect(isRouting(subject(['i64[tokens, 7]'], (b, [x]) => b.op('top_k', [x], { k: 2 })).fn)).toBe(false);
    expect(isRouting(subject(['i64[tokens, 7]'], (b, [x]) => [b.one('cumsum', [x], { axis: 1 })]).fn)).toBe(
      false,
    );
  });
});

describe('DeepSeek-V3 sizes: 64-bit addresses, no spills, lines of the model', () => {
  const real: readonly [
    string,
    readonly string[],
    (b: FunctionBuilder, args: readonly Value[]) => readonly Value[],
  ][] = [
    [
      'group_tokens',
      ['f8e4m3<1x128; f32>[tokens, hidden=7168]', routingType(shape)],
      (b, [x, r]) => [b.one('group_tokens', [x, r])],
    ],
    [
      'combine_tokens',
      ['bf16[slots, hidden=7168]', routingType(shape)],
      (b, [y, r]) => [b.one('combine_tokens', [y, r])],
    ],
    [
      'slot_weights',
      [routingType(shape)],
      (b, [r]) => [b.one('routing_field', [r], { field: 'slot_weights' })],
    ],
    ['top_k of a vocabulary', ['f32[tokens, vocab=129280]'], (b, [x]) => b.op('top_k', [x], { k: 40 })],
    [
      'cumsum of a vocabulary',
      ['f32[tokens, vocab=129280]'],
      (b, [x]) => [b.one('cumsum', [x], { axis: 1 })],
    ],
  ];

  test.each(real)('%s', async (_, args, body) => {
    const { fn, module } = subject(args, body);
    const kernel = emitRouting(fn, module);
    expect(kernel.ptx).toMatch(/\.file \d+ "model\.ts"/);
    expect(kernel.ptx).toContain(`.reqntid ${kernel.threads}`);
    await assembled(kernel);
  });
});
