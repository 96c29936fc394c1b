// 10,000 broken PTX files through parser, decoder, loader and launch: no crash, no hang.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runMutants, showTally } from './mutants.ts';

const core = existsSync(join(import.meta.dirname, '../../../build/native/dsvc_core.node'));

test.skipIf(!core)('10,000 mutated PTX files', { timeout: 3_600_000 }, async () => {
  const tally = await runMutants(100_000, 10_000);
  console.log(showTally(tally));
  expect(tally.findings).toEqual([]);
  expect(tally.launches).toBeGreaterThan(2000);
  expect(tally.outcomes.size).toBeGreaterThan(30);
});
