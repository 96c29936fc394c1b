import { test } from 'vitest';
import { expectPass, expectUnchanged } from '../../test/support/expect-pass.ts';
import { canonicalize } from './canonicalize.ts';

test('computes equal ops once and drops dead ones', () =>
  void expectPass(
    canonicalize,
    `
    dsir 1
    module @m {
      dim t <= 64

      entry @f(%x: f32[t, 8]) -> (f32[t, 8]) {
        %a = exp %x : f32[t, 8]
        %b = exp %x : f32[t, 8]
        %unused = neg %a : f32[t, 8]
        %c = add %a, %b : f32[t, 8]
        return %c
      }
    }
  `,
    `
    dsir 1
    module @m {
      dim t <= 64

      entry @f(%x: f32[t, 8]) -> (f32[t, 8]) {
        %a = exp %x : f32[t, 8]
        %c = add %a, %a : f32[t, 8]
        return %c
      }
    }
  `,
  ));

test('drops views that change nothing and joins reshapes', () =>
  void expectPass(
    canonicalize,
    `
    dsir 1
    module @m {
      dim t <= 64

      entry @f(%x: f32[t, 8]) -> (f32[t, 2, 4], f32[t, 8]) {
        %same = slice %x {axis = 1, start = 0, stop = 8} : f32[t, 8]
        %four = reshape %same : f32[t, 4, 2]
        %two = reshape %four : f32[t, 2, 4]
        %back = reshape %two : f32[t, 8]
        %turned = transpose %back {order = [0, 1]} : f32[t, 8]
        return %two, %turned
      }
    }
  `,
    `
    dsir 1
    module @m {
      dim t <= 64

      entry @f(%x: f32[t, 8]) -> (f32[t, 2, 4], f32[t, 8]) {
        %two = reshape %x : f32[t, 2, 4]
        return %two, %x
      }
    }
  `,
  ));

test('keeps ops that differ in an attribute or a type', () =>
  void expectUnchanged(
    canonicalize,
    `
    dsir 1
    module @m {
      dim t <= 64

      entry @f(%x: f32[t, 8]) -> (f32[t], f32[8], bf16[t, 8], f16[t, 8]) {
        %a = sum %x {axes = [1]} : f32[t]
        %b = sum %x {axes = [0]} : f32[8]
        %c = cast %x : bf16[t, 8]
        %d = cast %x : f16[t, 8]
        return %a, %b, %c, %d
      }
    }
  `,
  ));

test('never shares ops that change a state', () =>
  void expectUnchanged(
    canonicalize,
    `
    dsir 1
    module @m {
      dim t <= 64
      dim cached <= 64
      dim sequences <= 4
      dim outputs <= 4
      state rows paged(16) { latent: f32[cached, 8] }

      entry @f(%x: f32[t, 8], %at: positions[t, cached, sequences, outputs], inout %one: state rows, inout %two: state rows) -> () {
        %one.1 = cache_append %one, %at, %x : state rows
        %two.1 = cache_append %two, %at, %x : state rows
        return; %one.1, %two.1
      }
    }
  `,
  ));
