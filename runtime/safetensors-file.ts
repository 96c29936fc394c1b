// One safetensors file, read tensor by tensor with positioned reads: a 700 GB checkpoint never has to fit memory.
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { FormatError, quote, reason } from './safetensors-error.ts';
import { parseHeader, parseHeaderLength, type Header, type TensorInfo } from './safetensors-header.ts';

/** Linux moves at most 2 GiB per call; smaller pieces cost nothing measurable. */
const readPiece = 2 ** 30;

export class SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  #descriptor: number | undefined;

  private constructor(path: string, descriptor: number, header: Header) {
    this.path = path;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#descriptor = descriptor;
  }

  /**
   * Opens the file and checks its whole header against the file's size; reads no tensor. Close it after use.
   * Throws FormatError `safetensors/cannot-open`, or what is malformed.
   */
  static open(path: string): SafetensorsFile {
    const descriptor = openRegular(path);
    try {
      const { size } = fstatSync(descriptor);
      const prefix = readAt(descriptor, path, new Uint8Array(Math.min(8, size)), 0);
      const header = new Uint8Array(parseHeaderLength(prefix, path, size));
      readAt(descriptor, path, header, 8);
      return new SafetensorsFile(path, descriptor, parseHeader(header, path, size));
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  /** The tensor's dtype, shape and place. Throws FormatError `safetensors/no-such-tensor`. */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info === undefined) throw noSuchTensor(this.path, name);
    return info;
  }

  /**
   * The tensor's bytes, row-major and little-endian; into `into` if given, which must have exactly their length
   * (else a RangeError). Reads nothing but that tensor. Throws FormatError `safetensors/no-such-tensor`,
   * `/truncated` if the file has shrunk, `/read` if the system cannot read.
   */
  read(name: string, into?: Uint8Array): Uint8Array {
    const { begin, end } = this.info(name);
    return this.readRange(name, 0, end - begin, into);
  }

  /**
   * Some of the tensor's bytes, counted from its first: to read a slice of rows. Throws a RangeError if they reach
   * beyond the tensor, otherwise as `read`.
   */
  readRange(name: string, byteOffset: number, byteLength: number, into?: Uint8Array): Uint8Array {
    const { begin, end } = this.info(name);
    const whole = Number.isSafeInteger(byteOffset) && Number.isSafeInteger(byteLength);
    if (!whole || byteOffset < 0 || byteLength < 0 || byteOffset + byteLength > end - begin)
      throw new RangeError(
        `bytes ${byteOffset} to ${byteOffset + byteLength} are not all in ${quote(name)}, which has ${end - begin}`,
      );
    if (into !== undefined && into.length !== byteLength)
      throw new RangeError(`${quote(name)}: ${byteLength} bytes do not fit a buffer of ${into.length}`);
    if (this.#descriptor === undefined) throw new Error(`${this.path} was read after it was closed`);
    return readAt(this.#descriptor, this.path, into ?? new Uint8Array(byteLength), begin + byteOffset);
  }

  /** Lets go of the file. Closing twice is allowed; reading afterwards is an error. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}

export function noSuchTensor(file: string, name: string): FormatError {
  return new FormatError({
    code: 'safetensors/no-such-tensor',
    file,
    message: `there is no tensor ${quote(name)}`,
    fix: 'check the name against the names in the file; official names end in .weight, .bias or .weight_scale_inv',
  });
}

/** Opens for reading. Regular files only, looked at first: opening a pipe would wait for a writer forever. */
export function openRegular(path: string): number {
  const cannot = (message: string, cause?: unknown): FormatError =>
    new FormatError({ code: 'safetensors/cannot-open', file: path, message, cause });
  try {
    if (statSync(path).isFile()) return openSync(path, 'r');
  } catch (error) {
    throw cannot(`cannot be opened: ${reason(error)}`, error);
  }
  throw cannot('is not a regular file');
}

/** Fills `into` from `position`, or throws. */
export function readAt(descriptor: number, file: string, into: Uint8Array, position: number): Uint8Array {
  for (let done = 0; done < into.length;) {
    let got: number;
    try {
      got = readSync(descriptor, into, done, Math.min(readPiece, into.length - done), position + done);
    } catch (error) {
      throw new FormatError({
        code: 'safetensors/read',
        file,
        byteOffset: position + done,
        message: `cannot be read: ${reason(error)}`,
        cause: error,
      });
    }
    if (got === 0)
      throw new FormatError({
        code: 'safetensors/truncated',
        file,
        byteOffset: position + done,
        message: 'the file has become shorter since it was opened',
      });
    done += got;
  }
  return into;
}
