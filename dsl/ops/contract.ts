// Products that sum: einsum by axis names, and weights that a model declares.
import type { Axes, Dim, EinsumOk, NamesOf, Tensor } from '../axes.ts';
import { isFloat } from '../../ir/formats/dtypes.ts';
import { attempt, mistake, tensorArg } from '../trace.ts';
import { axisOf, dimsArg, distinct } from './axis.ts';
import { dtypeArg, type DTypeName } from './pointwise.ts';
import { sharedSizes } from './shape.ts';

/** A letter per axis name: its first letter when that is free, else any. */
function letters(names: readonly string[]): ReadonlyMap<string, string> {
  const free = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'];
  const out = new Map<string, string>();
  for (const name of names) {
    if (out.has(name)) continue;
    const wanted = name.toLowerCase().match(/[a-z]/)?.[0] ?? 'a';
    const letter = free.includes(wanted) ? wanted : free[0];
    free.splice(free.indexOf(letter), 1);
    out.set(name, letter);
  }
  return out;
}

/**
 * Multiplies two tensors and sums over every axis that the result does not name:
 * `einsum(query, key, [tokens, heads, keys])`. Accumulates in f32; the result has the operands' dtype or `dtype`.
 */
export function einsum<A extends Axes, B extends Axes, const O extends readonly Dim[]>(
  a: Tensor<A>,
  b: Tensor<B>,
  out: O & EinsumOk<A, B, O>,
  { dtype }: { readonly dtype?: DTypeName } = {},
): Tensor<NamesOf<O>> {
  return attempt(
    'einsum',
    (t) => {
      const [x, y] = [tensorArg('einsum', 'left', a), tensorArg('einsum', 'right', b)];
      const dims = dimsArg('einsum', 'the result', out);
      distinct('einsum', dims);
      sharedSizes('einsum', x, y);
      if (x.dtype !== y.dtype || !isFloat(x.dtype))
        mistake({
          code: 'dsl/dtypes-differ',
          message: 'einsum needs two floats of one dtype',
          label: `left is ${String(x)}, right is ${String(y)}`,
          fix: `cast(x, '${isFloat(x.dtype) ? x.dtype : 'f32'}')`,
          from: [{ what: 'right comes from here', at: y.madeAt }],
        });
      for (const d of dims) axisOf('einsum', x.axes.includes(d.name) ? x : y, d);
      const letter = letters([...x.axes, ...y.axes]);
      const spell = (names: Axes): string => names.map((n) => letter.get(n)).join('');
      const spec = `${spell(x.axes)},${spell(y.axes)}->${spell(dims.map((d) => d.name))}`;
      return t.tensor(
        'einsum',
        [x, y],
        { spec },
        dtype === undefined ? x.dtype : dtypeArg('einsum', t, dtype),
        dims,
      ) as never;
    },
    (t) => t.placeholder(tensorArg('einsum', 'left', a).dtype, out as readonly Dim[]) as never,
  );
}

export interface WeightOptions {
  /** `'activation'` unless said otherwise. */
  readonly dtype?: DTypeName;
  /** Shape in the checkpoint, when axes are merged or split there; one expert's when the name has `{experts}`. */
  readonly stored?: readonly number[];
}

function weight<const O extends readonly Dim[]>(
  kind: 'parameter' | 'buffer',
  name: string,
  dims: O,
  { dtype = 'activation', stored }: WeightOptions,
): Tensor<NamesOf<O>> {
  return attempt(
    kind,
    (t) => {
      const axes = dimsArg(kind, 'the shape', dims);
      const sizes = axes.map((d) => d.size);
      const symbolic = axes.find((d) => d.size === null);
      if (symbolic)
        mistake({
          code: 'dsl/run-time-size',
          message: `${kind} '${name}': the size of '${symbolic.name}' is known at run time only`,
          fix: 'weights have dims of known size',
        });
      checkWeightName(kind, name);
      distinct(kind, axes);
      const stacked = name.includes('{experts}');
      const shape = stored ?? ((stacked ? sizes.slice(1) : sizes) as readonly number[]);
      const count = (s: readonly (number | null)[]): number => s.reduce<number>((n, d) => n * (d ?? 1), 1);
      if (count(shape) !== count(stacked ? sizes.slice(1) : sizes))
        mistake({
          code: 'dsl/bad-stored-shape',
          message: `${kind} '${name}': the stored shape has another number of elements`,
          label: `stored [${shape.join(', ')}], used as [${axes.map((d) => `${d.name}=${d.size}`).join(', ')}]`,
          fix: 'leave stored out, or merge and split axes in order',
        });
      return t.parameter(kind, name, dtypeArg(kind, t, dtype), axes, shape) as never;
    },
    (t) => t.placeholder(dtypeArg(kind, t, dtype), dims) as never,
  );
}

/** Refuses names that a checkpoint cannot have. */
export function checkWeightName(kind: string, name: unknown): void {
  if (
    typeof name === 'string' &&
    /^[A-Za-z0-9_{][A-Za-z0-9_.{}]*$/.test(name) &&
    !name.replace('{experts}', '').match(/[{}]/)
  )
    return;
  mistake({
    code: 'dsl/bad-name',
    message: `${kind} needs the checkpoint's name, relative to the block: letters, digits, _ and .`,
    label: `this is ${JSON.stringify(name) ?? String(name)}`,
    fix:
      kind === 'parameter' || kind === 'buffer'
        ? `write it like 'q_a_proj.weight'`
        : `write it like 'q_a_proj': .weight is added`,
  });
}

/**
 * A trained weight by its checkpoint name, relative to the block: `parameter('bias', [hidden])`. With `{experts}` in
 * the name axis 0 stacks one checkpoint tensor per expert.
 */
export const parameter = <const O extends readonly Dim[]>(
  name: string,
  dims: O,
  options: WeightOptions = {},
): Tensor<NamesOf<O>> => weight('parameter', name, dims, options);

/** Like `parameter`, for what no gradient changes: a balance bias, a table. f32 unless said otherwise. */
export const buffer = <const O extends readonly Dim[]>(
  name: string,
  dims: O,
  options: WeightOptions = {},
): Tensor<NamesOf<O>> => weight('buffer', name, dims, { dtype: 'f32', ...options });
