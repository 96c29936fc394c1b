// PTX that nvcc makes of CUDA C++: it decodes without a word, and its tree prints back to it.
import { expect, test } from 'vitest';
import { parsePtx, printParsed } from '../parse/index.ts';
import { fromNvcc, normalised, nvcc } from './fixtures.testing.ts';
import { decodePtx, describeProgram, readProgram } from './index.ts';
import { mnemonics, modifiers } from './names.ts';

const missing = nvcc ? '' : ' (skipped: no nvcc on this machine)';

test.skipIf(!nvcc).each([
  [['-arch=sm_90a', '-lineinfo']],
  // Debug sections, and every variable in memory.
  [['-arch=sm_90', '-G']],
  [['-arch=sm_75', '--use_fast_math']],
])(`nvcc %s${missing}`, async (options) => {
  const text = await fromNvcc(...options);
  const parsed = parsePtx(text, 'kernels.ptx');
  expect(parsed.diagnostics).toEqual([]);
  expect(normalised(printParsed(parsed.module!))).toBe(normalised(text));

  const { program, diagnostics } = decodePtx(text, 'kernels.ptx');
  expect(diagnostics).toEqual([]);
  const p = readProgram(program!);
  expect(p.functions.filter((f) => f.isEntry)).toHaveLength(10);
  // Instructions counted and spelled by a way of their own: lines of the text that begin with an opcode.
  const lines = text.replace(/\.section[^{]*\{[^}]*\}/g, '').split(/[;\n{}]/);
  const opcodes = lines.flatMap(
    (line) => /^\s*(?:@!?[%\w]+\s+)?([a-z][\w]*(?:\.[\w:]+)*)(?:\s|$)/.exec(line)?.[1] ?? [],
  );
  const known = opcodes.filter((o) => mnemonics.includes(o.split('.')[0]!));
  const ours = p.functions
    .flatMap((f) => f.instructions)
    .map((i) => [mnemonics[i.mnemonic], ...i.modifiers.map((m) => modifiers[m])].join('.'));
  // Functions stand in the order of their first declaration, which need not be that of their bodies.
  expect(ours.sort()).toEqual(known.sort());

  // Tables of addresses, structs that point to one another, an indirect call.
  const described = describeProgram(p);
  expect(described).toContain('at 0: generic(text)+2');
  expect(described).toContain('generic(last)');
  expect(described).toMatch(/\.global operations: 16 bytes, align 8, at 0: \w*sum\w*, at 8: \w*product\w*/);
  expect(described).toContain('= 0000803f0000004000006040000080c0');
  expect(described).toMatch(
    /call(\.uni)? \{indirect\$\w+\}, %rd\d+, \{indirect\$\w+, indirect\$\w+\}, prototype 0;/,
  );
});
