// Attention as it is defined, for any shape: a warp for every token and head, online softmax over the keys that the
// token sees. What stands before the op (concat, split, reshape, broadcast …) is only address arithmetic here.
import { Pool } from '../../../ir/loops/expr.ts';
import type { Function, Module, Op, Value } from '../../../ir/module.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import { sameDim, type PositionsType, type TensorType } from '../../../ir/types.ts';
import { writeKernel } from '../loops/context.ts';
import { extentOf } from '../loops/nests.ts';
import { AttentionWriter, type Tile } from './warp.ts';

/** Warps of a CTA. */
const warps = 8;

/**
 * Warps that read the same keys share a CTA, so that its L1 serves all but one: heads of one key head first, then
 * neighbouring tokens of a packed sequence. Tokens of a cache need not share keys, so there more heads come before tokens.
 */
export function tileFor(heads: number, groups: number, packed: boolean): Tile {
  const along = packed ? heads / groups : heads;
  let n = warps;
  while (along % n !== 0) n /= 2;
  return { tokens: warps / n, heads: n };
}

/** The attention op of a kernel function, and the result that it becomes (perhaps reshaped). */
function partsOf(fn: Function): { op: Op; result: Value } {
  const ops = fn.body.filter((op) => op.op === 'attention');
  if (ops.length !== 1 || fn.results.length !== 1 || fn.finals.length > 0)
    throw new Error(
      `kernel @${fn.name}: an attention kernel has one attention and one result, this has ${ops.length} and ${fn.results.length + fn.finals.length}`,
    );
  const [op] = ops;
  const [result] = fn.results;
  // A reshape keeps the order of elements, so only the name of the buffer changes.
  let from = result;
  while (from !== op.results[0]) {
    const producer = fn.body.find((o) => o.results.includes(from));
    if (producer?.op !== 'reshape')
      throw new Error(
        `kernel @${fn.name}: ${producer?.op ?? 'nothing'} stands between attention and the result %${result.name}`,
      );
    [from] = producer.operands;
  }
  return { op, result };
}

/**
 * Writes a kernel function whose body is one `attention` (ir/ops/attention.ts) with views before it: q[tokens, heads,
 * depth], k[keys, groups, depth], v[keys, groups, width], packed or over a paged cache. Float dtypes; f32 inside.
 * Throws an Error when the function is anything else, or has more than 65535 · 8 heads.
 */
export function emitAttention(fn: Function, module: Module): EmittedKernel {
  const { op, result } = partsOf(fn);
  const [q, k] = op.operands.map((v) => v.type as TensorType);
  const [heads, groups] = [q.dims[1].size!, k.dims[1].size!];
  const at = op.operands[3].type as PositionsType;
  const tile = tileFor(heads, groups, sameDim(at.tokens, at.keys));
  if (heads / tile.heads > 65535)
    throw new Error(`kernel @${fn.name}: ${heads} heads are more than a grid has room for`);
  const pool = new Pool();
  const writer = new AttentionWriter(fn, module, pool, op, result, tile);
  const launch = {
    family: 'attention',
    threads: 32 * warps,
    grid: {
      axes: [
        { extent: extentOf(writer.tokens)!, per: tile.tokens },
        { extent: { constant: heads, terms: [] }, per: tile.heads },
      ],
    },
  } as const;
  return writeKernel(fn, module, pool, launch, (context) => writer.write(context));
}
