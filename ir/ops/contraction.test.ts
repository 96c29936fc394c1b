import fc from 'fast-check';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { decodeBytes, type DType } from '../formats/index.ts';
import type { RoutingData, TensorData } from '../interpret/values.ts';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import { opDefinition } from './index.ts';
import { elementsOf, evaluate, infer, problemOf, type, value } from './testing.ts';

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
/** Small integers: sums of products are exact, so orders of summation must agree. */
const integers = (n: number, seed: number): number[] =>
  Array.from({ length: n }, (_, i) => (((i + seed) * 2654435761) % 17) - 8);

describe('matmul', () => {
  test('is x times the transpose of w', () => {
    const inputs = [value('f32[2, 3]', [1, 2, 3, 4, 5, 6]), value('f32[2, 3]', [1, 0, -1, 2, 1, 0])];
    expect(elementsOf('matmul', { operands: ['f32[2, 3]', 'f32[2, 3]'], inputs })).toEqual([-2, 4, -2, 13]);
  });

  test('sums over any number of trailing axes, for sizes around the blocking of its loops', () => {
    const size = fc.integer({ min: 1, max: 9 });
    const shapes = fc.tuple(
      fc.array(size, { maxLength: 2 }),
      fc.array(size, { maxLength: 2 }),
      fc.array(size, { minLength: 1, maxLength: 2 }),
    );
    fc.assert(
      fc.property(shapes, ([rows, columns, summed]) => {
        const [m, n, k] = [rows, columns, summed].map(product);
        const [x, w] = [integers(m * k, 1), integers(n * k, 5)];
        const operands = [rows, columns].map((own) => `f32[${[...own, ...summed].join(', ')}]`);
        const got = elementsOf('matmul', {
          operands,
          inputs: [value(operands[0], x), value(operands[1], w)],
          attributes: { contract: summed.length },
        });
        const expected = integers(m * n, 0).map((_, at) => {
          const [i, j] = [Math.floor(at / n), at % n];
          return x.slice(i * k, (i + 1) * k).reduce((sum, v, l) => sum + v * w[j * k + l], 0);
        });
        expect(got).toEqual(expected);
      }),
    );
  });

  test('panels of w: more rows than one panel holds', () => {
    const [m, n, k] = [3, 1100, 16];
    const [x, w] = [integers(m * k, 2), integers(n * k, 3)];
    const got = elementsOf('matmul', {
      operands: [`f32[${m}, ${k}]`, `f32[${n}, ${k}]`],
      inputs: [value(`f32[${m}, ${k}]`, x), value(`f32[${n}, ${k}]`, w)],
    });
    for (const [i, j] of [
      [0, 0],
      [2, 1023],
      [2, 1024],
      [1, 1099],
    ])
      expect(got[i * n + j]).toBe(
        x.slice(i * k, (i + 1) * k).reduce((sum, v, l) => sum + v * w[j * k + l], 0),
      );
  });

  test('accumulates wider than bf16 and rounds once', () => {
    const x = [256, ...new Array<number>(16).fill(1)];
    const inputs = [value('bf16[1, 17]', x), value('bf16[1, 17]', new Array<number>(17).fill(1))];
    expect(elementsOf('matmul', { operands: ['bf16[1, 17]', 'bf16[1, 17]'], inputs })).toEqual([272]);
  });

  test('a run-time axis of length 0 sums to 0', () => {
    const inputs = [value('f32[2, n]', [], [2, 0]), value('f32[3, n]', [], [3, 0])];
    expect(elementsOf('matmul', { operands: ['f32[2, n]', 'f32[3, n]'], inputs, sizes: { n: 0 } })).toEqual([
      0, 0, 0, 0, 0, 0,
    ]);
  });
});

describe('matmul of scaled operands', () => {
  const golden = SafetensorsFile.open(
    fileURLToPath(new URL('../../test/golden/fp8_quant_gemm.safetensors', import.meta.url)),
  );
  const read = (name: string, dtype: DType): { shape: readonly number[]; data: Float64Array } => {
    const { shape } = golden.info(name);
    return { shape, data: decodeBytes(dtype, golden.read(name), product(shape)) };
  };
  const scaled = (codes: string, scales: string): TensorData => ({
    kind: 'tensor',
    dtype: 'f8e4m3',
    ...read(codes, 'f8e4m3'),
    scales: [read(scales, 'f32')],
  });

  test.each([0, 1, 2, 3])('gemm%i of the golden set', (which) => {
    const [x, w] = [
      scaled(`gemm${which}.a_q`, `gemm${which}.a_s`),
      scaled(`gemm${which}.b_q`, `gemm${which}.b_s`),
    ];
    const operands = [
      `f8e4m3<1x128; f32>[${x.shape.join(', ')}]`,
      `f8e4m3<128x128; f32>[${w.shape.join(', ')}]`,
    ];
    const declared = [`f32[${x.shape[0]}, ${w.shape[0]}]`];
    const application = { operands, inputs: [x, w], attributes: { promote: 128 }, declared };
    const expected = read(`gemm${which}.c_f32_promoted`, 'f32').data;
    const largest = Math.max(...expected.map(Math.abs));
    const got = elementsOf('matmul', application);
    for (const [i, c] of got.entries()) expect(Math.abs(c - expected[i])).toBeLessThan(1e-4 * largest);
    // With rounding off it is the exact product of the dequantised operands, which the set has in f64.
    const view = golden.read(`gemm${which}.c_f64`);
    const f64 = new Float64Array(view.slice().buffer);
    const unrounded = elementsOf('matmul', { ...application, rounding: false });
    for (const [i, c] of unrounded.entries()) expect(Math.abs(c - f64[i])).toBeLessThan(1e-12 * largest);
    expect(got).not.toEqual(unrounded);
  });

  test('weight gradients: rows of both sides have their own scales', () => {
    // K = 130: two partial sums, the second of two elements.
    const [m, n, k] = [2, 3, 130];
    const [x, w] = [integers(m * k, 1), integers(n * k, 2)];
    const [xScales, wScales] = [
      [1, 2, 0.5, 4],
      [1, 0.25, 2, 8, 3, 1],
    ];
    const side = (rows: number, data: number[], scales: number[]): TensorData => ({
      kind: 'tensor',
      dtype: 'f8e5m2',
      shape: [rows, k],
      data: Float64Array.from(data),
      scales: [{ shape: [rows, 2], data: Float64Array.from(scales) }],
    });
    const got = elementsOf('matmul', {
      operands: [`f8e5m2<1x128; f32>[${m}, t]`, `f8e5m2<1x128; f32>[${n}, t]`],
      inputs: [side(m, x, xScales), side(n, w, wScales)],
      attributes: { promote: 128 },
      declared: [`f32[${m}, ${n}]`],
      sizes: { t: k },
    });
    const expected = Array.from({ length: m * n }, (_, at) => {
      const [i, j] = [Math.floor(at / n), at % n];
      let sum = 0;
      for (let l = 0; l < k; l++) {
        const block = l < 128 ? 0 : 1;
        sum += x[i * k + l] * xScales[i * 2 + block] * w[j * k + l] * wScales[j * 2 + block];
      }
      return sum;
    });
    expect(got).toEqual(expected);
  });

  test('each partial sum is rounded to f32 on its own', () => {
    // 448² + 2^-9 is no f32, so the small product is lost in its block, although the next block takes 448² away again.
    const x = new Array<number>(256).fill(0);
    const w = [...x];
    [x[0], x[1], x[128]] = [448, 1, 448];
    [w[0], w[1], w[128]] = [448, 2 ** -9, -448];
    const side = (data: number[]): TensorData => ({
      kind: 'tensor',
      dtype: 'f8e4m3',
      shape: [1, 256],
      data: Float64Array.from(data),
      scales: [{ shape: [1, 2], data: Float64Array.from([2, 2]) }],
    });
    const application = {
      operands: ['f8e4m3<1x128; f32>[1, 256]', 'f8e4m3<128x128; f32>[1, 256]'],
      inputs: [side(x), side(w)],
      attributes: { promote: 128 },
      declared: ['f32[1, 1]'],
    };
    expect(elementsOf('matmul', { ...application, rounding: false })).toEqual([4 * 2 ** -9]);
    expect(elementsOf('matmul', application)).toEqual([0]);
  });
});

describe('einsum', () => {
  test('the two products of absorbed decode', () => {
    expect(
      infer('einsum', ['bf16[tokens, heads=4, nope=8]', 'bf16[heads=4, nope=8, rank=16]'], {
        spec: 'thn,hnr->thr',
      }),
    ).toEqual(['bf16[tokens, heads=4, rank=16]']);
    expect(
      infer('einsum', ['bf16[t, 4, 8]', 'bf16[u, 8]'], { spec: 'thd,ud->htu' }, ['f32[heads=4, t, u]']),
    ).toEqual(['f32[heads=4, t, u]']);
  });

  test('any spec agrees with loops over all letters', () => {
    const letters = ['a', 'B', 'c', 'd', 'e'];
    const axes = fc.shuffledSubarray(letters, { maxLength: 4 });
    const spec = fc
      .tuple(axes, axes, fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 5, maxLength: 5 }))
      .chain(([a, b, sizes]) =>
        fc.tuple(
          fc.constant(a),
          fc.constant(b),
          fc.constant(sizes),
          fc.shuffledSubarray([...new Set([...a, ...b])]),
        ),
      );
    fc.assert(
      fc.property(spec, ([a, b, sizes, out]) => {
        const size = (l: string): number => sizes[letters.indexOf(l)];
        const shape = (of: string[]): number[] => of.map(size);
        const [x, y] = [integers(product(shape(a)), 1), integers(product(shape(b)), 4)];
        const operands = [a, b].map((of) => `f32[${shape(of).join(', ')}]`);
        const got = elementsOf('einsum', {
          operands,
          inputs: [value(operands[0], x), value(operands[1], y)],
          attributes: { spec: `${a.join('')},${b.join('')}->${out.join('')}` },
        });
        const all = letters.filter((l) => a.includes(l) || b.includes(l));
        const place = (of: string[], index: Map<string, number>): number =>
          of.reduce((at, l) => at * size(l) + index.get(l)!, 0);
        const expected = new Array<number>(product(shape(out))).fill(0);
        for (let n = 0; n < product(shape(all)); n++) {
          const index = new Map<string, number>();
          let rest = n;
          for (const l of all) {
            index.set(l, rest % size(l));
            rest = Math.floor(rest / size(l));
          }
          expected[place(out, index)] += x[place(a, index)] * y[place(b, index)];
        }
        expect(got).toEqual(expected);
      }),
      { numRuns: 400 },
    );
  });
});

describe('grouped_matmul', () => {
  // Three experts in groups aligned to 2: expert 0 has token 1, expert 1 none, expert 2 tokens 0 and 1.
  const routing: RoutingData = {
    kind: 'routing',
    tokens: 2,
    experts: 3,
    top: 2,
    indices: Int32Array.of(2, 2, 2, 0),
    weights: Float64Array.of(1, 1, 1, 1),
    offsets: Int32Array.of(0, 2, 2, 4),
    tokenOf: Int32Array.of(1, -1, 0, 1, -1),
    choiceOf: Int32Array.of(1, -1, 0, 0, -1),
    slotOf: Int32Array.of(2, 2, 3, 0),
  };
  const routingType = 'routing[tokens, 3, 2, slots]';
  const sizes = { slots: 5, tokens: 2 };

  test('takes each row times the matrix of its group; padding rows give 0 whatever they hold', () => {
    const x = [1, 2, 99, 99, 3, 4, 5, 6, 99, 99];
    const w = [1, 0, 0, 1, 1, 1, 7, 7, 7, 7, 7, 7, 2, 0, 0, 2, 1, -1];
    const got = elementsOf('grouped_matmul', {
      operands: ['f32[slots, 2]', 'f32[3, 3, 2]', routingType],
      inputs: [value('f32[slots, 2]', x, [5, 2]), value('f32[3, 3, 2]', w), routing],
      sizes,
    });
    expect(got).toEqual([1, 2, 3, 0, 0, 0, 6, 8, -1, 10, 12, -1, 0, 0, 0]);
  });

  test('of scaled operands is matmul of each group', () => {
    const [n, k] = [130, 200];
    const x: TensorData = {
      kind: 'tensor',
      dtype: 'f8e4m3',
      shape: [5, k],
      data: Float64Array.from(integers(5 * k, 3)),
      scales: [{ shape: [5, 2], data: Float64Array.from([1, 2, 3, 4, 0.1, 0.2, 0.3, 0.4, 5, 6]) }],
    };
    const w: TensorData = {
      kind: 'tensor',
      dtype: 'f8e4m3',
      shape: [3, n, k],
      data: Float64Array.from(integers(3 * n * k, 11)),
      scales: [{ shape: [3, 2, 2], data: Float64Array.from({ length: 12 }, (_, i) => 1 / (i + 1)) }],
    };
    const xType = (rows: string | number): string => `f8e4m3<1x128; f32>[${rows}, ${k}]`;
    const got = elementsOf('grouped_matmul', {
      operands: [xType('slots'), `f8e4m3<1x128x128; f32>[3, ${n}, ${k}]`, routingType],
      inputs: [x, w, routing],
      attributes: { promote: 128 },
      declared: [`f32[slots, ${n}]`],
      sizes,
    });
    const cut = (t: TensorData, start: number, count: number): TensorData => ({
      ...t,
      shape: [count, k],
      data: t.data.slice(start * k, (start + count) * k),
      scales: [],
    });
    const own = (expert: number, first: number, count: number): number[] => {
      const rows = {
        ...cut(x, first, count),
        scales: [{ shape: [count, 2], data: x.scales[0].data.slice(first * 2, (first + count) * 2) }],
      };
      const matrix = {
        ...cut(w, expert * n, n),
        scales: [{ shape: [2, 2], data: w.scales[0].data.slice(expert * 4, expert * 4 + 4) }],
      };
      return elementsOf('matmul', {
        operands: [xType(count), `f8e4m3<128x128; f32>[${n}, ${k}]`],
        inputs: [rows, matrix],
        attributes: { promote: 128 },
        declared: [`f32[${count}, ${n}]`],
      });
    };
    const zeros = new Array<number>(n).fill(0);
    expect(got).toEqual([...own(0, 0, 1), ...zeros, ...own(2, 2, 2), ...zeros]);
  });
});

describe('types', () => {
  test.each<[string, string[], Record<string, number | string>, string[] | undefined, string]>([
    [
      'matmul',
      ['bf16[tokens, hidden=8]', 'bf16[heads=2, qk=3, 8]'],
      {},
      undefined,
      'bf16[tokens, heads=2, qk=3]',
    ],
    [
      'matmul',
      ['bf16[tokens, 2, 3]', 'bf16[hidden=8, 2, 3]'],
      { contract: 2 },
      ['f32[tokens, hidden=8]'],
      'f32[tokens, hidden=8]',
    ],
    [
      'matmul',
      ['f8e4m3<1x128; pow2>[t, 300]', 'f8e4m3<128x128; f32>[2112, 300]'],
      { promote: 128 },
      ['bf16[t, 2112]'],
      'bf16[t, 2112]',
    ],
    [
      'matmul',
      ['f8e4m3<1x1x128; f32>[b, t, 256]', 'f8e4m3<128x128; f32>[64, 256]'],
      { promote: 128 },
      ['bf16[b, t, 64]'],
      'bf16[b, t, 64]',
    ],
    [
      'matmul',
      ['f8e5m2<1x128; f32>[64, t]', 'f8e4m3<1x128; f32>[32, t]'],
      { promote: 128 },
      ['f32[64, 32]'],
      'f32[64, 32]',
    ],
    [
      'grouped_matmul',
      ['bf16[s, 8]', 'bf16[4, n=3, 8]', 'routing[t, 4, 2, s]'],
      {},
      undefined,
      'bf16[s, n=3]',
    ],
  ])('%s %j', (op, operands, attributes, declared, expected) => {
    expect(infer(op, operands, attributes, declared)).toEqual([expected]);
  });

  const x8 = 'f8e4m3<1x128; f32>[t, 256]';
  const w8 = 'f8e4m3<128x128; f32>[64, 256]';
  test.each<[string, string[], Record<string, number | string>, string[] | undefined, string]>([
    [
      'matmul',
      ['bf16[t, 8]', 'bf16[8, 4]'],
      {},
      undefined,
      'w: matmul sums over [8] of x and [4] of w: x is bf16[t, 8], w is bf16[8, 4] (transpose w: its summed axes come last)',
    ],
    [
      'matmul',
      ['bf16[t, 8]', 'bf16[9, 4]'],
      {},
      undefined,
      'w: matmul sums over [8] of x and [4] of w: x is bf16[t, 8], w is bf16[9, 4]',
    ],
    [
      'matmul',
      ['bf16[8]', 'bf16[4, 8]'],
      { contract: 2 },
      undefined,
      'contract: matmul: contract is 2, but x is bf16[8] and w is bf16[4, 8] (contract at least one and at most all axes of either)',
    ],
    [
      'matmul',
      ['bf16[t, 8]', 'f32[4, 8]'],
      {},
      undefined,
      'w: matmul needs x and w of one dtype: x is bf16[t, 8], w is f32[4, 8] (cast one of them: to bf16 or f32)',
    ],
    [
      'matmul',
      ['i32[t, 8]', 'i32[4, 8]'],
      {},
      undefined,
      'x: matmul works on floats, but x is i32[t, 8] (cast x to f32)',
    ],
    [
      'matmul',
      ['bf16[t, 8]', 'bf16[4, 8]'],
      { promote: 128 },
      undefined,
      'promote: matmul: promote is 128, but the operands are plain: x is bf16[t, 8], w is bf16[4, 8] (leave promote out)',
    ],
    [
      'matmul',
      ['bf16[t, 8]', 'bf16[4, 8]'],
      {},
      ['i32[t, 4]'],
      '-: matmul gives plain floats, but i32[t, 4] is declared (declare bf16 or f32)',
    ],
    [
      'matmul',
      [x8, 'bf16[64, 256]'],
      { promote: 128 },
      ['bf16[t, 64]'],
      `w: matmul needs both operands scaled or both plain: x is ${x8}, w is bf16[64, 256] (quantize w, or dequantize the other)`,
    ],
    [
      'matmul',
      [x8, w8],
      {},
      ['bf16[t, 64]'],
      'promote: matmul: scaled operands need promote = 128, but it is 0: a partial sum may have one scale per side only (set promote = 128)',
    ],
    [
      'matmul',
      [x8, w8],
      { promote: 128 },
      undefined,
      '-: matmul of scaled operands cannot know its result dtype (declare the result, in bf16 or f32)',
    ],
    [
      'matmul',
      ['f8e4m3<1x64; f32>[t, 256]', w8],
      { promote: 128 },
      ['bf16[t, 64]'],
      `x: matmul: no kernel can promote this pair of tilings: x is f8e4m3<1x64; f32>[t, 256], w is ${w8} (quantize x in tiles of 1x128 with w[N, K] in 128x128 (forward, input gradient), or both 2-d in 1x128 (weight gradient))`,
    ],
    // Activations tiled along tokens, as a weight gradient wants them transposed: the mistake that this type is for.
    [
      'matmul',
      ['f8e4m3<128x1; f32>[t, 256]', w8],
      { promote: 128 },
      ['bf16[t, 64]'],
      `x: matmul: no kernel can promote this pair of tilings: x is f8e4m3<128x1; f32>[t, 256], w is ${w8} (quantize x in tiles of 1x128 with w[N, K] in 128x128 (forward, input gradient), or both 2-d in 1x128 (weight gradient))`,
    ],
    [
      'matmul',
      [x8, 'f8e4m3<128x1; f32>[64, 256]'],
      { promote: 128 },
      ['bf16[t, 64]'],
      `w: matmul: no kernel can promote this pair of tilings: x is ${x8}, w is f8e4m3<128x1; f32>[64, 256] (quantize x in tiles of 1x128 with w[N, K] in 128x128 (forward, input gradient), or both 2-d in 1x128 (weight gradient))`,
    ],
    [
      'matmul',
      ['f8e4m3<1x128; f32><1x*; f32>[t, 256]', w8],
      { promote: 128 },
      ['bf16[t, 64]'],
      `x: matmul: no kernel can promote this pair of tilings: x is f8e4m3<1x128; f32><1x*; f32>[t, 256], w is ${w8} (quantize x in tiles of 1x128 with w[N, K] in 128x128 (forward, input gradient), or both 2-d in 1x128 (weight gradient))`,
    ],
    [
      'matmul',
      ['f12e5m6<1x128; pow2>[t, 256]', w8],
      { promote: 128 },
      ['bf16[t, 64]'],
      `x: matmul: tensor cores multiply scaled f8e4m3 and f8e5m2 only: x is f12e5m6<1x128; pow2>[t, 256], w is ${w8} (dequantize x, or quantize it to f8e4m3)`,
    ],
    [
      'einsum',
      ['f32[2, 3]', 'f32[3, 4]'],
      { spec: 'ab,bc' },
      undefined,
      'spec: einsum: "ab,bc" is no spec of two operands (write letters like "thn,hnr->thr")',
    ],
    [
      'einsum',
      ['f32[2, 2]', 'f32[2]'],
      { spec: 'aa,a->a' },
      undefined,
      'spec: einsum: "aa,a->a" has a twice in a (use one letter per axis)',
    ],
    [
      'einsum',
      ['f32[2]', 'f32[2]'],
      { spec: 'a,a->aa' },
      undefined,
      'spec: einsum: "a,a->aa" has a twice in the result (use one letter per axis)',
    ],
    [
      'einsum',
      ['f32[2]', 'f32[2]'],
      { spec: 'a,a->b' },
      undefined,
      'spec: einsum: "a,a->b" has b in the result but in no operand (broadcast adds axes)',
    ],
    [
      'einsum',
      ['f32[2, 3]', 'f32[3]'],
      { spec: 'a,b->ab' },
      undefined,
      'spec: einsum: "a,b->ab" gives a 1 axes, but it is f32[2, 3] (write one letter per axis)',
    ],
    [
      'einsum',
      ['f32[2, 3]', 'f32[n, 4]'],
      { spec: 'ab,bc->ac' },
      undefined,
      'b: einsum: b of "ab,bc->ac" is 3 in a and n in b: a is f32[2, 3], b is f32[n, 4]',
    ],
    [
      'einsum',
      ['f32[2]', 'bf16[2]'],
      { spec: 'a,a->' },
      undefined,
      'b: einsum needs a and b of one dtype: a is f32[2], b is bf16[2] (cast one of them: to f32 or bf16)',
    ],
    [
      'einsum',
      [x8, 'bf16[64, 256]'],
      { spec: 'tk,nk->tn' },
      undefined,
      `a: einsum needs plain values, but a is scaled: ${x8} (dequantize a first, or quantize after einsum)`,
    ],
    [
      'grouped_matmul',
      ['bf16[s, 8]', 'bf16[4, 3, 8]', 'bf16[4]'],
      {},
      undefined,
      'routing: grouped_matmul needs a routing as routing, but got bf16[4]',
    ],
    [
      'grouped_matmul',
      ['bf16[t, 8]', 'bf16[4, 3, 8]', 'routing[t, 4, 2, s]'],
      {},
      undefined,
      'x: grouped_matmul: rows of x are t, but the routing has s: x is bf16[t, 8], w is bf16[4, 3, 8], routing is routing[t, 4, 2, s] (group_tokens brings rows into the order of a routing)',
    ],
    [
      'grouped_matmul',
      ['bf16[s, 8]', 'bf16[5, 3, 8]', 'routing[t, 4, 2, s]'],
      {},
      undefined,
      'w: grouped_matmul: w has 5 matrices, the routing 4 experts: x is bf16[s, 8], w is bf16[5, 3, 8], routing is routing[t, 4, 2, s]',
    ],
    [
      'grouped_matmul',
      ['bf16[s, 8]', 'bf16[4, 8, 3]', 'routing[t, 4, 2, s]'],
      {},
      undefined,
      'w: grouped_matmul sums over 8 of x and 3 of w: x is bf16[s, 8], w is bf16[4, 8, 3], routing is routing[t, 4, 2, s] (transpose w: its summed axis comes last)',
    ],
    [
      'grouped_matmul',
      ['bf16[s, 2, 8]', 'bf16[4, 3, 8]', 'routing[t, 4, 2, s]'],
      {},
      undefined,
      'x: grouped_matmul needs x as [slots, K]: x is bf16[s, 2, 8], w is bf16[4, 3, 8], routing is routing[t, 4, 2, s]',
    ],
    [
      'grouped_matmul',
      ['f8e4m3<1x128; f32>[s, 8]', 'f8e4m3<128x128x1; f32>[4, 3, 8]', 'routing[t, 4, 2, s]'],
      { promote: 128 },
      ['bf16[s, 3]'],
      'w: grouped_matmul: no kernel can promote this pair of tilings: x is f8e4m3<1x128; f32>[s, 8], w is f8e4m3<128x128x1; f32>[4, 3, 8] (quantize x in tiles of 1x128 with w in 1x128x128)',
    ],
  ])('%s %j %j', (op, operands, attributes, declared, expected) => {
    expect(problemOf(op, operands, attributes, declared)).toBe(expected);
  });

  test('a scaled weight with several output axes has no tiles of [N, K]', () => {
    const operands = [x8, 'f8e4m3<1x128x128; f32>[2, 32, 256]'];
    expect(problemOf('matmul', operands, { promote: 128 }, ['bf16[t, 2, 32]'])).toContain(
      'no kernel can promote',
    );
    const contracted = ['f8e4m3<1x1x128; f32>[t, 2, 128]', 'f8e4m3<128x128; f32>[2, 128]'];
    expect(problemOf('matmul', contracted, { promote: 128, contract: 2 }, ['bf16[t]'])).toMatch(
      /^contract: matmul of scaled operands needs w as \[N, K\] and contract = 1/,
    );
  });
});

test('costs: two operations per product, scales in the bytes', () => {
  const sizes = (): number => 10;
  const cost = (
    op: string,
    operands: string[],
    results: string[],
    attributes: Record<string, string | number>,
  ) => opDefinition(op).cost!(operands.map(type), results.map(type), attributes, sizes);
  expect(
    cost('matmul', ['f8e4m3<1x128; f32>[t, 256]', 'f8e4m3<128x128; ue8m0>[300, 256]'], ['bf16[t, 300]'], {
      contract: 1,
    }),
  ).toEqual({
    flops: 2 * 10 * 300 * 256,
    bytes: 10 * 256 + 10 * 2 * 4 + 300 * 256 + 3 * 2 + 10 * 300 * 2,
  });
  expect(cost('einsum', ['f32[t, 4]', 'f32[4, 5]'], ['f32[t]'], { spec: 'ab,bc->a' }).flops).toBe(
    2 * 10 * 4 * 5,
  );
  expect(
    cost('grouped_matmul', ['f32[s, 4]', 'f32[2, 3, 4]', 'routing[t, 2, 1, s]'], ['f32[s, 3]'], {}).flops,
  ).toBe(2 * 10 * 3 * 4);
});

test('references are not shared with their operands', () => {
  const x = value('f32[1, 2]', [1, 2]);
  const [y] = evaluate('matmul', { operands: ['f32[1, 2]', 'f32[1, 2]'], inputs: [x, x] }) as TensorData[];
  y.data[0] = 99;
  expect([...x.data]).toEqual([1, 2]);
});
