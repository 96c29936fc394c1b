import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeSafetensors } from '../safetensors.ts';
import { prepareBuffers, type Buffer as DeviceBuffer } from './buffers.ts';
import { parseLaunchFile } from './launch-file.ts';
import { Problems } from './launch-problem.ts';
import { randomWriter } from './random.ts';

const folder = mkdtempSync(join(tmpdir(), 'dsvc-buffers-'));
afterAll(() => rmSync(folder, { recursive: true }));
writeSafetensors(join(folder, 'in.safetensors'), [
  { name: 'w', dtype: 'F32', shape: [2, 2], data: new Uint8Array(new Float32Array([1, 2, 3, 4]).buffer) },
  { name: 'v', dtype: 'U8', shape: [3], data: Uint8Array.of(7, 8, 9) },
]);
writeFileSync(join(folder, 'broken.safetensors'), 'nonsense');

function prepare(buffers: object): {
  readonly made: ReadonlyMap<string, DeviceBuffer>;
  readonly told: string[];
} {
  const text = JSON.stringify({ kernel: 'k', grid: [1, 1, 1], block: [1, 1, 1], buffers, outputs: [] });
  const problems = new Problems();
  const made = prepareBuffers(parseLaunchFile(text).buffers, folder, problems);
  return {
    made,
    told: problems.found.map((p) => `${p.code}: ${p.message}; ${p.fix}`.replaceAll(folder, 'FOLDER')),
  };
}

/** All pieces, copied: a piece may change once the next is asked for. */
function content(buffer: DeviceBuffer): Uint8Array {
  const pieces = Array.from(buffer.pieces(), (p) => p.slice());
  return new Uint8Array(Buffer.concat(pieces));
}
function bytesOf(spec: object): Uint8Array {
  const { made, told } = prepare({ x: spec });
  expect(told).toEqual([]);
  return content(made.get('x')!);
}

describe('contents', () => {
  test('a tensor of a file, with its dtype and shape', () => {
    const { made } = prepare({ x: { safetensors: 'in.safetensors', tensor: 'w' } });
    const x = made.get('x')!;
    expect(x).toMatchObject({ dtype: 'F32', shape: [2, 2], bytes: 16, initialised: true });
    expect(new Float32Array(content(x).buffer)).toEqual(Float32Array.of(1, 2, 3, 4));
    // A path of its own is taken as it is.
    expect(bytesOf({ safetensors: join(folder, 'in.safetensors'), tensor: 'v' })).toEqual(
      Uint8Array.of(7, 8, 9),
    );
  });

  test('fills of every kind', () => {
    expect(new Float32Array(bytesOf({ dtype: 'F32', shape: [3], fill: -0.5 }).buffer)).toEqual(
      Float32Array.of(-0.5, -0.5, -0.5),
    );
    expect(bytesOf({ dtype: 'BF16', shape: [2], fill: 1 })).toEqual(Uint8Array.of(0x80, 0x3f, 0x80, 0x3f));
    expect(bytesOf({ dtype: 'F8_E4M3', shape: [2], fill: 448 })).toEqual(Uint8Array.of(0x7e, 0x7e));
    expect(new Int32Array(bytesOf({ dtype: 'I32', shape: [2], fill: -7 }).buffer)).toEqual(
      Int32Array.of(-7, -7),
    );
    expect(
      new BigUint64Array(bytesOf({ dtype: 'U64', shape: [1], fill: '0xffffffffffffffff' }).buffer),
    ).toEqual(BigUint64Array.of(2n ** 64n - 1n));
    expect(bytesOf({ dtype: 'BOOL', shape: [2], fill: 1 })).toEqual(Uint8Array.of(1, 1));
    expect(bytesOf({ dtype: 'F32', shape: [4, 0], fill: 1 })).toEqual(new Uint8Array(0));
  });

  test('no fill: uninitialised, and no bytes are sent', () => {
    const x = prepare({ x: { dtype: 'F32', shape: [8] } }).made.get('x')!;
    expect([x.initialised, x.bytes, [...x.pieces()]]).toEqual([false, 32, []]);
  });

  test('random content: the same for a seed, and in pieces as at once', () => {
    // Larger than a piece: 5 Mi elements of 4 bytes.
    const count = 5 * 2 ** 20 + 3;
    const got = bytesOf({ dtype: 'F32', shape: [count], fill: { random: 11 } });
    const whole = new DataView(new ArrayBuffer(4 * count));
    randomWriter('F32', 11)(whole, count);
    expect(Buffer.compare(got, new Uint8Array(whole.buffer))).toBe(0);
    const filled = bytesOf({ dtype: 'I32', shape: [count], fill: 3 });
    expect(filled.length).toBe(4 * count);
    expect(new Int32Array(filled.buffer).every((v) => v === 3)).toBe(true);
  });
});

test('files that cannot be used', () => {
  const { made, told } = prepare({
    a: { safetensors: 'gone.safetensors', tensor: 'w' },
    b: { safetensors: 'in.safetensors', tensor: 'weight' },
    c: { safetensors: 'broken.safetensors', tensor: 'w' },
    d: { dtype: 'U8', shape: [1], fill: 0 },
  });
  expect([...made.keys()]).toEqual(['d']);
  expect(told).toMatchSnapshot();
});
