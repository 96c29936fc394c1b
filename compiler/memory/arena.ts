// Offsets for values that live for a part of a program: greedy first fit over live intervals, largest first.
// On straight-line programs of some hundred values this is within a few percent of the densest packing, and it is
// deterministic.
import { alignUp } from './buffers.ts';

export interface Interval {
  readonly bytes: number;
  /** First and last step at which it must be there, inclusive. */
  readonly from: number;
  readonly to: number;
}

/** Byte offset of each interval, and the size of the whole. No two that overlap in time overlap in space. */
export function packIntervals(intervals: readonly Interval[]): { offsets: readonly number[]; bytes: number } {
  const order = intervals.map((_, i) => i).sort((a, b) => intervals[b].bytes - intervals[a].bytes || a - b);
  const offsets = new Array<number>(intervals.length).fill(0);
  const placed: number[] = [];
  let total = 0;
  for (const i of order) {
    const { bytes, from, to } = intervals[i];
    const size = alignUp(bytes);
    const inTheWay = placed
      .filter((j) => intervals[j].from <= to && from <= intervals[j].to)
      .sort((a, b) => offsets[a] - offsets[b]);
    let at = 0;
    for (const j of inTheWay) {
      if (offsets[j] - at >= size) break;
      at = Math.max(at, offsets[j] + alignUp(intervals[j].bytes));
    }
    offsets[i] = at;
    placed.push(i);
    total = Math.max(total, at + size);
  }
  return { offsets, bytes: total };
}

/** Offsets without any reuse: what is used when plan-memory is off. */
export function packSequentially(intervals: readonly Interval[]): {
  offsets: readonly number[];
  bytes: number;
} {
  let at = 0;
  const offsets = intervals.map((v) => {
    const here = at;
    at += alignUp(v.bytes);
    return here;
  });
  return { offsets, bytes: at };
}
