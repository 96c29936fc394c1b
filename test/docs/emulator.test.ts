// docs/EMULATOR.md is true: its example is the file that it names, its command runs, its report is what comes out.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { dsvc, folderWith, root } from '../cli/process.ts';
import { blocksOf } from './markdown.ts';

const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');
const document = textOf('docs/EMULATOR.md');
const blocks = blocksOf(document);
const block = (language: string): string => blocks.find((b) => b.language === language)!.text;

const files = Object.fromEntries(
  ['vector-add.ptx', 'vector-add.json'].map((f) => [
    `examples/emulator/${f}`,
    textOf(`examples/emulator/${f}`),
  ]),
);
const { dir, remove } = folderWith(files);
afterAll(remove);

test('the launch file is that of the example', () => {
  expect(JSON.parse(block('json'))).toEqual(JSON.parse(files['examples/emulator/vector-add.json']));
});

test('every flag of the command is explained, and no other', async () => {
  const { stdout } = await dsvc(['emu', '--help'], { cwd: dir });
  const options = /^Options:\n([\s\S]*?)\n\n/m.exec(stdout)![1];
  const flags = [...options.matchAll(/^ {2}(--[a-z-]+)/gm)].map((m) => m[1]);
  const explained = [...document.matchAll(/^\| `(--[a-z-]+)/gm)].map((m) => m[1]);
  // --diagnostics belongs to every command and is listed there for its worth here.
  expect(explained.filter((f) => f !== '--diagnostics').sort()).toEqual(flags.sort());
});

describe.skipIf(!existsSync(join(root, 'build/native/dsvc_core.node')))('with the core', () => {
  const args = block('sh').trim().split(' ').slice(2);

  test('the command runs', async () => {
    const { code, stderr } = await dsvc(args, { cwd: dir });
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^out\.safetensors: x, z;/)]);
  });

  test('the report is what the changed launch file gives', async () => {
    const changed = folderWith({
      ...files,
      'examples/emulator/vector-add.json': files['examples/emulator/vector-add.json'].replace(
        '"u32": 1000',
        '"u32": 1024',
      ),
    });
    const { code, stderr } = await dsvc(args, { cwd: changed.dir });
    changed.remove();
    expect(code).toBe(1);
    expect(stderr).toContain(block('text'));
  });
});
