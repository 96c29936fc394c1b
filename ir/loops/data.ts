// The data that loop kernels are made of: indices (integer arithmetic over loop variables and sizes, see indices.ts) and
// expressions (what is computed per element, see expr.ts). Plain immutable data, compared by `key` and `id`. Floats of
// every dtype are held as f32 (LLVM may hold them wider); `round` says where a value takes its dtype.
import type { DType } from '../formats/index.ts';
import type { Span } from '../span.ts';

/** One loop: counts 0 … extent − 1. Identity is `id`, unique in its pool. */
export interface Variable {
  readonly id: number;
  readonly name: string;
  readonly extent: Index;
}

export type Atom =
  | {
      readonly kind: 'variable';
      readonly key: string;
      readonly low: number;
      readonly high: number;
      readonly variable: Variable;
    }
  /** A run-time dim. `used`: the rows of a ragged dim that are in use, known on the device only; otherwise what buffers are laid out for. */
  | {
      readonly kind: 'size';
      readonly key: string;
      readonly low: number;
      readonly high: number;
      readonly dim: string;
      readonly used: boolean;
    }
  /** Columns of a page table: pages per sequence of a positions argument. */
  | {
      readonly kind: 'pages';
      readonly key: string;
      readonly low: number;
      readonly high: number;
      readonly value: string;
    }
  /** floor(of / by) and of mod by, by > 0. */
  | {
      readonly kind: 'quotient' | 'remainder';
      readonly key: string;
      readonly low: number;
      readonly high: number;
      readonly of: Index;
      readonly by: Index;
    }
  | {
      readonly kind: 'smaller';
      readonly key: string;
      readonly low: number;
      readonly high: number;
      readonly of: Index;
      readonly by: Index;
    }
  /** An integer that is computed: an index read from memory. `below`: outside of 0 … below − 1 the kernel must stop. */
  | {
      readonly kind: 'value';
      readonly key: string;
      readonly low: number;
      readonly high: number;
      readonly value: Expr;
      readonly below: Index | null;
    };

export interface Term {
  readonly factor: number;
  /** Sorted by key; not empty. */
  readonly atoms: readonly Atom[];
  readonly key: string;
}

/** constant + Σ factor · Π atoms. `low` and `high` bound its value. */
export interface Index {
  readonly constant: number;
  /** Sorted by key. */
  readonly terms: readonly Term[];
  readonly key: string;
  readonly low: number;
  readonly high: number;
}

/** What a value is held in while it is computed. */
export type Carrier = 'f32' | 'i32' | 'i64' | 'bool';

/** One array in memory: a component of an argument or a result (docs/BUNDLE.md). Dense and row-major. */
export interface Buffer {
  readonly value: string;
  readonly component: string;
  readonly dtype: DType;
}

export type UnaryOp =
  | 'neg' | 'abs' | 'exp' | 'exp2' | 'log' | 'log2' | 'sqrt' | 'rsqrt' | 'reciprocal' | 'sigmoid' | 'silu' | 'tanh' | 'sin' | 'cos' | 'floor' | 'not'
  /** The smallest power of two that is not below x > 0; infinity stays. */
  | 'power_of_two_above'; // prettier-ignore
export type BinaryOp =
  | 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max' | 'pow' | 'and' | 'or'
  /** max that passes NaN by. */
  | 'larger'
  /** a / b, rounded once, where b is a scale: positive and far from both ends of f32's range. */
  | 'unscale'; // prettier-ignore
export type CompareOp = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge';
/** How a reduction joins two values; min and max keep NaN, `larger` passes it by. `argmax` gives the (lowest) index. */
export type Combine = 'sum' | 'max' | 'min' | 'larger' | 'or' | 'argmax';

interface Node<K extends string> {
  readonly kind: K;
  /** Unique in its pool; equal expressions have equal ids. */
  readonly id: number;
  readonly carrier: Carrier;
  /** Where the op was written that asked for it first. */
  readonly span: Span;
}

export interface Reduce extends Node<'reduce'> {
  readonly combine: Combine;
  readonly over: readonly Variable[];
  readonly value: Expr;
}

export type Expr =
  | (Node<'constant'> & { readonly value: number })
  /** An index as a number; i32, or i64 when it may exceed that. */
  | (Node<'index'> & { readonly index: Index })
  /** One of a list of constants (already rounded). */
  | (Node<'table'> & { readonly values: readonly number[]; readonly index: Index })
  | (Node<'load'> & { readonly buffer: Buffer; readonly offset: Index })
  | (Node<'unary'> & { readonly op: UnaryOp; readonly a: Expr })
  | (Node<'binary'> & { readonly op: BinaryOp; readonly a: Expr; readonly b: Expr })
  | (Node<'compare'> & { readonly op: CompareOp; readonly a: Expr; readonly b: Expr })
  /** a <= b, a < b or a = b between indices. */
  | (Node<'test'> & { readonly op: 'lt' | 'le' | 'eq'; readonly a: Index; readonly b: Index })
  /** condition ? a : b; both sides may be computed. */
  | (Node<'choose'> & { readonly condition: Expr; readonly a: Expr; readonly b: Expr })
  /** condition ? a : b; only the side that is taken may be computed, the other may read out of bounds. */
  | (Node<'guarded'> & { readonly condition: Expr; readonly a: Expr; readonly b: Expr })
  /** To the nearest value of a float dtype, overflow saturating or not as for the dtype's default cast. */
  | (Node<'round'> & { readonly dtype: DType; readonly saturate: boolean; readonly a: Expr })
  /** To another carrier; float to int toward zero and saturating, to bool as x ≠ 0. */
  | (Node<'convert'> & { readonly a: Expr })
  /** cos or sin of position · frequencies[index], exact for any position (position is i32). */
  | (Node<'turn'> & {
      readonly turn: 'cos' | 'sin';
      readonly position: Expr;
      readonly frequencies: readonly number[];
      readonly index: Index;
    })
  | Reduce;
