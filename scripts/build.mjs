// Bundles the command line, the DSL and the PTX decoder of the stand-in libcuda into dist/, one file per entry with shared, lazily loaded chunks.
// Runs on `npm ci` (prepare), so a fresh clone has a working `npx dsvc` after one command.
import { build } from 'esbuild';
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
rmSync(join(root, 'dist'), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: {
    dsvc: 'compiler/cli/main.ts',
    dsl: 'dsl/index.ts',
    'ptx-decode': 'compiler/cli/ptx-decode.ts',
  },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  packages: 'external',
  sourcemap: 'linked',
  sourcesContent: false,
  logLevel: 'warning',
});
chmodSync(join(root, 'dist/dsvc.js'), 0o755);

// npm links the bins of dependencies only, never a package's own: link it, so that `npx dsvc` works in the clone.
const bin = join(root, 'node_modules/.bin');
if (existsSync(join(root, 'node_modules')) && process.platform !== 'win32') {
  mkdirSync(bin, { recursive: true });
  rmSync(join(bin, 'dsvc'), { force: true });
  symlinkSync('../../dist/dsvc.js', join(bin, 'dsvc'));
}
