import fc from 'fast-check';
import { expect, test } from 'vitest';
import { streamTimes, type Slice } from './streams.ts';

const solid = (start: number, end: number): Slice => ({ start, end, busy: end - start });

test('communication that computation covers is not exposed', () =>
  expect(streamTimes({ compute: [solid(0, 4), solid(6, 10)], comm: [solid(1, 3), solid(3, 7)] }, 12)).toEqual(
    {
      streams: { compute: { busy: 8, gaps: 0 }, comm: { busy: 6, gaps: 0 } },
      exposed: 2,
      noKernel: 2,
      occupied: 10,
    },
  ));

test('gaps inside of a phase do not compute: they are spread over it', () =>
  // A quarter of the computation is gaps: of 4 that meet communication, 1 is exposed.
  expect(streamTimes({ compute: [{ start: 0, end: 8, busy: 6 }], comm: [solid(2, 6)] }, 8)).toEqual({
    streams: { compute: { busy: 6, gaps: 2 }, comm: { busy: 4, gaps: 0 } },
    exposed: 1,
    noKernel: 1,
    occupied: 8,
  }));

// Slices on a grid of eighths with shares of quarters, so that sums are exact.
const anySlices = fc
  .array(
    fc.record({
      before: fc.integer({ min: 0, max: 5 }),
      length: fc.integer({ min: 0, max: 5 }),
      share: fc.integer({ min: 0, max: 4 }),
    }),
  )
  .map((list) => {
    let at = 0;
    return list.map(({ before, length, share }): Slice => {
      const start = at + before;
      at = start + length;
      return { start, end: at, busy: (length * share) / 4 };
    });
  });

test('the same as looking at every unit of time', () =>
  fc.assert(
    fc.property(anySlices, anySlices, (compute, comm) => {
      const makespan = 5 + Math.max(compute.at(-1)?.end ?? 0, comm.at(-1)?.end ?? 0);
      const share = (slices: readonly Slice[], t: number): number | null => {
        const s = slices.find(({ start, end }) => start <= t && t < end);
        return s ? s.busy / (s.end - s.start) : null;
      };
      let [exposed, noKernel, occupied] = [0, 0, 0];
      for (let t = 0; t < makespan; t++) {
        const [c, m] = [share(compute, t), share(comm, t)];
        exposed += (m ?? 0) * (1 - (c ?? 0));
        noKernel += (1 - (m ?? 0)) * (1 - (c ?? 0));
        if (c !== null || m !== null) occupied++;
      }
      const times = streamTimes({ compute, comm }, makespan);
      expect(times.exposed).toBeCloseTo(exposed, 9);
      expect(times.noKernel).toBeCloseTo(noKernel, 9);
      expect(times.occupied).toBeCloseTo(occupied, 9);
    }),
  ));
