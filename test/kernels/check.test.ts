// The check itself: a kernel with a planted fault must not pass it.
import { describe, expect, test } from 'vitest';
import { check, sizes } from './check.ts';
import { compiled, subjects, type KernelCase } from './models.ts';

const v3 = subjects.find((s) => s.name === 'deepseek-v3')!;
const { module, kernels } = await compiled(v3, 'fp8');

/** The first kernel of a family whose ops are these. */
function kernelOf(family: string, ops: string): KernelCase {
  for (const kernel of kernels) {
    const fn = module.functions.find((f) => f.name === kernel.name)!;
    const found = fn.body.map((op) => op.op).join(' ');
    if (kernel.family === family && (found === ops || found.endsWith(` ${ops}`)))
      return { title: ops, fn, module, kernel };
  }
  throw new Error(`no ${family} kernel of ${ops}`);
}

/** Changes the last line that matches. Fails when none does, so a fault is really planted. */
function changed(c: KernelCase, line: RegExp, to: (line: string) => string): KernelCase {
  const lines = c.kernel.ptx.split('\n');
  const at = lines.findLastIndex((l) => line.test(l));
  expect(at, `${c.kernel.name} has a line ${line}`).toBeGreaterThan(0);
  lines[at] = to(lines[at]);
  return { ...c, kernel: { ...c.kernel, ptx: lines.join('\n') } };
}

const nothing = (): string => '';
const instead =
  (from: RegExp, to: string) =>
  (line: string): string =>
    line.replace(from, to);

// prettier-ignore
const faults: readonly (readonly [string, string, string, RegExp, (line: string) => string])[] = [
  ['codes are not written', 'loops', 'silu_mul_quantize', /^\s*(@\S+ )?st\.global\S*(b32|b64|b16|b8|v\d)/, nothing],
  ['scales are not written', 'loops', 'silu_mul_quantize', /st\.global\S*f32/, nothing],
  ['no root', 'loops', 'rms_norm', /rsqrt\.approx/, instead(/rsqrt/, 'sqrt')],
  ['a store beyond the end', 'loops', 'rope', /st\.global/, instead(/\[(%\w+)(\+\d+)?\]/, '[$1+4096]')],
  ['a term is left out of a product', 'loops', 'einsum', /fma\.rn\.f32/, nothing],
  ['weights are not powers', 'attention', 'attention', /ex2\.approx/, instead(/ex2\.approx\S*/, 'mov.f32')],
  ['results are not written', 'attention', 'attention', /st\.global/, nothing],
  ['rows go to the next place', 'routing', 'group_tokens', /st\.global/, instead(/\[(%\w+)(\+\d+)?\]/, '[$1+16]')],
  ['a table is not written', 'routing', 'route', /st\.global/, nothing],
  ['a choice is left out', 'routing', 'combine_tokens', /add\.\S*f32/, nothing],
  ['a row of the cache is not written', 'state', 'cache_append', /st\.global/, nothing],
  ['the tile is not stored', 'gemm', 'matmul', /cp\.async\.bulk\.tensor\.2d\.global/, nothing],
  ['padding is computed', 'gemm', 'grouped_matmul', /setp\.ge\.s32 \S+ %token/, instead(/, 0;/, ', -1;')],
];

describe('a planted fault shows', () => {
  test.each(faults)('%s (%s %s)', (_, family, ops, line, to) => {
    const subject = kernelOf(family, ops);
    // What concerns rows further on does not show with one token.
    const size = /matmul|einsum/.test(ops) ? sizes[1] : sizes[0];
    const run = (c: KernelCase): string[] => check(c, size);
    expect(run(subject)).toEqual([]);
    expect(run(changed(subject, line, to))).not.toEqual([]);
  });
});
