// What the compiler knows about an op, in one record. Parser, printer, verifier, interpreter, cost model and tests
// read it; the table that lists every op is ir/ops/index.ts.
import type { Attribute, Attributes, Function, Module, Value } from '../module.ts';
import type { Type } from '../types.ts';
import type { ReferenceContext, RuntimeValue } from '../interpret/values.ts';

/** How passes and backends treat an op without knowing it by name. */
export type OpClass =
  /** Each output element depends on the same element of every operand. */
  | 'pointwise'
  /** Moves or repeats elements, computes nothing: reshape, slice, broadcast, gather … */
  | 'view'
  /** Combines elements along some axes. */
  | 'reduction'
  /** Sums products: matmul and its kin. */
  | 'contraction'
  /** Values to codes with scales, and back. */
  | 'scaling'
  /** Has a decomposition into the classes above. */
  | 'composite'
  /** Choosing experts, grouping rows by expert and back. */
  | 'routing'
  /** Reads or writes a state. */
  | 'state'
  /** Calls other functions. */
  | 'structure';

/** What is wrong with an application of an op, said in the author's terms. */
export class OpProblem extends Error {
  /** The operand or attribute that is at fault, by its name in the definition. */
  readonly at: string | null;
  readonly fix: string | null;
  constructor(message: string, at: string | null = null, fix: string | null = null) {
    super(message);
    this.name = 'OpProblem';
    this.at = at;
    this.fix = fix;
  }
}

/** Throws an OpProblem; usable where a value is expected. */
export function problem(message: string, at: string | null = null, fix: string | null = null): never {
  throw new OpProblem(message, at, fix);
}

export type AttributeKind = 'integer' | 'number' | 'boolean' | 'string' | 'integers' | 'numbers' | 'strings';

export interface AttributeSpec {
  readonly kind: AttributeKind;
  /** The value it has when it is not written; without one the attribute is required. */
  readonly default?: Attribute;
  /** For strings: what may be written. */
  readonly oneOf?: readonly string[];
  readonly doc: string;
}

export interface InferContext {
  readonly module: Module;
  /** The callee of a structure op. */
  readonly callee: (name: string) => Function;
}

/** Floating-point operations (2 per multiply-accumulate) and bytes read and written, run-time dims at their sizes. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/** Sizes for run-time dims, by name. */
export type DimSizes = (name: string) => number;

export interface OpDefinition {
  readonly name: string;
  readonly class: OpClass;
  /** One line for `dsvc` help and docs. */
  readonly doc: string;
  /** Names in order; `name?` may be absent (only at the end), a last `name...` takes any number. */
  readonly operands: readonly string[];
  readonly attributes: Readonly<Record<string, AttributeSpec>>;
  /**
   * Result types from operand types and attributes (defaults filled in). `declared` holds the types written in the
   * text or wanted by the builder, for ops whose result is not determined otherwise (reshape, cast, const …): such an
   * op checks them and gives them back. Throws OpProblem.
   */
  infer(
    operands: readonly Type[],
    attributes: Attributes,
    declared: readonly Type[] | null,
    context: InferContext,
  ): readonly Type[];
  /** The meaning. Computes in f64; the interpreter rounds each result to its type's dtype afterwards. */
  reference?(
    inputs: readonly RuntimeValue[],
    attributes: Attributes,
    context: ReferenceContext,
  ): readonly RuntimeValue[];
  /** Composite ops: the same results from simpler ops, appended through the builder. */
  decompose?(
    b: OpBuilder,
    operands: readonly Value[],
    attributes: Attributes,
    results: readonly Type[],
  ): readonly Value[];
  /** Without one: no FLOPs, and the bytes of every operand and result once. */
  cost?(operands: readonly Type[], results: readonly Type[], attributes: Attributes, sizes: DimSizes): Cost;
}

/** The part of the builder that decompositions use; `type` is required where `infer` cannot know the result. */
export interface OpBuilder {
  op(
    name: string,
    operands: readonly Value[],
    attributes?: Attributes,
    declared?: readonly Type[],
  ): readonly Value[];
  one(name: string, operands: readonly Value[], attributes?: Attributes, declared?: Type): Value;
}

export const defineOp = <const D extends OpDefinition>(definition: D): D => definition;

/** What any op may carry beside its own attributes: annotations of passes. */
export const commonAttributes: Readonly<Record<string, AttributeSpec>> = {
  memory: {
    kind: 'integers',
    default: [],
    doc: 'byte offset of each result in the arena, −1 for results that need no buffer of their own (plan-memory)',
  },
};

/** Fills defaults in and refuses unknown, missing or ill-typed attributes. Throws OpProblem. */
export function completeAttributes(definition: OpDefinition, given: Attributes): Attributes {
  const out: Record<string, Attribute> = {};
  const specs = { ...definition.attributes, ...commonAttributes };
  for (const [name, spec] of Object.entries(specs)) {
    const value = given[name] ?? spec.default;
    if (value === undefined) problem(`${definition.name} needs the attribute ${name}: ${spec.doc}`, name);
    if (!hasKind(value, spec.kind))
      problem(`${definition.name}: attribute ${name} must be ${article(spec.kind)}`, name);
    if (spec.oneOf && !spec.oneOf.includes(String(value)))
      problem(`${definition.name}: ${name} is ${String(value)}`, name, `use one of ${spec.oneOf.join(', ')}`);
    out[name] = value;
  }
  for (const name of Object.keys(given))
    if (!(name in specs)) {
      const known = Object.keys(definition.attributes);
      problem(
        `${definition.name} has no attribute ${name}`,
        name,
        known.length > 0 ? `it takes ${known.join(', ')}` : 'it takes none',
      );
    }
  return out;
}

const article = (kind: AttributeKind): string =>
  ({
    integer: 'an integer',
    number: 'a number',
    boolean: 'true or false',
    string: 'a name or a string',
    integers: 'a list of integers',
    numbers: 'a list of numbers',
    strings: 'a list of names',
  })[kind];

function hasKind(value: Attribute, kind: AttributeKind): boolean {
  switch (kind) {
    case 'integer':
      return Number.isSafeInteger(value);
    case 'number':
      return typeof value === 'number';
    case 'boolean':
      return typeof value === 'boolean';
    case 'string':
      return typeof value === 'string';
    case 'integers':
      return Array.isArray(value) && value.every((v) => Number.isSafeInteger(v));
    case 'numbers':
      return Array.isArray(value) && value.every((v) => typeof v === 'number');
    case 'strings':
      return Array.isArray(value) && value.every((v) => typeof v === 'string');
  }
}
