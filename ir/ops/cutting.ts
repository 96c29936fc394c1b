// View ops that cut, join, lengthen and pick along an axis: slice, split, concat, pad, gather. Scaled operands keep their
// scales where tiles stay whole; a cut through a tile is refused, because its parts would need scales of their own.
import type { TensorData } from '../interpret/values.ts';
import { sameDim, showDim, showType, type ScaleLevel, type TensorType } from '../types.ts';
import { defineOp, problem, type OpDefinition } from './define.ts';
import { checkConstant } from './creation.ts';
import {
  along,
  asTensor,
  bytesOf,
  expectAxis,
  expectElements,
  expectPlain,
  expectStatic,
  expectTensor,
  integerOf,
  moved,
  named,
  numberOf,
  numbersOf,
  product,
  resized,
  tensorData,
} from './support.ts';

/** Cuts [start, stop) out of one axis of a row-major array. */
function cut(
  data: Float64Array,
  shape: readonly number[],
  axis: number,
  start: number,
  stop: number,
): Float64Array {
  const { outer, size, inner } = along(shape, axis);
  const run = (stop - start) * inner;
  const out = new Float64Array(outer * run);
  for (let o = 0; o < outer; o++) {
    const from = (o * size + start) * inner;
    out.set(data.subarray(from, from + run), o * run);
  }
  return out;
}

/** A piece of a scaled or plain value: codes by element, scales by tile. */
function cutTensor(
  x: TensorData,
  levels: readonly ScaleLevel[],
  axis: number,
  start: number,
  stop: number,
): TensorData {
  const shape = x.shape.with(axis, stop - start);
  const scales = x.scales.map((s, i) => {
    const tile = levels[i].tile[axis] || x.shape[axis];
    const [first, end] = [Math.floor(start / tile), Math.ceil(stop / tile)];
    return { shape: s.shape.with(axis, end - first), data: cut(s.data, s.shape, axis, first, end) };
  });
  return tensorData(x.dtype, shape, cut(x.data, x.shape, axis, start, stop), scales);
}

/** Refuses a cut through a tile: its two parts would need two scales. */
function checkCut(
  x: TensorType,
  op: string,
  axis: number,
  start: number,
  stop: number,
  attribute: string,
): void {
  const size = x.dims[axis].size!;
  for (const { tile } of x.scales) {
    const length = tile[axis] || size;
    const inside = [start, stop].find((at) => at !== size && at % length !== 0);
    if (inside !== undefined)
      problem(
        `${op} would cut through a scale tile: ${showType(x)} has tiles of ${length} along axis ${axis}, the cut is at ${inside}`,
        attribute,
        `cut at a multiple of ${length}, or ${op} before quantize`,
      );
  }
}

/** Concatenates row-major arrays along an axis. */
function join(
  parts: readonly { readonly shape: readonly number[]; readonly data: Float64Array }[],
  axis: number,
) {
  const size = parts.reduce((n, p) => n + p.shape[axis], 0);
  const shape = parts[0].shape.with(axis, size);
  const { outer, inner } = along(shape, axis);
  const data = new Float64Array(product(shape));
  let at = 0;
  for (const p of parts) {
    const run = p.shape[axis] * inner;
    for (let o = 0; o < outer; o++) data.set(p.data.subarray(o * run, (o + 1) * run), o * size * inner + at);
    at += run;
  }
  return { shape, data };
}

/** Rows of axis 0 by index, for any number of index axes. */
function rows(data: Float64Array, shape: readonly number[], index: TensorData) {
  const run = product(shape.slice(1));
  const out = new Float64Array(index.data.length * run);
  for (const [i, row] of index.data.entries()) {
    if (!(row >= 0 && row < shape[0]))
      throw new RangeError(`gather: index ${row} at element ${i} is outside of 0 to ${shape[0] - 1}`);
    out.set(data.subarray(row * run, (row + 1) * run), i * run);
  }
  return { shape: [...index.shape, ...shape.slice(1)], data: out };
}

export const cuttingOps = {
  slice: defineOp({
    name: 'slice',
    class: 'view',
    doc: 'Elements start to stop − 1 of one axis',
    operands: ['x'],
    attributes: {
      axis: { kind: 'integer', doc: 'axis to cut' },
      start: { kind: 'integer', doc: 'first element kept' },
      stop: { kind: 'integer', doc: 'one after the last element kept' },
    },
    infer: ([x], attributes, declared) => {
      const type = expectTensor(x, 'x', 'slice');
      const axis = expectAxis(integerOf(attributes, 'axis'), type, 'slice');
      const [start, stop] = [integerOf(attributes, 'start'), integerOf(attributes, 'stop')];
      const size = expectStatic(
        type.dims[axis],
        'slice',
        'so it cannot be cut',
        'axis',
        'gather the rows by index',
      );
      if (start < 0 || stop <= start || stop > size)
        problem(
          `slice: ${start} to ${stop} is no part of axis ${showDim(type.dims[axis])}`,
          start < 0 || start >= size ? 'start' : 'stop',
          `use 0 <= start < stop <= ${size}`,
        );
      checkCut(type, 'slice', axis, start, stop, 'start');
      return named([{ ...type, dims: resized(type.dims, axis, stop - start) }], declared);
    },
    reference: ([x], attributes, context) => {
      const { scales } = context.results[0] as TensorType;
      const [axis, start, stop] = ['axis', 'start', 'stop'].map((n) => integerOf(attributes, n));
      return [cutTensor(asTensor(x), scales, axis, start, stop)];
    },
    cost: moved,
  } satisfies OpDefinition),

  split: defineOp({
    name: 'split',
    class: 'view',
    doc: 'Cuts one axis into parts of the given sizes',
    operands: ['x'],
    attributes: {
      axis: { kind: 'integer', doc: 'axis to cut' },
      sizes: { kind: 'integers', doc: 'length of every part, together the whole axis' },
    },
    infer: ([x], attributes, declared) => {
      const type = expectTensor(x, 'x', 'split');
      const axis = expectAxis(integerOf(attributes, 'axis'), type, 'split');
      const sizes = numbersOf(attributes, 'sizes');
      const size = expectStatic(
        type.dims[axis],
        'split',
        'so it cannot be cut',
        'axis',
        'gather the rows by index',
      );
      if (sizes.length === 0 || sizes.some((n) => n <= 0))
        problem(`split: sizes [${sizes.join(', ')}] must be one or more positive lengths`, 'sizes');
      const sum = sizes.reduce((a, b) => a + b, 0);
      if (sum !== size)
        problem(
          `split: sizes [${sizes.join(', ')}] add up to ${sum}, but axis ${axis} of ${showType(type)} has ${size}`,
          'sizes',
          `give sizes that add up to ${size}`,
        );
      let start = 0;
      const parts = sizes.map((n) => {
        checkCut(type, 'split', axis, start, start + n, 'sizes');
        start += n;
        return { ...type, dims: resized(type.dims, axis, n) };
      });
      return named(parts, declared);
    },
    reference: ([x], attributes, context) => {
      const axis = integerOf(attributes, 'axis');
      let start = 0;
      return numbersOf(attributes, 'sizes').map((n, i) => {
        const { scales } = context.results[i] as TensorType;
        start += n;
        return cutTensor(asTensor(x), scales, axis, start - n, start);
      });
    },
    cost: moved,
  } satisfies OpDefinition),

  concat: defineOp({
    name: 'concat',
    class: 'view',
    doc: 'Joins tensors along one axis',
    operands: ['x...'],
    attributes: { axis: { kind: 'integer', doc: 'axis to join along' } },
    infer: (operands, attributes, declared) => {
      if (operands.length === 0) problem('concat needs at least one operand', 'x');
      const types = operands.map((t) => expectTensor(t, 'x', 'concat'));
      const [first] = types;
      const axis = expectAxis(integerOf(attributes, 'axis'), first, 'concat');
      if (types.length === 1) return named([first], declared);
      let size = 0;
      for (const [i, t] of types.entries()) {
        const scalesAgree = showType({ ...t, dims: [] }) === showType({ ...first, dims: [] });
        const dimsAgree =
          t.dims.length === first.dims.length &&
          t.dims.every((d, j) => j === axis || sameDim(d, first.dims[j]));
        if (!scalesAgree || !dimsAgree)
          problem(
            `concat joins tensors that differ along axis ${axis} only: operand 0 is ${showType(first)}, operand ${i} is ${showType(t)}`,
            'x',
            t.dtype !== first.dtype ? `cast operand ${i} to ${first.dtype}` : null,
          );
        const length = expectStatic(t.dims[axis], 'concat', 'so it cannot be joined with others', 'x');
        for (const { tile } of t.scales)
          // Edge tiles count as zero-padded, so only the last operand may end inside a tile.
          if (tile[axis] === 0 || (i < types.length - 1 && length % tile[axis] !== 0))
            problem(
              `concat would mix scale tiles: operand ${i} is ${showType(t)}, whose axis ${axis} ends inside a tile`,
              'x',
              'concat before quantize',
            );
        size += length;
      }
      return named([{ ...first, dims: resized(first.dims, axis, size) }], declared);
    },
    reference: (operands, attributes) => {
      const axis = integerOf(attributes, 'axis');
      const parts = operands.map((x) => asTensor(x));
      const { shape, data } = join(parts, axis);
      const scales = parts[0].scales.map((_, level) =>
        join(
          parts.map((p) => p.scales[level]),
          axis,
        ),
      );
      return [tensorData(parts[0].dtype, shape, data, scales)];
    },
  } satisfies OpDefinition),

  pad: defineOp({
    name: 'pad',
    class: 'view',
    doc: 'Adds elements of one value before and after an axis',
    operands: ['x'],
    attributes: {
      axis: { kind: 'integer', doc: 'axis to lengthen' },
      before: { kind: 'integer', doc: 'elements added in front' },
      after: { kind: 'integer', doc: 'elements added at the end' },
      value: { kind: 'number', default: 0, doc: 'value of the added elements' },
    },
    infer: ([x], attributes, declared) => {
      const type = expectPlain(x, 'x', 'pad');
      const axis = expectAxis(integerOf(attributes, 'axis'), type, 'pad');
      const [before, after] = [integerOf(attributes, 'before'), integerOf(attributes, 'after')];
      for (const [name, n] of [
        ['before', before],
        ['after', after],
      ] as const)
        if (n < 0) problem(`pad: ${name} is ${n}`, name, 'give 0 or more; slice removes elements');
      checkConstant(numberOf(attributes, 'value'), type, 'pad', 'value');
      const size = expectStatic(
        type.dims[axis],
        'pad',
        'so it cannot be lengthened',
        'axis',
        'declare a longer run-time axis',
      );
      return named([{ ...type, dims: resized(type.dims, axis, before + size + after) }], declared);
    },
    reference: ([x], attributes) => {
      const { dtype, shape, data } = asTensor(x);
      const axis = integerOf(attributes, 'axis');
      const { outer, size, inner } = along(shape, axis);
      const before = integerOf(attributes, 'before');
      const longer = before + size + integerOf(attributes, 'after');
      const out = new Float64Array(outer * longer * inner).fill(numberOf(attributes, 'value'));
      for (let o = 0; o < outer; o++)
        out.set(data.subarray(o * size * inner, (o + 1) * size * inner), (o * longer + before) * inner);
      return [tensorData(dtype, shape.with(axis, longer), out)];
    },
  } satisfies OpDefinition),

  gather: defineOp({
    name: 'gather',
    class: 'view',
    doc: 'Rows of axis 0 by index; an index out of range is an error',
    operands: ['x', 'i'],
    attributes: {},
    infer: ([x, i], _, declared) => {
      const type = expectTensor(x, 'x', 'gather');
      const index = expectElements('int', i, 'i', 'gather');
      if (type.dims.length === 0) problem(`gather needs rows, but x is the scalar ${showType(type)}`, 'x');
      const scales = type.scales.map((s) => {
        if (s.tile[0] !== 1)
          problem(
            `gather takes single rows, but x is ${showType(type)}, whose scale tiles hold several rows`,
            'x',
            'gather before quantize, or quantize with one scale row per row',
          );
        return { ...s, tile: [...index.dims.map(() => 1), ...s.tile.slice(1)] };
      });
      return named([{ ...type, scales, dims: [...index.dims, ...type.dims.slice(1)] }], declared);
    },
    reference: ([x, i]) => {
      const value = asTensor(x);
      const index = asTensor(i);
      const { shape, data } = rows(value.data, value.shape, index);
      const scales = value.scales.map((s) => rows(s.data, s.shape, index));
      return [tensorData(value.dtype, shape, data, scales)];
    },
    cost: ([, i], results, _, sizes) => {
      const { flops, bytes } = moved([], results, {}, sizes);
      return { flops, bytes: bytes + bytesOf(i, sizes) };
    },
  } satisfies OpDefinition),
};
