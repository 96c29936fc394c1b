// The kernels of DeepSeek-V3 as the bundle has them, at the ends of their gigabytes: those without products over
// thousands. The others: `npm run test:long`.
import { expect, test } from 'vitest';
import { isContraction, reaches, realKernels, unreached } from './reach.ts';

const kernels = await realKernels('deepseek-v3', 'fp8');
reaches(kernels.filter((c) => !isContraction(c)));

test('an address in 32 bits shows', () => {
  const combine = kernels.find((c) => c.fn.body[0].op === 'combine_tokens')!;
  // Rows of 14336 bytes, more than 2 GiB of them: byte offsets as signed words.
  const ptx = combine.kernel.ptx.replaceAll(
    /mad\.wide\.u32 (%rd\d+), (%r\d+), 14336, /g,
    'mul.lo.u32 $2, $2, 14336;\n  mad.wide.s32 $1, $2, 1, ',
  );
  expect(ptx).not.toBe(combine.kernel.ptx);
  expect(() => unreached({ ...combine, kernel: { ...combine.kernel, ptx } })).toThrow('no memory at address');
});
