// Registers that the roles of a GEMM kernel receive from its frame.
import type { Reg } from '../../ptx/operands.ts';

/** Shared-memory addresses of the regions, 32 bits. */
export interface SharedRegisters {
  readonly a: Reg<'u32'>;
  readonly b: Reg<'u32'>;
  readonly out: Reg<'u32'>;
  readonly scales: Reg<'u32'>;
  readonly full: Reg<'u32'>;
  readonly empty: Reg<'u32'>;
}

/** A thread of a math warpgroup. */
export interface MathThread {
  /** Thread in its warpgroup, 0..127. */
  readonly thread: Reg<'u32'>;
  readonly lane: Reg<'u32'>;
  /** 0 or 1. */
  readonly warpgroup: Reg<'u32'>;
}
