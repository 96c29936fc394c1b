// `dsvc emu` as users run it: results, hazards at their places, wrong inputs. What runs kernels needs the C++ core.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { checks } from '../../runtime/emulator/checks.ts';
import { randomWriter } from '../../runtime/emulator/random.ts';
import { writeSafetensors } from '../../runtime/safetensors.ts';
import { cli, dsvc, filesIn, folderWith, root } from './process.ts';
import { tileKernel } from './emu-ptx.ts';
import { names, read } from './tensors.ts';

const example = (name: string): string => readFileSync(join(root, 'examples/emulator', name), 'utf8');
const ptx = example('vector-add.ptx');
const launch = JSON.parse(example('vector-add.json')) as Record<string, unknown>;

const { dir, remove } = folderWith({ 'k.ptx': ptx, 'launch.json': JSON.stringify(launch, null, 2) });
afterAll(remove);
const run = (...args: string[]) => dsvc(['emu', ...args], { cwd: dir });

const core = existsSync(join(root, 'build/native/dsvc_core.node'));
if (!core) console.warn('the C++ core is not built: tests of dsvc emu that run kernels are skipped');

/** Runs files in a folder of their own. */
async function emulate(
  files: Readonly<Record<string, string>>,
  ...args: string[]
): Promise<{
  code: number | null;
  stderr: string;
  stdout: string;
  files: string[];
  text: (name: string) => string;
  done: () => void;
  at: string;
}> {
  const { dir: at, remove: done } = folderWith(files);
  const { code, stderr, stdout } = await dsvc(
    ['emu', 'k.ptx', '--launch', 'launch.json', '--output', 'out.safetensors', ...args],
    { cwd: at },
  );
  return {
    code,
    stderr,
    stdout,
    files: filesIn(at),
    text: (name) => readFileSync(join(at, name), 'utf8'),
    done,
    at,
  };
}
const withLaunch = (change: object): Record<string, string> => ({
  'k.ptx': ptx,
  'launch.json': JSON.stringify({ ...launch, ...change }, null, 2),
});

describe('without running anything', () => {
  test('--list-checks prints every code', async () => {
    const { code, stdout, stderr } = await run('--list-checks');
    expect([code, stderr]).toEqual([0, '']);
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((l) => l.split(' ')[0]),
    ).toEqual(checks.map((c) => c.code));
  });

  test('--print shows kernels and parameters, then PTX that reads back', async () => {
    const { code, stdout, stderr } = await run('k.ptx', '--print');
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout.split('\n').slice(0, 5).join('\n')).toMatchInlineSnapshot(`
      "// kernel vector_add: 4 parameters
      //   [0] x: .u64, 8 bytes at 0, aligned to 8
      //   [1] y: .u64, 8 bytes at 8, aligned to 8
      //   [2] z: .u64, 8 bytes at 16, aligned to 8
      //   [3] n: .u32, 4 bytes at 24, aligned to 4"
    `);
    const again = await dsvc(['emu', '-', '--print'], { cwd: dir, stdin: stdout });
    expect([again.code, again.stdout]).toEqual([0, stdout]);
  });

  test.each<[string, string[], string, number]>([
    ['no PTX', [], 'usage/missing-argument', 2],
    ['no launch file', ['k.ptx'], 'usage/missing-flag', 2],
    ['--print with a launch', ['k.ptx', '--print', '--launch', 'launch.json'], 'usage/conflict', 2],
    [
      'an unknown check',
      ['k.ptx', '--launch', 'launch.json', '--check', 'deadlok'],
      'usage/unknown-check',
      2,
    ],
    [
      'a tensor core of another kind',
      ['k.ptx', '--launch', 'launch.json', '--tensor-core', 'fp32'],
      'usage/invalid-value',
      2,
    ],
    ['no threads', ['k.ptx', '--launch', 'launch.json', '--threads', '0'], 'usage/invalid-value', 2],
    [
      'an output over the input',
      ['k.ptx', '--launch', 'launch.json', '--output', 'k.ptx'],
      'usage/output-is-input',
      2,
    ],
    [
      'two outputs in one file',
      ['k.ptx', '--launch', 'launch.json', '--output', 'o', '--stats', 'o'],
      'usage/output-is-input',
      2,
    ],
    ['PTX that is not there', ['gone.ptx', '--launch', 'launch.json'], 'file/not-found', 1],
    ['a launch file that is not there', ['k.ptx', '--launch', 'gone.json'], 'file/not-found', 1],
  ])('%s', async (_, args, wanted, exit) => {
    const { code, stdout, stderr } = await run(...args);
    expect([code, stdout]).toEqual([exit, '']);
    expect(stderr).toContain(`error[${wanted}]`);
    expect(stderr).toMatch(/^fix: /m);
  });
});

test('without the core: one line that says what to install, and exit code 4', async () => {
  // An installation of its own, without build/native.
  const { dir: at, remove: done } = folderWith({
    'package.json': '{"type": "module", "version": "0.0.0"}',
    'k.ptx': ptx,
    'launch.json': JSON.stringify(launch),
  });
  cpSync(dirname(cli), join(at, 'dist'), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(at, 'node_modules'));
  const bare = spawnSync(process.execPath, ['dist/dsvc.js', 'emu', 'k.ptx', '--launch', 'launch.json'], {
    cwd: at,
    encoding: 'utf8',
  });
  done();
  expect([bare.status, bare.stdout, bare.stderr]).toEqual([
    4,
    '',
    'error[emu/no-core]: the C++ core is not built: install g++ or clang++, then run `npm run build:native`\n',
  ]);
});

describe.skipIf(!core)('kernels', () => {
  test('the example: outputs with names, dtypes and values', async () => {
    const { code, stderr, files, at, done } = await emulate(withLaunch({}));
    expect([code, files]).toEqual([0, ['k.ptx', 'launch.json', 'out.safetensors']]);
    expect(stderr).toMatch(/^out\.safetensors: x, z; 1 launch, \d+ instructions of warps in \d+\.\d\d s\n$/);
    const out = join(at, 'out.safetensors');
    expect(names(out)).toEqual(['x', 'z']);
    const x = new DataView(new ArrayBuffer(4000));
    randomWriter('F32', 1)(x, 1000);
    const wanted = Float32Array.from(new Float32Array(x.buffer), (v) => v + 0.5);
    expect(read(out, 'z')).toEqual({ shape: [1000], data: wanted });
    done();
  });

  test('a buffer from a file beside the launch file, several launches, no fill and hex', async () => {
    const { dir: at, remove: done } = folderWith({ 'k.ptx': ptx, 'sub/': '' });
    writeSafetensors(join(at, 'sub/in.st'), [
      { name: 'v', dtype: 'F32', shape: [2, 2], data: new Uint8Array(new Float32Array([1, 2, 3, 4]).buffer) },
    ]);
    const add = (x: string, y: string, z: string): object => ({
      kernel: 'vector_add',
      grid: [1, 1, 1],
      block: [32, 1, 1],
      parameters: [{ buffer: x }, { buffer: y }, { buffer: z }, { u32: 4 }],
    });
    const file = {
      buffers: {
        v: { safetensors: 'in.st', tensor: 'v' },
        one: { dtype: 'F32', shape: [4], hex: '0000803f '.repeat(4) },
        t: { dtype: 'F32', shape: [4] },
        r: { dtype: 'F32', shape: [2, 2] },
      },
      launches: [add('v', 'one', 't'), add('t', 't', 'r')],
      outputs: ['r'],
    };
    writeFileSync(join(at, 'sub/l.json'), JSON.stringify(file));
    const { code, stderr } = await dsvc(['emu', 'k.ptx', '--launch', 'sub/l.json', '--output', 'o.st'], {
      cwd: at,
    });
    expect([code, stderr]).toEqual([0, expect.stringContaining('2 launches')]);
    expect(read(join(at, 'o.st'), 'r')).toEqual({ shape: [2, 2], data: Float32Array.of(4, 6, 8, 10) });
    done();
  });

  test('out of bounds: the place, who it was, no output, exit 1', async () => {
    const beyond = { parameters: [{ buffer: 'x' }, { buffer: 'y' }, { buffer: 'z' }, { u32: 1024 }] };
    const { code, stderr, files, done } = await emulate(withLaunch(beyond));
    done();
    expect([code, files]).toEqual([1, ['k.ptx', 'launch.json']]);
    expect(stderr.replace(/in \d+\.\d\d s/, 'in T s')).toMatchSnapshot();
  });

  test('reports as JSON, one a line', async () => {
    const beyond = { parameters: [{ buffer: 'x' }, { buffer: 'y' }, { buffer: 'z' }, { u32: 1024 }] };
    const { code, stderr, done } = await emulate(withLaunch(beyond), '--diagnostics=json');
    done();
    expect(code).toBe(1);
    const reports = stderr
      .trimEnd()
      .split('\n')
      .map((l) => JSON.parse(l) as Record<string, unknown>);
    const line = ptx.split('\n').findIndex((l) => l.includes('ld.global.f32 %a')) + 1;
    expect(reports[0]).toMatchObject({
      code: 'emu/out-of-bounds',
      severity: 'error',
      file: 'k.ptx',
      line,
      column: 3,
    });
  });

  test('a seed replays exactly; threads change nothing', async () => {
    const one = async (...args: string[]): Promise<readonly string[]> => {
      const { code, text, done, at } = await emulate(withLaunch({}), '--stats', 'stats.json', ...args);
      expect(code).toBe(0);
      const result = [readFileSync(join(at, 'out.safetensors'), 'hex'), text('stats.json')];
      done();
      return result;
    };
    const [a, b, c] = await Promise.all([
      one('--seed', '5'),
      one('--seed', '5', '--threads', '2'),
      one('--seed', '6'),
    ]);
    expect(b).toEqual(a);
    expect(c[0]).toBe(a[0]);
    expect(JSON.parse(a[1])).toMatchObject({ seed: 5, launches: [{ kernel: 'vector_add', ctas: 4 }] });
  });

  test('uninitialised data in an output: the store, where it came from, and the outputs all the same', async () => {
    const { x, z } = launch.buffers as Record<string, object>;
    const buffers = { x, y: { dtype: 'F32', shape: [1000] }, z };
    const { code, stderr, files, done } = await emulate(withLaunch({ buffers }));
    done();
    expect([code, files]).toEqual([1, ['k.ptx', 'launch.json', 'out.safetensors']]);
    expect(stderr.replace(/in \d+\.\d\d s/, 'in T s')).toMatchSnapshot();
    const unchecked = await emulate(withLaunch({ buffers }), '--check', 'none');
    unchecked.done();
    expect([unchecked.code, unchecked.stderr]).toEqual([0, expect.not.stringContaining('uninitialised')]);
  });

  test('elements of an output that nobody wrote are a warning', async () => {
    const fewer = { grid: [3, 1, 1] };
    const { code, stderr, done } = await emulate(withLaunch(fewer));
    done();
    expect(code).toBe(0);
    expect(stderr).toMatch(
      /^warning\[emu\/output-not-written\]: 232 of the 1000 elements of z, an output, were never written: the first is z\[768\]\n/,
    );
  });

  test('statistics: a versioned object, and notes for what stands out', async () => {
    const { code, stderr, text, done } = await emulate(withLaunch({}), '--stats', 'stats.json');
    const stats = JSON.parse(text('stats.json')) as { version: number; launches: { performance: object }[] };
    done();
    expect([code, stderr]).toEqual([0, expect.not.stringContaining('note[')]);
    expect(stats.version).toBe(1);
    expect(stats.launches[0].performance).toMatchSnapshot();
    // Every eighth element: a warp's 32 words lie in 32 sectors.
    const strided = ptx.replace('mul.wide.u32 %at, %i, 4;', 'mul.wide.u32 %at, %i, 32;');
    expect(strided).not.toBe(ptx);
    const files = {
      ...withLaunch({ parameters: [{ buffer: 'x' }, { buffer: 'y' }, { buffer: 'z' }, { u32: 120 }] }),
    };
    const wide = await emulate({ ...files, 'k.ptx': strided }, '--stats', 'stats.json');
    wide.done();
    expect(wide.code).toBe(0);
    expect(wide.stderr).toMatch(
      /^note\[emu\/uncoalesced\]: ld\.global\.f32: 30\.0 sectors of 32 bytes a request/m,
    );
    const plain = await emulate({ ...files, 'k.ptx': strided });
    plain.done();
    expect(plain.stderr).not.toContain('note[');
  });

  test('a tensor map: a box past the edge of a matrix, and a struct of parameters', async () => {
    const map = { buffer: 'x', dtype: 'F32', dims: [16, 12], strides: [64], box: [8, 8] };
    const file = {
      kernel: 'tile',
      grid: [1, 1, 1],
      block: [64, 1, 1],
      buffers: {
        x: { dtype: 'F32', shape: [12, 16], fill: { random: 3 } },
        y: { dtype: 'F32', shape: [8, 8] },
      },
      parameters: [
        {
          fields: [
            { at: 0, tensorMap: map },
            { at: 128, buffer: 'y' },
            { at: 136, s32: 12 },
            { at: 140, s32: -2 },
          ],
        },
      ],
      outputs: ['y'],
    };
    const { code, stderr, at, done } = await emulate({
      'k.ptx': tileKernel,
      'launch.json': JSON.stringify(file),
    });
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^out\.safetensors: y;/)]);
    const view = new DataView(new ArrayBuffer(4 * 12 * 16));
    randomWriter('F32', 3)(view, 12 * 16);
    const x = new Float32Array(view.buffer);
    // Columns from 12, rows from -2: what lies outside reads as zero.
    const wanted = Float32Array.from({ length: 64 }, (_, i) => {
      const [row, column] = [Math.floor(i / 8) - 2, (i % 8) + 12];
      return row >= 0 && row < 12 && column < 16 ? x[row * 16 + column] : 0;
    });
    expect(read(join(at, 'out.safetensors'), 'y')).toEqual({ shape: [8, 8], data: wanted });
    done();
  });

  test('an endless kernel ends with --max-instructions', async () => {
    const endless =
      '.version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry spin()\n{\nagain:\n  bra again;\n}\n';
    const spin = { kernel: 'spin', grid: [1, 1, 1], block: [32, 1, 1], outputs: [] };
    const files = { 'k.ptx': endless, 'launch.json': JSON.stringify(spin) };
    const { code, stderr, files: left, done } = await emulate(files, '--max-instructions', '10000');
    done();
    expect([code, left]).toEqual([1, ['k.ptx', 'launch.json']]);
    expect(stderr).toContain('error[emu/too-long]');
    expect(stderr).toMatch(/--> k\.ptx:7:/);
  });

  test('a launch that does not fit the kernel: told at its place in the launch file', async () => {
    const wrong = {
      kernel: 'vector_ad',
      buffers: { x: { safetensors: 'gone.st', tensor: 'x' } },
      parameters: [],
      outputs: [],
    };
    const { code, stderr, files, done } = await emulate(withLaunch(wrong));
    done();
    expect([code, files]).toEqual([1, ['k.ptx', 'launch.json']]);
    expect(stderr).toMatchSnapshot();
  });

  test('mistakes of the PTX and of the launch file are told together', async () => {
    const files = { 'k.ptx': ptx.replace('add.rn.f32', 'add.rn.f23'), 'launch.json': '{"kernel": 1}' };
    const { code, stderr, done } = await emulate(files);
    done();
    expect(code).toBe(1);
    expect(stderr).toMatch(/--> k\.ptx:\d+:\d+/);
    expect(stderr).toContain('--> launch.json:1:12');
  });
});
