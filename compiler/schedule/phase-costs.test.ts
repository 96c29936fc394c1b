import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { DiagnosticError } from '../../ir/diagnostics.ts';
import { meanCosts, parsePhaseCosts, phaseTime, type PhaseCosts } from './phase-costs.ts';
import { costsFromProfile, type ProfileSummary } from './profile-costs.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const committed = read('examples/costs/deepseek-v3-h800.json');
const profile: ProfileSummary = JSON.parse(read('test/golden/profile_data_summary.json'));

const costs: PhaseCosts = {
  unit: 'us',
  source: 'a test',
  launchGap: 2,
  transfer: 0,
  phases: {
    'attention(F)': { busy: [10, 20], kernels: [1, 3] },
    'mlp(F)': { busy: 30, kernels: 5 },
  },
  layers: { dense: { phases: { 'mlp(F)': { busy: 7, kernels: 0 } } } },
};
const attention = { phase: 'attention', part: 'F' } as const;
const mlp = { phase: 'mlp', part: 'F' } as const;

test('a phase lasts for its kernels and a gap for each; lists go by layer and begin anew', () => {
  const times = [0, 1, 2].map((turn) => phaseTime(costs, 'moe', attention, turn));
  expect(times).toEqual([
    { busy: 10, duration: 12 },
    { busy: 20, duration: 26 },
    { busy: 10, duration: 12 },
  ]);
  expect(phaseTime(costs, 'moe', mlp, 3)).toEqual({ busy: 30, duration: 40 });
});

test('a kind of layer has its own costs before the common ones', () => {
  expect(phaseTime(costs, 'dense', mlp, 0)).toEqual({ busy: 7, duration: 7 });
  expect(phaseTime(costs, 'dense', attention, 0)).toEqual({ busy: 10, duration: 12 });
});

test('means of lists', () =>
  expect(meanCosts(costs)).toEqual({
    ...costs,
    phases: { 'attention(F)': { busy: 15, kernels: 2 }, 'mlp(F)': { busy: 30, kernels: 5 } },
  }));

const caught = (run: () => unknown): DiagnosticError => {
  try {
    run();
  } catch (error) {
    if (error instanceof DiagnosticError) return error;
    throw error;
  }
  throw new Error('it was accepted');
};

test('a phase without a cost is named, with those that have one', () => {
  const [d] = caught(() => phaseTime(costs, 'moe', { phase: 'mlp', part: 'W' }, 0)).diagnostics;
  expect(d.code).toBe('schedule/no-cost');
  expect(d.message).toBe("there is no cost for mlp(W) of layer 'moe'");
  expect(d.notes?.[0].message).toBe('the costs name attention(F), mlp(F)');
});

test('what is wrong in a file is said with its path, all at once', () => {
  const wrong = {
    unit: 'ms',
    launchGap: -1,
    transfer: '3',
    more: 1,
    phases: {
      attention: { busy: 1, kernels: 1 },
      'mlp(F)': { busy: [1, null], kernels: [] },
      'mlp(B)': { busy: 1, kernel: 1 },
      'mlp(W)': 4,
    },
    layers: { dense: { phases: [] } },
  };
  const [d] = caught(() => parsePhaseCosts(JSON.stringify(wrong), 'x.json')).diagnostics;
  expect(d.code).toBe('schedule/bad-costs');
  expect([d.message, ...(d.notes ?? []).map((n) => n.message)]).toEqual([
    'x.json is not a file of costs: $.more is unknown; known are unit, source, launchGap, transfer, phases, layers',
    '$.unit is "ms", and only "us" is known',
    '$.source must say where the figures come from',
    '$.launchGap is -1, and must be a number from 0 up',
    '$.transfer is "3", and must be a number from 0 up',
    '$.phases["attention"] must be a phase and its part, such as "attention(F)"',
    '$.phases["mlp(F)"].busy[1] is null, and must be a number from 0 up',
    '$.phases["mlp(F)"].kernels must have a number for each layer of a chunk',
    '$.phases["mlp(B)"].kernel is unknown; known are busy, kernels',
    '$.phases["mlp(B)"].kernels is undefined, and must be a number from 0 up',
    '$.phases["mlp(W)"] must be an object',
    '$.layers.dense.phases must be an object',
  ]);
});

test.each(['', '[]', '{', 'null'])('%j is no file of costs', (text) =>
  expect(caught(() => parsePhaseCosts(text)).diagnostics[0].code).toBe('schedule/bad-costs'),
);

test('the costs of the examples are those of the published profile (scripts/profile-costs.mjs writes them)', () =>
  expect(parsePhaseCosts(committed)).toEqual(costsFromProfile(profile)));

test('they account for all that the profile says was busy', () => {
  const { phases, launchGap } = costsFromProfile(profile);
  const sum = (v: number | readonly number[]): number =>
    typeof v === 'number' ? 4 * v : v.reduce((a, b) => a + b, 0);
  const busy = (comm: boolean): number =>
    Object.entries(phases)
      .filter(([name]) => /dispatch|combine/.test(name) === comm)
      .reduce((total, [, c]) => total + sum(c.busy), 0);
  expect(busy(false)).toBe(124286);
  expect(busy(true)).toBe(114521);
  // 2161 us of gaps in 943 kernels of the compute stream.
  expect(launchGap).toBeCloseTo(2161 / 943, 12);
});
