import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { findPtxas } from '../../backends/ptx/ptxas.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import { AssemblyError, defaultCacheDir, makeCubins, ptxasFlags } from './cubins.ts';
import { UsageError } from './names.ts';
import { defaultSettings, Terminal } from './terminal.ts';

const kernel = (name: string, body = ''): EmittedKernel => ({
  name,
  family: 'loops',
  ptx: `.version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry ${name}(.param .u64 p) {\n${body}ret;\n}\n`,
  parameters: [],
  grid: { axes: [] },
  threads: 32,
  cluster: [1, 1, 1],
  dynamicSharedBytes: 0,
  staticSharedBytes: 0,
});

test('the cache is where XDG says', () => {
  expect(defaultCacheDir({ XDG_CACHE_HOME: '/c' })).toBe('/c/dsvc');
  expect(defaultCacheDir({ XDG_CACHE_HOME: 'relative' })).toMatch(/\/\.cache\/dsvc$/);
  expect(defaultCacheDir({})).toMatch(/\/\.cache\/dsvc$/);
});

test('flags for ptxas', () => {
  expect(ptxasFlags(['ptxas=-O1,-v', 'ptxas=-lineinfo'])).toEqual(['-O1', '-v', '-lineinfo']);
  for (const bad of ['ptxas', 'nvcc=-O1', 'ptxas=O1']) expect(() => ptxasFlags([bad])).toThrow(UsageError);
});

const ptxas = await findPtxas();

describe.skipIf(!ptxas)('with ptxas', () => {
  let dir: string;
  let said: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'dsvc-cache-'));
    said = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => ((said += String(text)), true));
  });
  afterEach(() => {
    vi.restoreAllMocks();
    rmSync(dir, { recursive: true, force: true });
  });
  const terminal = (): Terminal => new Terminal(defaultSettings);
  const make = (kernels: readonly EmittedKernel[], more: Partial<Parameters<typeof makeCubins>[2]> = {}) =>
    makeCubins(kernels, ptxas!, { X: [], cache: true, cacheDir: dir, ...more }, terminal());

  test('assembles once, and again only when something differs', async () => {
    const kernels = [kernel('a'), kernel('b')];
    const first = await make(kernels);
    expect(first.map((c) => [c.name, c.cached, Buffer.from(c.cubin.subarray(1, 4)).toString()])).toEqual([
      ['a', false, 'ELF'],
      ['b', false, 'ELF'],
    ]);
    expect(first[0].resources.registers).toBeGreaterThan(0);
    const second = await make(kernels);
    expect(second.map((c) => c.cached)).toEqual([true, true]);
    expect(second.map((c) => [c.resources, c.cubin])).toEqual(
      first.map((c) => [c.resources, Buffer.from(c.cubin)]),
    );
    expect((await make([kernel('a', 'membar.gl;\n')]))[0].cached).toBe(false);
    expect((await make([kernel('a')], { X: ['ptxas=-O1'] }))[0].cached).toBe(false);
    expect((await make([kernel('a')], { cache: false }))[0].cached).toBe(false);
  });

  test('a damaged entry is made anew', async () => {
    await make([kernel('a')]);
    const file = readdirSync(dir, { recursive: true })
      .map(String)
      .find((f) => f.endsWith('.cubin'))!;
    const before = readFileSync(join(dir, file));
    writeFileSync(join(dir, file), before.subarray(0, before.length / 2));
    const [again] = await make([kernel('a')]);
    expect([again.cached, again.cubin.length]).toEqual([false, before.length]);
    expect(statSync(join(dir, file)).size).toBe(before.length);
  });

  test('says why, when asked, and warns once about a cache that cannot be written', async () => {
    await make([kernel('a')], { explainCache: true });
    expect(said).toMatch(/cache: assembling a \(nothing for key [0-9a-f]{16}/);
    writeFileSync(join(dir, 'file'), '');
    const cubins = await make([kernel('a'), kernel('b')], { cacheDir: join(dir, 'file') });
    expect(cubins).toHaveLength(2);
    expect(said.match(/cache\/not-written/g)).toHaveLength(1);
  });

  test('a kernel that ptxas refuses is our bug and comes with its PTX', async () => {
    const bad = kernel('bad', 'no such instruction;\n');
    const error = await make([kernel('good'), bad]).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(AssemblyError);
    expect((error as AssemblyError).kernel).toBe(bad);
    expect((error as AssemblyError).message).toMatch(/ptxas refused kernel bad: line \d+: /);
  });
});
