// The published profile of one overlapped pair, and the step that follows from it.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { makeSchedule } from '../make.ts';
import { meanCosts, parsePhaseCosts, type PhaseCosts } from '../phase-costs.ts';
import type { ProfileSummary } from '../profile-costs.ts';
import type { OpCosts } from '../scheduler.ts';
import { run, TaskGraph } from './engine.ts';
import { Expander } from './expand.ts';
import { simulate } from './operations.ts';
import { simulatePair } from './pair.ts';
import { simulatePhases } from './phases.ts';

const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const costs = parsePhaseCosts(read('examples/costs/deepseek-v3-h800.json'));
const profile: ProfileSummary & { totals_us: Record<'gpu_span_us' | 'exposed_comm_us' | 'idle_us', number> } =
  JSON.parse(read('test/golden/profile_data_summary.json'));
const recorded = profile.totals_us;
const schedule = makeSchedule('dualpipe', { ranks: 16, microBatches: 120 });

const relative = (a: number, b: number): number => Math.abs(a - b) / b;

test('the overlapped pair lasts as long as recorded, and exposes as much communication', () => {
  const pair = simulatePair(schedule, costs);
  expect(relative(pair.span, recorded.gpu_span_us)).toBeLessThan(0.02);
  const share = recorded.exposed_comm_us / recorded.gpu_span_us;
  expect(Math.abs(pair.exposed / pair.span - share)).toBeLessThan(0.02);
  expect(pair.streams.compute.busy).toBe(124286);
  expect(pair.streams.comm.busy).toBe(114521);
  expect(pair.streams.compute.busy + pair.exposed + pair.noKernel).toBeCloseTo(pair.span, 6);
  // What it comes to today: 0.8 % short, 2.7 % exposed where 3.3 % were recorded.
  expect(Math.round(pair.span)).toBe(127998);
  expect(Math.round(pair.exposed)).toBe(3476);
});

test('mean times of all layers give the same within 2 %', () => {
  const pair = simulatePair(schedule, meanCosts(costs));
  expect(relative(pair.span, recorded.gpu_span_us)).toBeLessThan(0.02);
  expect(Math.round(pair.span)).toBe(127695);
});

test('without gaps between kernels the pair is shorter, and only the critical path of kernels is left', () => {
  const pair = simulatePair(schedule, { ...costs, launchGap: 0 });
  expect(pair.span).toBe(126266);
  expect(pair.exposed).toBe(1980);
  expect(pair.noKernel).toBe(0);
});

test('with the recorded time from start to end of each phase, gaps included', () => {
  const phases: Record<string, { busy: number[]; kernels: number }> = {};
  for (const p of profile.phase_instances)
    (phases[p.phase.replace('attn', 'attention')] ??= { busy: [], kernels: 0 }).busy[p.layer] =
      p.gpu_end_us - p.gpu_start_us;
  expect(simulatePair(schedule, { ...costs, launchGap: 0, phases }).span / 1000).toBeCloseTo(128.12, 1);
});

test('phases start where the recording has them, within 2.5 ms of 129', () => {
  const { events } = simulatePair(schedule, costs);
  for (const [i, p] of profile.phase_instances.entries()) {
    expect(`${events[i].phase}(${events[i].part})`).toBe(p.phase.replace('attn', 'attention'));
    expect(Math.abs(events[i].start - p.gpu_start_us)).toBeLessThan(2500);
  }
});

/** Of each kind of op alone, with communication or as if it were free. */
function aloneCosts(from: PhaseCosts): OpCosts {
  const expander = new Expander(schedule, from);
  const alone = (op: Parameters<Expander['expandStages']>[0]): number => {
    const { steps } = expander.expandStages(
      op,
      op === 'forward' || op === 'overlap' ? 0 : null,
      op === 'forward' ? null : 0,
    );
    const graph = new TaskGraph(steps.length, 2);
    for (const s of steps) {
      graph.add(s.stream === 'compute' ? 0 : 1, s.duration);
      for (const at of s.waits) graph.wait(at);
    }
    const times = run(graph);
    if (!('end' in times)) throw new Error('stuck');
    return Math.max(...times.end);
  };
  return {
    forward: alone('forward'),
    backward: alone('backward'),
    backwardInput: alone('backward_input'),
    weights: alone('weights'),
    overlap: alone('overlap'),
  };
}

test('a step of 120 micro-batches on 16 ranks: 18.4 s, where 16.2 s would do if plain chunks hid their communication', () => {
  const phases = simulatePhases(schedule, { costs, transfer: 'async' });
  const seconds = phases.makespan / 1e6;
  // The other model, by operations that last as long as they do alone, agrees within a percent. It may only be longer:
  // its ops do not run into each other.
  const operations = simulate(schedule, { costs: aloneCosts(costs), transfer: 'async' }).makespan / 1e6;
  expect(operations).toBeGreaterThan(seconds);
  expect(relative(seconds, operations)).toBeLessThan(0.01);
  // 23 of 120 micro-batches run outside of pairs on rank 0: there nothing hides dispatch and combine. The published step
  // takes 19.9 s with all that is not simulated (transfers, embedding, head, optimizer, imbalance), so this is below.
  expect(seconds).toBeGreaterThan(18.2);
  expect(seconds).toBeLessThan(18.6);

  // The estimate of 16.4 to 16.7 s (120 pairs of 129.0 ms and the paper's bubble) has them cost no more than in pairs.
  // With chunks outside of pairs at their computation alone, and pairs as recorded, that is what comes out, less what
  // those chunks are shorter than their share of a pair.
  const computing = Object.fromEntries(
    Object.entries(costs.phases).map(([name, c]) => [
      name,
      /dispatch|combine/.test(name) ? { busy: 0, kernels: 0 } : c,
    ]),
  );
  const hidden = { ...aloneCosts({ ...costs, phases: computing }), overlap: recorded.gpu_span_us };
  const lower = simulate(schedule, { costs: hidden, transfer: 'async' }).makespan / 1e6;
  expect(lower).toBeGreaterThan(16.2);
  expect(lower).toBeLessThan(16.7);
});
