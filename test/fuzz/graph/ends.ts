// Enclosures of tensors: for every element the least and the largest number that a right kernel may give.
import { dtypeInfo, roundInto, type DType } from '../../../ir/formats/index.ts';
import type { TensorData } from '../../../ir/interpret/values.ts';

/** Both ends of every element, and of every scale. Infinite ends: anything may come out. */
export interface Ends {
  readonly lo: TensorData;
  readonly hi: TensorData;
}

export const exact = (v: TensorData): Ends => ({ lo: v, hi: v });

const filled = (v: TensorData, x: number): TensorData => ({
  ...v,
  data: new Float64Array(v.data.length).fill(x),
  scales: v.scales.map((s) => ({ ...s, data: new Float64Array(s.data.length).fill(x) })),
});
export const unknown = (v: TensorData): Ends => ({ lo: filled(v, -Infinity), hi: filled(v, Infinity) });

const same = (a: Float64Array, b: Float64Array): boolean => {
  if (a === b) return true;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
};
export const isExact = ({ lo, hi }: Ends): boolean =>
  same(lo.data, hi.data) && lo.scales.every((s, i) => same(s.data, hi.scales[i].data));

/** Ends in the dtype, around the reference's value; an end that is no number opens its element. */
function settled(dtype: DType, value: Float64Array, lo: Float64Array, hi: Float64Array): void {
  const { kind } = dtypeInfo[dtype];
  if (kind === 'float') {
    // Rounding is monotone: rounded ends enclose the rounded number. Kernels round to f32 first, in registers.
    for (const ends of [lo, hi]) {
      const open = ends.map(Number);
      roundInto('f32', ends);
      roundInto(dtype, ends);
      // Formats that saturate would close an open end.
      open.forEach((x, i) => Math.abs(x) === Infinity && (ends[i] = x));
    }
  }
  for (let i = 0; i < value.length; i++) {
    const ok = lo[i] <= hi[i] && Number.isFinite(value[i]);
    lo[i] = ok ? Math.min(lo[i], value[i]) : -Infinity;
    hi[i] = ok ? Math.max(hi[i], value[i]) : Infinity;
  }
}

/** Ends of a plain result from what was computed for them; the arrays are taken over. */
export function endsOf(value: TensorData, lo: Float64Array, hi: Float64Array): Ends {
  settled(value.dtype, value.data, lo, hi);
  return { lo: { ...value, data: lo }, hi: { ...value, data: hi } };
}

/** Both ends moved out, by an amount that depends on the element. */
export function widened(lo: Float64Array, hi: Float64Array, by: (i: number) => number): void {
  for (let i = 0; i < lo.length; i++) {
    const d = by(i);
    lo[i] -= d;
    hi[i] += d;
  }
}

/** Largest magnitude of each element. */
export const magnitudes = ({ lo, hi }: Ends): Float64Array =>
  lo.data.map((x, i) => Math.max(Math.abs(x), Math.abs(hi.data[i])));

/** The elementwise least and largest of several arrays. */
export function hull(all: readonly Float64Array[]): [Float64Array, Float64Array] {
  const [lo, hi] = [all[0].slice(), all[0].slice()];
  for (const a of all.slice(1))
    for (let i = 0; i < a.length; i++) {
      // A number that is none stays: it opens the element.
      if (!(a[i] >= lo[i])) lo[i] = a[i];
      if (!(a[i] <= hi[i])) hi[i] = a[i];
    }
  return [lo, hi];
}
