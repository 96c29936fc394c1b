import { expect, test } from 'vitest';
import type { Target } from '../../ir/target.ts';
import { printModule } from '../../ir/text/printer.ts';
import { expectUnchanged, parsed, runPass } from '../../test/support/expect-pass.ts';
import { selectKernels } from './select-kernels.ts';

const text = `
    dsir 1
    module @m {
      dim t <= 64

      kernel @exp_1(%a0: f32[t, 16]) -> (f32[t, 16]) {
        %v0 = exp %a0 : f32[t, 16]
        return %v0
      }

      entry @f(%x: f32[t, 16]) -> (f32[t, 16]) {
        %y = launch @exp_1 %x : f32[t, 16]
        return %y
      }
    }
  `;

const target: Target = {
  name: 'fake',
  doc: '',
  memoryBytes: null,
  choose: () => ({ family: 'loops', settings: { threads: 128 }, why: 'only choice' }),
  emit: () => {
    throw new Error('not asked for');
  },
};

test('writes the target’s choice into the kernel function', () => {
  const { module } = runPass(selectKernels, parsed(text.replace(/^ {4}/gm, '').trim()), target);
  expect(printModule(module)).toContain(
    '-> (f32[t, 16]) {family = loops, threads = 128, why = "only choice"} {',
  );
});

test('holds back without a target', () => void expectUnchanged(selectKernels, text));
