// `npm run bench:schedule`: making, verifying and simulating long pipeline schedules. Prints figures with the machine.
import { build } from 'esbuild';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const scratch = mkdtempSync(join(tmpdir(), 'dsvc-bench-'));
const entry = `export { makeSchedule } from './compiler/schedule/make.ts';
export { parseOpCosts } from './compiler/schedule/costs.ts';
export { parsePhaseCosts } from './compiler/schedule/phase-costs.ts';
export { simulate, simulatePhases } from './compiler/schedule/simulate.ts';
export { verifySchedule } from './compiler/schedule/verify.ts';`;
const { outputFiles } = await build({
  stdin: { contents: entry, resolveDir: root, loader: 'ts' },
  bundle: true,
  format: 'esm',
  platform: 'node',
  write: false,
});
const file = join(scratch, 'schedule.mjs');
writeFileSync(file, outputFiles[0].text);
const { makeSchedule, parseOpCosts, parsePhaseCosts, simulate, simulatePhases, verifySchedule } =
  await import(pathToFileURL(file).href);
rmSync(scratch, { recursive: true });

const ops = parseOpCosts('F=1,B=2,I=1,W=1,FB=3');
const phases = parsePhaseCosts(readFileSync(join(root, 'examples/costs/deepseek-v3-h800.json'), 'utf8'));

/** Milliseconds of the first run, which a command pays, and of the best. */
const time = (run, runs = 5) => {
  const all = [];
  for (let i = 0; i < runs; i++) {
    const start = performance.now();
    run();
    all.push(performance.now() - start);
  }
  return `${all[0].toFixed(0)} ms (best of ${runs}: ${Math.min(...all).toFixed(0)})`;
};

console.log(`machine: ${cpus()[0].model.trim()}, ${cpus().length} cores, node ${process.version}`);
for (const [kind, ranks, microBatches] of [
  ['dualpipe', 64, 1000],
  ['dualpipev', 64, 1000],
  ['zb1p', 64, 1000],
  ['1f1b', 64, 1000],
]) {
  const say = (what, figure) => console.log(`  ${what.padEnd(22)}${figure}`);
  let schedule;
  const made = time(() => (schedule = makeSchedule(kind, { ranks, microBatches })));
  const count = schedule.programs.reduce((n, p) => n + p.ops.length, 0);
  console.log(`${kind}, ${ranks} ranks, ${microBatches} micro-batches: ${count} operations`);
  say('make', made);
  const verify = () => {
    const wrong = verifySchedule(schedule);
    if (wrong.length > 0) throw new Error(wrong[0].message);
  };
  say('verify', time(verify));
  for (const transfer of ['async', 'blocking']) {
    say(
      `simulate, ${transfer}`,
      time(() => simulate(schedule, { costs: ops, transfer })),
    );
    say(
      `by phases, ${transfer}`,
      time(() => simulatePhases(schedule, { costs: phases, transfer }), 2),
    );
  }
}
