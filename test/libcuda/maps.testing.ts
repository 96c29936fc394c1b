// Random tensor maps: as lines for the scenario "maps" of host.cpp, and as runtime/emulator/tensor-map.ts encodes them.
import fc from 'fast-check';
import {
  checkTensorMap,
  encodeTensorMap,
  interleaves,
  swizzles,
  type TensorMapDType,
  type TensorMapShape,
} from '../../runtime/emulator/tensor-map.ts';

/** `expected`: the object in hexadecimal digits, or "invalid". */
export function sampleMaps(
  count: number,
  seed: number,
): { readonly input: readonly string[]; readonly expected: readonly string[] } {
  const types: readonly TensorMapDType[] = [
    'U8',
    'U16',
    'U32',
    'I32',
    'U64',
    'I64',
    'F16',
    'F32',
    'F64',
    'BF16',
    'F32_FTZ',
    'TF32',
    'TF32_FTZ',
  ];
  // Mostly right, so that every part is wrong on its own often enough.
  const often = <T>(right: fc.Arbitrary<T>, wrong: fc.Arbitrary<T>): fc.Arbitrary<T> =>
    fc.oneof({ weight: 24, arbitrary: right }, { weight: 1, arbitrary: wrong });
  const number = (least: number, most: number) => fc.integer({ min: least, max: most });
  const map = fc.integer({ min: 1, max: 5 }).chain((rank) =>
    fc.record({
      address: often(
        number(0, 2 ** 40).map((n) => BigInt(n) * 32n),
        number(0, 1000).map(BigInt),
      ),
      dtype: fc.constantFrom(...types),
      dims: fc.array(often(fc.oneof(number(1, 300), number(1, 2 ** 32)), fc.constantFrom(0, 2 ** 32 + 1)), {
        minLength: rank,
        maxLength: rank,
      }),
      strides: fc.array(
        often(
          number(0, 2 ** 35 - 1).map((n) => n * 32),
          fc.oneof(
            number(0, 100),
            number(2 ** 36, 2 ** 37).map((n) => n * 16),
          ),
        ),
        {
          minLength: rank - 1,
          maxLength: rank - 1,
        },
      ),
      box: fc
        .tuple(
          often(fc.constantFrom(16, 32, 64, 128, 256), number(0, 300)),
          fc.array(often(number(1, 256), fc.constantFrom(0, 257)), {
            minLength: rank - 1,
            maxLength: rank - 1,
          }),
        )
        .map(([row, more]) => [row, ...more]),
      elementStrides: fc.array(often(number(1, 8), fc.constantFrom(0, 9)), {
        minLength: rank,
        maxLength: rank,
      }),
      swizzle: fc.constantFrom(...swizzles),
      interleave: often(fc.constant(interleaves[0]), fc.constantFrom(...interleaves)),
      fill: fc.constantFrom('zero' as const, 'nan' as const),
    }),
  );
  const maps = fc.sample(map, { numRuns: count, seed });
  const input = maps.map((m) =>
    [
      types.indexOf(m.dtype),
      m.dims.length,
      m.address,
      interleaves.indexOf(m.interleave),
      swizzles.indexOf(m.swizzle),
      Number(m.fill === 'nan'),
      ...[m.dims, m.strides, m.box, m.elementStrides].flat(),
    ].join(' '),
  );
  const expected = maps.map(({ address, ...shape }) =>
    checkTensorMap(address, shape as TensorMapShape).length > 0
      ? 'invalid'
      : Buffer.from(encodeTensorMap(address, shape as TensorMapShape)).toString('hex'),
  );
  return { input, expected };
}
