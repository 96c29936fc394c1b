// Builds one function: fresh names, inferred types, spans. Mistakes that an author can make come out as OpProblem;
// whoever drives the builder turns them into diagnostics at the author's line.
import type {
  Argument,
  Attributes,
  Declaration,
  DeriveExpression,
  Function,
  FunctionKind,
  Module,
  Op,
  Value,
} from './module.ts';
import { functionNamed } from './module.ts';
import { completeAttributes, problem, type InferContext, type OpBuilder } from './ops/define.ts';
import { opDefinition } from './ops/index.ts';
import { noSpan, type Span } from './span.ts';
import type { TensorType, Type } from './types.ts';

/** Result types of an application, attributes completed. Throws OpProblem. */
export function inferOp(
  name: string,
  operands: readonly Value[],
  given: Attributes,
  declared: readonly Type[] | null,
  context: InferContext,
): { types: readonly Type[]; attributes: Attributes } {
  const definition = opDefinition(name);
  checkArity(definition.name, definition.operands, operands.length);
  const attributes = completeAttributes(definition, given);
  const types = definition.infer(
    operands.map((v) => v.type),
    attributes,
    declared,
    context,
  );
  return { types, attributes };
}

function checkArity(op: string, names: readonly string[], count: number): void {
  const variadic = names.at(-1)?.endsWith('...') ?? false;
  const least = names.filter((n) => !n.endsWith('?') && !n.endsWith('...')).length;
  if (count < least || (!variadic && count > names.length))
    problem(
      `${op} takes ${names.join(', ') || 'no operands'}, but got ${count} operand${count === 1 ? '' : 's'}`,
    );
}

/** An application of an op inside a derived parameter, attributes completed as the parser completes them. */
export const deriveOp = (
  op: string,
  operands: readonly DeriveExpression[],
  attributes: Attributes,
  type: TensorType,
): DeriveExpression => ({ op, operands, attributes: completeAttributes(opDefinition(op), attributes), type });

export const inferContext = (module: Module): InferContext => ({
  module,
  callee: (name) => functionNamed(module, name),
});

export class FunctionBuilder implements OpBuilder {
  readonly context: InferContext;
  /** Where the ops built next were written. */
  span: Span = noSpan;
  private readonly ops: Op[] = [];
  private readonly args: Argument[] = [];
  private readonly declared: Declaration[] = [];
  private readonly names = new Map<string, number>();

  constructor(context: InferContext) {
    this.context = context;
  }

  /** A name not used yet: `hint`, or `hint.1`, `hint.2` … */
  fresh(hint: string): string {
    const base = hint.replace(/[^A-Za-z0-9_.]/g, '_').replace(/^(?=[0-9.])/, '_') || '_';
    const used = this.names.get(base);
    this.names.set(base, (used ?? -1) + 1);
    if (used === undefined) return base;
    const candidate = `${base}.${used + 1}`;
    return this.names.has(candidate) ? this.fresh(base) : (this.names.set(candidate, 0), candidate);
  }

  argument(hint: string, type: Type, inout = false): Value {
    const value: Value = { name: this.fresh(hint), type, source: 'argument' };
    this.args.push({ value, inout });
    return value;
  }

  /** A weight or buffer by its checkpoint name; asking twice for one name gives one declaration. */
  parameter(kind: 'parameter' | 'buffer', name: string, type: TensorType, stored: readonly number[]): Value {
    const known = this.declaration(name);
    if (known) return known.value;
    const value = { name, type, source: kind } as const;
    this.declared.push({ kind, value, stored, span: this.span });
    return value;
  }

  /** A derived parameter by name; asking twice for one name gives one declaration. */
  derived(name: string, type: TensorType, expression: DeriveExpression): Value {
    const known = this.declaration(name);
    if (known) return known.value;
    const value = { name, type, source: 'derived' } as const;
    this.declared.push({ kind: 'derived', value, expression, span: this.span });
    return value;
  }

  /** Takes over a function's arguments and declarations and keeps its values' names from being given again. */
  static rewriting(context: InferContext, f: Function): FunctionBuilder {
    const b = new FunctionBuilder(context);
    for (const a of f.arguments) b.reserve(a.value.name);
    for (const op of f.body) for (const r of op.results) b.reserve(r.name);
    b.args.push(...f.arguments);
    b.declared.push(...f.declarations);
    return b;
  }

  /** Gives up a name: the value that had it is about to be replaced by one that means the same. */
  release(name: string): void {
    this.names.delete(name);
  }

  private reserve(name: string): void {
    if (!this.names.has(name)) this.names.set(name, 0);
  }

  /** What is declared so far under a checkpoint name. */
  declaration(name: string): Declaration | undefined {
    return this.declared.find((d) => d.value.name === name);
  }

  op(
    name: string,
    operands: readonly Value[],
    attributes: Attributes = {},
    declared: readonly Type[] | null = null,
    hints: readonly string[] = [],
  ): readonly Value[] {
    const inferred = inferOp(name, operands, attributes, declared, this.context);
    const results = inferred.types.map((type, i): Value => ({
      name: this.fresh(hints[i] ?? hints[0] ?? name),
      type,
      source: 'result',
    }));
    this.ops.push({ op: name, operands, attributes: inferred.attributes, results, span: this.span });
    return results;
  }

  one(
    name: string,
    operands: readonly Value[],
    attributes: Attributes = {},
    declared?: Type,
    hint?: string,
  ): Value {
    return this.op(name, operands, attributes, declared ? [declared] : null, hint ? [hint] : [])[0];
  }

  /** Appends an op as it is (its results keep their identity); its result names are taken as used. */
  append(op: Op): void {
    for (const r of op.results) this.reserve(r.name);
    this.ops.push(op);
  }

  finish(parts: {
    kind: FunctionKind;
    name: string;
    results: readonly Value[];
    finals?: readonly Value[];
    attributes?: Attributes;
    span?: Span;
  }): Function {
    return {
      kind: parts.kind,
      name: parts.name,
      arguments: this.args,
      declarations: this.declared,
      body: this.ops,
      results: parts.results,
      finals: parts.finals ?? [],
      attributes: parts.attributes ?? {},
      span: parts.span ?? noSpan,
    };
  }
}
