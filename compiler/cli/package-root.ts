// Where the installed package lies: its version, and the DSL's sources that model files are checked against.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

let known: { root: string; version: string } | undefined;

function find(): { root: string; version: string } {
  // The same file runs from dist/ and, in tests, from compiler/cli/: the package is the first package.json above.
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const above = dirname(folder);
    if (above === folder) throw new Error('package.json is missing above the command line');
    folder = above;
  }
  const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string };
  return { root: folder, version };
}

/** The package's folder. */
export const packageRoot = (): string => (known ??= find()).root;

/** As in package.json. */
export const packageVersion = (): string => (known ??= find()).version;
