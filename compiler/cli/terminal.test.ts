import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Diagnostic } from '../../ir/diagnostics.ts';
import { defaultSettings, Terminal } from './terminal.ts';

let said: string;
beforeEach(() => {
  said = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((said += String(text)), true));
});
afterEach(() => vi.restoreAllMocks());

const at = { file: 'model.ts', line: 2, column: 7, endLine: 2, endColumn: 10 };
const error: Diagnostic = { code: 'a/b', severity: 'error', message: 'wrong', at };

test('shows the line of a file that spans name relative to the model', () => {
  const dir = mkdtempSync(join(tmpdir(), 'dsvc-terminal-'));
  try {
    writeFileSync(join(dir, 'model.ts'), 'one\nconst two = 2;\n');
    const terminal = new Terminal({ ...defaultSettings, color: 'never' });
    terminal.addRoot(dir);
    terminal.report(error);
    expect(said).toBe(
      `error[a/b]: wrong\n  --> ${join(dir, 'model.ts')}:2:7\n2 | const two = 2;\n          ^^^\n`,
    );
    expect(terminal.errors).toBe(1);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('text that is in no file has excerpts too, and nothing is said twice', () => {
  const terminal = new Terminal({ ...defaultSettings, color: 'never' });
  terminal.addText('<stdin>', 'dsir 1\nmodule?\n');
  const d = { ...error, at: { ...at, file: '<stdin>', column: 1, endColumn: 7 } };
  terminal.report(d);
  terminal.report(d);
  expect(said).toBe('error[a/b]: wrong\n  --> <stdin>:2:1\n2 | module?\n    ^^^^^^\n');
});

test('json is one object a line, and stderr holds nothing else', () => {
  const terminal = new Terminal({ ...defaultSettings, diagnostics: 'json' });
  terminal.report({ ...error, fix: 'do this' });
  terminal.info('summary');
  terminal.progress('1/2');
  expect(
    said
      .trimEnd()
      .split('\n')
      .map((l) => JSON.parse(l)),
  ).toEqual([
    {
      code: 'a/b',
      severity: 'error',
      message: 'wrong',
      file: 'model.ts',
      line: 2,
      column: 7,
      endLine: 2,
      endColumn: 10,
      fix: 'do this',
    },
  ]);
});

test('levels silence what is below them, never errors', () => {
  const terminal = new Terminal({ ...defaultSettings, level: 'error', color: 'never' });
  terminal.report({ code: 'w', severity: 'warning', message: 'warned' });
  terminal.report({ code: 'n', severity: 'note', message: 'noted' });
  terminal.info('informed');
  terminal.report({ code: 'e', severity: 'error', message: 'failed' });
  expect(said).toBe('error[e]: failed\n');
});

test('colour is for those who want it', () => {
  const render = (color: 'auto' | 'always' | 'never'): boolean => {
    said = '';
    new Terminal({ ...defaultSettings, color }).report({ code: 'e', severity: 'error', message: 'x' });
    return said.includes('\u001b[');
  };
  expect(render('always')).toBe(true);
  expect(render('never')).toBe(false);
  vi.stubEnv('NO_COLOR', '1');
  expect(render('auto')).toBe(false);
  vi.unstubAllEnvs();
});
