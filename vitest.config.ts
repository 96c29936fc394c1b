import { existsSync } from 'node:fs';
import { configDefaults, defineConfig } from 'vitest/config';

// Without a C++ compiler at install there is no core, and what runs it cannot be tested.
const core = existsSync(new URL('build/native/dsvc_core.node', import.meta.url));
if (!core)
  console.warn('the C++ core is not built (install g++ or clang++): the tests that run it are skipped');
const needsCore = [
  'runtime/emulator/{core,async}-*.test.ts',
  'runtime/emulator/tensor-{mma,mma-special,wgmma,matrix,flight,gemm}.test.ts',
];

export default defineConfig({
  test: {
    include: ['{ir,dsl,compiler,backends,runtime,examples,test}/**/*.test.ts'],
    exclude: [...configDefaults.exclude, '**/*.long.test.ts', ...(core ? [] : needsCore)],
    // Two cores everywhere: two workers, and generous limits because ts-morph and ptxas are slow to start.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
