// A checkpoint: one safetensors file, or many named by an index (model.safetensors.index.json, key weight_map).
// Shards are opened when first needed and few at a time: DeepSeek-V3 has 163.
import { closeSync, existsSync, fstatSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { FormatError, quote, reason } from './safetensors-error.ts';
import { noSuchTensor, openRegular, readAt, SafetensorsFile } from './safetensors-file.ts';
import type { TensorInfo } from './safetensors-header.ts';
import { isRecord, parseStrictJson } from './safetensors-json.ts';

const singleName = 'model.safetensors';
const indexName = 'model.safetensors.index.json';

/** DeepSeek-V3's index has 9 MB. */
const maxIndexBytes = 256 * 2 ** 20;

/** Where a tensor of a checkpoint lies. */
export interface CheckpointTensor extends TensorInfo {
  /** Path of the file that holds it. */
  readonly file: string;
}

export interface CheckpointOptions {
  /** Files open at once, at least 1. Default 8. */
  readonly maxOpenFiles?: number;
}

export class Checkpoint {
  /** The file or index that was opened. */
  readonly path: string;
  /** Tensor name to path of its file, in the order of the index or of the file's bytes. */
  readonly #fileOf: ReadonlyMap<string, string>;
  /** Open files, least recently used first. */
  readonly #open = new Map<string, SafetensorsFile>();
  /** Headers stay when their file is closed, so that asking for every tensor's shape opens each shard once. */
  readonly #headers = new Map<string, ReadonlyMap<string, TensorInfo>>();
  readonly #maxOpenFiles: number;

  /** Use openCheckpoint. */
  constructor(path: string, fileOf: ReadonlyMap<string, string>, options: CheckpointOptions) {
    const { maxOpenFiles = 8 } = options;
    if (!Number.isInteger(maxOpenFiles) || maxOpenFiles < 1)
      throw new RangeError(`not a number of files: ${maxOpenFiles}`);
    this.path = path;
    this.#fileOf = fileOf;
    this.#maxOpenFiles = maxOpenFiles;
  }

  /** Every tensor's name. Opens nothing. */
  names(): string[] {
    return [...this.#fileOf.keys()];
  }

  has(name: string): boolean {
    return this.#fileOf.has(name);
  }

  /**
   * The tensor's dtype, shape and place. Opens its shard if no header of it is known yet. Throws FormatError
   * `safetensors/no-such-tensor`, `checkpoint/tensor-absent` (its shard lacks it), or what is malformed in the shard.
   */
  info(name: string): CheckpointTensor {
    const file = this.#file(name);
    const tensors = this.#headers.get(file) ?? this.#shard(file).tensors;
    const info = tensors.get(name);
    if (info === undefined)
      throw new FormatError({
        code: 'checkpoint/tensor-absent',
        file,
        message: `the index ${this.path} says that ${quote(name)} is in this file, but it is not`,
        fix: 'the index and the shards come from different checkpoints: download both again',
      });
    return { ...info, file };
  }

  /** The tensor's bytes. Arguments and errors: as SafetensorsFile.read and `info`. */
  read(name: string, into?: Uint8Array): Uint8Array {
    const { file } = this.info(name);
    return this.#shard(file).read(name, into);
  }

  /** Some of the tensor's bytes. Arguments and errors: as SafetensorsFile.readRange and `info`. */
  readRange(name: string, byteOffset: number, byteLength: number, into?: Uint8Array): Uint8Array {
    const { file } = this.info(name);
    return this.#shard(file).readRange(name, byteOffset, byteLength, into);
  }

  /** Opens every shard once and checks that every tensor is where the index says. Errors: as `info`. */
  verify(): void {
    for (const name of this.#fileOf.keys()) this.info(name);
  }

  /** Lets go of all files. What is asked later opens them again. */
  close(): void {
    for (const shard of this.#open.values()) shard.close();
    this.#open.clear();
  }

  #file(name: string): string {
    const file = this.#fileOf.get(name);
    if (file === undefined) throw noSuchTensor(this.path, name);
    return file;
  }

  #shard(file: string): SafetensorsFile {
    let shard = this.#open.get(file);
    if (shard !== undefined) {
      this.#open.delete(file);
    } else {
      for (const [path, oldest] of this.#open) {
        if (this.#open.size < this.#maxOpenFiles) break;
        oldest.close();
        this.#open.delete(path);
      }
      shard = SafetensorsFile.open(file);
      this.#headers.set(file, shard.tensors);
    }
    this.#open.set(file, shard);
    return shard;
  }
}

/**
 * Opens a checkpoint: a .safetensors file, an index (*.json), or a folder that holds model.safetensors or
 * model.safetensors.index.json. One file is checked now; shards must exist now and are checked when first needed.
 * Throws FormatError `checkpoint/...` or what is malformed.
 */
export function openCheckpoint(path: string, options: CheckpointOptions = {}): Checkpoint {
  const file = findCheckpoint(path);
  if (file.endsWith('.json')) return new Checkpoint(file, readIndex(file), options);
  const single = SafetensorsFile.open(file);
  single.close();
  return new Checkpoint(file, new Map([...single.tensors.keys()].map((name) => [name, file])), options);
}

function findCheckpoint(path: string): string {
  try {
    if (!statSync(path).isDirectory()) return path;
  } catch (error) {
    throw new FormatError({
      code: 'checkpoint/missing',
      file: path,
      message: `cannot be opened: ${reason(error)}`,
      cause: error,
    });
  }
  for (const name of [singleName, indexName]) if (existsSync(join(path, name))) return join(path, name);
  throw new FormatError({
    code: 'checkpoint/missing',
    file: path,
    message: `the folder holds neither ${singleName} nor ${indexName}`,
    fix: 'give the path of a .safetensors file or of an index',
  });
}

function readIndex(path: string): Map<string, string> {
  const { value, offsetOf } = parseStrictJson(readWhole(path), path, 'checkpoint', 0);
  const bad = (code: string, message: string, fix?: string): FormatError =>
    new FormatError({
      code: `checkpoint/${code}`,
      file: path,
      byteOffset: offsetOf('weight_map'),
      message,
      fix,
    });
  const { weight_map: weightMap } = value;
  if (!isRecord(weightMap))
    throw bad('weight-map', 'weight_map is missing, or is not an object of tensor names and file names');
  const fileOf = new Map<string, string>();
  const shards = new Map<string, string>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (typeof shard !== 'string')
      throw bad('weight-map', `the file of ${quote(name)} is ${quote(shard)}, not a string`);
    let file = shards.get(shard);
    if (file === undefined) {
      if (!staysInside(shard))
        throw bad(
          'path',
          `the file of ${quote(name)} is ${quote(shard)}, which may lead out of the checkpoint's folder`,
          'only plain relative names are opened; put the shards beside the index',
        );
      file = join(dirname(path), shard);
      if (!existsSync(file))
        throw bad('missing-shard', `the shard ${quote(shard)} does not exist`, 'finish the download');
      shards.set(shard, file);
    }
    fileOf.set(name, file);
  }
  return fileOf;
}

/** A relative path of plain names. Backslashes and drive letters are refused everywhere, not only on Windows. */
function staysInside(path: string): boolean {
  return (
    !/[\\\0:]/.test(path) && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

function readWhole(path: string): Uint8Array {
  const descriptor = openRegular(path);
  try {
    const { size } = fstatSync(descriptor);
    if (size > maxIndexBytes)
      throw new FormatError({
        code: 'checkpoint/index-size',
        file: path,
        message: `an index of ${size} bytes; at most ${maxIndexBytes} are read`,
      });
    return readAt(descriptor, path, new Uint8Array(size), 0);
  } finally {
    closeSync(descriptor);
  }
}
