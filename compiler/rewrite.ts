// What passes share: rewriting a function op by op, inlining, dead code, and looking things up.
import { FunctionBuilder, inferContext } from '../ir/builder.ts';
import type { Declaration, DeriveExpression, Function, Module, Op, Value } from '../ir/module.ts';
import { mapDims, type Dim, type TensorType, type Type } from '../ir/types.ts';

/** A function while a pass rewrites it: old values map to new ones as ops are replaced. */
export class Rewriter {
  readonly b: FunctionBuilder;
  private readonly replaced = new Map<Value, Value>();

  constructor(module: Module, f: Function) {
    this.b = FunctionBuilder.rewriting(inferContext(module), f);
  }

  /** The value that stands for `v` now. */
  now(v: Value): Value {
    let current = v;
    for (let next = this.replaced.get(current); next; next = this.replaced.get(current)) current = next;
    return current;
  }

  replace(old: Value, by: Value): void {
    if (old !== by) this.replaced.set(old, by);
  }

  /** Appends an op unchanged but for replaced operands; its results keep their identity. */
  keep(op: Op): void {
    const operands = op.operands.map((v) => this.now(v));
    this.b.append(operands.every((v, i) => v === op.operands[i]) ? op : { ...op, operands });
  }

  get changed(): boolean {
    return this.replaced.size > 0;
  }
}

/**
 * Visits every op in order; `visit` returns true when it has dealt with the op (built a replacement), false to keep it.
 * Gives back `f` itself when nothing was replaced, else the new function without dead ops and declarations.
 */
export function rewriteFunction(
  module: Module,
  f: Function,
  visit: (op: Op, r: Rewriter) => boolean,
): Function {
  const r = new Rewriter(module, f);
  let handled = false;
  for (const op of f.body) {
    r.b.span = op.span;
    // A replacement may carry on the author's name; if the op is kept, so is its name.
    for (const v of op.results) r.b.release(v.name);
    if (visit(op, r)) handled = true;
    else r.keep(op);
  }
  if (!handled && !r.changed) return f;
  const built = r.b.finish({
    kind: f.kind,
    name: f.name,
    results: f.results.map((v) => r.now(v)),
    finals: f.finals.map((v) => r.now(v)),
    attributes: f.attributes,
    span: f.span,
  });
  return dropDead(built);
}

/** Removes ops and declarations that no result depends on. Every op is pure, states included. */
export function dropDead(f: Function): Function {
  const live = new Set<Value>([...f.results, ...f.finals]);
  const body: Op[] = [];
  for (let i = f.body.length - 1; i >= 0; i--) {
    const op = f.body[i];
    if (!op.results.some((v) => live.has(v))) continue;
    for (const v of op.operands) live.add(v);
    body.push(op);
  }
  const names = new Set<string>();
  const note = (e: DeriveExpression): void => {
    if ('parameter' in e) names.add(e.parameter);
    else e.operands.forEach(note);
  };
  for (const d of f.declarations) if (d.kind === 'derived' && live.has(d.value)) note(d.expression);
  const declarations = f.declarations.filter(
    (d) => live.has(d.value) || (d.kind !== 'derived' && names.has(d.value.name)),
  );
  if (body.length === f.body.length && declarations.length === f.declarations.length) return f;
  return { ...f, body: body.reverse(), declarations };
}

/** Maps every function that is not a kernel; gives back the module itself when none changed. */
export function mapBlocks(module: Module, change: (f: Function) => Function): Module {
  const functions = module.functions.map((f) => (f.kind === 'kernel' ? f : change(f)));
  return functions.every((f, i) => f === module.functions[i]) ? module : { ...module, functions };
}

/** The op that defines each value of a function. */
export function definitions(f: Function): ReadonlyMap<Value, Op> {
  const out = new Map<Value, Op>();
  for (const op of f.body) for (const r of op.results) out.set(r, op);
  return out;
}

/** How often each value is read, the function's results included. */
export function useCounts(f: Function): ReadonlyMap<Value, number> {
  const out = new Map<Value, number>();
  const count = (v: Value): void => void out.set(v, (out.get(v) ?? 0) + 1);
  for (const op of f.body) op.operands.forEach(count);
  f.results.forEach(count);
  f.finals.forEach(count);
  return out;
}

/** Puts a prefix before every parameter name of an expression. */
export const prefixExpression = (e: DeriveExpression, prefix: string): DeriveExpression =>
  'parameter' in e
    ? { parameter: prefix + e.parameter }
    : { ...e, operands: e.operands.map((x) => prefixExpression(x, prefix)) };

/**
 * Appends a function's body to a builder: arguments stand for `operands`, weights get `prefix`, dims are rewritten.
 * `each` may append something else for an op (given with mapped operands) and return the values of its results.
 */
export function inline(
  b: FunctionBuilder,
  f: Function,
  operands: readonly Value[],
  prefix: string,
  onDim: (d: Dim) => Dim,
  each: (op: Op, operands: readonly Value[], prefix: string) => readonly Value[] | null = () => null,
): { results: readonly Value[]; finals: readonly Value[] } {
  const map = new Map<Value, Value>();
  const retype = <T extends Type>(t: T): T => mapDims(t, onDim) as T;
  f.arguments.forEach((a, i) => map.set(a.value, operands[i]));
  const outer = b.span;
  for (const d of f.declarations) {
    b.span = d.span;
    map.set(d.value, declareAgain(b, d, prefix, retype));
  }
  const now = (v: Value): Value => {
    const found = map.get(v);
    if (!found) throw new Error(`inline @${f.name}: value ${v.name} is used before it is defined`);
    return found;
  };
  for (const op of f.body) {
    b.span = op.span;
    const mapped = op.operands.map(now);
    const results =
      each(op, mapped, prefix) ??
      b.op(
        op.op,
        mapped,
        op.attributes,
        op.results.map((r) => retype(r.type)),
        op.results.map((r) => r.name),
      );
    op.results.forEach((r, i) => map.set(r, results[i]));
  }
  b.span = outer;
  return { results: f.results.map(now), finals: f.finals.map(now) };
}

function declareAgain(
  b: FunctionBuilder,
  d: Declaration,
  prefix: string,
  retype: (t: TensorType) => TensorType,
): Value {
  const name = prefix + d.value.name;
  if (d.kind === 'derived')
    return b.derived(name, retype(d.value.type), prefixExpression(d.expression, prefix));
  return b.parameter(d.kind, name, retype(d.value.type), d.stored);
}
