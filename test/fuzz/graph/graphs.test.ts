// Random modules, three ways: interpreter, passes, emulator. A hundred here; thousands in graphs.long.test.ts.
//   DSVC_FUZZ_SEED=7 DSVC_FUZZ_RUNS=1   that module alone (or so many from it on)
//   DSVC_FUZZ_FILE=small.dsir           a module from a text
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseModule, printModule } from '../../../ir/text/index.ts';
import { opNames } from '../../../ir/ops/index.ts';
import { campaign, failureOf, showCampaign, showFailure } from './campaign.ts';
import { randomModule } from './generate.ts';
import { madeOps, makers } from './makers.ts';
import { rules } from './rules.ts';

const core = existsSync(join(import.meta.dirname, '../../../build/native/dsvc_core.node'));
if (!core) console.warn('the C++ core is not built: random modules are not run');
const { DSVC_FUZZ_SEED: seed, DSVC_FUZZ_RUNS: runs, DSVC_FUZZ_FILE: file } = process.env;

describe('what can be generated', () => {
  test('every op of the table has a maker or a reason, and a rule for its ends', () => {
    expect(Object.keys(makers).sort()).toEqual([...opNames()].sort());
    expect(Object.keys(rules).sort()).toEqual([...opNames()].sort());
    for (const m of Object.values(makers))
      if (typeof m !== 'function') expect(m.not.length).toBeGreaterThan(20);
  });

  test('a seed gives the same module always, and its text is the module', () => {
    for (let n = 0; n < 20; n++) {
      const text = printModule(randomModule(n));
      expect(printModule(randomModule(n))).toBe(text);
      expect(printModule(parseModule(text, 'm.dsir').module!)).toBe(text);
    }
  });

  test('a few hundred modules hold every op', () => {
    const seen = new Set<string>();
    for (let n = 0; n < 400; n++)
      for (const f of randomModule(n).functions) for (const op of f.body) seen.add(op.op);
    expect([...madeOps, 'call', 'repeat'].filter((op) => !seen.has(op))).toEqual([]);
  });
});

test.skipIf(!core || file !== undefined)('random modules', { timeout: 600_000 }, () => {
  const c = campaign(Number(seed ?? 0), Number(runs ?? 100));
  console.log(showCampaign(c));
  if (c.failures.length > 0) expect.fail(c.failures.map(showFailure).join('\n\n'));
  // Else nothing would be compared.
  if (seed === undefined) expect(c.sharp).toBeGreaterThan(0.9 * c.elements);
});

test.skipIf(!core || file === undefined)('the module of DSVC_FUZZ_FILE', () => {
  const { module, diagnostics } = parseModule(readFileSync(file!, 'utf8'), file!);
  expect(diagnostics).toEqual([]);
  const failure = failureOf(module!);
  if (failure) expect.fail(showFailure(failure));
});
