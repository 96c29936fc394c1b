// Sound schedules are accepted: everything that generators make, and the recorded ones of DeepSeek's own code.
import * as fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { renderDiagnostic } from '../../ir/diagnostics.ts';
import type { Schedule } from '../../ir/schedule.ts';
import { parseModule, printSchedule } from '../../ir/text/index.ts';
import { makeSchedule, schedulerNamed, schedulers } from './make.ts';
import { neededOrders } from './phases.ts';
import { fromTokens } from './tokens.ts';
import { verifySchedule } from './verify.ts';
import { harm } from './verify/machine.testing.ts';
import { orderNeeds } from './verify/needs.ts';

interface Recorded {
  readonly schedule: 'DualPipe' | 'DualPipeV';
  readonly ranks: number;
  readonly num_chunks: number;
  readonly ops: readonly string[];
}

const recorded = Object.entries(
  JSON.parse(readFileSync('test/golden/dualpipe_schedules.json', 'utf8')) as Record<string, Recorded>,
);

const legalMicroBatches = (kind: string, ranks: number): fc.Arbitrary<number> =>
  fc
    .integer({ min: 1, max: 4 * ranks + 6 })
    .filter((microBatches) => schedulerNamed(kind).refuse(ranks, microBatches) === null);

describe('accepts', () => {
  test.each(schedulers.map((s) => s.name))('%s on any even number of ranks', (kind) => {
    const sizes = fc
      .integer({ min: 1, max: 16 })
      .chain((half) => fc.tuple(fc.constant(2 * half), legalMicroBatches(kind, 2 * half)));
    fc.assert(
      fc.property(sizes, ([ranks, microBatches]) => {
        expect(verifySchedule(makeSchedule(kind, { ranks, microBatches }))).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  test.each(recorded)('the recorded %s', (_, { schedule, ranks, num_chunks, ops }) => {
    const made = makeSchedule(schedule.toLowerCase(), { ranks, microBatches: num_chunks });
    const programs = made.programs.map((p, rank) => ({ ...p, ops: fromTokens(ops[rank]) }));
    expect(verifySchedule({ ...made, programs })).toEqual([]);
  });

  test.each(schedulers.map((s) => s.name))('%s, which computes what one rank alone would', (kind) => {
    for (const [ranks, microBatches] of [
      [2, 4],
      [4, 10],
      [6, 14],
    ]) {
      const schedule = makeSchedule(kind, { ranks, microBatches });
      expect(harm(schedule, 'async')).toBe(null);
      expect(harm(schedule, 'blocking')).toBe(null);
    }
  });
});

test('accepts a long run on many ranks', () => {
  const schedule = makeSchedule('dualpipe', { ranks: 64, microBatches: 1000 });
  expect(schedule.programs.reduce((sum, p) => sum + p.ops.length, 0)).toBeGreaterThan(300_000);
  expect(verifySchedule(schedule)).toEqual([]);
});

test('an order is needed where a generator makes one', () => {
  const layer = (name: string) => ({
    name,
    phases: [{ name: 'all', stream: 'compute' as const, weights: true }],
    span: { file: '', line: 0, column: 0, endLine: 0, endColumn: 0 },
  });
  const runs = fc
    .array(fc.record({ layer: fc.constantFrom('a', 'b', 'c'), count: fc.integer({ min: 1, max: 3 }) }), {
      minLength: 1,
      maxLength: 3,
    })
    .map((layers) => ({ layers, span: layer('a').span }));
  const kindAndStages = fc.constantFrom('dualpipe', 'dualpipev', 'zb1p', '1f1b').chain((kind) =>
    fc.tuple(
      fc.constant(kind),
      fc.array(runs, {
        minLength: kind === 'dualpipev' ? 8 : 4,
        maxLength: kind === 'dualpipev' ? 8 : 4,
      }),
    ),
  );
  fc.assert(
    fc.property(kindAndStages, ([kind, stages]) => {
      const layers = ['a', 'b', 'c'].map(layer);
      const schedule = makeSchedule(kind, { ranks: 4, microBatches: 8, layers, stages });
      const keys = (orders: Iterable<Pick<Schedule['orders'][number], 'op' | 'layers'>>): string[] =>
        [...orders].map((o) => `${o.op} ${o.layers.join(' ')}`).sort();
      expect(keys(orderNeeds(schedule).values())).toEqual(keys(neededOrders(schedule.programs, stages)));
      expect(verifySchedule(schedule)).toEqual([]);
    }),
    { numRuns: 40 },
  );
});

test('a schedule edited as text is refused at the line of the edit', () => {
  const text = `dsir 1\nmodule @m {\n${printSchedule(makeSchedule('dualpipe', { ranks: 4, microBatches: 8 }))}}\n`;
  const check = (edited: string): string[] => {
    const { module, diagnostics } = parseModule(edited, 'edited.dsir');
    expect(diagnostics).toEqual([]);
    return verifySchedule(module!.schedules[0]).map((d) => renderDiagnostic(d, { sourceOf: () => edited }));
  };
  expect(check(text)).toEqual([]);
  expect(check(text.replace('send activations d0 m1 -> 2', 'send activations d0 m1 -> 3'))).toMatchSnapshot();
  expect(check(text.replace(/^ *weights d1 m0\n/m, ''))).toMatchSnapshot();
});
