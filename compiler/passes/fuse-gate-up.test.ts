import { expect, test } from 'vitest';
import { expectPass, expectUnchanged } from '../../test/support/expect-pass.ts';
import { fuseGateUp } from './fuse-gate-up.ts';

const mlp = (attributes: string, width: number): string => `
    dsir 1
    module @m${attributes} {
      dim t <= 64

      entry @f(%x: bf16[t, 128]) -> (bf16[t, ${width}]) {
        param "gate_proj.weight": bf16[${width}, 128] stored [${width}, 128]
        param "up_proj.weight": bf16[${width}, 128] stored [${width}, 128]
        %gate = matmul %x, param "gate_proj.weight" : bf16[t, ${width}]
        %up = matmul %x, param "up_proj.weight" : bf16[t, ${width}]
        %h = silu_mul %gate, %up : bf16[t, ${width}]
        return %h
      }
    }
  `;

test('joins gate and up into one matmul and splits its result', () =>
  void expectPass(
    fuseGateUp,
    mlp('', 96),
    `
    dsir 1
    module @m {
      dim t <= 64

      entry @f(%x: bf16[t, 128]) -> (bf16[t, 96]) {
        param "gate_proj.weight": bf16[96, 128] stored [96, 128]
        param "up_proj.weight": bf16[96, 128] stored [96, 128]
        derive "gate_proj+up_proj.weight": bf16[192, 128] = concat(param "gate_proj.weight", param "up_proj.weight") {axis = 0}
        %joined = matmul %x, derived "gate_proj+up_proj.weight" : bf16[t, 192]
        %gate, %up.1 = split %joined {axis = 1, sizes = [96, 96]} : bf16[t, 96], bf16[t, 96]
        %h = silu_mul %gate, %up.1 : bf16[t, 96]
        return %h
      }
    }
  `,
  ));

test('holds back in FP8 when scale blocks would mix, and says so', () => {
  const reported = expectUnchanged(fuseGateUp, mlp(' {precision = fp8}', 96));
  expect(reported.map((d) => d.code)).toEqual(['fuse-gate-up/scale-blocks']);
  expect(reported[0].label).toContain('gate_proj.weight has 96 rows');
});

test('joins in FP8 when the blocks meet', () =>
  expect(() => expectUnchanged(fuseGateUp, mlp(' {precision = fp8}', 128))).toThrow());

test('holds back when gate and up read different inputs', () =>
  void expectUnchanged(
    fuseGateUp,
    `
    dsir 1
    module @m {
      dim t <= 64

      entry @f(%x: bf16[t, 128], %y: bf16[t, 128]) -> (bf16[t, 96]) {
        param "gate_proj.weight": bf16[96, 128] stored [96, 128]
        param "up_proj.weight": bf16[96, 128] stored [96, 128]
        %gate = matmul %x, param "gate_proj.weight" : bf16[t, 96]
        %up = matmul %y, param "up_proj.weight" : bf16[t, 96]
        %h = silu_mul %gate, %up : bf16[t, 96]
        return %h
      }
    }
  `,
  ));
