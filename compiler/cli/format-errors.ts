// Malformed tensor files, and what the operating system refuses, as diagnostics.
import type { Diagnostic } from '../../ir/diagnostics.ts';
import type { FormatError } from '../../runtime/safetensors-error.ts';

/** The byte position stands where text files have line and column. */
export function formatDiagnostic(error: FormatError): Diagnostic {
  const place = error.byteOffset === undefined ? error.file : `${error.file} at byte ${error.byteOffset}`;
  const cause = error.cause as NodeJS.ErrnoException | undefined;
  if (cause?.code !== undefined && cause.syscall !== undefined)
    return { ...systemDiagnostic(cause, error.file), code: error.code };
  const start = `${place}: `;
  const whole = error.message.split('\nfix: ')[0];
  return {
    code: error.code,
    severity: 'error',
    message: whole.startsWith(start) ? whole.slice(start.length) : whole,
    label: `--> ${place}`,
    fix: error.fix ?? 'download or write the file again: it is damaged, or made by a faulty program',
  };
}

const systemReasons: Readonly<Record<string, readonly [message: string, fix: string]>> = {
  ENOENT: ['does not exist', 'check the path'],
  EACCES: ['may not be accessed', 'check the permissions'],
  EPERM: ['may not be accessed', 'check the permissions'],
  EISDIR: ['is a folder', 'give a file'],
  ENOTDIR: ['runs through a file as if it were a folder', 'check the path'],
  EEXIST: ['exists already', 'remove it or give another name'],
  ENOTEMPTY: ['is a folder that is not empty', 'remove it or give another name'],
  ENOSPC: ['cannot be written: the disk is full', 'free some space or write elsewhere'],
  EDQUOT: ['cannot be written: the quota is used up', 'free some space or write elsewhere'],
  EROFS: ['is on a read-only file system', 'write elsewhere'],
  EMFILE: ['cannot be opened: too many files are open', 'raise the limit (ulimit -n)'],
  ENAMETOOLONG: ['has a name that is too long', 'give a shorter name'],
  ELOOP: ['runs in a circle of symbolic links', 'check the path'],
};

/** What the operating system refused, in words. */
export function systemDiagnostic(
  error: NodeJS.ErrnoException,
  path: string | undefined = error.path,
): Diagnostic {
  const known = systemReasons[error.code ?? ''];
  const what = (path ?? error.syscall ?? 'a system call').replaceAll('\0', '\\0');
  return {
    code: `file/${error.code?.toLowerCase()}`,
    severity: 'error',
    message: known ? `${what} ${known[0]}` : `${what}: ${error.message}`,
    fix: known?.[1] ?? 'check that the file can be read and written',
  };
}
