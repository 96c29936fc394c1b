// Every kernel that the compiler makes of the examples parses and decodes; the functional interpreter of the tests, which
// has a parser of its own, finds the same instructions.
import { expect, test } from 'vitest';
import { compiled, subjects } from '../../../test/kernels/models.ts';
import { parsePtx as parseForTests } from '../../../test/support/ptx-run/parse.ts';
import { parsePtx, printParsed } from '../parse/index.ts';
import { normalised } from './fixtures.testing.ts';
import { decodePtx, readProgram } from './index.ts';
import { mnemonics, modifiers } from './names.ts';

test.each([
  ['tiny', 'f32'],
  ['differential', 'bf16'],
  ['deepseek-v2-lite', 'bf16'],
  ['deepseek-v3', 'fp8'],
] as const)('%s in %s', async (name, precision) => {
  const { kernels } = await compiled(
    subjects.find((s) => s.name === name)!,
    precision,
  );
  expect(kernels.length).toBeGreaterThan(3);
  for (const kernel of kernels) {
    const { program, diagnostics } = decodePtx(kernel.ptx, `${kernel.name}.ptx`);
    expect(diagnostics).toEqual([]);
    expect(normalised(printParsed(parsePtx(kernel.ptx, '').module!))).toBe(normalised(kernel.ptx));

    const ours = readProgram(program!).functions;
    const theirs = parseForTests(kernel.ptx);
    expect(ours.map((f) => f.name)).toEqual(theirs.map((e) => e.name));
    ours.forEach((f, i) => {
      const entry = theirs[i]!;
      expect(f.limits.reqntid[0]).toBe(entry.threads[0]);
      expect(f.parameters.map((p) => [p.name, p.size])).toEqual(
        entry.parameters.map((p) => [p.name, p.bytes]),
      );
      expect(f.instructions.map((n) => n.line)).toEqual(entry.instructions.map((n) => n.line));
      expect(
        f.instructions.map((n) => [mnemonics[n.mnemonic], ...n.modifiers.map((m) => modifiers[m])]),
      ).toEqual(entry.instructions.map((n) => [n.opcode, ...n.modifiers]));
      const targets = f.instructions.flatMap((n) =>
        n.operands.flatMap((o) => (o.kind === 'label' ? [o.instruction] : [])),
      );
      const labels = entry.instructions.flatMap((n) =>
        n.opcode === 'bra' && n.operands[0]!.kind === 'symbol' ? [entry.labels.get(n.operands[0].name)] : [],
      );
      expect(targets).toEqual(labels);
    });
  }
});
