// PTX as data: what the builder makes, the printer prints and a parser reads.
import type { Operand, Reg } from './operands.ts';
import type { RegClass, ScalarType } from './types.ts';

/** A place in a source file, for `.loc`. */
export interface SourcePlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface Instruction {
  readonly kind: 'instruction';
  /** `@p` or `@!p`. */
  readonly guard?: { readonly predicate: Reg<'pred'>; readonly negated: boolean };
  readonly opcode: string;
  readonly modifiers: readonly string[];
  readonly operands: readonly Operand[];
  /** How each operand's immediates are written. */
  readonly types: readonly (ScalarType | undefined)[];
  readonly place?: SourcePlace;
}
export interface LabelStatement {
  readonly kind: 'label';
  readonly name: string;
}
export interface Comment {
  readonly kind: 'comment';
  readonly text: string;
}
export type Statement = Instruction | LabelStatement | Comment;

export interface KernelParameterDeclaration {
  readonly name: string;
  /** A tensor map is 128 bytes, aligned to 64; it is read by its address only. */
  readonly type: 'u32' | 's32' | 'u64' | 'f32' | 'tensorMap';
}

export interface SharedVariable {
  readonly name: string;
  /** Bytes; undefined: the dynamic shared memory of the launch (`.extern`). */
  readonly bytes: number | undefined;
  readonly align: number;
}

export interface PtxKernel {
  readonly name: string;
  readonly parameters: readonly KernelParameterDeclaration[];
  /** Performance directives, printed in this order. */
  readonly directives: readonly string[];
  /** `%prefix<count>` of a class. */
  readonly registers: readonly { readonly prefix: string; readonly type: RegClass; readonly count: number }[];
  readonly shared: readonly SharedVariable[];
  readonly body: readonly Statement[];
}

export interface PtxModule {
  readonly version: string;
  readonly target: string;
  readonly kernels: readonly PtxKernel[];
}
