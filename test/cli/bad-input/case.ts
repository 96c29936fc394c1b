// One wrong input and what must be said about it.
import type { Files } from '../process.ts';

export interface BadInput {
  readonly name: string;
  /** What lies in the folder that the command runs in. */
  readonly files?: Files;
  readonly args: readonly string[];
  readonly stdin?: string | Uint8Array;
  /** Codes that must be reported, all of them, in one run. */
  readonly codes: readonly string[];
  readonly exit: 1 | 2;
  /** What is wrong says it all: no fix is offered. */
  readonly noFix?: true;
  /** The place: `file:line:column`, or a byte position. */
  readonly at?: readonly string[];
}
