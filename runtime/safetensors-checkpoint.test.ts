import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { FormatError, openCheckpoint, writeSafetensors } from './safetensors.ts';

const root = mkdtempSync(join(tmpdir(), 'dsvc-checkpoint-'));
afterAll(() => rmSync(root, { recursive: true }));
let folders = 0;

/** A folder with shards s0, s1, ... of the tensors t0, t1, ... (U8 [4], filled with the number), and an index. */
function sharded(count: number, index?: (map: Record<string, unknown>) => unknown): string {
  const folder = join(root, `c${folders++}`);
  mkdirSync(folder);
  const map: Record<string, unknown> = {};
  for (let i = 0; i < count; i++) {
    const data = new Uint8Array(4).fill(i);
    writeSafetensors(join(folder, `s${i}.safetensors`), [{ name: `t${i}`, dtype: 'U8', shape: [4], data }]);
    map[`t${i}`] = `s${i}.safetensors`;
  }
  const content = index === undefined ? { metadata: { total_size: 4 * count }, weight_map: map } : index(map);
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  writeFileSync(join(folder, 'model.safetensors.index.json'), text);
  return folder;
}

function problem(run: () => unknown): FormatError {
  try {
    run();
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** How many files below `folder` this process holds open. */
function openFiles(folder: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
    } catch {
      return false; // the descriptor of this very listing
    }
  }).length;
}

describe('openCheckpoint', () => {
  test('a golden model by its folder and by its file', () => {
    const folder = new URL('../test/golden/tiny_fp8/', import.meta.url).pathname;
    for (const path of [folder, join(folder, 'model.safetensors')]) {
      const c = openCheckpoint(path);
      const name = 'model.layers.0.self_attn.kv_b_proj.weight_scale_inv';
      expect(c.info(name)).toMatchObject({
        dtype: 'F32',
        shape: [2, 1],
        file: join(folder, 'model.safetensors'),
      });
      expect(c.read(name).length).toBe(8);
      expect(c.readRange(name, 4, 4)).toEqual(c.read(name).subarray(4));
      expect(c.has(name)).toBe(true);
      expect(c.names()).toContain('lm_head.weight');
      c.verify();
      c.close();
    }
  });

  test('shards are opened when needed, a few at a time', () => {
    const folder = sharded(6);
    const c = openCheckpoint(folder, { maxOpenFiles: 2 });
    expect(c.names()).toEqual(['t0', 't1', 't2', 't3', 't4', 't5']);
    const watch = process.platform === 'linux';
    if (watch) expect(openFiles(folder)).toBe(0);
    for (const i of [0, 5, 1, 4, 2, 3, 0, 0]) {
      expect(c.read(`t${i}`)).toEqual(new Uint8Array(4).fill(i));
      if (watch) expect(openFiles(folder)).toBeLessThanOrEqual(2);
    }
    c.verify();
    c.close();
    if (watch) expect(openFiles(folder)).toBe(0);
    expect(c.read('t3')).toEqual(new Uint8Array(4).fill(3));
    c.close();
    expect(() => openCheckpoint(folder, { maxOpenFiles: 0 })).toThrow(RangeError);
  });

  test('a path that ends in .index.json, shards behind links, and a single file before an index', () => {
    const folder = sharded(1);
    const indexed = openCheckpoint(join(folder, 'model.safetensors.index.json'));
    expect(indexed.read('t0')).toEqual(new Uint8Array(4));
    indexed.close();
    // Download caches store shards as links to elsewhere: names may not leave the folder, links may.
    const linked = sharded(0, () => ({ weight_map: { t0: 'sub/link.safetensors' } }));
    mkdirSync(join(linked, 'sub'));
    symlinkSync(join(folder, 's0.safetensors'), join(linked, 'sub/link.safetensors'));
    const c = openCheckpoint(linked);
    expect(c.read('t0')).toEqual(new Uint8Array(4));
    c.close();
    copyFileSync(join(folder, 's0.safetensors'), join(linked, 'model.safetensors'));
    expect(openCheckpoint(linked).path).toBe(join(linked, 'model.safetensors'));
  });

  test('what is missing', () => {
    const empty = join(root, 'empty');
    mkdirSync(empty);
    expect(problem(() => openCheckpoint(empty)).code).toBe('checkpoint/missing');
    expect(problem(() => openCheckpoint(join(root, 'nothing'))).code).toBe('checkpoint/missing');
    const c = openCheckpoint(sharded(1));
    expect(problem(() => c.read('t9')).code).toBe('safetensors/no-such-tensor');
    const lost = sharded(2, (map) => ({ weight_map: { ...map, t1: 's9.safetensors' } }));
    expect(problem(() => openCheckpoint(lost))).toMatchObject({ code: 'checkpoint/missing-shard' });
    const wrong = openCheckpoint(sharded(2, (map) => ({ weight_map: { ...map, t1: 's0.safetensors' } })));
    expect(wrong.read('t0')).toEqual(new Uint8Array(4));
    expect(problem(() => wrong.read('t1')).code).toBe('checkpoint/tensor-absent');
    expect(problem(() => wrong.verify()).code).toBe('checkpoint/tensor-absent');
    wrong.close();
    c.close();
  });

  test.each([
    '../x.safetensors',
    '/etc/passwd',
    'a/../../x',
    './s0.safetensors',
    'a//b',
    '',
    '..',
    'C:x',
    '..\\x',
    '\\\\host\\share',
    'a\0b',
    'a/',
  ])('refuses the shard path %j', (shard) => {
    const folder = sharded(1, () => ({ weight_map: { t0: shard } }));
    expect(problem(() => openCheckpoint(folder)).code).toBe('checkpoint/path');
  });

  test.each([
    ['json', '{'],
    ['not-an-object', '[]'],
    ['weight-map', '{}'],
    ['weight-map', '{"weight_map":[]}'],
    ['weight-map', '{"weight_map":{"a":1}}'],
    ['duplicate-name', '{"weight_map":{"t0":"s0.safetensors","t0":"s0.safetensors"}}'],
    ['json', ''],
  ])('index: %s: %s', (code, text) => {
    const p = problem(() => openCheckpoint(sharded(1, () => text)));
    expect(p.code).toBe(`checkpoint/${code}`);
    expect(p.file).toContain('index.json');
  });

  test('a malformed shard is named', () => {
    const folder = sharded(2);
    writeFileSync(join(folder, 's1.safetensors'), 'nonsense');
    const c = openCheckpoint(folder);
    expect(c.read('t0')).toEqual(new Uint8Array(4));
    expect(problem(() => c.read('t1'))).toMatchObject({
      code: 'safetensors/header-length',
      file: join(folder, 's1.safetensors'),
    });
    c.close();
  });

  test('fuzz: any index throws nothing but FormatError', () => {
    const folder = sharded(2);
    const index = join(folder, 'model.safetensors.index.json');
    const name = fc.constantFrom('t0', 't1', '__proto__', 'constructor', '');
    const shard = fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom('s0.safetensors', 's1.safetensors') },
      { weight: 1, arbitrary: fc.constantFrom('.', '..', '__proto__') },
      { weight: 1, arbitrary: fc.jsonValue() },
    );
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      fc.dictionary(name, shard).map((map) => JSON.stringify({ weight_map: map })),
    );
    let read = 0;
    fc.assert(
      fc.property(text, (content) => {
        writeFileSync(index, content);
        try {
          const c = openCheckpoint(folder);
          for (const name of c.names()) read += c.read(name).length;
          c.close();
        } catch (error) {
          if (!(error instanceof FormatError)) throw error;
        }
      }),
      { numRuns: 800 },
    );
    expect(read).toBeGreaterThan(0);
  });
});
