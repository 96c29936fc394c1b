// What the reference interpreter computes with: every element an f64 that is already rounded to its dtype.
// Simple before fast; ints are exact up to 2^53.
import type { DType } from '../formats/dtypes.ts';
import type { Type } from '../types.ts';

/** Row-major. For a scaled type `data` holds the decoded codes and `scales` one array per level. */
export interface TensorData {
  readonly kind: 'tensor';
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Float64Array;
  readonly scales: readonly { readonly shape: readonly number[]; readonly data: Float64Array }[];
}

export interface PositionsData {
  readonly kind: 'positions';
  /** Position of each token in its sequence. */
  readonly position: Int32Array;
  /** Sequence of each token. */
  readonly sequence: Int32Array;
  /** Rows of tokens whose outputs are wanted. */
  readonly outputs: Int32Array;
  /**
   * Where position p of sequence s lies in the cache: row pages[s][floor(p / page)]·page + p mod page.
   * In packed form (`packed`) the keys are the tokens themselves and this only says where the cache rows go.
   */
  readonly pages: readonly Int32Array[];
  readonly page: number;
  readonly packed: boolean;
}

export interface RoutingData {
  readonly kind: 'routing';
  readonly tokens: number;
  readonly experts: number;
  readonly top: number;
  /** [tokens · top], in descending order of choice. */
  readonly indices: Int32Array;
  /** [tokens · top], aligned with `indices`. */
  readonly weights: Float64Array;
  /** Start row of each expert's group, aligned; [experts + 1], the last is the number of slots. */
  readonly offsets: Int32Array;
  /** Token of each slot, −1 for padding; [slots]. */
  readonly tokenOf: Int32Array;
  /** Which of the token's `top` choices a slot is, −1 for padding; [slots]. */
  readonly choiceOf: Int32Array;
  /** Slot of each token's choice; [tokens · top]. */
  readonly slotOf: Int32Array;
}

/** Mutable on purpose: the interpreter updates states in place, as the plan does. One entry of `layers` per state. */
export interface StateData {
  readonly kind: 'state';
  readonly layers: readonly { readonly fields: Readonly<Record<string, TensorData>> }[];
}

export type RuntimeValue = TensorData | PositionsData | RoutingData | StateData;

export interface ReferenceContext {
  /** Declared types of the op's operands: a run-time scaled tensor does not say how it is tiled. */
  readonly operands: readonly Type[];
  /** Declared result types of the op. */
  readonly results: readonly Type[];
  /** Run-time sizes of dims, by name. Throws for a dim that nothing has bound yet. */
  size(name: string): number;
  /** Shape of a type's dims at run time. */
  shapeOf(type: Type): readonly number[];
  /** Alignment of a ragged dim's groups. */
  alignOf(raggedDim: string): number;
  /** With `--numerics=f64` rounding is off: references that round inside (promotion, quantisation) consult this. */
  readonly rounding: boolean;
}
