// A run of random modules: what it tried, and, of what went wrong, the smallest module with the command that runs it.
import { countOps } from '../../../compiler/pass.ts';
import type { Module } from '../../../ir/module.ts';
import { printModule } from '../../../ir/text/index.ts';
import { check, type CheckOptions, type Finding } from './check.ts';
import { randomModule } from './generate.ts';
import { shrink } from './shrink.ts';

export interface Failure {
  readonly seed: number;
  readonly finding: Finding;
  /** The smallest module that fails at the same stage, and what is wrong with it. */
  readonly module: Module;
  readonly smallest: Finding;
}

export interface Campaign {
  readonly cases: number;
  readonly failures: readonly Failure[];
  readonly ops: ReadonlyMap<string, number>;
  readonly families: ReadonlyMap<string, number>;
  readonly elements: number;
  readonly sharp: number;
  readonly seconds: number;
}

/** Checks a module and makes it small when it fails. */
export function failureOf(module: Module, options: CheckOptions = {}): Failure | null {
  const { finding } = check(module, options);
  if (!finding) return null;
  const small = shrink(module, (m) => check(m, options).finding?.stage === finding.stage);
  return {
    ...{ seed: Number(module.attributes.seed ?? 0), finding, module: small },
    smallest: check(small, options).finding ?? finding,
  };
}

/** Seeds `first` to `first + count - 1`; ends at the third failure. */
export function campaign(first: number, count: number, options: CheckOptions = {}): Campaign {
  const start = performance.now();
  const failures: Failure[] = [];
  const [ops, families] = [new Map<string, number>(), new Map<string, number>()];
  const add = (to: Map<string, number>, key: string): void => void to.set(key, (to.get(key) ?? 0) + 1);
  let [cases, elements, sharp] = [0, 0, 0];
  for (let seed = first; seed < first + count && failures.length < 3; seed++) {
    const module = randomModule(seed);
    cases++;
    for (const f of module.functions) for (const op of f.body) add(ops, op.op);
    const checked = check(module, options);
    checked.families.forEach((f) => add(families, f));
    elements += checked.elements;
    sharp += checked.sharp;
    const failure = checked.finding && failureOf(module, options);
    if (failure) failures.push(failure);
  }
  return { cases, failures, ops, families, elements, sharp, seconds: (performance.now() - start) / 1000 };
}

export const showFailure = ({ seed, finding, module, smallest }: Failure): string =>
  [
    `seed ${seed}, ${finding.stage}: ${finding.what}`,
    `made small (${countOps(module)} ops), ${smallest.stage}: ${smallest.what}`,
    `again: DSVC_FUZZ_SEED=${seed} DSVC_FUZZ_RUNS=1 npx vitest run test/fuzz/graph`,
    'or the text below in a file: DSVC_FUZZ_FILE=file.dsir npx vitest run test/fuzz/graph',
    printModule(module),
  ].join('\n');

export function showCampaign(c: Campaign): string {
  const list = (of: ReadonlyMap<string, number>): string =>
    [...of]
      .sort((a, b) => b[1] - a[1])
      .map(([name, n]) => `${name} ${n}`)
      .join(', ');
  return (
    `${c.cases} random modules (${[...c.ops.values()].reduce((a, b) => a + b, 0)} ops, ${c.ops.size} kinds; ` +
    `kernels: ${list(c.families)}): ${c.elements} elements, ${((100 * c.sharp) / Math.max(1, c.elements)).toFixed(0)} % of them ` +
    `with sharp bounds; ${c.failures.length} failures; ${c.seconds.toFixed(1)} s`
  );
}
