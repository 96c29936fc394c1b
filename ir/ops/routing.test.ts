import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import { decodeBytes } from '../formats/index.ts';
import { apply, randomNumbers, randomTensor } from '../interpret/testing.ts';
import type { RoutingData, TensorData } from '../interpret/values.ts';
import { raggedBound, type Attributes, type DimDeclaration } from '../module.ts';

const golden = SafetensorsFile.open(
  new URL('../../test/golden/gating.safetensors', import.meta.url).pathname,
);
function load(name: string): TensorData {
  const { dtype, shape } = golden.info(name);
  const format = dtype === 'I32' ? 'i32' : 'f32';
  const count = shape.reduce((a, b) => a * b, 1);
  return {
    kind: 'tensor',
    dtype: format,
    shape,
    data: decodeBytes(format, golden.read(name), count),
    scales: [],
  };
}
const sigmoid = (t: TensorData): TensorData => ({
  ...t,
  data: t.data.map((x) => Math.fround(1 / (1 + Math.exp(-x)))),
});
const declaration = (top: number, experts: number, align: number): DimDeclaration => {
  const ragged = { of: 'tokens', per: top, groups: experts, align };
  return { name: 'slots', bound: raggedBound(ragged, 512), ragged };
};

function route(scores: TensorData, bias: TensorData | null, attributes: Attributes, align = 1): RoutingData {
  const [, experts] = scores.shape;
  const top = attributes.top as number;
  const [out] = apply(
    'route',
    {
      operands: [`f32[tokens, ${experts}]`, ...(bias ? [`f32[${experts}]`] : [])],
      declared: [`routing[tokens, experts=${experts}, top=${top}, slots]`],
      dims: [declaration(top, experts, align)],
      attributes,
    },
    bias ? [scores, bias] : [scores],
  );
  return out as RoutingData;
}

const v3 = { top: 8, groups: 8, top_groups: 4, scale: 2.5 };
const small = { top: 4, groups: 3, top_groups: 2 };

describe.each([
  ['v3_64x256', v3],
  ['small_24x12', small],
] as const)('golden %s', (name, attributes) => {
  const scores = sigmoid(load(`${name}.logits`));
  const r = route(scores, load(`${name}.bias`), attributes, 8);

  test('indices and loads exactly, weights to 1e-5', () => {
    expect([...r.indices]).toEqual([...load(`${name}.indices`).data]);
    const counts = new Array<number>(r.experts).fill(0);
    for (const e of r.indices) counts[e]++;
    expect(counts).toEqual([...load(`${name}.load`).data]);
    for (const [i, w] of load(`${name}.weights`).data.entries())
      expect(Math.abs(r.weights[i] - w)).toBeLessThan(1e-5);
  });

  test('every pick lies in a group that the golden choice keeps', () => {
    const kept = load(`${name}.groups`);
    const size = r.experts / attributes.groups;
    for (const [i, e] of r.indices.entries()) {
      const t = Math.floor(i / r.top);
      const own = kept.data.slice(t * kept.shape[1], (t + 1) * kept.shape[1]);
      expect([...own]).toContain(Math.floor(e / size));
    }
  });
});

test('golden ties: lowest index first, groups and experts', () => {
  const r = route(sigmoid(load('ties.logits')), null, { top: 4, groups: 4, top_groups: 2, scale: 2.5 });
  expect([...r.indices]).toEqual([...load('ties.indices_lowest_index_first').data]);
  for (const [i, w] of load('ties.weights_lowest_index_first').data.entries())
    expect(Math.abs(r.weights[i] - w)).toBeLessThan(1e-5);
});

test.each([0, 1, 2, 3, 4, 5])('golden bias_update: loads of step %i', (step) => {
  const r = route(sigmoid(load(`bias_update.logits.${step}`)), load(`bias_update.bias.${step}`), v3);
  const counts = new Array<number>(256).fill(0);
  for (const e of r.indices) counts[e]++;
  expect(counts).toEqual([...load(`bias_update.load.${step}`).data]);
});

describe('rules of choice', () => {
  const scores = (...data: number[]): TensorData => ({
    kind: 'tensor',
    dtype: 'f32',
    shape: [1, data.length],
    data: Float64Array.from(data),
    scales: [],
  });

  test('closed groups never win, even when open choices are negative', () => {
    const r = route(scores(-5, -6, -1, -9, -8, -7), null, {
      top: 2,
      groups: 3,
      top_groups: 1,
      group_score: 'max',
    });
    expect([...r.indices]).toEqual([2, 3]);
  });
  test('top2 adds two, max looks at one', () => {
    const s = scores(0.75, 0, 0.5, 0.5);
    const groups = { top: 1, groups: 2, top_groups: 1 };
    expect([...route(s, null, { ...groups, group_score: 'top2' }).indices]).toEqual([2]);
    expect([...route(s, null, { ...groups, group_score: 'max' }).indices]).toEqual([0]);
  });
  test('the bias chooses, the score weighs', () => {
    const r = route(scores(0.5, 0.25, 0.125), scoresBias(0, 0, 1), { top: 2, epsilon: 0 });
    expect([...r.indices]).toEqual([2, 0]);
    expect([...r.weights]).toEqual([Math.fround(0.2), Math.fround(0.8)]);
    const plain = route(scores(0.5, 0.25, 0.125), scoresBias(0, 0, 1), {
      top: 2,
      normalize: false,
      scale: 2,
    });
    expect([...plain.weights]).toEqual([0.25, 1]);
  });
  test('a NaN is an error that says where', () => {
    expect(() => route(scores(0.5, NaN), null, { top: 1 })).toThrow(
      'the choice of token 0 for expert 1 is NaN',
    );
  });
  const scoresBias = (...data: number[]): TensorData => ({ ...scores(...data), shape: [data.length] });
});

const routings = fc
  .record({
    tokens: fc.integer({ min: 0, max: 20 }),
    experts: fc.integer({ min: 1, max: 9 }),
    seed: fc.integer(),
    align: fc.constantFrom(1, 4, 128),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ tokens, experts, seed, align, share }) => {
    const top = Math.max(1, Math.round(share * experts));
    return { routing: route(randomTensor([tokens, experts], seed), null, { top }, align), seed, align };
  });

test('the layout: aligned groups in expert order, tokens in order inside, every choice once', () => {
  fc.assert(
    fc.property(routings, ({ routing: r, align }) => {
      expect(r.tokenOf.length).toBe(r.offsets[r.experts]);
      for (let e = 0; e < r.experts; e++) {
        expect(r.offsets[e] % align).toBe(0);
        const group = [...r.tokenOf.slice(r.offsets[e], r.offsets[e + 1])];
        const filled = group.filter((t) => t >= 0);
        expect(group.slice(0, filled.length)).toEqual(filled);
        expect(filled).toEqual([...filled].sort((a, b) => a - b));
        expect(group.length - filled.length).toBeLessThan(align);
        for (const [i, t] of filled.entries()) {
          const choice = r.choiceOf[r.offsets[e] + i];
          expect(r.indices[t * r.top + choice]).toBe(e);
          expect(r.slotOf[t * r.top + choice]).toBe(r.offsets[e] + i);
        }
      }
      expect(r.tokenOf.filter((t) => t >= 0).length).toBe(r.tokens * r.top);
    }),
    { numRuns: 100 },
  );
});

test('group, then combine gives top times x; slot weights sum like the weights', () => {
  fc.assert(
    fc.property(routings, ({ routing: r, seed }) => {
      const dims = [declaration(r.top, r.experts, 1)];
      const type = `routing[tokens, ${r.experts}, ${r.top}, slots]`;
      const x = randomTensor([r.tokens, 3], seed + 1);
      const [grouped] = apply('group_tokens', { operands: ['f32[tokens, 3]', type], dims }, [
        x,
        r,
      ]) as TensorData[];
      for (const [slot, t] of r.tokenOf.entries())
        if (t < 0) expect([...grouped.data.slice(slot * 3, slot * 3 + 3)]).toEqual([0, 0, 0]);
      const [sum] = apply('combine_tokens', { operands: ['f32[slots, 3]', type], dims }, [
        grouped,
        r,
      ]) as TensorData[];
      expect([...sum.data]).toEqual([...x.data].map((v) => (v === 0 ? 0 : v * r.top)));

      const field = (name: string): TensorData =>
        apply('routing_field', { operands: [type], dims, attributes: { field: name } }, [r])[0] as TensorData;
      expect(field('weights').data).toEqual(r.weights);
      expect([...field('indices').data]).toEqual([...r.indices]);
      const [back] = apply('combine_tokens', { operands: ['f32[slots]', type], dims }, [
        field('slot_weights'),
        r,
      ]) as TensorData[];
      for (let t = 0; t < r.tokens; t++) {
        const own = r.weights.slice(t * r.top, (t + 1) * r.top).reduce((n, w) => n + w, 0);
        expect(back.data[t]).toBeCloseTo(own, 5);
      }
    }),
    { numRuns: 50 },
  );
});

test('group_tokens moves codes with their scales', () => {
  const r = route(randomTensor([4, 3], 3), null, { top: 2 }, 4);
  const next = randomNumbers(4);
  const numbers = (n: number): Float64Array =>
    Float64Array.from({ length: n }, () => Math.round(next() * 100));
  const x: TensorData = {
    kind: 'tensor',
    dtype: 'f8e4m3',
    shape: [4, 6],
    data: numbers(24),
    scales: [{ shape: [4, 2], data: numbers(8) }],
  };
  const operands = ['f8e4m3<1x4; f32>[tokens, 6]', 'routing[tokens, 3, 2, slots]'];
  const [out] = apply('group_tokens', { operands, dims: [declaration(2, 3, 4)] }, [x, r]) as TensorData[];
  for (const [slot, t] of r.tokenOf.entries()) {
    const row = (data: Float64Array, i: number, n: number): number[] => [...data.slice(i * n, (i + 1) * n)];
    expect(row(out.data, slot, 6)).toEqual(t < 0 ? [0, 0, 0, 0, 0, 0] : row(x.data, t, 6));
    expect(row(out.scales[0].data, slot, 2)).toEqual(t < 0 ? [0, 0] : row(x.scales[0].data, t, 2));
  }
});

describe('says what is wrong', () => {
  const attempt =
    (
      attributes: Attributes,
      declared: string,
      dims: readonly DimDeclaration[],
      operands = ['f32[tokens, 12]'],
    ) =>
    () =>
      apply('route', { operands, declared: [declared], dims, attributes }, [randomTensor([2, 12], 5)]);
  const slots = [declaration(4, 12, 8)];
  const result = 'routing[tokens, 12, top=4, slots]';

  test('in the choice', () => {
    expect(attempt({ top: 4, groups: 5 }, result, slots)).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: route: 12 experts do not fall into 5 equal groups]`,
    );
    expect(attempt({ top: 4, groups: 4, top_groups: 1 }, result, slots)).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: route: top is 4, but 3 experts stand open to a token]`,
    );
    expect(attempt({ top: 4, groups: 4, top_groups: 5 }, result, slots)).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: route: top_groups is 5 of 4 groups]`,
    );
  });
  test('in the result', () => {
    expect(attempt({ top: 4 }, result, [])).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: route: slots must be a ragged dim of the module]`,
    );
    expect(attempt({ top: 2 }, result, slots)).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: route: routing[tokens, 12, top=4, slots] is declared, but scores is f32[tokens, 12] and top is 2]`,
    );
    expect(attempt({ top: 4 }, result, [declaration(2, 12, 8)])).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: route: slots is ragged for 2 of 12 experts, but 4 of 12 are chosen]`,
    );
  });
  test('in the operands', () => {
    expect(attempt({ top: 4 }, result, slots, ['bf16[tokens, 12]'])).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: route needs scores: f32[tokens, experts], but got bf16[tokens, 12]]`,
    );
    const tiled = { operands: ['f8e4m3<2x4; f32>[tokens, 8]', result], dims: slots };
    expect(() => apply('group_tokens', tiled, [])).toThrowErrorMatchingInlineSnapshot(
      `[OpProblem: group_tokens moves rows, but tiles of f8e4m3<2x4; f32>[tokens, 8] hold several]`,
    );
  });
});
