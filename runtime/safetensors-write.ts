// Writes a safetensors file: streamed, to a new file in the same folder, synced, then renamed. Whoever looks at the
// path sees the old file or the whole new one, also after a crash. Same input, same bytes.
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { FormatError, quote } from './safetensors-error.ts';
import {
  elementBytes,
  isSafetensorsDType,
  isShape,
  maxHeaderBytes,
  metadataName,
  tensorBytes,
  type SafetensorsDType,
} from './safetensors-header.ts';

export interface TensorToWrite {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /**
   * Row-major little-endian bytes, exactly as many as dtype and shape need. A function is called once, when its
   * bytes are to be written, and its result is let go before the next: so tensors need not fit memory together.
   */
  readonly data: Uint8Array | (() => Uint8Array);
}

const writePiece = 2 ** 30;

/**
 * Writes `tensors` to `path`, replacing what is there. The header names them in the given order, after the metadata.
 * Their bytes come widest dtype first (in the given order among equals), so that each is aligned to its element size:
 * readers that map the file need that. If anything throws, also a `data` function, nothing at `path` has changed and
 * no temporary file stays. Throws FormatError `safetensors/duplicate-name`, `/name`, `/dtype`, `/shape`, `/size`,
 * `/metadata`, `/header-length`; errors of the file system and of `data` pass through.
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata?: Readonly<Record<string, string>>,
): void {
  const { header, inOrder } = layOut(path, tensors, metadata);
  const temporary = join(
    dirname(path),
    `.${basename(path)}.${process.pid}.${randomBytes(6).toString('hex')}.tmp`,
  );
  try {
    // 'wx': never write into a file that is already there.
    const descriptor = openSync(temporary, 'wx');
    try {
      writeAll(descriptor, header);
      for (const { tensor, bytes } of inOrder) {
        const data = typeof tensor.data === 'function' ? tensor.data() : tensor.data;
        if (data.length !== bytes) throw wrongSize(path, tensor, bytes, data.length);
        writeAll(descriptor, data);
      }
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  syncFolder(dirname(path));
}

interface Placed {
  readonly tensor: TensorToWrite;
  readonly bytes: number;
}

/** Checks everything that can be checked before a byte is written. */
function layOut(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata?: Readonly<Record<string, string>>,
): { header: Uint8Array; inOrder: Placed[] } {
  const placed = new Map<string, Placed>();
  for (const tensor of tensors) {
    const { name, dtype, shape, data } = tensor;
    const bad = (code: string, message: string): FormatError =>
      new FormatError({
        code: `safetensors/${code}`,
        file: path,
        message: `tensor ${quote(name)} ${message}`,
      });
    if (name === metadataName || !isWellFormed(name))
      throw bad('name', 'has a name that the format cannot hold');
    if (placed.has(name)) throw bad('duplicate-name', 'is given twice');
    if (!isSafetensorsDType(dtype)) throw bad('dtype', `has the unknown dtype ${quote(dtype)}`);
    if (!isShape(shape)) throw bad('shape', `has the shape ${quote(shape)}`);
    const bytes = tensorBytes(dtype, shape);
    if (bytes === undefined) throw bad('shape', `of shape ${quote(shape)} has too many elements to count`);
    if (typeof data !== 'function' && data.length !== bytes)
      throw wrongSize(path, tensor, bytes, data.length);
    placed.set(name, { tensor, bytes });
  }
  const inOrder = [...placed.values()].sort(
    (a, b) => elementBytes[b.tensor.dtype] - elementBytes[a.tensor.dtype],
  );
  const offsets = new Map<string, [number, number]>();
  let at = 0;
  for (const { tensor, bytes } of inOrder) offsets.set(tensor.name, [at, (at += bytes)]);
  return { header: headerBytes(path, [...placed.values()], offsets, metadata), inOrder };
}

function headerBytes(
  path: string,
  placed: readonly Placed[],
  offsets: ReadonlyMap<string, [number, number]>,
  metadata: Readonly<Record<string, string>> | undefined,
): Uint8Array {
  const entries = placed.map(({ tensor: { name, dtype, shape } }) => {
    const entry = { dtype, shape, data_offsets: offsets.get(name) };
    return `${JSON.stringify(name)}:${JSON.stringify(entry)}`;
  });
  if (metadata !== undefined) {
    for (const [key, text] of Object.entries(metadata))
      if (typeof text !== 'string' || !isWellFormed(key) || !isWellFormed(text))
        throw new FormatError({
          code: 'safetensors/metadata',
          file: path,
          message: `metadata ${quote(key)} is not Unicode text`,
        });
    entries.unshift(`${JSON.stringify(metadataName)}:${JSON.stringify(metadata)}`);
  }
  // Joined by hand: an object would move names that look like integers to the front.
  const json = Buffer.from(`{${entries.join(',')}}`);
  // Trailing spaces are part of the format; they start the data at a multiple of 8.
  const length = Math.ceil(json.length / 8) * 8;
  if (length > maxHeaderBytes)
    throw new FormatError({
      code: 'safetensors/header-length',
      file: path,
      message: `the header would have ${length} bytes; the format allows ${maxHeaderBytes}`,
      fix: 'write several files',
    });
  const out = new Uint8Array(8 + length).fill(0x20);
  new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
  out.set(json, 8);
  return out;
}

function wrongSize(
  file: string,
  { name, dtype, shape }: TensorToWrite,
  need: number,
  got: number,
): FormatError {
  return new FormatError({
    code: 'safetensors/size',
    file,
    message: `tensor ${quote(name)} is ${dtype} ${quote(shape)} and needs ${need} bytes, but has ${got}`,
  });
}

/** No half of a surrogate pair: UTF-8 cannot hold one. */
function isWellFormed(text: string): boolean {
  return Buffer.from(text).toString() === text;
}

function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;)
    done += writeSync(descriptor, bytes, done, Math.min(writePiece, bytes.length - done));
}

/** Makes the rename itself survive a power cut. Some file systems cannot sync a folder; the file is whole anyway. */
function syncFolder(folder: string): void {
  try {
    const descriptor = openSync(folder, 'r');
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return;
  }
}
