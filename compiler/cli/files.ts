// What a command reads and writes. Outputs appear whole or not at all: they are written beside their place and renamed.
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  type Stats,
} from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fail } from '../../ir/diagnostics.ts';
import { onInterrupt } from './interrupt.ts';
import { badUsage } from './names.ts';

/** Text inputs beyond this are no models, configs or IR; reading them would only exhaust memory. */
const maxTextBytes = 256 * 2 ** 20;

/** What diagnostics call standard input. */
export const stdinName = '<stdin>';

/**
 * A text file, or standard input for `-`. Throws DiagnosticError `file/not-found`, `file/not-a-file`, `file/too-large`,
 * `file/not-text` (NUL bytes: something binary).
 */
export function readText(path: string, what: string): string {
  const bytes = path === '-' ? readFileSync(0) : readRegular(path, what);
  if (bytes.includes(0))
    fail({
      code: 'file/not-text',
      message: `${path === '-' ? stdinName : path} is not text: byte ${bytes.indexOf(0)} is 0`,
      fix: `give ${what}`,
    });
  return bytes.toString('utf8');
}

function readRegular(path: string, what: string): Buffer {
  requireFile(path, what);
  const { size } = statSync(path);
  if (size > maxTextBytes)
    fail({
      code: 'file/too-large',
      message: `${path} has ${size} bytes; at most ${maxTextBytes} are read`,
      fix: `give ${what}`,
    });
  return readFileSync(path);
}

/** What stands at a path; undefined when nothing does, also because a folder of it is a file. */
function look(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Throws unless `path` is a file that exists. Codes as readText. */
export function requireFile(path: string, what: string): void {
  if (path.includes('\0')) badUsage('path', 'a path holds a NUL character', `give ${what}`);
  const found = look(path);
  if (!found) fail({ code: 'file/not-found', message: `${path} does not exist`, fix: `give ${what}` });
  // Devices and pipes (process substitution) are fine to read; folders are not.
  if (found.isDirectory())
    fail({ code: 'file/not-a-file', message: `${path} is a folder`, fix: `give ${what}` });
}

/** Both paths lead to one file or folder. */
export function samePlace(a: string, b: string): boolean {
  const real = (path: string): string => {
    try {
      return realpathSync(path);
    } catch {
      return resolve(path);
    }
  };
  return real(a) === real(b);
}

/** Refuses an output that would replace an input. Throws UsageError `usage/output-is-input`. */
export function refuseSame(output: string, inputs: readonly string[]): void {
  for (const input of inputs)
    if (input !== '-' && output !== '-' && samePlace(output, input))
      badUsage('output-is-input', `the output ${output} is also the input ${input}`, 'write to another file');
}

const temporaryName = (path: string): string =>
  join(dirname(path), `.${basename(path)}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`);

/** Throws unless a file could be written there, before any work is done. Codes `file/not-found`, `file/not-a-file`. */
export function checkWritable(path: string): void {
  const folder = dirname(path);
  const found = look(folder);
  if (!found)
    fail({
      code: 'file/not-found',
      message: `the folder ${folder} does not exist`,
      fix: `create it: mkdir -p ${folder}`,
    });
  if (!found.isDirectory())
    fail({ code: 'file/not-a-folder', message: `${folder} is not a folder`, fix: 'give another output' });
  if (look(path)?.isDirectory())
    fail({
      code: 'file/not-a-file',
      message: `the output ${path} is a folder`,
      fix: 'give the name of a file',
    });
}

/** Writes a text product to a file, or to standard output for `-`. */
export async function writeProduct(path: string, text: string): Promise<void> {
  if (path === '-') {
    await new Promise<void>((done) => process.stdout.write(text, () => done()));
    return;
  }
  checkWritable(path);
  // A device or pipe is written to, not replaced.
  if (existsSync(path) && !statSync(path).isFile()) {
    writeFileSync(path, text);
    return;
  }
  const temporary = temporaryName(path);
  const forget = onInterrupt(() => rmSync(temporary, { force: true }));
  try {
    writeFileSync(temporary, text, { flag: 'wx' });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    forget();
  }
}

/** Files of a bundle that its manifest does not list: itself, and what only some flags add. */
const unlisted = /^(bundle\.json|timing\.json|keep\/.*)$/;

/** What in a folder no bundle put there; everything, when there is no manifest that says what belongs to it. */
function strangers(folder: string): readonly string[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((f) => !f.isDirectory())
    .map((f) => relative(folder, join(f.parentPath, f.name)).replaceAll('\\', '/'));
  let listed: readonly string[] = [];
  try {
    const manifest = JSON.parse(readFileSync(join(folder, 'bundle.json'), 'utf8')) as { files?: object };
    listed = Object.keys(manifest.files ?? {});
  } catch {
    return files;
  }
  return files.filter((f) => !unlisted.test(f) && !listed.includes(f));
}

/**
 * Throws unless a bundle may be put at `folder`: nothing there, an empty folder, or an older bundle and nothing else;
 * and its parent is a folder. Replacing it must not take an input or a dump folder (`inside`) away.
 * Codes `bundle/would-replace`, `file/not-a-folder`, UsageError `usage/output-is-input`.
 */
export function checkBundlePlace(folder: string, inside: readonly string[] = []): void {
  const found = look(folder);
  if (found && !found.isDirectory())
    fail({
      code: 'file/not-a-folder',
      message: `the output ${folder} is a file`,
      fix: 'give the name of a folder',
    });
  for (const path of inside)
    if (!relative(resolve(folder), resolve(path)).startsWith('..'))
      badUsage(
        'output-is-input',
        `${path} lies in the output ${folder}, which is replaced as a whole`,
        'give another -o',
      );
  const has = found ? strangers(folder).toSorted() : [];
  if (has.length > 0)
    fail({
      code: 'bundle/would-replace',
      message: `${folder} exists and holds what is no part of a bundle: ${has.slice(0, 3).join(', ')}${has.length > 3 ? ', …' : ''}`,
      fix: 'give a new folder, or empty this one',
    });
  let parent = dirname(resolve(folder));
  while (!existsSync(parent)) parent = dirname(parent);
  if (!statSync(parent).isDirectory())
    fail({ code: 'file/not-a-folder', message: `${parent} is not a folder`, fix: 'give another output' });
}

/**
 * Writes a folder of files at once: into a new folder beside it, renamed at the end. What was there (checked by
 * checkBundlePlace) goes. Keys are relative paths with `/`.
 */
export function writeFolder(folder: string, files: ReadonlyMap<string, string | Uint8Array>): void {
  checkBundlePlace(folder);
  const place = resolve(folder);
  mkdirSync(dirname(place), { recursive: true });
  const temporary = temporaryName(place);
  const old = `${temporary}.old`;
  const forget = onInterrupt(() => rmSync(temporary, { recursive: true, force: true }));
  try {
    mkdirSync(temporary);
    for (const [name, content] of files) {
      const path = join(temporary, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
    }
    const replaces = existsSync(place);
    if (replaces) renameSync(place, old);
    try {
      renameSync(temporary, place);
    } catch (error) {
      if (replaces) renameSync(old, place);
      throw error;
    }
    rmSync(old, { recursive: true, force: true });
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  } finally {
    forget();
  }
}
