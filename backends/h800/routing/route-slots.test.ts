import { describe, expect, test } from 'vitest';
import type { RoutingData, RuntimeValue, TensorData } from '../../../ir/interpret/values.ts';
import type { Attributes, DimDeclaration } from '../../../ir/module.ts';
import { type as typeOf } from '../../../ir/ops/testing.ts';
import { assembled, kernelOf, random, reference, run } from '../../../test/support/kernel-subject.ts';
import { emitRoute } from './route.ts';

interface Case {
  readonly title: string;
  readonly experts: number;
  readonly tokens: number;
  readonly align: number;
  readonly bias?: boolean;
  readonly attributes: Attributes & { readonly top: number };
  readonly scores?: (t: number, e: number) => number;
}

const cases: readonly Case[] = [
  { title: 'plain top 2', experts: 8, tokens: 21, align: 8, attributes: { top: 2 } },
  {
    title: 'groups and bias, as DeepSeek-V3',
    experts: 64,
    tokens: 40,
    align: 16,
    bias: true,
    attributes: { top: 6, groups: 8, top_groups: 3, scale: 2.5 },
  },
  {
    title: 'best of each group',
    experts: 40,
    tokens: 17,
    align: 4,
    attributes: { top: 3, groups: 5, top_groups: 2, group_score: 'max' },
  },
  {
    title: 'without normalisation',
    experts: 16,
    tokens: 9,
    align: 128,
    attributes: { top: 4, normalize: false, scale: 16 },
  },
  {
    title: 'ties go to the lowest expert',
    experts: 48,
    tokens: 12,
    align: 8,
    attributes: { top: 5, groups: 4, top_groups: 2 },
    scores: (t, e) => ((e * 7 + t) % 3) / 4,
  },
  {
    title: 'all tokens to one expert',
    experts: 33,
    tokens: 70,
    align: 8,
    attributes: { top: 1 },
    scores: (_, e) => (e === 32 ? 1 : 0),
  },
  {
    title: 'groups of one expert',
    experts: 8,
    tokens: 5,
    align: 8,
    attributes: { top: 2, groups: 8, top_groups: 4 },
  },
  { title: 'one token to all experts', experts: 8, tokens: 1, align: 8, attributes: { top: 8 } },
];

describe('route', () => {
  for (const [seed, c] of cases.entries())
    test(c.title, async () => {
      const { top } = c.attributes;
      const bound = 64 * top + Math.min(c.experts, 64 * top) * (c.align - 1);
      const dims: DimDeclaration[] = [
        { name: 'tokens', bound: 128 },
        { name: 'slots', bound, ragged: { of: 'tokens', per: top, groups: c.experts, align: c.align } },
      ];
      const scoresType = `f32[tokens, experts=${c.experts}]`;
      const args = c.bias ? [scoresType, `f32[experts=${c.experts}]`] : [scoresType];
      const subject = kernelOf({ args, dims, name: 'route' }, (b, operands) =>
        b.op('route', operands, c.attributes, [
          typeOf(`routing[tokens, experts=${c.experts}, top=${top}, slots]`),
        ]),
      );
      const kernel = emitRoute(subject.fn, subject.module);
      const scores = random(scoresType, seed + 1, { tokens: c.tokens }) as TensorData;
      scores.data.forEach((x, i) => {
        scores.data[i] = Math.fround(
          c.scores ? c.scores(Math.floor(i / c.experts), i % c.experts) : 1 / (1 + Math.exp(-x)),
        );
      });
      const inputs: RuntimeValue[] = c.bias ? [scores, random(args[1], 7)] : [scores];
      const { results, arrays } = run(kernel, subject, inputs);
      const want = reference(subject, inputs)[0] as RoutingData;
      const got = results[0] as RoutingData;
      for (const field of ['indices', 'offsets', 'tokenOf', 'choiceOf', 'slotOf'] as const)
        expect(Array.from(got[field]), field).toEqual(Array.from(want[field]));
      for (const [i, w] of want.weights.entries())
        expect(Math.abs(got.weights[i] - w)).toBeLessThanOrEqual(3e-7 * Math.abs(w));
      // What is beyond the slots in use says so.
      const all = new Int32Array(arrays.get('route tokenOf')!.buffer);
      const slots =
        Math.floor((c.tokens * top + Math.min(c.experts, c.tokens * top) * (c.align - 1)) / c.align) *
        c.align;
      for (let i = want.tokenOf.length; i < slots; i++) expect(all[i]).toBe(-1);
      const blocks = new Int32Array(arrays.get('route expertOfBlock')!.buffer);
      for (let b = 0; b < want.tokenOf.length / c.align; b++)
        expect(want.offsets[blocks[b]] <= b * c.align && b * c.align < want.offsets[blocks[b] + 1]).toBe(
          true,
        );
      expect(blocks[want.tokenOf.length / c.align] ?? -1).toBe(-1);
      expect(Array.from(arrays.get(' scratch')!)).toEqual(new Array(16).fill(0));
      await assembled(kernel);
    });

  test('scores computed on the way', () => {
    const dims: DimDeclaration[] = [
      { name: 'tokens', bound: 128 },
      { name: 'slots', bound: 512, ragged: { of: 'tokens', per: 2, groups: 8, align: 8 } },
    ];
    const subject = kernelOf({ args: ['bf16[tokens, experts=8]'], dims, name: 'route' }, (b, [x]) => {
      const scores = b.one('sigmoid', [b.one('cast', [x], {}, typeOf('f32[tokens, experts=8]'))]);
      return b.op('route', [scores], { top: 2 }, [typeOf('routing[tokens, experts=8, top=2, slots]')]);
    });
    const inputs = [random('bf16[tokens, experts=8]', 3, { tokens: 9 })];
    const got = run(emitRoute(subject.fn, subject.module), subject, inputs).results[0] as RoutingData;
    const want = reference(subject, inputs)[0] as RoutingData;
    expect(Array.from(got.slotOf)).toEqual(Array.from(want.slotOf));
  });
});
