import { expect, test } from 'vitest';
import { parsed, runPass } from '../../test/support/expect-pass.ts';
import type { Function } from '../../ir/module.ts';
import { fuseLoops } from './fuse-loops.ts';
import { outlineKernels } from './outline-kernels.ts';

/** Ops of each kernel, and what the entry is left with. */
function kernelsOf(text: string): { kernels: string[][]; entry: string[] } {
  const { module } = runPass(fuseLoops, parsed(text.trim()));
  const ops = (f: Function): string[] => f.body.map((op) => op.op);
  return {
    kernels: module.functions.filter((f) => f.kind === 'kernel').map(ops),
    entry: ops(module.functions.at(-1) as Function),
  };
}

const entry = (signature: string, body: string): string => `
dsir 1
module @m {
  dim t <= 64
  dim s <= 4

  entry @f${signature} {
${body}
  }
}
`;

test('fuses a residual add, a norm and its quantisation, and returns the residual too', () =>
  expect(
    kernelsOf(
      entry(
        '(%h: bf16[t, 128], %x: bf16[t, 128]) -> (bf16[t, 128], f8e4m3<1x128; f32>[t, 128])',
        `    param "norm.weight": bf16[128] stored [128]
    %sum = add %h, %x : bf16[t, 128]
    %n = rms_norm %sum, param "norm.weight" {epsilon = 0.000001} : bf16[t, 128]
    %q = quantize %n : f8e4m3<1x128; f32>[t, 128]
    return %sum, %q`,
      ),
    ),
  ).toEqual({ kernels: [['add', 'rms_norm', 'quantize']], entry: ['launch'] }));

test('fuses a softmax written by hand', () =>
  expect(
    kernelsOf(
      entry(
        '(%x: f32[t, 4, 32]) -> (f32[t, 4, 32])',
        `    %m = max_over %x {axes = [2]} : f32[t, 4]
    %mb = broadcast %m {axes = [0, 1]} : f32[t, 4, 32]
    %d = sub %x, %mb : f32[t, 4, 32]
    %e = exp %d : f32[t, 4, 32]
    %z = sum %e {axes = [2]} : f32[t, 4]
    %zb = broadcast %z {axes = [0, 1]} : f32[t, 4, 32]
    %p = div %e, %zb : f32[t, 4, 32]
    return %p`,
      ),
    ),
  ).toEqual({
    kernels: [['max_over', 'broadcast', 'sub', 'exp', 'sum', 'broadcast', 'div']],
    entry: ['launch'],
  }));

test('pulls a split into each of its readers', () =>
  expect(
    kernelsOf(
      entry(
        '(%x: bf16[t, 256]) -> (bf16[t, 128], bf16[t, 128])',
        `    param "w": bf16[128] stored [128]
    %a, %b = split %x {axis = 1, sizes = [128, 128]} : bf16[t, 128], bf16[t, 128]
    %n = rms_norm %a, param "w" {epsilon = 0.000001} : bf16[t, 128]
    %r = exp %b : bf16[t, 128]
    return %n, %r`,
      ),
    ),
  ).toEqual({
    kernels: [
      ['split', 'rms_norm'],
      ['split', 'exp'],
    ],
    entry: ['launch', 'launch'],
  }));

test('does not fuse across a matmul that lies between', () =>
  expect(
    kernelsOf(
      entry(
        '(%x: f32[t, 16]) -> (f32[t, 16])',
        `    param "w": f32[16, 16] stored [16, 16]
    %a = exp %x : f32[t, 16]
    %m = matmul %a, param "w" : f32[t, 16]
    %y = add %a, %m : f32[t, 16]
    return %y`,
      ),
    ),
  ).toEqual({ kernels: [['exp'], ['add']], entry: ['launch', 'matmul', 'launch'] }));

test('does not fuse through a transpose, which reads other rows', () =>
  expect(
    kernelsOf(
      entry(
        '(%x: f32[16, 16]) -> (f32[16, 16])',
        `    %a = exp %x : f32[16, 16]
    %at = transpose %a {order = [1, 0]} : f32[16, 16]
    %y = add %a, %at : f32[16, 16]
    return %y`,
      ),
    ),
  ).toEqual({ kernels: [['exp'], ['transpose', 'add']], entry: ['launch', 'launch'] }));

test('keeps a reshape as a rename and copies a split that a matmul reads', () =>
  expect(
    kernelsOf(
      entry(
        '(%x: f32[t, 32]) -> (f32[t, 8])',
        `    param "w": f32[8, 16] stored [8, 16]
    %a, %b = split %x {axis = 1, sizes = [16, 16]} : f32[t, 16], f32[t, 16]
    %c = reshape %a : f32[t, 2, 8]
    %d = reshape %c : f32[t, 16]
    %y = matmul %d, param "w" : f32[t, 8]
    return %y`,
      ),
    ),
  ).toEqual({ kernels: [['split']], entry: ['launch', 'reshape', 'reshape', 'matmul'] }));

test('attention reads its operands through views', () =>
  expect(
    kernelsOf(
      entry(
        '(%q: f32[t, 2, 24], %c: f32[t, 16], %r: f32[t, 8], %at: positions[t, t, s, s]) -> (f32[t, 2, 16])',
        `    %k = concat %c, %r {axis = 1} : f32[t, 24]
    %k1 = reshape %k : f32[t, 1, 24]
    %v1 = reshape %c : f32[t, 1, 16]
    %o = attention %q, %k1, %v1, %at {scale = 0.2} : f32[t, 2, 16]
    return %o`,
      ),
    ),
  ).toEqual({ kernels: [['concat', 'reshape', 'reshape', 'attention']], entry: ['launch'] }));

test('equal kernels are one function', () => {
  const { module } = runPass(
    fuseLoops,
    parsed(
      entry(
        '(%x: f32[t, 16]) -> (f32[t, 16], f32[t, 16])',
        `    param "w": f32[16, 16] stored [16, 16]
    %a = exp %x : f32[t, 16]
    %m = matmul %a, param "w" : f32[t, 16]
    %b = exp %m : f32[t, 16]
    return %a, %b`,
      ).trim(),
    ),
  );
  expect(module.functions.filter((f) => f.kind === 'kernel').map((f) => f.name)).toEqual([
    expect.stringMatching(/^exp_[0-9a-f]{8}$/),
  ]);
});

test('what is left becomes a kernel of one op, aliases and structure stay', () => {
  const before = parsed(
    entry(
      '(%x: f32[t, 32]) -> (f32[t, 8])',
      `    param "w": f32[8, 32] stored [8, 32]
    %c = reshape %x : f32[t, 4, 8]
    %d = reshape %c : f32[t, 32]
    %y = matmul %d, param "w" : f32[t, 8]
    return %y`,
    ).trim(),
  );
  const { module } = runPass(outlineKernels, before);
  expect(module.functions.map((f) => f.body.map((op) => op.op))).toEqual([
    ['matmul'],
    ['reshape', 'reshape', 'launch'],
  ]);
  // Holds back: nothing to do the second time.
  expect(outlineKernels.run(module, { target: null, report: () => {} })).toBe(module);
});

test('makes no kernel of ops that nobody reads', () =>
  expect(
    kernelsOf(
      entry(
        '(%x: f32[t, 4]) -> (f32[t, 4])',
        `    %unread = abs %x : f32[t, 4]
    %more = exp %unread : f32[t, 4]
    %y = neg %x : f32[t, 4]
    return %y`,
      ),
    ),
  ).toEqual({ kernels: [['neg']], entry: ['launch'] }));
