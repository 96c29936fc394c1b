// Ops that look at where tokens stand. `at` is what `forward` gets and passes on.
import type { Axes, Dim, Tensor } from '../axes.ts';
import { showDims, toIr, type PositionsHandle, type TensorHandle } from '../tensor.ts';
import { attempt, mistake, positionsArg, refusePoison, tensorArg, type FunctionTrace } from '../trace.ts';
import { describe } from '../words.ts';
import { sameDim } from '../../ir/types.ts';

/**
 * Where each token stands: its position in its sequence, which keys it may see, and which tokens' outputs are wanted.
 * Batches and packed documents never attend across: that is in here, not in the model.
 */
export interface Positions {
  readonly kind: 'positions';
}

const field = (name: string, which: 'position' | 'sequence' | 'outputs', at: unknown): never =>
  attempt(name, (t) => {
    const p = positionsArg(name, at);
    const dim = which === 'outputs' ? p.dims.outputs : p.dims.tokens;
    return t.tensor('position_field', [p], { field: which }, 'i32', [dim], which);
  }) as never;

/** Position of each token in its sequence, from 0: i32[tokens]. */
export const positionOf = (at: Positions): Tensor<['tokens']> => field('positionOf', 'position', at);
/** Number of each token's sequence: i32[tokens]. */
export const sequenceOf = (at: Positions): Tensor<['tokens']> => field('sequenceOf', 'sequence', at);
/** Rows of the tokens whose outputs are wanted: i32[outputs]. `gather(x, outputsOf(at))` picks them. */
export const outputsOf = (at: Positions): Tensor<['outputs']> => field('outputsOf', 'outputs', at);

export interface Visibility {
  /** No key after the token; true unless said otherwise. */
  readonly causal?: boolean;
  /** Only keys less than this many positions away; all without it. */
  readonly window?: number;
}

function visibility(
  op: string,
  { causal = true, window = 0 }: Visibility,
): { causal: boolean; window: number } {
  if (!Number.isSafeInteger(window) || window < 0)
    mistake({
      code: 'dsl/bad-window',
      message: `${op}: window must be a whole number of positions`,
      label: `this is ${describe(window)}`,
      fix: 'leave it out to see every position',
    });
  return { causal, window };
}

/** Which keys each token may attend to: bool[tokens, keys]. For attention that is written out. */
export function visible(at: Positions, options: Visibility = {}): Tensor<['tokens', 'keys']> {
  return attempt('visible', (t) => {
    const p = positionsArg('visible', at);
    return t.tensor('visible', [p], visibility('visible', options), 'bool', [
      p.dims.tokens,
      p.dims.keys,
    ]) as never;
  });
}

export interface AttentionOperands<H extends string, D extends string, V extends string> extends Visibility {
  readonly q: Tensor<readonly ['tokens', H, D]>;
  /** As many heads as q, or fewer that divide them (grouped queries), or no head axis: one key head for all. */
  readonly k: Tensor<readonly ['keys', string, NoInfer<D>] | readonly ['keys', NoInfer<D>]>;
  readonly v: Tensor<readonly ['keys', string, V] | readonly ['keys', V]>;
  readonly at: Positions;
  /** Factor of the scores: 1/sqrt(length of q per head) unless said otherwise. */
  readonly scale?: number;
}

/** softmax(q·k·scale)·v over the keys that each token may see; softmax in f32. */
export function attention<H extends string, D extends string, V extends string>(
  operands: AttentionOperands<H, D, V>,
): Tensor<['tokens', H, V]> {
  return attempt('attention', (t) => {
    refusePoison(operands, operands.q, operands.k, operands.v, operands.at);
    const [q, k, v] = (['q', 'k', 'v'] as const).map((name) => tensorArg('attention', name, operands[name]));
    const p = positionsArg('attention', operands.at);
    const [qh, kh, vh] = [q, withHead(t, k), withHead(t, v)];
    checkHeads(q, k, v, [qh, kh, vh], p);
    const scale = operands.scale ?? 1 / Math.sqrt(qh.dims[2].size as number);
    if (!(Number.isFinite(scale) && scale > 0))
      mistake({
        code: 'dsl/bad-scale',
        message: 'attention: scale must be a positive number',
        label: `this is ${describe(scale)}`,
        fix: 'leave it out for 1/sqrt(length of q per head)',
      });
    const attributes = { scale, ...visibility('attention', operands) };
    const [value] = t.op(
      'attention',
      [qh, kh, vh, p].map((h) => h.value),
      attributes,
      null,
    );
    return t.handle(value, [qh.dims[0], qh.dims[1], vh.dims[2]]) as never;
  });
}

/** [keys, D] as [keys, 1, D]: one head that all queries share. */
function withHead(t: FunctionTrace, h: TensorHandle): TensorHandle {
  if (h.dims.length !== 2) return h;
  const one: Dim = { name: 'one', kind: 'static', size: 1 };
  return t.tensor('reshape', [h], {}, h.dtype, [h.dims[0], one, h.dims[1]]);
}

function checkHeads(
  q: TensorHandle,
  k: TensorHandle,
  v: TensorHandle,
  [qh, kh, vh]: readonly TensorHandle[],
  p: PositionsHandle,
): void {
  const label = `q is ${String(q)}, k is ${String(k)}, v is ${String(v)}`;
  const no = (code: string, message: string, fix: string): never =>
    mistake({ code, message: `attention: ${message}`, label, fix });
  if ([qh, kh, vh].some((h) => h.dims.length !== 3))
    no(
      'dsl/axes-differ',
      'q, k and v need the axes [rows, heads, length]',
      'q[tokens, heads, d], k[keys, heads, d], v[keys, heads, v]',
    );
  if (!sameDim(toIr(qh.dims[0]), toIr(p.dims.tokens)))
    no('dsl/axes-differ', `q must have the rows '${p.dims.tokens.name}'`, `its axes are ${showDims(q.dims)}`);
  if (!sameDim(toIr(kh.dims[0]), toIr(p.dims.keys)) || !sameDim(toIr(vh.dims[0]), toIr(p.dims.keys)))
    no(
      'dsl/axes-differ',
      `k and v must have the rows '${p.dims.keys.name}'`,
      'take them from remember(cache, …, at), which gives what attention looks along',
    );
  if (qh.dims[2].size !== kh.dims[2].size)
    no('dsl/axes-differ', 'q and k are not equally long per head', `make both '${qh.dims[2].name}' long`);
  const [heads, groups, values] = [qh, kh, vh].map((h) => h.dims[1].size ?? 0);
  if (groups !== values)
    no('dsl/axes-differ', 'k and v have different numbers of heads', 'give both the same heads axis');
  if (heads % groups !== 0)
    no(
      'dsl/heads-do-not-divide',
      `${groups} key heads do not divide ${heads} query heads`,
      `use a number of key heads that divides ${heads}`,
    );
  if (q.dtype !== k.dtype || q.dtype !== v.dtype)
    no('dsl/dtypes-differ', 'q, k and v need one dtype', `cast(x, '${q.dtype}')`);
}

export interface RopeAttributes {
  readonly frequencies: readonly number[];
  readonly scale: number;
}

/** The rotation itself; `rope` in layers/rope.ts computes the frequencies. */
export function turn<A extends Axes>(
  x: Tensor<A>,
  at: Positions,
  of: (pairs: number, dim: Dim) => RopeAttributes,
): Tensor<A> {
  return attempt(
    'rope',
    (t) => {
      const h = tensorArg('rope', 'x', x);
      const p = positionsArg('rope', at);
      const last = h.dims.at(-1);
      if (h.dims.length < 2 || !last || !sameDim(toIr(h.dims[0]), toIr(p.dims.tokens)))
        mistake({
          code: 'dsl/axes-differ',
          message: `rope turns tensors whose first axis is '${p.dims.tokens.name}'`,
          label: `x is ${String(h)}`,
          fix: 'apply it before remember and before axes are reordered',
        });
      if (last.size === null || last.size % 2 !== 0)
        mistake({
          code: 'dsl/rope-needs-pairs',
          message: `rope turns pairs, but '${last.name}' has ${last.size ?? 'a run-time number of'} elements`,
          label: `x is ${String(h)}`,
          fix: `give '${last.name}' an even size`,
        });
      const { frequencies, scale } = of(last.size / 2, last);
      return t.tensor('rope', [h, p], { frequencies, scale }, h.dtype, h.dims) as never;
    },
    () => x,
  );
}
