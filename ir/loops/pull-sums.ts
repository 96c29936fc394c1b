// Elements of reductions, contractions and quantised values.
import { maxFinite } from '../formats/index.ts';
import type { Value } from '../module.ts';
import type { RoutingType, TensorType } from '../types.ts';
import { levelOf, numbers, tensorOf } from './components.ts';
import type { Combine, Expr } from './expr.ts';
import {
  ceilQuotient,
  constant,
  minus,
  one,
  plus,
  quotient,
  smaller,
  times,
  valueIndex,
  variableIndex,
  zero,
  type Index,
  type Variable,
} from './indices.ts';
import type { PullContext, PullRule } from './puller.ts';

/** The operand's index with loops at the reduced axes. */
function reduced(
  index: readonly Index[],
  x: Value,
  axes: readonly number[],
  { pull }: PullContext,
): { at: Index[]; over: Variable[] } {
  const over: Variable[] = [];
  let next = 0;
  const at = tensorOf(x).dims.map((d, axis) => {
    if (!axes.includes(axis)) return index[next++];
    const loop = pull.over(d);
    over.push(loop.variable);
    return loop.index;
  });
  return { at, over };
}

const reduction =
  (combine: Combine): PullRule =>
  (index, _, context) => {
    const { op, pool, pull } = context;
    const [x] = op.operands;
    const { at, over } = reduced(index, x, numbers(op.attributes.axes), context);
    return pool.reduce(combine, over, pull.at(x, at));
  };

const argmax: PullRule = (index, _, context) => {
  const { op, pool, pull } = context;
  const [x] = op.operands;
  const { at, over } = reduced(index, x, [Number(op.attributes.axis)], context);
  return pool.reduce('argmax', over, pull.at(x, at));
};

const cumsum: PullRule = (index, _, { op, pool, pull }) => {
  const axis = Number(op.attributes.axis);
  const [x] = op.operands;
  const before = pool.variable('before', plus(index[axis], one));
  // A loop of one round is dropped, and then its variable is 0.
  return pool.reduce('sum', [before], pull.at(x, index.with(axis, variableIndex(before))));
};

/** Element r of the order is the one that exactly r others come before; for use inside of larger expressions. */
const topK: PullRule = (index, _, { op, result, pool, pull }) => {
  const [x] = op.operands;
  const type = tensorOf(x);
  const last = type.dims.length - 1;
  const [i, j] = [pull.over(type.dims[last]), pull.over(type.dims[last])];
  const [a, b] = [pull.at(x, index.with(last, i.index)), pull.at(x, index.with(last, j.index))];
  const earlier = pool.binary(
    'or',
    pool.compare('gt', b, a),
    pool.binary('and', pool.compare('eq', a, b), pool.test('lt', j.index, i.index)),
  );
  const int = (n: number): Expr => pool.constant(n, 'i32');
  const rank = pool.reduce('sum', [j.variable], pool.choose(earlier, int(1), int(0)));
  const here = pool.compare('eq', rank, pool.index(index[last], 'i32'));
  const chosen = pool.reduce('sum', [i.variable], pool.choose(here, pool.index(i.index, 'i32'), int(0)));
  if (result === 1) return chosen;
  const size = type.dims[last].size!;
  return pull.at(x, index.with(last, valueIndex(chosen, null, [0, size - 1])));
};

/** Σ over blocks of `promote` along K of (partial sum · scale of x · scale of w), each product rounded to f32. */
function promoted(
  x: Value,
  w: Value,
  xRow: readonly Index[],
  wRow: readonly Index[],
  { pool, pull }: PullContext,
): Expr {
  const k = tensorOf(x).dims.at(-1)!;
  const tile = tensorOf(x).scales[0].tile.at(-1)!;
  const block = pool.variable('block', ceilQuotient(pull.count(k), tile));
  const b = variableIndex(block);
  const start = times(b, constant(tile));
  const inner = pool.variable('k', smaller(constant(tile), minus(pull.count(k), start)));
  const at = plus(start, variableIndex(inner));
  const partial = pool.reduce(
    'sum',
    [inner],
    pool.binary('mul', pull.at(x, [...xRow, at]), pull.at(w, [...wRow, at])),
  );
  const wScaleRow = wRow.map((i, axis) => quotient(i, constant(tensorOf(w).scales[0].tile[axis])));
  const scaled = pool.binary(
    'mul',
    pool.binary('mul', partial, pull.at(x, [...xRow, b], 'scale0')),
    pull.at(w, [...wScaleRow, b], 'scale0'),
  );
  return pool.reduce('sum', [block], scaled);
}

const matmul: PullRule = (index, _, context) => {
  const { op, pool, pull } = context;
  const [x, w] = op.operands;
  const contract = Number(op.attributes.contract);
  const kept = tensorOf(x).dims.length - contract;
  const [xRow, wRow] = [index.slice(0, kept), index.slice(kept)];
  if (tensorOf(x).scales.length > 0) return promoted(x, w, xRow, wRow, context);
  const loops = tensorOf(x)
    .dims.slice(kept)
    .map((d) => pull.over(d));
  const k = loops.map((l) => l.index);
  const product = pool.binary('mul', pull.at(x, [...xRow, ...k]), pull.at(w, [...wRow, ...k]));
  return pool.reduce(
    'sum',
    loops.map((l) => l.variable),
    product,
  );
};

/** Letters of an einsum spec that the definition has checked. */
export function einsumLetters(spec: string): { a: string[]; b: string[]; out: string[] } {
  const [a, b, out] = spec.split(/,|->/).map((s) => [...s]);
  return { a, b, out };
}

const einsum: PullRule = (index, _, { op, pool, pull }) => {
  const { a, b, out } = einsumLetters(String(op.attributes.spec));
  const [x, y] = op.operands;
  const places = new Map(out.map((l, i) => [l, index[i]]));
  const over: Variable[] = [];
  for (const [letters, v] of [
    [a, x],
    [b, y],
  ] as const)
    for (const [i, l] of letters.entries())
      if (!places.has(l)) {
        const loop = pull.over(tensorOf(v).dims[i]);
        over.push(loop.variable);
        places.set(l, loop.index);
      }
  const at = (letters: readonly string[]): Index[] => letters.map((l) => places.get(l)!);
  return pool.reduce('sum', over, pool.binary('mul', pull.at(x, at(a)), pull.at(y, at(b))));
};

const groupedMatmul: PullRule = ([s, n], _, context) => {
  const { op, pool, pull } = context;
  const [x, w, routing] = op.operands;
  const type = routing.type as RoutingType;
  const expert = pull.routingField(routing, 'expertOfBlock', quotient(s, constant(pull.alignOf(type.slots))));
  const e = valueIndex(expert, null, [0, (type.experts.size ?? 1) - 1]);
  // Padding rows give 0; a row with a token lies in an expert's block.
  const used = pool.compare('ge', pull.routingField(routing, 'tokenOf', s), pool.constant(0, 'i32'));
  const sum = ((): Expr => {
    if (tensorOf(x).scales.length > 0) return promoted(x, w, [s], [e, n], context);
    const k = pull.over(tensorOf(x).dims[1]);
    return pool.reduce(
      'sum',
      [k.variable],
      pool.binary('mul', pull.at(x, [s, k.index]), pull.at(w, [e, n, k.index])),
    );
  })();
  return pool.guarded(used, sum, pool.constant(0, 'f32'));
};

/** The scale of a tile: ir/formats tileScale as an expression. */
function tileScale(amax: Expr, type: TensorType, floor: number, { pool }: PullContext): Expr {
  const { format } = type.scales[0];
  const f32 = (x: number): Expr => pool.constant(x, 'f32');
  const believed = pool.binary('larger', amax, f32(Math.fround(floor)));
  const quotient = pool.binary('div', believed, f32(maxFinite(type.dtype)));
  const s = ((): Expr => {
    if (format === 'ue8m0') return pool.round('f8ue8m0', quotient);
    // An amax so small that the quotient underflows still needs a scale that is not zero.
    const raised =
      floor / maxFinite(type.dtype) > 2 ** -149 ? quotient : pool.binary('larger', quotient, f32(2 ** -149));
    return format === 'pow2' ? pool.unary('power_of_two_above', raised) : raised;
  })();
  return floor > 0 ? s : pool.choose(pool.compare('eq', believed, f32(0)), f32(1), s);
}

/** Largest magnitude in a tile. */
function tileMaximum(tileIndex: readonly Index[], { op, type, pool, pull }: PullContext): Expr {
  const [x] = op.operands;
  const { tile } = type.scales[0];
  const over: Variable[] = [];
  const at = tileIndex.map((t, axis) => {
    const length = pull.count(tensorOf(x).dims[axis]);
    if (tile[axis] === 1) return t;
    // Edge tiles may be partial.
    const start = tile[axis] === 0 ? zero : times(t, constant(tile[axis]));
    const extent = tile[axis] === 0 ? length : smaller(constant(tile[axis]), minus(length, start));
    const variable = pool.variable('tile', extent);
    over.push(variable);
    return plus(start, variableIndex(variable));
  });
  return pool.reduce('larger', over, pool.unary('abs', pull.at(x, at)));
}

const quantize: PullRule = (index, component, context) => {
  const { op, type, pool, pull } = context;
  const [x] = op.operands;
  const { tile } = type.scales[0];
  const tileIndex =
    levelOf(component) < 0
      ? index.map((i, axis) => (tile[axis] === 0 ? zero : quotient(i, constant(tile[axis]))))
      : index;
  const amax = pull.once(op, tileIndex, () => tileMaximum(tileIndex, context));
  const scale = tileScale(amax, type, Number(op.attributes.floor), context);
  if (levelOf(component) >= 0) return scale;
  // With a floor the scale is far from the ends of the range, which spares the general division.
  const far = Number(op.attributes.floor) > 2 ** -80;
  return pool.round(type.dtype, pool.binary(far ? 'unscale' : 'div', pull.at(x, index), scale), true);
};

const dequantize: PullRule = (index, _, { op, pool, pull }) => {
  const [x] = op.operands;
  return tensorOf(x).scales.reduce<Expr>(
    (value, { tile }, level) => {
      const at = index.map((i, axis) => (tile[axis] === 0 ? zero : quotient(i, constant(tile[axis]))));
      return pool.binary('mul', value, pull.at(x, at, `scale${level}`));
    },
    pull.at(x, index),
  );
};

export const sumRules: Readonly<Record<string, PullRule>> = {
  sum: reduction('sum'),
  max_over: reduction('max'),
  min_over: reduction('min'),
  argmax,
  cumsum,
  top_k: topK,
  matmul,
  einsum,
  grouped_matmul: groupedMatmul,
  quantize,
  dequantize,
};
