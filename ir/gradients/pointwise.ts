// Derivatives of pointwise ops, element by element, computed in f32 whatever the operands are.
import { isFloat } from '../formats/index.ts';
import type { Value } from '../module.ts';
import { castTo, fill, tensorOf } from '../ops/composite.ts';
import type { OpBuilder } from '../ops/define.ts';
import { constant, hasGradient, rule, type Gradient } from './rule.ts';

/** Arithmetic on values of one type, so that formulas read like formulas. */
class Arithmetic {
  readonly b: OpBuilder;
  constructor(b: OpBuilder) {
    this.b = b;
  }
  number = (x: number, like: Value): Value => fill(this.b, x, tensorOf(like));
  mul = (x: Value, y: Value | number): Value =>
    this.b.one('mul', [x, typeof y === 'number' ? this.number(y, x) : y]);
  add = (x: Value, y: Value | number): Value =>
    this.b.one('add', [x, typeof y === 'number' ? this.number(y, x) : y]);
  sub = (x: Value, y: Value): Value => this.b.one('sub', [x, y]);
  div = (x: Value, y: Value): Value => this.b.one('div', [x, y]);
  neg = (x: Value): Value => this.b.one('neg', [x]);
  of = (op: string, ...x: Value[]): Value => this.b.one(op, x);
  oneMinus = (x: Value): Value => this.add(this.neg(x), 1);
  /** x where the condition holds, else y. */
  select = (c: Value, x: Value, y: Value | number): Value =>
    this.b.one('select', [c, x, typeof y === 'number' ? this.number(y, x) : y]);
}

/** d/dx of f(x), times d: from x, f(x) and d. */
const unary = (derivative: (m: Arithmetic, x: Value, y: Value, d: Value) => Value): Gradient =>
  rule(({ b, operands: [x], results: [y], upstream: [d] }) => {
    const { dtype } = tensorOf(x);
    const [wx, wy, wd] = [x, y, d!].map((v) => castTo(b, v, 'f32'));
    return [castTo(b, derivative(new Arithmetic(b), wx, wy, wd), dtype)];
  });

/** The same for two operands, each computed when it is wanted. */
const binary = (
  left: (m: Arithmetic, x: Value, y: Value, f: Value, d: Value) => Value,
  right: (m: Arithmetic, x: Value, y: Value, f: Value, d: Value) => Value,
): Gradient =>
  rule(({ b, operands, results: [f], upstream: [d], wanted }) => {
    // Integers are counted with, not differentiated.
    if (!hasGradient(f)) return [null, null];
    const { dtype } = tensorOf(f);
    const [x, y, wf, wd] = [...operands, f, d!].map((v) => castTo(b, v, 'f32'));
    const m = new Arithmetic(b);
    return [left, right].map((side, i) => (wanted[i] ? castTo(b, side(m, x, y, wf, wd), dtype) : null));
  });

export const pointwiseGradients = {
  neg: unary((m, _x, _y, d) => m.neg(d)),
  // 0 at 0.
  abs: unary((m, x, _, d) => {
    const zero = m.number(0, x);
    return m.select(m.of('gt', x, zero), d, m.select(m.of('lt', x, zero), m.neg(d), 0));
  }),
  exp: unary((m, _, y, d) => m.mul(d, y)),
  exp2: unary((m, _, y, d) => m.mul(m.mul(d, y), Math.LN2)),
  log: unary((m, x, _, d) => m.div(d, x)),
  log2: unary((m, x, _, d) => m.mul(m.div(d, x), 1 / Math.LN2)),
  sqrt: unary((m, _, y, d) => m.div(m.mul(d, 0.5), y)),
  rsqrt: unary((m, _, y, d) => m.mul(m.mul(d, m.mul(y, m.mul(y, y))), -0.5)),
  reciprocal: unary((m, _, y, d) => m.neg(m.mul(d, m.mul(y, y)))),
  sigmoid: unary((m, _, y, d) => m.mul(d, m.mul(y, m.oneMinus(y)))),
  // s + x · s · (1 − s): from the sigmoid, so that one exponential is enough.
  silu: unary((m, x, _, d) => {
    const s = m.of('sigmoid', x);
    return m.mul(d, m.add(s, m.mul(m.mul(x, s), m.oneMinus(s))));
  }),
  tanh: unary((m, _, y, d) => m.mul(d, m.oneMinus(m.mul(y, y)))),
  sin: unary((m, x, _, d) => m.mul(d, m.of('cos', x))),
  cos: unary((m, x, _, d) => m.neg(m.mul(d, m.of('sin', x)))),
  floor: constant,
  not: constant,

  add: binary(
    (_m, _x, _y, _f, d) => d,
    (_m, _x, _y, _f, d) => d,
  ),
  sub: binary(
    (_m, _x, _y, _f, d) => d,
    (m, _x, _y, _f, d) => m.neg(d),
  ),
  mul: binary(
    (m, _x, y, _f, d) => m.mul(d, y),
    (m, x, _y, _f, d) => m.mul(d, x),
  ),
  div: binary(
    (m, _x, y, _f, d) => m.div(d, y),
    (m, _x, y, f, d) => m.neg(m.div(m.mul(d, f), y)),
  ),
  // Equal operands share the gradient, as torch.minimum and torch.maximum have it.
  min: binary(
    (m, x, y, _f, d) => m.select(m.of('lt', x, y), d, m.select(m.of('eq', x, y), m.mul(d, 0.5), 0)),
    (m, x, y, _f, d) => m.select(m.of('lt', y, x), d, m.select(m.of('eq', x, y), m.mul(d, 0.5), 0)),
  ),
  max: binary(
    (m, x, y, _f, d) => m.select(m.of('gt', x, y), d, m.select(m.of('eq', x, y), m.mul(d, 0.5), 0)),
    (m, x, y, _f, d) => m.select(m.of('gt', y, x), d, m.select(m.of('eq', x, y), m.mul(d, 0.5), 0)),
  ),
  pow: binary(
    (m, x, y, _f, d) => m.mul(d, m.mul(y, m.of('pow', x, m.add(y, -1)))),
    // Of 0 to a positive power the logarithm is not asked for.
    (m, x, _y, f, d) => m.select(m.of('gt', x, m.number(0, x)), m.mul(d, m.mul(f, m.of('log', x))), 0),
  ),

  eq: constant,
  ne: constant,
  lt: constant,
  le: constant,
  gt: constant,
  ge: constant,
  and: constant,
  or: constant,

  cast: rule(({ b, operands: [x], results: [y], upstream: [d] }) => [
    isFloat(tensorOf(x).dtype) && isFloat(tensorOf(y).dtype) ? castTo(b, d!, tensorOf(x).dtype) : null,
  ]),
  select: rule(({ b, operands: [c, x], upstream: [d], wanted }) => {
    if (!hasGradient(x)) return [null, null, null];
    const zero = fill(b, 0, tensorOf(d!));
    return [
      null,
      wanted[1] ? b.one('select', [c, d!, zero]) : null,
      wanted[2] ? b.one('select', [c, zero, d!]) : null,
    ];
  }),
} satisfies Record<string, Gradient>;
