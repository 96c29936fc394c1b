// Values go to a device's arrays and come back.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { packedPositions, pageTable, stepPositions } from './positions.ts';
import { pageColumns, positionsArrays, readPositions, readRouting, routingArrays } from './value-bytes.ts';
import type { PositionsData, RoutingData } from './values.ts';

const lists = fc.array(fc.tuple(fc.nat({ max: 20 }), fc.nat({ max: 9 })), { minLength: 1, maxLength: 5 });

test('positions, packed and paged, of sequences with pages of any number', () => {
  fc.assert(
    fc.property(lists, fc.integer({ min: 1, max: 8 }), fc.boolean(), (sequences, page, packed) => {
      const [cached, lengths] = [sequences.map(([n]) => n), sequences.map(([, n]) => n)];
      const pages = pageTable(packed ? lengths : sequences.map(([a, b]) => a + b), page);
      const at: PositionsData = packed
        ? packedPositions(lengths, 'last', page, pages)
        : stepPositions(cached, lengths, 'all', page, pages);
      const arrays = positionsArrays(at);
      const sizes = { tokens: at.position.length, sequences: lengths.length, outputs: at.outputs.length };
      const columns = pageColumns(at);
      expect(readPositions({ ...sizes, columns, page, packed }, (c) => arrays.get(c)!)).toEqual(at);
    }),
  );
});

const routing: RoutingData = {
  ...{ kind: 'routing', tokens: 2, experts: 3, top: 2 },
  ...{ indices: Int32Array.of(2, 0, 2, 1), weights: Float64Array.of(0.5, 0.25, 1, 0.125) },
  ...{ offsets: Int32Array.of(0, 2, 4, 6), tokenOf: Int32Array.of(0, -1, 1, -1, 0, 1) },
  ...{ choiceOf: Int32Array.of(1, -1, 1, -1, 0, 0), slotOf: Int32Array.of(4, 0, 5, 2) },
};
const sizes = { tokens: 2, experts: 3, top: 2, slots: 8 };

test('a routing, without the slots that nobody uses', () => {
  const arrays = routingArrays(routing, sizes.slots, 2);
  expect(readRouting(sizes, (c) => arrays.get(c)!)).toEqual(routing);
});

test.each([-7, 2 ** 30])('a routing whose last offset is %i is read within its room', (last) => {
  const arrays = routingArrays(routing, sizes.slots, 2);
  new DataView(arrays.get('offsets')!.buffer, arrays.get('offsets')!.byteOffset).setInt32(12, last, true);
  const { tokenOf, choiceOf } = readRouting(sizes, (c) => arrays.get(c)!);
  const used = last < 0 ? 0 : sizes.slots;
  expect([tokenOf.length, choiceOf.length]).toEqual([used, used]);
});
