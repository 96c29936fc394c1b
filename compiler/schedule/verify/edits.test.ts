// Single edits of sound schedules, all of them for small sizes: a schedule is accepted exactly when running it, with
// asynchronous and with blocking transfers, does no harm (machine.testing.ts says what harm is).
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isCompute, type Schedule, type ScheduleOp } from '../../../ir/schedule.ts';
import { makeSchedule } from '../make.ts';
import { toToken } from '../tokens.ts';
import { verifySchedule } from '../verify.ts';
import { harm } from './machine.testing.ts';

const withOps = (schedule: Schedule, rank: number, ops: readonly ScheduleOp[]): Schedule => ({
  ...schedule,
  programs: schedule.programs.map((p, r) => (r === rank ? { ...p, ops } : p)),
});

/** Orders are of no concern here: only those that the edited programs still need are asked for. */
const errorsOf = (schedule: Schedule): string[] =>
  verifySchedule(schedule)
    .filter((d) => d.severity === 'error')
    .map((d) => `${d.code}: ${d.message}`);

const edits = {
  deletion: (ops: readonly ScheduleOp[], i: number) => [...ops.slice(0, i), ...ops.slice(i + 1)],
  duplication: (ops: readonly ScheduleOp[], i: number) => [...ops.slice(0, i + 1), ...ops.slice(i)],
  swap: (ops: readonly ScheduleOp[], i: number, j = i + 1) => {
    const edited = [...ops];
    [edited[i], edited[j]] = [edited[j], edited[i]];
    return edited;
  },
};

/** What the verifier and the machine say of an edit; they must agree. */
function compare(schedule: Schedule, what: string): 'refused' | 'harmless' {
  const errors = errorsOf(schedule);
  const harms = (['async', 'blocking'] as const).map((transfers) => harm(schedule, transfers));
  const isHarmful = harms.some((h) => h !== null);
  if (isHarmful !== errors.length > 0)
    expect.fail(`${what}: the verifier says ${JSON.stringify(errors)}, the machine ${JSON.stringify(harms)}`);
  return isHarmful ? 'refused' : 'harmless';
}

const sizes: readonly (readonly [kind: string, ranks: number, microBatches: number])[] = [
  ['dualpipe', 2, 4],
  ['dualpipe', 4, 8],
  ['dualpipev', 2, 4],
  ['dualpipev', 4, 8],
  ['zb1p', 4, 6],
  ['1f1b', 3, 5],
];

describe.each(Object.entries(edits))('every single %s', (name, edit) => {
  test.each(sizes)(`of %s on %i ranks with %i micro-batches`, (kind, ranks, microBatches) => {
    const schedule = makeSchedule(kind, { ranks, microBatches });
    const found = { refused: 0, harmless: 0 };
    for (const [rank, { ops }] of schedule.programs.entries())
      for (let i = 0; i < ops.length - (name === 'swap' ? 1 : 0); i++) {
        const edited = withOps(schedule, rank, edit(ops, i));
        found[compare(edited, `${name} of rank ${rank} op ${i} ${toToken(ops[i])}`)]++;
        if (name !== 'swap' && isCompute(ops[i])) expect(errorsOf(edited)).not.toEqual([]);
      }
    // Neither side of the comparison is empty: commits can be doubled, and independent neighbours swapped.
    expect(found.refused).toBeGreaterThan(0);
    if (name !== 'deletion') expect(found.harmless).toBeGreaterThan(0);
  });
});

test('any two operations swapped, or one moved, on larger sizes', () => {
  const cases = fc
    .constantFrom('dualpipe', 'dualpipev', 'zb1p', '1f1b')
    .chain((kind) =>
      fc.tuple(fc.constant(kind), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 0, max: 3 })),
    )
    .map(([kind, half, more]) => makeSchedule(kind, { ranks: 2 * half, microBatches: 4 * half + 2 * more }))
    .chain((schedule) =>
      fc.record({
        schedule: fc.constant(schedule),
        rank: fc.nat(schedule.programs.length - 1),
        from: fc.nat(),
        distance: fc.integer({ min: 1, max: 12 }),
        isMove: fc.boolean(),
      }),
    );
  fc.assert(
    fc.property(cases, ({ schedule, rank, from, distance, isMove }) => {
      const { ops } = schedule.programs[rank];
      const i = from % ops.length;
      const j = (i + distance) % ops.length;
      const rest = edits.deletion(ops, i);
      const edited = isMove ? [...rest.slice(0, j), ops[i], ...rest.slice(j)] : edits.swap(ops, i, j);
      compare(withOps(schedule, rank, edited), `rank ${rank} ${i} to ${j}`);
    }),
    { numRuns: 600 },
  );
});
