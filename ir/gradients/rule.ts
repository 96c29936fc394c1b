// What a gradient rule gets and gives. Rules append ops through the builder; whoever runs them (compiler/autodiff, tests)
// adds up what several uses of one value give.
import type { DType } from '../formats/dtypes.ts';
import { isFloat } from '../formats/index.ts';
import type { Attributes, Value } from '../module.ts';
import type { OpBuilder } from '../ops/define.ts';
import { tensor, type TensorType } from '../types.ts';

export interface GradientContext {
  readonly b: OpBuilder;
  readonly operands: readonly Value[];
  readonly results: readonly Value[];
  readonly attributes: Attributes;
  /**
   * d loss / d result, of the result's type; null for results that the loss does not depend on (at least one is not).
   * A routing's is that of its weights: f32[tokens, top].
   */
  readonly upstream: readonly (Value | null)[];
  /** Which operands' gradients are wanted: values' and weights' are asked for apart, so rules must not compute others. */
  readonly wanted: readonly boolean[];
  /** What the gradient of an operand is declared as: the operand's dtype, or f32 for weights. */
  readonly dtypes: readonly DType[];
}

/** The gradient of each operand; null where none is wanted or the operand has none. */
export type GradientRule = (g: GradientContext) => readonly (Value | null)[];

/**
 * How an op is differentiated: by a rule; or not at all, because its results do not change smoothly with its operands
 * (`constant`), or because it must not stand where gradients flow (`none`, with what to say then).
 */
export type Gradient =
  | { readonly kind: 'rule'; readonly rule: GradientRule }
  | { readonly kind: 'constant' }
  | { readonly kind: 'none'; readonly why: string; readonly fix: string };

export const rule = (r: GradientRule): Gradient => ({ kind: 'rule', rule: r });
export const constant: Gradient = { kind: 'constant' };
export const none = (why: string, fix: string): Gradient => ({ kind: 'none', why, fix });

/** Only floats have gradients. */
export const hasGradient = (v: Value): boolean =>
  v.type.kind === 'routing' ||
  (v.type.kind === 'tensor' && isFloat(v.type.dtype) && v.type.scales.length === 0);

/** The type of a value's gradient. */
export const gradientType = (v: Value, dtype: DType): TensorType =>
  v.type.kind === 'routing'
    ? tensor('f32', [v.type.tokens, v.type.top])
    : tensor(dtype, (v.type as TensorType).dims);
