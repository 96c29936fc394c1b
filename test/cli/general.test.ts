// What holds for every command: help, version, where text goes, pipes that close early.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cli, dsvc, root } from './process.ts';
import { smallModel } from './small.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-general-'));
  writeFileSync(join(dir, 'm.ts'), smallModel);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const commands = ['check', 'compile', 'run', 'opt', 'schedule', 'import', 'targets', 'passes'];

describe('help', () => {
  test.each(commands)(
    'of %s is on standard output, with an example and every flag explained',
    async (command) => {
      const { code, stdout, stderr } = await dsvc([command, '--help'], { cwd: dir });
      expect([code, stderr]).toEqual([0, '']);
      expect(stdout).toMatch(/^Usage: dsvc /);
      expect(stdout).toMatch(new RegExp(`Examples?:\\n +dsvc ${command}`));
      const options = stdout.slice(stdout.indexOf('Options:'), stdout.indexOf('Example')).split('\n');
      for (const line of options.filter((l) => /^ {2}-/.test(l)))
        expect(line).toMatch(/^ {2}\S.*? {2,}\S|^ {2}-\S+( <\S+>)?$/);
    },
  );

  test('of dsvc lists the commands; none at all is bad usage', async () => {
    const help = await dsvc(['--help'], { cwd: dir });
    for (const command of commands) expect(help.stdout).toMatch(new RegExp(`^ {2}${command} `, 'm'));
    const none = await dsvc([], { cwd: dir });
    expect([none.code, none.stdout, none.stderr.startsWith('Usage: dsvc')]).toEqual([2, '', true]);
  });

  test('loads neither the compiler nor a parser', async () => {
    // What --help pays for is what main.js imports, without dynamic imports: commander and small files of ours.
    const seen = new Set<string>();
    const walk = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      const text = readFileSync(file, 'utf8');
      for (const [, name] of text.matchAll(/^(?:import|export) .*?from "(.*?)";|^import "(.*?)";/gm))
        if (name?.startsWith('./')) walk(join(file, '..', name));
        else if (name !== undefined) seen.add(name);
    };
    walk(cli);
    const packages = [...seen].filter((s) => !s.startsWith('/') && !s.startsWith('node:'));
    expect(packages).toEqual(['commander']);
    const bytes = [...seen].filter((s) => s.startsWith('/')).reduce((n, s) => n + readFileSync(s).length, 0);
    expect(bytes).toBeLessThan(60_000);
  });
});

test('--version is that of the package', async () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  expect(await dsvc(['--version'], { cwd: dir })).toMatchObject({ code: 0, stdout: `${version}\n` });
});

test('targets and passes list names with what they are', async () => {
  const targets = JSON.parse((await dsvc(['targets', '--format', 'json'], { cwd: dir })).stdout) as {
    name: string;
    doc: string;
  }[];
  expect(targets.map((t) => t.name)).toEqual(['h800']);
  const { stdout } = await dsvc(['passes'], { cwd: dir });
  const lines = stdout.trimEnd().split('\n');
  expect(lines.map((l) => l.split(' ')[0])).toEqual([
    'specialize',
    'canonicalize',
    'fuse-mla-projections',
    'fuse-gate-up',
    'insert-fp8',
    'schedule-dualpipe',
    'fuse-loops',
    'outline-kernels',
    'plan-memory',
    'select-kernels',
  ]);
  expect(lines.filter((l) => l.endsWith('(cannot be disabled)')).map((l) => l.split(' ')[0])).toEqual([
    'specialize',
    'outline-kernels',
  ]);
});

test('check says that a good model is good, and what a model prints is no product', async () => {
  writeFileSync(join(dir, 'loud.ts'), `${smallModel}console.log('hello from the model');\n`);
  const { code, stdout, stderr } = await dsvc(['check', 'loud.ts'], { cwd: dir });
  expect([code, stdout]).toEqual([0, '']);
  expect(stderr).toBe('hello from the model\nloud.ts: ok, 2 functions, entries prefill\n');
});

test('a reader that goes away early is no failure', async () => {
  const child = spawn(
    '/bin/sh',
    [
      '-c',
      `"${process.execPath}" "${cli}" compile "${join(root, 'examples/deepseek-v3.ts')}" --compile-to fuse-loops -o - | head -n 1`,
    ],
    {
      cwd: dir,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (s: Buffer) => (stdout += s.toString()));
  child.stderr.on('data', (s: Buffer) => (stderr += s.toString()));
  await new Promise((done) => child.on('close', done));
  expect(stdout).toMatch(/^\/\/ dsvc compile/);
  expect(stderr).not.toMatch(/EPIPE|error|    at /);
});

test('colour only where it is asked for', async () => {
  const colored = await dsvc(['opt', 'none.dsir', '--color=always'], { cwd: dir });
  expect(colored.stderr).toContain('\u001b[1;31merror');
  const plain = await dsvc(['opt', 'none.dsir'], { cwd: dir });
  expect(plain.stderr).not.toContain('\u001b[');
});

test('a crash in a timer of the model is told like the rest', async () => {
  writeFileSync(
    join(dir, 'late.ts'),
    `${smallModel}setTimeout(() => { throw new Error('too late'); }, 1);\n`,
  );
  const { code, stderr } = await dsvc(['check', 'late.ts', '--log-level=error'], { cwd: dir });
  expect(code).toBe(3);
  expect(stderr).toContain('too late');
  expect(stderr).not.toContain('    at ');
});
