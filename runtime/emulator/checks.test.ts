import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checks, chooseChecks, isFatal } from './checks.ts';

test('lists every code that the core can say, once', () => {
  const core = new URL('../core', import.meta.url).pathname;
  const said = new Set<string>();
  for (const name of readdirSync(core, { recursive: true }) as string[])
    if (/\.(cpp|h)$/.test(name))
      for (const [, code] of readFileSync(join(core, name), 'utf8').matchAll(/"(emu\/[a-z0-9-]+)"/g))
        said.add(code);
  const listed = checks.map((c) => c.code);
  expect(new Set(listed).size).toBe(listed.length);
  expect([...said].filter((code) => !listed.includes(code))).toEqual([]);
  expect(listed.filter((code) => !said.has(code))).toEqual([]);
});

test('--check chooses all, none, or some by either spelling', () => {
  expect(chooseChecks(['all'])).toEqual({ checks: ['all'], unknown: [] });
  expect(chooseChecks(['none'])).toEqual({ checks: [], unknown: [] });
  expect(chooseChecks(['emu/misaligned', 'deadlock'])).toEqual({
    checks: ['misaligned', 'deadlock'],
    unknown: [],
  });
  expect(chooseChecks(['races-of-all-kinds']).unknown).toEqual(['races-of-all-kinds']);
});

test('a code that nobody listed counts as fatal', () => expect(isFatal('emu/of-a-newer-core')).toBe(true));
