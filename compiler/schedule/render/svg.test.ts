// The picture: well-formed, every op drawn once at its time, nothing over anything else, numbers inside their boxes.
import { describe, expect, test } from 'vitest';
import type { Schedule } from '../../../ir/schedule.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';
import { makeSchedule } from '../make.ts';
import { simulate } from '../simulate.ts';
import { costUnit } from './figures.ts';
import { escapeXml, renderSvg } from './svg.ts';
import { parseXml, textOf, type Element } from './testing.ts';

const costs = { forward: 1, backward: 2, backwardInput: 1, weights: 1, overlap: 3 };

function draw(schedule: Schedule, own = costs) {
  const simulation = simulate(schedule, { costs: own, transfer: 'async' });
  const svg = renderSvg(schedule, simulation, { subtitle: 'F < B & W', unit: costUnit });
  return { simulation, svg, root: parseXml(svg) };
}

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

const number = (e: Element, name: string): number => Number(e.attributes[name]);
const boxOf = (e: Element): Box => ({
  x: number(e, 'x'),
  y: number(e, 'y'),
  width: number(e, 'width'),
  height: number(e, 'height'),
});
const named = (e: Element, name: string): Element[] => e.children.filter((c) => c.name === name);

/** The ops drawn in each rank's row: tooltip, boxes of the halves, numbers, frame. */
const rowsOf = (root: Element) =>
  root.children
    .filter((c) => c.attributes.class === 'rank')
    .map((rank) =>
      named(rank, 'g').map((g) => {
        const rects = named(g, 'rect');
        return {
          title: textOf(named(g, 'title')[0]),
          halves: rects.filter((r) => r.attributes.class !== 'pair'),
          frames: rects.filter((r) => r.attributes.class === 'pair'),
          numbers: named(g, 'text'),
        };
      }),
    );

const cases = [
  ['dualpipe', 8, 20],
  ['dualpipe', 16, 32],
  ['dualpipev', 4, 10],
  ['zb1p', 4, 8],
  ['1f1b', 4, 8],
  ['1f1b', 1, 1],
] as const;

describe.each(cases)('%s, %i ranks, %i micro-batches', (kind, ranks, microBatches) => {
  const schedule = makeSchedule(kind, { ranks, microBatches });
  const { simulation, svg, root } = draw(schedule);
  const rows = rowsOf(root);

  test('every op is drawn once, in its order and at its time', () => {
    expect(rows.length).toBe(ranks);
    const idle = root.children
      .find((c) => c.attributes.class === 'rank')!
      .children.find((c) => c.attributes.class === 'idle')!;
    const scale = number(idle, 'width') / simulation.makespan;
    for (const [rank, row] of rows.entries()) {
      const { ops } = simulation.ranks[rank];
      expect(row.map((r) => r.title)).toEqual(
        ops.map((t) => {
          const stages = schedule.programs[rank].stages;
          return `rank ${rank}, ${stages.length > 1 ? 'stages' : 'stage'} ${stages.join(', ')}: ${printScheduleOp(t.op)}, ${t.start} to ${t.end}`;
        }),
      );
      for (const [i, { halves, frames }] of row.entries()) {
        expect(halves.length).toBe(ops[i].op.op === 'overlap' ? 2 : 1);
        expect(frames.length).toBe(ops[i].op.op === 'overlap' ? 1 : 0);
        for (const half of halves) {
          expect(number(half, 'x')).toBeCloseTo(number(idle, 'x') + ops[i].start * scale, 1);
          expect(number(half, 'width')).toBeCloseTo((ops[i].end - ops[i].start) * scale, 1);
        }
      }
    }
  });

  test('no box lies over another, and all lie in the row of their rank', () => {
    let above = -Infinity;
    for (const row of rows) {
      const top = number(row[0].halves[0], 'y');
      expect(top).toBeGreaterThanOrEqual(above);
      let end = -Infinity;
      for (const { halves, frames } of row) {
        const [first, second] = halves.map(boxOf);
        expect(first.x).toBeGreaterThanOrEqual(end - 0.02);
        end = first.x + first.width;
        expect(first.y).toBe(top);
        if (second)
          expect([second.x, second.width, second.y]).toEqual([first.x, first.width, top + first.height]);
        const height = halves.reduce((sum, h) => sum + number(h, 'height'), 0);
        expect(height).toBe(34);
        above = top + height;
        for (const frame of frames.map(boxOf)) {
          expect(frame.x).toBeGreaterThanOrEqual(first.x);
          expect(frame.x + frame.width).toBeLessThanOrEqual(end + 0.02);
          expect(frame.y + frame.height).toBeLessThanOrEqual(top + height);
        }
      }
    }
  });

  test('every box has its micro-batch, which fits', () => {
    const size = Number(/text\{font:(\d+)px/.exec(svg)![1]);
    expect(size).toBeGreaterThanOrEqual(9);
    for (const [rank, row] of rows.entries())
      for (const [i, { halves, numbers }] of row.entries()) {
        const { op } = simulation.ranks[rank].ops[i];
        const chunks = op.op === 'overlap' ? [op.forward, op.backward] : [op.chunk];
        expect(numbers.map(textOf)).toEqual(chunks.map((c) => String(c.microBatch)));
        for (const [h, text] of numbers.entries()) {
          const box = boxOf(halves[h]);
          expect(number(text, 'x')).toBeCloseTo(box.x + box.width / 2, 1);
          expect(textOf(text).length * 0.64 * size).toBeLessThan(box.width);
          expect(number(text, 'y')).toBeLessThan(box.y + box.height);
          expect(number(text, 'y') - 0.75 * size).toBeGreaterThan(box.y);
        }
      }
  });

  test('all lies on the page, and the same schedule gives the same bytes', () => {
    const walk = (e: Element): Element[] => [e, ...e.children.flatMap(walk)];
    for (const e of walk(root).filter((e) => e.name === 'rect')) {
      const { x, y, width, height } = boxOf(e);
      expect((x || 0) + width).toBeLessThanOrEqual(number(root, 'width'));
      expect((y || 0) + height).toBeLessThanOrEqual(number(root, 'height'));
    }
    expect(draw(makeSchedule(kind, { ranks, microBatches })).svg).toBe(svg);
  });
});

test('title, colours by kind and direction, legend of what there is', () => {
  const { svg, root } = draw(makeSchedule('dualpipe', { ranks: 8, microBatches: 20 }));
  expect(textOf(named(root, 'title')[0])).toBe(
    'dualpipe, 8 ranks, 20 micro-batches, makespan 66, bubble 6 on every rank',
  );
  expect(number(root, 'width')).toBeGreaterThan(1200);
  expect(number(root, 'width')).toBeLessThan(1600);
  const fills = [...svg.matchAll(/\.([fbiw]\d)\{fill:(#[0-9a-f]{6})/g)];
  expect(fills.map((m) => m[1])).toEqual(['f0', 'f1', 'b0', 'b1', 'i0', 'i1', 'w0', 'w1']);
  expect(new Set(fills.map((m) => m[2])).size).toBe(8);
  const legend = root.children.find((c) => c.attributes.class === 'legend')!;
  expect(named(legend, 'text').map(textOf)).toEqual([
    'forward',
    'backward',
    'backward for inputs',
    'backward for weights',
    'overlapped pair',
    'shades: direction 0, 1',
  ]);
  const plain = draw(makeSchedule('1f1b', { ranks: 2, microBatches: 2 }));
  const words = named(
    plain.root.children.find((c) => c.attributes.class === 'legend')!,
    'text',
  ).map(textOf);
  expect(words).toEqual(['forward', 'backward']);
});

test('what does not fit in the largest picture is left to tooltips', () => {
  const { root } = draw(makeSchedule('1f1b', { ranks: 2, microBatches: 1200 }), {
    ...costs,
    forward: 0.01,
  });
  expect(number(root, 'width')).toBeLessThan(25_000);
  const [row] = rowsOf(root);
  expect(row.length).toBe(2400);
  expect(row.some((r) => r.numbers.length === 0)).toBe(true);
});

test('ops that take no time are there', () => {
  const free = { forward: 0, backward: 0, backwardInput: 0, weights: 0, overlap: 0 };
  const { root, svg } = draw(makeSchedule('1f1b', { ranks: 2, microBatches: 2 }), free);
  expect(rowsOf(root).map((r) => r.length)).toEqual([4, 4]);
  expect(svg).not.toContain('NaN');
});

test('text is escaped', () => {
  expect(escapeXml('a<b & "c">')).toBe('a&lt;b &amp; &quot;c&quot;&gt;');
  const { root } = draw({ ...makeSchedule('1f1b', { ranks: 1, microBatches: 1 }), kind: 'x<y&"z"' });
  expect(textOf(named(root, 'title')[0])).toMatch(/^x<y&"z", 1 rank, 1 micro-batch, /);
});
