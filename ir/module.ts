// The IR itself: a module of functions in SSA form, all plain immutable data. A pass maps one module to another.
// Values are compared by identity; their names serve people and text only.
import type { Schedule } from './schedule.ts';
import type { Span } from './span.ts';
import type { Dim, TensorType, Type } from './types.ts';

export type Attribute = number | string | boolean | readonly Attribute[];
export type Attributes = Readonly<Record<string, Attribute>>;

/** What defines a value: an argument of its function, a declaration (weights by name), or an op. */
export interface Value {
  /** Unique in its function, without the leading `%`; for declarations the checkpoint's relative name. */
  readonly name: string;
  readonly type: Type;
  readonly source: 'argument' | 'parameter' | 'buffer' | 'derived' | 'result';
}

/**
 * One application of an op. `op` is a key of the op table (ir/ops): every fact about it is there.
 * Structure ops (`call`, `repeat`, `launch`) name their callee in `attributes.callee`.
 */
export interface Op {
  readonly op: string;
  readonly operands: readonly Value[];
  readonly attributes: Attributes;
  readonly results: readonly Value[];
  readonly span: Span;
}

/** A weight of the checkpoint by its name, relative to the call's prefix; `{experts}` in the name stacks axis 0. */
export interface ParameterDeclaration {
  readonly kind: 'parameter' | 'buffer';
  readonly value: Value & { readonly type: TensorType };
  /** Shape in the checkpoint (of one expert when stacked): the declared dims merge or split its axes in order. */
  readonly stored: readonly number[];
  readonly span: Span;
}

/** What the runtime computes once at load (in training, after each optimizer step): an expression over parameters. */
export interface DerivedDeclaration {
  readonly kind: 'derived';
  readonly value: Value & { readonly type: TensorType };
  readonly expression: DeriveExpression;
  readonly span: Span;
}

export type Declaration = ParameterDeclaration | DerivedDeclaration;

/** A parameter by name, or an op of the op table over such expressions. */
export type DeriveExpression =
  | { readonly parameter: string }
  | {
      readonly op: string;
      readonly operands: readonly DeriveExpression[];
      readonly attributes: Attributes;
      readonly type: TensorType;
    };

export interface Argument {
  readonly value: Value;
  /** Updated in place: the function also returns its final value. */
  readonly inout: boolean;
}

/**
 * `entry`: what a host calls. `block`: a layer or a part of one, called with a prefix for its weights' names.
 * `kernel`: one launch; its body says what it computes and `attributes` how (family, tile, …).
 */
export type FunctionKind = 'entry' | 'block' | 'kernel';

export interface Function {
  readonly kind: FunctionKind;
  readonly name: string;
  readonly arguments: readonly Argument[];
  readonly declarations: readonly Declaration[];
  readonly body: readonly Op[];
  /** What it returns, without the final values of its inout arguments … */
  readonly results: readonly Value[];
  /** … which stand here, one per inout argument in order. */
  readonly finals: readonly Value[];
  readonly attributes: Attributes;
  readonly span: Span;
}

/**
 * A run-time size. `bound` is the largest value that buffers are planned for.
 * `ragged` dims count rows grouped by expert: `per` rows for each element of `of`, every group's start aligned to
 * `align`; with `groups` groups at most min(groups, per·of)·(align−1) rows are padding, which is where `bound` comes from.
 */
export interface DimDeclaration {
  readonly name: string;
  readonly bound: number;
  readonly ragged?: {
    readonly of: string;
    readonly per: number;
    readonly groups: number;
    readonly align: number;
  };
}

/** How a state grows: rows in pages of `page`, a ring of the last rows, or a fixed-size recurrent state. */
export type StatePolicy = 'paged' | 'ring' | 'recurrent';

export interface StateDeclaration {
  readonly name: string;
  readonly policy: StatePolicy;
  /** Rows per page (paged) or rows kept (ring); 0 for recurrent. */
  readonly page: number;
  /** Fields by name; axis 0 is the cache's row axis (a module dim), except in recurrent states. */
  readonly fields: readonly { readonly name: string; readonly type: TensorType }[];
}

export interface Module {
  readonly name: string;
  /** Numeric plan, target and the like: what passes consult and dumps reproduce. */
  readonly attributes: Attributes;
  readonly dims: readonly DimDeclaration[];
  readonly states: readonly StateDeclaration[];
  /** Callees before callers. */
  readonly functions: readonly Function[];
  /** Pipeline schedules of training steps. */
  readonly schedules: readonly Schedule[];
}

/** The largest number of rows a ragged dim can hold for `count` elements of its parent. */
export const raggedBound = (r: NonNullable<DimDeclaration['ragged']>, count: number): number =>
  count * r.per + Math.min(r.groups, count * r.per) * (r.align - 1);

/** The size of a dim for planning: static, or its declared bound. */
export function boundOf(module: Module, d: Dim): number {
  if (d.size !== null) return d.size;
  const declared = module.dims.find((x) => x.name === d.name);
  if (!declared) throw new Error(`boundOf: dim ${d.name} is not declared`);
  return declared.bound;
}

export function functionNamed(module: Module, name: string): Function {
  const found = module.functions.find((f) => f.name === name);
  if (!found) throw new Error(`functionNamed: no function @${name}`);
  return found;
}

/** The inout arguments of a function, in order. */
export const inoutArguments = (f: Function): readonly Argument[] => f.arguments.filter((a) => a.inout);

export const withFunctions = (module: Module, functions: readonly Function[]): Module => ({
  ...module,
  functions,
});

/** Structure ops and the function they name. */
export const calleeOf = (op: Op): string | null =>
  op.op === 'call' || op.op === 'repeat' || op.op === 'launch' ? String(op.attributes.callee) : null;
