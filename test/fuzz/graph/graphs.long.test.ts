// Thousands of random modules, three ways. Prints how many of what kind there were; a failure comes as the smallest module
// that shows it.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { campaign, showCampaign, showFailure } from './campaign.ts';
import { madeOps } from './makers.ts';

const core = existsSync(join(import.meta.dirname, '../../../build/native/dsvc_core.node'));
const [first, count] = [
  Number(process.env.DSVC_FUZZ_SEED ?? 10_000),
  Number(process.env.DSVC_FUZZ_RUNS ?? 2000),
];

test.skipIf(!core)(`${count} random modules from seed ${first}`, { timeout: 3_600_000 }, () => {
  const c = campaign(first, count);
  console.log(showCampaign(c));
  if (c.failures.length > 0) expect.fail(c.failures.map(showFailure).join('\n\n'));
  if (process.env.DSVC_FUZZ_RUNS !== undefined) return;
  expect(madeOps.filter((op) => !c.ops.has(op))).toEqual([]);
  for (const family of ['loops', 'gemm', 'attention', 'routing', 'state'])
    expect(c.families.get(family) ?? 0, family).toBeGreaterThan(20);
  expect(c.sharp).toBeGreaterThan(0.9 * c.elements);
});
