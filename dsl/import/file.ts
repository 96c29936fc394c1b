// A constant of the model file that is being written.
import type { WriterFunction } from 'ts-morph';

export interface Constant {
  readonly name: string;
  readonly value: string | WriterFunction;
  /** Its doc comment. */
  readonly doc?: string;
  /** A blank line before it. */
  readonly apart?: boolean;
}
