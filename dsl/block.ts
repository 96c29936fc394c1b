// Blocks: functions that are traced once and called any number of times. A model of 61 layers is two blocks and two
// repeats, before and after every pass.
import type { Axes, Dim, Tensor } from './axes.ts';
import { derivedDim } from './dims.ts';
import type { Cache, CacheDeclaration, Caches } from './ops/state.ts';
import { DiagnosticError } from '../ir/diagnostics.ts';
import type { Function } from '../ir/module.ts';
import type { Span } from '../ir/span.ts';
import {
  currentSpan,
  frames,
  inFrame,
  mistakeCount,
  report,
  siteDepth,
  spanOfStack,
  unwindSites,
  writtenParameters,
} from './session.ts';
import {
  PositionsHandle,
  poison,
  RoutingHandle,
  StateHandle,
  TensorHandle,
  type AnyHandle,
  type NamedLater,
} from './tensor.ts';
import { attempt, FunctionTrace, mistake, refusePoison, tracing, type ModuleTrace } from './trace.ts';
import { hasPoison, keyOf, leavesOf, rebuild, signature } from './tree.ts';
import { describe } from './words.ts';
import { dim as irDim, tensor as irTensor, type Type } from '../ir/types.ts';

/** A function of the model: call it with tensors, positions, caches, and plain values. */
export interface Block<P extends readonly unknown[], R> {
  (...args: P): R;
  readonly blockName: string;
  /** The same block with its weights under another prefix: `expert.at('mlp.first')(x)`. */
  at(prefix: string): Block<P, R>;
}

interface Definition {
  readonly name: string;
  readonly run: (...args: never[]) => unknown;
  readonly parameters: readonly string[];
  readonly declaredAt: Span;
}

const definitions = new WeakMap<object, Definition>();

/** A block as traced for one list of argument types. */
interface Traced {
  readonly fn: Function;
  /** What the author's function returned, its handles belonging to the block. Null when it failed. */
  readonly result: { readonly value: unknown } | null;
  readonly results: readonly Exclude<AnyHandle, StateHandle>[];
  /** Nothing was wrong inside: only then can its result's type be held against the author. */
  readonly clean: boolean;
}

const tracedBlocks = new WeakMap<ModuleTrace, Map<string, Traced | 'open'>>();

/** Names of a function's parameters where they are plain names. */
function parameterNames(f: (...args: never[]) => unknown): readonly string[] {
  const head = /^(?:async\s*)?(?:function\s*[\w$]*\s*)?\(([^()]*)\)|^([\w$]+)\s*=>/.exec(f.toString());
  const list = head?.[1] ?? head?.[2] ?? '';
  return list.split(',').map((p) => /^[\w$]+/.exec(p.trim())?.[0] ?? '');
}

/**
 * Makes a block: `block('self_attn', (x: Tensor<['tokens', 'hidden']>, at: Positions) => …)`. Weights inside have
 * names relative to the call's prefix, which is the block's name and a dot unless `prefix` says otherwise ('' for
 * none). Traced once per list of argument types, whatever the number of calls.
 */
export function block<P extends readonly unknown[], R>(
  name: string,
  run: (...args: P) => R,
  { prefix = `${name}.` }: { readonly prefix?: string } = {},
): Block<P, R> {
  if (typeof name !== 'string' || !/^[A-Za-z_][A-Za-z0-9_.]*$/.test(name) || typeof run !== 'function')
    report({
      code: 'dsl/bad-block',
      message: 'a block needs a name of letters, digits and _, and a function',
      label: `block(${describe(name)}, ${describe(run)})`,
      fix: `block('self_attn', (x: Tensor<['tokens', 'hidden']>) => …)`,
    });
  const definition: Definition = {
    name,
    run,
    parameters: writtenParameters() ?? parameterNames(run),
    declaredAt: currentSpan(),
  };
  return callable(definition, prefix) as Block<P, R>;
}

function callable(definition: Definition, prefix: string): Block<never[], unknown> {
  const call = (...args: never[]): unknown =>
    attempt(definition.name, (t) => callBlock(t, definition, prefix, args));
  definitions.set(call, definition);
  return Object.assign(call, {
    blockName: definition.name,
    at: (other: string) => callable(definition, other === '' || other.endsWith('.') ? other : `${other}.`),
  });
}

function callBlock(
  t: FunctionTrace,
  definition: Definition,
  prefix: string,
  args: readonly unknown[],
): unknown {
  if (hasPoison(args)) refusePoison(poison);
  const leaves = leavesOf(args).map((l) => l.handle);
  checkOwners(t, definition.name, leaves);
  const traced = traceBlock(t.module, definition, args);
  // After a mistake inside, what comes out may be anything: the caller goes on without it.
  if (!traced.result || !traced.clean) return poison;
  const outs = t.op('call', leaves.map(valueOf), { callee: traced.fn.name, prefix }, null, definition.name);
  updateStates(leaves, outs.slice(traced.results.length));
  return handlesFor(t, traced, outs, (h) => h);
}

const valueOf = (h: AnyHandle): NamedLater => (h instanceof StateHandle ? h.latest : h.value);

function checkOwners(t: FunctionTrace, name: string, leaves: readonly AnyHandle[]): void {
  const states = leaves.filter((h) => h instanceof StateHandle);
  if (new Set(states).size !== states.length)
    mistake({
      code: 'dsl/cache-twice',
      message: `${name} gets one cache twice`,
      fix: 'pass it once: the block updates it',
    });
  for (const h of leaves)
    if (h.owner !== t)
      mistake({
        code: 'dsl/captured-value',
        message: `${name}: an argument belongs to another block`,
        label: `it is ${signature(h)}`,
        fix: 'pass it to this block as an argument first',
      });
}

/** The states that a callee changed, in the order of its finals. */
function updateStates(leaves: readonly AnyHandle[], finals: readonly NamedLater[]): void {
  const states = leaves.filter((h) => h instanceof StateHandle);
  for (const [i, s] of states.entries()) s.latest = finals[i];
}

/** The author's result structure with handles on the caller's values. */
function handlesFor(
  t: FunctionTrace,
  traced: Traced,
  values: readonly NamedLater[],
  change: (h: AnyHandle, i: number) => AnyHandle,
): unknown {
  let next = 0;
  return rebuild(traced.result?.value, (old) => {
    const i = next++;
    return moved(change(old, i), values[i], t);
  });
}

function moved(h: AnyHandle, value: NamedLater, t: FunctionTrace): AnyHandle {
  const at = currentSpan();
  if (h instanceof TensorHandle) return new TensorHandle(value, t, at, h.dims);
  if (h instanceof PositionsHandle) return new PositionsHandle(value, t, at, h.dims);
  if (h instanceof RoutingHandle) return new RoutingHandle(value, t, at, h.dims);
  throw new Error('moved: states are not results');
}

/** An argument as seen inside. */
function argumentFor(f: FunctionTrace, h: AnyHandle, hint: string): AnyHandle {
  if (!(h instanceof StateHandle)) return moved(h, f.argument(hint, h.value.type), f);
  const latest = f.argument(hint, { kind: 'state', state: h.state, count: h.count }, true);
  const state = new StateHandle({ state: h.state, count: h.count, fields: h.fields, owner: f, latest });
  f.states.push(state);
  return state;
}

function traceBlock(module: ModuleTrace, definition: Definition, args: readonly unknown[]): Traced {
  const known = tracedBlocks.get(module) ?? new Map<string, Traced | 'open'>();
  tracedBlocks.set(module, known);
  const key = `${keyOf(definition.run)} ${keyOf(args)}`;
  const found = known.get(key);
  if (found === 'open')
    mistake({
      code: 'dsl/recursive-block',
      message: `block '${definition.name}' calls itself`,
      label: `${frames()
        .map((f) => f.block)
        .join(' → ')} → ${definition.name}`,
      fix: 'use repeat for loops',
    });
  if (found) return found;
  known.set(key, 'open');
  const traced = inFrame({ block: definition.name, called: currentSpan() }, () =>
    traceFunction(module, definition, args),
  );
  known.set(key, traced);
  return traced;
}

function traceFunction(module: ModuleTrace, definition: Definition, args: readonly unknown[]): Traced {
  const f = new FunctionTrace(module);
  const before = mistakeCount();
  const inside = args.map((arg, i) => {
    const leaves = leavesOf(arg);
    let next = 0;
    return rebuild(arg, (h) => {
      const { path } = leaves[next++];
      const name = definition.parameters[i] || `x${i}`;
      return argumentFor(f, h, path === '' ? name : /^[A-Za-z]/.test(path) ? path : `${name}_${path}`);
    });
  });
  const value = runAuthor(definition, () => tracing(f, () => definition.run(...(inside as never[]))));
  const results = checkResults(definition, f, value);
  const name = module.freshFunction(definition.name);
  const fn = f.finish({
    kind: 'block',
    name,
    results: results?.map(valueOf) ?? [],
    finals: f.states.map((s) => s.latest),
    span: definition.declaredAt,
  });
  if (results) module.functions.push(fn);
  return { fn, result: results ? { value } : null, results: results ?? [], clean: mistakeCount() === before };
}

/** Runs the author's function; what it throws becomes a diagnostic, and the result is unknown. */
function runAuthor(definition: Definition, body: () => unknown): unknown {
  const depth = siteDepth();
  try {
    return body();
  } catch (e) {
    if (e instanceof DiagnosticError) throw e;
    reportThrown(`block '${definition.name}'`, e);
    unwindSites(depth);
    return poison;
  }
}

/** A JavaScript error of the author's code, where it was thrown. */
export function reportThrown(where: string, e: unknown): void {
  const at = e instanceof Error ? spanOfStack(e.stack ?? '') : null;
  const message = e instanceof Error ? `${e.name}: ${e.message}` : String(e);
  report({
    code: 'dsl/model-threw',
    message: `${where} threw ${message}`,
    ...(at ? { at } : {}),
    fix: 'correct the code there',
  });
}

/** Handles of a block's result, or null when some are unknown. Reports what a block cannot give. */
function checkResults(definition: Definition, f: FunctionTrace, value: unknown): Traced['results'] | null {
  if (hasPoison(value)) return null;
  const leaves = leavesOf(value).map((l) => l.handle);
  const wrong = (message: string, fix: string): null => {
    report({
      code: 'dsl/bad-block-result',
      message: `block '${definition.name}' ${message}`,
      at: definition.declaredAt,
      fix,
    });
    return null;
  };
  if (leaves.length === 0 && f.states.length === 0)
    return wrong(`returns ${describe(value)}, no tensor`, 'return what it computes');
  const values = leaves.flatMap((h) => (h instanceof StateHandle ? [] : [h]));
  if (values.length < leaves.length)
    return wrong('returns a cache', 'leave it out: a cache that a block gets is updated');
  if (values.some((h) => h.owner !== f))
    return wrong('returns a value of another block', 'return what this block computes');
  return values;
}

// --- repeat ---

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

function checkCarry(definition: Definition, carries: readonly AnyHandle[], traced: Traced): void {
  for (const [i, c] of carries.entries()) {
    const next = traced.results[i];
    const shown = (h: AnyHandle | undefined): string => (h ? signature(h) : 'nothing');
    if (next && shown(next) === shown(c)) continue;
    mistake({
      code: 'dsl/carry-differs',
      message: `a layer must give back what it is carried: '${definition.name}' changes its type`,
      label: `it takes ${shown(c)} and gives ${shown(next)}`,
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
