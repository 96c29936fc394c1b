// Tests that take minutes: `npm run test:long`.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{ir,dsl,compiler,backends,runtime,examples,test}/**/*.long.test.ts'],
    maxWorkers: 2,
    testTimeout: 600_000,
  },
});
