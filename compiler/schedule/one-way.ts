// The schedules in which a rank holds one stage: 1F1B, and ZB1P (Qi et al., "Zero Bubble Pipeline Parallelism", the
// variant with the memory of 1F1B), which puts weight gradients off into what would be waits.
import type { ScheduleOp } from '../../ir/schedule.ts';
import { flowOfRanks, RankScript } from './rank-script.ts';
import type { Scheduler } from './scheduler.ts';

const stagesOf = (rank: number): readonly number[] => [rank];

/** `keep`: weight gradients that a rank may owe while forwards still come; null computes them with the inputs'. */
function run(rank: number, ranks: number, microBatches: number, keep: number | null): readonly ScheduleOp[] {
  const script = new RankScript(rank, flowOfRanks(ranks, microBatches, stagesOf));
  const ahead = Math.min(ranks - 1 - rank, microBatches);
  const around = { receive: false, send: false };
  let owed = 0;
  const backward = (): void => {
    script.receive('gradients', 0);
    if (keep === null) return script.backward(0, { receive: false });
    script.backwardInput(0, { receive: false });
    owed++;
  };
  for (let m = 0; m < ahead; m++) script.forward(0);
  for (let m = ahead; m < microBatches; m++) {
    // What comes and what goes between two operations is one batch, which both neighbours take part in.
    if (m === ahead) script.receive('activations', 0);
    script.forward(0, around);
    script.send('activations', 0);
    backward();
    if (m + 1 < microBatches) script.receive('activations', 0);
    if (keep !== null && owed > keep) {
      script.weights();
      owed--;
    }
  }
  for (let m = 0; m < ahead; m++) {
    backward();
    if (keep !== null) script.weights();
  }
  return script.finish();
}

const refuse = (name: string, ranks: number, microBatches: number): ReturnType<Scheduler['refuse']> => {
  if (ranks < 1) return { rule: `${name} takes at least 1 rank, not ${ranks}`, fix: 'use 1 rank or more' };
  if (microBatches < 1)
    return {
      rule: `${name} takes at least 1 micro-batch, not ${microBatches}`,
      fix: 'use 1 micro-batch or more',
    };
  return null;
};

export const oneForwardOneBackward: Scheduler = {
  name: '1f1b',
  doc: 'one forward, one backward in turn; the least memory of the plain schedules',
  refuse: (ranks, microBatches) => refuse('1F1B', ranks, microBatches),
  stagesOf,
  opsOf: (rank, ranks, microBatches) => run(rank, ranks, microBatches, null),
  liveActivations: (ranks) => ranks,
  bubble: (ranks, c) => (ranks - 1) * (c.forward + c.backward),
};

export const zb1p: Scheduler = {
  name: 'zb1p',
  doc: '1F1B with weight gradients put off into its bubbles; memory as 1F1B on its first rank',
  refuse: (ranks, microBatches) => refuse('ZB1P', ranks, microBatches),
  stagesOf,
  opsOf: (rank, ranks, microBatches) => run(rank, ranks, microBatches, rank),
  liveActivations: (ranks) => ranks,
  bubble: (ranks, c) => (ranks - 1) * (c.forward + c.backward - 2 * c.weights),
};
