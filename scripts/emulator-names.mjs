// Writes runtime/core/emulator/names.inc, the C++ side's list of mnemonics, modifiers and special registers, from
// backends/ptx/decode/names.ts. Run it after adding a name; a test compares the two.
import { buildSync } from 'esbuild';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const scratch = mkdtempSync(join(tmpdir(), 'dsvc-names-'));
try {
  // Node 20 does not read TypeScript itself.
  const outfile = join(scratch, 'names.mjs');
  buildSync({ entryPoints: [join(root, 'backends/ptx/decode/names.ts')], outfile, format: 'esm' });
  const { namesInclude } = await import(pathToFileURL(outfile).href);
  const target = join(root, 'runtime/core/emulator/names.inc');
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, namesInclude());
} finally {
  rmSync(scratch, { recursive: true });
}
