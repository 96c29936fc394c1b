import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DiagnosticError } from '../../../ir/diagnostics.ts';
import type { Schedule } from '../../../ir/schedule.ts';
import { makeSchedule } from '../make.ts';
import type { OpCosts } from '../scheduler.ts';
import { simulate, type TransferMode } from './operations.ts';
import { handMade, opCosts, recordedCases, recordedSchedule } from './testing.ts';

const modes: readonly TransferMode[] = ['async', 'blocking'];

for (const [name, recorded] of Object.entries(recordedCases))
  for (const [costName, expected] of Object.entries(recorded.simulation))
    for (const transfer of modes)
      test(`${name} with ${costName}, ${transfer}: every recorded time`, () => {
        const result = simulate(recordedSchedule(recorded), { costs: opCosts(expected.cost), transfer });
        const times = expected[transfer];
        const { makespan, ranks } = result;
        expect({
          makespan,
          busy: ranks.map((r) => r.busy),
          bubble: ranks.map((r) => r.bubble),
          first_start: ranks.map((r) => r.start),
          end: ranks.map((r) => r.end),
        }).toEqual({
          makespan: times.makespan,
          busy: times.busy,
          bubble: times.bubble,
          first_start: times.first_start,
          end: times.end,
        });
        if (times.start_times_of_compute_ops)
          expect(ranks.map((r) => r.ops.map((t) => t.start))).toEqual(times.start_times_of_compute_ops);
      });

test('the recording holds start times of every case', () =>
  expect(
    Object.values(recordedCases).map(
      (c) => c.simulation.F1_I1_W1_FB3.async.start_times_of_compute_ops?.length,
    ),
  ).toEqual(Object.values(recordedCases).map((c) => c.ranks)));

const unit: OpCosts = { forward: 1, backward: 2, backwardInput: 1, weights: 1, overlap: 3 };
const two = (first: string, second: string): Schedule => handMade([[0], [1]], 2, [first, second]);
const pipe = two(
  'F0:0 SF0:0@1 C F0:1 SF0:1@1 RB0:0@1 C B0:0 RB0:1@1 C B0:1',
  'RF0:0@0 C F0:0 B0:0 SB0:0@0 RF0:1@0 C F0:1 B0:1 SB0:1@0 C',
);

test('a message takes its time on its way, and a blocking batch holds both ends', () => {
  const starts = (transfer: TransferMode) =>
    simulate(pipe, { costs: unit, transfer, transferTime: 0.5 }).ranks.map((r) => r.ops.map((t) => t.start));
  // Asynchronous: 0 runs its second forward while the first is on its way; every hop costs a half.
  expect(starts('async')).toEqual([
    [0, 1, 5, 8],
    [1.5, 2.5, 4.5, 5.5],
  ]);
  // Blocking: both come out of their batch at 1.5; of the second when the later one, 1, came to it at 4.5.
  expect(starts('blocking')).toEqual([
    [0, 1.5, 5, 8.5],
    [1.5, 2.5, 5, 6],
  ]);
});

test('what a rank holds, over time', () => {
  const [first, second] = simulate(pipe, { costs: unit, transfer: 'async' }).ranks;
  expect(first.activations).toEqual([
    { time: 0, count: 1 },
    { time: 1, count: 2 },
    { time: 6, count: 1 },
    { time: 9, count: 0 },
  ]);
  expect(first.peakActivations).toBe(2);
  expect(second.activations).toEqual([
    { time: 1, count: 1 },
    { time: 4, count: 1 },
    { time: 7, count: 0 },
  ]);
  expect(second.peakActivations).toBe(1);
  expect(first.idle).toEqual({ before: 0, between: 3, after: 0 });
  expect(second.idle).toEqual({ before: 1, between: 0, after: 2 });
});

test('deferred weights keep their activations and wait in the queue that DISTRIBUTED tells: 8 deep at 16 ranks', () => {
  const { ranks } = simulate(makeSchedule('dualpipe', { ranks: 16, microBatches: 32 }), {
    costs: unit,
    transfer: 'blocking',
  });
  expect(Math.max(...ranks.map((r) => r.peakDeferredWeights))).toBe(8);
  for (const r of ranks) {
    expect(r.deferredWeights.at(-1)?.count).toBe(0);
    expect(r.activations.at(-1)?.count).toBe(0);
    expect(r.peakActivations).toBeLessThanOrEqual(17);
  }
});

const refusal = (schedule: Schedule, transfer: TransferMode): DiagnosticError => {
  try {
    simulate(schedule, { costs: unit, transfer });
  } catch (error) {
    if (error instanceof DiagnosticError) return error;
    throw error;
  }
  throw new Error('it ran');
};

test('crossed commits block each other, and only when commits block', () => {
  const crossed = handMade(
    [
      [0, 1],
      [1, 0],
    ],
    2,
    [
      'F0:0 SF0:0@1 C RF1:0@1 C F1:0 B1:0 SB1:0@1 C RB0:0@1 C B0:0',
      'F1:0 SF1:0@0 C RF0:0@0 C F0:0 B0:0 SB0:0@0 C RB1:0@0 C B1:0',
    ],
  );
  expect(simulate(crossed, { costs: unit, transfer: 'async' }).makespan).toBe(6);
  const [d] = refusal(crossed, 'blocking').diagnostics;
  expect(d.code).toBe('schedule/deadlock');
  expect(d.message).toBe('nothing goes on: rank 0 waits for rank 1 waits for rank 0');
  expect(d.notes?.map((n) => n.message)).toEqual([
    'rank 0: commit (operation 3) waits for rank 1: commit (operation 5)',
    'rank 1: commit (operation 3) waits for rank 0: commit (operation 5)',
  ]);
});

test('a rank that waits for its own future is found, too', () => {
  const [d] = refusal(handMade([[0]], 1, ['B0:0 F0:0']), 'async').diagnostics;
  expect(d.message).toBe('nothing goes on: rank 0 waits for rank 0');
  expect(d.notes?.[0].message).toBe(
    'rank 0: backward d0 m0 (operation 1) waits for rank 0: forward d0 m0 (operation 2)',
  );
});

test.each([
  ['RF0:0@0 F0:0 C B0:0 SB0:0@0 C', 'are not received from rank 0 and committed before it'],
  ['RF0:0@0 C F0:0 B0:0 C', 'rank 1 does not send it'],
  ['C F0:0 B0:0 SB0:0@0 C', 'rank 1 does not receive it'],
  ['RF0:0@0 C F0:0 SB0:0@0 C B0:0', 'nothing before it made what it sends'],
  ['RF0:0@0 C F0:0 F0:0 B0:0 SB0:0@0 C', 'the same was done before'],
  ['RF0:0@0 C F0:0 W0:0 B0:0 SB0:0@0 C', 'no backward_input of that chunk is there'],
  ['RF0:0@0 C F0:0 B0:0 SB0:0@0', 'no commit follows'],
  ['RF0:0@0 C F0:0 B0:7 SB0:0@0 C', 'there are 2 ranks, 1 directions and 1 micro-batches in each'],
])('no times are invented for %s', (second, why) => {
  const [d] = refusal(
    handMade([[0], [1]], 1, ['F0:0 SF0:0@1 C RB0:0@1 C B0:0', second]),
    'async',
  ).diagnostics;
  expect(d.code).toBe('schedule/cannot-run');
  expect(d.message).toContain(why);
});

const anySchedule = fc
  .record({
    kind: fc.constantFrom('dualpipe', 'dualpipev', 'zb1p', '1f1b'),
    half: fc.integer({ min: 1, max: 5 }),
    more: fc.integer({ min: 0, max: 6 }),
  })
  .map(({ kind, half, more }) => makeSchedule(kind, { ranks: 2 * half, microBatches: 4 * half + 2 * more }));
// Quarters: sums of them are exact.
const cost = fc.integer({ min: 1, max: 40 }).map((n) => n / 4);
const anyCosts = fc.record({
  forward: cost,
  backward: cost,
  backwardInput: cost,
  weights: cost,
  overlap: cost,
});

test('bounds that hold for any costs', () =>
  fc.assert(
    fc.property(anySchedule, anyCosts, cost, (schedule, costs, transferTime) => {
      const asynchronous = simulate(schedule, { costs, transfer: 'async', transferTime });
      const blocking = simulate(schedule, { costs, transfer: 'blocking', transferTime });
      expect(asynchronous.makespan).toBeLessThanOrEqual(blocking.makespan);
      // No earlier than the first micro-batch reaches the last stage and comes back, at the least cost of each op.
      const stages = 1 + Math.max(...schedule.programs.flatMap((p) => p.stages));
      const way =
        Math.min(costs.forward, costs.overlap) + Math.min(costs.backward, costs.backwardInput, costs.overlap);
      const hops =
        schedule.programs[0].stages.length === 2 && stages === 2 * schedule.programs.length
          ? stages - 2
          : stages - 1;
      for (const { makespan, ranks } of [asynchronous, blocking]) {
        expect(makespan).toBeGreaterThanOrEqual(stages * way + 2 * hops * transferTime);
        for (const r of ranks) {
          const sum = r.ops.reduce(
            (s, { op: { op } }) => s + (op === 'backward_input' ? costs.backwardInput : costs[op]),
            0,
          );
          expect(r.busy).toBe(sum);
          expect(r.busy + r.bubble).toBe(makespan);
          expect(r.idle.before + r.idle.between + r.idle.after).toBe(r.bubble);
          expect(r.ops.every((t, i) => i === 0 || t.start >= r.ops[i - 1].end)).toBe(true);
          // What a rank does fits between what comes before it and what must come after it.
          expect(Math.min(r.idle.before, r.idle.between, r.idle.after)).toBeGreaterThanOrEqual(0);
        }
      }
    }),
    { numRuns: 60 },
  ));

test('costs in another unit: every time is scaled', () =>
  fc.assert(
    fc.property(anySchedule, anyCosts, fc.constantFrom(...modes), (schedule, costs, transfer) => {
      const times = (factor: number) =>
        simulate(schedule, {
          costs: {
            forward: factor * costs.forward,
            backward: factor * costs.backward,
            backwardInput: factor * costs.backwardInput,
            weights: factor * costs.weights,
            overlap: factor * costs.overlap,
          },
          transfer,
          transferTime: factor * 0.25,
        }).ranks.flatMap((r) => r.ops.flatMap((t) => [t.start, t.end]));
      expect(times(8)).toEqual(times(1).map((t) => 8 * t));
    }),
    { numRuns: 40 },
  ));
