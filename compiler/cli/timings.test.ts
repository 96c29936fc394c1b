import { expect, test } from 'vitest';
import { Timings } from './timings.ts';

async function sample(): Promise<Timings> {
  const timings = new Timings();
  await timings.phase('load', () => {});
  await timings.phase('passes', () => {
    timings.add('first', 30);
    timings.add('second', 70);
  });
  return timings;
}

test('phases nest and leaves are ranked', async () => {
  const timings = await sample();
  expect(timings.slowest(2).map((p) => p.name)).toEqual(['second', 'first']);
  const lines = timings.tree().split('\n');
  expect(lines.map((l) => l.slice(l.indexOf('%') + 3))).toEqual([
    'total',
    '  load',
    '  passes',
    '    first',
    '    second',
  ]);
});

test('json nests, chrome is flat and in microseconds', async () => {
  const timings = await sample();
  const json = JSON.parse(timings.json());
  expect(json.parts[1]).toMatchObject({
    name: 'passes',
    parts: [
      { name: 'first', ms: 30 },
      { name: 'second', ms: 70 },
    ],
  });
  const { traceEvents } = JSON.parse(timings.chrome());
  expect(traceEvents.map((e: { name: string }) => e.name)).toEqual([
    'total',
    'load',
    'passes',
    'first',
    'second',
  ]);
  expect(traceEvents[3]).toMatchObject({ ph: 'X', dur: 30_000 });
});

test('a phase ends and counts when its work throws', async () => {
  const timings = new Timings();
  await expect(
    timings.phase('broken', () => {
      throw new Error('x');
    }),
  ).rejects.toThrow('x');
  await timings.phase('next', () => {});
  expect(JSON.parse(timings.json()).parts.map((p: { name: string }) => p.name)).toEqual(['broken', 'next']);
});
