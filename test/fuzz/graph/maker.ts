// What makers of all classes share.
import type { Dim, TensorType } from '../../../ir/types.ts';
import { dim, tensor } from '../../../ir/types.ts';
import { floats, type Drawing, type TensorValue } from './drawing.ts';

/** Applies the op, or gives up (nothing fits, or the result would be too large). */
export type Maker = (d: Drawing) => void;

/** A random axis, of those that pass. */
export const axisOf = (d: Drawing, t: TensorType, test: (x: Dim) => boolean = () => true): number | null => {
  const axes = t.dims.flatMap((x, i) => (test(x) ? [i] : []));
  return axes.length === 0 ? null : d.c.pick(axes);
};

/** Floats whose last axis has a length that is known: what tiles and norms go along. */
export const scalable = (d: Drawing): TensorValue =>
  d.draw(
    (t) => floats(t) && t.dims.length > 0 && t.dims.at(-1)!.size !== null,
    () => tensor(d.dtype, [dim('tokens'), dim(null, d.length())]),
  );

/** Whether elements along an axis may be put together: rows by expert are as many as the device says, some of them nobody's. */
export const mixable = (x: Dim): boolean => x.size !== null || x.name !== 'slots';
