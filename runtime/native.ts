// Loads the C++ core (build/native/dsvc_core.node) when it is first needed. Without it everything else works; what
// needs it says how to get it.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The core is not there, or was built for another machine. */
export class NativeMissingError extends Error {
  readonly code = 'emu/no-core';
}

// From the source folder or from dist/: the addon lies under the package's root either way.
function addonPath(): string | null {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    if (existsSync(join(folder, 'package.json'))) break;
    const parent = dirname(folder);
    if (parent === folder) return null;
    folder = parent;
  }
  const path = join(folder, 'build/native/dsvc_core.node');
  return existsSync(path) ? path : null;
}

let loaded: object | undefined;

/** True when the core is built. */
export const hasNative = (): boolean => addonPath() !== null;

/**
 * The addon's exports (runtime/core/addon.cpp).
 * @throws NativeMissingError saying what is missing.
 */
export function loadNative(): object {
  if (loaded) return loaded;
  const path = addonPath();
  if (!path)
    throw new NativeMissingError(
      'the C++ core is not built: install g++ or clang++, then run `npm run build:native`',
    );
  try {
    loaded = createRequire(import.meta.url)(path) as object;
  } catch (error) {
    throw new NativeMissingError(
      `the C++ core does not load (${(error as Error).message}): run \`npm run build:native\` again`,
    );
  }
  return loaded;
}
