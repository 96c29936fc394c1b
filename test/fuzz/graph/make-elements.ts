// Makers of pointwise ops and views.
import { dim, tensor, type Dim } from '../../../ir/types.ts';
import { elements, isStatic, largest, plain, type Drawing, type TensorValue } from './drawing.ts';
import { axisOf, type Maker } from './maker.ts';

// --- pointwise ---

const unary =
  (
    name: string,
    prepare: (d: Drawing, x: TensorValue) => TensorValue = (_, x) => x,
    size?: (x: number) => number,
  ): Maker =>
  (d) => {
    const x = prepare(d, d.float());
    d.one(name, [x], {}, null, size?.(d.size(x)));
  };
const within =
  (limit: number) =>
  (d: Drawing, x: TensorValue): TensorValue =>
    d.within(x, limit);
const positive = (d: Drawing, x: TensorValue): TensorValue => d.positive(x);

/** Numbers of one type; ints now and then. */
function pair(d: Drawing): [TensorValue, TensorValue] {
  const a = (d.c.chance(0.2) && d.find((t) => t.dtype === 'i32')) || d.float();
  return [a, d.like(a.type)];
}
const binary =
  (name: string, size: (a: number, b: number) => number = Math.max): Maker =>
  (d) => {
    const [a, b] = pair(d);
    const most = size(d.size(a), d.size(b));
    if (d.comfortable(a.type.dtype, most)) d.one(name, [a, b], {}, null, most);
  };
const compare =
  (name: string): Maker =>
  (d) =>
    void d.one(name, pair(d), {}, null, 1);
const logic =
  (name: string): Maker =>
  (d) => {
    const a = d.bools();
    d.one(name, [a, d.like(a.type)], {}, null, 1);
  };
const div: Maker = (d) => {
  const a = d.float();
  const b = d.positive(d.like(a.type));
  if (d.comfortable(a.type.dtype, 4 * d.size(a))) d.one('div', [a, b], {}, null, 4 * d.size(a));
};
const pow: Maker = (d) => {
  const a = d.positive(d.within(d.float(), 4));
  d.one('pow', [a, d.within(d.like(a.type), 3)], {}, null, 100);
};
const cast: Maker = (d) => {
  const x = d.draw(plain, () => d.type());
  d.cast(
    x,
    d.c.pick([
      'f32',
      'bf16',
      'f16',
      'i32',
      'bool',
      'f8e4m3',
      'f8e5m2',
      'f12e5m6',
      'f32',
      'bf16',
      'i64',
    ] as const),
  );
};
const select: Maker = (d) => {
  const a = d.float();
  const b = d.like(a.type);
  const c = d.like({ ...a.type, dtype: 'bool' });
  d.one('select', [c, a, b], {}, null, Math.max(d.size(a), d.size(b)));
};

// --- views ---

const constant: Maker = (d) => {
  const type = d.type();
  const values = d.c.chance(0.3) && isStatic(type) && elements(type.dims) <= 64;
  if (!values) return void d.one('const', [], { value: d.c.pick([0, 1, -0.5, 3]) }, type, 3);
  const list = Array.from({ length: elements(type.dims) }, (_, i) => ((i * 5) % 7) - 3);
  d.one('const', [], { values: list }, type, 4);
};
const iota: Maker = (d) => {
  const type = tensor(d.c.pick(['i32', 'f32', 'i64'] as const), d.shape());
  d.one('iota', [], { axis: axisOf(d, type)! }, type, 512);
};
const broadcast: Maker = (d) => {
  const x = d.draw(plain, () => d.type());
  const dims = [...x.type.dims];
  const axes = dims.map((_, i) => i);
  for (let n = d.c.pick([1, 1, 2]); n > 0; n--) {
    const at = d.c.below(dims.length + 1);
    dims.splice(at, 0, d.c.chance(0.2) ? dim('tokens') : dim(null, d.length(16)));
    axes.forEach((a, i) => a >= at && axes[i]++);
  }
  // An axis of a run-time dim comes once.
  const names = dims.flatMap((x) => (x.size === null ? [x.name] : []));
  if (elements(dims) <= largest && new Set(names).size === names.length)
    d.one('broadcast', [x], { axes }, { ...x.type, dims });
};
const reshape: Maker = (d) => {
  const x = d.draw(plain, () => d.type());
  const dims = [...x.type.dims];
  const at = d.c.below(dims.length + 1);
  const [a, b] = [dims[at], dims[at + 1]];
  if (a?.size != null && b?.size != null && d.c.chance(0.5)) dims.splice(at, 2, dim(null, a.size * b.size));
  else if (a?.size != null && a.size > 1) {
    const parts = [2, 3, 4, 8, 16].filter((n) => a.size! % n === 0);
    const n = parts.length > 0 ? d.c.pick(parts) : 1;
    dims.splice(at, 1, dim(null, a.size / n), dim(null, n));
  } else dims.splice(at, 0, dim(null, 1));
  if (dims.length <= 6) d.one('reshape', [x], {}, { ...x.type, dims });
};
const transpose: Maker = (d) => {
  const x = d.draw(
    (t) => plain(t) && t.dims.length > 1,
    () => tensor(d.dtype, [dim('tokens'), dim(null, d.length(64))]),
  );
  const order = x.type.dims.map((_, i) => i);
  for (let i = order.length - 1; i > 0; i--) {
    const j = d.c.below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  d.one('transpose', [x], { order });
};
/** A tensor with a static axis, and that axis. */
function cuttable(d: Drawing, least = 1): [TensorValue, number] {
  const test = (x: Dim): boolean => x.size !== null && x.size >= least;
  const x = d.draw(
    (t) => plain(t) && t.dims.some(test),
    () => tensor(d.dtype, [dim('tokens'), dim(null, 24)]),
  );
  return [x, axisOf(d, x.type, test)!];
}
const slice: Maker = (d) => {
  const [x, axis] = cuttable(d);
  const n = x.type.dims[axis].size!;
  const start = d.c.below(n);
  d.one('slice', [x], { axis, start, stop: start + 1 + d.c.below(n - start) });
};
const split: Maker = (d) => {
  const [x, axis] = cuttable(d, 2);
  const n = x.type.dims[axis].size!;
  const first = 1 + d.c.below(n - 1);
  const sizes = n - first > 1 && d.c.chance(0.3) ? [first, 1, n - first - 1] : [first, n - first];
  d.op('split', [x], { axis, sizes }, null, d.size(x));
};
const concat: Maker = (d) => {
  const [x, axis] = cuttable(d);
  const dims = (n: number): readonly Dim[] => x.type.dims.map((s, i) => (i === axis ? dim(null, n) : s));
  const others = Array.from({ length: d.c.pick([1, 1, 2]) }, () =>
    d.like({ ...x.type, dims: dims(d.c.chance(0.5) ? x.type.dims[axis].size! : d.length(16)) }),
  );
  const all = [x, ...others];
  const total = all.reduce((n, v) => n + elements(v.type.dims), 0);
  if (total <= largest) d.one('concat', all, { axis });
};
const pad: Maker = (d) => {
  const [x, axis] = cuttable(d);
  const value = x.type.dtype === 'bool' ? 1 : d.c.pick([0, 0, 1, -2]);
  const [before, after] = [d.c.below(4), d.c.below(20)];
  if (elements(x.type.dims) < largest / 8)
    d.one('pad', [x], { axis, before, after, value }, null, Math.max(d.size(x), 2));
};
const gather: Maker = (d) => {
  const x = d.draw(
    (t) => plain(t) && t.dims.length > 0,
    () => d.type(),
  );
  const i = d.rows(x.type.dims[0]);
  const dims = [...i.type.dims, ...x.type.dims.slice(1)];
  if (elements(dims) <= largest) d.one('gather', [x, i], {}, null, d.size(x));
};

export const elementMakers = {
  ...{
    neg: unary('neg'),
    abs: unary('abs'),
    floor: unary('floor'),
    sigmoid: unary('sigmoid', undefined, () => 1),
  },
  ...{ silu: unary('silu'), tanh: unary('tanh', undefined, () => 1) },
  ...{ exp: unary('exp', within(4), Math.exp), exp2: unary('exp2', within(6), (x) => 2 ** x) },
  ...{ log: unary('log', positive, () => 12), log2: unary('log2', positive, () => 16) },
  ...{ sqrt: unary('sqrt', positive), rsqrt: unary('rsqrt', positive, () => 2) },
  ...{ reciprocal: unary('reciprocal', positive, () => 4) },
  ...{ sin: unary('sin', within(1000), () => 1), cos: unary('cos', within(1000), () => 1) },
  ...{
    add: binary('add', (a, b) => a + b),
    sub: binary('sub', (a, b) => a + b),
    mul: binary('mul', (a, b) => a * b),
  },
  ...{ min: binary('min'), max: binary('max'), div, pow },
  ...{
    eq: compare('eq'),
    ne: compare('ne'),
    lt: compare('lt'),
    le: compare('le'),
    gt: compare('gt'),
    ge: compare('ge'),
  },
  ...{ and: logic('and'), or: logic('or'), not: (d: Drawing) => void d.one('not', [d.bools()], {}, null, 1) },
  ...{
    cast,
    select,
    const: constant,
    iota,
    broadcast,
    reshape,
    transpose,
    slice,
    split,
    concat,
    pad,
    gather,
  },
} as const;
