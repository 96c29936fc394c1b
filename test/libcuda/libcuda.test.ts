// The stand-in libcuda under a host program that was written for the driver API (host.cpp), with kernels that nvcc
// compiled (kernels.cu, committed as kernels.ptx). Skipped without a C++ compiler or the built library.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { sampleMaps } from './maps.testing.ts';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
const native = join(root, 'build/native');
const headers = join(root, 'runtime/core/libcuda/include');
const decoder = join(root, 'dist/ptx-decode.js');

const works = (command: string): boolean =>
  spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
const compiler = [process.env.CXX, 'g++', 'clang++'].find((c) => c !== undefined && works(c));
const toolkits = [process.env.CUDA_HOME, process.env.CUDA_PATH, '/usr/local/cuda', '/usr/lib/cuda', '/usr'];
const toolkit = toolkits
  .filter((t) => t !== undefined)
  .map((t) => join(t, 'include'))
  .find((f) => existsSync(join(f, 'cuda.h')) && existsSync(join(f, 'cudaTypedefs.h')));
const missing = !compiler
  ? 'no C++ compiler'
  : !existsSync(join(native, 'libcuda.so.1'))
    ? 'build/native/libcuda.so.1 is not built (npm run build:native)'
    : !existsSync(decoder)
      ? 'dist/ptx-decode.js is not built (npm run build)'
      : null;
if (missing) console.warn(`the stand-in libcuda is not tested: ${missing}`);
else if (!toolkit)
  console.warn('cuda.h is not installed: the driver API is only checked against our own header');

const folder = mkdtempSync(join(tmpdir(), 'dsvc-libcuda-'));
afterAll(() => rmSync(folder, { recursive: true }));
const ptx = join(here, 'kernels.ptx');

const compile = (source: string, include: string, output: string, flags: readonly string[] = []): void => {
  const args = [
    '-std=c++20',
    '-O1',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-isystem',
    include,
    ...flags,
    join(here, source),
  ];
  execFileSync(compiler!, [...args, '-L', native, '-lcuda', '-pthread', '-o', output], { stdio: 'pipe' });
};

describe.skipIf(missing !== null)('a host program of the driver API', () => {
  const host = join(folder, 'host');
  beforeAll(() => compile('host.cpp', headers, host));

  interface Run {
    readonly env?: Readonly<Record<string, string>>;
    readonly file?: string;
    readonly program?: string;
    readonly input?: string;
  }
  const run = (scenario: string, { env = {}, file = ptx, program = host, input }: Run = {}) => {
    const { status, stdout, stderr } = spawnSync(program, [file, scenario], {
      encoding: 'utf8',
      input,
      maxBuffer: 1 << 26,
      env: { ...process.env, LD_LIBRARY_PATH: native, DSVC_EMULATOR_CACHE: join(folder, 'cache'), ...env },
    });
    return { status, stdout, stderr };
  };
  const lines = (text: string): readonly string[] => text.trimEnd().split('\n');

  test('modules, globals, streams, events, copies', () => {
    const { stdout, stderr, status } = run('basic', {
      env: { DSVC_EMULATOR_DEVICES: '2', DSVC_EMULATOR_SMS: '8' },
    });
    expect(lines(stdout)).toEqual(['devices 2, sms 8, sm_9', 'done']);
    // The second cuMemFree of one address.
    expect(stderr).toContain('is not the start of a live allocation');
    expect(status).toBe(0);
  });

  test('more than 48 KiB of dynamic shared memory need the opt-in', () => {
    const { stdout, stderr } = run('shared');
    expect(lines(stdout)).toEqual(['without opt-in: CUDA_ERROR_INVALID_VALUE', 'done']);
    expect(stderr).toContain(
      'error[emu/launch-contract]: reverse_rows: 65536 bytes of dynamic shared memory; without opt-in the kernel may have 49152\n' +
        'fix: call cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes) first\n',
    );
  });

  test('clusters by attribute', () => {
    expect(lines(run('cluster').stdout)).toEqual(['clusters of 16: CUDA_ERROR_INVALID_CLUSTER_SIZE', 'done']);
  });

  test('tensor maps and a TMA kernel', () =>
    expect(run('tma')).toEqual({ status: 0, stdout: 'done\n', stderr: '' }));

  test('tensor maps that break a rule, or reach past their buffer', () => {
    const { stdout, stderr } = run('bad-map');
    expect(lines(stdout)).toEqual([
      'stride: CUDA_ERROR_INVALID_VALUE',
      'address: CUDA_ERROR_INVALID_VALUE',
      'past the end: CUDA_ERROR_ILLEGAL_ADDRESS',
      'done',
    ]);
    expect(stderr).toContain(
      'cuTensorMapEncodeTiled: the tensor map has a stride of 408 bytes for dimension 1\nfix: strides are multiples of 16 bytes',
    );
    expect(stderr).toMatch(
      /error\[emu\/out-of-bounds\]: the box touches[^\n]*\n  --> module\.ptx:\d+:\d+\n\d+ \|  cp\.async\.bulk\.tensor\.2d/,
    );
  });

  test.each(['0', '1', '77'])('streams run together and in order, seed %s', (seed) => {
    expect(run('streams', { env: { DSVC_EMULATOR_SEED: seed } })).toEqual({
      status: 0,
      stdout: 'done\n',
      stderr: '',
    });
  });

  test('a host that polls memory, and calls nothing', () => {
    expect(run('poll')).toEqual({ status: 0, stdout: 'done\n', stderr: '' });
  });

  test.each(['ring', 'ring-threads'])('four devices that wait for each other: %s', (scenario) => {
    const env = { DSVC_EMULATOR_DEVICES: '4', DSVC_EMULATOR_SEED: '3' };
    expect(run(scenario, { env })).toEqual({ status: 0, stdout: 'done\n', stderr: '' });
  });

  test('memory of another device without peer access', () => {
    const file = join(folder, 'diagnostics.json');
    const env = { DSVC_EMULATOR_DEVICES: '2', DSVC_EMULATOR_DIAGNOSTICS: file };
    const { stdout, stderr } = run('no-peer', { env });
    expect(lines(stdout)).toEqual([
      'without peer access: CUDA_ERROR_ILLEGAL_ADDRESS',
      'afterwards: CUDA_ERROR_ILLEGAL_ADDRESS',
      'done',
    ]);
    expect(stderr).toContain('in the memory of device 0: peer access from device 1 is not enabled');
    const told = lines(readFileSync(file, 'utf8')).map((l) => JSON.parse(l));
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({ code: 'emu/out-of-bounds', severity: 'error', file: 'module.ptx' });
    expect(told[0].notes[0].message).toBe(
      'kernel count on device 1, block (0, 0, 0), warp 0, lane 0; 32 times in all',
    );
  });

  test('a freed pointer ends the context, as on the chip', () => {
    const { stdout, stderr } = run('freed');
    expect(lines(stdout)).toEqual([
      'freed: CUDA_ERROR_ILLEGAL_ADDRESS',
      'afterwards: CUDA_ERROR_ILLEGAL_ADDRESS',
      'done',
    ]);
    const at = lines(readFileSync(ptx, 'utf8')).findIndex(
      (l) => l.includes('ld.global.f32') && l.includes('%f3'),
    );
    expect(stderr).toContain(`  --> module.ptx:${at + 1}:2\n${at + 1} |  ld.global.f32`);
    expect(stderr).toContain('(256 bytes) was freed');
    expect(stderr).toContain('note: kernel scaled_add, block (0, 0, 0), warp 0, lane 0; 64 times in all\n');
  });

  test('images that cannot be loaded, and libraries', () => {
    const { stdout } = run('images');
    expect(lines(stdout)).toEqual([
      'broken: CUDA_ERROR_INVALID_PTX',
      'error[ptx/unsupported-instruction]: `.globul` of `ld.globul.f32` is no modifier that sm_50 to sm_90a have',
      'cubin: CUDA_ERROR_NO_BINARY_FOR_GPU',
      'module.ptx is a cubin: machine code cannot be emulated; give the PTX (nvcc -ptx -arch=sm_90a)',
      'no file: CUDA_ERROR_FILE_NOT_FOUND',
      'no kernel: CUDA_ERROR_NOT_FOUND',
      'done',
    ]);
  });

  test('PTX needs node, what it made is kept; decoded programs need none', () => {
    const nowhere = join(folder, 'empty');
    const env = { PATH: nowhere, DSVC_EMULATOR_CACHE: join(folder, 'other-cache') };
    const { stdout, stderr } = run('tma', { env });
    expect(stdout).toContain('CUDA_ERROR_JIT_COMPILER_NOT_FOUND');
    expect(stderr).toContain(
      'PTX is decoded by node, which is not on PATH: install Node 20.19 or newer, or name it in DSVC_NODE',
    );
    expect(run('tma', { env: { ...env, DSVC_NODE: process.execPath } }).stdout).toBe('done\n');
    // Now it is in the folder.
    expect(run('tma', { env }).stdout).toBe('done\n');

    const program = join(folder, 'kernels.dptx');
    writeFileSync(program, decodePtx(readFileSync(ptx, 'utf8'), 'kernels.ptx').program!);
    const empty = { PATH: nowhere, DSVC_EMULATOR_CACHE: join(folder, 'third-cache') };
    expect(run('decoded', { file: program, env: empty })).toEqual({
      status: 0,
      stdout: 'done\n',
      stderr: '',
    });
  });

  test('without the decoder, and with settings that make no sense', () => {
    const env = {
      DSVC_PTX_DECODER: join(folder, 'none.js'),
      DSVC_EMULATOR_CACHE: join(folder, 'fourth-cache'),
    };
    expect(run('tma', { env }).stderr).toContain('none.js is not there: run `npm run build`');
    const { stdout, stderr } = run('tma', { env: { DSVC_EMULATOR_SMS: 'many' } });
    expect(stdout).toContain('cuInit(0): CUDA_ERROR_INVALID_VALUE');
    expect(stderr).toContain('error[emu/bad-option]: DSVC_EMULATOR_SMS is "many": a number from 1 to 1024');
  });

  test('a copy of the library elsewhere finds its decoder through links', () => {
    const linked = join(folder, 'lib');
    symlinkSync(native, linked);
    expect(
      run('tma', { env: { LD_LIBRARY_PATH: linked, DSVC_EMULATOR_CACHE: join(folder, 'fifth-cache') } })
        .stdout,
    ).toBe('done\n');
  });

  test("the null stream as the thread's own", () => {
    const program = join(folder, 'host-ptds');
    compile('host.cpp', headers, program, ['-DCUDA_API_PER_THREAD_DEFAULT_STREAM']);
    for (const scenario of ['basic', 'shared', 'tma', 'freed'])
      expect(run(scenario, { program }).stdout).toMatch(/done\n$/);
  });

  test.skipIf(!toolkit)("the same program with NVIDIA's header", () => {
    const program = join(folder, 'host-real');
    compile('host.cpp', toolkit!, program);
    expect(run('basic', { program }).stdout).toMatch(/done\n$/);
    expect(run('cluster', { program }).stdout).toMatch(/done\n$/);
    expect(run('no-peer', { program, env: { DSVC_EMULATOR_DEVICES: '2' } }).stdout).toMatch(/done\n$/);
  });

  test.skipIf(!toolkit)("our declarations are those of NVIDIA's header", () => {
    const args = ['-std=c++20', '-fsyntax-only', '-isystem', toolkit!, join(here, 'abi.cpp')];
    expect(spawnSync(compiler!, args, { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
  });

  test('tensor maps: the same rules and bytes as runtime/emulator/tensor-map.ts', () => {
    const { input, expected } = sampleMaps(3000, 4);
    const { stdout } = run('maps', { input: `${input.join('\n')}\n` });
    expect(lines(stdout)).toEqual([...expected, 'done']);
    const valid = expected.filter((e) => e !== 'invalid').length;
    expect(valid).toBeGreaterThan(300);
    expect(valid).toBeLessThan(2700);
  });
});
