// Wrong texts and what is said about them. The snapshot is the message as people read it: part of the product. Where
// ptxas is at hand it judges too: what is an error here is one there, but for what only the emulator does not do.
import { afterAll, expect, test } from 'vitest';
import { renderDiagnostic } from '../../../ir/diagnostics.ts';
import { assemble, findPtxas } from '../ptxas.ts';
import { decodePtx } from './index.ts';

const head = '.version 8.0\n.target sm_90a\n.address_size 64\n';
/** Statements of a kernel that has a bit of everything. */
const body = (lines: string): string => `${head}
.global .align 4 .b32 table[4];
.func (.param .b32 out) increment (.param .b32 in)
{
  ret;
}
.visible .entry kernel(.param .u64 pointer)
{
  .reg .pred %p<4>;
  .reg .b32 %r<8>;
  .reg .b64 %rd<4>;
  .reg .f32 %f<4>;
${lines.replace(/^(?=.)/gm, '  ')}
  ret;
}
`;

/** Right for ptxas, refused here. */
const onlyHere: Readonly<Record<string, string>> = {
  'a later version': `.version 9.1\n.target sm_90a\n.address_size 64\n`,
  'a later chip': `.version 8.8\n.target sm_100a\n.address_size 64\n`,
  'an instruction of a later chip': body('tcgen05.fence::before_thread_sync;'),
  'a part of a register': body('vadd.u32.u32.u32 %r1, %r2.b0, %r3, %r4;'),
  'one byte of an address': `${head}.global .b32 x;\n.global .u8 y[2] = {0xFF(x), 0xFF00(x)};\n`,
  'registers as parameters': `${head}.func (.reg .b32 out) f (.reg .b32 in)\n{\n  ret;\n}\n`,
};

const wrong: Readonly<Record<string, string>> = {
  ...onlyHere,
  // The module as a whole.
  'nothing at all': '',
  'another kind of file': '{"name": "dsvc"}\n',
  'no version': '.target sm_90a\n.address_size 64\n',
  'no target': '.version 8.0\n.address_size 64\n',
  '32-bit addresses': `.version 8.0\n.target sm_90a\n.address_size 32\n`,
  'no address size': `.version 8.0\n.target sm_90a\n`,
  'a comment without an end': `${head}/* to be continued`,
  'a kernel without an end': `${head}.entry kernel()\n{\n  ret;\n`,
  'too many ends': body('}\n}'),
  'a statement outside of functions': `${head}ret;\n`,
  'an unknown directive': `${head}.globl .b32 x;\n`,
  // Statements.
  'a missing semicolon': body('add.s32 %r1, %r2, 1\nadd.s32 %r2, %r1, 1;'),
  'a missing semicolon at the end': body('add.s32 %r1, %r2, 1;\nret').replace('ret\n  ret;', 'ret'),
  'a missing comma': body('add.s32 %r1, %r2 1;'),
  'an operand missing after a comma': body('add.s32 %r1, %r2,;'),
  'an open bracket': body('ld.global.b32 %r1, [%rd1+4;'),
  'a character that PTX does not have': body('add.s32 %r1, %r2, §;'),
  'a directive in the wrong place': body('.version 8.0;').replace('.version 8.0;', '.maxntid 4;'),
  // Instructions.
  'a misspelled instruction': body('lop4.b32 %r1, %r2, %r3, %r4, 7;'),
  'a misspelled modifier': body('ld.globl.b32 %r1, [%rd1];'),
  'an instruction that only sm_90a has': body('wgmma.fence.sync.aligned;').replace('sm_90a', 'sm_90'),
  'too few operands': body('add.s32 %r1, %r2;'),
  'too many operands': body('fma.rn.f32 %f1, %f2, %f3, %f1, %f2;'),
  'a register of the wrong type': body('add.s32 %r1, %r2, %f1;'),
  'a 32-bit register for 64 bits': body('add.s64 %rd1, %rd2, %r1;'),
  'a vector of the wrong length': body('ld.global.v4.b32 {%r1, %r2, %r3}, [%rd1];'),
  'an address without brackets': body('ld.global.b32 %r1, %rd1;'),
  'an address instead of a register': body('add.s32 %r1, %r2, [%rd1];'),
  'a constant that is written': body('mov.b32 7, %r1;'),
  'a guard that is no predicate': body('@%r1 bra done;\ndone:'),
  'a negated register': body('setp.eq.and.s32 %p1, %r1, 0, !%r2;'),
  // Names.
  'an undeclared register': body('mov.b32 %q1, 5;'),
  'a register beyond its range': body('mov.b32 %r8, 5;'),
  'an undefined label': body('bra $L_dnoe;\n$L_done:'),
  'a jump to a variable': body('bra table;'),
  'a misspelled variable': body('mov.u64 %rd1, tabel;'),
  'a misspelled special register': body('mov.u32 %r1, %tidd.x;'),
  'a special register as a vector in an add': body('add.u32 %r1, %r2, %tid;'),
  'a label twice': body('again:\nagain:'),
  'a register twice': body('.reg .b32 x;\n.reg .f32 x;'),
  'a label in an inner block': body('bra inner;\n{\n  inner:\n}'),
  'an undefined function': body('call increase;'),
  'a call with too few arguments': body('{\n.param .b32 r;\ncall (r), increment;\n}'),
  'a call of a kernel': body('{\n.param .b64 p;\ncall kernel, (p);\n}'),
  'an indirect call without a prototype': body('call %rd1;'),
  // Declarations and constants.
  'a type that no variable has': `${head}.global .pred flag;\n`,
  'too many initial values': `${head}.global .b32 x[2] = {1, 2, 3};\n`,
  'an initial value in shared memory': `${head}.shared .b32 x = 1;\n`,
  'an address in a small variable': `${head}.global .b32 x;\n.global .u16 y = x;\n`,
  'an octal number with a 9': body('mov.b32 %r1, 0189;'),
  'a number beyond 64 bits': body('mov.b64 %rd1, 0x10000000000000000;'),
  'a division by zero': body('mov.b32 %r1, 1 / 0;'),
  'a bit of a float': body('mov.b32 %r1, 1.5 & 1;'),
  'an alignment of 3': `${head}.global .align 3 .b32 x;\n`,
  'four dimensions of threads': `${head}.entry k() .maxntid 1, 1, 1, 1\n{\n  ret;\n}\n`,
  'several mistakes': body(
    'add.s32 %r1, %r2;\nmoov.b32 %r1, 1;\nld.global.b32 %r1, [nowhere];\nadd.s32 %r1 %r2, %r3;',
  ),
};

test.each(Object.keys(wrong))('%s', (name) => {
  const text = wrong[name];
  const { program, diagnostics } = decodePtx(text, 'wrong.ptx');
  expect(program).toBeNull();
  expect(diagnostics.length).toBeGreaterThan(0);
  const shown = diagnostics.map((d) => renderDiagnostic(d, { sourceOf: () => text }));
  expect(`\n${shown.join('\n')}\n`).toMatchSnapshot();
});

test('the body around the wrong lines is right', () => {
  expect(decodePtx(body(''), 'right.ptx').diagnostics).toEqual([]);
});

const ptxas = await findPtxas();
afterAll(() => {
  if (!ptxas) console.log('no ptxas on this machine: its opinion of the wrong texts was not asked');
});

// What ptxas lets pass although the ISA does not, or takes for a warning.
const lenient: ReadonlySet<string> = new Set([
  'nothing at all',
  'no address size',
  'a number beyond 64 bits',
]);
test.skipIf(!ptxas)('ptxas refuses them too', { timeout: 60_000 }, async () => {
  const names = Object.keys(wrong).filter((name) => !Object.hasOwn(onlyHere, name) && !lenient.has(name));
  const accepted: string[] = [];
  const next = names[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (const name of next)
      if ((await assemble(wrong[name], { arch: 'sm_90a' })).status === 'assembled') accepted.push(name);
  };
  await Promise.all([worker(), worker()]);
  expect(accepted).toEqual([]);
});
