// What a host must know to launch a kernel: plain data, written into the bundle as JSON.

/** A size that is known at compile time or is a run-time value of the program, such as the number of tokens. */
export type Extent =
  | { readonly const: number }
  /** The symbol's value, or with `dividedBy` ceil(value / dividedBy). */
  | { readonly symbol: string; readonly dividedBy?: number };

/** Element types that TMA moves; the host maps them to the driver's CUtensorMapDataType. */
export type TensorMapDtype = 'u8' | 'bf16' | 'f32';

/** Arguments of cuTensorMapEncodeTiled, innermost dimension first. Interleave none, element strides 1, zero fill. */
export interface TensorMapDescription {
  /** The launch argument whose address the map holds. */
  readonly tensor: string;
  readonly dtype: TensorMapDtype;
  readonly rank: number;
  readonly dims: readonly Extent[];
  /** Bytes between neighbours along dims 1, 2, ...: rank - 1 of them. Dim 0 is dense. */
  readonly stridesBytes: readonly number[];
  /** Elements of one box along each dim. */
  readonly box: readonly number[];
  readonly swizzle: 'none' | '32B' | '64B' | '128B';
  /** How much a load brings into L2 at once; performance only. */
  readonly l2Promotion: 'none' | '128B' | '256B';
}

export type KernelParameter =
  | { readonly name: string; readonly kind: 'tensorMap'; readonly tensorMap: TensorMapDescription }
  /** The device address of a tensor; `elements` of `dtype`, innermost dimension first. */
  | {
      readonly name: string;
      readonly kind: 'pointer';
      readonly dtype: 'f32' | 'i32' | 'bf16';
      readonly access: 'read' | 'write';
      readonly dims: readonly Extent[];
    }
  /** A run-time size, by the name of the symbol. */
  | { readonly name: string; readonly kind: 'u32' | 'u64'; readonly symbol: string };

/** How many CTAs to launch. */
export type GridRule = {
  /** min(max, ceil(rows / rowsPerTile) · columnTiles) CTAs along x; each works through its tiles. */
  readonly kind: 'persistent';
  readonly max: number;
  readonly rows: Extent;
  readonly rowsPerTile: number;
  readonly columnTiles: number;
};

/** One kernel, ready to be assembled and launched. */
export interface TileKernel {
  /** The entry's name in `ptx`. */
  readonly name: string;
  /** A whole PTX module. */
  readonly ptx: string;
  /** In the order of the entry's parameters. */
  readonly parameters: readonly KernelParameter[];
  /** Threads per CTA, along x. */
  readonly threads: number;
  /** Dynamic shared memory in bytes; above 48 KiB the host must opt in per function. */
  readonly sharedBytes: number;
  readonly gridRule: GridRule;
  readonly cluster: readonly [number, number, number];
}

/** CTAs along x for a persistent kernel whose row count is `rows`. */
export function persistentGrid(rule: GridRule, rows: number): number {
  return Math.min(rule.max, Math.ceil(rows / rule.rowsPerTile) * rule.columnTiles);
}

/** Limits of the H800 (SXM): facts that kernel plans are checked against. */
export const h800 = {
  multiprocessors: 132,
  /** Dynamic shared memory that one CTA may opt in to. */
  sharedBytesPerCta: 232448,
  registersPerMultiprocessor: 65536,
  /** Boost clock under load, Hz, and what follows from it. */
  clock: 1.83e9,
  /** FP8 multiply-accumulates per clock and multiprocessor: 1979 TFLOPS dense over all. */
  fp8MacsPerClock: 4096,
  /** HBM3 bytes per second. */
  memoryBandwidth: 3.35e12,
  /** L2 to shared memory, bytes per clock and multiprocessor. */
  l2BytesPerClock: 64,
} as const;
