import { expect, test } from 'vitest';
import { expectPass, expectUnchanged } from '../../test/support/expect-pass.ts';
import { specialize } from './specialize.ts';

const model = `
    dsir 1
    module @m {
      dim tokens <= 64
      dim batch <= 8
      dim keys <= 64
      dim cached <= 256
      dim sequences <= 4
      dim outputs <= 4
      dim slots = ragged(tokens * 2, groups = 4, align = 16) <= 188
      state rows paged(16) { latent: f32[cached, 8] }

      block @attend(%x: f32[tokens, 8], %at: positions[tokens, keys, sequences, outputs], inout %cache: state rows) -> (f32[keys, 8]) {
        param "down.weight": f32[8, 8] stored [8, 8]
        %y = matmul %x, param "down.weight" : f32[tokens, 8] at m.ts:4:1-9
        %cache.1, %seen = remember %cache, %at, %y : state rows, f32[keys, 8]
        return %seen; %cache.1
      }

      block @layer(%x: f32[tokens, 8], %at: positions[tokens, keys, sequences, outputs], inout %cache: state rows) -> (f32[tokens, 8]) {
        %seen, %cache.1 = call @attend %x, %at, %cache {prefix = "self_attn."} : f32[keys, 8], state rows
        %total = sum %seen {axes = [0]} : f32[8]
        %wide = broadcast %total {axes = [1]} : f32[tokens, 8]
        %scores = slice %wide {axis = 1, start = 0, stop = 4} : f32[tokens, 4]
        %route = route %scores {top = 2} : routing[tokens, 4, 2, slots]
        %rows = group_tokens %wide, %route : f32[slots, 8]
        %y = combine_tokens %rows, %route : f32[tokens, 8]
        return %y; %cache.1
      }

      entry @prefill(%x: f32[tokens, 8], %at: positions[tokens, tokens, sequences, outputs], inout %caches: state rows[3]) -> (f32[tokens, 8]) {
        %y, %caches.1 = repeat @layer %x, %at, %caches {start = 0, stop = 3, prefix = "layers.{i}.", modes = [carry, same, indexed]} : f32[tokens, 8], state rows[3]
        return %y; %caches.1
      }

      entry @decode(%x: f32[batch, 8], %at: positions[batch, cached, sequences, outputs], inout %caches: state rows[3]) -> (f32[batch, 8]) {
        %y, %caches.1 = repeat @layer %x, %at, %caches {start = 0, stop = 3, prefix = "layers.{i}.", modes = [carry, same, indexed]} : f32[batch, 8], state rows[3]
        return %y; %caches.1
      }
    }
  `;

test('makes one copy of each block per entry, with its dims bound and remember resolved', () =>
  void expectPass(
    specialize,
    model,
    `
    dsir 1
    module @m {
      dim tokens <= 64
      dim batch <= 8
      dim keys <= 64
      dim cached <= 256
      dim sequences <= 4
      dim outputs <= 4
      dim slots = ragged(tokens * 2, groups = 4, align = 16) <= 188
      dim slots.batch = ragged(batch * 2, groups = 4, align = 16) <= 76
      state rows paged(16) { latent: f32[cached, 8] }

      block @layer.prefill(%x: f32[tokens, 8], %at: positions[tokens, tokens, sequences, outputs], inout %cache: state rows) -> (f32[tokens, 8]) {
        param "self_attn.down.weight": f32[8, 8] stored [8, 8]
        %y = matmul %x, param "self_attn.down.weight" : f32[tokens, 8] at m.ts:4:1-9
        %cache.1 = cache_append %cache, %at, %y : state rows
        %total = sum %y {axes = [0]} : f32[8]
        %wide = broadcast %total {axes = [1]} : f32[tokens, 8]
        %scores = slice %wide {axis = 1, start = 0, stop = 4} : f32[tokens, 4]
        %route = route %scores {top = 2} : routing[tokens, 4, 2, slots]
        %rows = group_tokens %wide, %route : f32[slots, 8]
        %y.1 = combine_tokens %rows, %route : f32[tokens, 8]
        return %y.1; %cache.1
      }

      entry @prefill(%x: f32[tokens, 8], %at: positions[tokens, tokens, sequences, outputs], inout %caches: state rows[3]) -> (f32[tokens, 8]) {
        %y, %caches.1 = repeat @layer.prefill %x, %at, %caches {start = 0, stop = 3, prefix = "layers.{i}.", modes = [carry, same, indexed]} : f32[tokens, 8], state rows[3]
        return %y; %caches.1
      }

      block @layer.decode(%x: f32[batch, 8], %at: positions[batch, cached, sequences, outputs], inout %cache: state rows) -> (f32[batch, 8]) {
        param "self_attn.down.weight": f32[8, 8] stored [8, 8]
        %y = matmul %x, param "self_attn.down.weight" : f32[batch, 8] at m.ts:4:1-9
        %cache.1 = cache_append %cache, %at, %y : state rows
        %seen = cache_read %cache.1 {field = latent} : f32[cached, 8]
        %total = sum %seen {axes = [0]} : f32[8]
        %wide = broadcast %total {axes = [1]} : f32[batch, 8]
        %scores = slice %wide {axis = 1, start = 0, stop = 4} : f32[batch, 4]
        %route = route %scores {top = 2} : routing[batch, 4, 2, slots.batch]
        %rows = group_tokens %wide, %route : f32[slots.batch, 8]
        %y.1 = combine_tokens %rows, %route : f32[batch, 8]
        return %y.1; %cache.1
      }

      entry @decode(%x: f32[batch, 8], %at: positions[batch, cached, sequences, outputs], inout %caches: state rows[3]) -> (f32[batch, 8]) {
        %y, %caches.1 = repeat @layer.decode %x, %at, %caches {start = 0, stop = 3, prefix = "layers.{i}.", modes = [carry, same, indexed]} : f32[batch, 8], state rows[3]
        return %y; %caches.1
      }
    }
  `,
  ));

test('leaves a module alone whose entries call nothing', () =>
  void expectUnchanged(
    specialize,
    `
    dsir 1
    module @m {
      dim tokens <= 64

      entry @f(%x: f32[tokens, 8]) -> (f32[tokens, 8]) {
        %y = exp %x : f32[tokens, 8]
        return %y
      }
    }
  `,
  ));

test('cannot be disabled', () => expect(specialize.required).toBe(true));
