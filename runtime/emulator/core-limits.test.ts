// Programs that ask for what no device has, or that no decoder makes: refused in words, whatever the numbers are.
import { expect, test } from 'vitest';
import { decodePtx, encodeProgram, readProgram } from '../../backends/ptx/decode/index.ts';
import type { DecodedOperand, DecodedProgram } from '../../backends/ptx/decode/program.ts';
import { Bench, moduleOf, summary } from './async.testing.ts';

const kernel = (directives: string): string => moduleOf('', 'mov.u32 %r1, 0;', directives);
const withFunction = (text: string, body: string): string =>
  moduleOf('', body).replace('.visible .entry', `${text}\n.visible .entry`);
const run = (ptx: string, threads = 32): readonly string[] =>
  summary(new Bench().run(ptx, [], { block: [threads, 1, 1] }));

test.each([
  ['65536, 65536, 1', 'clusters of 65536 x 65536 x 1 blocks'],
  ['4294967295, 4294967295, 4294967295', 'clusters of 4294967295 x 4294967295 x 4294967295 blocks'],
])('clusters of %s: their product wraps round', (sizes, message) => {
  expect(() => run(kernel(`.reqnctapercluster ${sizes}`))).toThrow(message);
});

test('a number of threads and blocks per SM whose product is a multiple of 2^64', () => {
  expect(run(kernel('.maxntid 131072, 65536, 1\n.minnctapersm 2147483648'))).toEqual([]);
});

test('more local memory than a thread has', () => {
  const body = 'mov.u64 %rd1, l;\nst.local.u32 [%rd1], %r1;';
  const ptx = (bytes: number): string => moduleOf('', `.local .align 4 .b8 l[${bytes}];\n${body}`);
  expect(run(ptx(524288))).toEqual([]);
  expect(() => run(ptx(524292))).toThrow('524292 bytes of local memory per thread; at most 524288');
});

const recursive = (frame: number): string =>
  withFunction(
    `.func f;\n.func f\n{\n.local .align 4 .b8 l[${frame}];\n.reg .b64 %q;\nmov.u64 %q, l;\nst.local.b32 [%q], 1;\ncall f;\nret;\n}`,
    'call f;',
  );
test('a recursion without an end: its frames fill the local memory, or it is too deep', () => {
  for (const frame of [4, 100_000]) expect(run(recursive(frame))).toEqual(['error emu/stack-overflow']);
});

const called = withFunction(
  '.func (.param .b32 out) f (.param .b32 in)\n{\nret;\n}',
  '{\n.param .b32 a;\n.param .b32 b;\nst.param.b32 [a], %r1;\ncall (b), f, (a);\nld.param.b32 %r1, [b];\n}',
);
/** The program of `called`, changed as no decoder would. */
function changed(change: (p: DecodedProgram) => DecodedProgram): () => void {
  const bytes = encodeProgram(change(readProgram(decodePtx(called, 'k.ptx').program!)));
  return () => {
    const { core, device } = new Bench();
    const program = core.loadProgram(device, bytes);
    const request = { kernel: 'k', grid: [1, 1, 1], block: [32, 1, 1], cluster: [0, 0, 0] } as const;
    core.launch(device, program, { ...request, dynamicSharedBytes: 0, parameterBlock: new Uint8Array() });
  };
}

test('a program that calls a kernel', () => {
  expect(changed((p) => p)).not.toThrow();
  const entries = (p: DecodedProgram) => ({
    ...p,
    functions: p.functions.map((f) => ({ ...f, isEntry: true })),
  });
  expect(changed(entries)).toThrow('f is a kernel: only functions can be called');
});

test.each([-4n, 5n, 1n << 40n, -(1n << 62n)])(
  'a call with an argument %s bytes into its variable',
  (offset) => {
    const moved = (o: DecodedOperand): DecodedOperand =>
      o.kind === 'symbol' ? { ...o, offset } : o.kind === 'vector' ? { ...o, items: o.items.map(moved) } : o;
    const far = (p: DecodedProgram) => ({
      ...p,
      functions: p.functions.map((f) => ({
        ...f,
        instructions: f.instructions.map((i) =>
          i.operands.some((o) => o.kind === 'function') ? { ...i, operands: i.operands.map(moved) } : i,
        ),
      })),
    });
    expect(changed(far)).toThrow("a call's operand outside of its variable");
  },
);
