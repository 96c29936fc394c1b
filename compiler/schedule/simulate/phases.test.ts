import { expect, test } from 'vitest';
import { DiagnosticError } from '../../../ir/diagnostics.ts';
import { isCompute, type PhaseOrder, type Schedule } from '../../../ir/schedule.ts';
import type { PhaseCosts } from '../phase-costs.ts';
import type { TransferMode } from './operations.ts';
import { simulatePair } from './pair.ts';
import { simulatePhases, type PhaseEvent } from './phases.ts';
import { costsOf, handMade, one, withLayers } from './testing.ts';

const denseCosts = (transfer = 0): PhaseCosts => costsOf({ 'all(F)': 2, 'all(B)': 3, 'all(W)': 1 }, transfer);
const moeCosts = costsOf({
  'attention(F)': 4,
  'dispatch(F)': 3,
  'mlp(F)': 5,
  'combine(F)': 6,
  'attention(B)': 8,
  'dispatch(B)': 6,
  'mlp(B)': 7,
  'combine(B)': 3,
  'attention(W)': 2,
  'mlp(W)': 5,
});

const show = (e: Omit<PhaseEvent, 'chunk'>): string =>
  `${e.phase}${e.part ? `(${e.part})${e.layer}` : ''} ${e.start}-${e.end}`;
const eventsOf = (schedule: Schedule, costs: PhaseCosts, transfer: TransferMode): string[][] =>
  simulatePhases(schedule, { costs, transfer, events: true }).ranks.map((r) => r.events.map(show));

test('streams run on: what follows starts while a combine still runs', () => {
  const schedule = withLayers(handMade([[0]], 2, ['F0:0 F0:1 B0:0 B0:1']), [one('moe')]);
  expect(eventsOf(schedule, moeCosts, 'async')[0].slice(0, 8)).toEqual([
    'attention(F)0 0-4',
    'dispatch(F)0 4-7',
    'mlp(F)0 7-12',
    'combine(F)0 12-18',
    'attention(F)0 12-16',
    'dispatch(F)0 18-21',
    'mlp(F)0 21-26',
    'combine(F)0 26-32',
  ]);
});

const pipe = withLayers(
  handMade([[0], [1]], 1, ['F0:0 SF0:0@1 C RB0:0@1 C B0:0', 'RF0:0@0 C F0:0 B0:0 SB0:0@0 C']),
  [one('dense', 2), one('dense')],
);

test('a stage runs its layers forward and back, gradients go on before weights are done', () => {
  expect(eventsOf(pipe, denseCosts(0.5), 'async')).toEqual([
    [
      'all(F)0 0-2',
      'all(F)1 2-4',
      'transfer 4-4.5',
      'all(B)1 10-13',
      'all(W)1 13-14',
      'all(B)0 14-17',
      'all(W)0 17-18',
    ],
    ['all(F)0 4.5-6.5', 'all(B)0 6.5-9.5', 'all(W)0 9.5-10.5', 'transfer 9.5-10'],
  ]);
  // Blocking, a batch stands on both ranks.
  expect(
    eventsOf(pipe, denseCosts(0.5), 'blocking').map((r) => r.filter((e) => e.startsWith('transfer'))),
  ).toEqual([
    ['transfer 4-4.5', 'transfer 9.5-10'],
    ['transfer 4-4.5', 'transfer 9.5-10'],
  ]);
});

test('blocking holds the compute stream, asynchronous only those who take', () => {
  const schedule = withLayers(
    handMade([[0], [1]], 2, [
      'F0:0 SF0:0@1 C F0:1 SF0:1@1 C RB0:0@1 C B0:0 RB0:1@1 C B0:1',
      'RF0:0@0 C F0:0 RF0:1@0 C F0:1 B0:0 SB0:0@0 C B0:1 SB0:1@0 C',
    ]),
    [one('dense'), one('dense')],
  );
  const starts = (transfer: TransferMode) =>
    simulatePhases(schedule, { costs: denseCosts(1), transfer }).ranks.map((r) => r.ops.map((o) => o.start));
  expect(starts('async')).toEqual([
    [0, 2, 11, 15],
    [3, 5, 7, 11],
  ]);
  expect(starts('blocking')).toEqual([
    [0, 3, 12, 16],
    [3, 6, 8, 12],
  ]);
});

test('the last stage takes its loss from its own forward', () => {
  const schedule = withLayers(handMade([[0]], 1, ['F0:0 B0:0']), [one('moe')]);
  const [{ events }] = simulatePhases(schedule, { costs: moeCosts, transfer: 'async', events: true }).ranks;
  expect(events.slice(3, 6).map(show)).toEqual(['combine(F)0 12-18', 'combine(B)0 18-21', 'mlp(B)0 21-28']);
  expect(events[4].chunk).toEqual({ direction: 0, microBatch: 0 });
});

test('a pair meets the first layer ahead with the last layer back; the longer side goes on alone', () => {
  const stages = [one('moe'), [...one('dense'), ...one('moe', 2)]];
  const schedule = withLayers(
    handMade(
      [
        [0, 1],
        [1, 0],
      ],
      2,
      ['F0:0&B1:0', ''],
    ),
    stages,
  );
  const { events } = simulatePair(
    schedule,
    { ...moeCosts, phases: { ...moeCosts.phases, ...denseCosts().phases } },
    { forward: 0, backward: 1 },
  );
  expect(events.map((e) => `${e.phase}(${e.part})${e.layer}`)).toEqual([
    ...[
      'combine(B)2',
      'attention(F)0',
      'mlp(B)2',
      'dispatch(F)0',
      'dispatch(B)2',
      'mlp(W)2',
      'mlp(F)0',
      'attention(B)2',
    ],
    ...['attention(W)2', 'combine(F)0'],
    ...['combine(B)1', 'mlp(B)1', 'dispatch(B)1', 'mlp(W)1', 'attention(B)1', 'attention(W)1'],
    ...['all(B)0', 'all(W)0'],
  ]);
});

test('weights may wait for a part of the backward_input before them', () => {
  const schedule = withLayers(handMade([[0]], 1, ['F0:0 I0:0 W0:0']), [one('moe', 2)]);
  const wait = (phase: string): Schedule => ({
    ...schedule,
    orders: schedule.orders.map((o): PhaseOrder =>
      o.op !== 'weights'
        ? o
        : { ...o, steps: o.steps.map((s) => ({ ...s, stream: 'comm', waits: [{ phase, part: 'B' }] })) },
    ),
  });
  const [{ events }] = simulatePhases(wait('attention'), {
    costs: moeCosts,
    transfer: 'async',
    events: true,
  }).ranks;
  const at = (phase: string, part: string, layer: number) =>
    events.find((e) => e.phase === phase && e.part === part && e.layer === layer)!;
  // The last layer's weights run on the other stream while the first layer's inputs still do.
  expect(at('mlp', 'W', 1).start).toBe(at('dispatch', 'B', 0).end);
  expect(at('mlp', 'W', 1).start).toBeLessThan(at('attention', 'B', 0).end);
  expect(at('mlp', 'W', 0).start).toBe(at('attention', 'B', 0).end);
  expect(() => simulatePhases(wait('nothing'), { costs: moeCosts, transfer: 'async' })).toThrow(
    /waits for nothing\(B\), which/,
  );
});

test.each([
  ['schedule/no-order', { orders: [] }, "there is no order of phases for forward of 'moe'"],
  ['schedule/no-layers', { stages: [] }, 'stage 0 has no layers, so it has no phases to simulate'],
  [
    'schedule/no-output',
    { layers: [] },
    "the order for forward moe does not launch what layer 'moe' gives on",
  ],
])('%s', (code, lacking, message) => {
  const schedule = { ...withLayers(handMade([[0]], 1, ['F0:0 B0:0']), [one('moe')]), ...lacking };
  try {
    simulatePhases(schedule, { costs: moeCosts, transfer: 'async' });
  } catch (error) {
    expect(error).toBeInstanceOf(DiagnosticError);
    const [d] = (error as DiagnosticError).diagnostics;
    expect([d.code, d.message]).toEqual([code, message]);
    return;
  }
  throw new Error('it ran');
});

test('a deadlock names the phases that wait', () => {
  const schedule = withLayers(
    handMade([[0], [1]], 1, ['F0:0 RB0:0@1 C SF0:0@1 C B0:0', 'RF0:0@0 C F0:0 B0:0 SB0:0@0 C']),
    [one('dense'), one('dense')],
  );
  // Without waits for each other's commits it runs: nothing on rank 0's streams stands before the send.
  expect(simulatePhases(schedule, { costs: denseCosts(), transfer: 'async' }).makespan).toBe(11);
  try {
    simulatePhases(schedule, { costs: denseCosts(), transfer: 'blocking' });
  } catch (error) {
    const [d] = (error as DiagnosticError).diagnostics;
    expect([d.message, ...(d.notes ?? []).map((n) => n.message)]).toMatchInlineSnapshot(`
      [
        "nothing goes on: rank 0 waits for rank 1 waits for rank 0",
        "rank 0: commit (operation 3) waits for rank 1: commit (operation 6)",
        "rank 1: commit (operation 2) waits for rank 0: commit (operation 5)",
      ]
    `);
    return;
  }
  throw new Error('it ran');
});

test('events are listed when asked for, and ops all the same', () => {
  const silent = simulatePhases(pipe, { costs: denseCosts(), transfer: 'async' });
  expect(silent.ranks.map((r) => r.events.length)).toEqual([0, 0]);
  expect(silent.ranks.map((r) => r.ops.length)).toEqual(
    pipe.programs.map((p) => p.ops.filter(isCompute).length),
  );
});
