// The trace as a viewer reads it: JSON of events, slices that nest, arrows that begin and end in slices.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { isCompute, type Schedule } from '../../../ir/schedule.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';
import { makeSchedule } from '../make.ts';
import { parsePhaseCosts } from '../phase-costs.ts';
import { simulate, simulatePhases } from '../simulate.ts';
import { renderTrace } from './trace.ts';

interface Event {
  readonly ph: string;
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly id: number;
  readonly bp?: string;
  readonly args: Readonly<Record<string, number | string>>;
}

interface Trace {
  readonly otherData: Readonly<Record<string, string>>;
  readonly traceEvents: readonly Event[];
}

const opCosts = { forward: 1, backward: 2, backwardInput: 1, weights: 1, overlap: 3 };
const phaseCosts = parsePhaseCosts(
  readFileSync(new URL('../../../examples/costs/deepseek-v3-h800.json', import.meta.url), 'utf8'),
);

function byOps(schedule: Schedule) {
  const simulation = simulate(schedule, { costs: opCosts, transfer: 'async' });
  const text = renderTrace(schedule, simulation, { microseconds: 1000, note: 'by ops' });
  return { simulation, trace: JSON.parse(text) as Trace };
}

function byPhases(schedule: Schedule) {
  const simulation = simulatePhases(schedule, { costs: phaseCosts, transfer: 'async', events: true });
  const phases = simulation.ranks.map((r) => r.events);
  const text = renderTrace(schedule, simulation, { microseconds: 1, note: 'by phases', phases });
  return { simulation, trace: JSON.parse(text) as Trace };
}

const of = (trace: Trace, ph: string): readonly Event[] => trace.traceEvents.filter((e) => e.ph === ph);

/** Slices of every thread, in order of time. */
function threadsOf(trace: Trace): ReadonlyMap<string, readonly Event[]> {
  const threads = new Map<string, Event[]>();
  for (const e of of(trace, 'X')) {
    const key = `${e.pid} ${e.tid}`;
    threads.set(key, [...(threads.get(key) ?? []), e]);
  }
  return threads;
}

const cases = [
  ['dualpipe', 4, 8],
  ['dualpipev', 2, 6],
  ['zb1p', 3, 5],
  ['1f1b', 3, 5],
] as const;

describe.each(cases)('%s, %i ranks, %i micro-batches', (kind, ranks, microBatches) => {
  const schedule = makeSchedule(kind, { ranks, microBatches });

  test('by operations: each once, at its time, in its rank, with what it works on', () => {
    const { simulation, trace } = byOps(schedule);
    const found = of(trace, 'X').map((e) => [e.pid, e.tid, e.name, e.ts, e.dur]);
    expect(found).toEqual(
      simulation.ranks.flatMap((r, rank) =>
        r.ops.map((t) => [rank, 0, printScheduleOp(t.op), t.start * 1000, (t.end - t.start) * 1000]),
      ),
    );
    for (const e of of(trace, 'X')) {
      const chunks = [...e.name.matchAll(/d(\d+) m(\d+)/g)].map((m) => m.slice(1).map(Number));
      const { direction, micro_batch, backward_direction, backward_micro_batch } = e.args;
      expect([direction, micro_batch]).toEqual(chunks[0]);
      if (chunks[1]) expect([backward_direction, backward_micro_batch]).toEqual(chunks[1]);
      expect(e.name.startsWith(String(e.args.kind))).toBe(true);
    }
  });

  test.each([
    ['operations', byOps],
    ['phases', byPhases],
  ] as const)('by %s: names, order of ranks, no slice over another', (_, make) => {
    const { trace } = make(schedule);
    const processes = of(trace, 'M').filter((e) => e.name === 'process_name');
    expect(processes.map((e) => e.pid)).toEqual(Array.from({ length: ranks }, (_, r) => r));
    expect(processes[1].args.name).toMatch(/^rank 1 \(stages? 1/);
    const named = of(trace, 'M').filter((e) => e.name === 'thread_name');
    for (const [key, slices] of threadsOf(trace)) {
      expect(named.some((e) => `${e.pid} ${e.tid}` === key)).toBe(true);
      for (const [i, e] of slices.slice(1).entries())
        expect(e.ts).toBeGreaterThanOrEqual(slices[i].ts + slices[i].dur - 1e-6);
    }
  });

  test.each([
    ['operations', byOps],
    ['phases', byPhases],
  ] as const)(
    'by %s: an arrow for every send, from its maker to its taker, never back in time',
    (_, make) => {
      const { trace } = make(schedule);
      const sends = schedule.programs.flatMap((p, rank) =>
        p.ops.flatMap((op) =>
          op.op === 'send'
            ? [`${rank} ${op.peer} ${op.payload} d${op.chunk.direction} m${op.chunk.microBatch}`]
            : [],
        ),
      );
      const ends = new Map(of(trace, 'f').map((e) => [e.id, e]));
      const arrows = of(trace, 's').map((from) => ({ from, to: ends.get(from.id)! }));
      expect(arrows.map(({ from, to }) => `${from.pid} ${to.pid} ${from.name}`).sort()).toEqual(sends.sort());
      const threads = threadsOf(trace);
      const sliceAt = (e: Event) =>
        threads.get(`${e.pid} ${e.tid}`)!.filter((s) => s.ts <= e.ts && e.ts < s.ts + s.dur - 1e-6);
      for (const { from, to } of arrows) {
        expect(to.bp).toBe('e');
        expect(to.name).toBe(from.name);
        const [maker, taker] = [sliceAt(from), sliceAt(to)];
        expect(maker.length).toBe(1);
        expect(taker.length).toBe(1);
        const [, direction, microBatch] = / d(\d+) m(\d+)$/.exec(from.name)!.map(Number);
        const worksOn = ({ args }: Event, d: number) =>
          (args.direction === d && args.micro_batch === microBatch) ||
          (args.backward_direction === d && args.backward_micro_batch === microBatch);
        expect(worksOn(maker[0], direction)).toBe(true);
        // A stage lies in one direction on each rank, and no micro-batch of these kinds changes its direction on the way.
        expect(worksOn(taker[0], direction)).toBe(true);
        expect(to.ts).toBeGreaterThan(from.ts);
      }
    },
  );

  test('counters of live activations begin at one, end at none, and peak where the simulation says', () => {
    const { simulation, trace } = byOps(schedule);
    for (const [rank, { peakActivations }] of simulation.ranks.entries()) {
      const counts = of(trace, 'C').filter((e) => e.pid === rank);
      expect(counts[0].args).toEqual({ chunks: 1 });
      expect(counts.at(-1)!.args).toEqual({ chunks: 0 });
      expect(Math.max(...counts.map((e) => Number(e.args.chunks)))).toBe(peakActivations);
    }
  });

  test('by phases: every phase of every layer on its stream, with its chunk', () => {
    const { trace } = byPhases(schedule);
    for (let rank = 0; rank < ranks; rank++) {
      const layers = 4;
      const ops = schedule.programs[rank].ops.filter(isCompute);
      const forwards = ops.filter((o) => o.op === 'forward' || o.op === 'overlap').length;
      const slices = of(trace, 'X').filter((e) => e.pid === rank && e.tid > 0);
      const named = (name: string) => slices.filter((e) => e.name === name);
      for (const [name, tid] of [
        ['attention(F)', 1],
        ['dispatch(F)', 2],
        ['mlp(B)', 1],
        ['combine(B)', 2],
        ['attention(W)', 1],
      ] as const) {
        expect(named(name).length).toBe(forwards * layers);
        expect(named(name).every((e) => e.tid === tid)).toBe(true);
        const chunks = new Set(
          named(name).map((e) => `${e.args.direction} ${e.args.micro_batch} ${e.args.layer}`),
        );
        expect(chunks.size).toBe(forwards * layers);
      }
    }
  });
});

test('says what its times are', () => {
  const { trace } = byOps(makeSchedule('1f1b', { ranks: 2, microBatches: 2 }));
  expect(trace.otherData).toEqual({ schedule: 'train', kind: '1f1b', note: 'by ops' });
});
