// What a malformed tensor file is reported as. The runtime shares no code with the compiler's diagnostics: a bundle's
// host runs without them.

export interface FormatProblem {
  /** Stable, `safetensors/what-is-wrong` or `checkpoint/what-is-wrong`. */
  readonly code: string;
  readonly file: string;
  readonly message: string;
  /** Where in the file, in bytes from its start, when one place is to blame. */
  readonly byteOffset?: number | undefined;
  /** One thing to do about it. */
  readonly fix?: string | undefined;
  readonly cause?: unknown;
}

/** A file that is not what it should be. `message` names the file, the place and the fix. */
export class FormatError extends Error {
  readonly code: string;
  readonly file: string;
  readonly byteOffset?: number;
  readonly fix?: string;

  constructor({ code, file, message, byteOffset, fix, cause }: FormatProblem) {
    const place = byteOffset === undefined ? file : `${file} at byte ${byteOffset}`;
    super(
      `${place}: ${message}${fix === undefined ? '' : `\nfix: ${fix}`}`,
      cause === undefined ? {} : { cause },
    );
    this.name = 'FormatError';
    this.code = code;
    this.file = file;
    if (byteOffset !== undefined) this.byteOffset = byteOffset;
    if (fix !== undefined) this.fix = fix;
  }
}

/** Text of any thrown value, for a message. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/**
 * A value or name from a file, short and one level deep: a hostile header must not make a message of megabytes, nor
 * overflow the stack by its nesting.
 */
export function quote(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(value.length <= 120 ? value : `${value.slice(0, 117)}...`);
  if (Array.isArray(value)) {
    const shown = value.slice(0, 8).map((item) => (typeof item === 'object' && item ? '...' : quote(item)));
    return `[${shown.join(', ')}${value.length > 8 ? `, ... ${value.length} in all` : ''}]`;
  }
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}
