// 1,000 broken PTX files through parser, decoder, loader and launch: diagnostics, a refusal or a run, and nothing else.
// DSVC_FUZZ_MUTANT=N runs case N alone; 10,000 run in mutants.long.test.ts.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runMutants, showTally } from './mutants.ts';

const core = existsSync(join(import.meta.dirname, '../../../build/native/dsvc_core.node'));
if (!core) console.warn('the C++ core is not built: no PTX is mutated');
const only = process.env.DSVC_FUZZ_MUTANT;

test.skipIf(!core)(
  only === undefined ? '1,000 mutated PTX files' : `mutant ${only}`,
  async () => {
    const tally = await (only === undefined ? runMutants(0, 1000) : runMutants(Number(only), 1));
    console.log(showTally(tally));
    expect(tally.findings).toEqual([]);
    if (only !== undefined) return;
    // Else nothing but the parser would be tried.
    expect(tally.launches).toBeGreaterThan(200);
    expect(tally.outcomes.size).toBeGreaterThan(20);
  },
  120_000,
);

test('a process that dies or hangs is a finding, with the case that it died of', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dsvc-mutants-'));
  const worker = join(folder, 'worker.mjs');
  writeFileSync(
    worker,
    `import { writeFileSync } from 'node:fs';
     const [, folder, first, end] = process.argv.slice(2);
     for (let n = Number(first); n < Number(end); n++) {
       writeFileSync(folder + '/case.ptx', 'text ' + n);
       writeFileSync(folder + '/case', String(n));
       if (n === 900003) process.abort();
       if (n === 900005) for (;;);
     }
     const slowest = { case: 0, seconds: 0 };
     console.log(JSON.stringify({ totals: { outcomes: { ran: 1 }, launches: 1, slowest } }));`,
  );
  try {
    const { findings, launches } = await runMutants(900_000, 10, { worker, hangSeconds: 2 });
    expect(findings.map((f) => f.split('\n')[0].replace(/: .*/, ''))).toEqual([
      'case 900003 ended with SIGABRT',
      'case 900005 said nothing for 2 s',
    ]);
    // What came after them was run.
    expect(launches).toBe(1);
    for (const [n, finding] of [900003, 900005].map((n, i) => [n, findings[i]] as const)) {
      const kept = /its files: (.*)/.exec(finding)![1];
      expect(readFileSync(join(kept, 'case.ptx'), 'utf8')).toBe(`text ${n}`);
      rmSync(kept, { recursive: true });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
