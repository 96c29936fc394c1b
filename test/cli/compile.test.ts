// `dsvc compile`, `opt` and `check` as processes: bundles, dumps, phases, the cache, and what happens when things go wrong.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findPtxas } from '../../backends/ptx/ptxas.ts';
import { cli, dsvc, filesIn, golden, root, type Outcome } from './process.ts';
import { smallModel } from './small.ts';
import { distance, read } from './tensors.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dsvc-compile-'));
  writeFileSync(join(dir, 'm.ts'), smallModel);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const tiny = join(root, 'examples/tiny.ts');
const text = (path: string): string => readFileSync(join(dir, path), 'utf8');

async function ok(...args: string[]): Promise<Outcome> {
  const outcome = await dsvc(args, { cwd: dir });
  if (outcome.code !== 0) throw new Error(`dsvc ${args.join(' ')} gave ${outcome.code}:\n${outcome.stderr}`);
  return outcome;
}

/** Every file of a folder with its content. */
const contents = (folder: string): ReadonlyMap<string, string> => {
  const at = join(dir, folder);
  const files = readdirSync(at, { recursive: true, withFileTypes: true }).filter((f) => f.isFile());
  return new Map(
    files
      .map(
        (f) =>
          [
            join(f.parentPath, f.name).slice(at.length + 1),
            readFileSync(join(f.parentPath, f.name), 'latin1'),
          ] as const,
      )
      .sort(),
  );
};

const withoutCubins = ['--emit', 'ir,ptx,bundle'];

describe('bundles', () => {
  test('hold IR, PTX, plan and report, and are the same bytes every time', async () => {
    const { stderr, stdout } = await ok('compile', tiny, '-o', 'a', ...withoutCubins);
    await ok('compile', tiny, '-o', 'b', '--timing', ...withoutCubins);
    const [a, b] = [contents('a'), contents('b')];
    expect(b.has('timing.json')).toBe(true);
    expect([...a]).toEqual([...b].filter(([name]) => name !== 'timing.json'));
    expect([...a.keys()].filter((name) => !name.startsWith('kernels/'))).toEqual([
      'bundle.json',
      'ir/final.dsir',
      'plan/kernels.json',
      'plan/rank0.bin',
      'plan/rank0.json',
      'report.json',
    ]);
    const report = JSON.parse(a.get('report.json')!) as {
      kernels: { name: string }[];
      passes: { name: string }[];
    };
    const ptx = [...a.keys()].filter((name) => name.endsWith('.ptx'));
    expect(ptx.sort()).toEqual(report.kernels.map((k) => `kernels/${k.name}.ptx`).sort());
    for (const name of ptx) expect(a.get(name)).toContain('.target sm_90a');
    expect(report.passes.map((p) => p.name)).toContain('insert-fp8');
    expect(stdout).toBe('');
    // The closing summary: at most ten lines.
    const summary = stderr.slice(stderr.lastIndexOf(' -> a')).split('\n');
    expect(summary.length).toBeLessThanOrEqual(10);
    for (const content of a.values()) expect(content).not.toContain(dir);
  });

  test('hold what --emit asks for, and replace an older bundle whole', async () => {
    await ok('compile', 'm.ts', '-o', 'out', '--emit', 'ir');
    expect(filesIn(join(dir, 'out'))).toEqual(['bundle.json', 'ir', 'ir/final.dsir', 'report.json']);
    await ok('compile', 'm.ts', '-o', 'out', '--emit', 'ptx');
    expect(filesIn(join(dir, 'out'))).not.toContain('ir');
    expect(filesIn(join(dir, 'out')).some((f) => f.endsWith('.ptx'))).toBe(true);
    expect(filesIn(dir).filter((f) => f.includes('tmp'))).toEqual([]);
  });

  test('run as the model runs', async () => {
    await ok('import', join(golden, 'tiny_yarn/config.json'), '-o', 'yarn.ts');
    await ok('compile', 'yarn.ts', '--precision', 'f32', '-o', 'yarn', '--emit', 'ir,bundle');
    const at = join(golden, 'tiny_yarn');
    const input = join(at, 'activations.safetensors');
    await ok(
      'run',
      'yarn',
      '--weights',
      at,
      '--input',
      input,
      '--output',
      'x.safetensors',
      '--capture',
      'hidden,router',
    );
    for (const name of [
      'logits',
      'hidden.0',
      'hidden.2',
      'hidden.norm',
      'router.1.logits',
      'router.1.indices',
    ])
      expect([name, distance(read(join(dir, 'x.safetensors'), name), read(input, name)) < 2e-4]).toEqual([
        name,
        true,
      ]);
  });

  test('of one entry have only that', async () => {
    await ok('compile', tiny, '--entry', 'decode', '-o', 'out', ...withoutCubins);
    expect(JSON.parse(text('out/bundle.json'))).toMatchObject({ entries: ['decode'] });
    expect(text('out/ir/final.dsir')).not.toContain('@prefill');
  });

  test('are not written by --dry-run, which lists them', async () => {
    const { stderr } = await ok('compile', 'm.ts', '-o', 'out', '--dry-run', ...withoutCubins);
    expect(stderr).toMatch(/^write out\/bundle.json \(\d+ bytes\)$/m);
    expect(filesIn(dir)).toEqual(['m.ts']);
  });

  test('name settings and precision', async () => {
    await ok('compile', tiny, '--precision', 'bf16', '--set', 'tokens=64', '-o', 'out', ...withoutCubins);
    expect(JSON.parse(text('out/report.json'))).toMatchObject({ precision: 'bf16', target: 'h800' });
    expect(text('out/ir/final.dsir')).toContain('dim tokens <= 64');
  });
});

describe('dumps', () => {
  test.each(['tiny', 'deepseek-v3'])(
    'of %s repeat: each is what its first line gives from the one before it',
    async (model) => {
      writeFileSync(join(dir, 'old'), '');
      const file = join(root, `examples/${model}.ts`);
      await ok('compile', file, '-o', 'out', '--dump-dir', 'ir', '--set', 'tokens=64', ...withoutCubins);
      const dumps = filesIn(join(dir, 'ir'));
      expect(dumps[0]).toBe('000-traced.dsir');
      expect(text('ir/000-traced.dsir').split('\n')[0]).toBe(
        `// dsvc compile ${model}.ts --target h800 --precision fp8 --set tokens=64 --compile-to trace -o -`,
      );
      expect(dumps.reduce((bytes, d) => bytes + text(`ir/${d}`).length, 0)).toBeLessThan(2 ** 20);
      expect(dumps.map((d) => d.replace(/^\d+-|\.dsir$/g, ''))).toEqual([
        'traced',
        'specialize',
        'canonicalize',
        'fuse-mla-projections',
        'fuse-gate-up',
        'insert-fp8',
        'fuse-loops',
        'outline-kernels',
        'plan-memory',
        'select-kernels',
      ]);
      const repeated = await Promise.all(
        dumps.slice(1).map(async (name) => {
          const command = /^\/\/ dsvc (.*)\n/.exec(text(`ir/${name}`))![1];
          const { stdout } = await dsvc(command.split(' '), { cwd: join(dir, 'ir') });
          return [name, stdout === text(`ir/${name}`)];
        }),
      );
      expect(repeated).toEqual(dumps.slice(1).map((name) => [name, true]));
    },
    120_000,
  );

  test('of an earlier run go, other files stay', async () => {
    await ok('compile', 'm.ts', '-o', 'out', '--dump-dir', 'ir', '--emit', 'ir');
    writeFileSync(join(dir, 'ir/011-mine.dsir'), 'dsir 1\n');
    await ok(
      'compile',
      'm.ts',
      '-o',
      'out',
      '--dump-dir',
      'ir',
      '--emit',
      'ir',
      '--disable-pass',
      'fuse-loops,plan-memory',
    );
    const dumps = filesIn(join(dir, 'ir'));
    expect(dumps).toContain('011-mine.dsir');
    expect(dumps.filter((d) => d.includes('fuse-loops'))).toEqual([]);
    expect(dumps).toHaveLength(9);
  });

  test('are printed on request, whole or filtered', async () => {
    const after = await ok('compile', tiny, '-o', 'out', '--emit', 'ir', '--print-ir-after', 'insert-fp8');
    expect(after.stderr).toMatch(/^\/\/ ----- after insert-fp8 -----\ndsir 1\n/m);
    expect(after.stderr.match(/^\/\/ ----- after /gm)).toHaveLength(1);
    const all = await ok(
      'compile',
      tiny,
      '-o',
      'out',
      '--emit',
      'ir',
      '--print-ir-after-all',
      '--dump-filter',
      '^prefill$',
    );
    expect(all.stderr.match(/^\/\/ ----- after /gm)).toHaveLength(9);
    expect(all.stderr).toContain('entry @prefill(');
    expect(all.stderr).not.toContain('entry @decode(');
    const change = await ok(
      'compile',
      tiny,
      '--precision',
      'f32',
      '-o',
      'out',
      '--emit',
      'ir',
      '--print-ir-after-change',
    );
    expect(change.stderr).toContain('// ----- after specialize -----');
    expect(change.stderr).not.toContain('// ----- after insert-fp8');
  });
});

describe('phases', () => {
  test('stopping and resuming gives the same bundle', async () => {
    await ok('compile', tiny, '-o', 'whole', ...withoutCubins);
    await ok('compile', tiny, '--compile-to=insert-fp8', '-o', 'half.dsir');
    expect(text('half.dsir')).toMatch(/^\/\/ dsvc compile half.dsir --compile-from=insert-fp8 -o DIR\n/);
    await ok('compile', 'half.dsir', '--compile-from=insert-fp8', '-o', 'resumed', ...withoutCubins);
    const [whole, resumed] = [contents('whole'), contents('resumed')];
    const kernels = (files: ReadonlyMap<string, string>) =>
      [...files].filter(([name]) => /^(kernels|ir|plan)\//.test(name));
    expect(kernels(resumed)).toEqual(kernels(whole));
  });

  test('the traced module goes to standard output alone', async () => {
    const { stdout, stderr } = await ok('compile', 'm.ts', '--compile-to', 'trace', '-o', '-');
    expect(stdout).toMatch(/^\/\/ dsvc compile .*\ndsir 1\nmodule @small \{/);
    expect(stderr).toBe('');
  });
});

describe('opt', () => {
  test('gives a printed file back byte for byte, from a file and from standard input', async () => {
    const { stdout } = await ok('compile', tiny, '--compile-to', 'outline-kernels', '-o', '-');
    writeFileSync(join(dir, 'x.dsir'), stdout);
    expect((await ok('opt', 'x.dsir', '-o', '-')).stdout).toBe(stdout);
    expect((await dsvc(['opt', '-', '-o', '-'], { cwd: dir, stdin: stdout })).stdout).toBe(stdout);
    const silent = await ok('opt', 'x.dsir');
    expect([silent.stdout, silent.stderr]).toEqual(['', expect.stringContaining('valid IR')]);
  });

  test('the pipeline is every pass one after the other', async () => {
    const { stdout: traced } = await ok('compile', 'm.ts', '--compile-to', 'trace', '-o', '-');
    writeFileSync(join(dir, 'x.dsir'), traced);
    const body = (s: string): string => s.slice(s.indexOf('dsir 1'));
    const pipeline = await ok('opt', 'x.dsir', '--pipeline', '-o', '-');
    const passes = JSON.parse((await ok('passes', '--format', 'json')).stdout) as {
      name: string;
      pipelines: string[];
    }[];
    const of = (name: string): string =>
      passes
        .filter((p) => p.pipelines.includes(name))
        .map((p) => p.name)
        .join(',');
    const listed = await ok('opt', 'x.dsir', '--pass', of('inference'), '-o', '-');
    expect(body(listed.stdout)).toBe(body(pipeline.stdout));
    const training = await ok('opt', 'x.dsir', '--pipeline=training', '-o', '-');
    expect(of('training')).toContain('schedule-dualpipe');
    expect(body((await ok('opt', 'x.dsir', '--pass', of('training'), '-o', '-')).stdout)).toBe(
      body(training.stdout),
    );
  });
});

const hasPtxas = (await findPtxas()) !== undefined;

describe.skipIf(!hasPtxas)('cubins', () => {
  test('are in the bundle, with resources in the report, and come from the cache the second time', async () => {
    const first = await ok(
      'compile',
      'm.ts',
      '-o',
      'a',
      '--require=cubin',
      '--resource-usage',
      '--cache-dir',
      'cache',
    );
    const report = JSON.parse(text('a/report.json')) as {
      kernels: { name: string; registers: number; spills: number }[];
    };
    for (const { name, registers, spills } of report.kernels) {
      expect(registers).toBeGreaterThan(0);
      expect(spills).toBeGreaterThanOrEqual(0);
      expect(contents('a').get(`kernels/${name}.cubin`)).toMatch(/^\x7fELF/);
      expect(first.stderr).toMatch(new RegExp(`^${name} .*\\b${registers}\\b`, 'm'));
    }
    const second = await ok('compile', 'm.ts', '-o', 'b', '--explain-cache', '--cache-dir', 'cache');
    expect(second.stderr.match(/^cache: found /gm)).toHaveLength(report.kernels.length);
    expect([...contents('b')]).toEqual([...contents('a')]);
    const none = await ok('compile', 'm.ts', '-o', 'b', '--explain-cache', '--no-cache');
    expect(none.stderr.match(/^cache: assembling .*the cache is off/gm)).toHaveLength(report.kernels.length);
  });

  test('that ptxas refuses for the flags of the user are an error of the user', async () => {
    const { code, stderr } = await dsvc(
      ['compile', 'm.ts', '-o', 'a', '-Xptxas=--no-such-flag', '--no-cache'],
      { cwd: dir },
    );
    expect([code, filesIn(dir)]).toEqual([1, ['m.ts']]);
    expect(stderr).toContain('error[tool/ptxas-failed]');
    expect(stderr).not.toContain('    at ');
  });
});

test.skipIf(!hasPtxas)('an interruption leaves nothing half-written', async () => {
  const temporary = join(dir, 'temporary');
  mkdirSync(temporary);
  const child = spawn(process.execPath, [cli, 'compile', tiny, '-o', 'out', '--no-cache'], {
    cwd: dir,
    stdio: 'ignore',
    env: { ...process.env, TMPDIR: temporary },
  });
  let running = true;
  const ended = new Promise((done) => child.on('close', (code, signal) => done([code, signal])));
  void ended.then(() => (running = false));
  // In the middle of its work: ptxas has been given a first file.
  while (running && readdirSync(temporary).length === 0) await new Promise((done) => setTimeout(done, 5));
  child.kill('SIGINT');
  expect(await ended).toEqual([null, 'SIGINT']);
  expect(readdirSync(dir)).toEqual(['m.ts', 'temporary']);
  expect(readdirSync(temporary)).toEqual([]);
});
