// Gradients of reductions and contractions.
import type { Value } from '../module.ts';
import { castTo, spreadTo, tensorOf } from '../ops/composite.ts';
import { parseEinsum, showEinsum } from '../ops/einsum.ts';
import { integerOf, numbersOf, textOf } from '../ops/support.ts';
import { tensor, type TensorType } from '../types.ts';
import { constant, hasGradient, none, rule, type Gradient, type GradientContext } from './rule.ts';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const kept = (x: Value, attributes: GradientContext['attributes']): number[] =>
  range(tensorOf(x).dims.length).filter((i) => !numbersOf(attributes, 'axes').includes(i));

/** Elements equal to the extreme share its gradient. */
const extreme = rule(({ b, operands: [x], results: [y], upstream: [d], attributes }) => {
  if (!hasGradient(x)) return [null];
  const { dtype } = tensorOf(x);
  const wide: TensorType = { ...tensorOf(x), dtype: 'f32' };
  const spread = (v: Value): Value => spreadTo(b, v, wide, kept(x, attributes));
  const [wx, wy, wd] = [x, y, d!].map((v) => castTo(b, v, 'f32'));
  const chosen = castTo(b, b.one('eq', [wx, spread(wy)]), 'f32');
  const count = b.one('sum', [chosen], { axes: numbersOf(attributes, 'axes') });
  return [castTo(b, b.one('mul', [chosen, spread(b.one('div', [wd, count]))]), dtype)];
});

export const reductionGradients = {
  sum: rule(({ b, operands: [x], upstream: [d], attributes }) => [
    hasGradient(x)
      ? spreadTo(b, d!, { ...tensorOf(x), dtype: tensorOf(d!).dtype }, kept(x, attributes))
      : null,
  ]),
  max_over: extreme,
  min_over: extreme,
  argmax: constant,
  // The sum of what follows: total − running sum + the element itself.
  cumsum: rule(({ b, operands: [x], upstream: [d], attributes }) => {
    if (!hasGradient(x)) return [null];
    const type = tensorOf(x);
    const axis = integerOf(attributes, 'axis');
    const wd = castTo(b, d!, 'f32');
    const others = range(type.dims.length).filter((i) => i !== axis);
    const total = spreadTo(b, b.one('sum', [wd], { axes: [axis] }), { ...type, dtype: 'f32' }, others);
    const before = b.one('sub', [b.one('cumsum', [wd], { axis }), wd]);
    return [castTo(b, b.one('sub', [total, before]), type.dtype)];
  }),
  // One row of ones and zeros per kept element: k is small.
  top_k: rule(({ b, operands: [x], results: [values, indices], upstream: [d] }) => {
    if (!d || !hasGradient(x)) return [null];
    const type = tensorOf(x);
    const rank = type.dims.length;
    const k = tensorOf(values).dims[rank - 1];
    const wide = tensor(type.dtype, [...type.dims.slice(0, -1), k, type.dims[rank - 1]]);
    const rows = range(rank);
    const place = b.one('iota', [], { axis: rank }, { ...wide, dtype: 'i32' });
    const chosen = b.one('eq', [spreadTo(b, indices, { ...wide, dtype: 'i32' }, rows), place]);
    const zero = b.one('const', [], { value: 0 }, wide);
    return [
      b.one('sum', [b.one('select', [chosen, spreadTo(b, d, wide, rows), zero])], { axes: [rank - 1] }),
    ];
  }),
} satisfies Record<string, Gradient>;

/** Moves the first `n` axes behind the others. */
const rotate = (b: GradientContext['b'], v: Value, n: number): Value => {
  const rank = tensorOf(v).dims.length;
  if (n === 0 || n === rank) return v;
  return b.one('transpose', [v], { order: [...range(rank).slice(n), ...range(n)] });
};

/** u[A…] and v[B…] give [A…, B…]. */
function outer(b: GradientContext['b'], u: Value, v: Value, type: TensorType): Value {
  const letters = [...'abcdefghijklmnopqrstuvwxyz'].slice(0, type.dims.length);
  const rank = tensorOf(u).dims.length;
  const spec = showEinsum({ a: letters.slice(0, rank), b: letters.slice(rank), out: letters });
  return b.one('einsum', [u, v], { spec }, type);
}

const scaled = none(
  'its operands are quantized, and codes have no gradient',
  'differentiate before insert-fp8, which quantizes forward and backward passes',
);

/** einsum of two operands for the letters of a third; letters that only `x` has are repeated. */
function einsumInto(
  b: GradientContext['b'],
  d: Value,
  other: Value,
  spec: [string[], string[]],
  x: Value,
  letters: readonly string[],
  dtype: TensorType['dtype'],
): Value {
  const present = letters.filter((l) => spec[0].includes(l) || spec[1].includes(l));
  const type = tensorOf(x);
  const part = tensor(
    dtype,
    present.map((l) => type.dims[letters.indexOf(l)]),
  );
  const sum = b.one(
    'einsum',
    [d, other],
    { spec: showEinsum({ a: spec[0], b: spec[1], out: present }) },
    part,
  );
  if (present.length === letters.length) return sum;
  return spreadTo(
    b,
    sum,
    tensor(dtype, type.dims),
    present.map((l) => letters.indexOf(l)),
  );
}

export const contractionGradients = {
  // y[M…, N…] = x[M…, K…] · w[N…, K…]: dx = dy · w over N…, dw = dy · x over M….
  matmul: rule(({ b, operands: [x, w], upstream: [d], attributes, wanted, dtypes }) => {
    const contract = integerOf(attributes, 'contract');
    const m = tensorOf(x).dims.length - contract;
    const n = tensorOf(w).dims.length - contract;
    const sameAs = (v: Value, like: Value): Value => castTo(b, v, tensorOf(like).dtype);
    const [dx, dw] = [sameAs(d!, w), sameAs(d!, x)];
    const [xType, wType] = [tensor(dtypes[0], tensorOf(x).dims), tensor(dtypes[1], tensorOf(w).dims)];
    const dgrad = (): Value =>
      n === 0 ? outer(b, dx, w, xType) : b.one('matmul', [dx, rotate(b, w, n)], { contract: n }, xType);
    const wgrad = (): Value =>
      m === 0
        ? outer(b, dw, x, wType)
        : b.one('matmul', [rotate(b, dw, m), rotate(b, x, m)], { contract: m }, wType);
    return [wanted[0] ? dgrad() : null, wanted[1] ? wgrad() : null];
  }),
  einsum: rule(({ b, operands: [x, y], upstream: [d], attributes, wanted, dtypes }) => {
    const { a, b: second, out } = parseEinsum(textOf(attributes, 'spec'));
    const sameAs = (v: Value, like: Value): Value => castTo(b, v, tensorOf(like).dtype);
    return [
      wanted[0] ? einsumInto(b, sameAs(d!, y), y, [[...out], [...second]], x, a, dtypes[0]) : null,
      wanted[1] ? einsumInto(b, sameAs(d!, x), x, [[...out], [...a]], y, second, dtypes[1]) : null,
    ];
  }),
  grouped_matmul: rule(({ b, operands: [x, w, routing], upstream: [d], wanted, dtypes }) => {
    const [, n, k] = tensorOf(w).dims;
    const sameAs = (v: Value, like: Value): Value => castTo(b, v, tensorOf(like).dtype);
    const turned = (): Value => b.one('transpose', [w], { order: [0, 2, 1] });
    return [
      wanted[0]
        ? b.one('grouped_matmul', [sameAs(d!, w), turned(), routing], {}, tensor(dtypes[0], tensorOf(x).dims))
        : null,
      wanted[1]
        ? b.one(
            'grouped_wgrad',
            [sameAs(d!, x), x, routing],
            {},
            tensor(dtypes[1], [tensorOf(w).dims[0], n, k]),
          )
        : null,
      null,
    ];
  }),
  grouped_wgrad: rule(({ b, operands: [dy, x, routing], upstream: [d], wanted, dtypes }) => {
    // d is [experts, N, K]: rows of x times it give rows of dy, and the other way round.
    const sameAs = (v: Value, like: Value): Value => castTo(b, v, tensorOf(like).dtype);
    return [
      wanted[0]
        ? b.one('grouped_matmul', [x, sameAs(d!, x), routing], {}, tensor(dtypes[0], tensorOf(dy).dims))
        : null,
      wanted[1]
        ? b.one(
            'grouped_matmul',
            [dy, b.one('transpose', [sameAs(d!, dy)], { order: [0, 2, 1] }), routing],
            {},
            tensor(dtypes[1], tensorOf(x).dims),
          )
        : null,
      null,
    ];
  }),
  quantize: scaled,
  dequantize: scaled,
} satisfies Record<string, Gradient>;
