import { expect, test } from 'vitest';
import { makePlan } from '../plan.ts';
import { expectPass, parsed, runPass } from '../../test/support/expect-pass.ts';
import { outlineKernels } from './outline-kernels.ts';
import { planMemory } from './plan-memory.ts';

const text = `
    dsir 1
    module @m {
      dim t <= 64

      kernel @exp_1(%a0: f32[t, 16]) -> (f32[t, 16]) {
        %v0 = exp %a0 : f32[t, 16]
        return %v0
      }

      block @layer(%h: f32[t, 16]) -> (f32[t, 16]) {
        %a = launch @exp_1 %h : f32[t, 16]
        %b = reshape %a : f32[t, 4, 4]
        %c = reshape %b : f32[t, 16]
        %d = launch @exp_1 %c : f32[t, 16]
        %e = launch @exp_1 %d : f32[t, 16]
        return %e
      }

      entry @f(%x: f32[t, 16]) -> (f32[t, 16]) {
        %y = launch @exp_1 %x : f32[t, 16]
        %z = repeat @layer %y {start = 0, stop = 3, prefix = "layers.{i}.", modes = [carry]} : f32[t, 16]
        return %z
      }
    }
  `;

test('reuses memory, gives a repeat a stretch of its caller’s arena, and renames cost nothing', () =>
  void expectPass(
    planMemory,
    text,
    `
    dsir 1
    module @m {
      dim t <= 64

      kernel @exp_1(%a0: f32[t, 16]) -> (f32[t, 16]) {
        %v0 = exp %a0 : f32[t, 16]
        return %v0
      }

      block @layer(%h: f32[t, 16]) -> (f32[t, 16]) {arena = 8192} {
        %a = launch @exp_1 %h {memory = [0]} : f32[t, 16]
        %b = reshape %a {memory = [-1]} : f32[t, 4, 4]
        %c = reshape %b {memory = [-1]} : f32[t, 16]
        %d = launch @exp_1 %c {memory = [4096]} : f32[t, 16]
        %e = launch @exp_1 %d {memory = [0]} : f32[t, 16]
        return %e
      }

      entry @f(%x: f32[t, 16]) -> (f32[t, 16]) {arena = 16384} {
        %y = launch @exp_1 %x {memory = [8192]} : f32[t, 16]
        %z = repeat @layer %y {start = 0, stop = 3, prefix = "layers.{i}.", modes = [carry], memory = [12288, 0]} : f32[t, 16]
        return %z
      }
    }
  `,
  ));

test('without the pass the plan gives every value its own bytes', () => {
  const before = parsed(text.replace(/^ {4}/gm, '').trim());
  const bytes = (m: typeof before): number[] => makePlan(m).functions.map((f) => f.arenaBytes);
  expect(bytes(runPass(planMemory, before).module)).toEqual([8192, 16384]);
  expect(bytes(before)).toEqual([3 * 4096, 5 * 4096]);
});

test('a state is updated where it lies: it takes no arena', () => {
  const before = parsed(
    `
dsir 1
module @m {
  dim t <= 64
  dim cached <= 256
  dim s <= 4
  state rows paged(16) { latent: f32[cached, 8] }

  entry @f(%x: f32[t, 8], %at: positions[t, cached, s, s], inout %cache: state rows) -> (f32[cached, 8]) {
    %cache.1 = cache_append %cache, %at, %x : state rows
    %all = cache_read %cache.1 {field = latent} : f32[cached, 8]
    %y = exp %all : f32[cached, 8]
    return %y; %cache.1
  }
}
`.trim(),
  );
  const { module } = runPass(planMemory, runPass(outlineKernels, before).module);
  const [f] = makePlan(module).functions;
  expect(f.arenaBytes).toBe(256 * 8 * 4);
  expect(f.steps.map((s) => s.operands)).toEqual([
    [{ argument: 2 }, { argument: 1 }, { argument: 0 }],
    [{ of: { argument: 2 }, component: 'latent' }],
  ]);
  expect(f.finals).toEqual([{ argument: 2 }]);
});
