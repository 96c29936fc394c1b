// The core encodes tensor maps as encodeTensorMap does, and refuses the same ones.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { loadExecutor } from '../executor.ts';
import { hasNative } from '../native.ts';
import {
  checkTensorMap,
  encodeTensorMap,
  fillModes,
  interleaves,
  swizzles,
  tensorMapDTypes,
  type TensorMapDType,
  type TensorMapShape,
} from './tensor-map.ts';

/** Numbers near every limit, most of them allowed. */
const near = (...limits: readonly number[]): fc.Arbitrary<number> =>
  fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(...limits) },
    fc.integer({ min: 0, max: limits.at(-1)! + 1 }),
  );

const shape = fc.integer({ min: 1, max: 5 }).chain((rank) => {
  const list = (n: number, one: fc.Arbitrary<number>): fc.Arbitrary<number[]> =>
    fc.array(one, { minLength: n, maxLength: n });
  return fc.record<TensorMapShape>({
    dtype: fc.constantFrom(...(Object.keys(tensorMapDTypes) as TensorMapDType[])),
    dims: list(rank, near(1, 7, 64, 2 ** 31, 2 ** 32)),
    strides: list(rank - 1, near(16, 96, 2 ** 36, 2 ** 40 - 32)),
    box: list(rank, near(8, 16, 32, 256)),
    elementStrides: list(rank, near(1, 2, 8)),
    swizzle: fc.constantFrom(...swizzles),
    interleave: fc.constantFrom('none', 'none', 'none', ...interleaves),
    fill: fc.constantFrom('zero', ...fillModes),
  });
});

test.skipIf(!hasNative())('the core makes the same bytes, and refuses what breaks a rule', () => {
  const core = loadExecutor();
  const seen = { taken: 0, refused: 0 };
  fc.assert(
    fc.property(shape, near(0, 16, 32, 4096), (map, low) => {
      const address = (1n << 40n) + BigInt(low);
      const encode = (): Uint8Array =>
        core.encodeTensorMap(address, {
          ...map,
          element: tensorMapDTypes[map.dtype].code,
          swizzle: swizzles.indexOf(map.swizzle),
          interleave: interleaves.indexOf(map.interleave),
          fill: fillModes.indexOf(map.fill),
        });
      if (checkTensorMap(address, map).length > 0) {
        expect(encode).toThrow('the tensor map ');
        seen.refused++;
      } else {
        expect([...encode()]).toEqual([...encodeTensorMap(address, map)]);
        seen.taken++;
      }
    }),
    { numRuns: 2000, seed: 1 },
  );
  expect(Math.min(seen.taken, seen.refused)).toBeGreaterThan(200);
});
