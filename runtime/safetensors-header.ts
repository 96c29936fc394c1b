// The safetensors header: eight bytes of length, then JSON that gives each tensor a dtype, a shape and a byte range
// of the data that follows. Nothing in it is believed before it is checked; nothing is allocated by its word alone.
// Format: https://github.com/huggingface/safetensors (README, "Format").
import { FormatError, quote } from './safetensors-error.ts';
import { isRecord, parseStrictJson } from './safetensors-json.ts';

export type SafetensorsDType =
  | 'F64'
  | 'F32'
  | 'F16'
  | 'BF16'
  | 'F8_E4M3'
  | 'F8_E5M2'
  | 'I64'
  | 'I32'
  | 'I16'
  | 'I8'
  | 'U64'
  | 'U32'
  | 'U16'
  | 'U8'
  | 'BOOL';

/** Bytes per element. */
export const elementBytes: Readonly<Record<SafetensorsDType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
};

export interface TensorInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /** First byte, from the start of the file. */
  readonly begin: number;
  /** One past the last byte, from the start of the file. */
  readonly end: number;
}

export interface Header {
  /** In the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` entry; empty if there is none. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** The name that holds metadata and so can name no tensor. */
export const metadataName = '__metadata__';

/** The format's own limit, which keeps a hostile length from making us parse gigabytes. */
export const maxHeaderBytes = 100_000_000;

export function isSafetensorsDType(dtype: unknown): dtype is SafetensorsDType {
  return typeof dtype === 'string' && Object.hasOwn(elementBytes, dtype);
}

/**
 * The header's length from the file's first eight bytes (fewer if the file is shorter).
 * Throws FormatError `safetensors/empty-file`, `/truncated`, `/header-length`.
 */
export function parseHeaderLength(prefix: Uint8Array, file: string, fileBytes: number): number {
  if (fileBytes === 0)
    throw new FormatError({
      code: 'safetensors/empty-file',
      file,
      message: 'the file is empty',
      fix: 'download or write it again',
    });
  if (prefix.length < 8)
    throw new FormatError({
      code: 'safetensors/truncated',
      file,
      byteOffset: 0,
      message: `a safetensors file starts with 8 bytes of header length; this file has ${fileBytes} in all`,
      fix: 'download or write it again',
    });
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  const bad = (message: string): FormatError =>
    new FormatError({
      code: 'safetensors/header-length',
      file,
      byteOffset: 0,
      message,
      fix: 'check that this is a complete safetensors file and no other format',
    });
  if (length < 2n) throw bad(`a header of ${length} bytes cannot hold even {}`);
  if (length > BigInt(fileBytes - 8))
    throw bad(`the header claims ${length} bytes, but only ${fileBytes - 8} follow`);
  if (length > BigInt(maxHeaderBytes))
    throw bad(`the header claims ${length} bytes; the format allows ${maxHeaderBytes}`);
  return Number(length);
}

/**
 * Checks a whole header. `bytes` is the JSON alone; it starts at byte 8 of a file of `fileBytes` bytes.
 * Throws FormatError: see each check below.
 */
export function parseHeader(bytes: Uint8Array, file: string, fileBytes: number): Header {
  if (bytes[0] !== 0x7b)
    throw new FormatError({
      code: 'safetensors/not-an-object',
      file,
      byteOffset: 8,
      message: 'the header does not start with {',
      fix: 'check that this is a safetensors file and no other format',
    });
  const { value, offsetOf } = parseStrictJson(bytes, file, 'safetensors', 8);
  const dataStart = 8 + bytes.length;
  const metadata = new Map<string, string>();
  const entries: [string, TensorInfo][] = [];
  for (const [name, entry] of Object.entries(value)) {
    const bad = (code: string, message: string): never => {
      throw new FormatError({ code: `safetensors/${code}`, file, byteOffset: offsetOf(name), message });
    };
    if (name !== metadataName) {
      entries.push([name, parseTensor(name, entry, dataStart, fileBytes, bad)]);
      continue;
    }
    if (!isRecord(entry)) return bad('metadata', `${metadataName} is not an object`);
    for (const [key, text] of Object.entries(entry)) {
      if (typeof text !== 'string') return bad('metadata', `metadata ${quote(key)} is not a string`);
      metadata.set(key, text);
    }
  }
  entries.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  checkCoverage(entries, file, dataStart, fileBytes, offsetOf);
  return { tensors: new Map(entries), metadata };
}

type Bad = (code: string, message: string) => never;

function parseTensor(
  name: string,
  entry: unknown,
  dataStart: number,
  fileBytes: number,
  bad: Bad,
): TensorInfo {
  const who = `tensor ${quote(name)}`;
  if (!isRecord(entry)) return bad('field', `${who} is ${quote(entry)}, not an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string') return bad('field', `${who} has no dtype, or one that is not a string`);
  if (!isSafetensorsDType(dtype))
    return bad(
      'dtype',
      `${who} has the unknown dtype ${quote(dtype)}; known are ${Object.keys(elementBytes).join(' ')}`,
    );
  if (!isShape(shape))
    return bad('shape', `${who} has the shape ${quote(shape)}, not a list of whole numbers >= 0`);
  const bytes = tensorBytes(dtype, shape);
  if (bytes === undefined)
    return bad('shape', `${who} of shape ${quote(shape)} has too many elements to count`);
  if (!isShape(offsets) || offsets.length !== 2)
    return bad('field', `${who} has the data_offsets ${quote(offsets)}, not two whole numbers >= 0`);
  const begin = offsets[0]!;
  const end = offsets[1]!;
  if (begin > end) return bad('offsets', `${who} ends at ${end}, before it begins at ${begin}`);
  if (end - begin !== bytes)
    return bad(
      'size',
      `${who} is ${dtype} ${quote(shape)}, ${bytes} bytes, but has ${end - begin} bytes of data`,
    );
  if (end > fileBytes - dataStart)
    return bad(
      'truncated',
      `${who} ends at byte ${end} of the data, but the file has only ${fileBytes - dataStart}`,
    );
  return { dtype, shape: Object.freeze(shape), begin: dataStart + begin, end: dataStart + end };
}

/** A list of safe integers >= 0. */
export function isShape(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0 && !Object.is(n, -0));
}

/** Bytes of a dense tensor; undefined if the count is not exact, also where a later zero would hide that. */
export function tensorBytes(dtype: SafetensorsDType, shape: readonly number[]): number | undefined {
  let bytes = elementBytes[dtype];
  let empty = false;
  for (const n of shape) {
    if (n === 0) empty = true;
    else bytes *= n;
    if (!Number.isSafeInteger(bytes)) return undefined;
  }
  return empty ? 0 : bytes;
}

/** Every byte of the data belongs to exactly one tensor: the format forbids overlaps, holes and a tail. */
function checkCoverage(
  entries: readonly [string, TensorInfo][],
  file: string,
  dataStart: number,
  fileBytes: number,
  offsetOf: (name: string) => number | undefined,
): void {
  let covered = dataStart;
  let previous = '';
  for (const [name, { begin, end }] of entries) {
    if (begin !== covered)
      throw new FormatError({
        code: begin < covered ? 'safetensors/overlap' : 'safetensors/hole',
        file,
        byteOffset: offsetOf(name),
        message:
          begin < covered
            ? `tensors ${quote(previous)} and ${quote(name)} share bytes`
            : `${begin - covered} bytes before tensor ${quote(name)} belong to no tensor`,
      });
    covered = end;
    previous = name;
  }
  if (covered !== fileBytes)
    throw new FormatError({
      code: 'safetensors/trailing-bytes',
      file,
      byteOffset: covered,
      message: `${fileBytes - covered} bytes after the last tensor belong to no tensor`,
      fix: 'write the file again: two files may have been joined, or the header replaced',
    });
}
