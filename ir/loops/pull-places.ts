// Elements of what depends on positions, routings and caches.
import type { PositionsType, RoutingType } from '../types.ts';
import { fieldComponent, numbers, tensorOf } from './components.ts';
import type { Expr } from './expr.ts';
import {
  constant,
  delinear,
  linear,
  minus,
  one,
  plus,
  quotient,
  times,
  valueIndex,
  variableIndex,
  zero,
  type Index,
} from './indices.ts';
import type { PullRule } from './puller.ts';

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
    const last = pool.reduce(
      'max',
      [other.variable],
      pool.choose(theirs, field('position', other.index), int(-1)),
    );
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
  const [even, odd] = [0, 1].map((n) =>
    pull.at(x, index.with(last, plus(times(j, constant(2)), constant(n)))),
  );
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
  if (pull.producer(state))
    throw new Error(`kernel @${pull.fn.name} reads a cache that it changes: the two need a launch each`);
  const { dtype } = pull.buffer({ ...state, type }, component);
  return pool.load(
    pool.buffer(state.name, fieldComponent(String(op.attributes.field), component), dtype),
    linear(index, pull.extents(type, component)),
  );
};

export const placeRules: Readonly<Record<string, PullRule>> = {
  rope,
  position_field: ([i], _, { op, pull }) =>
    pull.positionField(op.operands[0], String(op.attributes.field), i),
  visible,
  routing_field: routingFieldRule,
  group_tokens: groupTokens,
  combine_tokens: combineTokens,
  cache_read: cacheRead,
};
