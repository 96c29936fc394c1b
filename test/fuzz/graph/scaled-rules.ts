// Ends of codes and scales.
import type { TensorData } from '../../../ir/interpret/values.ts';
import { roundInto } from '../../../ir/formats/index.ts';
import { tileScale } from '../../../ir/formats/scales.ts';
import { spreadScales, tileOf } from '../../../ir/ops/scaling.ts';
import type { ScaleLevel, TensorType } from '../../../ir/types.ts';
import type { Applied } from './applied.ts';
import { endsOf, hull, type Ends } from './ends.ts';
import { scaleSlack, u } from './slack.ts';

/** Index of the scale of every element. */
function scaleIndex(shape: readonly number[], level: ScaleLevel, count: number): Float64Array {
  return spreadScales(
    Float64Array.from({ length: count }, (_, i) => i),
    shape,
    tileOf(level, shape),
  );
}

/** scale = max(amax, floor) / largest; code = round(x / scale). Both rise with magnitudes, so ends give ends. */
export function quantize(a: Applied): readonly Ends[] {
  const x = a.ends(0);
  const result = a.outputs[0] as TensorData;
  const type = a.op.results[0].type as TensorType;
  const [level] = type.scales;
  const { shape, data } = result.scales[0];
  const rule = { format: type.dtype, scale: level.format, amaxFloor: Number(a.op.attributes.floor) };
  const at = scaleIndex(result.shape, level, data.length);
  const [least, most] = [new Float64Array(data.length), new Float64Array(data.length)];
  at.forEach((s, i) => {
    const [lo, hi] = [x.lo.data[i], x.hi.data[i]];
    // Elements that are no number do not touch the scale; their own ends are open below.
    least[s] = Math.max(least[s], lo > 0 ? lo : hi < 0 ? -hi : 0);
    most[s] = Math.max(most[s], Math.abs(lo), Math.abs(hi));
  });
  const loScale = least.map((m, i) => Math.min(data[i], tileScale(m * (1 - scaleSlack), rule)));
  const hiScale = most.map((m, i) => Math.max(data[i], tileScale(m * (1 + scaleSlack), rule)));
  if (level.format === 'f32')
    for (let i = 0; i < data.length; i++) {
      loScale[i] *= 1 - scaleSlack;
      hiScale[i] *= 1 + scaleSlack;
    }
  const quotients = [x.lo, x.hi].flatMap((end) =>
    [loScale, hiScale].map((s) => end.data.map((v, i) => v / s[at[i]])),
  );
  const [lo, hi] = hull(quotients);
  for (let i = 0; i < lo.length; i++) {
    lo[i] -= 2 * u * Math.abs(lo[i]);
    hi[i] += 2 * u * Math.abs(hi[i]);
  }
  roundInto(type.dtype, lo, { overflow: 'saturating' });
  roundInto(type.dtype, hi, { overflow: 'saturating' });
  const codes = endsOf(result, lo, hi);
  const scaled = (end: TensorData, s: Float64Array): TensorData => ({ ...end, scales: [{ shape, data: s }] });
  return [{ lo: scaled(codes.lo, loScale), hi: scaled(codes.hi, hiScale) }];
}

/** Ends of the numbers that an operand stands for, and a plain tensor of its shape. */
export function valuesOf(a: Applied, i: number): { lo: Float64Array; hi: Float64Array; like: TensorData } {
  const { lo, hi } = a.ends(i);
  const like: TensorData = { ...lo, scales: [] };
  const type = a.op.operands[i].type as TensorType;
  if (lo.scales.length === 0) return { lo: lo.data, hi: hi.data, like };
  const spread = (t: TensorData): Float64Array =>
    spreadScales(t.scales[0].data, t.shape, tileOf(type.scales[0], t.shape));
  const scales = [spread(lo), spread(hi)];
  const [least, most] = hull([lo, hi].flatMap((end) => scales.map((s) => end.data.map((c, k) => c * s[k]))));
  return { lo: least, hi: most, like };
}

export function dequantize(a: Applied): readonly Ends[] {
  const { lo, hi } = valuesOf(a, 0);
  const [low, high] = [lo.slice(), hi.slice()];
  for (let i = 0; i < low.length; i++) {
    low[i] -= u * Math.abs(low[i]);
    high[i] += u * Math.abs(high[i]);
  }
  return [endsOf(a.outputs[0] as TensorData, low, high)];
}
