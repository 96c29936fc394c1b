// Each rule for schedules with one that breaks it, made from one sound schedule by a change to its text.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { renderDiagnostic, type Diagnostic } from '../diagnostics.ts';
import type { Module } from '../module.ts';
import type { Chunk, Schedule, ScheduleOp } from '../schedule.ts';
import { noSpan } from '../span.ts';
import { parseModule } from '../text/index.ts';
import { verifyModule } from '../verify.ts';

const sound = readFileSync(new URL('../fixtures/schedule.dsir', import.meta.url), 'utf8');

const read = (text: string): Module => {
  const { module, diagnostics } = parseModule(text, 'test.dsir');
  expect(diagnostics).toEqual([]);
  return module!;
};

const render = (found: readonly Diagnostic[], text: string): string =>
  found
    .map((d) => renderDiagnostic(d, { sourceOf: (file) => (file === 'test.dsir' ? text : undefined) }))
    .join('\n\n');

/** Texts that read well: what is replaced in the sound one, and by what. */
const wrongTexts: Readonly<Record<string, readonly [from: string, to: string]>> = {
  'no micro-batches': ['micro_batches = 4', 'micro_batches = 0'],
  'no live activations': ['live_activations = 3', 'live_activations = 0'],
  'two layers of one name': ['layer dense =', 'layer moe ='],
  'two phases of one name': ['layer dense = attention', 'layer dense = mlp'],
  'a phase called input': ['layer dense = attention', 'layer dense = input'],
  'a stage of an unknown layer': ['stage 1 = moe', 'stage 1 = meo'],
  'a stage of no layers of a kind': ['moe * 4', 'moe * 0'],
  'an order of an unknown layer': ['order weights dense', 'order weights linear'],
  'an order twice': ['order weights dense', 'order forward dense'],
  'an order of two layers': ['order weights dense', 'order weights dense & moe'],
  'an overlap of one layer': ['order overlap moe & moe', 'order overlap moe'],
  'a step of an unknown phase': ['compute mlp(F)\n', 'compute mpl(F)\n'],
  'a step of the input': ['compute mlp(F)\n', 'compute input(F)\n'],
  'a step after an unknown phase': ['after mlp(F), attention(B)', 'after mlp(F), router(B)'],
  'a step of the other layer of an overlap': ['order overlap moe & moe', 'order overlap dense & moe'],
  'a rank that holds an unknown stage': ['rank 0 stages [0, 1]', 'rank 0 stages [0, 2]'],
  'a direction beyond the stages of a rank': ['weights d1 m1', 'weights d2 m1'],
  'a second chunk with an unknown direction': ['& backward d1 m0', '& backward d7 m0'],
  'an unknown peer to send to': ['send gradients d1 m0 -> 1', 'send gradients d1 m0 -> 2'],
  'an unknown peer to receive from': ['receive gradients d0 m0 <- 1', 'receive gradients d0 m0 <- 64'],
  'a receive with an unknown direction': ['receive gradients d0 m0 <- 1', 'receive gradients d3 m0 <- 1'],
};

describe('a text with', () => {
  test.each(Object.entries(wrongTexts))('%s', (_, [from, to]) => {
    expect(verifyModule(read(sound))).toEqual([]);
    const text = sound.replace(from, to);
    expect(text).not.toBe(sound);
    expect(render(verifyModule(read(text)), text)).toMatchSnapshot();
  });
});

const train = read(sound).schedules[0];
const chunk = (direction: number, microBatch: number): Chunk => ({ direction, microBatch });
const withOps = (...ops: ScheduleOp[]): Partial<Schedule> => ({
  programs: [{ stages: [0], ops, span: noSpan }],
});
const [layer] = train.layers;

/** What no text can say. */
const wrongData: Readonly<Record<string, Partial<Schedule>>> = {
  'a name with a blank': { name: 'two words' },
  'a layer with an odd name': { layers: [...train.layers, { ...layer, name: 'a-b' }] },
  'a phase with an odd name': {
    layers: [...train.layers, { ...layer, name: 'odd', phases: [{ ...layer.phases[0], name: '' }] }],
  },
  'a layer without phases': { layers: [...train.layers, { ...layer, name: 'empty', phases: [] }] },
  'half a micro-batch': { microBatches: 4.5 },
  'NaN as SMs': { sms: { compute: NaN, comm: -1 } },
  'stages without end': { bounds: { activations: 3, stages: Infinity } },
  'no ranks': { programs: [] },
  'a negative stage': { programs: [{ stages: [-1], ops: [], span: noSpan }] },
  'a negative micro-batch': withOps({ op: 'forward', chunk: chunk(0, -1), span: noSpan }),
  'a fraction of a direction': withOps({ op: 'weights', chunk: chunk(0.5, 0), span: noSpan }),
  'a fraction of a peer': withOps({
    op: 'receive',
    payload: 'gradients',
    chunk: chunk(0, 0),
    peer: 0.5,
    span: noSpan,
  }),
};

describe('data with', () => {
  test.each(Object.entries(wrongData))('%s', (_, change) => {
    const module = read(sound);
    const found = verifyModule({ ...module, schedules: [{ ...train, ...change }] });
    expect(render(found, '')).toMatchSnapshot();
  });
});

test('two schedules of one name are refused, also without a text', () => {
  const found = verifyModule({ ...read(sound), schedules: [train, train] });
  expect(found.map((d) => d.code)).toEqual(['ir/duplicate-name']);
});

test('of very many wrong ops of a rank the first are shown and the rest counted', () => {
  const op: ScheduleOp = { op: 'forward', chunk: chunk(9, 0), span: noSpan };
  const found = verifyModule({
    ...read(sound),
    schedules: [{ ...train, ...withOps(...Array.from({ length: 1000 }, () => op)) }],
  });
  expect(found.length).toBe(11);
  expect(found.at(-1)!.message).toBe('rank 0 has 990 more wrong ops');
});
