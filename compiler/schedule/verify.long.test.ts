// Every kind on every even number of ranks up to 32 with every legal number of micro-batches up to 3 for each rank.
import { expect, test } from 'vitest';
import { makeSchedule, schedulers } from './make.ts';
import { verifySchedule } from './verify.ts';

for (const scheduler of schedulers)
  for (let ranks = 2; ranks <= 32; ranks += 2)
    test(`${scheduler.name} on ${ranks} ranks`, () => {
      let checked = 0;
      for (let microBatches = 1; microBatches <= 3 * ranks; microBatches++) {
        if (scheduler.refuse(ranks, microBatches) !== null) continue;
        checked++;
        const found = verifySchedule(makeSchedule(scheduler.name, { ranks, microBatches }));
        expect(found, `${microBatches} micro-batches`).toEqual([]);
      }
      expect(checked).toBeGreaterThan(ranks / 2);
    });
