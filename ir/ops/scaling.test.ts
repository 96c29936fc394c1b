import { describe, expect, test } from 'vitest';
import { SafetensorsFile } from '../../runtime/safetensors.ts';
import { decodeBytes } from '../formats/index.ts';
import { apply, randomTensor } from '../interpret/testing.ts';
import type { TensorData } from '../interpret/values.ts';
import { spreadScales } from './scaling.ts';
import { infer, problemOf } from './testing.ts';

const golden = SafetensorsFile.open(
  new URL('../../test/golden/fp8_quant_gemm.safetensors', import.meta.url).pathname,
);
const formats = { F32: 'f32', BF16: 'bf16', U8: 'f8e4m3' } as const;
function load(name: string): TensorData {
  const { dtype, shape } = golden.info(name);
  const format = formats[dtype as keyof typeof formats];
  const count = shape.reduce((a, b) => a * b, 1);
  return {
    kind: 'tensor',
    dtype: format,
    shape,
    data: decodeBytes(format, golden.read(name), count),
    scales: [],
  };
}

describe.each([
  ['tile', 'f32scale', '1x128; f32', 'f32[6, 512]', 's'],
  ['tile', 'ue8m0', '1x128; pow2', 'f32[6, 512]', 's'],
  ['block', 'f32scale', '128x128; f32', 'bf16[200, 300]', 'scale_inv'],
  ['block', 'ue8m0', '128x128; ue8m0', 'bf16[200, 300]', 'scale_inv'],
])('golden %s %s', (kind, variant, level, plain, scaleName) => {
  const scaled = plain.replace(/^\w+/, `f8e4m3<${level}>`);
  const x = load(kind === 'tile' ? 'tile.x' : 'block.w');
  const [q] = apply('quantize', { operands: [plain], declared: [scaled] }, [x]) as TensorData[];

  test('codes and scales are exact', () => {
    const scales = load(`${kind}.${variant}.${scaleName}`);
    expect(q.scales[0].shape).toEqual(scales.shape);
    expect(q.scales[0].data).toEqual(scales.data);
    expect(q.data).toEqual(load(`${kind}.${variant}.q`).data);
  });

  test('dequantised values are exact', () => {
    if (kind !== 'tile') return;
    const [back] = apply('dequantize', { operands: [scaled], declared: [plain] }, [q]) as TensorData[];
    expect(back.data).toEqual(load(`tile.${variant}.dequant`).data);
  });
});

test('in f64 numerics quantize and dequantize give the value back', () => {
  const x = randomTensor([5, 300], 1);
  const scaled = 'f8e4m3<2x128; pow2>[5, 300]';
  const options = { numerics: 'f64' } as const;
  const q = apply('quantize', { operands: ['f32[5, 300]'], declared: [scaled] }, [x], options);
  const [back] = apply(
    'dequantize',
    { operands: [scaled], declared: ['f32[5, 300]'] },
    q,
    options,
  ) as TensorData[];
  for (let i = 0; i < x.data.length; i++) expect(back.data[i]).toBeCloseTo(x.data[i], 12);
});

test('a tile over a whole run-time axis, and a floor of 0', () => {
  const x: TensorData = { ...randomTensor([3, 2], 2), data: Float64Array.from([1, 0, -4, 0, 2, 0]) };
  const application = {
    operands: ['f32[tokens, 2]'],
    declared: ['f8e4m3<*x1; f32>[tokens, 2]'],
    attributes: { floor: 0 },
  };
  const [q] = apply('quantize', application, [x]) as TensorData[];
  expect(q.scales[0]).toEqual({ shape: [1, 2], data: Float64Array.from([Math.fround(4 / 448), 1]) });
  expect([...q.data]).toEqual([112, 0, -448, 0, 224, 0]);
});

test('spreadScales gives each element its tile', () => {
  const spread = spreadScales(Float64Array.from([1, 2, 3, 4]), [3, 3], [2, 2]);
  expect([...spread]).toEqual([1, 1, 2, 1, 1, 2, 3, 3, 4]);
});

test('infers the declared type', () => {
  const scaled = 'f8e4m3<1x128; f32>[tokens, hidden=7168]';
  expect(infer('quantize', ['bf16[tokens, 7168]'], {}, [scaled])).toEqual([scaled]);
  expect(infer('dequantize', [scaled], {}, ['bf16[tokens, 7168]'])).toEqual(['bf16[tokens, 7168]']);
});

test('says what is wrong', () => {
  expect(problemOf('quantize', ['f32[8]'])).toMatchInlineSnapshot(
    `"-: quantize cannot know its result type (write the result type)"`,
  );
  expect(problemOf('quantize', ['f32[8]'], {}, ['f8e4m3[8]'])).toMatchInlineSnapshot(
    `"-: quantize gives codes with one level of scales, but f8e4m3[8] is declared (write the tile and the scale format, like f8e4m3<1x128; f32>[…])"`,
  );
  expect(problemOf('quantize', ['f32[8]'], {}, ['f8e4m3<1x8; f32>[8]'])).toMatchInlineSnapshot(
    `"-: quantize: f8e4m3<1x8; f32>[8] has 1 axes, but the tile has 2 lengths"`,
  );
  expect(problemOf('quantize', ['f32[8]'], { floor: -1 }, ['f8e4m3<8; f32>[8]'])).toMatchInlineSnapshot(
    `"floor: quantize: floor is -1 (use a number of at least 0)"`,
  );
  expect(problemOf('dequantize', ['bf16[8]'], {}, ['f32[8]'])).toMatchInlineSnapshot(
    `"x: dequantize needs a scaled tensor, but x is bf16[8] (use cast to change a plain dtype)"`,
  );
});
