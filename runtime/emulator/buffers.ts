// Buffers of a launch file on a device: where their bytes come from, in pieces, so that a large buffer is never held here
// as a whole.
import { isAbsolute, join } from 'node:path';
import { elementBytes, FormatError, SafetensorsFile, type SafetensorsDType } from '../safetensors.ts';
import { tensorBytes } from '../safetensors-header.ts';
import type { BufferContent } from './buffer-spec.ts';
import type { BufferSpec } from './launch-file.ts';
import type { Problems } from './launch-problem.ts';
import { writeInteger, writeNumber, type IntegerDType } from './number-formats.ts';
import { randomWriter } from './random.ts';

/** Bytes that are made at once; a multiple of every element's size. */
const pieceBytes = 16 * 2 ** 20;

export interface Buffer {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** False: reading it before a kernel wrote it is a mistake that the emulator reports. */
  readonly initialised: boolean;
  /** The content in order, in pieces that are valid until the next is asked for; none when uninitialised. */
  readonly pieces: () => Iterable<Uint8Array>;
}

/**
 * Prepares buffers; the headers of files that they come from are read and checked. `folder` is what paths are relative
 * to. Problems: a file that cannot be read, a tensor that it lacks.
 */
export function prepareBuffers(
  specs: readonly BufferSpec[],
  folder: string,
  problems: Problems,
): ReadonlyMap<string, Buffer> {
  const out = new Map<string, Buffer>();
  for (const spec of specs) {
    const buffer =
      spec.content.kind === 'file'
        ? fromFile(spec, spec.content, folder, problems)
        : fromContent(spec.name, spec.content);
    if (buffer) out.set(spec.name, buffer);
  }
  return out;
}

/** Path of a file that a launch file in `folder` names. */
export const pathFrom = (folder: string, file: string): string =>
  isAbsolute(file) ? file : join(folder, file);

function fromFile(
  spec: BufferSpec,
  { file, tensor }: BufferContent & { readonly kind: 'file' },
  folder: string,
  problems: Problems,
): Buffer | undefined {
  const path = pathFrom(folder, file);
  let opened: SafetensorsFile;
  try {
    opened = SafetensorsFile.open(path);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return problems.add(
      'file',
      spec.place,
      `cannot be read: ${error.message.split('\n')[0]}`,
      'paths are relative to the folder of the launch file',
    );
  }
  try {
    const info = opened.tensors.get(tensor);
    if (!info) {
      const names = [...opened.tensors.keys()];
      return problems.add(
        'no-such-tensor',
        spec.place,
        `names the tensor ${JSON.stringify(tensor)}, which ${file} does not hold`,
        `it holds ${names.slice(0, 12).join(', ') || 'none'}${names.length > 12 ? ', ...' : ''}`,
      );
    }
    const { dtype, shape } = info;
    const bytes = info.end - info.begin;
    const pieces = function* (): Iterable<Uint8Array> {
      const source = SafetensorsFile.open(path);
      try {
        for (let at = 0; at < bytes; at += pieceBytes)
          yield source.readRange(tensor, at, Math.min(pieceBytes, bytes - at));
      } finally {
        source.close();
      }
    };
    return { name: spec.name, dtype, shape, bytes, initialised: true, pieces };
  } finally {
    opened.close();
  }
}

function fromContent(name: string, content: Exclude<BufferContent, { readonly kind: 'file' }>): Buffer {
  const { dtype, shape } = content;
  const bytes = tensorBytes(dtype, shape)!;
  const base = { name, dtype, shape, bytes, initialised: content.kind !== 'uninitialised' };
  switch (content.kind) {
    case 'uninitialised':
      return { ...base, pieces: () => [] };
    case 'hex':
      return { ...base, pieces: () => (bytes > 0 ? [content.bytes] : []) };
    case 'fill':
      return { ...base, pieces: () => filled(dtype, bytes, content.value) };
    case 'random':
      return { ...base, pieces: () => random(dtype, bytes, content.seed) };
  }
}

function* filled(dtype: SafetensorsDType, bytes: number, value: number | bigint): Iterable<Uint8Array> {
  const piece = new Uint8Array(Math.min(pieceBytes, bytes));
  const size = elementBytes[dtype];
  const one = new Uint8Array(size);
  const view = new DataView(one.buffer);
  if (typeof value === 'bigint') writeInteger(view, 0, dtype as IntegerDType, value);
  else writeNumber(view, 0, dtype, value);
  for (let at = 0; at < piece.length; at += size) piece.set(one, at);
  for (let at = 0; at < bytes; at += piece.length) yield piece.subarray(0, bytes - at);
}

function* random(dtype: SafetensorsDType, bytes: number, seed: number): Iterable<Uint8Array> {
  const write = randomWriter(dtype, seed);
  const piece = new Uint8Array(Math.min(pieceBytes, bytes));
  for (let at = 0; at < bytes; at += piece.length) {
    const part = piece.subarray(0, bytes - at);
    write(new DataView(part.buffer, 0, part.length), part.length / elementBytes[dtype]);
    yield part;
  }
}
