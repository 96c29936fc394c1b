// Is a device's value the reference's? How far apart the two are, a tolerance per dtype, and what leaves it in words.
import { dequantizeTiles, dtypeInfo, type DType } from '../../../ir/formats/index.ts';
import type { RoutingData, RuntimeValue, StateData, TensorData } from '../../../ir/interpret/values.ts';
import { tileOf } from '../../../ir/ops/scaling.ts';
import type { Type } from '../../../ir/types.ts';

/** What a kernel's result may differ by from what the interpreter makes of the same inputs. */
export interface Tolerance {
  /** Relative to the largest value of the row: sums in another order, also where they cancel. */
  readonly row: number;
  /** Steps of the dtype on top of it, of elements that were rounded the other way. */
  readonly steps: number;
  /** The largest share of the elements that may be such; two more always may. */
  readonly share: number;
}

const exact: Tolerance = { row: 0, steps: 0, share: 0 };
const wide: Tolerance = { row: 1e-5, steps: 0, share: 0 };
const narrow: Tolerance = { row: 1e-5, steps: 1, share: 0.01 };

/** How a kernel sums: in f32, or as tensor cores do with FP8, where 13 bits of a product's fraction take part. */
export type Sums = 'f32' | 'fp8';
const fp8Sums = { row: 5e-4, share: 0.1 };

/** docs/EMULATOR.md shows this as a table. */
export function toleranceOf(dtype: DType, sums: Sums = 'f32'): Tolerance {
  if (dtypeInfo[dtype].kind !== 'float') return exact;
  const tolerance = dtype === 'f32' ? wide : narrow;
  return sums === 'f32' ? tolerance : { ...tolerance, ...fp8Sums };
}

/** `f32 1e-5`, `bf16 step + 5e-4`, `i32 exact`. */
export function showTolerance(dtype: DType, sums: Sums): string {
  const { row, steps } = toleranceOf(dtype, sums);
  const parts = [...(steps > 0 ? ['step'] : []), ...(row > 0 ? [row.toExponential()] : [])];
  return `${dtype} ${parts.join(' + ') || 'exact'}`;
}

/** Scales are quotients in f32: one unit in the last place, or one step of bf16 when the largest element had one. */
const scaleUnit = 2 ** -23;
const scaleStep = 1.001 * 2 ** -7;
const routingWeight = 4e-7;

/** Slack for steps: values beside a power of two have steps of two sizes. */
const slack = 1.001;

/** One step of a narrow float at `x`. */
function step(dtype: DType, x: number): number {
  const mantissa = { bf16: 7, f16: 10, f8e4m3: 3, f8e5m2: 2, f12e5m6: 6 }[dtype as 'bf16'];
  const smallest = { bf16: -133, f16: -24, f8e4m3: -9, f8e5m2: -16, f12e5m6: -20 }[dtype as 'bf16'];
  if (x === 0) return 2 ** smallest;
  return 2 ** Math.max(smallest, Math.floor(Math.log2(Math.abs(x))) - mantissa);
}

/** Differences of one value that leave the tolerance, in words; none when it is right. */
export function differences(
  name: string,
  got: RuntimeValue,
  want: RuntimeValue,
  sums: Sums = 'f32',
): string[] {
  if (want.kind === 'routing' && got.kind === 'routing') return routingDifferences(name, got, want);
  if (want.kind === 'state' && got.kind === 'state') return stateDifferences(name, got, want);
  if (want.kind !== 'tensor' || got.kind !== 'tensor')
    return [`%${name} is a ${got.kind}, should be a ${want.kind}`];
  if (got.dtype !== want.dtype) return [`%${name} is ${got.dtype}, should be ${want.dtype}`];
  if (want.shape.some((n, axis) => (axis === 0 ? got.shape[0] < n : got.shape[axis] !== n)))
    return [`%${name} is [${got.shape}], should be [${want.shape}]`];
  const scales = want.scales.flatMap((s, level) =>
    scaleDifferences(`%${name}.scale${level}`, got.scales[level].data, s.data),
  );
  return [...scales, ...tensorDifferences(name, got.data, want, sums)];
}

const stateDifferences = (name: string, got: StateData, want: StateData): string[] =>
  want.layers.flatMap(({ fields }, layer) =>
    Object.entries(fields).flatMap(([field, value]) =>
      differences(`${name}.${field}`, got.layers[layer].fields[field], value),
    ),
  );

/** Rows beyond the reference's are those of a ragged axis that are not in use. */
function tensorDifferences(
  name: string,
  got: Float64Array,
  { dtype, shape, data, scales }: TensorData,
  sums: Sums,
): string[] {
  const { row, steps, share } = toleranceOf(dtype, sums);
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
      // Codes have no sums: they are one step apart or the same.
      const allowed = scales.length > 0 ? 0 : row * largest;
      if (difference <= allowed) continue;
      if (steps > 0) otherwise++;
      const further =
        steps > 0 ? allowed + steps * slack * Math.max(step(dtype, w), step(dtype, g)) : allowed;
      if (!(difference <= further)) wrong.push(`%${name}[${index(i, shape)}] is ${g}, should be ${w}`);
    }
  }
  if (otherwise > 2 + share * data.length)
    wrong.push(`%${name}: ${otherwise} of ${data.length} elements rounded otherwise`);
  return summary(wrong, data.length);
}

/** Of few tiles the largest element may have been rounded to the other bf16 first. */
function scaleDifferences(name: string, got: Float64Array, want: Float64Array): string[] {
  const wrong: string[] = [];
  let otherwise = 0;
  for (const [i, w] of want.entries()) {
    const difference = Math.abs(got[i] - w);
    if (got[i] === w || difference <= scaleUnit * Math.abs(w)) continue;
    otherwise++;
    if (!(difference <= scaleStep * Math.abs(w))) wrong.push(`${name}[${i}] is ${got[i]}, should be ${w}`);
  }
  if (otherwise > 2 + narrow.share * want.length)
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
    if (!(Math.abs(got.weights[i] - w) <= routingWeight * Math.abs(w)))
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

/** How far two values are apart, scaled ones after multiplication with their scales. */
export interface Distance {
  /** Infinity where one of the two is not a number. */
  readonly maxAbs: number;
  /** Root of the sum of squared differences over that of squared values of the reference. */
  readonly relativeL2: number;
}

/** Null when the two cannot be compared number by number: other shapes, or other experts chosen. */
export function distanceOf(type: Type, got: RuntimeValue, want: RuntimeValue): Distance | null {
  const [a, b] = [numbersOf(type, got), numbersOf(type, want)];
  if (got.kind === 'routing' && want.kind === 'routing')
    if (!got.indices.every((e, i) => e === want.indices[i])) return null;
  if (a.length !== b.length) return null;
  let [maxAbs, squares, whole] = [0, 0, 0];
  for (const [i, w] of b.entries()) {
    if (a[i] === w || (Number.isNaN(a[i]) && Number.isNaN(w))) {
      if (Number.isFinite(w)) whole += w * w;
      continue;
    }
    const d = Math.abs(a[i] - w);
    maxAbs = Math.max(maxAbs, Number.isNaN(d) ? Infinity : d);
    squares += d * d;
    whole += w * w;
  }
  const relativeL2 = squares === 0 ? 0 : Math.sqrt(squares / whole);
  return { maxAbs, relativeL2: Number.isNaN(relativeL2) ? Infinity : relativeL2 };
}

/** The values that a value stands for, in a row. */
function numbersOf(type: Type, v: RuntimeValue): Float64Array {
  if (v.kind === 'routing') return v.weights;
  if (v.kind === 'tensor') {
    const { data: codes, shape, scales } = v;
    const [level] = type.kind === 'tensor' ? type.scales : [];
    if (!level || scales.length !== 1) return codes;
    return dequantizeTiles({ codes, scales: scales[0].data, shape, tile: tileOf(level, shape) });
  }
  if (v.kind !== 'state') return Float64Array.from(v.position);
  const parts = v.layers.flatMap(({ fields }) => Object.values(fields).map((f) => f.data));
  const out = new Float64Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}
