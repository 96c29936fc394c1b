// The trace of one function: ops in the order the author's code made them. Ops are checked as they come, so that a
// mistake is met while the author's call is still on the stack; names are settled at the end, when every variable
// name is known.
import type { DType } from '../ir/formats/dtypes.ts';
import { FunctionBuilder, inferOp } from '../ir/builder.ts';
import type {
  Argument,
  Attributes,
  Declaration,
  DimDeclaration,
  Function,
  FunctionKind,
  Module,
  Op,
  ParameterDeclaration,
  StateDeclaration,
  Value,
} from '../ir/module.ts';
import { OpProblem, type InferContext } from '../ir/ops/define.ts';
import { sameSpan, type Span } from '../ir/span.ts';
import { sameType, showType, type Type } from '../ir/types.ts';
import type { Dim } from './axes.ts';
import { currentSpan, frames, report, siteDepth, unwindSites, type ResultNames } from './session.ts';
import {
  Handle,
  isPoison,
  poison,
  PositionsHandle,
  RoutingHandle,
  StateHandle,
  TensorHandle,
  typeOf,
  type NamedLater,
} from './tensor.ts';
import { describe } from './words.ts';

/** A mistake inside an op of the library: becomes a diagnostic at the author's call. */
export class Mistake extends Error {
  readonly code: string;
  readonly label: string | undefined;
  readonly fix: string | undefined;
  readonly from: readonly { readonly what: string; readonly at: Span }[];
  constructor(parts: {
    code: string;
    message: string;
    label?: string;
    fix?: string;
    from?: Mistake['from'];
  }) {
    super(parts.message);
    this.name = 'Mistake';
    this.code = parts.code;
    this.label = parts.label;
    this.fix = parts.fix;
    this.from = parts.from ?? [];
  }
}

export function mistake(parts: ConstructorParameters<typeof Mistake>[0]): never {
  throw new Mistake(parts);
}

/** Thrown when an operand is poison: the mistake was reported where it was made. */
const poisoned = Symbol('poisoned');

/** What is common to all functions of a model while it is traced. */
export class ModuleTrace {
  readonly name: string;
  readonly activation: DType;
  readonly attributes: Attributes;
  readonly bounds: Readonly<Record<string, number>>;
  readonly dims: DimDeclaration[] = [];
  readonly states: StateDeclaration[] = [];
  readonly functions: Function[] = [];
  private readonly functionNames = new Map<string, number>();

  constructor(parts: {
    name: string;
    activation: DType;
    attributes: Attributes;
    bounds: Readonly<Record<string, number>>;
  }) {
    this.name = parts.name;
    this.activation = parts.activation;
    this.attributes = parts.attributes;
    this.bounds = parts.bounds;
  }

  get module(): Module {
    const { name, attributes, dims, states, functions } = this;
    return { name, attributes, dims, states, functions };
  }

  readonly context: InferContext = (() => {
    const trace = (): Module => this.module;
    return {
      get module() {
        return trace();
      },
      callee: (name: string) => {
        const found = this.functions.find((f) => f.name === name);
        if (!found) throw new Error(`no traced function ${name}`);
        return found;
      },
    };
  })();

  /** A function name not used yet: `mlp`, then `mlp.1` … */
  freshFunction(name: string): string {
    const n = this.functionNames.get(name) ?? 0;
    this.functionNames.set(name, n + 1);
    return n === 0 ? name : `${name}.${n}`;
  }
}

/** One function being traced. */
export class FunctionTrace {
  readonly module: ModuleTrace;
  private readonly args: { readonly value: NamedLater; readonly hint: string; readonly inout: boolean }[] =
    [];
  private readonly ops: {
    readonly op: Op;
    readonly results: readonly NamedLater[];
    readonly hint: string;
  }[] = [];
  private readonly declarations: (ParameterDeclaration & { readonly value: NamedLater })[] = [];
  private readonly hints = new Map<NamedLater, string>();
  readonly states: StateHandle[] = [];
  /** Ragged dims that a routing of this function defines. */
  readonly slots = new Set<string>();

  constructor(module: ModuleTrace) {
    this.module = module;
  }

  argument(hint: string, type: Type, inout = false): NamedLater {
    const value: NamedLater = { name: '', type, source: 'argument' };
    this.args.push({ value, hint, inout });
    return value;
  }

  /** A value that nothing defines: what a mistake's result would have been. The module is thrown away. */
  placeholder(dtype: DType, dims: readonly Dim[]): TensorHandle {
    return new TensorHandle(
      { name: '?', type: typeOf(dtype, dims), source: 'result' },
      this,
      currentSpan(),
      dims,
    );
  }

  /** Appends an op. Throws OpProblem. */
  op(
    name: string,
    operands: readonly NamedLater[],
    attributes: Attributes,
    declared: readonly Type[] | null,
    hint = name,
  ): readonly NamedLater[] {
    const inferred = inferOp(name, operands as readonly Value[], attributes, declared, this.module.context);
    const results = inferred.types.map((type): NamedLater => ({ name: '', type, source: 'result' }));
    const op: Op = { op: name, operands, attributes: inferred.attributes, results, span: currentSpan() };
    this.ops.push({ op, results, hint });
    return results;
  }

  /** A handle on a value made just now. */
  handle(value: NamedLater, dims: readonly Dim[]): TensorHandle {
    return new TensorHandle(value, this, currentSpan(), dims);
  }

  /** Appends an op with one tensor result over the author's dims. */
  tensor(
    name: string,
    operands: readonly Handle[],
    attributes: Attributes,
    dtype: DType,
    dims: readonly Dim[],
    hint?: string,
  ): TensorHandle {
    const [value] = this.op(
      name,
      operands.map((h) => h.value),
      attributes,
      [typeOf(dtype, dims)],
      hint,
    );
    return this.handle(value, dims);
  }

  /** A weight or buffer by its name relative to the block. Asking twice gives one. Throws Mistake when types differ. */
  parameter(
    kind: 'parameter' | 'buffer',
    name: string,
    dtype: DType,
    dims: readonly Dim[],
    stored: readonly number[],
  ): TensorHandle {
    const type = typeOf(dtype, dims);
    const known = this.declarations.find((d) => d.value.name === name);
    if (known && (known.kind !== kind || !sameType(known.value.type, type)))
      mistake({
        code: 'dsl/parameter-twice',
        message: `${kind} '${name}' is declared twice in this block with different types`,
        label: `${showType(type)} here, ${showType(known.value.type)} before`,
        fix: 'give each its own name, or use one type for both',
        from: [{ what: 'declared before', at: known.span }],
      });
    const value = known?.value ?? { name, type, source: kind };
    if (!known) this.declarations.push({ kind, value, stored, span: currentSpan() });
    return this.handle(value as NamedLater, dims);
  }

  /** The author's name for a value; the first one given stays. */
  hint(value: NamedLater, name: string): void {
    if (value.source === 'result' && !this.hints.has(value)) this.hints.set(value, name);
  }

  get argumentsMade(): readonly Argument[] {
    return this.args as readonly Argument[];
  }

  finish(parts: {
    kind: FunctionKind;
    name: string;
    results: readonly NamedLater[];
    finals: readonly NamedLater[];
    span: Span;
  }): Function {
    const names = new FunctionBuilder(this.module.context);
    for (const a of this.args) a.value.name = names.fresh(a.hint);
    for (const { results, hint } of this.ops)
      for (const r of results) r.name = names.fresh(this.hints.get(r) ?? this.stateName(r) ?? hint);
    return {
      kind: parts.kind,
      name: parts.name,
      arguments: this.args.map(({ value, inout }) => ({ value, inout })),
      declarations: this.declarations as readonly Declaration[],
      body: this.ops.map(({ op }) => op),
      results: parts.results,
      finals: parts.finals,
      attributes: {},
      span: parts.span,
    };
  }

  /** New values of a state are named after its argument: `%cache.1`. */
  private stateName(value: NamedLater): string | null {
    if (value.type.kind !== 'state') return null;
    const { state } = value.type;
    return (
      this.args.find((a) => a.value.type.kind === 'state' && a.value.type.state === state)?.hint ?? state
    );
  }
}

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
    if (e instanceof Mistake) {
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

function own<H extends { readonly owner: FunctionTrace }>(
  op: string,
  role: string,
  handle: H,
  at: Span | null,
): H {
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
  if (isPoison(value)) throw poisoned;
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
  if (values.some(isPoison)) throw poisoned;
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
