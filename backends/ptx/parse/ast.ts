// PTX text as data. The tree says what was written, not what names mean: a name may be a register, a variable or a label.
// Numbers keep their spelling beside their value, so that printing a tree gives the source back, but for blanks and
// comments. `from` and `to` are offsets into the text, the latter after the last character.

export interface Piece {
  readonly from: number;
  readonly to: number;
}

// --- constants and operands ------------------------------------------------------------------------------------------

/** A 64-bit integer; expressions are computed. `value` is negative only when signed. */
export interface IntegerConstant extends Piece {
  readonly kind: 'integer';
  readonly value: bigint;
  readonly unsigned: boolean;
  readonly spelling: string;
  /** An offset that was written with `-`, which `value` and `spelling` contain. */
  readonly minus?: true;
}
/** `0f3F800000` keeps its 32 bits; everything else is an f64. */
export interface FloatConstant extends Piece {
  readonly kind: 'float';
  readonly width: 32 | 64;
  readonly bits: bigint;
  readonly spelling: string;
}
export type Constant = IntegerConstant | FloatConstant;

/** A register, special register, variable, parameter, label or function; `%tid.x` and `%v.y` are names too. */
export interface Name extends Piece {
  readonly kind: 'name';
  readonly name: string;
}
/** `table+8`: bytes. */
export interface NameOffset extends Piece {
  readonly kind: 'nameOffset';
  readonly base: Name;
  readonly offset: IntegerConstant;
}
/** `table[2]`: elements. */
export interface Indexed extends Piece {
  readonly kind: 'indexed';
  readonly base: Name;
  readonly index: IntegerConstant;
}
/** `[base+offset]`, and `[map, {coordinates}]` or `[texture, sampler, {coordinates}]` when there are more `items`. */
export interface AddressOperand extends Piece {
  readonly kind: 'address';
  readonly base: Name | IntegerConstant;
  readonly offset: IntegerConstant | null;
  readonly items: readonly PtxOperand[];
}
/** `{a, b}` */
export interface VectorOperand extends Piece {
  readonly kind: 'vector';
  readonly items: readonly PtxOperand[];
}
/** `(a, b)` of a call. */
export interface ListOperand extends Piece {
  readonly kind: 'list';
  readonly items: readonly PtxOperand[];
}
/** `d|p` */
export interface PairOperand extends Piece {
  readonly kind: 'pair';
  readonly first: Name | SinkOperand;
  readonly second: Name | SinkOperand;
}
/** `!p` */
export interface NotOperand extends Piece {
  readonly kind: 'not';
  readonly of: Name;
}
/** `_` */
export interface SinkOperand extends Piece {
  readonly kind: 'sink';
}
export type PtxOperand =
  | Constant
  | Name
  | NameOffset
  | Indexed
  | AddressOperand
  | VectorOperand
  | ListOperand
  | PairOperand
  | NotOperand
  | SinkOperand;

// --- statements ------------------------------------------------------------------------------------------------------

export interface PtxInstruction extends Piece {
  readonly kind: 'instruction';
  readonly guard: { readonly predicate: Name; readonly negated: boolean } | null;
  /** With all modifiers: `ld.global.f32`. */
  readonly opcode: string;
  /** Where the opcode begins. */
  readonly opcodeAt: number;
  readonly operands: readonly PtxOperand[];
}

export interface LabelStatement extends Piece {
  readonly kind: 'label';
  readonly name: string;
}

/** `.reg .b32 %r<12>, x;` */
export interface RegisterDeclaration extends Piece {
  readonly kind: 'registers';
  readonly type: string;
  /** 2 or 4 of `.v2`, `.v4`; 1 without. */
  readonly vector: number;
  /** A range `%r<12>` has a count, a single register none. */
  readonly names: readonly (Piece & { readonly name: string; readonly count: IntegerConstant | null })[];
}

/** `symbol+4`, `generic(symbol)`, or `0xff00(symbol)`: one byte of the address. */
export interface SymbolValue extends Piece {
  readonly kind: 'symbol';
  readonly name: string;
  readonly generic: boolean;
  readonly offset: IntegerConstant | null;
  readonly mask: IntegerConstant | null;
}
export interface Items extends Piece {
  readonly kind: 'items';
  readonly items: readonly Initialiser[];
}
/** What stands for an initial value. */
export type Initialiser = Constant | Items | SymbolValue;

/** `.attribute(.managed)`, `.attribute(.unified(1, 2))` */
export interface Attribute {
  readonly name: string;
  readonly values: readonly Constant[];
}

/** The part of a variable or parameter that follows its type. `dims` null: no brackets; a null entry: `[]`. */
export interface Declarator extends Piece {
  readonly name: string;
  readonly dims: readonly (IntegerConstant | null)[] | null;
  readonly initialiser: Initialiser | null;
}

export interface VariableDeclaration extends Piece {
  readonly kind: 'variables';
  /** `.visible`, `.weak`, `.extern`, `.common`, without the dot. */
  readonly linkage: readonly string[];
  readonly space: string;
  readonly attributes: readonly Attribute[];
  readonly align: IntegerConstant | null;
  readonly vector: number;
  readonly type: string;
  readonly names: readonly Declarator[];
}

export interface Parameter extends Piece {
  /** `param`, or `reg` in functions of old. */
  readonly space: string;
  readonly align: IntegerConstant | null;
  readonly vector: number;
  readonly type: string;
  /** `.ptr .global .align 16`: what the pointer points to, not the parameter itself. */
  readonly pointer: { readonly space: string | null; readonly align: IntegerConstant | null } | null;
  readonly name: string;
  readonly dims: readonly (IntegerConstant | null)[] | null;
}

/** `.maxntid 128, 1, 1`, `.pragma "nounroll"` */
export interface FunctionDirective extends Piece {
  readonly name: string;
  readonly values: readonly IntegerConstant[];
  readonly texts: readonly string[];
}

export interface Block extends Piece {
  readonly kind: 'block';
  readonly statements: readonly Statement[];
}

export interface FunctionDeclaration extends Piece {
  readonly kind: 'function';
  readonly linkage: readonly string[];
  readonly isEntry: boolean;
  readonly attributes: readonly Attribute[];
  readonly name: string;
  /** Null when no parentheses were written. */
  readonly returns: readonly Parameter[] | null;
  readonly parameters: readonly Parameter[] | null;
  readonly directives: readonly FunctionDirective[];
  readonly body: Block | null;
}

export interface FileDirective extends Piece {
  readonly kind: 'file';
  readonly index: number;
  readonly name: string;
  /** Timestamp and size. */
  readonly values: readonly IntegerConstant[];
}

export interface LocDirective extends Piece {
  readonly kind: 'loc';
  readonly file: number;
  readonly line: number;
  readonly column: number;
  readonly functionName: Name | NameOffset | null;
  /** File, line, column of the call that was inlined. */
  readonly inlinedAt: readonly [number, number, number] | null;
}

export interface SectionDirective extends Piece {
  readonly kind: 'section';
  readonly name: string;
  /** From brace to brace, as written. */
  readonly text: string;
}
export interface PragmaDirective extends Piece {
  readonly kind: 'pragma';
  readonly texts: readonly string[];
}
export interface AliasDirective extends Piece {
  readonly kind: 'alias';
  readonly name: Name;
  readonly of: Name;
}
/** `table: .branchtargets L0, L1;` or `.calltargets f, g;` */
export interface TargetsDirective extends Piece {
  readonly kind: 'branchTargets' | 'callTargets';
  readonly label: string;
  readonly names: readonly Name[];
}
export interface PrototypeDirective extends Piece {
  readonly kind: 'callPrototype';
  readonly label: string;
  readonly returns: readonly Parameter[] | null;
  readonly parameters: readonly Parameter[] | null;
  readonly directives: readonly FunctionDirective[];
}
export interface VersionDirective extends Piece {
  readonly kind: 'version';
  readonly major: number;
  readonly minor: number;
}
export interface TargetDirective extends Piece {
  readonly kind: 'target';
  readonly names: readonly string[];
}
export interface AddressSizeDirective extends Piece {
  readonly kind: 'addressSize';
  readonly bits: number;
}

export type Statement =
  | PtxInstruction
  | LabelStatement
  | RegisterDeclaration
  | VariableDeclaration
  | Block
  | FileDirective
  | LocDirective
  | SectionDirective
  | PragmaDirective
  | TargetsDirective
  | PrototypeDirective;

export type ModuleStatement =
  | Exclude<Statement, PtxInstruction | LabelStatement | RegisterDeclaration | Block | LocDirective>
  | RegisterDeclaration
  | LocDirective
  | FunctionDeclaration
  | AliasDirective
  | VersionDirective
  | TargetDirective
  | AddressSizeDirective;

export interface PtxModule {
  readonly file: string;
  readonly statements: readonly ModuleStatement[];
}
