// The figures of a model: parameters, cache bytes, FLOPs per token. Conventions: docs/BUNDLE.md, "report.json".
import { bytesFor } from '../../ir/formats/dtypes.ts';
import { functionNamed, type Function, type Module, type Op } from '../../ir/module.ts';
import { opDefinition } from '../../ir/ops/index.ts';
import { staticCount, type RoutingType, type TensorType } from '../../ir/types.ts';
import { entriesOf, layerCount, weightUses, type WeightUse } from '../weights.ts';

export interface ParameterCounts {
  /** Every weight and buffer of the main model. */
  readonly main: number;
  /** Of multi-token prediction modules; 0 when none is declared. */
  readonly mtp: number;
  /** Used for one token: routed experts count top/experts of themselves; embedding and head are in. */
  readonly active: number;
}

/** Counts over the traced module, before any pass derives weights from weights. */
export function countParameters(traced: Module): ParameterCounts {
  let main = 0;
  let active = 0;
  const [entry] = entriesOf(traced);
  for (const use of entry ? weightUses(traced, [entry]) : []) {
    if (use.declaration.kind === 'derived') continue;
    const count = staticCount(use.declaration.value.type.dims) * layerCount(use);
    main += count;
    active += count * activeShare(use);
  }
  return { main, mtp: 0, active };
}

/** Stacked experts: the share of them that a token is routed to, from the routing that their matmul takes. */
function activeShare(use: WeightUse): number {
  for (const op of use.function.body) {
    if (op.op !== 'grouped_matmul' || op.operands[1] !== use.declaration.value) continue;
    const routing = op.operands[2].type as RoutingType;
    return (routing.top.size ?? 1) / (routing.experts.size ?? 1);
  }
  return 1;
}

/** Bytes that one more token of context takes in all caches of the entry's states. */
export function cacheBytesPerToken(module: Module): number {
  const [entry] = entriesOf(module);
  let bytes = 0;
  for (const { value } of entry?.arguments ?? []) {
    const { type } = value;
    if (type.kind !== 'state') continue;
    const declared = module.states.find((s) => s.name === type.state);
    if (declared?.policy !== 'paged') continue;
    for (const f of declared.fields)
      bytes += (type.count ?? 1) * bytesFor(f.type.dtype, staticCount(f.type.dims.slice(1)));
  }
  return bytes;
}

/** Context that FLOPs per token are quoted at. */
export const quotedContext = 4096;

/**
 * FLOPs of an entry for one token: 2 per multiply-accumulate of contractions and attention, the head included.
 * Attention looks at half of the quoted context in packed form (causal average), at all of it from a cache.
 */
export function flopsPerToken(module: Module, entry: Function): number {
  const ofOp = (op: Op): number => {
    const callee = (): Function => functionNamed(module, String(op.attributes.callee));
    switch (op.op) {
      case 'call':
      case 'launch':
        return ofFunction(callee());
      case 'repeat':
        return (Number(op.attributes.stop) - Number(op.attributes.start)) * ofFunction(callee());
      case 'attention': {
        const [q, k, v, at] = op.operands.map((o) => o.type);
        if (q.kind !== 'tensor' || k.kind !== 'tensor' || v.kind !== 'tensor' || at.kind !== 'positions')
          return 0;
        const keys = at.keys.name === at.tokens.name ? quotedContext / 2 : quotedContext;
        return (
          2 *
          staticCount(q.dims.slice(1, 2)) *
          keys *
          (staticCount(q.dims.slice(2)) + staticCount(v.dims.slice(2)))
        );
      }
      default: {
        const definition = opDefinition(op.op);
        if (definition.class !== 'contraction' || !definition.cost) return 0;
        return definition.cost(
          op.operands.map((o) => o.type),
          op.results.map((o) => o.type),
          op.attributes,
          sizeForOneToken(module),
        ).flops;
      }
    }
  };
  const ofFunction = (f: Function): number => f.body.reduce((n, op) => n + ofOp(op), 0);
  return ofFunction(entry);
}

/** One token, its rows in ragged dims without padding, the quoted context along caches. */
const sizeForOneToken =
  (module: Module) =>
  (name: string): number => {
    const ragged = module.dims.find((d) => d.name === name)?.ragged;
    if (ragged) return ragged.per;
    return name === 'cached' ? quotedContext : 1;
  };

/** Bytes of all weights as they lie in device memory after the passes, each name once. */
export function weightBytes(module: Module): number {
  // A parameter that only feeds derived ones is read at load and not kept.
  const seen = new Set<string>();
  let bytes = 0;
  for (const use of weightUses(module, entriesOf(module))) {
    const key = `${use.name}|${use.layers?.join() ?? ''}`;
    const read = use.function.body.some((op) => op.operands.includes(use.declaration.value));
    if (seen.has(key) || !read) continue;
    seen.add(key);
    bytes += tensorBytes(use.declaration.value.type) * layerCount(use);
  }
  return bytes;
}

/** Bytes of a tensor with static dims, scales included. */
export function tensorBytes(type: TensorType): number {
  const scales = type.scales.reduce((n, level) => {
    const count = type.dims.reduce(
      (m, d, i) => m * (level.tile[i] === 0 ? 1 : Math.ceil((d.size ?? 1) / level.tile[i])),
      1,
    );
    return n + bytesFor(level.format === 'ue8m0' ? 'f8ue8m0' : 'f32', count);
  }, 0);
  return bytesFor(type.dtype, staticCount(type.dims)) + scales;
}
