// How ends pass through each op. Views and monotone ops are their own reference on both ends; what remains has a rule.
import type { RoutingData, RuntimeValue, StateData, TensorData } from '../../../ir/interpret/values.ts';
import type { OpName } from '../../../ir/ops/index.ts';
import type { Applied } from './applied.ts';
import { endsOf, exact, hull, isExact, magnitudes, unknown, widened, type Ends } from './ends.ts';
import { dequantize, quantize, valuesOf } from './scaled-rules.ts';
import { nearest, nearestSlack, routingSlack, slack, sumSlack } from './slack.ts';

/** Ends of each result; null: anything may come out. */
export type Rule = (a: Applied) => readonly (Ends | null)[] | null;

const tensorAt = (all: readonly RuntimeValue[], i: number): TensorData => all[i] as TensorData;
/** Operands with their tensors' lower or upper ends. */
const endInputs = (a: Applied, end: 'lo' | 'hi'): readonly RuntimeValue[] =>
  a.inputs.map((v, i) => (v.kind === 'tensor' ? a.ends(i)[end] : v));
const run = (a: Applied, inputs: readonly RuntimeValue[], i = 0): Float64Array =>
  tensorAt(a.reference(inputs), i).data.slice();

/** Moves the ends out by the op's own slack. */
function spread(a: Applied, lo: Float64Array, hi: Float64Array): void {
  const name = a.op.op as OpName;
  const own = nearest.has(name) && a.factor > 1 ? nearestSlack : slack[name];
  if (!own) return;
  const sizes = a.inputs.map((v, i) => (v.kind === 'tensor' ? magnitudes(a.ends(i)) : null));
  widened(
    lo,
    hi,
    (i) => a.factor * own(Math.max(Math.abs(lo[i]), Math.abs(hi[i])), sizes[0]?.[i] ?? 0, sizes[1]?.[i] ?? 0),
  );
}
const finished = (a: Applied, lo: Float64Array, hi: Float64Array): readonly Ends[] => {
  spread(a, lo, hi);
  return [endsOf(tensorAt(a.outputs, 0), lo, hi)];
};

/** Grows with every operand, or only moves elements. */
const rises: Rule = (a) => finished(a, run(a, endInputs(a, 'lo')), run(a, endInputs(a, 'hi')));
const falls: Rule = (a) => finished(a, run(a, endInputs(a, 'hi')), run(a, endInputs(a, 'lo')));

/** Moves elements with their scales; rows of a gather must be sure. */
const moves: Rule = (a) => {
  if (a.op.op === 'gather' && !isExact(a.ends(1))) return null;
  const [lo, hi] = (['lo', 'hi'] as const).map(
    (end) => a.reference(endInputs(a, end)) as readonly TensorData[],
  );
  return a.outputs.map((v, i) => {
    if (v.kind !== 'tensor') return null;
    const part = (t: TensorData): TensorData => ({
      ...v,
      data: t.data.slice(),
      scales: t.scales.map((s) => ({ ...s, data: s.data.slice() })),
    });
    return { lo: part(lo[i]), hi: part(hi[i]) };
  });
};
const given: Rule = (a) => a.outputs.map((v) => (v.kind === 'tensor' ? exact(v) : null));

/** Monotone in each operand by itself, in whichever direction. */
const corners: Rule = (a) => {
  const [x, y] = [a.ends(0), a.ends(1)];
  const all = [x.lo, x.hi].flatMap((p) => [y.lo, y.hi].map((q) => run(a, [p, q])));
  const [lo, hi] = hull(all);
  return finished(a, lo, hi);
};
const open = (lo: Float64Array, hi: Float64Array, i: number): void => {
  lo[i] = -Infinity;
  hi[i] = Infinity;
};
/** As corners where `holds` says so of an element's ends; elsewhere anything. */
const cornersWhere =
  (holds: (aLo: number, aHi: number, bLo: number, bHi: number) => boolean): Rule =>
  (a) => {
    const [x, y] = [a.ends(0), a.ends(1)];
    const [lo, hi] = hull([x.lo, x.hi].flatMap((p) => [y.lo, y.hi].map((q) => run(a, [p, q]))));
    spread(a, lo, hi);
    for (let i = 0; i < lo.length; i++)
      if (!holds(x.lo.data[i], x.hi.data[i], y.lo.data[i], y.hi.data[i])) open(lo, hi, i);
    return [endsOf(tensorAt(a.outputs, 0), lo, hi)];
  };
/** Falls on each side of zero. */
const reciprocal: Rule = (a) => {
  const x = a.ends(0);
  const [lo, hi] = [run(a, [x.hi]), run(a, [x.lo])];
  spread(a, lo, hi);
  lo.forEach((_, i) => x.lo.data[i] <= 0 && x.hi.data[i] >= 0 && open(lo, hi, i));
  return [endsOf(tensorAt(a.outputs, 0), lo, hi)];
};
/** Turns round once at most; nowhere steeper than `steepest`. */
const lipschitz =
  (steepest: number): Rule =>
  (a) => {
    const x = a.ends(0);
    const middle = x.lo.data.map((l, i) => (l === x.hi.data[i] ? l : l / 2 + x.hi.data[i] / 2));
    const [lo, hi] = [0, 1].map(() => run(a, [{ ...x.lo, data: middle }]));
    widened(lo, hi, (i) => (steepest * (x.hi.data[i] - x.lo.data[i])) / 2);
    return finished(a, lo, hi);
  };
const abs: Rule = (a) => {
  const x = a.ends(0);
  const [lo, hi] = hull([run(a, [x.lo]), run(a, [x.hi])]);
  lo.forEach((_, i) => x.lo.data[i] < 0 && x.hi.data[i] > 0 && (lo[i] = 0));
  return finished(a, lo, hi);
};
/** Two answers where the ends overlap. */
const compares: Rule = (a) => {
  const [x, y] = [a.ends(0), a.ends(1)];
  const [lo, hi] = hull([
    run(a, [x.lo, y.hi]),
    run(a, [x.hi, y.lo]),
    run(a, [x.lo, y.lo]),
    run(a, [x.hi, y.hi]),
  ]);
  for (let i = 0; i < lo.length; i++) {
    const [p, q, r, s] = [x.lo.data[i], x.hi.data[i], y.lo.data[i], y.hi.data[i]];
    if ((p === q && r === s) || q < r || s < p) continue;
    if (/^(eq|ne)$/.test(a.op.op)) [lo[i], hi[i]] = [0, 1];
  }
  return finished(a, lo, hi);
};
const select: Rule = (a) => {
  const [c, x, y] = [a.ends(0), a.ends(1), a.ends(2)];
  const side = (end: 'lo' | 'hi', f: (p: number, q: number) => number): Float64Array =>
    x[end].data.map((p, i) => {
      const q = y[end].data[i];
      return c.lo.data[i] === c.hi.data[i] ? (c.lo.data[i] ? p : q) : f(p, q);
    });
  return finished(a, side('lo', Math.min), side('hi', Math.max));
};
const cast: Rule = (a) => {
  const x = a.ends(0);
  const [lo, hi] = [run(a, [x.lo]), run(a, [x.hi])];
  if (tensorAt(a.outputs, 0).dtype === 'bool')
    lo.forEach(
      (_, i) =>
        x.lo.data[i] !== x.hi.data[i] && x.lo.data[i] <= 0 && x.hi.data[i] >= 0 && ((lo[i] = 0), (hi[i] = 1)),
    );
  return finished(a, lo, hi);
};

// --- reductions and contractions ---

/** Sums along some axes, in any order. */
const sums: Rule = (a) => {
  const x = a.ends(0);
  const [lo, hi] = [run(a, endInputs(a, 'lo')), run(a, endInputs(a, 'hi'))];
  const sizes: TensorData = { ...x.lo, data: magnitudes(x) };
  const total = run(a, [sizes, ...a.inputs.slice(1)]);
  const ones = run(a, [{ ...x.lo, data: x.lo.data.map(() => 1) }, ...a.inputs.slice(1)]);
  widened(lo, hi, (i) => a.factor * sumSlack(ones[i], total[i]));
  return [endsOf(tensorAt(a.outputs, 0), lo, hi)];
};

/** Sums of products: the middle's product, what the radii add to it, and the roundings of k sums. */
const products: Rule = (a) => {
  const rest = a.inputs.slice(2);
  const factors = [0, 1].map((i) => {
    const { lo, hi, like } = valuesOf(a, i);
    const middle = lo.map((x, k) => (x === hi[k] ? x : x / 2 + hi[k] / 2));
    const most = lo.map((x, k) => Math.max(Math.abs(x), Math.abs(hi[k])));
    return { like, middle, size: middle.map(Math.abs), most };
  });
  const times = (pick: (f: (typeof factors)[number]) => Float64Array): Float64Array =>
    run(a, [...factors.map((f) => ({ ...f.like, data: pick(f) })), ...rest]);
  const [lo, hi] = [0, 1].map(() => times((f) => f.middle));
  const [sizes, most, count] = [
    times((f) => f.size),
    times((f) => f.most),
    times((f) => f.size.map(() => 1)),
  ];
  widened(
    lo,
    hi,
    (i) =>
      Math.abs(most[i] - sizes[i]) + (1e-14 + a.factor * sumSlack(count[i] + 4, 1)) * most[i] + 2 ** -149,
  );
  return [endsOf(tensorAt(a.outputs, 0), lo, hi)];
};

/** May either be the larger one? Equal numbers that are exact have an order: the lower index. */
const overlap = (lo: Float64Array, hi: Float64Array, i: number, j: number): boolean =>
  lo[i] <= hi[j] && hi[i] >= lo[j] && (lo[i] !== hi[i] || lo[j] !== hi[j]);

/** The largest, and where it is: sure when no other may be larger. */
const ranked: Rule = (a) => {
  const { lo, hi } = a.ends(0);
  const sure = isExact(a.ends(0));
  const width = lo.shape.at(-1)!;
  const k = a.op.op === 'top_k' ? Number(a.op.attributes.k) : 1;
  if (a.op.op === 'argmax') return sure ? given(a) : [null];
  const indices = tensorAt(a.outputs, 1);
  const [low, high] = [indices.data.slice(), indices.data.slice()];
  for (let row = 0; !sure && row < low.length / k; row++)
    for (let r = 0; r < k; r++) {
      const mine = row * width + indices.data[row * k + r];
      for (let j = row * width; j < (row + 1) * width; j++)
        if (j !== mine && overlap(lo.data, hi.data, j, mine))
          [low[row * k + r], high[row * k + r]] = [0, width - 1];
    }
  const values = tensorAt(a.outputs, 0);
  return [endsOf(values, run(a, [lo]), run(a, [hi])), endsOf(indices, low, high)];
};

// --- routing and state ---

const route: Rule = (a) => {
  const r = a.outputs[0] as RoutingData;
  const sure = a.inputs.every((_, i) => isExact(a.ends(i)));
  const by = (sign: number): Float64Array => r.weights.map((w) => w + sign * routingSlack * Math.abs(w));
  a.enclosure.setRouting(r, { sure, lo: by(-1), hi: by(1) });
  return [null];
};
const routingField: Rule = (a) => {
  const r = a.inputs[0] as RoutingData;
  if (a.op.attributes.field === 'indices') return given(a);
  const { lo, hi } = a.enclosure.routing(r);
  return [endsOf(tensorAt(a.outputs, 0), run(a, [{ ...r, weights: lo }]), run(a, [{ ...r, weights: hi }]))];
};

/** Ends of a state's field: made when it is first written, and written like the field itself. */
const fieldEnds = (a: Applied, f: TensorData): Ends => {
  const known = a.enclosure.of(f);
  if (known.lo !== f) return known;
  const copy = (): TensorData => ({
    ...f,
    data: f.data.slice(),
    scales: f.scales.map((s) => ({ ...s, data: s.data.slice() })),
  });
  const ends = { lo: copy(), hi: copy() };
  a.enclosure.set(f, ends);
  return ends;
};
const append: Rule = (a) => {
  // The field holds the new rows by now; the ends' copies of all others are the same.
  const { layers } = a.inputs[0] as StateData;
  const names = Object.keys(layers[0].fields);
  for (const end of ['lo', 'hi'] as const) {
    const fields = Object.fromEntries(names.map((n) => [n, fieldEnds(a, layers[0].fields[n])[end]]));
    a.reference([{ kind: 'state', layers: [{ fields }] }, ...endInputs(a, end).slice(1)]);
  }
  return [null];
};
const readField: Rule = (a) => {
  const f = (a.inputs[0] as StateData).layers[0].fields[String(a.op.attributes.field)];
  const { lo, hi } = a.enclosure.of(f);
  return [{ lo: { ...lo, data: lo.data.slice() }, hi: { ...hi, data: hi.data.slice() } }];
};
const remember: Rule = (a) => {
  append(a);
  return a.outputs.map((v) => (v.kind === 'tensor' ? unknown(v) : null));
};

const byParts: Rule = (a) => a.enclosure.decomposed(a);
const structure: Rule = () => null;
const none: Rule = () => null;
const positive = (lo: number): boolean => lo > 0;

export const rules: Readonly<Record<OpName, Rule>> = {
  ...{
    neg: falls,
    abs,
    exp: rises,
    exp2: rises,
    log: rises,
    log2: rises,
    sqrt: rises,
    rsqrt: falls,
    reciprocal,
  },
  ...{
    sigmoid: rises,
    silu: lipschitz(1.1),
    tanh: rises,
    sin: lipschitz(1),
    cos: lipschitz(1),
    floor: rises,
    not: falls,
  },
  ...{ add: rises, sub: corners, mul: corners, min: rises, max: rises },
  ...{ div: cornersWhere((_, __, lo, hi) => lo > 0 || hi < 0), pow: cornersWhere(positive) },
  ...{
    eq: compares,
    ne: compares,
    lt: compares,
    le: compares,
    gt: compares,
    ge: compares,
    and: rises,
    or: rises,
  },
  ...{
    cast,
    select,
    const: given,
    iota: given,
    broadcast: moves,
    reshape: moves,
    transpose: moves,
    slice: moves,
  },
  ...{ split: moves, concat: moves, pad: rises, gather: moves, position_field: given, visible: given },
  ...{ sum: sums, max_over: rises, min_over: rises, argmax: ranked, cumsum: sums, top_k: ranked },
  ...{ matmul: products, einsum: products, grouped_matmul: products, quantize, dequantize },
  ...{
    rms_norm: byParts,
    rms_norm_quantize: byParts,
    softmax: byParts,
    silu_mul: byParts,
    silu_mul_quantize: byParts,
  },
  ...{ rope: byParts, attention: byParts },
  ...{ route, routing_field: routingField, group_tokens: moves, combine_tokens: sums },
  ...{ cache_append: append, cache_read: readField, remember },
  ...{ call: structure, repeat: structure, launch: structure },
  // Never generated: makers.ts says why.
  ...{ scatter_add: none, grouped_wgrad: none, attention_gradient: none, gather_choices: none },
  ...{ scatter_choices: none, group_choices: none, ungroup_choices: none },
  ...{ cross_entropy: none, cross_entropy_gradient: none },
};
