// Are a kernel's results those of the reference? A tolerance per dtype; what differs is said in words.
import { dtypeInfo } from '../../ir/formats/index.ts';
import type { RoutingData, RuntimeValue, TensorData } from '../../ir/interpret/values.ts';

/** f32 results: relative to the largest value of the row, for sums that cancel. */
const relative = 1e-5;

/** Of a narrow float's elements, this share may have been rounded the other way, and two more. */
const roundedOtherwise = 0.01;

/** One step of a narrow float at `x`. */
function step(dtype: TensorData['dtype'], x: number): number {
  const mantissa = { bf16: 7, f16: 10, f8e4m3: 3, f8e5m2: 2, f12e5m6: 6 }[dtype as 'bf16'];
  const smallest = { bf16: -133, f16: -24, f8e4m3: -9, f8e5m2: -16, f12e5m6: -20 }[dtype as 'bf16'];
  if (x === 0) return 2 ** smallest;
  return 2 ** Math.max(smallest, Math.floor(Math.log2(Math.abs(x))) - mantissa);
}

/** Differences of one result in words, none when it is right. */
export function differences(name: string, got: RuntimeValue, want: RuntimeValue): string[] {
  if (want.kind === 'routing') return routingDifferences(name, got as RoutingData, want);
  if (want.kind !== 'tensor' || got.kind !== 'tensor')
    return [`%${name} is a ${got.kind}, should be a ${want.kind}`];
  if (got.dtype !== want.dtype) return [`%${name} is ${got.dtype}, should be ${want.dtype}`];
  if (want.shape.some((n, axis) => (axis === 0 ? got.shape[0] < n : got.shape[axis] !== n)))
    return [`%${name} is [${got.shape}], should be [${want.shape}]`];
  const scales = want.scales.flatMap((s, level) =>
    scaleDifferences(`%${name}.scale${level}`, got.scales[level].data, s.data),
  );
  return [...scales, ...tensorDifferences(name, got.data, want)];
}

/** Rows beyond the reference's are those of a ragged axis that are not in use. */
function tensorDifferences(
  name: string,
  got: Float64Array,
  { dtype, shape, data, scales }: TensorData,
): string[] {
  const { kind } = dtypeInfo[dtype];
  const exact = kind !== 'float';
  const narrow = !exact && dtype !== 'f32';
  const width = Math.max(1, shape.at(-1) ?? 1);
  const wrong: string[] = [];
  let otherwise = 0;
  for (let start = 0; start < data.length; start += width) {
    let largest = 0;
    for (let i = start; i < start + width; i++)
      if (Number.isFinite(data[i])) largest = Math.max(largest, Math.abs(data[i]));
    for (let i = start; i < start + width; i++) {
      const [g, w] = [got[i], data[i]];
      if (g === w || (Number.isNaN(g) && Number.isNaN(w))) continue;
      const difference = Math.abs(g - w);
      const allowed = exact ? 0 : scales.length > 0 ? 0 : relative * largest;
      if (difference <= allowed) continue;
      if (narrow) otherwise++;
      // Codes one step apart; values one step apart and what sums may differ by.
      const further = narrow ? allowed + 1.001 * Math.max(step(dtype, w), step(dtype, g)) : 0;
      if (!(difference <= further)) wrong.push(`%${name}[${index(i, shape)}] is ${g}, should be ${w}`);
    }
  }
  if (otherwise > 2 + roundedOtherwise * data.length)
    wrong.push(`%${name}: ${otherwise} of ${data.length} elements rounded otherwise`);
  return summary(wrong, data.length);
}

/**
 * Scales are quotients in f32: one unit in the last place. Of few tiles the largest element may have been rounded to the
 * other bf16 first.
 */
function scaleDifferences(name: string, got: Float64Array, want: Float64Array): string[] {
  const wrong: string[] = [];
  let otherwise = 0;
  for (const [i, w] of want.entries()) {
    const difference = Math.abs(got[i] - w);
    if (got[i] === w || difference <= 2 ** -23 * Math.abs(w)) continue;
    otherwise++;
    if (!(difference <= 1.001 * 2 ** -7 * Math.abs(w)))
      wrong.push(`${name}[${i}] is ${got[i]}, should be ${w}`);
  }
  if (otherwise > 2 + roundedOtherwise * want.length)
    wrong.push(`${name}: ${otherwise} of ${want.length} scales differ`);
  return summary(wrong, want.length);
}

function routingDifferences(name: string, got: RoutingData, want: RoutingData): string[] {
  const fields = ['indices', 'offsets', 'tokenOf', 'choiceOf', 'slotOf'] as const;
  const wrong = fields.flatMap((field) =>
    got[field].length === want[field].length && got[field].every((x, i) => x === want[field][i])
      ? []
      : [`%${name}.${field} is ${got[field].slice(0, 20)} …, should be ${want[field].slice(0, 20)} …`],
  );
  for (const [i, w] of want.weights.entries())
    if (!(Math.abs(got.weights[i] - w) <= 4e-7 * Math.abs(w)))
      wrong.push(`%${name}.weights[${i}] is ${got.weights[i]}, should be ${w}`);
  return summary(wrong, want.indices.length);
}

const index = (i: number, shape: readonly number[]): string => {
  const at: number[] = [];
  for (let axis = shape.length - 1, rest = i; axis >= 0; axis--) {
    at.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return at.join(', ');
};

const summary = (wrong: readonly string[], of: number): string[] =>
  wrong.length <= 4 ? [...wrong] : [...wrong.slice(0, 4), `… ${wrong.length} of ${of} elements differ`];
