import { expect, test } from 'vitest';
import { expectPass, expectUnchanged, parsed, runPass } from '../../test/support/expect-pass.ts';
import { printModule } from '../../ir/text/printer.ts';
import { fuseMlaProjections } from './fuse-mla-projections.ts';

const projections = (attributes: string, rank: number): string => `
    dsir 1
    module @m${attributes} {
      dim t <= 64
      dim s <= 4

      entry @f(%x: bf16[t, 256], %at: positions[t, t, s, s]) -> (bf16[t, 2, 16]) {
        param "q_a_proj.weight": bf16[${rank}, 256] stored [${rank}, 256]
        param "kv_a_proj.weight": bf16[32, 256] stored [32, 256]
        param "q_b_proj.weight": bf16[2, 16, ${rank}] stored [32, ${rank}]
        %q_latent = matmul %x, param "q_a_proj.weight" : bf16[t, ${rank}] at m.ts:4:1-9
        %kv = matmul %x, param "kv_a_proj.weight" : bf16[t, 32]
        %q = matmul %q_latent, param "q_b_proj.weight" : bf16[t, 2, 16]
        %k = reshape %kv : bf16[t, 2, 16]
        %o = attention %q, %k, %k, %at {scale = 0.25} : bf16[t, 2, 16]
        return %o
      }
    }
  `;

test('joins the two down-projections into one matmul', () =>
  void expectPass(
    fuseMlaProjections,
    projections('', 64),
    `
    dsir 1
    module @m {
      dim t <= 64
      dim s <= 4

      entry @f(%x: bf16[t, 256], %at: positions[t, t, s, s]) -> (bf16[t, 2, 16]) {
        param "q_a_proj.weight": bf16[64, 256] stored [64, 256]
        param "kv_a_proj.weight": bf16[32, 256] stored [32, 256]
        param "q_b_proj.weight": bf16[2, 16, 64] stored [32, 64]
        derive "q_a_proj+kv_a_proj.weight": bf16[96, 256] = concat(param "q_a_proj.weight", param "kv_a_proj.weight") {axis = 0} at m.ts:4:1-9
        %joined = matmul %x, derived "q_a_proj+kv_a_proj.weight" : bf16[t, 96] at m.ts:4:1-9
        %q_latent, %kv.1 = split %joined {axis = 1, sizes = [64, 32]} : bf16[t, 64], bf16[t, 32] at m.ts:4:1-9
        %q = matmul %q_latent, param "q_b_proj.weight" : bf16[t, 2, 16]
        %k = reshape %kv.1 : bf16[t, 2, 16]
        %o = attention %q, %k, %k, %at {scale = 0.25} : bf16[t, 2, 16]
        return %o
      }
    }
  `,
  ));

test('declines in FP8 when a scale block would hold rows of both', () => {
  const reported = expectUnchanged(fuseMlaProjections, projections(' {precision = fp8}', 64));
  expect(reported.map((d) => d.code)).toEqual(['fuse-mla-projections/scale-blocks']);
});

test('leaves projections alone that do not feed attention', () =>
  void expectUnchanged(
    fuseMlaProjections,
    `
    dsir 1
    module @m {
      dim t <= 64

      entry @f(%x: bf16[t, 256]) -> (bf16[t, 32], bf16[t, 32]) {
        param "a.weight": bf16[32, 256] stored [32, 256]
        param "b.weight": bf16[32, 256] stored [32, 256]
        %a = matmul %x, param "a.weight" : bf16[t, 32]
        %b = matmul %x, param "b.weight" : bf16[t, 32]
        return %a, %b
      }
    }
  `,
  ));

/** Latent attention over `keys`; with keys = t it is packed prefill, with keys = cached a decode step. */
const latent = (keys: string): string =>
  `
    dsir 1
    module @m {
      dim t <= 64
      dim cached <= 4096
      dim s <= 4

      entry @f(%q_nope: bf16[t, 4, 16], %q_rope: bf16[t, 4, 8], %latent: bf16[${keys}, 32], %rope: bf16[${keys}, 8], %at: positions[t, ${keys}, s, s]) -> (bf16[t, 4, 24]) {
        param "kv_b_proj.weight": bf16[4, 40, 32] stored [160, 32]
        %kv = matmul %latent, param "kv_b_proj.weight" : bf16[${keys}, 4, 40]
        %k_nope, %v = split %kv {axis = 2, sizes = [16, 24]} : bf16[${keys}, 4, 16], bf16[${keys}, 4, 24]
        %k_rope = broadcast %rope {axes = [0, 2]} : bf16[${keys}, 4, 8]
        %k = concat %k_nope, %k_rope {axis = 2} : bf16[${keys}, 4, 24]
        %q = concat %q_nope, %q_rope {axis = 2} : bf16[t, 4, 24]
        %o = attention %q, %k, %v, %at {scale = 0.2} : bf16[t, 4, 24]
        return %o
      }
    }
  `;

test('absorbs the expansion of cached latents', () => {
  const { module } = runPass(fuseMlaProjections, parsed(latent('cached').trim()));
  const text = printModule(module);
  expect(text).toContain(
    'derive "kv_b_proj.w_uk.weight": bf16[4, 16, 32] = slice(param "kv_b_proj.weight") {axis = 1, start = 0, stop = 16}',
  );
  expect(text).toContain(
    'einsum %q_nope, derived "kv_b_proj.w_uk.weight" {spec = "thn,hnr->thr"} : bf16[t, 4, 32]',
  );
  expect(text).toContain('bf16[cached, 1, 40]');
  expect(text).not.toContain('matmul %latent');
});

test('keeps the expanded form where it is cheaper, and says what it compared', () => {
  const reported = expectUnchanged(fuseMlaProjections, latent('t'));
  expect(reported.map((d) => d.code)).toEqual(['fuse-mla-projections/not-absorbed']);
  expect(reported[0].label).toMatch(/GFLOP expanded, .* absorbed, for 64 queries/);
});

test('does not absorb when the expanded keys have another reader', () => {
  const text = latent('cached')
    .replace('-> (bf16[t, 4, 24])', '-> (bf16[t, 4, 24], bf16[cached, 4, 24])')
    .replace('return %o', 'return %o, %k');
  void expectUnchanged(fuseMlaProjections, text);
});
