import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DiagnosticError } from '../../ir/diagnostics.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import { parseModule } from '../../ir/text/parser.ts';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import { PassFailure } from '../pass.ts';
import { AssemblyError } from './cubins.ts';
import { reportFailure, type CrashContext } from './failures.ts';
import { MissingToolError, UsageError } from './names.ts';
import { defaultSettings, Terminal, type LogLevel } from './terminal.ts';

let dir: string;
let said: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-failures-'));
  said = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((said += String(text)), true));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(dir, { recursive: true, force: true });
});

const report = (error: unknown, crash: CrashContext = {}, level: LogLevel = 'info'): Promise<number> =>
  reportFailure(error, new Terminal({ ...defaultSettings, color: 'never', level }), crash);

const diagnostic = { code: 'x/y', severity: 'error', message: 'wrong', fix: 'right' } as const;
const module = parseModule('dsir 1\nmodule @m {\n  dim tokens <= 8\n}\n', 'm.dsir').module!;

test('exit codes of what is not our fault', async () => {
  expect(await report(new DiagnosticError([diagnostic]))).toBe(1);
  expect(await report(new UsageError([diagnostic]))).toBe(2);
  expect(await report(new MissingToolError([diagnostic]))).toBe(4);
  const opened = (): unknown => {
    try {
      return SafetensorsFile.open(join(dir, 'none'));
    } catch (error) {
      return error;
    }
  };
  expect(await report(opened())).toBe(1);
  expect(said).toContain(
    `error[safetensors/cannot-open]: ${join(dir, 'none')} does not exist\nfix: check the path\n`,
  );
  const read = (): unknown => {
    try {
      return readFileSync(dir);
    } catch (error) {
      return error;
    }
  };
  expect(await report(read())).toBe(1);
  expect(said).toContain('error[file/eisdir]');
});

test('a pass that fails: exit 3, and a reproducer that opt can read', async () => {
  const path = join(dir, 'crash.dsir');
  const error = new PassFailure('insert-fp8', module, [], new TypeError('x is undefined'));
  expect(await report(error, { reproducer: path })).toBe(3);
  expect(said).toBe(
    'error[internal/pass]: pass insert-fp8 failed: x is undefined\n' +
      `note: the module before it is in ${path}; its first line says how to repeat this\n` +
      'fix: this is a bug in dsvc, please report it with the model or the reproducer (--log-level=debug shows where)\n',
  );
  const text = readFileSync(path, 'utf8');
  const { module: again, header } = parseModule(text, path);
  expect(header).toEqual(['dsvc opt crash.dsir --pass insert-fp8 -o -']);
  expect(again).toEqual(module);
});

test('a module that does not verify tells what is wrong with it', async () => {
  const error = new PassFailure('fuse-loops', module, [
    { ...diagnostic, message: 'two values are called %x' },
  ]);
  expect(await report(error, { reproducer: join(dir, 'r.dsir') })).toBe(3);
  expect(said).toContain('error[x/y]: two values are called %x');
  expect(said).toContain('pass fuse-loops made a module that does not verify');
});

test('emission fails: the reproducer goes on from the last pass', async () => {
  const path = join(dir, 'emit.dsir');
  await report(new PassFailure('emit (@k_1)', module, [], new Error('no registers')), { reproducer: path });
  expect(readFileSync(path, 'utf8')).toMatch(
    /^\/\/ dsvc compile emit.dsir --compile-from=select-kernels -o DIR\n/,
  );
});

test('anything else is a bug too, with the last good module; its stack only on request', async () => {
  const path = join(dir, 'last.dsir');
  expect(await report(new RangeError('index 7'), { module, reproducer: path })).toBe(3);
  expect(said).toContain('error[internal/error]: index 7');
  expect(said).not.toContain('    at ');
  expect(readdirSync(dir)).toEqual(['last.dsir']);
  await report(new RangeError('index 7'), {}, 'debug');
  expect(said).toContain('    at ');
  expect(await report('a string')).toBe(3);
});

test('a reproducer that cannot be written is no second crash', async () => {
  expect(await report(new PassFailure('x', module, []), { reproducer: join(dir, 'no/such') })).toBe(3);
  expect(said).toContain('could not be written');
});

test('a kernel that ptxas refuses is kept', async () => {
  const kernel = { name: 'k_1', ptx: '.version 8.0\n' } as EmittedKernel;
  const path = 'dsvc-reproducer-k_1.ptx';
  try {
    expect(await report(new AssemblyError(kernel, 'ptxas refused kernel k_1: line 3: no'))).toBe(3);
    expect(readFileSync(path, 'utf8')).toBe('.version 8.0\n');
    expect(said).toContain(`note: the kernel is in ${path}`);
  } finally {
    rmSync(path, { force: true });
  }
});
