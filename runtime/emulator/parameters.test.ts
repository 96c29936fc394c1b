import { describe, expect, test } from 'vitest';
import { parseLaunchFile } from './launch-file.ts';
import { Problems } from './launch-problem.ts';
import { buildParameters, type KernelParameter } from './parameters.ts';
import { encodeTensorMap } from './tensor-map.ts';

const x = { address: 0x100_0000_0000n, bytes: 4096 };
const map = { buffer: 'x', dtype: 'F32', dims: [32, 32], strides: [128], box: [32, 8], swizzle: '128B' };

/** Parameters of the given sizes, laid out as PTX does. */
function kernelOf(...sizes: readonly (number | readonly [size: number, align: number])[]): {
  name: string;
  parameters: KernelParameter[];
} {
  let offset = 0;
  const parameters = sizes.map((s, i) => {
    const [size, align] = typeof s === 'number' ? [s, s] : s;
    offset = Math.ceil(offset / align) * align;
    const made = { name: `k_param_${i}`, size, align, offset };
    offset += size;
    return made;
  });
  return { name: 'k', parameters };
}

function build(
  parameters: readonly unknown[],
  kernel: ReturnType<typeof kernelOf>,
): { readonly block: Uint8Array; readonly told: readonly string[] } {
  const text = JSON.stringify({
    kernel: 'k',
    grid: [1, 1, 1],
    block: [1, 1, 1],
    buffers: { x: { dtype: 'F32', shape: [1024] } },
    parameters,
    outputs: [],
  });
  const [launch] = parseLaunchFile(text).launches;
  const problems = new Problems();
  const block = buildParameters(launch.parameters, kernel, () => x, launch.parametersPlace, problems);
  return { block, told: problems.found.map((p) => `${p.code}: ${p.message}; ${p.fix}`) };
}
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('values stand at their offsets, gaps are zero', () => {
  const { block, told } = build(
    [{ u32: 1 }, { buffer: 'x', offset: 16 }, { hex: 'aabb' }, { f32: -2 }, { s64: -2 }],
    kernelOf(4, 8, 2, 4, 8),
  );
  expect(told).toEqual([]);
  expect(hex(block)).toBe(
    '01000000' + '00000000' + '1000000000010000' + 'aabb0000' + '000000c0' + 'feffffffffffffff',
  );
});

test('fields lie where they say, also nested', () => {
  const { block, told } = build(
    [
      {
        fields: [
          { at: 8, buffer: 'x' },
          { at: 0, u32: 7 },
          { at: 16, fields: [{ at: 2, hex: 'ff' }] },
        ],
      },
    ],
    kernelOf([24, 8]),
  );
  expect(told).toEqual([]);
  expect(hex(block)).toBe('07000000' + '00000000' + '0000000000010000' + '0000ff0000000000');
});

test('a tensor map is the encoded object, also inside a struct', () => {
  const shape = {
    dtype: 'F32',
    dims: [32, 32],
    strides: [128],
    box: [32, 8],
    elementStrides: [1, 1],
    swizzle: '128B',
    interleave: 'none',
    fill: 'zero',
  } as const;
  const encoded = encodeTensorMap(x.address + 128n, shape);
  const alone = build([{ u32: 1 }, { tensorMap: { ...map, offset: 128 } }], kernelOf(4, [128, 64]));
  expect([alone.told, alone.block.length]).toEqual([[], 192]);
  expect(alone.block.subarray(64)).toEqual(encoded);
  const inside = build(
    [
      {
        fields: [
          { at: 64, tensorMap: { ...map, offset: 128 } },
          { at: 0, u32: 5 },
        ],
      },
    ],
    kernelOf([192, 64]),
  );
  expect(inside.told).toEqual([]);
  expect(inside.block.subarray(64)).toEqual(encoded);
});

test('no parameters make an empty block', () => {
  expect(build([], kernelOf())).toEqual({ block: new Uint8Array(0), told: [] });
});

describe('refusals', () => {
  test.each<[string, readonly unknown[], ReturnType<typeof kernelOf>]>([
    ['too few', [{ u32: 1 }], kernelOf(4, 8)],
    ['too many', [{ u32: 1 }], kernelOf()],
    ['four bytes for eight', [{ u32: 1 }], kernelOf(8)],
    ['a pointer for four bytes', [{ buffer: 'x' }], kernelOf(4)],
    ['eight bytes for four', [{ f64: 1 }], kernelOf(4)],
    ['hex of another size', [{ hex: 'aabbcc' }], kernelOf([16, 8])],
    ['an offset beyond the buffer', [{ buffer: 'x', offset: 4097 }], kernelOf(8)],
    ['a field beyond the parameter', [{ fields: [{ at: 6, u32: 1 }] }], kernelOf(8)],
    [
      'fields that overlap',
      [
        {
          fields: [
            { at: 0, u32: 1 },
            { at: 2, u32: 1 },
          ],
        },
      ],
      kernelOf(8),
    ],
    ['a nested field beyond', [{ fields: [{ at: 4, fields: [{ at: 4, u32: 1 }] }] }], kernelOf(8)],
    ['a tensor map for eight bytes', [{ tensorMap: map }], kernelOf(8)],
    ['a tensor map in a parameter aligned to 8', [{ tensorMap: map }], kernelOf([128, 8])],
    ['a tensor map at byte 8 of a struct', [{ fields: [{ at: 8, tensorMap: map }] }], kernelOf([192, 64])],
    ['a tensor map at a crooked offset', [{ tensorMap: { ...map, offset: 8 } }], kernelOf([128, 64])],
    ['a tensor map beyond the buffer', [{ tensorMap: { ...map, offset: 8192 } }], kernelOf([128, 64])],
    [
      'a tensor map with several mistakes',
      [{ tensorMap: { ...map, box: [64, 300], strides: [100] } }],
      kernelOf([128, 64]),
    ],
  ])('%s', (_, parameters, kernel) => {
    const { told } = build(parameters, kernel);
    expect(told.length).toBeGreaterThan(0);
    expect(`\n${told.join('\n')}\n`).toMatchSnapshot();
  });
});
