// What a backend gives back for a kernel, and what a host needs to run an entry: plain data, printed as JSON into the
// bundle. Nothing here is unrolled over layers or tokens: a plan's size is that of the unique blocks.
import type { DType } from './formats/dtypes.ts';

/** An integer expression over run-time dims, evaluated by the host at launch: sum of products, then optional rounding. */
export interface Extent {
  /** constant + Σ factor · dim */
  readonly constant: number;
  readonly terms: readonly { readonly dim: string; readonly factor: number }[];
}

/** One parameter of a kernel, in the order of its `.param`s. */
export type KernelParameter =
  /** Address of one buffer of an operand or result: `component` as in docs/BUNDLE.md ("Buffers of a value"). */
  | {
      readonly kind: 'pointer';
      readonly value: string;
      readonly component: string;
      /** Bytes from the buffer's start, when not 0. */
      readonly offset?: number;
    }
  /** A run-time dim. */
  | { readonly kind: 'u32'; readonly dim: string }
  /** Columns of the page table: pages per sequence. */
  | { readonly kind: 'u32'; readonly pagesOf: string }
  /** A TMA descriptor over one buffer, 128 bytes; dims and box innermost first, strides in bytes of axes 1…. */
  | {
      readonly kind: 'tensorMap';
      readonly value: string;
      readonly component: string;
      readonly dtype: string;
      readonly dims: readonly Extent[];
      readonly strides: readonly Extent[];
      readonly box: readonly number[];
      readonly swizzle: 'none' | '32B' | '64B' | '128B';
    };

/**
 * Blocks along x, y, z: ceil(extent / per), `extent` in elements. `atMost` caps x for persistent kernels
 * (they loop over what is left).
 */
export interface GridRule {
  readonly axes: readonly { readonly extent: Extent; readonly per: number }[];
  readonly atMost?: number;
}

export type KernelFamily = 'loops' | 'gemm' | 'attention' | 'routing' | 'state';

/** A kernel ready to be assembled and launched. `ptx` is a whole module with one `.entry`. */
export interface EmittedKernel {
  readonly name: string;
  readonly family: KernelFamily;
  readonly ptx: string;
  readonly parameters: readonly KernelParameter[];
  readonly grid: GridRule;
  readonly threads: number;
  readonly cluster: readonly [number, number, number];
  readonly dynamicSharedBytes: number;
  readonly staticSharedBytes: number;
  /** Scratch that the launch needs, zeroed or not; passed as component `scratch` of value ``. */
  readonly scratchBytes?: number;
  /** Why this family and shape: printed by `dsvc explain` and in the report. */
  readonly why?: string;
}

/** One array of bytes that a value is made of at run time. */
export interface BufferComponent {
  /** `data`, `scale0`, `position`, `pages`, `indices` … */
  readonly component: string;
  readonly dtype: DType;
  /** Elements: product of extents. */
  readonly shape: readonly Extent[];
}
