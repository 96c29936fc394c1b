// Elementwise ops. Operands are matched by the names of their axes: a tensor that lacks axes of the other is repeated
// over them, axes in another order are brought into the left operand's, and numbers stand for themselves.
import type { DType } from '../../ir/formats/dtypes.ts';
import { dtypeInfo, dtypes, isFloat } from '../../ir/formats/dtypes.ts';
import type { Axes, Cast, CastOk, Dim, NamesOf, Tensor } from '../axes.ts';
import { typeOf, type TensorHandle } from '../tensor.ts';
import { attempt, mistake, refusePoison, tensorArg, type FunctionTrace } from '../trace.ts';
import { describe, nearest } from '../words.ts';
import { alignTo, castDims, filled } from './axis.ts';

/** A dtype by name, or `'activation'`: what `--precision` computes in (f32, else bf16). */
export type DTypeName = DType | 'activation';

/** The dtype meant by a name. Throws Mistake for unknown ones. */
export function dtypeArg(op: string, t: FunctionTrace, name: unknown): DType {
  if (name === 'activation') return t.module.activation;
  if (dtypes.includes(name as DType) && dtypeInfo[name as DType].kind !== 'scale') return name as DType;
  const meant = typeof name === 'string' ? nearest(name, dtypes) : null;
  mistake({
    code: 'dsl/unknown-dtype',
    message: `${op}: there is no dtype ${typeof name === 'string' ? `'${name}'` : describe(name)}`,
    fix:
      meant === null
        ? `use one of activation, ${dtypes.filter((d) => d !== 'f8ue8m0').join(', ')}`
        : `did you mean '${meant}'?`,
  });
}

/** The same elements as another dtype; nothing happens when they have it already. */
export function cast<A extends Axes>(x: Tensor<A>, dtype: DTypeName): Tensor<A> {
  return attempt('cast', (t) => {
    const h = tensorArg('cast', 'x', x);
    const to = dtypeArg('cast', t, dtype);
    return (h.dtype === to ? h : t.tensor('cast', [h], {}, to, h.dims)) as unknown as Tensor<A>;
  });
}

type Unary = <A extends Axes>(x: Tensor<A>) => Tensor<A>;

function unary(op: string, name = op): Unary {
  return (x) =>
    attempt(
      name,
      (t) => {
        const h = tensorArg(name, 'x', x);
        const { kind } = dtypeInfo[h.dtype];
        if (
          op === 'not'
            ? kind !== 'bool'
            : kind !== 'float' && !(kind === 'int' && (op === 'neg' || op === 'abs'))
        )
          mistake({
            code: 'dsl/wrong-dtype',
            message: `${name} works on ${op === 'not' ? 'bool' : 'floats'}`,
            label: `x is ${String(h)}`,
            fix: op === 'not' ? 'compare first: lt, eq, …' : `cast(x, 'f32')`,
          });
        return t.tensor(op, [h], {}, h.dtype, h.dims) as unknown as typeof x;
      },
      () => x,
    );
}

export const neg = unary('neg');
export const abs = unary('abs');
export const exp = unary('exp');
export const exp2 = unary('exp2');
export const log = unary('log');
export const log2 = unary('log2');
export const sqrt = unary('sqrt');
export const rsqrt = unary('rsqrt');
export const reciprocal = unary('reciprocal');
export const sigmoid = unary('sigmoid');
export const silu = unary('silu');
export const tanh = unary('tanh');
export const sin = unary('sin');
export const cos = unary('cos');
export const floor = unary('floor');
/** Logical negation of a bool tensor. */
export const not = unary('not');

/** Numbers become constants of the other operand's dtype; tensors meet over one list of dims. */
function operands(
  op: string,
  t: FunctionTrace,
  values: readonly unknown[],
  roles: readonly string[],
): readonly TensorHandle[] {
  refusePoison(...values);
  const tensors = values.map((v, i) => (typeof v === 'number' ? null : tensorArg(op, roles[i], v)));
  const known = tensors.filter((h) => h !== null);
  if (known.length === 0)
    mistake({
      code: 'dsl/wrong-argument',
      message: `${op} needs a tensor among its operands`,
      label: 'all of them are numbers',
      fix: 'compute with JavaScript operators, or use constant(…)',
    });
  const dims = castDims(
    op,
    known,
    roles.filter((_, i) => tensors[i] !== null),
  );
  const first = known[0];
  for (const [i, h] of tensors.entries())
    if (h && h.dtype !== first.dtype)
      mistake({
        code: 'dsl/dtypes-differ',
        message: `${op} needs operands of one dtype`,
        label: `${roles[tensors.indexOf(first)]} is ${String(first)}, ${roles[i]} is ${String(h)}`,
        fix:
          isFloat(h.dtype) && isFloat(first.dtype)
            ? `cast one of them: cast(${roles[i]}, '${first.dtype}')`
            : `cast(${roles[i]}, '${first.dtype}')`,
        from: [{ what: `${roles[i]} comes from here`, at: h.madeAt }],
      });
  const aligned = tensors.map((h) => h && alignTo(op, t, h, dims));
  const like = aligned.find((h) => h !== null) as TensorHandle;
  return aligned.map((h, i) => h ?? number(op, t, values[i] as number, like));
}

function number(op: string, t: FunctionTrace, value: number, like: TensorHandle): TensorHandle {
  if (!isFloat(like.dtype) && !Number.isSafeInteger(value))
    mistake({
      code: 'dsl/bad-number',
      message: `${op}: ${value} is no ${like.dtype}`,
      label: `the other operand is ${String(like)}`,
      fix: `use a whole number, or cast(x, 'f32')`,
    });
  return filled(t, value, like);
}

/**
 * Right operand: a tensor or a number. The left's own axes are spelled out for code that is generic over them, where
 * TypeScript cannot evaluate CastOk. (Not an alias: editors would show its name instead of the sentence.)
 */
type Binary<Op extends string> = <A extends Axes, B extends Axes>(
  a: Tensor<A>,
  b: CastOk<Op, A, B> | Tensor<NoInfer<A>> | number,
) => Tensor<Cast<A, B>>;

const binary =
  <const Op extends string>(name: Op, op: string = name, gives?: DType): Binary<Op> =>
  (a, b) =>
    attempt(
      name,
      (t) => {
        const [x, y] = operands(name, t, [a, b], ['left', 'right']);
        return t.tensor(op, [x, y], {}, gives ?? x.dtype, x.dims) as never;
      },
      (t) => {
        const h = tensorArg(name, 'left', a);
        return t.placeholder(gives ?? h.dtype, h.dims) as never;
      },
    );

export const add = binary('add');
export const sub = binary('sub');
export const mul = binary('mul');
export const div = binary('div');
/** The smaller of two, elementwise. */
export const min = binary('min');
/** The larger of two, elementwise: `max(x, 0)` is ReLU. */
export const max = binary('max');
export const pow = binary('pow');
export const eq = binary('eq', 'eq', 'bool');
export const ne = binary('ne', 'ne', 'bool');
export const lt = binary('lt', 'lt', 'bool');
export const le = binary('le', 'le', 'bool');
export const gt = binary('gt', 'gt', 'bool');
export const ge = binary('ge', 'ge', 'bool');
export const and = binary('and', 'and', 'bool');
export const or = binary('or', 'or', 'bool');

/** condition ? a : b, elementwise. Each may lack axes that another has; `b` may be a number. */
export function select<C extends Axes, A extends Axes, B extends Axes>(
  condition: CastOk<'select', A, C>,
  a: Tensor<A>,
  b: CastOk<'select', A, B> | Tensor<NoInfer<A>> | number,
): Tensor<Cast<Cast<A, B>, C>> {
  return attempt(
    'select',
    (t) => {
      const c = tensorArg('select', 'condition', condition);
      const [x, y] = operands('select', t, [a, b], ['a', 'b']);
      if (c.dtype !== 'bool')
        mistake({
          code: 'dsl/wrong-dtype',
          message: 'select needs a bool condition',
          label: `condition is ${String(c)}`,
          fix: 'compare first: gt(x, 0)',
        });
      const dims = castDims('select', [x, c], ['a', 'condition']);
      const like = alignTo('select', t, x, dims);
      return t.tensor(
        'select',
        [alignTo('select', t, c, dims), like, alignTo('select', t, y, dims)],
        {},
        x.dtype,
        dims,
      ) as never;
    },
    () => a as never,
  );
}

/** A tensor with one number in every element. */
export function constant<const O extends readonly Dim[]>(
  value: number,
  dims: O,
  dtype: DTypeName = 'activation',
): Tensor<NamesOf<O>> {
  return attempt('constant', (t) => {
    const to = dtypeArg('constant', t, dtype);
    const [v] = t.op('const', [], { value }, [typeOf(to, dims)]);
    return t.handle(v, dims) as never;
  });
}

/** A tensor of known size from a list of numbers, row-major. */
export function table<const O extends readonly Dim[]>(
  values: readonly number[],
  dims: O,
  dtype: DTypeName = 'activation',
): Tensor<NamesOf<O>> {
  return attempt('table', (t) => {
    const to = dtypeArg('table', t, dtype);
    const size = dims.reduce((n, d) => n * (d.size ?? NaN), 1);
    if (values.length !== size)
      mistake({
        code: 'dsl/bad-table',
        message: `table needs ${Number.isNaN(size) ? 'dims of known size' : `${size} numbers`}`,
        label: `there are ${values.length} numbers for ${dims.map((d) => `${d.name}=${d.size}`).join(', ')}`,
        fix: 'give one number per element, row-major',
      });
    const [v] = t.op('const', [], { values }, [typeOf(to, dims)]);
    return t.handle(v, dims) as never;
  });
}

/** 0, 1, 2 … along an axis. */
export function iota<const N extends string>(d: Dim<N>, dtype: DTypeName = 'i32'): Tensor<[N]> {
  return attempt('iota', (t) => {
    const [v] = t.op('iota', [], { axis: 0 }, [typeOf(dtypeArg('iota', t, dtype), [d])]);
    return t.handle(v, [d]) as never;
  });
}
