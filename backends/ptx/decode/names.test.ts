import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseForm } from '../form.ts';
import { instructions } from '../instructions.ts';
import { special } from '../operands.ts';
import { identifierOf, mnemonics, modifierNumber, modifiers, namesInclude, specials } from './names.ts';
import { sizeOf } from './types.ts';

test('runtime/core/emulator/names.inc is what scripts/emulator-names.mjs writes', () => {
  const file = new URL('../../../runtime/core/emulator/names.inc', import.meta.url);
  expect(readFileSync(file, 'utf8')).toBe(namesInclude());
});

test.each([
  ['mnemonics', mnemonics],
  ['modifiers', modifiers],
  ['specials', specials],
])('%s are unique, in C++ too', (_, names) => {
  expect(new Set(names).size).toBe(names.length);
  const identifiers = names.map(identifierOf);
  expect(new Set(identifiers).size).toBe(names.length);
  for (const identifier of identifiers) expect(identifier).toMatch(/^[A-Za-z_][A-Za-z0-9_]*$/);
});

test('numbers fit their fields', () => {
  expect(mnemonics.length).toBeLessThan(2 ** 16);
  expect(modifiers.length).toBeLessThan(2 ** 16);
  expect(specials.length).toBeLessThan(2 ** 8);
  for (const name of modifiers)
    if (sizeOf(name) !== undefined) expect(modifierNumber.get(name)).toBeLessThan(256);
});

test('everything that the instruction table spells has a number', () => {
  for (const [opcode, rows] of Object.entries(instructions)) {
    expect(mnemonics).toContain(opcode);
    for (const row of rows)
      for (const step of parseForm(opcode, row).modifiers)
        for (const word of step.alternatives) expect(modifiers, `${opcode}: ${row[0]}`).toContain(word);
  }
  for (const { name } of Object.values(special)) expect(specials).toContain(name.slice(1));
});

test('numbers never change: they stand in programs that were kept', () => {
  // Appending leaves these as they are; a name put in between, or taken out, does not.
  const at = (names: readonly string[], ...places: number[]): string[] => places.map((i) => names[i]!);
  expect(at(mnemonics, 0, 20, 50, 100, 130)).toMatchInlineSnapshot(`
    [
      "abs",
      "cnot",
      "match",
      "tensormap",
      "wgmma",
    ]
  `);
  expect(at(modifiers, 0, 50, 100, 200, 300, 400, 450)).toMatchInlineSnapshot(`
    [
      "pred",
      "release",
      "noftz",
      "wait_group",
      "m64n256k8",
      "m64n32k256",
      "force_unnormalized_coords",
    ]
  `);
  expect(at(specials, 0, 24, 40, 60)).toMatchInlineSnapshot(`
    [
      "tid.x",
      "laneid",
      "clock64",
      "pm7",
    ]
  `);
});
