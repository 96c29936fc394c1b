// How each op gives one element of its result, by name. An op without a rule is decomposed; one with neither has a
// writer of its own in every backend (route) or none (structure ops).
import { isFloat, maxFinite, round } from '../formats/index.ts';
import type { Attribute, Value } from '../module.ts';
import type { PositionsType, RoutingType, TensorType } from '../types.ts';
import { carrierOf, type BinaryOp, type Combine, type CompareOp, type Expr, type UnaryOp } from './expr.ts';
import {
  ceilQuotient,
  constant,
  delinear,
  linear,
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
import { fieldComponent, levelOf, tensorOf } from './components.ts';
import type { PullContext, PullRule } from './pull.ts';

const numbers = (a: Attribute): readonly number[] => a as readonly number[];

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
  return pull.at(x, shifted(index, axis, Number(op.attributes.start) / tileAlong(x, component, axis)), component);
};

const split: PullRule = (index, component, { op, result, pull }) => {
  const axis = Number(op.attributes.axis);
  const [x] = op.operands;
  const start = numbers(op.attributes.sizes).slice(0, result).reduce((a, b) => a + b, 0);
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
  const inside = pool.binary('and', pool.test('le', zero, inner), pool.test('lt', inner, pull.size(tensorOf(x).dims[axis])));
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
  const e = pull.at(x, [valueIndex(row, loose ? null : rows, [0, Math.max(0, rows.high - 1)]), ...rest], component);
  if (!loose) return e;
  const carrier = row.carrier as 'i32' | 'i64';
  const inside = pool.binary('and', pool.compare('ge', row, pool.constant(0, carrier)), pool.compare('lt', row, pool.index(rows, carrier)));
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
  return carrier === 'i32' || carrier === 'i64' ? pool.index(i, carrier) : pool.convert(carrier, pool.index(i));
};

// --- reductions ---

/** The operand's index with loops at the reduced axes. */
function reduced(index: readonly Index[], x: Value, axes: readonly number[], { pull }: PullContext): { at: Index[]; over: Variable[] } {
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

// --- contractions ---

/** Σ over blocks of `promote` along K of (partial sum · scale of x · scale of w), each product rounded to f32. */
function promoted(x: Value, w: Value, xRow: readonly Index[], wRow: readonly Index[], { pool, pull }: PullContext): Expr {
  const k = tensorOf(x).dims.at(-1)!;
  const tile = tensorOf(x).scales[0].tile.at(-1)!;
  const block = pool.variable('block', ceilQuotient(pull.count(k), tile));
  const b = variableIndex(block);
  const start = times(b, constant(tile));
  const inner = pool.variable('k', smaller(constant(tile), minus(pull.count(k), start)));
  const at = plus(start, variableIndex(inner));
  const partial = pool.reduce('sum', [inner], pool.binary('mul', pull.at(x, [...xRow, at]), pull.at(w, [...wRow, at])));
  const wScaleRow = wRow.map((i, axis) => quotient(i, constant(tensorOf(w).scales[0].tile[axis])));
  const scaled = pool.binary('mul', pool.binary('mul', partial, pull.at(x, [...xRow, b], 'scale0')), pull.at(w, [...wScaleRow, b], 'scale0'));
  return pool.reduce('sum', [block], scaled);
}

const matmul: PullRule = (index, _, context) => {
  const { op, pool, pull } = context;
  const [x, w] = op.operands;
  const contract = Number(op.attributes.contract);
  const kept = tensorOf(x).dims.length - contract;
  const [xRow, wRow] = [index.slice(0, kept), index.slice(kept)];
  if (tensorOf(x).scales.length > 0) return promoted(x, w, xRow, wRow, context);
  const loops = tensorOf(x).dims.slice(kept).map((d) => pull.over(d));
  const k = loops.map((l) => l.index);
  const product = pool.binary('mul', pull.at(x, [...xRow, ...k]), pull.at(w, [...wRow, ...k]));
  return pool.reduce('sum', loops.map((l) => l.variable), product);
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
    return pool.reduce('sum', [k.variable], pool.binary('mul', pull.at(x, [s, k.index]), pull.at(w, [e, n, k.index])));
  })();
  return pool.guarded(used, sum, pool.constant(0, 'f32'));
};

// --- scaling ---

/** The scale of a tile: ir/formats tileScale as an expression. */
function tileScale(amax: Expr, type: TensorType, floor: number, { pool }: PullContext): Expr {
  const { format } = type.scales[0];
  const f32 = (x: number): Expr => pool.constant(x, 'f32');
  const believed = pool.binary('larger', amax, f32(Math.fround(floor)));
  const quotient = pool.binary('div', believed, f32(maxFinite(type.dtype)));
  const s = ((): Expr => {
    if (format === 'ue8m0') return pool.round('f8ue8m0', quotient);
    // An amax so small that the quotient underflows still needs a scale that is not zero.
    const raised = floor / maxFinite(type.dtype) > 2 ** -149 ? quotient : pool.binary('larger', quotient, f32(2 ** -149));
    return format === 'pow2' ? pool.unary('power_of_two_above', raised) : raised;
  })();
  return floor > 0 ? s : pool.choose(pool.compare('eq', believed, f32(0)), f32(1), s);
}

const quantize: PullRule = (index, component, context) => {
  const { op, type, pool, pull } = context;
  const [x] = op.operands;
  const { tile } = type.scales[0];
  const tileIndex = levelOf(component) < 0 ? index.map((i, axis) => (tile[axis] === 0 ? zero : quotient(i, constant(tile[axis])))) : index;
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
  const amax = pool.reduce('larger', over, pool.unary('abs', pull.at(x, at)));
  const scale = tileScale(amax, type, Number(op.attributes.floor), context);
  if (levelOf(component) >= 0) return scale;
  // With a floor the scale is far from the ends of the range, which spares the general division.
  const far = Number(op.attributes.floor) > 2 ** -80;
  return pool.round(type.dtype, pool.binary(far ? 'unscale' : 'div', pull.at(x, index), scale), true);
};

const dequantize: PullRule = (index, _, { op, pool, pull }) => {
  const [x] = op.operands;
  return tensorOf(x).scales.reduce<Expr>((value, { tile }, level) => {
    const at = index.map((i, axis) => (tile[axis] === 0 ? zero : quotient(i, constant(tile[axis]))));
    return pool.binary('mul', value, pull.at(x, at, `scale${level}`));
  }, pull.at(x, index));
};

// --- positions, routing, state ---

const visible: PullRule = ([t, k], _, { op, pool, pull }) => {
  const [at] = op.operands;
  const type = at.type as PositionsType;
  const window = Number(op.attributes.window);
  const field = (name: string, i: Index): Expr => pull.positionField(at, name, i);
  const int = (n: number): Expr => pool.constant(n, 'i32');
  const both = (a: Expr, b: Expr): Expr => pool.binary('and', a, b);
  const position = field('position', t);
  const near = (key: Expr): Expr => {
    let seen = op.attributes.causal ? pool.compare('le', key, position) : pool.constant(1, 'bool');
    if (window > 0) {
      const distance = pool.unary('abs', pool.binary('sub', position, key));
      seen = both(seen, pool.compare('lt', distance, int(window)));
    }
    return seen;
  };
  const sequence = field('sequence', t);
  if (type.keys.size === type.tokens.size && type.keys.name === type.tokens.name)
    return both(pool.compare('eq', field('sequence', k), sequence), near(field('position', k)));
  // Cache rows do not say whose they are: look for the row's page among those of the token's sequence.
  const page = constant(pull.pageOf(at));
  const p = pool.variable('page', pull.pages(at));
  const own = pull.pool.load(
    pool.buffer(at.name, 'pages', 'i32'),
    linear([valueIndex(sequence, null, [0, 2 ** 31 - 1]), variableIndex(p)], [one, pull.pages(at)]),
  );
  const mine = pool.compare('eq', own, pool.index(quotient(k, page), 'i32'));
  const within = minus(k, times(quotient(k, page), page));
  const key = pool.index(plus(times(variableIndex(p), page), within), 'i32');
  let seen = both(mine, near(key));
  if (!op.attributes.causal) {
    // Keys exist up to the last token of the sequence.
    const other = pull.over(type.tokens);
    const theirs = pool.compare('eq', field('sequence', other.index), sequence);
    const last = pool.reduce('max', [other.variable], pool.choose(theirs, field('position', other.index), int(-1)));
    seen = both(seen, pool.compare('le', key, last));
  }
  return pool.reduce('or', [p], seen);
};

const rope: PullRule = (index, _, { op, pool, pull }) => {
  const [x, at] = op.operands;
  const last = index.length - 1;
  const [j] = delinear(index[last], [constant(numbers(op.attributes.frequencies).length), constant(2)]);
  const position = pull.positionField(at, 'position', index[0]);
  const frequencies = numbers(op.attributes.frequencies);
  const scale = Number(op.attributes.scale);
  const [cos, sin] = (['cos', 'sin'] as const).map((f) => {
    const turned = pool.turn(f, position, frequencies, j);
    return scale === 1 ? turned : pool.binary('mul', turned, pool.constant(Math.fround(scale), 'f32'));
  });
  const [even, odd] = [0, 1].map((n) => pull.at(x, index.with(last, plus(times(j, constant(2)), constant(n)))));
  const first = pool.binary('sub', pool.binary('mul', even, cos), pool.binary('mul', odd, sin));
  const second = pool.binary('add', pool.binary('mul', even, sin), pool.binary('mul', odd, cos));
  const parity = minus(index[last], times(j, constant(2)));
  return pool.choose(pool.test('eq', parity, zero), first, second);
};

const routingFieldRule: PullRule = (index, _, { op, pool, pull }) => {
  const [routing] = op.operands;
  const type = routing.type as RoutingType;
  const top = pull.size(type.top);
  const field = String(op.attributes.field);
  if (field !== 'slot_weights') return pull.routingField(routing, field, linear(index, [one, top]));
  const [slot] = index;
  const token = pull.routingField(routing, 'tokenOf', slot);
  const choice = pull.routingField(routing, 'choiceOf', slot);
  const range = (n: number): [number, number] => [0, Math.max(0, n - 1)];
  const t = valueIndex(token, null, range(pull.size(type.tokens).high));
  const c = valueIndex(choice, null, range(top.high));
  const weight = pull.routingField(routing, 'weights', linear([t, c], [one, top]));
  return pool.guarded(pool.compare('ge', token, pool.constant(0, 'i32')), weight, pool.constant(0, 'f32'));
};

const groupTokens: PullRule = ([slot, ...rest], component, { op, pool, pull }) => {
  const [x, routing] = op.operands;
  const token = pull.routingField(routing, 'tokenOf', slot);
  const t = valueIndex(token, null, [0, Math.max(0, pull.size(tensorOf(x).dims[0]).high - 1)]);
  const e = pull.at(x, [t, ...rest], component);
  return pool.guarded(pool.compare('ge', token, pool.constant(0, 'i32')), e, pool.constant(0, e.carrier));
};

const combineTokens: PullRule = ([t, ...rest], _, { op, pool, pull }) => {
  const [y, routing] = op.operands;
  const { top, slots } = routing.type as RoutingType;
  const choice = pull.over(top);
  const slot = pull.routingField(routing, 'slotOf', linear([t, choice.index], [one, pull.size(top)]));
  const s = valueIndex(slot, null, [0, Math.max(0, pull.size(slots).high - 1)]);
  return pool.reduce('sum', [choice.variable], pull.at(y, [s, ...rest]));
};

const cacheRead: PullRule = (index, component, { op, type, pool, pull }) => {
  const [state] = op.operands;
  if (pull.producer(state)) throw new Error(`kernel @${pull.fn.name} reads a cache that it changes: the two need a launch each`);
  const { dtype } = pull.buffer({ ...state, type }, component);
  return pool.load(pool.buffer(state.name, fieldComponent(String(op.attributes.field), component), dtype), linear(index, pull.extents(type, component)));
};

export const pullRules: Readonly<Record<string, PullRule>> = {
  ...Object.fromEntries(
    (['neg', 'abs', 'exp', 'exp2', 'log', 'log2', 'sqrt', 'rsqrt', 'reciprocal', 'sigmoid', 'silu', 'tanh', 'sin', 'cos', 'floor', 'not'] as const).map((op) => [op, unary(op)]),
  ),
  ...Object.fromEntries((['add', 'sub', 'mul', 'div', 'min', 'max', 'pow', 'and', 'or'] as const).map((op) => [op, binary(op)])),
  ...Object.fromEntries((['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const).map((op) => [op, compare(op)])),
  cast: (index, _, { op, type, pool, pull }) => pool.convert(carrierOf(type.dtype), pull.at(op.operands[0], index)),
  select: (index, _, { op, pool, pull }) => {
    const [c, a, b] = op.operands.map((v) => pull.at(v, index));
    return pool.choose(c, a, b);
  },
  const: constValue,
  iota,
  broadcast: (index, _, { op, pull }) => pull.at(op.operands[0], numbers(op.attributes.axes).map((axis) => index[axis])),
  reshape: (index, _, { op, type, pull }) => {
    const [x] = op.operands;
    const position = linear(index, pull.sizes(type.dims));
    const at = delinear(position, pull.sizes(tensorOf(x).dims));
    return pull.at(x, at.map((i, axis) => (tensorOf(x).dims[axis].size === 1 ? zero : i)));
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
  rope,
  position_field: ([i], _, { op, pull }) => pull.positionField(op.operands[0], String(op.attributes.field), i),
  visible,
  routing_field: routingFieldRule,
  group_tokens: groupTokens,
  combine_tokens: combineTokens,
  cache_read: cacheRead,
};

