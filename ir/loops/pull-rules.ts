// How each op gives one element of its result, by name. An op without a rule is decomposed; one with neither has a
// writer of its own in every backend (route) or none (structure ops).
import { isFloat, round } from '../formats/index.ts';
import type { Value } from '../module.ts';
import { levelOf, numbers, tensorOf } from './components.ts';
import { carrierOf, type BinaryOp, type CompareOp, type Expr, type UnaryOp } from './expr.ts';
import { constant, delinear, linear, plus, valueIndex, zero, type Index } from './indices.ts';
import { placeRules } from './pull-places.ts';
import { sumRules } from './pull-sums.ts';
import type { PullRule } from './puller.ts';

const unary =
  (op: UnaryOp): PullRule =>
  (index, _, { op: node, pool, pull }) =>
    pool.unary(op, pull.at(node.operands[0], index));

const binary =
  (op: BinaryOp): PullRule =>
  (index, _, { op: node, pool, pull }) =>
    pool.binary(op, pull.at(node.operands[0], index), pull.at(node.operands[1], index));

const compare =
  (op: CompareOp): PullRule =>
  (index, _, { op: node, pool, pull }) =>
    pool.compare(op, pull.at(node.operands[0], index), pull.at(node.operands[1], index));

/** Tile lengths of an operand along an axis for a component: 1 for data, so that cuts shift tiles and elements alike. */
const tileAlong = (v: Value, component: string, axis: number): number => {
  const level = levelOf(component);
  if (level < 0) return 1;
  const tile = tensorOf(v).scales[level].tile[axis];
  return tile === 0 ? (tensorOf(v).dims[axis].size ?? 1) : tile;
};

const shifted = (index: readonly Index[], axis: number, by: number): Index[] =>
  index.map((i, n) => (n === axis ? plus(i, constant(by)) : i));

const slice: PullRule = (index, component, { op, pull }) => {
  const axis = Number(op.attributes.axis);
  const [x] = op.operands;
  return pull.at(
    x,
    shifted(index, axis, Number(op.attributes.start) / tileAlong(x, component, axis)),
    component,
  );
};

const split: PullRule = (index, component, { op, result, pull }) => {
  const axis = Number(op.attributes.axis);
  const [x] = op.operands;
  const start = numbers(op.attributes.sizes)
    .slice(0, result)
    .reduce((a, b) => a + b, 0);
  return pull.at(x, shifted(index, axis, start / tileAlong(x, component, axis)), component);
};

const concat: PullRule = (index, component, { op, pool, pull }) => {
  const axis = Number(op.attributes.axis);
  const from = (n: number, start: number): Expr => {
    const x = op.operands[n];
    const here = pull.at(x, shifted(index, axis, -start), component);
    if (n === op.operands.length - 1) return here;
    const end = start + Math.ceil(tensorOf(x).dims[axis].size! / tileAlong(x, component, axis));
    const inside = pool.test('lt', index[axis], constant(end));
    // Without this, an element of a later operand would build an expression with a negative index for nothing.
    if (inside.kind === 'constant') return inside.value !== 0 ? here : from(n + 1, end);
    return pool.guarded(inside, here, from(n + 1, end));
  };
  return from(0, 0);
};

const pad: PullRule = (index, _, { op, type, pool, pull }) => {
  const axis = Number(op.attributes.axis);
  const [x] = op.operands;
  const inner = plus(index[axis], constant(-Number(op.attributes.before)));
  const inside = pool.binary(
    'and',
    pool.test('le', zero, inner),
    pool.test('lt', inner, pull.size(tensorOf(x).dims[axis])),
  );
  const value = pull.number(Number(op.attributes.value), type);
  if (inside.kind === 'constant' && inside.value === 0) return value;
  return pool.guarded(inside, pull.at(x, index.with(axis, inner)), value);
};

const gather: PullRule = (index, component, { op, pool, pull }) => {
  const [x, i] = op.operands;
  const places = tensorOf(i).dims;
  const row = pull.at(i, index.slice(0, places.length));
  const rest = index.slice(places.length);
  const rows = pull.size(tensorOf(x).dims[0]);
  if (row.kind === 'constant') return pull.at(x, [constant(row.value), ...rest], component);
  // Rows of a ragged axis that no expert uses hold anything, so there a wrong index is no mistake of the author's.
  const loose = places.some((d) => pull.isRagged(d));
  const e = pull.at(
    x,
    [valueIndex(row, loose ? null : rows, [0, Math.max(0, rows.high - 1)]), ...rest],
    component,
  );
  if (!loose) return e;
  const carrier = row.carrier as 'i32' | 'i64';
  const inside = pool.binary(
    'and',
    pool.compare('ge', row, pool.constant(0, carrier)),
    pool.compare('lt', row, pool.index(rows, carrier)),
  );
  return pool.guarded(inside, e, pool.constant(0, e.carrier));
};

const constValue: PullRule = (index, _, { op, type, pool, pull }) => {
  const values = numbers(op.attributes.values);
  if (values.length === 0) return pull.number(Number(op.attributes.value), type);
  const rounded = isFloat(type.dtype) ? values.map((v) => round(type.dtype, v)) : values;
  return pool.table(rounded, linear(index, pull.sizes(type.dims)), carrierOf(type.dtype));
};

const iota: PullRule = (index, _, { op, type, pool }) => {
  const carrier = carrierOf(type.dtype);
  const i = index[Number(op.attributes.axis)];
  return carrier === 'i32' || carrier === 'i64'
    ? pool.index(i, carrier)
    : pool.convert(carrier, pool.index(i));
};

export const pullRules: Readonly<Record<string, PullRule>> = {
  ...Object.fromEntries(
    (
      [
        'neg',
        'abs',
        'exp',
        'exp2',
        'log',
        'log2',
        'sqrt',
        'rsqrt',
        'reciprocal',
        'sigmoid',
        'silu',
        'tanh',
        'sin',
        'cos',
        'floor',
        'not',
      ] as const
    ).map((op) => [op, unary(op)]),
  ),
  ...Object.fromEntries(
    (['add', 'sub', 'mul', 'div', 'min', 'max', 'pow', 'and', 'or'] as const).map((op) => [op, binary(op)]),
  ),
  ...Object.fromEntries((['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const).map((op) => [op, compare(op)])),
  cast: (index, _, { op, type, pool, pull }) =>
    pool.convert(carrierOf(type.dtype), pull.at(op.operands[0], index)),
  select: (index, _, { op, pool, pull }) => {
    const [c, a, b] = op.operands.map((v) => pull.at(v, index));
    return pool.choose(c, a, b);
  },
  const: constValue,
  iota,
  broadcast: (index, _, { op, pull }) =>
    pull.at(
      op.operands[0],
      numbers(op.attributes.axes).map((axis) => index[axis]),
    ),
  reshape: (index, _, { op, type, pull }) => {
    const [x] = op.operands;
    const position = linear(index, pull.sizes(type.dims));
    const at = delinear(position, pull.sizes(tensorOf(x).dims));
    return pull.at(
      x,
      at.map((i, axis) => (tensorOf(x).dims[axis].size === 1 ? zero : i)),
    );
  },
  transpose: (index, component, { op, pull }) => {
    const order = numbers(op.attributes.order);
    const at = new Array<Index>(index.length);
    for (const [i, axis] of order.entries()) at[axis] = index[i];
    return pull.at(op.operands[0], at, component);
  },
  slice,
  split,
  concat,
  pad,
  gather,
  ...sumRules,
  ...placeRules,
};
