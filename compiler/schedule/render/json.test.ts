// JSON, table and pair: the recorded schedules come out as recorded; figures are those of the simulation.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parseOpCosts } from '../costs.ts';
import { makeSchedule } from '../make.ts';
import { parsePhaseCosts } from '../phase-costs.ts';
import { simulate, simulatePhases } from '../simulate.ts';
import { costUnit, milliseconds } from './figures.ts';
import { renderJson, type ScheduleJson } from './json.ts';
import { renderPair } from './pair.ts';
import { renderTable } from './table.ts';

interface Recorded {
  readonly schedule: string;
  readonly ranks: number;
  readonly num_chunks: number;
  readonly ops: readonly string[];
  readonly simulation: Readonly<
    Record<
      string,
      {
        readonly cost: Readonly<Record<string, number>>;
        readonly async: { readonly makespan: number; readonly bubble: readonly number[] };
        readonly blocking: { readonly makespan: number; readonly bubble: readonly number[] };
      }
    >
  >;
}

const fileOf = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const golden = JSON.parse(fileOf('test/golden/dualpipe_schedules.json')) as Record<string, Recorded>;

describe.each(Object.entries(golden))('%s', (_, recorded) => {
  const schedule = makeSchedule(recorded.schedule.toLowerCase(), {
    ranks: recorded.ranks,
    microBatches: recorded.num_chunks,
  });
  test.each(Object.entries(recorded.simulation))('%s', (_, { cost, ...modes }) => {
    const costs = parseOpCosts(
      Object.entries(cost)
        .map(([n, v]) => `${n}=${v}`)
        .join(','),
    );
    for (const transfer of ['async', 'blocking'] as const) {
      const json = JSON.parse(
        renderJson(schedule, simulate(schedule, { costs, transfer }), transfer, 'cost'),
      ) as ScheduleJson;
      expect(json.ops).toEqual(recorded.ops);
      expect(json.simulation).toMatchObject({
        makespan: modes[transfer].makespan,
        bubble: modes[transfer].bubble,
        transfer,
        unit: 'cost',
      });
      for (const [rank, busy] of json.simulation.busy.entries())
        expect(busy + json.simulation.bubble[rank]).toBeCloseTo(json.simulation.makespan, 9);
    }
  });
});

test('a table for people: by operations', () => {
  const schedule = makeSchedule('1f1b', { ranks: 2, microBatches: 4 });
  const simulation = simulate(schedule, { costs: parseOpCosts('F=1'), transfer: 'async' });
  expect(renderTable(schedule, simulation, { subtitle: 'F 1', unit: costUnit, formula: 3 })).toBe(
    `1f1b, 2 ranks, 4 micro-batches (F 1)
makespan 15, bubble 3 on every rank; the formula gives 3
live activations 1 to 2 by rank; the bound is 2; 1 stage a rank at most
rank  stages  busy  bubble  live  deferred W
   0       0    12       3     2           0
   1       1    12       3     1           0`,
  );
});

test('by phases: milliseconds, exposed communication, no formula', () => {
  const costs = parsePhaseCosts(fileOf('examples/costs/deepseek-v3-h800.json'));
  const schedule = makeSchedule('dualpipe', { ranks: 2, microBatches: 4 });
  const simulation = simulatePhases(schedule, { costs, transfer: 'async' });
  const lines = renderTable(schedule, simulation, {
    subtitle: 'costs of phases',
    unit: milliseconds,
    formula: null,
  }).split('\n');
  expect(lines[1]).toMatch(/^makespan [\d.]+ ms, bubble [\d.]+ ms( to [\d.]+ ms by rank| on every rank)$/);
  expect(lines[3]).toMatch(/ exposed$/);
  const exposed = lines.slice(4).map((l) => Number(l.trim().split(/\s+/).at(-1)));
  expect(exposed).toEqual(simulation.ranks.map((r) => Math.round(r.exposed) / 1000));
  const json = JSON.parse(renderJson(schedule, simulation, 'async', 'us')) as ScheduleJson;
  expect(json.simulation.unit).toBe('us');
  expect(json.simulation.exposedCommunication).toHaveLength(2);
});

test('a pair, in text and JSON', () => {
  const times = {
    span: 128_961.4,
    streams: { compute: { busy: 124_274, gaps: 1 }, comm: { busy: 114_531, gaps: 2 } },
    exposed: 4210,
    noKernel: 477.4,
    events: [],
  };
  expect(renderPair(times, { layers: 4, source: 'measured', format: 'text' })).toBe(
    `forward and backward of 4 layers, overlapped
time                     129.0 ms 100.0 %
compute busy             124.3 ms  96.4 %
communication busy       114.5 ms  88.8 %
exposed communication      4.2 ms   3.3 %
idle                       0.5 ms   0.4 %
costs: measured
`,
  );
  expect(JSON.parse(renderPair(times, { layers: 4, source: 'measured', format: 'json' }))).toEqual({
    layers: 4,
    time: 128_961.4,
    computeBusy: 124_274,
    commBusy: 114_531,
    exposedCommunication: 4210,
    idle: 477.4,
    unit: 'us',
  });
});
