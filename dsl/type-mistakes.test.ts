// The editor's messages are part of the product: TypeScript runs on fixtures/type-mistakes.ts without the comments
// that expect a mistake, and what it says is kept here.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const fixture = readFileSync(join(import.meta.dirname, 'fixtures/type-mistakes.ts'), 'utf8');

/** What TypeScript says, by line: the first line of each message, without the code of the error. */
async function messages(text: string): Promise<Map<number, string>> {
  const folder = mkdtempSync(join(tmpdir(), 'dsvc-types-'));
  try {
    writeFileSync(join(folder, 'model.ts'), text);
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const config = {
      extends: join(root, 'tsconfig.json'),
      compilerOptions: {
        paths: { dsvc: [join(root, 'dsl/index.ts')] },
        typeRoots: [join(root, 'node_modules/@types')],
      },
      include: [],
      files: ['model.ts'],
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const compiler = join(root, 'node_modules/typescript/bin/tsc');
    const run = promisify(execFile)(process.execPath, [compiler, '-p', folder, '--pretty', 'false'], {
      cwd: folder,
    });
    const { stdout } = await run.catch((e: { stdout: string }) => e);
    const found = new Map<number, string>();
    for (const m of stdout.matchAll(/^model\.ts\((\d+),\d+\): error TS\d+: (.*)$/gm))
      if (!found.has(Number(m[1]))) found.set(Number(m[1]), m[2]);
    return found;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('every expected mistake is one, and nothing else is', async () => {
  const lines = fixture.split('\n');
  const found = await messages(fixture.replaceAll('// @ts-expect-error', '//'));
  const expected = lines.flatMap((l, i) => (l.trim() === '// @ts-expect-error' ? [i + 2] : []));
  expect(expected.length).toBeGreaterThan(25);
  expect([...found.keys()]).toEqual(expected);
  const said = [...found].map(([line, message]) => `${lines[line - 1].trim()}\n    ${message}`).join('\n');
  expect(said).toMatchSnapshot();
});
