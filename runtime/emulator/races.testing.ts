// What the tests of races share: a kernel with a mistake and its twin without, run over several seeds.
import { describe, expect, test } from 'vitest';
import { Bench, type Argument, type Launch } from './async.testing.ts';
import type { Report } from './device.ts';

export interface Case {
  readonly name: string;
  readonly code: string;
  readonly severity?: 'error' | 'warning';
  /** The kernel, with the mistake or without. */
  readonly ptx: (broken: boolean) => string;
  readonly args?: (bench: Bench) => readonly Argument[];
  readonly launch?: Launch;
  /** The PTX lines of the access that is blamed and of the other one. */
  readonly at: RegExp;
  readonly other: RegExp;
  readonly fix: RegExp;
  readonly message?: RegExp;
  /** Of the twin: codes that it may have all the same. */
  readonly remains?: readonly string[];
}

const seeds = [0, 1, 2, 3, 4, 5];
const lineOf = (ptx: string, line: number): string => (ptx.split('\n')[line - 1] ?? '').trim();

const show = (ptx: string, reports: readonly Report[]): string[] =>
  reports.map((r) => `${r.severity} ${r.code} at "${lineOf(ptx, r.ptxLine)}": ${r.message}`);

/** Runs one kernel with all checks on. */
export function runChecked(c: Case, broken: boolean, seed: number): readonly Report[] {
  const bench = new Bench({ seed, checks: ['all'], stopAtError: false });
  return bench.run(c.ptx(broken), c.args?.(bench) ?? [], c.launch);
}

export function testCases(title: string, cases: readonly Case[]): void {
  describe(title, () => {
    test.each(cases)('$name', (c) => {
      const ptx = c.ptx(true);
      for (const seed of seeds) {
        const found = runChecked(c, true, seed);
        const report = found.find((r) => r.code === c.code && c.at.test(lineOf(ptx, r.ptxLine)));
        if (!report) throw new Error(`seed ${seed}: ${c.code} is missing in\n${show(ptx, found).join('\n')}`);
        expect(report.severity).toBe(c.severity ?? 'error');
        expect(report.others.map((o) => lineOf(ptx, o.ptxLine)).join()).toMatch(c.other);
        expect(report.fix).toMatch(c.fix);
        if (c.message) expect(report.message).toMatch(c.message);
      }
    });
    test.each(cases)('$name: repaired', (c) => {
      const ptx = c.ptx(false);
      for (const seed of seeds)
        expect(
          show(
            ptx,
            runChecked(c, false, seed).filter((r) => !(c.remains ?? []).includes(r.code)),
          ),
        ).toEqual([]);
    });
  });
}

/** The text when the kernel is to be right, else nothing. */
export const unless = (broken: boolean, text: string): string => (broken ? '' : text);
