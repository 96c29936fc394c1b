// The decoded program: what the emulator's C++ core loads (runtime/core/emulator/program.h) and a bundle can hold. Here
// it is plain data; ./encode.ts writes it as bytes and ./read.ts reads them back. Mnemonics, modifiers and special
// registers are numbers of ./names.ts. Nothing is interpreted beyond names and operands: the core decides what an
// instruction does by its mnemonic and modifiers.

export const formatVersion = 1;

/** The module's address spaces, by number. */
export const variableSpaces = ['global', 'const', 'shared', 'local', 'param'] as const;

export type DecodedOperand =
  | { readonly kind: 'register'; readonly class: number; readonly index: number }
  /** Integers are sign-extended two's complement. */
  | { readonly kind: 'immediate'; readonly form: 'integer' | 'f32' | 'f64'; readonly bits: bigint }
  | { readonly kind: 'address'; readonly base: DecodedOperand; readonly offset: bigint }
  /** The index of an instruction; their count when the label stands after the last. */
  | { readonly kind: 'label'; readonly instruction: number }
  | { readonly kind: 'vector'; readonly items: readonly DecodedOperand[] }
  | { readonly kind: 'special'; readonly id: number }
  | { readonly kind: 'symbol'; readonly variable: number; readonly offset: bigint }
  | { readonly kind: 'sink' }
  | { readonly kind: 'notPredicate'; readonly index: number }
  | { readonly kind: 'pair'; readonly first: DecodedOperand; readonly second: DecodedOperand }
  | { readonly kind: 'function'; readonly index: number }
  /** A .param of the function itself. */
  | {
      readonly kind: 'parameter';
      readonly index: number;
      readonly isReturn: boolean;
      readonly offset: bigint;
    }
  | { readonly kind: 'branchTable'; readonly index: number }
  | { readonly kind: 'prototype'; readonly index: number }
  | {
      readonly kind: 'tensor';
      readonly map: DecodedOperand;
      readonly coordinates: readonly DecodedOperand[];
    };

/** Operand kinds by number. */
export const operandKinds = [
  ...(['register', 'immediate', 'address', 'label', 'vector', 'special', 'symbol', 'sink'] as const),
  ...(['notPredicate', 'pair', 'function', 'parameter', 'branchTable', 'prototype', 'tensor'] as const),
] as const satisfies readonly DecodedOperand['kind'][];

/** Forms of immediates by number. */
export const immediateForms = ['integer', 'f32', 'f64'] as const;

/**
 * `call` has the operands: a vector of returns, the callee (a function, or a register), a vector of arguments, and for a
 * register a prototype. `brx.idx` has a register and a branch table.
 */
export interface DecodedInstruction {
  readonly mnemonic: number;
  readonly modifiers: readonly number[];
  /** Executed by lanes where the predicate is true, or false when negated. */
  readonly guard: { readonly predicate: number; readonly negated: boolean } | null;
  /** In the PTX text, from 1. */
  readonly line: number;
  readonly column: number;
  /** Of the last .loc before it; file 0 means none. */
  readonly loc: { readonly file: number; readonly line: number; readonly column: number };
  readonly operands: readonly DecodedOperand[];
}

export interface DecodedParameter {
  readonly name: string;
  /** Number of its type among the modifiers. */
  readonly type: number;
  readonly align: number;
  /** Bytes, all elements of an array. */
  readonly size: number;
  /** Bytes from the beginning of the parameter block. */
  readonly offset: number;
}

export interface Signature {
  readonly parameters: readonly DecodedParameter[];
  readonly returns: readonly DecodedParameter[];
}

export interface Relocation {
  /** Byte of the variable where the 8-byte address stands. */
  readonly at: number;
  readonly to: 'variable' | 'function';
  readonly index: number;
  readonly addend: bigint;
  readonly isGeneric: boolean;
}

export interface DecodedVariable {
  /** Unique; those of a function are called `function$name`. */
  readonly name: string;
  /** Index in `variableSpaces`. */
  readonly space: number;
  readonly align: number;
  readonly size: number;
  readonly isExtern: boolean;
  /** What lies beyond its end is zero. */
  readonly init: Uint8Array;
  readonly relocations: readonly Relocation[];
}

/** What a function's directives ask for; 0 where they say nothing. */
export interface Limits {
  readonly reqntid: readonly number[];
  readonly maxntid: readonly number[];
  readonly minnctapersm: number;
  readonly maxnctapersm: number;
  readonly maxnreg: number;
  readonly reqnctapercluster: readonly number[];
  readonly maxclusterrank: number;
  readonly explicitcluster: boolean;
  readonly noreturn: boolean;
}

export interface DecodedFunction extends Signature {
  readonly name: string;
  readonly isEntry: boolean;
  /** Declared without a body. */
  readonly isExtern: boolean;
  readonly limits: Limits;
  /** Counts of predicates, registers of up to 32, of 64 and of 128 bits. Only those that instructions name count. */
  readonly registers: readonly number[];
  readonly registerNames: readonly {
    readonly class: number;
    readonly index: number;
    readonly name: string;
  }[];
  /** Instruction indices. */
  readonly branchTables: readonly (readonly number[])[];
  readonly prototypes: readonly Signature[];
  readonly instructions: readonly DecodedInstruction[];
}

export interface DecodedProgram {
  readonly ptxMajor: number;
  readonly ptxMinor: number;
  readonly target: string;
  readonly files: readonly { readonly index: number; readonly name: string }[];
  readonly variables: readonly DecodedVariable[];
  readonly functions: readonly DecodedFunction[];
}
