// Drives the worker in child processes: one that dies or hangs costs its case, which is kept, and the next one goes on
// behind it.
import { build } from 'esbuild';
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { corpus } from './corpus.ts';
import type { Line, Totals } from './worker.ts';

const root = join(import.meta.dirname, '../../..');

export interface Tally {
  readonly cases: number;
  readonly launches: number;
  readonly outcomes: ReadonlyMap<string, number>;
  /** What went wrong, with the folder that holds the case's files. */
  readonly findings: readonly string[];
  readonly slowest: Totals['slowest'];
  readonly seconds: number;
}

export interface MutantOptions {
  /** Cases of one process. */
  readonly slice?: number;
  /** A case that says nothing for so long hangs: ordinary ones take milliseconds. */
  readonly hangSeconds?: number;
  /** Another program in the worker's place: to show that one which dies is noticed. */
  readonly worker?: string;
}

/** The worker as one file of JavaScript below the package, where it finds the core. */
async function bundleWorker(): Promise<string> {
  const file = join(root, 'build/fuzz', `worker-${process.pid}.mjs`);
  await build({
    entryPoints: [join(import.meta.dirname, 'worker.ts')],
    ...{ outfile: file, bundle: true, format: 'esm', platform: 'node', target: 'node20.19' },
    ...{ packages: 'external', logLevel: 'warning' },
  });
  return file;
}

interface Ended {
  readonly totals: Totals | null;
  readonly findings: readonly Extract<Line, { finding: unknown }>['finding'][];
  readonly how: string;
  /** The case at which it ended, when it did not come to the end. */
  readonly at: number;
}

const runWorker = (
  worker: string,
  corpusFile: string,
  folder: string,
  first: number,
  end: number,
  hangSeconds: number,
): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [worker, corpusFile, folder, String(first), String(end)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [rest, errors, hung] = ['', '', false];
    let totals: Totals | null = null;
    const findings: Ended['findings'][number][] = [];
    const at = (): number => Number(readFileSync(join(folder, 'case'), 'utf8'));
    let [last, since] = ['', Date.now()];
    const watch = setInterval(() => {
      const now = existsSync(join(folder, 'case')) ? readFileSync(join(folder, 'case'), 'utf8') : '';
      if (now !== last) [last, since] = [now, Date.now()];
      else if (Date.now() - since > 1000 * hangSeconds) {
        hung = true;
        child.kill('SIGKILL');
      }
    }, 1000);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines.map((l) => JSON.parse(l) as Line)) {
        if ('finding' in line) findings.push(line.finding);
        if ('totals' in line) totals = line.totals;
      }
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-4000)));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearInterval(watch);
      const how = hung ? `said nothing for ${hangSeconds} s` : `ended with ${signal ?? code}: ${errors}`;
      resolve({ totals, findings, how, at: totals ? end : at() });
    });
  });

/**
 * Runs cases `first` to `first + count - 1`, in slices of one process each. A case is its number: the same one makes the
 * same text, given the same corpus. Files of cases that went wrong are kept in a folder that the finding names.
 */
export async function runMutants(
  first: number,
  count: number,
  { slice = 1000, hangSeconds = 60, worker: given }: MutantOptions = {},
): Promise<Tally> {
  const start = performance.now();
  const scratch = mkdtempSync(join(tmpdir(), 'dsvc-mutants-'));
  const worker = given ?? (await bundleWorker());
  const corpusFile = join(scratch, 'corpus.json');
  writeFileSync(corpusFile, JSON.stringify(given ? [] : await corpus()));
  const outcomes = new Map<string, number>();
  const findings: string[] = [];
  let [launches, slowest] = [0, { case: -1, seconds: 0 }];
  const keep = (n: number, what: string, folder: string | null): void => {
    const kept = join(tmpdir(), `dsvc-mutant-${n}`);
    mkdirSync(kept, { recursive: true });
    for (const f of folder ? ['case.ptx', 'case.bin'] : [])
      if (existsSync(join(folder!, f))) copyFileSync(join(folder!, f), join(kept, f));
    findings.push(
      `case ${n} ${what}${folder ? `\n  its files: ${kept}` : ''}\n  again: DSVC_FUZZ_MUTANT=${n}`,
    );
  };
  try {
    for (let from = first; from < first + count;) {
      const end = Math.min(from + slice, first + count);
      const folder = mkdtempSync(join(scratch, 'run-'));
      const ended = await runWorker(worker, corpusFile, folder, from, end, hangSeconds);
      for (const f of ended.findings) keep(f.case, f.what, null);
      if (ended.totals) {
        for (const [what, n] of Object.entries(ended.totals.outcomes))
          outcomes.set(what, (outcomes.get(what) ?? 0) + n);
        launches += ended.totals.launches;
        if (ended.totals.slowest.seconds > slowest.seconds) slowest = ended.totals.slowest;
        from = end;
      } else {
        keep(ended.at, ended.how, folder);
        from = ended.at + 1;
      }
      if (findings.length >= 20) break;
    }
  } finally {
    rmSync(scratch, { recursive: true });
    if (!given) rmSync(worker, { force: true });
  }
  const seconds = (performance.now() - start) / 1000;
  return { cases: count, launches, outcomes, findings, slowest, seconds };
}

/** The tally in a line or two. */
export function showTally(t: Tally): string {
  const by = (prefix: RegExp): number =>
    [...t.outcomes].reduce((n, [what, k]) => n + (prefix.test(what) ? k : 0), 0);
  const kinds = new Set([...t.outcomes.keys()].map((k) => k.replace(/^(ran|refused) /, '')));
  return (
    `${t.cases} mutants: ${by(/^ptx\//)} with diagnostics of the PTX, ${by(/^refused/)} refused by the core, ` +
    `${t.launches} launches (${by(/^ran$/)} clean, ${by(/^ran ./)} with reports), ${kinds.size} kinds of answers; ` +
    `slowest case ${t.slowest.case} in ${t.slowest.seconds.toFixed(2)} s; ${t.seconds.toFixed(1)} s in all`
  );
}
