// Reverse mode over a list of ops: from the gradients of some values to those of the values they were computed from.
import { fail } from '../../ir/diagnostics.ts';
import { gradientOf, gradientType, hasGradient } from '../../ir/gradients/index.ts';
import type { FunctionBuilder } from '../../ir/builder.ts';
import type { Op, Value } from '../../ir/module.ts';
import { castTo, tensorOf } from '../../ir/ops/composite.ts';
import type { DType } from '../../ir/formats/dtypes.ts';
import { sameType } from '../../ir/types.ts';

/** Gradients by value, added up as uses are found. */
export class Cotangents {
  private readonly found = new Map<Value, Value>();
  private readonly b: FunctionBuilder;
  private readonly dtypeOf: (v: Value) => DType;

  /** `dtypeOf`: what a value's gradient is kept in. */
  constructor(b: FunctionBuilder, dtypeOf: (v: Value) => DType) {
    this.b = b;
    this.dtypeOf = dtypeOf;
  }

  get(v: Value): Value | null {
    return this.found.get(v) ?? null;
  }

  add(v: Value, gradient: Value): void {
    const type = gradientType(v, this.dtypeOf(v));
    const given = castTo(this.b, gradient, type.dtype);
    if (!sameType(given.type, type))
      throw new Error(`the gradient of %${v.name} has another shape than the value`);
    const known = this.found.get(v);
    this.found.set(v, known ? this.b.one('add', [known, given]) : given);
  }

  dtype(v: Value): DType {
    return this.dtypeOf(v);
  }
}

/** The values that change with `roots`, through `ops` in order. */
export function dependents(ops: readonly Op[], roots: Iterable<Value>): ReadonlySet<Value> {
  const active = new Set(roots);
  for (const op of ops)
    if (op.operands.some((v) => active.has(v))) for (const r of op.results) if (hasGradient(r)) active.add(r);
  return active;
}

/** Differentiates one op that calls others; true when it did. */
export type CallRule = (op: Op, cotangents: Cotangents, active: ReadonlySet<Value>) => boolean;

/**
 * Appends to the builder what turns the cotangents of results into those of `active` values, op by op backwards. Spans
 * are those of the forward ops. Throws a DiagnosticError where an op has no gradient.
 */
export function reverse(
  b: FunctionBuilder,
  ops: readonly Op[],
  cotangents: Cotangents,
  active: ReadonlySet<Value>,
  onCall: CallRule = () => false,
): void {
  for (const op of ops.toReversed()) {
    const upstream = op.results.map((r) => cotangents.get(r));
    const wanted = op.operands.map((v) => active.has(v) && hasGradient(v));
    if (upstream.every((d) => d === null) || !wanted.includes(true)) continue;
    b.span = op.span;
    if (onCall(op, cotangents, active)) continue;
    const gradient = gradientOf(op.op);
    if (gradient.kind === 'constant') continue;
    if (gradient.kind === 'none')
      fail({
        code: 'autodiff/no-gradient',
        at: op.span,
        message: `${op.op} has no gradient: ${gradient.why}`,
        fix: gradient.fix,
      });
    const dtypes = op.operands.map((v) => (v.type.kind === 'tensor' ? cotangents.dtype(v) : 'f32'));
    const context = { ...op, b, upstream, wanted, dtypes };
    for (const [i, d] of gradient.rule(context).entries())
      if (d && wanted[i]) cotangents.add(op.operands[i], d);
  }
}

/** The dtype of a value's own elements. */
export const ownDType = (v: Value): DType => (v.type.kind === 'tensor' ? tensorOf(v).dtype : 'f32');
