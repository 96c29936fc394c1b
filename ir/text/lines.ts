// What the grammar makes of one line: plain records that keep the tokens which messages point at.
import type { IToken } from 'chevrotain';
import type { Attribute, FunctionKind } from '../module.ts';
import type { Span } from '../span.ts';
import type { Type } from '../types.ts';

/** Something wrong with a part of a line, from the first token to the last. */
export interface Finding {
  readonly code: string;
  readonly message: string;
  readonly label?: string;
  readonly fix?: string | null;
  readonly from: IToken;
  readonly to: IToken;
}

/** A type as written; `type` is null when it was wrong (and reported). */
export interface TypeNode {
  readonly type: Type | null;
  readonly from: IToken;
  readonly to: IToken;
  /** Run-time dims, and the state's name: they must be declared. */
  readonly dims: readonly IToken[];
  readonly state: IToken | null;
}

export interface AttributeNode {
  readonly name: string;
  readonly value: Attribute;
  readonly from: IToken;
  readonly to: IToken;
}

export type OperandKind = 'value' | 'parameter' | 'buffer' | 'derived';

export interface OperandNode {
  readonly kind: OperandKind;
  readonly name: string;
  readonly from: IToken;
  readonly to: IToken;
}

export interface OpLine {
  readonly results: readonly IToken[];
  readonly op: IToken;
  readonly callee: IToken | null;
  readonly operands: readonly OperandNode[];
  readonly attributes: readonly AttributeNode[];
  readonly types: readonly TypeNode[];
  readonly span: Span;
}

export interface HeaderLine {
  readonly kind: FunctionKind;
  readonly name: IToken;
  readonly arguments: readonly { readonly inout: boolean; readonly name: IToken; readonly type: TypeNode }[];
  readonly results: readonly TypeNode[];
  readonly attributes: readonly AttributeNode[];
  readonly span: Span;
}

export interface ParameterLine {
  readonly kind: 'parameter' | 'buffer';
  readonly name: IToken;
  readonly text: string;
  readonly type: TypeNode;
  readonly stored: readonly number[];
  readonly span: Span;
}

export type ExpressionNode =
  | { readonly parameter: string; readonly from: IToken; readonly to: IToken }
  | {
      readonly op: IToken;
      readonly operands: readonly ExpressionNode[];
      readonly attributes: readonly AttributeNode[];
      /** Written on operands; the outermost expression has the declaration's. */
      readonly type: TypeNode | null;
      readonly from: IToken;
      readonly to: IToken;
    };

export interface DeriveLine {
  readonly name: IToken;
  readonly text: string;
  readonly type: TypeNode;
  readonly expression: ExpressionNode;
  readonly span: Span;
}

export interface ReturnLine {
  readonly word: IToken;
  readonly results: readonly OperandNode[];
  readonly finals: readonly OperandNode[];
  /** Where the finals start, or null when there are none. */
  readonly semicolon: IToken | null;
}

export interface DimLine {
  readonly name: IToken;
  readonly bound: number;
  readonly ragged: {
    readonly of: IToken;
    readonly per: number;
    readonly groups: number;
    readonly align: number;
  } | null;
}

export interface StateLine {
  readonly name: IToken;
  readonly policy: IToken;
  readonly page: number | null;
  readonly fields: readonly { readonly name: IToken; readonly type: TypeNode }[];
}

export interface ModuleLine {
  readonly name: IToken;
  readonly attributes: readonly AttributeNode[];
}
