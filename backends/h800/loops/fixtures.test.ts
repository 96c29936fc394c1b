// PTX as people read it: two small kernels in full. `npx vitest run -u` accepts a change; read the diff first.
import { expect, test } from 'vitest';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import { assembled, kernelOf } from '../../../test/support/kernel-subject.ts';
import { emitLoops } from './index.ts';

test('residual add', async () => {
  const { fn, module } = kernelOf(
    {
      args: ['bf16[tokens, 64]', 'bf16[tokens, 64]'],
      dims: [{ name: 'tokens', bound: 4096 }],
      name: 'residual',
    },
    (b, [x, y]) => [b.one('add', [x, y])],
  );
  const kernel = emitLoops(fn, module);
  await expect(kernel.ptx).toMatchFileSnapshot('fixtures/residual.ptx');
  expect(kernel.parameters).toEqual([
    { kind: 'u32', dim: 'tokens' },
    { kind: 'pointer', value: 'x0', component: 'data' },
    { kind: 'pointer', value: 'x1', component: 'data' },
    { kind: 'pointer', value: 'add', component: 'data' },
  ]);
  expect(kernel.grid).toEqual({
    axes: [{ extent: { constant: 0, terms: [{ dim: 'tokens', factor: 8 }] }, per: 256 }],
    atMost: 2112,
  });
  await assembled(kernel);
});

test('quantize', async () => {
  const { fn, module } = kernelOf(
    { args: ['bf16[tokens, 256]'], dims: [{ name: 'tokens', bound: 4096 }], name: 'quantize' },
    (b, [x]) => [b.one('quantize', [x], {}, typeOf('f8e4m3<1x128; f32>[tokens, 256]'))],
  );
  const kernel = emitLoops(fn, module);
  await expect(kernel.ptx).toMatchFileSnapshot('fixtures/quantize.ptx');
  await assembled(kernel);
});
