import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DiagnosticError } from '../../ir/diagnostics.ts';
import {
  checkBundlePlace,
  checkWritable,
  readText,
  refuseSame,
  samePlace,
  writeFolder,
  writeProduct,
} from './files.ts';
import { UsageError } from './names.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-files-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const code = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return error instanceof DiagnosticError ? error.diagnostics[0].code : String(error);
  }
  return 'nothing';
};

describe('readText', () => {
  test('gives the text', () => {
    writeFileSync(join(dir, 'a.dsir'), 'dsir 1\n');
    expect(readText(join(dir, 'a.dsir'), 'IR')).toBe('dsir 1\n');
  });
  test('refuses what is no text file', () => {
    writeFileSync(join(dir, 'b'), Uint8Array.of(65, 0, 66));
    expect(code(() => readText(join(dir, 'b'), 'IR'))).toBe('file/not-text');
    expect(code(() => readText(join(dir, 'none'), 'IR'))).toBe('file/not-found');
    expect(code(() => readText(dir, 'IR'))).toBe('file/not-a-file');
    expect(code(() => readText('a\0b', 'IR'))).toBe('usage/path');
  });
});

test('an output that is an input is refused, also through a link', () => {
  writeFileSync(join(dir, 'in'), 'x');
  symlinkSync(join(dir, 'in'), join(dir, 'link'));
  expect(samePlace(join(dir, 'in'), join(dir, 'link'))).toBe(true);
  expect(() => refuseSame(join(dir, 'link'), [join(dir, 'in')])).toThrow(UsageError);
  expect(() => refuseSame(join(dir, 'out'), [join(dir, 'in')])).not.toThrow();
  expect(() => refuseSame('-', ['-'])).not.toThrow();
});

describe('writeProduct', () => {
  test('replaces a file whole and leaves nothing else', async () => {
    const path = join(dir, 'out.dsir');
    writeFileSync(path, 'old');
    await writeProduct(path, 'new');
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(readdirSync(dir)).toEqual(['out.dsir']);
  });
  test('refuses folders and missing folders', () => {
    expect(code(() => checkWritable(dir))).toBe('file/not-a-file');
    expect(code(() => checkWritable(join(dir, 'no/such')))).toBe('file/not-found');
    writeFileSync(join(dir, 'file'), '');
    expect(code(() => checkWritable(join(dir, 'file/x')))).toBe('file/not-a-folder');
  });
});

describe('writeFolder', () => {
  const files = new Map<string, string | Uint8Array>([
    ['bundle.json', '{"files":{"kernels/a.ptx":""}}'],
    ['kernels/a.ptx', 'ptx'],
  ]);
  test('makes parents, writes everything, replaces an older bundle', () => {
    const out = join(dir, 'deep/out');
    writeFolder(out, files);
    expect(readdirSync(out, { recursive: true }).map(String).sort()).toEqual([
      'bundle.json',
      'kernels',
      'kernels/a.ptx',
    ]);
    writeFolder(out, new Map([['bundle.json', '{"new":1}']]));
    expect(readdirSync(out)).toEqual(['bundle.json']);
    writeFileSync(join(out, 'notes.txt'), 'mine');
    expect(code(() => writeFolder(out, files))).toBe('bundle/would-replace');
    rmSync(join(out, 'notes.txt'));
    expect(readdirSync(out)).toEqual(['bundle.json']);
    expect(readdirSync(join(dir, 'deep'))).toEqual(['out']);
  });
  test('does not touch a folder that is not a bundle', () => {
    writeFileSync(join(dir, 'thesis.tex'), 'years of work');
    expect(code(() => writeFolder(dir, files))).toBe('bundle/would-replace');
    expect(readFileSync(join(dir, 'thesis.tex'), 'utf8')).toBe('years of work');
    writeFileSync(join(dir, 'f'), '');
    expect(code(() => checkBundlePlace(join(dir, 'f')))).toBe('file/not-a-folder');
    expect(code(() => checkBundlePlace(join(dir, 'f/out')))).toBe('file/not-a-folder');
  });
  test('what lies in the output would go with it', () => {
    const inside = (path: string): string => code(() => checkBundlePlace(join(dir, 'out'), [path]));
    expect(inside(join(dir, 'out/model.ts'))).toBe('usage/output-is-input');
    expect(inside(join(dir, 'out'))).toBe('usage/output-is-input');
    expect(inside(join(dir, 'out2/model.ts'))).toBe('nothing');
    expect(inside(join(dir, 'model.ts'))).toBe('nothing');
  });
  test('an empty folder is a good place', () => {
    mkdirSync(join(dir, 'empty'));
    writeFolder(join(dir, 'empty'), files);
    expect(readdirSync(join(dir, 'empty'))).toContain('bundle.json');
  });
  test('leaves the old bundle and no rest when a file cannot be written', () => {
    const out = join(dir, 'out');
    writeFolder(out, files);
    // A file and a folder of one name: the second write fails.
    const clash = new Map([
      ['bundle.json', 'new'],
      ['x', ''],
      ['x/y', ''],
    ]);
    expect(() => writeFolder(out, clash)).toThrow();
    expect(readFileSync(join(out, 'bundle.json'), 'utf8')).toBe(files.get('bundle.json'));
    expect(readdirSync(dir)).toEqual(['out']);
  });
});
