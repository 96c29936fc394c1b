// Wrong input to `dsvc emu`: broken PTX, launch files that do not match the kernel, endless kernels, too much shared
// memory.
import type { BadInput } from './case.ts';

/** A kernel `k(x, n)` with a body. */
const kernel = (body: string, head = ''): string => `.version 8.0
.target sm_90a
.address_size 64
${head}
.visible .entry k(.param .u64 x, .param .u32 n)
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<2>;
${body}
  ret;
}
`;
const quiet = kernel('  mov.u32 %r1, 0;');
const launch = (change: object = {}): string =>
  JSON.stringify(
    {
      ...{ kernel: 'k', grid: [1, 1, 1], block: [32, 1, 1] },
      buffers: { x: { dtype: 'F32', shape: [32], fill: 0 } },
      parameters: [{ buffer: 'x' }, { u32: 32 }],
      ...{ outputs: ['x'], ...change },
    },
    null,
    1,
  );
const args = ['emu', 'k.ptx', '--launch', 'launch.json', '--output', 'out.safetensors'];

/** One kernel, one launch file, one mistake or several. */
const bad = (
  name: string,
  codes: readonly string[],
  {
    ptx = quiet,
    file = launch(),
    flags = [],
    ...rest
  }: Partial<BadInput> & { ptx?: string; file?: string; flags?: readonly string[] },
): BadInput => ({
  ...{ name, codes, exit: 1, args: [...args, ...flags] },
  files: { 'k.ptx': ptx, 'launch.json': file },
  ...rest,
});

export const emuCases: readonly BadInput[] = [
  // --- PTX ---
  bad('PTX: nothing in it', ['ptx/syntax'], { ptx: '' }),
  bad('PTX: not PTX', ['ptx/syntax'], { ptx: 'int main() { return 0; }\n', noFix: true }),
  bad('PTX: cut off', ['ptx/syntax'], { ptx: quiet.slice(0, quiet.indexOf('mov.u32') + 9) }),
  bad('PTX: a version of tomorrow', ['ptx/version'], {
    ptx: quiet.replace('8.0', '12.0'),
    at: ['k.ptx:1:1'],
  }),
  bad('PTX: for another chip', ['ptx/target'], { ptx: quiet.replace('sm_90a', 'sm_100') }),
  bad('PTX: an instruction that is none', ['ptx/unsupported-instruction'], {
    ptx: kernel('  fmadd.rn.f32 %r1, %r2, %r3;'),
    noFix: true,
    at: ['k.ptx:10:'],
  }),
  bad('PTX: a register that nobody declared', ['ptx/undefined-name'], {
    ptx: kernel('  mov.u32 %r9, 0;'),
    at: ['k.ptx:10:11'],
  }),
  bad('PTX: too few operands, and a label that is not there', ['ptx/operand-count', 'ptx/undefined-name'], {
    ptx: kernel('  add.s32 %r1, %r2;\n  bra away;'),
    noFix: true,
  }),
  // --- the launch file against the kernel ---
  bad('launch: no such kernel', ['launch/no-such-kernel'], { file: launch({ kernel: 'kernel' }) }),
  bad('launch: a parameter too few', ['launch/parameter-count'], {
    file: launch({ parameters: [{ buffer: 'x' }] }),
  }),
  bad('launch: a parameter of another size', ['launch/parameter-size'], {
    file: launch({ parameters: [{ u32: 1 }, { u64: 1 }] }),
  }),
  bad('launch: a buffer that is not there', ['launch/no-such-buffer'], {
    file: launch({ parameters: [{ buffer: 'y' }, { u32: 1 }] }),
  }),
  bad('launch: a block that .reqntid refuses', ['launch/kernel-limit'], {
    ptx: quiet.replace('.param .u32 n)', '.param .u32 n)\n.reqntid 64, 1, 1'),
  }),
  bad('launch: too many threads', ['launch/limit'], { file: launch({ block: [64, 32, 1] }) }),
  bad('launch: a grid without blocks', ['launch/range'], { file: launch({ grid: [0, 1, 1] }) }),
  bad('launch: clusters that do not divide the grid', ['launch/cluster'], {
    file: launch({ grid: [3, 1, 1], cluster: [2, 1, 1] }),
  }),
  bad('launch: not JSON', ['launch/json'], { file: '{"kernel": "k",}' }),
  // --- shared memory ---
  bad('shared memory: more than a block has', ['launch/limit'], {
    file: launch({ dynamicSharedBytes: 232449 }),
  }),
  bad('shared memory: static and dynamic together', ['launch/kernel-limit'], {
    ptx: kernel('  ld.shared.u32 %r1, [s];', '.shared .align 4 .b8 s[40000];'),
    file: launch({ dynamicSharedBytes: 200_000 }),
  }),
  bad('shared memory: a kernel that declares too much', ['launch/kernel-limit'], {
    ptx: kernel('  ld.shared.u32 %r1, [s];', '.shared .align 4 .b8 s[300000];'),
  }),
  bad('clusters: sizes whose product wraps round', ['emu/launch-contract'], {
    ptx: quiet.replace('.param .u32 n)', '.param .u32 n)\n.reqnctapercluster 65536, 65536, 1'),
  }),
  // --- kernels that do not end ---
  bad('endless: a loop', ['emu/too-long'], {
    ptx: kernel('again:\n  add.s32 %r1, %r1, 1;\n  bra again;'),
    flags: ['--max-instructions', '5000'],
    at: ['k.ptx:1'],
  }),
  bad('endless: a loop of one block of many', ['emu/too-long'], {
    ptx: kernel('  mov.u32 %r1, %ctaid.x;\n  setp.eq.u32 %p1, %r1, 3;\nagain:\n  @%p1 bra again;'),
    file: launch({ grid: [8, 1, 1] }),
    flags: ['--max-instructions', '5000'],
  }),
  bad('endless: a barrier that half of the block never reaches', ['emu/deadlock'], {
    ptx: kernel(
      '  mov.u32 %r1, %tid.x;\n  setp.lt.u32 %p1, %r1, 32;\n  @%p1 bra out;\n  bar.sync 1, 64;\nout:',
    ),
    file: launch({ block: [64, 1, 1] }),
  }),
];
