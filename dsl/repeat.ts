// Repeating a block over layers: one op in the IR, whatever the number of layers.
import { dim as irDim, tensor as irTensor, type Type } from '../ir/types.ts';
import type { Axes, Dim, Tensor } from './axes.ts';
import type { Block } from './block.ts';
import { derivedDim } from './dims.ts';
import type { Cache, CacheDeclaration, Caches } from './ops/state.ts';
import { currentSpan, report } from './context.ts';
import { poison, StateHandle, TensorHandle, type AnyHandle } from './tensor.ts';
import { attempt, mistake, refusePoison, type FunctionTrace } from './trace.ts';
import {
  checkOwners,
  definitions,
  handlesFor,
  traceBlock,
  updateStates,
  valueOf,
  type Definition,
  type Traced,
} from './traced.ts';
import { hasPoison, leavesOf, rebuild, signature } from './tree.ts';
import { describe } from './words.ts';

export interface Range {
  readonly start: number;
  readonly stop: number;
  /** Put before the names of each layer's weights; `{i}` is the layer's number. */
  readonly prefix: string;
}

const layerPrefix = 'model.layers.{i}.';

/** Layers `start` up to, not including, `stop`: weights are named `model.layers.{i}.` unless `prefix` says otherwise. */
export function range(
  start: number,
  stop: number,
  { prefix = layerPrefix }: { readonly prefix?: string } = {},
): Range {
  if (
    typeof prefix !== 'string' ||
    !/^([A-Za-z0-9_{][A-Za-z0-9_.{}]*\.)?$/.test(prefix) ||
    /[{}]/.test(prefix.replace('{i}', ''))
  )
    report({
      code: 'dsl/bad-name',
      message: 'a prefix of layers is the beginning of checkpoint names, with {i} for the layer and its dot',
      label: `this is ${describe(prefix)}`,
      fix: `write it like 'model.layers.{i}.'`,
    });
  const whole = (n: unknown): n is number => typeof n === 'number' && Number.isSafeInteger(n) && n >= 0;
  if (whole(start) && whole(stop) && start <= stop) return { start, stop, prefix };
  report({
    code: 'dsl/bad-range',
    message: 'range needs two whole numbers, the second not below the first',
    label: `range(${describe(start)}, ${describe(stop)})`,
    fix: 'write range(0, 61)',
  });
  return { start: 0, stop: 1, prefix };
}

/** One element per layer of a tensor over ['layers', …]: layer i of a repeat gets element i. */
export interface Each<T> {
  readonly each: T;
}

class EachLayer implements Each<unknown> {
  readonly each: TensorHandle;
  constructor(each: TensorHandle) {
    this.each = each;
  }
}

export const each = <A extends Axes>(x: Tensor<readonly ['layers', ...A]>): Each<Tensor<A>> =>
  attempt('each', () => {
    refusePoison(x);
    if (!(x instanceof TensorHandle) || typeof x.dims[0]?.size !== 'number')
      mistake({
        code: 'dsl/wrong-argument',
        message: 'each needs a tensor with an axis of layers in front',
        label: describe(x),
        fix: 'pass what repeat stacked',
      });
    return new EachLayer(x) as unknown as Each<Tensor<A>>;
  });

type PerLayer<R extends readonly unknown[]> = {
  readonly [I in keyof R]: R[I] extends Cache<infer D extends CacheDeclaration>
    ? Caches<D> | R[I]
    : R[I] | Each<R[I]>;
};

type Stacked<S> = {
  -readonly [I in keyof S]: S[I] extends Tensor<infer A> ? Tensor<['layers', ...A]> : never;
};

/** What a repeat gives: the carry after the last layer and, when layers return more, that stacked over `layers`. */
export type Repeated<C, O> = O extends C ? C : O extends readonly [C, ...infer S] ? [C, ...Stacked<S>] : C;

/**
 * Calls a block once per layer: the first argument is carried from layer to layer (the block returns its next value,
 * or `[next, …more]`, where the rest is stacked over a new axis `layers`); caches of all layers are handed out one
 * each; everything else is the same for every layer. `repeat(range(3, 61), moeLayer, h, at, caches)`.
 */
export function repeat<C, R extends readonly unknown[], O>(
  over: Range | number,
  layer: Block<readonly [C, ...R], O>,
  carry: NoInfer<C>,
  ...rest: PerLayer<R>
): Repeated<C, O> {
  const layers = typeof over === 'number' ? range(0, over) : over;
  return attempt(
    'repeat',
    (t) => repeatBlock(t, layers, layer, carry, rest as readonly unknown[]) as Repeated<C, O>,
    () => carry as Repeated<C, O>,
  );
}

type Mode = 'carry' | 'same' | 'indexed';

function repeatBlock(
  t: FunctionTrace,
  over: Range,
  layer: object,
  carry: unknown,
  rest: readonly unknown[],
): unknown {
  const definition = definitions.get(layer);
  if (!definition)
    mistake({
      code: 'dsl/wrong-argument',
      message: 'repeat needs a block',
      label: `this is ${describe(layer)}`,
      fix: `make one: block('layer', (x, at, cache) => …)`,
    });
  if (hasPoison([carry, rest.map((r) => (r instanceof EachLayer ? r.each : r))])) refusePoison(poison);
  const carries = leavesOf(carry).map((l) => l.handle);
  if (carries.length === 0 || carries.some((h) => h instanceof StateHandle))
    mistake({
      code: 'dsl/wrong-argument',
      message: 'repeat carries tensors from layer to layer',
      label: `the third argument is ${describe(carry)}`,
      fix: 'pass the residual stream after the block',
    });
  const operands: { handle: AnyHandle; mode: Mode }[] = carries.map((handle) => ({ handle, mode: 'carry' }));
  // What one layer sees: caches and stacked tensors without their axis of layers.
  const one = (value: unknown): unknown => {
    if (value instanceof EachLayer) {
      operands.push({ handle: value.each, mode: 'indexed' });
      return layerOf(t, value.each);
    }
    return rebuild(value, (handle) => {
      const counted = handle instanceof StateHandle && handle.count !== null;
      operands.push({ handle, mode: counted ? 'indexed' : handle instanceof StateHandle ? 'carry' : 'same' });
      return counted ? new StateHandle({ ...handle, count: null }) : handle;
    });
  };
  const args = [carry, ...rest.map(one)];
  checkOwners(
    t,
    definition.name,
    operands.map((o) => o.handle),
  );
  checkCounts(over, operands);
  const traced = traceBlock(t.module, definition, args);
  if (!traced.result) return carry;
  if (traced.clean) checkCarry(definition, carries, traced);
  // What it would have given is unknown: the carry goes on, so that later blocks are looked at too.
  else return carry;
  if (over.start === over.stop) return skipped(definition, carries, carry, traced);
  checkShared(over, operands, traced);
  const { start, stop, prefix } = over;
  const attributes = { callee: traced.fn.name, start, stop, prefix, modes: operands.map((o) => o.mode) };
  const layers: Dim = derivedDim('layers', stop - start);
  const results = traced.results.map(({ value: { type } }, i) =>
    i < carries.length || type.kind !== 'tensor'
      ? type
      : irTensor(type.dtype, [irDim(layers.name, layers.size), ...type.dims]),
  );
  const states = operands.flatMap(({ handle }) =>
    handle instanceof StateHandle ? [handle.latest.type] : [],
  );
  const outs = t.op(
    'repeat',
    operands.map((o) => valueOf(o.handle)),
    attributes,
    [...results, ...states],
    definition.name,
  );
  updateStates(
    operands.map((o) => o.handle),
    outs.slice(traced.results.length),
  );
  return handlesFor(t, traced, outs, (h, i) =>
    i < carries.length || !(h instanceof TensorHandle)
      ? h
      : new TensorHandle(h.value, h.owner, h.madeAt, [layers, ...h.dims]),
  );
}

/** Element of a tensor over layers, as a type: nothing computes it here. */
function layerOf(t: FunctionTrace, h: TensorHandle): TensorHandle {
  const type: Type = irTensor(
    h.dtype,
    h.dims.slice(1).map((d) => irDim(d.name, d.size)),
  );
  return new TensorHandle({ name: '', type, source: 'result' }, t, h.madeAt, h.dims.slice(1));
}

function checkCounts({ start, stop }: Range, operands: readonly { handle: AnyHandle; mode: Mode }[]): void {
  for (const { handle, mode } of operands) {
    if (mode !== 'indexed') continue;
    const count = handle instanceof StateHandle ? handle.count : (handle as TensorHandle).dims[0].size;
    if (count === null || (count < stop && count !== stop - start))
      mistake({
        code: 'dsl/too-few-layers',
        message: `repeat runs layers ${start} to ${stop - 1}, but ${handle instanceof StateHandle ? `the cache ${handle.state}` : 'a tensor'} has ${count}`,
        label: signature(handle),
        fix:
          handle instanceof StateHandle
            ? `declare one per layer: perLayer(cache, ${stop})`
            : 'stack one element per layer',
      });
  }
}

/**
 * Refuses a second repeat that updates layers of a cache which another repeat of this function updates: the rows of
 * one would overwrite the other's. Reading what another repeat left is fine. A cache with as many layers as the repeat
 * runs is counted from 0, a longer one by the layers' numbers.
 */
function checkShared(
  { start, stop }: Range,
  operands: readonly { handle: AnyHandle; mode: Mode }[],
  traced: Traced,
): void {
  const inout = traced.fn.arguments.filter((a) => a.inout);
  for (const [i, { handle, mode }] of operands.entries()) {
    if (mode !== 'indexed' || !(handle instanceof StateHandle) || handle.count === null) continue;
    const argument = traced.fn.arguments[i];
    if (traced.fn.finals[inout.indexOf(argument)] === argument.value) continue;
    const first = handle.count < stop ? 0 : start;
    const [from, to] = [first, first + stop - start];
    const other = handle.layersUpdated.find((l) => l.from < to && from < l.to);
    if (other)
      mistake({
        code: 'dsl/cache-layers-shared',
        message: `two repeats update the same layers of the cache ${handle.state}: one would overwrite the other's rows`,
        label: `layers ${from} to ${to - 1} here, ${other.from} to ${other.to - 1} before`,
        fix: 'give the repeats ranges that do not overlap, or each its own perLayer',
        from: [{ what: 'updated before by this repeat', at: other.at }],
      });
    handle.layersUpdated.push({ from, to, at: currentSpan() });
  }
}

function checkCarry(definition: Definition, carries: readonly AnyHandle[], traced: Traced): void {
  for (const [i, c] of carries.entries()) {
    const next = traced.results[i];
    if (!next)
      mistake({
        code: 'dsl/carry-differs',
        message: `layer '${definition.name}' returns ${traced.results.length === 0 ? describe(traced.result?.value) : `${traced.results.length} tensors`}, and must return the next value of what it is carried`,
        label: `it should return ${carries.map(signature).join(', ')}`,
        fix: 'end the layer with return and the residual stream, as in: return add(x, y)',
        from: [{ what: `${definition.name} is declared here`, at: definition.declaredAt }],
      });
    if (signature(next) === signature(c)) continue;
    mistake({
      code: 'dsl/carry-differs',
      message: `a layer must give back what it is carried: '${definition.name}' changes its type`,
      label: `it takes ${signature(c)} and gives ${signature(next)}`,
      fix: 'return the residual stream with its own axes and dtype',
      from: [{ what: `${definition.name} is declared here`, at: definition.declaredAt }],
    });
  }
}

/** No layers: the carry as it is. What would be stacked cannot be empty. */
function skipped(
  definition: Definition,
  carries: readonly AnyHandle[],
  carry: unknown,
  traced: Traced,
): unknown {
  if (traced.results.length > carries.length)
    mistake({
      code: 'dsl/bad-range',
      message: `repeat of no layers cannot stack what '${definition.name}' returns`,
      fix: 'run at least one layer',
    });
  return carry;
}
