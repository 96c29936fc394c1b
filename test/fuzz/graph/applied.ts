// What the rules of enclose.ts are given.
import type { RoutingData, RuntimeValue, TensorData } from '../../../ir/interpret/values.ts';
import type { Op } from '../../../ir/module.ts';
import type { Ends } from './ends.ts';

/** A routing: whether its choices are sure, and the ends of its weights. */
export interface RoutingEnds {
  readonly sure: boolean;
  readonly lo: Float64Array;
  readonly hi: Float64Array;
}

/** The ends of all values so far. */
export interface EnclosureOf {
  of(v: TensorData): Ends;
  set(v: object, ends: Ends): void;
  routing(r: RoutingData): RoutingEnds;
  setRouting(r: RoutingData, ends: RoutingEnds): void;
  /** A composite's ends, by its decomposition. */
  decomposed(a: Applied): readonly Ends[];
}

/** One op, as rules see it. */
export interface Applied {
  readonly op: Op;
  readonly inputs: readonly RuntimeValue[];
  readonly outputs: readonly RuntimeValue[];
  /** Ends of operand number i, a tensor. */
  readonly ends: (i: number) => Ends;
  /** How many times an op's own slack. */
  readonly factor: number;
  readonly enclosure: EnclosureOf;
  /** The op's reference on other tensors of the same shapes: unrounded. */
  readonly reference: (inputs: readonly RuntimeValue[]) => readonly RuntimeValue[];
}
