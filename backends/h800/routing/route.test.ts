// route at the sizes and against the vectors that matter to DeepSeek-V3; its other cases stand beside the writer.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeBytes } from '../../../ir/formats/index.ts';
import type { RoutingData, TensorData } from '../../../ir/interpret/values.ts';
import { raggedBound, type Attributes, type DimDeclaration } from '../../../ir/module.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import { SafetensorsFile } from '../../../runtime/safetensors.ts';
import {
  assembled,
  kernelOf,
  random,
  reference,
  run,
  tensorValue,
  type Subject,
} from '../../../test/support/kernel-subject.ts';
import { emitRouting, isRouting } from './index.ts';

const golden = SafetensorsFile.open(
  new URL('../../../test/golden/gating.safetensors', import.meta.url).pathname,
);

function load(name: string): TensorData {
  const { dtype, shape } = golden.info(name);
  const format = dtype === 'I32' ? 'i32' : 'f32';
  return tensorValue(
    format,
    shape,
    decodeBytes(
      format,
      golden.read(name),
      shape.reduce((a, b) => a * b, 1),
    ),
  );
}

const sigmoid = (t: TensorData): TensorData => ({
  ...t,
  data: t.data.map((x) => Math.fround(1 / (1 + Math.exp(-x)))),
});

function subjectOf(
  experts: number,
  attributes: Attributes,
  { bias = false, align = 8, bound = 64 } = {},
): Subject {
  const top = Number(attributes.top);
  const ragged = { of: 'tokens', per: top, groups: experts, align };
  const dims: readonly DimDeclaration[] = [
    { name: 'tokens', bound },
    { name: 'slots', bound: Math.ceil(raggedBound(ragged, bound) / align) * align, ragged },
  ];
  const args = [`f32[tokens, experts=${experts}]`, ...(bias ? [`f32[experts=${experts}]`] : [])];
  const declared = [typeOf(`routing[tokens, experts=${experts}, top=${top}, slots]`)];
  return kernelOf({ args, dims, name: 'route' }, (b, operands) =>
    b.op('route', operands, attributes, declared),
  );
}

/** Runs a routing kernel and compares all seven arrays, also beyond the slots in use. */
function compare(subject: Subject, inputs: readonly TensorData[], align = 8): RoutingData {
  expect(isRouting(subject.fn)).toBe(true);
  const { results, arrays } = run(emitRouting(subject.fn, subject.module), subject, inputs);
  const [got, want] = [results[0], reference(subject, inputs)[0]] as RoutingData[];
  for (const field of ['indices', 'offsets', 'tokenOf', 'choiceOf', 'slotOf'] as const)
    expect([...got[field]], field).toEqual([...want[field]]);
  for (const [i, w] of want.weights.entries())
    if (got.weights[i] !== w) expect(Math.abs(got.weights[i] - w)).toBeLessThanOrEqual(4e-7 * Math.abs(w));
  const ints = (component: string): Int32Array => {
    const bytes = arrays.get(`route ${component}`)!;
    return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  };
  const top = want.indices.length / want.tokens;
  const slots =
    Math.floor((want.tokens * top + Math.min(want.experts, want.tokens * top) * (align - 1)) / align) * align;
  for (const component of ['tokenOf', 'choiceOf'])
    expect(
      [...ints(component).slice(want.tokenOf.length, slots)].every((x) => x === -1),
      component,
    ).toBe(true);
  const blocks = new Array<number>(slots / align).fill(-1);
  for (let e = 0; e < want.experts; e++) blocks.fill(e, want.offsets[e] / align, want.offsets[e + 1] / align);
  expect([...ints('expertOfBlock').slice(0, slots / align)]).toEqual(blocks);
  return got;
}

const v3 = { top: 8, groups: 8, top_groups: 4, scale: 2.5 };

describe('golden vectors', () => {
  test('64 tokens, 256 experts as DeepSeek-V3 chooses', () => {
    const subject = subjectOf(256, v3, { bias: true });
    const got = compare(subject, [sigmoid(load('v3_64x256.logits')), load('v3_64x256.bias')]);
    expect([...got.indices]).toEqual([...load('v3_64x256.indices').data]);
    const loads = new Array<number>(256).fill(0);
    for (const e of got.indices) loads[e]++;
    expect(loads).toEqual([...load('v3_64x256.load').data]);
    for (const [i, w] of load('v3_64x256.weights').data.entries())
      expect(Math.abs(got.weights[i] - w)).toBeLessThan(1e-5);
  });

  test('24 tokens, 12 experts', () => {
    const got = compare(subjectOf(12, { top: 4, groups: 3, top_groups: 2 }, { bias: true }), [
      sigmoid(load('small_24x12.logits')),
      load('small_24x12.bias'),
    ]);
    expect([...got.indices]).toEqual([...load('small_24x12.indices').data]);
  });

  test('ties: lowest index first, groups and experts', () => {
    const got = compare(subjectOf(16, { top: 4, groups: 4, top_groups: 2, scale: 2.5 }), [
      sigmoid(load('ties.logits')),
    ]);
    expect([...got.indices]).toEqual([...load('ties.indices_lowest_index_first').data]);
    for (const [i, w] of load('ties.weights_lowest_index_first').data.entries())
      expect(Math.abs(got.weights[i] - w)).toBeLessThan(1e-5);
  });
});

describe('adversarial scores', () => {
  const scores = (tokens: number, experts: number, f: (t: number, e: number) => number): TensorData =>
    tensorValue(
      'f32',
      [tokens, experts],
      Float64Array.from({ length: tokens * experts }, (_, i) =>
        Math.fround(f(Math.floor(i / experts), i % experts)),
      ),
    );

  test('all scores equal', () => {
    compare(subjectOf(256, v3), [scores(9, 256, () => 0.5)]);
  });

  test('a bias that makes every choice negative', () => {
    const bias = tensorValue(
      'f32',
      [32],
      Float64Array.from({ length: 32 }, (_, e) => -5 - (e % 3)),
    );
    compare(subjectOf(32, { top: 6, groups: 4, top_groups: 2 }, { bias: true }), [
      sigmoid(random('f32[11, 32]', 2)),
      bias,
    ]);
  });

  test('open experts at −infinity tie with closed ones', () => {
    const s = scores(4, 16, (t, e) => (e === 3 + t ? 1 : -Infinity));
    compare(subjectOf(16, { top: 3, groups: 4, top_groups: 2, normalize: false, group_score: 'max' }), [s]);
  });

  test('more entries than one round of every warp', () => {
    compare(
      subjectOf(3, { top: 2 }, { align: 4, bound: 512 }),
      [scores(400, 3, (t, e) => ((t * 7 + e * 5) % 11) / 11)],
      4,
    );
  });

  test('as many experts as shared memory has room for', () => {
    compare(subjectOf(1024, { top: 3, groups: 8, top_groups: 3 }), [
      scores(6, 1024, (t, e) => ((t * 131 + e * 37) % 509) / 509),
    ]);
  });

  test('a single expert', () => {
    compare(subjectOf(1, { top: 1 }), [scores(5, 1, () => 1)]);
  });

  test('any sizes, many ties', () =>
    fc.assert(
      fc.property(
        fc.record({
          tokens: fc.integer({ min: 1, max: 60 }),
          groups: fc.integer({ min: 1, max: 6 }),
          size: fc.integer({ min: 1, max: 9 }),
          align: fc.constantFrom(1, 4, 16),
          levels: fc.integer({ min: 1, max: 40 }),
        }),
        fc.nat(99),
        fc.nat(99),
        ({ tokens, groups, size, align, levels }, a, b) => {
          const topGroups = 1 + (a % groups);
          const top = 1 + (b % Math.min(8, topGroups * size));
          const subject = subjectOf(
            groups * size,
            { top, groups, top_groups: topGroups, group_score: a % 2 ? 'max' : 'top2' },
            { align },
          );
          compare(
            subject,
            [scores(tokens, groups * size, (t, e) => (1 + ((t * 31 + e * 17 + a * b) % levels)) / 64)],
            align,
          );
        },
      ),
      { numRuns: 8, seed: 11 },
    ));
});

test('the real size assembles without spills', async () => {
  const { fn, module } = subjectOf(256, v3, { bias: true, align: 128, bound: 16384 });
  await assembled(emitRouting(fn, module));
});
