import { describe, expect, test } from 'vitest';
import { apply } from '../../../ir/interpret/testing.ts';
import type { RoutingData, RuntimeValue, TensorData } from '../../../ir/interpret/values.ts';
import type { FunctionBuilder } from '../../../ir/builder.ts';
import type { DimDeclaration, Value } from '../../../ir/module.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import {
  assembled,
  expectClose,
  kernelOf,
  random,
  reference,
  run,
  type Close,
  type Given,
} from '../../../test/support/kernel-subject.ts';
import { emitContraction } from './contraction.ts';

const dims: readonly DimDeclaration[] = [
  { name: 'tokens', bound: 512 },
  { name: 'keys', bound: 512 },
];

async function check(
  given: Given,
  inputs: readonly RuntimeValue[],
  body: (b: FunctionBuilder, args: readonly Value[]) => readonly Value[],
  close: Close,
  tiled = true,
): Promise<string> {
  const subject = kernelOf({ ...given, dims: given.dims ?? dims }, body);
  const kernel = emitContraction(subject.fn, subject.module);
  expect(kernel.ptx.includes('kernel_s_a')).toBe(tiled);
  const { results } = run(kernel, subject, inputs);
  const want = reference(subject, inputs);
  for (const [i, w] of want.entries()) {
    const got = results[i] as TensorData;
    const rows = (w as TensorData).shape[0];
    const cut = {
      ...got,
      shape: (w as TensorData).shape,
      data: got.data.slice(0, (got.data.length / (got.shape[0] || 1)) * rows),
    };
    expectClose(cut, w, close);
  }
  await assembled(kernel);
  return kernel.ptx;
}

describe('matmul', () => {
  const cases: [title: string, x: string, w: string, size: number, to?: string, contract?: number][] = [
    ['few rows', 'bf16[16, 64]', 'bf16[72, 64]', 0],
    ['a few rows along memory', 'f32[5, 50]', 'f32[70, 50]', 0],
    ['bf16, whole tiles', 'bf16[tokens, 64]', 'bf16[64, 64]', 64],
    ['f32, edges everywhere', 'f32[tokens, 50]', 'f32[70, 50]', 67],
    ['odd depth', 'f32[tokens, 37]', 'f32[9, 37]', 3],
    ['one row', 'bf16[tokens, 96]', 'bf16[130, 96]', 1],
    ['bf16 into f32', 'bf16[tokens, 32]', 'bf16[24, 32]', 5, 'f32[tokens, 24]'],
    ['f16', 'f16[tokens, 40]', 'f16[24, 40]', 5],
    ['plain f8', 'f8e4m3[tokens, 48]', 'f8e4m3[24, 48]', 5, 'f32[tokens, 24]'],
    ['several axes', 'f32[tokens, 3, 8]', 'f32[5, 4, 3, 8]', 10, undefined, 2],
    ['rows of several axes', 'f32[tokens, 3, 16]', 'f32[20, 16]', 7],
  ];
  for (const [title, x, w, n, to, contract = 1] of cases)
    test(title, async () => {
      await check(
        { args: [x, w] },
        [random(x, 1, { tokens: n }), random(w, 2)],
        (b, [p, q]) => [b.one('matmul', [p, q], { contract }, to === undefined ? undefined : typeOf(to))],
        { absolute: 2e-5 },
      );
    });

  test('vector loads and stores where rows are aligned', async () => {
    const ptx = await check(
      { args: ['bf16[tokens, 64]', 'bf16[64, 64]'] },
      [random('bf16[tokens, 64]', 1, { tokens: 5 }), random('bf16[64, 64]', 2)],
      (b, [p, q]) => [b.one('matmul', [p, q])],
      {},
    );
    expect(ptx).toContain('ld.global.v2.b32');
    expect(ptx).toContain('st.global.v2.b32');
    expect(ptx).not.toContain('ld.global.b16');
  });

  test('what stands around it: views before, element-wise ops after', async () => {
    const args = ['f32[48, tokens]', 'bf16[40, 96]', 'bf16[tokens, 40]'];
    await check(
      { args },
      [random(args[0], 1, { tokens: 9 }), random(args[1], 2), random(args[2], 3, { tokens: 9 })],
      (b, [x, w, residual]) => {
        const rows = b.one(
          'cast',
          [b.one('transpose', [x], { order: [1, 0] })],
          {},
          typeOf('bf16[tokens, 48]'),
        );
        const part = b.one('slice', [w], { axis: 1, start: 48, stop: 96 });
        const product = b.one('matmul', [rows, part]);
        return [
          b.one('add', [product, residual]),
          b.one('silu', [b.one('cast', [product], {}, typeOf('f32[tokens, 40]'))]),
        ];
      },
      { absolute: 1e-5 },
    );
  });

  test('a reduction after it is left to loops', async () => {
    await check(
      { args: ['f32[tokens, 20]', 'f32[12, 20]'] },
      [random('f32[tokens, 20]', 1, { tokens: 3 }), random('f32[12, 20]', 2)],
      (b, [x, w]) => [b.one('softmax', [b.one('matmul', [x, w])], { axis: 1 })],
      { absolute: 1e-5, relative: 2e-5 },
      false,
    );
  });
});

describe('scaled operands', () => {
  const quantised = (plain: string, scaled: string, seed: number, n: number): RuntimeValue =>
    apply(
      'quantize',
      { operands: [plain.replace('tokens', `${n}`)], declared: [scaled.replace('tokens', `${n}`)] },
      [random(plain, seed, { tokens: n })],
    )[0];

  const cases: [title: string, x: string, w: string, n: number][] = [
    ['forward', 'f8e4m3<1x128; f32>[tokens, 256]', 'f8e4m3<128x128; f32>[192, 256]', 70],
    [
      'a ragged last block of K and N',
      'f8e4m3<1x128; pow2>[tokens, 200]',
      'f8e4m3<128x128; f32>[140, 200]',
      3,
    ],
    ['exponent bytes', 'f8e4m3<1x128; ue8m0>[tokens, 256]', 'f8e4m3<128x128; ue8m0>[64, 256]', 3],
    ['weight gradient', 'f8e4m3<1x128; f32>[tokens, 256]', 'f8e4m3<1x128; f32>[48, 256]', 20],
  ];
  for (const [title, x, w, n] of cases)
    test(title, async () => {
      const plain = (t: string): string => t.replace(/^f8e4m3<.*>/, 'f32');
      const rows = /\](?=$)/.exec(w) && /\[(\d+),/.exec(w)![1];
      await check(
        { args: [x, w] },
        [quantised(plain(x), x, 1, n), quantised(plain(w), w, 2, n)],
        (b, [p, q]) => [b.one('matmul', [p, q], { promote: 128 }, typeOf(`f32[tokens, ${rows}]`))],
        { absolute: 1e-4 },
      );
    });
});

describe('einsum', () => {
  const cases: [spec: string, a: string, b: string, sizes: Record<string, number>, tiled?: boolean][] = [
    ['thn,hnr->thr', 'bf16[tokens, 4, 24]', 'bf16[4, 24, 40]', { tokens: 5 }],
    ['thd,khd->thk', 'f32[tokens, 3, 16]', 'f32[keys, 3, 16]', { tokens: 5, keys: 9 }],
    ['thk,khv->thv', 'f32[tokens, 3, keys]', 'f32[keys, 3, 8]', { tokens: 5, keys: 21 }],
    ['tghd,kgd->tghk', 'f32[tokens, 2, 3, 8]', 'f32[keys, 2, 8]', { tokens: 5, keys: 6 }],
    ['ab,ac->bc', 'f32[tokens, 24]', 'f32[tokens, 36]', { tokens: 50 }],
    ['ab,bc->ca', 'f32[tokens, 24]', 'f32[24, 36]', { tokens: 7 }],
    ['ab,ac->bc', 'f32[tokens, 12]', 'f32[tokens, 36]', { tokens: 50 }],
    ['ab,b->a', 'f32[tokens, 24]', 'f32[24]', { tokens: 7 }],
    ['ab,cd->ac', 'f32[tokens, 4]', 'f32[3, 5]', { tokens: 7 }, false],
    ['a,b->ab', 'f32[tokens]', 'f32[5]', { tokens: 7 }, false],
  ];
  for (const [spec, a, b, sizes, tiled = true] of cases)
    test(spec, async () => {
      await check(
        { args: [a, b] },
        [random(a, 1, sizes), random(b, 2, sizes)],
        (f, [x, y]) => [f.one('einsum', [x, y], { spec })],
        { absolute: 3e-5 },
        tiled,
      );
    });
});

describe('grouped_matmul', () => {
  const routed = (align: number): readonly DimDeclaration[] => [
    { name: 'tokens', bound: 128 },
    { name: 'slots', bound: 256 + 4 * (align - 1), ragged: { of: 'tokens', per: 2, groups: 4, align } },
  ];
  const routing = 'routing[tokens, experts=4, top=2, slots]';
  const routingFor = (n: number, align: number): RoutingData =>
    apply(
      'route',
      {
        operands: ['f32[tokens, experts=4]'],
        attributes: { top: 2 },
        declared: [routing],
        dims: routed(align),
      },
      [random('f32[tokens, 4]', 3, { tokens: n })],
    )[0] as RoutingData;

  /** Rows that only fill up a group hold no numbers, nor do their scales. */
  const unset = (t: TensorData, r: RoutingData): TensorData => {
    for (const array of [t, ...t.scales]) {
      const width = array.data.length / array.shape[0];
      for (const [slot, token] of r.tokenOf.entries())
        if (token < 0) array.data.fill(NaN, slot * width, (slot + 1) * width);
    }
    return t;
  };

  for (const [align, tiled] of [
    [64, true],
    [128, true],
    [8, false],
  ] as const)
    test(`groups aligned to ${align}`, async () => {
      const r = routingFor(40, align);
      const slots = r.tokenOf.length;
      // Padding rows give 0 whatever they hold.
      await check(
        { args: ['bf16[slots, 40]', 'bf16[experts=4, 20, 40]', routing], dims: routed(align) },
        [unset(random('bf16[slots, 40]', 4, { slots }), r), random('bf16[4, 20, 40]', 5), r],
        (b, [x, w, p]) => [b.one('grouped_matmul', [x, w, p])],
        { absolute: 1e-5 },
        tiled,
      );
    });

  test('scaled', async () => {
    const r = routingFor(9, 128);
    const slots = r.tokenOf.length;
    const [x] = apply(
      'quantize',
      { operands: [`f32[${slots}, 256]`], declared: [`f8e4m3<1x128; f32>[${slots}, 256]`] },
      [random(`f32[${slots}, 256]`, 6)],
    );
    const [w] = apply(
      'quantize',
      { operands: ['f32[4, 24, 256]'], declared: ['f8e4m3<1x128x128; f32>[4, 24, 256]'] },
      [random('f32[4, 24, 256]', 7)],
    );
    await check(
      {
        args: ['f8e4m3<1x128; f32>[slots, 256]', 'f8e4m3<1x128x128; f32>[experts=4, 24, 256]', routing],
        dims: routed(128),
      },
      [unset(x as TensorData, r), w, r],
      (b, [p, q, s]) => [b.one('grouped_matmul', [p, q, s], { promote: 128 }, typeOf('f32[slots, 24]'))],
      { absolute: 1e-4 },
    );
  });
});
