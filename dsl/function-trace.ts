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
import type { InferContext } from '../ir/ops/define.ts';
import type { Span } from '../ir/span.ts';
import { sameType, showType, type Type } from '../ir/types.ts';
import type { Dim } from './axes.ts';
import { mistake } from './mistake.ts';
import { currentSpan } from './context.ts';
import { StateHandle, TensorHandle, typeOf, type Handle, type NamedLater, type Owner } from './tensor.ts';

/** What is common to all functions of a model while it is traced. */
export class ModuleTrace {
  readonly name: string;
  readonly activation: DType;
  readonly attributes: Attributes;
  readonly bounds: Readonly<Record<string, number>>;
  readonly dims: DimDeclaration[] = [];
  readonly states: StateDeclaration[] = [];
  readonly functions: Function[] = [];
  /** Results of a traced function that look into a cache, each with the place of that cache's argument. */
  readonly viewsReturned = new WeakMap<Function, readonly View[]>();
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
    return { name, attributes, dims, states, functions, schedules: [] };
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

/** No number of a model is NaN: it comes from arithmetic on something else, and would spread without a word. */
function refuseNaN(op: string, key: string, value: unknown): void {
  const at = Array.isArray(value) ? value.findIndex((v) => Number.isNaN(v)) : -1;
  if (!Number.isNaN(value) && at < 0) return;
  mistake({
    code: 'dsl/not-a-number',
    message: op === 'const' ? 'a constant is NaN' : `${op}: ${key} is NaN`,
    ...(at < 0 ? {} : { label: `number ${at} of the list` }),
    fix: 'look at the arithmetic that gives it: undefined and texts become NaN',
  });
}

/** Result `result` looks into the state that argument `argument` brings in. */
interface View {
  readonly result: number;
  readonly argument: number;
}

/** One function being traced. */
export class FunctionTrace implements Owner {
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
  /** What was read from a cache, and the version of the cache that it looks into: there is one buffer for all. */
  private readonly views = new Map<NamedLater, { readonly version: NamedLater; readonly at: Span }>();
  /** Where each older version of a cache was updated. */
  private readonly updated = new Map<NamedLater, Span>();
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

  /** Appends an op. Throws OpProblem; Mistake when an operand looks into rows that were overwritten since. */
  op(
    name: string,
    operands: readonly NamedLater[],
    attributes: Attributes,
    declared: readonly Type[] | null,
    hint = name,
  ): readonly NamedLater[] {
    for (const v of operands) this.refuseStale(name, v);
    for (const [key, value] of Object.entries(attributes)) refuseNaN(name, key, value);
    const inferred = inferOp(name, operands as readonly Value[], attributes, declared, this.module.context);
    const results = inferred.types.map((type): NamedLater => ({ name: '', type, source: 'result' }));
    const op: Op = { op: name, operands, attributes: inferred.attributes, results, span: currentSpan() };
    this.ops.push({ op, results, hint });
    this.follow(op);
    return results;
  }

  /** Where a value was read from a cache and where that was updated since; null for a value that is still good. */
  staleness(value: NamedLater): { readonly read: Span; readonly updated: Span } | null {
    const view = this.views.get(value);
    const updated = view && this.updated.get(view.version);
    return view && updated ? { read: view.at, updated } : null;
  }

  private refuseStale(op: string, value: NamedLater): void {
    const stale = this.staleness(value);
    if (stale)
      mistake({
        code: 'dsl/cache-read-after-update',
        message: `${op} uses rows of a cache that was updated after they were read`,
        label: `${showType(value.type)} is a view of the cache, not a copy`,
        fix: 'use the rows before the next update of this cache, or declare a second cache',
        from: [
          { what: 'the rows come from here', at: stale.read },
          { what: 'the cache is updated here', at: stale.updated },
        ],
      });
  }

  /** Notes which results look into a cache, and which version of a cache an op replaces. */
  private follow({ op, operands, results, attributes, span }: Op): void {
    const before = operands.filter((v) => v.type.kind === 'state');
    if (before.length === 0) return;
    const after = results.filter((v) => v.type.kind === 'state');
    for (const [i] of after.entries()) this.updated.set(before[i], span);
    const look = (result: NamedLater, version: NamedLater): void =>
      void this.views.set(result, { version, at: span });
    if (op === 'cache_read') for (const r of results) look(r, before[0]);
    if (op === 'remember') for (const r of results) if (r.type.kind !== 'state') look(r, after[0]);
    if (typeof attributes.callee !== 'string') return;
    // What a block gives of its cache looks into the cache as the block leaves it.
    for (const { result, argument } of this.module.viewsReturned.get(
      this.module.context.callee(attributes.callee),
    ) ?? [])
      look(results[result], after[before.indexOf(operands[argument])]);
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
    const fn: Function = {
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
    const finals = fn.arguments.flatMap((a, i) => (a.inout ? [i] : []));
    const views = parts.results.flatMap((r, result) => {
      const version = this.views.get(r)?.version;
      const i = version ? parts.finals.indexOf(version) : -1;
      return i < 0 ? [] : [{ result, argument: finals[i] }];
    });
    if (views.length > 0) this.module.viewsReturned.set(fn, views);
    return fn;
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
