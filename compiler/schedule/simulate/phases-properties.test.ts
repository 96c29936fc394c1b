// What holds of simulations by phases for any generator, layers and costs.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Schedule } from '../../../ir/schedule.ts';
import { flowOf } from '../flow.ts';
import { makeSchedule, schedulerNamed, stageCount } from '../make.ts';
import { moeLayer } from '../phases.ts';
import { simulate, type TransferMode } from './operations.ts';
import { simulatePhases, type PhaseEvent } from './phases.ts';
import { costsOf, dense, one, withLayers } from './testing.ts';

const modes: readonly TransferMode[] = ['async', 'blocking'];
const anySchedule = fc
  .record({
    kind: fc.constantFrom('dualpipe', 'dualpipev', 'zb1p', '1f1b'),
    half: fc.integer({ min: 1, max: 3 }),
    more: fc.integer({ min: 0, max: 4 }),
    layers: fc.array(fc.array(fc.constantFrom('moe', 'dense'), { minLength: 1, maxLength: 3 }), {
      minLength: 1,
      maxLength: 4,
    }),
  })
  .map(({ kind, half, more, layers }) => {
    const ranks = 2 * half;
    const stages = Array.from({ length: stageCount(schedulerNamed(kind), ranks) }, (_, s) =>
      layers[s % layers.length].map((layer) => ({ layer, count: 1 })),
    );
    return withLayers(makeSchedule(kind, { ranks, microBatches: 4 * half + 2 * more }), stages);
  });
const names = [...moeLayer.phases, ...dense.phases].flatMap((p) =>
  ['F', 'B', ...(p.weights ? ['W'] : [])].map((part) => `${p.name}(${part})`),
);
const cost = fc.integer({ min: 0, max: 40 }).map((n) => n / 4);
const anyCosts = fc
  .record({
    times: fc.array(cost, { minLength: names.length, maxLength: names.length }),
    transfer: cost,
    gap: cost,
  })
  .map(({ times, transfer, gap }) =>
    costsOf(Object.fromEntries(names.map((name, i) => [name, times[i]])), transfer, gap),
  );

test('asynchronous is never slower, every phase takes its cost, and times scale with costs', () =>
  fc.assert(
    fc.property(anySchedule, anyCosts, (schedule, costs) => {
      const [first, second] = modes.map((transfer) =>
        simulatePhases(schedule, { costs, transfer, events: true }),
      );
      expect(first.makespan).toBeLessThanOrEqual(second.makespan);
      for (const { makespan, ranks } of [first, second])
        for (const r of ranks) {
          const busy = { compute: 0, comm: 0 };
          for (const e of r.events)
            busy[e.stream] +=
              e.part === null ? costs.transfer : (costs.phases[`${e.phase}(${e.part})`].busy as number);
          expect(r.streams.compute.busy).toBe(busy.compute);
          expect(r.streams.comm.busy).toBe(busy.comm);
          expect(r.busy).toBeLessThanOrEqual(makespan);
          expect(r.streams.compute.busy + r.exposed + r.noKernel).toBeCloseTo(makespan, 6);
          expect(r.exposed).toBeGreaterThanOrEqual(-1e-9);
          expect(r.noKernel).toBeGreaterThanOrEqual(-1e-9);
          expect(r.idle.before + r.idle.between + r.idle.after).toBeCloseTo(r.bubble, 6);
        }
      const scaled = costsOf(
        Object.fromEntries(names.map((name) => [name, 4 * (costs.phases[name].busy as number)])),
        4 * costs.transfer,
        4 * costs.launchGap,
      );
      expect(simulatePhases(schedule, { costs: scaled, transfer: 'async' }).makespan).toBe(
        4 * first.makespan,
      );
    }),
    { numRuns: 25 },
  ));

/** What a chunk does on a stage, in the order in which data goes: phases of its layers forward, then back. */
function pathOf(schedule: Schedule, stage: number, part: 'F' | 'B'): { phase: string; layer: number }[] {
  const path = schedule.stages[stage].layers.flatMap(({ layer }, i) =>
    schedule.layers.find((l) => l.name === layer)!.phases.map((p) => ({ phase: p.name, layer: i })),
  );
  return part === 'F' ? path : path.reverse();
}

test('every chunk goes through every phase of every stage once, in the order of its data', () =>
  fc.assert(
    fc.property(anySchedule, anyCosts, fc.constantFrom(...modes), (schedule, costs, transfer) => {
      const { ranks } = simulatePhases(schedule, { costs, transfer, events: true });
      const flow = flowOf(schedule);
      if (typeof flow === 'string') throw new Error(flow);
      const events = new Map<string, PhaseEvent>();
      const twice: string[] = [];
      const early: string[] = [];
      for (const [rank, r] of ranks.entries())
        for (const e of r.events) {
          if (!e.chunk) continue;
          const key = [rank, e.chunk.direction, e.chunk.microBatch, e.phase, e.part, e.layer].join();
          if (events.has(key)) twice.push(key);
          events.set(key, e);
        }
      let seen = 0;
      const follow = (rank: number, direction: number, m: number): void => {
        let at = 0;
        const visit = (place: { rank: number; direction: number }, part: 'F' | 'B'): void => {
          for (const { phase, layer } of pathOf(schedule, flow.stageOf(place), part)) {
            const key = (p: string): string => [place.rank, place.direction, m, phase, p, layer].join();
            const event = events.get(key(part))!;
            if (event.start < at) early.push(key(part));
            at = event.end;
            seen++;
            const weights = part === 'B' ? events.get(key('W')) : undefined;
            if (!weights) continue;
            if (weights.start < at) early.push(key('W'));
            seen++;
          }
        };
        const places = [{ rank, direction }];
        for (let next = flow.next(places[0]); next; next = flow.next(next)) places.push(next);
        for (const [i, place] of places.entries()) {
          if (i > 0 && places[i - 1].rank !== place.rank) at += costs.transfer;
          visit(place, 'F');
        }
        for (const [i, place] of places.reverse().entries()) {
          if (i > 0 && places[i - 1].rank !== place.rank) at += costs.transfer;
          visit(place, 'B');
        }
      };
      for (const [rank, program] of schedule.programs.entries())
        for (const direction of program.stages.keys())
          if (!flow.previous({ rank, direction }))
            for (let m = 0; m < flow.microBatches; m++) follow(rank, direction, m);
      expect({ seen, twice, early }).toEqual({ seen: events.size, twice: [], early: [] });
    }),
    { numRuns: 25 },
  ));

test('layers of one phase whose weights cost nothing: the same times as by operations', () =>
  fc.assert(
    fc.property(anySchedule, cost, cost, (mixed, forward, backward) => {
      const stages = mixed.stages.map(() => one('dense'));
      const schedule = withLayers(mixed, stages);
      const costs = costsOf({ 'all(F)': forward, 'all(B)': backward, 'all(W)': 0 });
      const byPhases = simulatePhases(schedule, { costs, transfer: 'async' });
      const byOps = simulate(schedule, {
        costs: { forward, backward, backwardInput: backward, weights: 0, overlap: forward + backward },
        transfer: 'async',
      });
      const ends = (s: typeof byOps) => s.ranks.map((r) => r.ops.map((t) => [t.start, t.end]));
      expect(ends(byPhases)).toEqual(ends(byOps));
      expect(byPhases.ranks.map((r) => [r.busy, r.bubble])).toEqual(
        byOps.ranks.map((r) => [r.busy, r.bubble]),
      );
    }),
    { numRuns: 30 },
  ));
