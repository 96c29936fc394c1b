import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { configDefaults, defineConfig } from 'vitest/config';

const emulator = 'runtime/emulator';

/** True when a file of the emulator's room loads the C++ core, itself or through what it imports there. */
function loadsCore(file: string, seen = new Set<string>()): boolean {
  if (file.endsWith('load-core.ts')) return true;
  if (seen.has(file) || !existsSync(file)) return false;
  seen.add(file);
  const imports = [...readFileSync(file, 'utf8').matchAll(/ from '(\.[^']+)'/g)].map((m) =>
    join(dirname(file), m[1]),
  );
  return imports.some((path) => path.startsWith(emulator) && loadsCore(path, seen));
}

// Without a C++ compiler at install there is no core, and what runs it cannot be tested. Tests elsewhere skip for themselves.
const core = existsSync(new URL('build/native/dsvc_core.node', import.meta.url));
if (!core)
  console.warn('the C++ core is not built (install g++ or clang++): the tests that run it are skipped');
const needCore = core
  ? []
  : readdirSync(emulator)
      .filter((name) => name.endsWith('.test.ts') && loadsCore(join(emulator, name)))
      .map((name) => `${emulator}/${name}`);

export default defineConfig({
  test: {
    include: ['{ir,dsl,compiler,backends,runtime,examples,test}/**/*.test.ts'],
    exclude: [...configDefaults.exclude, '**/*.long.test.ts', ...needCore],
    // Two cores everywhere: two workers, and generous limits because ts-morph and ptxas are slow to start.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
