import { expect, test } from 'vitest';
import { FunctionBuilder, inferContext } from '../builder.ts';
import type { Function, Module, Value } from '../module.ts';
import { emptyModule } from '../interpret/testing.ts';
import { type as typeOf } from '../ops/testing.ts';
import type { TensorType } from '../types.ts';
import { layOut } from './layout.ts';
import { showLoops } from './show.ts';

const module: Module = {
  ...emptyModule,
  states: [
    {
      name: 'cache',
      policy: 'paged',
      page: 64,
      fields: [{ name: 'k', type: typeOf('f32[cached, 8]') as TensorType }],
    },
  ],
  dims: [
    { name: 'tokens', bound: 16384 },
    { name: 'cached', bound: 4096 },
    { name: 'sequences', bound: 16 },
    { name: 'outputs', bound: 16 },
    { name: 'slots', bound: 4096, ragged: { of: 'tokens', per: 2, groups: 4, align: 128 } },
  ],
};

function loops(
  args: readonly string[],
  body: (b: FunctionBuilder, args: readonly Value[]) => readonly Value[],
): string {
  const b = new FunctionBuilder(inferContext(module));
  const values = args.map((t, i) => b.argument('xyz'[i], typeOf(t)));
  const fn: Function = b.finish({ kind: 'kernel', name: 'k', results: body(b, values) });
  return `\n${showLoops(layOut(fn, module))}\n`;
}

test('views become addresses: a transposed, reshaped slice is one load', () => {
  const text = loops(['bf16[tokens, 8, 32]'], (b, [x]) => {
    const part = b.one('slice', [x], { axis: 2, start: 8, stop: 24 });
    return [
      b.one('reshape', [b.one('transpose', [part], { order: [0, 2, 1] })], {}, typeOf('bf16[tokens, 128]')),
    ];
  });
  expect(text).toBe(`
for i0 < tokens, i1 < 128 by thread
  store
    reshape.data[128·i0 + i1] = x.data[32·(i1 % 8) + (i1 / 8) + 256·i0 + 8]
`);
});

test('rows of a norm belong to a CTA, its tiles to warps, and all results leave in one pass', () => {
  const text = loops(['bf16[tokens, 4096]', 'bf16[tokens, 4096]', 'bf16[4096]'], (b, [x, y, w]) => {
    const h = b.one('add', [x, y], {}, undefined);
    return [
      h,
      ...b.op('rms_norm_quantize', [h, w], { epsilon: 1e-6 }, [
        h.type,
        typeOf('f8e4m3<1x128; f32>[tokens, 4096]'),
      ]),
    ];
  });
  expect(text).toMatchInlineSnapshot(`
    "
    for i0 < tokens by cta
      v1 = sum over i1 < 4096
        v0 = bf16(add(x.data[4096·i0 + i1], y.data[4096·i0 + i1]))
        mul(v0, v0)
      each i2 < 32
        v2 = larger over i3 < 128
          abs(bf16(mul(mul(bf16(add(x.data[4096·i0 + 128·i2 + i3], y.data[4096·i0 + 128·i2 + i3])), rsqrt(add(mul(v1, 0.000244140625), 9.999999974752427e-7))), z.data[128·i2 + i3])))
        store over i4 < 128
          rms_norm_quantize.data[4096·i0 + 128·i2 + i4] = bf16(mul(mul(bf16(add(x.data[4096·i0 + 128·i2 + i4], y.data[4096·i0 + 128·i2 + i4])), rsqrt(add(mul(v1, 0.000244140625), 9.999999974752427e-7))), z.data[128·i2 + i4]))
          rms_norm_quantize.1.data[4096·i0 + 128·i2 + i4] = f8e4m3(unscale(bf16(mul(mul(bf16(add(x.data[4096·i0 + 128·i2 + i4], y.data[4096·i0 + 128·i2 + i4])), rsqrt(add(mul(v1, 0.000244140625), 9.999999974752427e-7))), z.data[128·i2 + i4])), div(larger(v2, 0.00009999999747378752), 448)))
          add.data[4096·i0 + 128·i2 + i4] = bf16(add(x.data[4096·i0 + 128·i2 + i4], y.data[4096·i0 + 128·i2 + i4]))
        store
          rms_norm_quantize.1.scale0[32·i0 + i2] = div(larger(v2, 0.00009999999747378752), 448)
    "
  `);
});

test('rows that memory runs along belong to threads', () => {
  expect(loops(['f32[tokens, 9216]'], (b, [x]) => [b.one('sum', [x], { axes: [0] })])).toMatchInlineSnapshot(`
    "
    for i0 < 9216 by thread
      v0 = sum over i1 < tokens
        x.data[i0 + 9216·i1]
      store
        sum.data[i0] = v0
    "
  `);
});

test('short sums stay inside of an element, long rows are shared out', () => {
  expect(
    loops(['f32[tokens, 8]', 'f32[tokens, 512]'], (b, [x, y]) => [
      b.one('softmax', [x], { axis: 1 }),
      b.one('max_over', [y], { axes: [1] }),
    ]),
  ).toMatchInlineSnapshot(`
    "
    for i0 < tokens by warp
      v0 = max over i1 < 512
        y.data[512·i0 + i1]
      store
        max_over.data[i0] = v0
      store over i2 < 8
        softmax.data[8·i0 + i2] = div(exp(sub(x.data[8·i0 + i2], max{i3 < 8: x.data[8·i0 + i3]})), sum{i4 < 8: exp(sub(x.data[i4 + 8·i0], max{i3 < 8: x.data[8·i0 + i3]}))})
    "
  `);
});

test('rows of a softmax are those of its scores, though every key is looked up in pages', () => {
  const text = loops(
    ['f32[2, tokens, cached]', 'positions[tokens, cached, sequences, outputs]'],
    (b, [x, at]) => {
      const seen = b.one('visible', [at]);
      const all = b.one('broadcast', [seen], { axes: [1, 2] }, typeOf('bool[2, tokens, cached]'));
      const hidden = b.one('const', [], { value: -Infinity }, x.type);
      return [b.one('softmax', [b.one('select', [all, x, hidden])], { axis: 2 })];
    },
  );
  expect(text).toMatch(/^\nfor i\d+ < 2, i\d+ < tokens by cta\n/);
});

test('a ragged axis ends where its routing says', () => {
  const text = loops(['f32[tokens, 16]', 'routing[tokens, experts=4, top=2, slots]'], (b, [x, r]) => [
    b.one('group_tokens', [x, r]),
  ]);
  expect(text).toContain('for i0 < used(slots), i1 < 16 by thread');
  expect(loops(['f32[slots, 16]'], (b, [x]) => [b.one('exp', [x])])).toContain('for i0 < slots, i1 < 16');
});

test('what two results need is one expression', () => {
  const text = loops(['f32[tokens, 64]'], (b, [x]) => {
    const e = b.one('exp', [x]);
    return [b.one('mul', [e, e]), b.one('add', [e, x])];
  });
  expect(text).toMatchInlineSnapshot(`
    "
    for i0 < tokens, i1 < 64 by thread
      store
        v0 = exp(x.data[64·i0 + i1])
        mul.data[64·i0 + i1] = mul(v0, v0)
        add.data[64·i0 + i1] = add(v0, x.data[64·i0 + i1])
    "
  `);
});

test('a value in between takes its dtype, moves of it do not round again', () => {
  const text = loops(['bf16[64]', 'bf16[64]'], (b, [x, y]) => [
    b.one('max', [b.one('neg', [b.one('mul', [x, y])]), y]),
  ]);
  expect(text).toContain('max(neg(bf16(mul(x.data[i0], v0))), v0)');
});

test('an op without a loop form is refused by name', () => {
  const route = (): string =>
    loops(['f32[tokens, experts=4]'], (b, [x]) =>
      b.op('route', [x], { top: 2 }, [typeOf('routing[tokens, experts=4, top=2, slots]')]),
    );
  expect(route).toThrow('kernel @k: route has no loop form');
});
