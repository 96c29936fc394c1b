// Tracing a block: once for each list of argument types, remembered per module.
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
} from './context.ts';
import {
  PositionsHandle,
  poison,
  RoutingHandle,
  StateHandle,
  TensorHandle,
  type AnyHandle,
  type NamedLater,
} from './tensor.ts';
import { FunctionTrace, mistake, tracing, type ModuleTrace } from './trace.ts';
import { hasPoison, keyOf, leavesOf, rebuild, signature } from './tree.ts';
import { describe } from './words.ts';

/** What an author made with `block`. */
export interface Definition {
  readonly name: string;
  readonly run: (...args: never[]) => unknown;
  readonly parameters: readonly string[];
  readonly declaredAt: Span;
}

/** Definitions behind the functions that `block` returned. */
export const definitions = new WeakMap<object, Definition>();

/** A block as traced for one list of argument types. */
export interface Traced {
  readonly fn: Function;
  /** What the author's function returned, its handles belonging to the block. Null when it failed. */
  readonly result: { readonly value: unknown } | null;
  readonly results: readonly Exclude<AnyHandle, StateHandle>[];
  /** Nothing was wrong inside: only then can its result's type be held against the author. */
  readonly clean: boolean;
}

const tracedBlocks = new WeakMap<ModuleTrace, Map<string, Traced | 'open'>>();
/** The IR value behind a handle now. */
export const valueOf = (h: AnyHandle): NamedLater => (h instanceof StateHandle ? h.latest : h.value);

/** Refuses arguments of other functions, and one cache twice. Throws Mistake. */
export function checkOwners(t: FunctionTrace, name: string, leaves: readonly AnyHandle[]): void {
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
export function updateStates(leaves: readonly AnyHandle[], finals: readonly NamedLater[]): void {
  const states = leaves.filter((h) => h instanceof StateHandle);
  for (const [i, s] of states.entries()) s.latest = finals[i];
}

/** The author's result structure with handles on the caller's values. */
export function handlesFor(
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

/** Traces a block for these arguments, or gives back what was traced before. Throws Mistake for recursion. */
export function traceBlock(module: ModuleTrace, definition: Definition, args: readonly unknown[]): Traced {
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
  // A block that only fills its caches returns nothing; a number or text in place of a tensor is a slip.
  if (leaves.length === 0 && value !== undefined)
    return wrong(
      `returns ${describe(value)}, no tensor`,
      'return the tensor that it computes, or nothing when it only fills caches',
    );
  const values = leaves.flatMap((h) => (h instanceof StateHandle ? [] : [h]));
  if (values.length < leaves.length)
    return wrong('returns a cache', 'leave it out: a cache that a block gets is updated');
  if (values.some((h) => h.owner !== f))
    return wrong('returns a value of another block', 'return what this block computes');
  for (const h of values) {
    const stale = f.staleness(h.value);
    if (!stale) continue;
    report({
      code: 'dsl/cache-read-after-update',
      message: `block '${definition.name}' returns rows of a cache that was updated after they were read`,
      at: definition.declaredAt,
      label: `${signature(h)} is a view of the cache, not a copy`,
      notes: [
        { message: 'the rows come from here', at: stale.read },
        { message: 'the cache is updated here', at: stale.updated },
      ],
      fix: 'return only rows of the newest version, or declare a second cache',
    });
    return null;
  }
  return values;
}
