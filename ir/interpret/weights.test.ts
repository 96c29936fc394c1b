import { describe, expect, test } from 'vitest';
import { DiagnosticError } from '../diagnostics.ts';
import type { Attributes, Declaration, DeriveExpression, Function } from '../module.ts';
import { noSpan } from '../span.ts';
import { apply, asTensorType, randomTensor, tableSource } from './testing.ts';
import type { TensorData } from './values.ts';
import { WeightCache } from './weights.ts';

const parameter = (name: string, type: string, stored: readonly number[]): Declaration => ({
  kind: 'parameter',
  value: { name, type: asTensorType(type), source: 'parameter' },
  stored,
  span: noSpan,
});
const of = (name: string): DeriveExpression => ({ parameter: name });
const op = (
  name: string,
  type: string,
  operands: readonly DeriveExpression[],
  attributes: Attributes = {},
) => ({
  op: name,
  operands,
  attributes,
  type: asTensorType(type),
});
const derived = (
  name: string,
  expression: Exclude<DeriveExpression, { parameter: string }>,
): Declaration => ({
  kind: 'derived',
  value: { name, type: expression.type, source: 'derived' },
  expression,
  span: noSpan,
});
const declaring = (...declarations: Declaration[]): Function => ({
  kind: 'block',
  name: 'f',
  arguments: [],
  declarations,
  body: [],
  results: [],
  finals: [],
  attributes: {},
  span: noSpan,
});

interface Reading {
  readonly declarations: readonly Declaration[];
  readonly tensors: Readonly<Record<string, TensorData>>;
  readonly prefix?: string;
  readonly rounding?: boolean;
}
/** The value of the last declaration. */
function read({ declarations, tensors, prefix = '', rounding = true }: Reading): TensorData {
  const name = declarations.at(-1)!.value.name;
  return new WeightCache(tableSource(tensors)).value(declaring(...declarations), name, prefix, rounding);
}
function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof DiagnosticError)
      return `${error.diagnostics[0].code}: ${error.diagnostics[0].message}`;
    throw error;
  }
  throw new Error('it did not fail');
}

/** FP8 as checkpoints hold it: codes and one scale per 128×128 block. */
const fp8 = (shape: readonly [number, number], seed: number): TensorData => {
  const scaleShape = shape.map((n) => Math.ceil(n / 128));
  const scales = randomTensor(scaleShape, seed + 1).data.map((v) => Math.abs(v) + 0.5);
  return { ...randomTensor(shape, seed, 'f8e4m3'), scales: [{ shape: scaleShape, data: scales }] };
};
const plainOf = (t: TensorData, rounding = true): Float64Array => {
  const columns = Math.ceil(t.shape[1] / 128);
  const round = rounding ? Math.fround : (x: number): number => x;
  return t.data.map((v, i) => {
    const [r, c] = [Math.floor(i / t.shape[1]), i % t.shape[1]];
    return round(v * t.scales[0].data[Math.floor(r / 128) * columns + Math.floor(c / 128)]);
  });
};

describe('parameters', () => {
  test('view the stored shape, under a prefix, sharing data of the same dtype', () => {
    const stored = randomTensor([6, 4], 1, 'bf16');
    const value = read({
      declarations: [parameter('w.weight', 'bf16[2, 3, 4]', [6, 4])],
      tensors: { 'layers.3.w.weight': stored },
      prefix: 'layers.3.',
    });
    expect(value).toEqual({ ...stored, shape: [2, 3, 4] });
    expect(value.data).toBe(stored.data);
  });
  test('take the declared dtype, leaving the source alone; in f64 numerics they keep every bit', () => {
    const stored: TensorData = { ...randomTensor([2], 1), data: Float64Array.from([1 / 3, 1 + 2 ** -9]) };
    const reading = { declarations: [parameter('w', 'bf16[2]', [2])], tensors: { w: stored } };
    expect([...read(reading).data]).toEqual([0.333984375, 1]);
    expect([...stored.data]).toEqual([1 / 3, 1 + 2 ** -9]);
    expect([...read({ ...reading, rounding: false }).data]).toEqual([1 / 3, 1 + 2 ** -9]);
  });
  test('of experts are stacked', () => {
    const tensors = Object.fromEntries(
      [0, 1, 2].map((e) => [`mlp.experts.${e}.up.weight`, randomTensor([4, 2], e)]),
    );
    const value = read({
      declarations: [parameter('experts.{experts}.up.weight', 'f32[experts=3, 4, 2]', [4, 2])],
      tensors,
      prefix: 'mlp.',
    });
    expect([...value.data]).toEqual(Object.values(tensors).flatMap((t) => [...t.data]));
    expect(value.shape).toEqual([3, 4, 2]);
  });
  test.each([true, false])('declared plain but stored in FP8 are dequantised (rounding %s)', (rounding) => {
    const stored = fp8([200, 300], 7);
    const value = read({
      declarations: [parameter('w', 'f32[200, 300]', [200, 300])],
      tensors: { w: stored },
      rounding,
    });
    expect(value.scales).toEqual([]);
    expect(value.data).toEqual(plainOf(stored, rounding));
  });
  test('declared scaled take FP8 as it is, and nothing else', () => {
    const stored = fp8([130, 64], 8);
    const declarations = [parameter('w', 'f8e4m3<128x128; f32>[130, 64]', [130, 64])];
    expect(read({ declarations, tensors: { w: stored } })).toEqual(stored);
    expect(
      codeOf(() => read({ declarations, tensors: { w: randomTensor([130, 64], 1, 'bf16') } })),
    ).toMatchInlineSnapshot(
      `"weights/scales-differ: w is declared f8e4m3<128x128; f32>[130, 64], but the checkpoint has bf16[130, 64]"`,
    );
  });
  test('that are not there, or have another shape', () => {
    const declarations = [parameter('w', 'f32[4]', [2, 2])];
    expect(codeOf(() => read({ declarations, tensors: {} }))).toBe(
      'weights/missing: the checkpoint has no tensor w',
    );
    expect(codeOf(() => read({ declarations, tensors: { w: randomTensor([4], 1) } }))).toMatchInlineSnapshot(
      `"weights/shape-differs: w is [4] in the checkpoint, but the model expects [2, 2]"`,
    );
    expect(
      codeOf(() =>
        read({ declarations: [parameter('w', 'f32[5]', [2, 2])], tensors: { w: randomTensor([2, 2], 1) } }),
      ),
    ).toMatchInlineSnapshot(
      `"weights/shape-differs: w is declared f32[5], which does not view the stored [2, 2]"`,
    );
  });
});

describe('derived weights', () => {
  const [a, b] = [randomTensor([128, 8], 1, 'bf16'), randomTensor([4, 8], 2, 'bf16')];
  const both = [parameter('a', 'bf16[128, 8]', [128, 8]), parameter('b', 'bf16[4, 8]', [4, 8])];

  test('are evaluated through the ops', () => {
    const expression = op(
      'transpose',
      'bf16[8, 132]',
      [op('concat', 'bf16[132, 8]', [of('a'), of('b')], { axis: 0 })],
      {
        order: [1, 0],
      },
    );
    const value = read({ declarations: [...both, derived('d', expression)], tensors: { a, b } });
    expect(value.shape).toEqual([8, 132]);
    expect(value.data[131]).toBe(b.data[3 * 8]);
    expect(value.data[132]).toBe(a.data[1]);
  });
  test('may use derived weights, and leave shared data alone', () => {
    const exact: TensorData = { ...randomTensor([2], 1), data: Float64Array.from([1 / 3, 2]) };
    const cast = derived('half', op('cast', 'bf16[2]', [of('w')]));
    const value = read({
      declarations: [
        parameter('w', 'f32[2]', [2]),
        cast,
        derived('back', op('cast', 'f32[2]', [of('half')])),
      ],
      tensors: { w: { ...exact, data: exact.data.map(Math.fround) } },
    });
    expect([...value.data]).toEqual([0.333984375, 2]);
    expect([...exact.data]).toEqual([1 / 3, 2]);
  });
  test('say which one failed', () => {
    const bad = derived('d', op('slice', 'bf16[8]', [of('a')], { axis: 0, start: 0 }));
    expect(() => read({ declarations: [...both, bad], tensors: { a, b } })).toThrow(
      'slice needs the attribute stop',
    );
  });
});

describe('quantize of what the checkpoint holds in FP8 already', () => {
  const scaled = (rows: number): string => `f8e4m3<128x128; f32>[${rows}, 300]`;
  const quantized = (name: string, rows: number) => op('quantize', scaled(rows), [of(name)]);
  const [a, b] = [fp8([256, 300], 1), fp8([70, 300], 3)];
  const declared = [parameter('a', 'bf16[256, 300]', [256, 300]), parameter('b', 'bf16[70, 300]', [70, 300])];
  /** What quantising the dequantised weight would give. */
  const again = (t: TensorData, name: string): TensorData => {
    const [rows, columns] = t.shape;
    const plain = read({
      declarations: [parameter(name, `bf16[${rows}, ${columns}]`, t.shape)],
      tensors: { [name]: t },
    });
    return apply('quantize', { operands: [`bf16[${rows}, ${columns}]`], declared: [scaled(rows)] }, [
      plain,
    ])[0] as TensorData;
  };

  test('takes codes and scales as they are', () => {
    expect(
      read({ declarations: [...declared, derived('q', quantized('a', 256))], tensors: { a, b } }),
    ).toEqual(a);
    expect(again(a, 'a')).not.toEqual(a);
  });
  test.each([
    [
      'concat of quantised',
      op('concat', scaled(326), [quantized('a', 256), quantized('b', 70)], { axis: 0 }),
    ],
    [
      'quantised concat',
      op('quantize', scaled(326), [op('concat', 'bf16[326, 300]', [of('a'), of('b')], { axis: 0 })]),
    ],
  ])('%s', (_, expression) => {
    const value = read({ declarations: [...declared, derived('q', expression)], tensors: { a, b } });
    expect(value.shape).toEqual([326, 300]);
    expect([...value.data]).toEqual([...a.data, ...b.data]);
    expect(value.scales[0].shape).toEqual([3, 3]);
    expect([...value.scales[0].data]).toEqual([...a.scales[0].data, ...b.scales[0].data]);
  });
  test('where a tile would mix two weights, it quantises anew', () => {
    const expression = op('quantize', scaled(326), [
      op('concat', 'bf16[326, 300]', [of('b'), of('a')], { axis: 0 }),
    ]);
    const value = read({ declarations: [...declared, derived('q', expression)], tensors: { a, b } });
    expect([...value.scales[0].data]).not.toEqual([...b.scales[0].data, ...a.scales[0].data]);
    expect(value.scales[0].shape).toEqual([3, 3]);
  });
  test('experts are stacked with their scales', () => {
    const tensors = { 'e.0.w': fp8([130, 200], 5), 'e.1.w': fp8([130, 200], 7) };
    const stack = parameter('e.{experts}.w', 'bf16[2, 130, 200]', [130, 200]);
    const expression = op('quantize', 'f8e4m3<1x128x128; f32>[2, 130, 200]', [of('e.{experts}.w')]);
    const value = read({ declarations: [stack, derived('q', expression)], tensors });
    expect(value.scales[0].shape).toEqual([2, 2, 2]);
    expect([...value.scales[0].data]).toEqual(Object.values(tensors).flatMap((t) => [...t.scales[0].data]));
    expect([...value.data]).toEqual(Object.values(tensors).flatMap((t) => [...t.data]));
  });
  test.each([
    ['another tiling', 'f8e4m3<1x128; f32>[256, 300]'],
    ['a power-of-two format', 'f8e4m3<128x128; pow2>[256, 300]'],
    ['another dtype', 'f8e5m2<128x128; f32>[256, 300]'],
  ])('%s is quantised anew', (_, type) => {
    const value = read({
      declarations: [...declared, derived('q', op('quantize', type, [of('a')]))],
      tensors: { a, b },
    });
    expect(value.scales[0]).not.toEqual(a.scales[0]);
    const plain = read({ declarations: [declared[0]], tensors: { a } });
    expect(value).toEqual(apply('quantize', { operands: ['bf16[256, 300]'], declared: [type] }, [plain])[0]);
  });
  test('power-of-two scales fit a power-of-two format', () => {
    const pow2: TensorData = {
      ...a,
      scales: [{ ...a.scales[0], data: a.scales[0].data.map((_, i) => 2 ** (i - 3)) }],
    };
    const expression = op('quantize', 'f8e4m3<128x128; ue8m0>[256, 300]', [of('a')]);
    expect(read({ declarations: [...declared, derived('q', expression)], tensors: { a: pow2, b } })).toEqual(
      pow2,
    );
  });
});

test('one declaration in two functions is read once; releasing a prefix forgets what is under it', () => {
  const source = tableSource({ 'layers.1.w': randomTensor([4], 1), 'layers.10.w': randomTensor([4], 2) });
  const cache = new WeightCache(source);
  const [f, g] = [declaring(parameter('w', 'f32[4]', [4])), declaring(parameter('w', 'f32[4]', [4]))];
  expect(cache.value(f, 'w', 'layers.1.', true)).toBe(cache.value(g, 'w', 'layers.1.', true));
  cache.value(f, 'w', 'layers.10.', true);
  expect(source.read).toEqual(['layers.1.w', 'layers.10.w']);
  cache.release('layers.1.');
  expect(cache.held).toBe(4);
  cache.value(f, 'w', 'layers.10.', true);
  cache.value(f, 'w', 'layers.1.', true);
  expect(source.read.length).toBe(3);
});
