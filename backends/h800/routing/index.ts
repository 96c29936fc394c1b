// Kernels for choosing experts, moving rows between token order and expert order, and writing caches. Each does one op;
// what these kernels cannot do (views in front of a row, packed 12-bit rows, 64-bit integers) loops can, more slowly.
import { tensorOf } from '../../../ir/loops/components.ts';
import type { Function, Module, Op, Value } from '../../../ir/module.ts';
import { opDefinition } from '../../../ir/ops/index.ts';
import type { EmittedKernel } from '../../../ir/plan.ts';
import { emitRoute } from './route.ts';
import { combinable, emitCombineTokens } from './combine.ts';
import { emitCumsum, summable } from './cumsum.ts';
import { emitCacheAppend, emitCopy, emitGroupTokens, emitSlotWeights, movable } from './move-rows.ts';
import { emitTopK, rankable } from './top-k.ts';

interface Writer {
  /** Whether the kernel can be written for these operands. */
  readonly takes: (op: Op) => boolean;
  readonly emit: (fn: Function, module: Module, op: Op) => EmittedKernel;
}

const always = (): boolean => true;

const writers: Readonly<Record<string, Writer>> = {
  route: { takes: always, emit: (fn, module) => emitRoute(fn, module) },
  group_tokens: { takes: (op) => movable(tensorOf(op.operands[0])), emit: emitGroupTokens },
  combine_tokens: { takes: (op) => combinable(tensorOf(op.operands[0])), emit: emitCombineTokens },
  routing_field: {
    takes: always,
    emit: (fn, module, op) =>
      (op.attributes.field === 'slot_weights' ? emitSlotWeights : emitCopy)(fn, module, op),
  },
  cache_append: {
    takes: (op) => op.operands.slice(2).every((v) => movable(tensorOf(v))),
    emit: emitCacheAppend,
  },
  cache_read: { takes: (op) => movable(tensorOf(op.results[0])), emit: emitCopy },
  top_k: { takes: (op) => rankable(tensorOf(op.operands[0])), emit: emitTopK },
  cumsum: { takes: (op) => summable(tensorOf(op.operands[0])), emit: emitCumsum },
};

/** Scores may be computed element by element where `route` reads them; anything longer is a kernel of its own. */
const pulled = (op: Op): boolean =>
  opDefinition(op.op).class === 'pointwise' || opDefinition(op.op).class === 'view';

/** The op that a kernel of this folder is for, or null. */
function mainOp(fn: Function): Op | null {
  const main = fn.body.filter((op) => Object.hasOwn(writers, op.op));
  if (main.length !== 1 || fn.declarations.length > 0) return null;
  const [op] = main;
  const given = (v: Value): boolean => fn.arguments.some((a) => a.value === v);
  const alone = fn.body.length === 1 && op.operands.every(given);
  if (!alone && !(op.op === 'route' && fn.body.every((o) => o === op || pulled(o)))) return null;
  const returned = [...fn.results, ...fn.finals];
  return returned.length > 0 && returned.every((v) => op.results.includes(v)) ? op : null;
}

/**
 * Whether a kernel function does one of route, group_tokens, combine_tokens, routing_field, cache_append, cache_read,
 * top_k or cumsum, on operands that its kernel takes, and nothing else (route: but for pointwise ops and views in front
 * of its scores).
 */
export function isRouting(fn: Function): boolean {
  const op = mainOp(fn);
  return op !== null && writers[op.op].takes(op);
}

/** Writes such a kernel, of family `routing` or `state`. Throws an Error when `isRouting` is false of it. */
export function emitRouting(fn: Function, module: Module): EmittedKernel {
  const op = mainOp(fn);
  if (!op || !writers[op.op].takes(op))
    throw new Error(`kernel @${fn.name}: none of the routing and state kernels does this`);
  return writers[op.op].emit(fn, module, op);
}
