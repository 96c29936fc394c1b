import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import {
  FormatError,
  SafetensorsFile,
  elementBytes,
  writeSafetensors,
  type TensorToWrite,
} from './safetensors.ts';
import { quote } from './safetensors-error.ts';

const folder = mkdtempSync(join(tmpdir(), 'dsvc-safetensors-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'x.safetensors');
const golden = new URL('../test/golden/', import.meta.url).pathname;

/** A file from a header, given as text or as the value to print, and its data. */
function file(header: unknown, dataBytes = 0, length?: bigint): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(json.length));
  writeFileSync(path, Buffer.concat([prefix, json, Buffer.alloc(dataBytes, 7)]));
  return path;
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

const open = (): unknown => SafetensorsFile.open(path);
const tensor = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets });

describe('reading', () => {
  test('finds what the reference writer put into a file', () => {
    const f = SafetensorsFile.open(join(golden, 'fp8_cast.safetensors'));
    expect(f.info('e4m3fn.decode_table_f32')).toMatchObject({ dtype: 'F32', shape: [256] });
    const bytes = f.read('e4m3fn.decode_table_f32');
    const table = new Float32Array(bytes.buffer);
    expect([table[0x7e], table[1], table[0x81]]).toEqual([448, 2 ** -9, -(2 ** -9)]);
    // A range is the same bytes as in the whole, also into a buffer of the caller's.
    const into = new Uint8Array(8);
    expect(f.readRange('e4m3fn.decode_table_f32', 4 * 0x7e, 8, into)).toBe(into);
    expect(into).toEqual(bytes.subarray(4 * 0x7e, 4 * 0x7e + 8));
    f.close();
    f.close();
    expect(() => f.read('e4m3fn.x')).toThrow('closed');
  });

  test('every golden file opens, and its tensors tile the data', () => {
    const files = readdirSync(golden, { recursive: true, encoding: 'utf8' }).filter((f) =>
      f.endsWith('.safetensors'),
    );
    expect(files.length).toBeGreaterThan(10);
    for (const name of files) {
      const f = SafetensorsFile.open(join(golden, name));
      for (const [, { dtype, shape, begin, end }] of f.tensors)
        expect(end - begin).toBe(shape.reduce((a, b) => a * b, elementBytes[dtype]));
      f.close();
    }
  });

  test('metadata, scalars, empty tensors and an empty file of tensors', () => {
    const header = {
      __metadata__: { format: 'pt' },
      scalar: tensor('F32', [], [0, 4]),
      none: tensor('F32', [3, 0], [4, 4]),
      10: tensor('U8', [2], [4, 6]),
    };
    const f = SafetensorsFile.open(file(header, 6));
    expect([...f.metadata]).toEqual([['format', 'pt']]);
    expect(f.read('scalar')).toEqual(new Uint8Array(4).fill(7));
    expect(f.read('none')).toEqual(new Uint8Array(0));
    expect([...f.tensors.keys()]).toEqual(['scalar', 'none', '10']);
    f.close();
    const empty = SafetensorsFile.open(file('{}'));
    expect(empty.tensors.size).toBe(0);
    empty.close();
  });

  test('refuses unknown names, ranges beyond a tensor and buffers of another size', () => {
    const f = SafetensorsFile.open(file({ a: tensor('U8', [4], [0, 4]), b: tensor('U8', [4], [4, 8]) }, 8));
    expect(problem(() => f.read('c')).code).toBe('safetensors/no-such-tensor');
    for (const [at, length] of [
      [2, 3],
      [-1, 2],
      [0.5, 1],
      [5, 0],
      [0, -1],
    ] as const)
      expect(() => f.readRange('a', at, length)).toThrow(RangeError);
    expect(() => f.read('a', new Uint8Array(5))).toThrow(RangeError);
    f.close();
  });

  test('notices a file that shrinks while it is open', () => {
    const f = SafetensorsFile.open(file({ a: tensor('U8', [4], [0, 4]) }, 4));
    truncateSync(path, 10);
    expect(problem(() => f.read('a')).code).toBe('safetensors/truncated');
    f.close();
  });
});

describe('malformed files', () => {
  test('short files, absurd lengths, what is not there', () => {
    writeFileSync(path, '');
    expect(problem(open).code).toBe('safetensors/empty-file');
    writeFileSync(path, 'abc');
    expect(problem(open).code).toBe('safetensors/truncated');
    for (const length of [0n, 1n, 3n, 10n ** 9n, 2n ** 63n, 2n ** 64n - 1n]) {
      const p = problem(() => SafetensorsFile.open(file('{}', 0, length)));
      expect(p).toMatchObject({ code: 'safetensors/header-length', file: path, byteOffset: 0 });
      expect(p.message).toContain(path);
    }
    expect(problem(() => SafetensorsFile.open(join(folder, 'none'))).code).toBe('safetensors/cannot-open');
    expect(problem(() => SafetensorsFile.open(folder)).code).toBe('safetensors/cannot-open');
  });

  test.each([
    ['utf8', Buffer.from('{"a\xff":1}', 'latin1')],
    ['json', '{"a":}'],
    ['json', '{"a":1'],
    ['not-an-object', '[]'],
    ['not-an-object', ' {}'],
    ['not-an-object', '\ufeff{}'],
    ['duplicate-name', '{"a":{},"a":{}}'],
    ['duplicate-name', '{"a":{},"\\u0061":{}}'],
    ['duplicate-name', '{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}'],
    ['metadata', '{"__metadata__":[]}'],
    ['metadata', '{"__metadata__":{"a":1}}'],
    ['field', '{"a":null}'],
    ['field', '{"a":[1]}'],
    ['field', '{"a":{}}'],
    ['dtype', '{"a":{"dtype":"F31","shape":[],"data_offsets":[0,1]}}'],
    ['dtype', '{"a":{"dtype":"toString","shape":[],"data_offsets":[0,1]}}'],
    ['field', '{"a":{"dtype":8,"shape":[],"data_offsets":[0,1]}}'],
    ['shape', '{"a":{"dtype":"U8","data_offsets":[0,1]}}'],
    ['shape', '{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}'],
    ['shape', '{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}'],
    ['shape', '{"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}'],
    ['shape', '{"a":{"dtype":"U8","shape":[1e300],"data_offsets":[0,1]}}'],
    ['shape', '{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,1]}}'],
    ['shape', '{"a":{"dtype":"F64","shape":[4503599627370496],"data_offsets":[0,1]}}'],
    ['shape', '{"a":{"dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}'],
    ['field', '{"a":{"dtype":"U8","shape":[1]}}'],
    ['field', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}'],
    ['field', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}'],
    ['field', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}'],
    ['offsets', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[3,2]}}'],
    ['size', '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,4]}}'],
    ['size', '{"a":{"dtype":"F32","shape":[],"data_offsets":[0,3]}}'],
    ['truncated', '{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}'],
    ['truncated', '{"a":{"dtype":"U8","shape":[0],"data_offsets":[9000,9000]}}'],
    ['hole', '{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}'],
    [
      'hole',
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}',
    ],
    [
      'overlap',
      '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}',
    ],
    [
      'overlap',
      '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
    ],
    ['trailing-bytes', '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}'],
    ['trailing-bytes', '{}'],
  ])('%s: %s', (code, header) => {
    const bytes = Buffer.from(header);
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(bytes.length));
    writeFileSync(path, Buffer.concat([prefix, bytes, Buffer.alloc(4)]));
    const p = problem(open);
    expect(p.code).toBe(`safetensors/${code}`);
    expect(p.byteOffset).toBeGreaterThanOrEqual(8);
  });

  test('says where, what and why', () => {
    file({ __metadata__: { é: 'é' }, 'w.weight': tensor('F32', [2, 2], [0, 12]) }, 12);
    const text = problem(open).message.replace(path, 'x.safetensors');
    expect(text).toBe(
      'x.safetensors at byte 36: tensor "w.weight" is F32 [2, 2], 16 bytes, but has 12 bytes of data',
    );
    // The place is in bytes, not characters, and is where the name stands.
    expect(readFileSync(path).subarray(36, 46).toString()).toBe('"w.weight"');
  });

  test('nesting as deep as a file can hold neither overflows the stack nor the message', () => {
    const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
    for (const header of [
      `{"a":${deep}}`,
      `{"a":{"dtype":"U8","shape":${deep},"data_offsets":[0,1]}}`,
      `{"a":${'{"a":'.repeat(200_000)}1${'}'.repeat(200_000)}}`,
    ]) {
      const p = problem(() => SafetensorsFile.open(file(header, 1)));
      expect(p.message.length).toBeLessThan(1000);
    }
    expect(quote('x'.repeat(1e6)).length).toBeLessThan(200);
    expect(quote(new Array(1e6).fill(1)).length).toBeLessThan(200);
  });
});

describe('writing', () => {
  const bytes = (n: number, fill: number): Uint8Array => new Uint8Array(n).fill(fill);
  const tensors: TensorToWrite[] = [
    { name: 'b.weight', dtype: 'F8_E4M3', shape: [3], data: bytes(3, 1) },
    { name: '7', dtype: 'BF16', shape: [1, 3], data: () => bytes(6, 2) },
    { name: 'b.weight_scale_inv', dtype: 'F32', shape: [1], data: bytes(4, 3) },
    { name: 'é "\\\n', dtype: 'I64', shape: [0], data: bytes(0, 0) },
  ];
  const rest = (): string[] => readdirSync(folder).filter((f) => f.endsWith('.tmp'));

  test('what is written is read back; names in order, bytes aligned, same input same bytes', () => {
    writeSafetensors(path, tensors, { step: '12' });
    const first = readFileSync(path);
    writeSafetensors(path, tensors, { step: '12' });
    expect(readFileSync(path)).toEqual(first);
    const headerLength = Number(first.readBigUInt64LE());
    expect(headerLength % 8).toBe(0);
    const text = first.subarray(8, 8 + headerLength).toString();
    const at = ['__metadata__', 'b.weight', '7', 'b.weight_scale_inv'].map((n) => text.indexOf(`"${n}":`));
    expect(at).toEqual([...at].sort((a, b) => a - b));
    expect(at[0]).toBe(1);
    const f = SafetensorsFile.open(path);
    for (const { name, dtype, shape, data } of tensors) {
      const info = f.info(name);
      expect(info).toMatchObject({ dtype, shape });
      expect(info.begin % elementBytes[dtype]).toBe(0);
      expect(f.read(name)).toEqual(typeof data === 'function' ? data() : data);
    }
    expect(f.metadata.get('step')).toBe('12');
    f.close();
    expect(rest()).toEqual([]);
  });

  test.each([
    ['duplicate-name', [tensors[0]!, tensors[0]!]],
    ['name', [{ ...tensors[0]!, name: '__metadata__' }]],
    ['name', [{ ...tensors[0]!, name: '\ud800' }]],
    ['dtype', [{ ...tensors[0]!, dtype: 'F31' as 'F32' }]],
    ['shape', [{ ...tensors[0]!, shape: [-3] }]],
    ['shape', [{ ...tensors[0]!, shape: [2 ** 40, 2 ** 40] }]],
    ['size', [{ ...tensors[0]!, shape: [4] }]],
    ['size', [tensors[0]!, { ...tensors[1]!, data: () => bytes(5, 0) }]],
  ])('a failure (%s) leaves the old file and nothing else', (code, wrong) => {
    writeSafetensors(path, tensors);
    const before = readFileSync(path);
    expect(problem(() => writeSafetensors(path, wrong)).code).toBe(`safetensors/${code}`);
    expect(readFileSync(path)).toEqual(before);
    expect(rest()).toEqual([]);
  });

  test('an error of the caller or of the file system passes through, and the temporary goes', () => {
    const data = (): Uint8Array => {
      expect(rest()).toHaveLength(1);
      throw new Error('no more tensors');
    };
    const target = join(folder, 'never.safetensors');
    expect(() => writeSafetensors(target, [{ name: 'a', dtype: 'U8', shape: [1], data }])).toThrow('no more');
    // A folder stands where the file should go.
    expect(() => writeSafetensors(folder, [])).toThrow();
    expect(existsSync(target)).toBe(false);
    expect(rest()).toEqual([]);
    expect(problem(() => writeSafetensors(target, [], { a: '\udc00' })).code).toBe('safetensors/metadata');
  });

  test('anything well-formed survives a round trip', () => {
    const dtype = fc.constantFrom(...(Object.keys(elementBytes) as (keyof typeof elementBytes)[]));
    const oneTensor = fc.record({ dtype, shape: fc.array(fc.nat(5), { maxLength: 3 }), fill: fc.nat(255) });
    const name = fc.string({ unit: 'grapheme' }).filter((n) => n !== '__metadata__');
    fc.assert(
      fc.property(
        fc.dictionary(name, oneTensor),
        fc.dictionary(fc.string(), fc.string()),
        (specs, metadata) => {
          const list = Object.entries(specs).map(([name, { dtype, shape, fill }]) => ({
            ...{ name, dtype, shape },
            data: bytes(
              shape.reduce((a, b) => a * b, elementBytes[dtype]),
              fill,
            ),
          }));
          writeSafetensors(path, list, metadata);
          const f = SafetensorsFile.open(path);
          expect(f.tensors.size).toBe(list.length);
          for (const { name, data } of list) expect(f.read(name)).toEqual(data);
          expect(new Map(f.metadata)).toEqual(new Map(Object.entries(metadata)));
          f.close();
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('fuzz', () => {
  /** Opens and reads everything; only FormatError may come of it, and no more memory than the file is large. */
  function survives(content: Uint8Array): 'opened' | 'refused' {
    writeFileSync(path, content);
    let f: SafetensorsFile;
    try {
      f = SafetensorsFile.open(path);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      expect(error.message.length).toBeLessThan(2000);
      expect(error.byteOffset ?? 0).toBeLessThanOrEqual(content.length);
      return 'refused';
    }
    let total = 0;
    for (const name of f.tensors.keys()) total += f.read(name).length;
    f.close();
    expect(total).toBeLessThan(content.length);
    return 'opened';
  }

  test('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (content) => {
        survives(content);
      }),
      { numRuns: 500 },
    );
    // With a fitting length and a brace, so that more than the first check is met.
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (content) => {
        survives(Buffer.concat([Buffer.from([content.length + 1, 0, 0, 0, 0, 0, 0, 0, 0x7b]), content]));
      }),
      { numRuns: 500 },
    );
  });

  test('mutated valid files', () => {
    writeSafetensors(
      path,
      [
        { name: 'a.weight', dtype: 'F8_E4M3', shape: [4, 8], data: new Uint8Array(32) },
        { name: 'a.weight_scale_inv', dtype: 'F32', shape: [1, 1], data: new Uint8Array(4) },
        { name: 'norm', dtype: 'BF16', shape: [8], data: new Uint8Array(16) },
      ],
      { format: 'pt' },
    );
    const valid = readFileSync(path);
    const seen = { opened: 0, refused: 0 };
    const edit = fc.record({
      at: fc.nat(valid.length - 1),
      remove: fc.nat(3),
      insert: fc.oneof(
        fc.uint8Array({ maxLength: 3 }),
        fc.constantFrom('9', '-', '0', '[', '{', '"', ',', '1e9', '4294967296').map((s) => Buffer.from(s)),
      ),
    });
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), fc.boolean(), (edits, fixLength) => {
        let content = Buffer.from(valid);
        let headerBytes = Number(valid.readBigUInt64LE());
        for (const { at, remove, insert } of edits) {
          content = Buffer.concat([content.subarray(0, at), insert, content.subarray(at + remove)]);
          if (at < 8 + headerBytes) headerBytes += insert.length - remove;
        }
        // Half of the time the length is put right again, so that mutations reach the deeper checks.
        if (fixLength && content.length >= 8) content.writeBigUInt64LE(BigInt(Math.max(headerBytes, 0)));
        seen[survives(content)]++;
      }),
      { numRuns: 3000 },
    );
    // Both happen: a mutation of the data alone leaves a valid file.
    expect(seen.opened).toBeGreaterThan(0);
    expect(seen.refused).toBeGreaterThan(1000);
  });
});
