// Layers with one weight: linear, RMSNorm, embedding, head.
import type { Axes, Dim, FreshOk, Init, NamesOf, Tensor } from '../axes.ts';
import { isFloat } from '../../ir/formats/dtypes.ts';
import { add, dtypeArg, type DTypeName } from '../ops/pointwise.ts';
import { checkWeightName, parameter } from '../ops/contract.ts';
import { dimsArg, distinct, sameSize } from '../ops/axis.ts';
import { gather } from '../ops/shape.ts';
import { outputsOf, type Positions } from '../ops/positions.ts';
import { showDims, type TensorHandle } from '../tensor.ts';
import { attempt, mistake, tensorArg } from '../trace.ts';
import { describe, listed } from '../words.ts';

/** The axes that stay when the axes V at the end (the last one without V) are summed over. */
export type Kept<A extends Axes, V> = V extends readonly Dim[]
  ? A extends readonly [...infer R extends Axes, ...NamesOf<V>]
    ? R
    : string[]
  : Init<A>;

export interface LinearOptions<V> {
  /** Axes at the end of x that are summed over, `[heads, v]` for an output projection; the last one unless said. */
  readonly over?: V;
  /** dtype of the result: x's unless said otherwise. 'f32' keeps the whole sum, and keeps FP8 away. */
  readonly dtype?: DTypeName;
  /** Adds `${name}.bias`. */
  readonly bias?: boolean;
}

/**
 * x · Wᵀ with the weight `${name}.weight`, stored [out, in] as in the checkpoint, of x's dtype. Several output dims
 * give several axes: `linear(q, [heads, qk], 'q_b_proj')` is [tokens, heads, qk]. Accumulates in f32.
 */
export function linear<
  A extends Axes,
  const O extends Dim | readonly Dim[],
  const V extends readonly Dim[] | undefined = undefined,
>(
  x: Tensor<A>,
  out: O & FreshOk<'linear', Kept<A, V>, O>,
  name: string,
  { over, dtype, bias = false }: LinearOptions<V> = {},
): Tensor<[...Kept<A, V>, ...NamesOf<O>]> {
  return attempt(
    'linear',
    (t) => {
      const h = tensorArg('linear', 'x', x);
      const outs = dimsArg('linear', 'the output', out);
      checkWeightName('linear', name);
      const summed = summedAxes(h, over);
      const kept = h.dims.slice(0, h.dims.length - summed.length);
      const dims = [...kept, ...outs];
      distinct('linear', dims);
      const symbolic = [...summed, ...outs].find((d) => d.size === null);
      if (symbolic)
        mistake({
          code: 'dsl/run-time-size',
          message: `linear: a weight cannot have the run-time axis '${symbolic.name}'`,
          label: `x is ${String(h)}, the output is ${showDims(outs)}`,
          fix: 'transpose x so that the axis to sum over is last, or use einsum',
        });
      if (!isFloat(h.dtype))
        mistake({
          code: 'dsl/wrong-dtype',
          message: 'linear works on floats',
          label: `x is ${String(h)}`,
          fix: `cast(x, 'activation')`,
        });
      // An axis that is replaced by one of its own name keeps both apart in the weight: [hidden, hidden] is fine there.
      const size = (ds: readonly Dim[]): number => ds.reduce((n, d) => n * (d.size as number), 1);
      const w = t.parameter(
        'parameter',
        `${name}.weight`,
        h.dtype,
        [...outs, ...summed],
        [size(outs), size(summed)],
      );
      const to = dtype === undefined ? h.dtype : dtypeArg('linear', t, dtype);
      const y = t.tensor('matmul', [h, w], { contract: summed.length }, to, dims, name.split('.').at(-1));
      if (!bias) return y as never;
      return add(
        y as Tensor,
        parameter(`${name}.bias`, outs, { dtype: to, stored: [size(outs)] }) as Tensor,
      ) as never;
    },
    (t) => {
      const h = tensorArg('linear', 'x', x);
      const outs = dimsArg('linear', 'the output', out);
      const kept = h.dims.slice(0, h.dims.length - (over?.length ?? 1));
      return t.placeholder(dtype === undefined ? h.dtype : dtypeArg('linear', t, dtype), [
        ...kept,
        ...outs,
      ]) as never;
    },
  );
}

function summedAxes(h: TensorHandle, over: readonly Dim[] | undefined): readonly Dim[] {
  const last = h.dims.at(-1);
  if (!last)
    mistake({
      code: 'dsl/axes-differ',
      message: 'linear needs an axis to sum over',
      label: `x is ${String(h)}`,
      fix: 'pass a tensor with axes',
    });
  if (over === undefined) return [last];
  const wanted = dimsArg('linear', 'over', over);
  const tail = h.dims.slice(-wanted.length);
  if (wanted.length === 0 || tail.length !== wanted.length || wanted.some((d, i) => d.name !== tail[i].name))
    mistake({
      code: 'dsl/axes-differ',
      message: `linear: x does not end with ${listed(wanted.map((d) => d.name))}`,
      label: `x is ${String(h)}`,
      fix: 'name the last axes of x in their order, or transpose x',
    });
  for (const [i, d] of wanted.entries()) sameSize('linear', tail[i], d);
  return tail;
}

/** x / sqrt(mean(x²) + ε) · `${name}.weight` over the last axis; in f32 inside. ε is 1e-6, as in DeepSeek-V3. */
export function rmsNorm<A extends Axes>(
  x: Tensor<A>,
  name: string,
  { epsilon = 1e-6 }: { readonly epsilon?: number } = {},
): Tensor<A> {
  return attempt(
    'rmsNorm',
    (t) => {
      const h = tensorArg('rmsNorm', 'x', x);
      checkWeightName('rmsNorm', name);
      if (!(typeof epsilon === 'number' && epsilon >= 0 && epsilon < Infinity))
        mistake({
          code: 'dsl/bad-epsilon',
          message: 'rmsNorm: epsilon must not be negative',
          label: `this is ${describe(epsilon)}`,
          fix: 'leave it out for 1e-6',
        });
      const last = h.dims.at(-1);
      if (!last || last.size === null || !isFloat(h.dtype))
        mistake({
          code: 'dsl/axes-differ',
          message: 'rmsNorm needs floats with a last axis of known size',
          label: `x is ${String(h)}`,
          fix: 'bring the axis to norm over to the end',
        });
      const w = t.parameter('parameter', `${name}.weight`, h.dtype, [last], [last.size]);
      return t.tensor('rms_norm', [h, w], { epsilon }, h.dtype, h.dims, name.split('.').at(-1)) as never;
    },
    () => x,
  );
}

/** Rows of `${name}.weight` [vocab, hidden] by token id. */
export function embedding<A extends Axes, const V extends string, const H extends string>(
  ids: Tensor<A>,
  vocab: Dim<V, 'static'>,
  hidden: Dim<H, 'static'>,
  name = 'model.embed_tokens',
): Tensor<[...A, H]> {
  return attempt(
    'embedding',
    () => gather(parameter(`${name}.weight`, [vocab, hidden]), ids) as never,
    (t) => t.placeholder(t.module.activation, [...tensorArg('embedding', 'ids', ids).dims, hidden]) as never,
  );
}

export interface HeadOptions {
  readonly norm?: string;
  readonly name?: string;
  readonly epsilon?: number;
}

/**
 * Logits of the wanted tokens, f32[outputs, vocab]: picks their rows first, so that norm and head work on those only,
 * then `model.norm` and `lm_head`.
 */
export function head<H extends string, const V extends string>(
  x: Tensor<readonly ['tokens', H]>,
  at: Positions,
  vocab: Dim<V, 'static'>,
  { norm = 'model.norm', name = 'lm_head', epsilon = 1e-6 }: HeadOptions = {},
): Tensor<['outputs', V]> {
  const rows = gather(x, outputsOf(at)) as Tensor;
  return linear(rmsNorm(rows, norm, { epsilon }), vocab, name, { dtype: 'f32' }) as never;
}
