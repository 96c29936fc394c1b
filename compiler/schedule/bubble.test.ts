// The paper's formulas for idle time and memory, over all sizes: where they are exact, and where they only bound.
import { describe, expect, test } from 'vitest';
import { makeSchedule, schedulerNamed, schedulers, stageCount } from './make.ts';
import type { OpCosts } from './scheduler.ts';
import { simulate } from './simulate.ts';

const costs = (f: number, b: number, i: number, w: number, fb: number): OpCosts => ({
  forward: f,
  backward: b,
  backwardInput: i,
  weights: w,
  overlap: fb,
});

/** Even numbers of stages up to 32, in ranks; the least, an uneven and a larger number of micro-batches for each. */
function sizes(kind: string): readonly (readonly [ranks: number, microBatches: number])[] {
  const twoStages = kind === 'dualpipev';
  return Array.from({ length: 16 }, (_, i) => 2 * (i + 1)).flatMap((stages) => {
    const ranks = twoStages ? stages / 2 : stages;
    const least = kind.startsWith('dualpipe') ? 2 * ranks : ranks;
    const step = kind === 'dualpipe' ? 2 : 1;
    return [least, least + step, least + 7 * step].map((n) => [ranks, n] as const);
  });
}

const bubbles = (kind: string, ranks: number, microBatches: number, c: OpCosts): readonly number[] =>
  simulate(makeSchedule(kind, { ranks, microBatches }), { costs: c, transfer: 'async' }).ranks.map(
    (r) => r.bubble,
  );

describe.each(schedulers.map((s) => s.name))('%s', (kind) => {
  const { bubble, liveActivations } = schedulerNamed(kind);

  test('with F = I = W and F&B = F + B every rank idles as the formula says', () => {
    const c = costs(1, 2, 1, 1, 3);
    for (const [ranks, n] of sizes(kind))
      expect(bubbles(kind, ranks, n, c), `${ranks} ranks, ${n}`).toEqual(
        Array.from({ length: ranks }, () => bubble(ranks, c)),
      );
  });

  test('with F = I = W and a cheaper F&B the formula is the largest of the ranks', () => {
    const c = costs(1, 2, 1, 1, 2.5);
    for (const [ranks, n] of sizes(kind))
      expect(Math.max(...bubbles(kind, ranks, n, c)), `${ranks} ranks, ${n}`).toBe(bubble(ranks, c));
  });

  test('with I > W the formula is a bound for every rank', () => {
    const c = costs(1, 2, 1.25, 0.75, 2.5);
    for (const [ranks, n] of sizes(kind))
      for (const b of bubbles(kind, ranks, n, c))
        expect(b, `${ranks} ranks, ${n}`).toBeLessThanOrEqual(bubble(ranks, c));
  });

  test('live activations come to the stated bound and not beyond', () => {
    const c = costs(1, 2, 1, 1, 3);
    for (const [ranks, microBatches] of sizes(kind)) {
      const { ranks: times } = simulate(makeSchedule(kind, { ranks, microBatches }), {
        costs: c,
        transfer: 'async',
      });
      const stages = stageCount(schedulerNamed(kind), ranks);
      const bound = kind.startsWith('dualpipe') ? stages + 1 : stages;
      expect(liveActivations(ranks)).toBe(bound);
      expect(Math.max(...times.map((r) => r.peakActivations)), `${ranks} ranks, ${microBatches}`).toBe(bound);
    }
  });
});
