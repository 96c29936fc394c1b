// What every op of the library does around its work: finds the function being traced, checks what it was given, and
// turns mistakes into diagnostics at the author's call.
import { OpProblem } from '../ir/ops/define.ts';
import { sameSpan, type Span } from '../ir/span.ts';
import { FunctionTrace, ModuleTrace } from './function-trace.ts';
import { Mistake, mistake } from './mistake.ts';
import { frames, nanReported, report, siteDepth, unwindSites, type ResultNames } from './context.ts';
import {
  Handle,
  isPoison,
  poison,
  PositionsHandle,
  RoutingHandle,
  StateHandle,
  TensorHandle,
  type Owner,
} from './tensor.ts';
import { describe } from './words.ts';

export { FunctionTrace, mistake, ModuleTrace };

/** Thrown when an operand is poison: the mistake was reported where it was made. */
const poisoned = Symbol('poisoned');

let current: FunctionTrace | null = null;

/** The function being traced. Throws Mistake outside of one. */
export function trace(what: string): FunctionTrace {
  if (!current)
    mistake({
      code: 'dsl/outside-trace',
      message: `${what} is called outside of a model`,
      fix: `call it inside a block's function or the model's forward`,
    });
  return current;
}

/** Runs `body` with `f` as the function being traced. */
export function tracing<T>(f: FunctionTrace, body: () => T): T {
  const outer = current;
  current = f;
  try {
    return body();
  } finally {
    current = outer;
  }
}

/**
 * Runs an op of the library: its mistakes become diagnostics at the author's call. The result of a failed call is
 * `recover`'s (a placeholder of the type that was meant), or poison.
 */
export function attempt<T>(
  name: string,
  body: (t: FunctionTrace) => T,
  recover?: (t: FunctionTrace) => T,
): T {
  const depth = siteDepth();
  try {
    const result = body(trace(name));
    // A layer made of ops: one of them failed and said so.
    return recover && isPoison(result) ? recovered(recover) : result;
  } catch (e) {
    unwindSites(depth);
    if (e === poisoned) return recover ? recovered(recover) : (poison as T);
    if (e instanceof Mistake && e.code === 'dsl/not-a-number' && nanReported()) {
      // The arithmetic that gave NaN has been reported.
    } else if (e instanceof Mistake) {
      // What a block was given comes from its call, which the chain of calls names anyway.
      const called = frames().at(-1)?.called;
      const from = e.from.filter((f) => !called || !sameSpan(f.at, called));
      report({
        code: e.code,
        message: e.message,
        ...(e.label === undefined ? {} : { label: e.label }),
        ...(e.fix === undefined ? {} : { fix: e.fix }),
        ...(from.length > 0 ? { notes: from.map((f) => ({ message: f.what, at: f.at })) } : {}),
      });
    } else if (e instanceof OpProblem)
      report({
        code: 'dsl/op-refused',
        message: `${name}: ${e.message}`,
        ...(e.fix === null ? {} : { fix: e.fix }),
      });
    else throw e;
    return recover ? recovered(recover) : (poison as T);
  }
}

function recovered<T>(recover: (t: FunctionTrace) => T): T {
  try {
    return current ? recover(current) : (poison as T);
  } catch {
    return poison as T;
  }
}

function own<H extends { readonly owner: Owner }>(op: string, role: string, handle: H, at: Span | null): H {
  if (current && handle.owner !== current)
    mistake({
      code: 'dsl/captured-value',
      message: `${op}: ${role} belongs to another block`,
      label: 'a block sees only its own arguments',
      fix: 'pass it to the block as an argument',
      ...(at ? { from: [{ what: 'it comes from here', at }] } : {}),
    });
  return handle;
}

function wrong(op: string, role: string, wanted: string, got: unknown): never {
  mistake({
    code: 'dsl/wrong-argument',
    message: `${op} needs ${wanted} as ${role}`,
    label: `${role} is ${got instanceof Handle || got instanceof StateHandle ? showHandle(got) : describe(got)}`,
    fix: `pass ${wanted}`,
  });
}

const showHandle = (h: Handle | StateHandle): string =>
  h instanceof StateHandle ? `the cache ${h.state}` : String(h);

/** The argument as a tensor of the function being traced. */
export function tensorArg(op: string, role: string, value: unknown): TensorHandle {
  refusePoison(value);
  if (!(value instanceof TensorHandle)) wrong(op, role, 'a tensor', value);
  return own(op, role, value, value.madeAt);
}

export function positionsArg(op: string, value: unknown): PositionsHandle {
  if (isPoison(value)) throw poisoned;
  if (!(value instanceof PositionsHandle)) wrong(op, 'at', "the positions that forward gets ('at')", value);
  return own(op, 'at', value, null);
}

export function routingArg(op: string, value: unknown): RoutingHandle {
  if (isPoison(value)) throw poisoned;
  if (!(value instanceof RoutingHandle)) wrong(op, 'routing', 'a routing made by route', value);
  return own(op, 'routing', value, value.madeAt);
}

/** One cache, not the list of all layers'. */
export function stateArg(op: string, value: unknown): StateHandle {
  if (isPoison(value)) throw poisoned;
  if (!(value instanceof StateHandle)) wrong(op, 'cache', 'a cache', value);
  if (value.count !== null)
    mistake({
      code: 'dsl/cache-of-all-layers',
      message: `${op} works on one layer's cache, but this holds ${value.count}`,
      label: `${value.state}[${value.count}]`,
      fix: 'pass it to repeat, which hands each layer its own',
    });
  return own(op, 'cache', value, null);
}

/** Fails when the operands' mistake was reported already. */
export function refusePoison(...values: readonly unknown[]): void {
  if (values.some((v) => isPoison(v) || (Number.isNaN(v) && nanReported()))) throw poisoned;
}

/** Gives what a call returned the names of the author's variables. */
export function nameResult(result: unknown, names: ResultNames | null): void {
  if (names === null || isPoison(result)) return;
  if (typeof names === 'string') {
    if (result instanceof Handle) result.owner.hint(result.value, names);
    return;
  }
  if (typeof result !== 'object' || result === null) return;
  const fields = result as Readonly<Record<string | number, unknown>>;
  const each = Array.isArray(names)
    ? names.entries()
    : Object.entries(names as Readonly<Record<string, string>>);
  for (const [key, name] of each) if (name !== null) nameResult(fields[key], name);
}
