import { expect, test } from 'vitest';
import { expectPass, expectUnchanged, parsed, runPass } from '../../test/support/expect-pass.ts';
import { printModule } from '../../ir/text/printer.ts';
import { insertFp8 } from './insert-fp8.ts';

const linear = (precision: string): string => `
    dsir 1
    module @m {precision = ${precision}} {
      dim t <= 64

      entry @f(%x: bf16[t, 200]) -> (bf16[t, 96]) {
        param "up_proj.weight": bf16[96, 200] stored [96, 200]
        %y = matmul %x, param "up_proj.weight" : bf16[t, 96]
        return %y
      }
    }
  `;

test('quantises a linear: 1x128 activations, 128x128 weights, promotion every 128', () =>
  void expectPass(
    insertFp8,
    linear('fp8'),
    `
    dsir 1
    module @m {precision = fp8} {
      dim t <= 64

      entry @f(%x: bf16[t, 200]) -> (bf16[t, 96]) {
        param "up_proj.weight": bf16[96, 200] stored [96, 200]
        derive "up_proj.f8.weight": f8e4m3<128x128; f32>[96, 200] = quantize(param "up_proj.weight")
        %x_q = quantize %x : f8e4m3<1x128; f32>[t, 200]
        %y = matmul %x_q, derived "up_proj.f8.weight" {promote = 128} : bf16[t, 96]
        return %y
      }
    }
  `,
  ));

test('does nothing in bf16', () => void expectUnchanged(insertFp8, linear('bf16')));

test('keeps head, router and f32 results high', () =>
  void expectUnchanged(
    insertFp8,
    `
    dsir 1
    module @m {precision = fp8} {
      dim t <= 64

      entry @f(%x: bf16[t, 128]) -> (bf16[t, 512], bf16[t, 8], f32[t, 8]) {
        param "lm_head.weight": bf16[512, 128] stored [512, 128]
        param "mlp.gate.weight": bf16[8, 128] stored [8, 128]
        param "score.weight": bf16[8, 128] stored [8, 128]
        %a = matmul %x, param "lm_head.weight" : bf16[t, 512]
        %b = matmul %x, param "mlp.gate.weight" : bf16[t, 8]
        %c = matmul %x, param "score.weight" : f32[t, 8]
        return %a, %b, %c
      }
    }
  `,
  ));

test('fuses quantisation into the norm, which keeps its plain result for other readers', () =>
  void expectPass(
    insertFp8,
    `
    dsir 1
    module @m {precision = fp8} {
      dim t <= 64

      entry @f(%x: bf16[t, 128]) -> (bf16[t, 64], bf16[t, 64], f32[t, 8]) {
        param "norm.weight": bf16[128] stored [128]
        param "a.weight": bf16[64, 128] stored [64, 128]
        param "b.weight": bf16[64, 128] stored [64, 128]
        param "gate.weight": bf16[8, 128] stored [8, 128]
        %n = rms_norm %x, param "norm.weight" {epsilon = 0.000001} : bf16[t, 128]
        %a = matmul %n, param "a.weight" : bf16[t, 64]
        %b = matmul %n, param "b.weight" : bf16[t, 64]
        %s = matmul %n, param "gate.weight" : f32[t, 8]
        return %a, %b, %s
      }
    }
  `,
    `
    dsir 1
    module @m {precision = fp8} {
      dim t <= 64

      entry @f(%x: bf16[t, 128]) -> (bf16[t, 64], bf16[t, 64], f32[t, 8]) {
        param "norm.weight": bf16[128] stored [128]
        param "a.weight": bf16[64, 128] stored [64, 128]
        param "b.weight": bf16[64, 128] stored [64, 128]
        param "gate.weight": bf16[8, 128] stored [8, 128]
        derive "a.f8.weight": f8e4m3<128x128; f32>[64, 128] = quantize(param "a.weight")
        derive "b.f8.weight": f8e4m3<128x128; f32>[64, 128] = quantize(param "b.weight")
        %n, %n_q.1 = rms_norm_quantize %x, param "norm.weight" {epsilon = 0.000001} : bf16[t, 128], f8e4m3<1x128; f32>[t, 128]
        %a = matmul %n_q.1, derived "a.f8.weight" {promote = 128} : bf16[t, 64]
        %b = matmul %n_q.1, derived "b.f8.weight" {promote = 128} : bf16[t, 64]
        %s = matmul %n, param "gate.weight" : f32[t, 8]
        return %a, %b, %s
      }
    }
  `,
  ));

test('contracts heads and values as one axis, and quantises joined weights part by part', () => {
  const { module } = runPass(
    insertFp8,
    parsed(
      `
dsir 1
module @m {precision = fp8} {
  dim t <= 64

  entry @f(%o: bf16[t, 4, 64], %x: bf16[t, 256]) -> (bf16[t, 64], bf16[t, 160]) {
    param "o_proj.weight": bf16[64, 4, 64] stored [64, 256]
    param "q.weight": bf16[2, 64, 256] stored [128, 256]
    param "kv.weight": bf16[32, 256] stored [32, 256]
    derive "q+kv.weight": bf16[160, 256] = concat(reshape(param "q.weight") : bf16[128, 256], param "kv.weight") {axis = 0}
    %a = matmul %o, param "o_proj.weight" {contract = 2} : bf16[t, 64]
    %b = matmul %x, derived "q+kv.weight" : bf16[t, 160]
    return %a, %b
  }
}
`,
    ),
  );
  const text = printModule(module);
  expect(text).toContain('%o.1 = reshape %o : bf16[t, 256]');
  expect(text).toContain(
    'derive "o_proj.f8.weight": f8e4m3<128x128; f32>[64, 256] = quantize(reshape(param "o_proj.weight")',
  );
  expect(text).toMatch(
    /derive "q\+kv.f8.weight": f8e4m3<128x128; f32>\[160, 256\] = concat\(quantize\(reshape\(param "q.weight"\)/,
  );
});

test('moves codes, not values, through expert grouping', () => {
  const { module } = runPass(
    insertFp8,
    parsed(
      `
dsir 1
module @m {precision = fp8} {
  dim t <= 64
  dim slots = ragged(t * 2, groups = 4, align = 128) <= 636

  entry @f(%x: bf16[t, 128], %scores: f32[t, 4]) -> (bf16[t, 128]) {
    param "experts.{experts}.up.weight": bf16[4, 256, 128] stored [256, 128]
    param "experts.{experts}.down.weight": bf16[4, 128, 256] stored [128, 256]
    %route = route %scores {top = 2} : routing[t, 4, 2, slots]
    %rows = group_tokens %x, %route : bf16[slots, 128]
    %up = grouped_matmul %rows, param "experts.{experts}.up.weight", %route : bf16[slots, 256]
    %weights = routing_field %route {field = slot_weights} : f32[slots]
    %h = silu_mul %up, %up, %weights : bf16[slots, 256]
    %down = grouped_matmul %h, param "experts.{experts}.down.weight", %route : bf16[slots, 128]
    %y = combine_tokens %down, %route : bf16[t, 128]
    return %y
  }
}
`,
    ),
  );
  const text = printModule(module);
  expect(text).toMatch(/%x_q = quantize %x : f8e4m3<1x128; f32>\[t, 128\]/);
  expect(text).toMatch(/group_tokens %x_q, %route : f8e4m3<1x128; f32>\[slots, 128\]/);
  expect(text).toMatch(/silu_mul_quantize %up, %up, %weights : f8e4m3<1x128; f32>\[slots, 256\]/);
  expect(text).toContain('f8e4m3<1x128x128; f32>[4, 256, 128]');
  expect(text).not.toContain('bf16[slots, 128] = group');
});
