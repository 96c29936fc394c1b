// Pointwise ops: every result element depends on the same element of each operand. No op stretches an axis by
// itself; `broadcast` does that, so that a shape mistake is never a silent outer product.
import { dtypeInfo } from '../formats/index.ts';
import { sameDims, showType, type TensorType } from '../types.ts';
import { defineOp, problem, type OpDefinition } from './define.ts';
import {
  asTensor,
  costOf,
  elements,
  expectDeclaredPlain,
  expectElements,
  expectPlain,
  expectSame,
  named,
  tensorData,
  withDType,
  type Numbers,
} from './support.ts';

interface UnaryTraits {
  readonly doc: string;
  readonly on?: Numbers;
  /** Per element; a transcendental function counts as one. */
  readonly flops?: number;
}

const unary = <const N extends string>(
  name: N,
  f: (x: number) => number,
  { doc, on = 'float', flops = 1 }: UnaryTraits,
) =>
  defineOp({
    name,
    class: 'pointwise',
    doc,
    operands: ['x'],
    attributes: {},
    infer: ([x], _, declared) => named([expectElements(on, x, 'x', name)], declared),
    reference: ([x]) => {
      const { dtype, shape, data } = asTensor(x);
      return [
        tensorData(
          dtype,
          shape,
          data.map((v) => f(v)),
        ),
      ];
    },
    cost: ([x], results, _, sizes) => costOf(flops * elements(x as TensorType, sizes), [x], results, sizes),
  } satisfies OpDefinition);

const zip = (a: Float64Array, b: Float64Array, f: (a: number, b: number) => number): Float64Array => {
  const out = new Float64Array(a.length);
  for (let i = 0; i < out.length; i++) out[i] = f(a[i], b[i]);
  return out;
};

interface BinaryTraits {
  readonly doc: string;
  readonly on?: Numbers;
  /** Comparisons give bool. */
  readonly gives?: 'bool';
  /** Meaning on integers, where it differs. */
  readonly ofIntegers?: (a: number, b: number) => number;
}

const binary = <const N extends string>(
  name: N,
  f: (a: number, b: number) => number,
  { doc, on, gives, ofIntegers }: BinaryTraits,
) =>
  defineOp({
    name,
    class: 'pointwise',
    doc,
    operands: ['a', 'b'],
    attributes: {},
    infer: ([a, b], _, declared) => {
      // Without a kind of numbers (eq, ne) any plain tensors will do.
      const left = on ? expectElements(on, a, 'a', name) : expectPlain(a, 'a', name);
      expectSame(left, 'a', expectPlain(b, 'b', name), 'b', name);
      return named([gives ? withDType(left, gives) : left], declared);
    },
    reference: ([x, y]) => {
      const [a, b] = [asTensor(x), asTensor(y)];
      const meaning = ofIntegers && dtypeInfo[a.dtype].kind === 'int' ? ofIntegers : f;
      return [tensorData(gives ?? a.dtype, a.shape, zip(a.data, b.data, meaning))];
    },
    cost: (operands, results, _, sizes) =>
      costOf(elements(results[0] as TensorType, sizes), operands, results, sizes),
  } satisfies OpDefinition);

const compare = <const N extends string>(
  name: N,
  f: (a: number, b: number) => boolean,
  doc: string,
  on?: Numbers,
) => binary(name, (a, b) => Number(f(a, b)), { doc, on, gives: 'bool' });

/** Toward zero, as integer hardware divides. Nothing is a sensible quotient by zero, so that is refused. */
function divideIntegers(a: number, b: number): number {
  if (b === 0) throw new RangeError('div: integer division by zero');
  return Math.trunc(a / b) + 0;
}

// i64 saturates at its own limits, although the interpreter refuses what a double cannot hold exactly.
const integerLimit = { i32: 2 ** 31, i64: 2 ** 63 } as const;

/** float → int: toward zero, saturating, NaN to 0 (PTX cvt.rzi). Also when rounding is off: it is what cast means. */
function toInteger(x: number, dtype: 'i32' | 'i64'): number {
  const limit = integerLimit[dtype];
  if (Number.isNaN(x)) return 0;
  return Math.min(Math.max(Math.trunc(x), -limit), limit - 1) + 0;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

export const pointwiseOps = {
  neg: unary('neg', (x) => -x, { doc: '−x', on: 'number' }),
  abs: unary('abs', Math.abs, { doc: '|x|', on: 'number' }),
  exp: unary('exp', Math.exp, { doc: 'e to the x' }),
  exp2: unary('exp2', (x) => 2 ** x, { doc: '2 to the x' }),
  log: unary('log', Math.log, { doc: 'Natural logarithm' }),
  log2: unary('log2', Math.log2, { doc: 'Logarithm to base 2' }),
  sqrt: unary('sqrt', Math.sqrt, { doc: 'Square root' }),
  rsqrt: unary('rsqrt', (x) => 1 / Math.sqrt(x), { doc: '1 / √x', flops: 2 }),
  reciprocal: unary('reciprocal', (x) => 1 / x, { doc: '1 / x' }),
  sigmoid: unary('sigmoid', sigmoid, { doc: '1 / (1 + e^−x)', flops: 4 }),
  silu: unary('silu', (x) => x / (1 + Math.exp(-x)), { doc: 'x · sigmoid(x)', flops: 4 }),
  tanh: unary('tanh', Math.tanh, { doc: 'Hyperbolic tangent' }),
  sin: unary('sin', Math.sin, { doc: 'Sine of x in radians' }),
  cos: unary('cos', Math.cos, { doc: 'Cosine of x in radians' }),
  floor: unary('floor', Math.floor, { doc: 'Largest whole number that is not above x' }),
  not: unary('not', (x) => 1 - x, { doc: 'Logical negation', on: 'bool' }),

  add: binary('add', (a, b) => a + b, { doc: 'a + b', on: 'number' }),
  sub: binary('sub', (a, b) => a - b, { doc: 'a − b', on: 'number' }),
  mul: binary('mul', (a, b) => a * b, { doc: 'a · b', on: 'number' }),
  div: binary('div', (a, b) => a / b, {
    doc: 'a / b; integers toward zero',
    on: 'number',
    ofIntegers: divideIntegers,
  }),
  min: binary('min', Math.min, { doc: 'The smaller of a and b; NaN when either is NaN', on: 'number' }),
  max: binary('max', Math.max, { doc: 'The larger of a and b; NaN when either is NaN', on: 'number' }),
  pow: binary('pow', (a, b) => a ** b, { doc: 'a to the b', on: 'float' }),

  eq: compare('eq', (a, b) => a === b, 'a = b'),
  ne: compare('ne', (a, b) => a !== b, 'a ≠ b'),
  lt: compare('lt', (a, b) => a < b, 'a < b', 'number'),
  le: compare('le', (a, b) => a <= b, 'a ≤ b', 'number'),
  gt: compare('gt', (a, b) => a > b, 'a > b', 'number'),
  ge: compare('ge', (a, b) => a >= b, 'a ≥ b', 'number'),
  and: binary('and', (a, b) => a * b, { doc: 'Both true', on: 'bool' }),
  or: binary('or', Math.max, { doc: 'At least one true', on: 'bool' }),

  cast: defineOp({
    name: 'cast',
    class: 'pointwise',
    doc: 'The same values in another dtype: to float rounded to nearest even, to integer toward zero and saturating, to bool as x ≠ 0',
    operands: ['x'],
    attributes: {},
    infer: ([x], _, declared) => {
      const from = expectPlain(x, 'x', 'cast');
      const to = expectDeclaredPlain(declared, 'cast');
      if (!sameDims(from.dims, to.dims))
        problem(
          `cast changes the dtype only: x is ${showType(from)}, the result is ${showType(to)}`,
          'x',
          'reshape or broadcast in a step of its own',
        );
      for (const t of [from, to])
        if (t.dtype === 'f8ue8m0')
          problem(
            `cast: ${showType(t)} holds scales, not values`,
            'x',
            'cast between floats, integers and bool',
          );
      return [to];
    },
    reference: ([x], _, context) => {
      const { shape, data } = asTensor(x);
      const { dtype } = context.results[0] as TensorType;
      // Floats are rounded by the interpreter, after every op.
      const convert =
        dtype === 'i32' || dtype === 'i64'
          ? (v: number) => toInteger(v, dtype)
          : dtype === 'bool'
            ? (v: number) => (v === 0 ? 0 : 1)
            : null;
      return [tensorData(dtype, shape, convert ? data.map(convert) : data.slice())];
    },
  } satisfies OpDefinition),

  select: defineOp({
    name: 'select',
    class: 'pointwise',
    doc: 'c ? a : b, element by element',
    operands: ['c', 'a', 'b'],
    attributes: {},
    infer: ([c, a, b], _, declared) => {
      const choice = expectElements('bool', c, 'c', 'select');
      const left = expectPlain(a, 'a', 'select');
      expectSame(left, 'a', expectPlain(b, 'b', 'select'), 'b', 'select');
      if (!sameDims(choice.dims, left.dims))
        problem(
          `select needs one condition per element: c is ${showType(choice)}, a is ${showType(left)}`,
          'c',
          'broadcast c to the shape of a',
        );
      return named([left], declared);
    },
    reference: ([c, a, b]) => {
      const [choice, left, right] = [asTensor(c), asTensor(a), asTensor(b)];
      return [
        tensorData(
          left.dtype,
          left.shape,
          left.data.map((v, i) => (choice.data[i] ? v : right.data[i])),
        ),
      ];
    },
  } satisfies OpDefinition),
};
