// Modules of ours for a bench, which Node runs without a TypeScript loader.
import { build } from 'esbuild';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The repository's root. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The exports of a TypeScript text whose imports are relative to the repository's root. */
export async function load(contents) {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: root, loader: 'ts' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    write: false,
  });
  // Inside the repository, so that packages and the C++ core are found.
  mkdirSync(join(root, 'build'), { recursive: true });
  const scratch = mkdtempSync(join(root, 'build/bench-'));
  try {
    const file = join(scratch, 'bench.mjs');
    writeFileSync(file, outputFiles[0].text);
    return await import(pathToFileURL(file).href);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Where figures were taken. */
export const machine = () =>
  `machine: ${cpus()[0].model.trim()}, ${cpus().length} cores, node ${process.version}`;
