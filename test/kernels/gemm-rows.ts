// Rows of A of the GEMMs that tests run: tokens as they are, or tokens routed to experts.
import type { Random } from '../../runtime/emulator/testing/tensor-bench.ts';

/** Rows of A as the kernel sees them. */
export interface Rows {
  /** Rows of the buffers, and those in use. */
  readonly room: number;
  readonly used: number;
  readonly expertOf: (row: number) => number;
  /** Rows that only fill up an expert's group. */
  readonly isPadding: (row: number) => boolean;
  /** The routing's arrays, by component. */
  readonly arrays: Readonly<Record<string, Int32Array>>;
}

/** A dense GEMM: every row is a token. */
export const dense = (m: number): Rows => ({
  room: m,
  used: m,
  expertOf: () => 0,
  isPadding: () => false,
  arrays: {},
});

const align = 128;
const expertsPerToken = 8;
/** Few experts, so that some get more rows than a tile has; the first and the last are among them. */
const busyExperts = [0, 1, 7, 19, 42, 64, 99, 100, 127, 128, 200, 254, 255];

/** Routes `m` tokens to eight experts each. */
export function grouped(m: number, experts: number, r: Random): Rows {
  const tokensOf = new Map<number, number[]>(busyExperts.map((e) => [e, []]));
  for (let token = 0; token < m; token++) {
    const left = [...busyExperts];
    for (let i = 0; i < expertsPerToken; i++) {
      const [expert] = left.splice(r.below(left.length), 1);
      tokensOf.get(expert)!.push(token);
    }
  }
  const choices = m * expertsPerToken;
  const room = Math.floor((choices + Math.min(experts, choices) * (align - 1)) / align) * align;
  const tokenOf = new Int32Array(room).fill(-1);
  const expertOfBlock = new Int32Array(room / align).fill(-1);
  const offsets = new Int32Array(experts + 1);
  for (let e = 0; e < experts; e++) {
    const tokens = tokensOf.get(e) ?? [];
    tokenOf.set(tokens, offsets[e]);
    offsets[e + 1] = offsets[e] + Math.ceil(tokens.length / align) * align;
    expertOfBlock.fill(e, offsets[e] / align, offsets[e + 1] / align);
  }
  return {
    room,
    used: offsets[experts],
    expertOf: (row) => expertOfBlock[Math.floor(row / align)],
    isPadding: (row) => tokenOf[row] < 0,
    arrays: { tokenOf, expertOfBlock, offsets },
  };
}
