// Figures that follow from a traced module alone: parameters, what a token uses of them, bytes of cache per token.
import { bytesFor } from '../ir/formats/dtypes.ts';
import { functionNamed, type Function, type Module, type Op } from '../ir/module.ts';
import { staticCount, type RoutingType, type TensorType } from '../ir/types.ts';

export interface Facts {
  /** Elements of all weights and buffers, each counted once. */
  readonly parameters: number;
  /** Of these, buffers: what no gradient changes. */
  readonly buffers: number;
  /** What one token uses: of stacked experts only those it is routed to; embedding and head count whole. */
  readonly activeParameters: number;
  /** Calls of blocks by repeats. */
  readonly layers: number;
  /** Bytes that one token leaves in all caches. */
  readonly cacheBytesPerToken: number;
}

interface Weight {
  readonly elements: number;
  readonly active: number;
  readonly buffer: boolean;
}

/** Share of a stacked weight that a token uses: top of experts, by the routing of the product that reads it. */
function shares(f: Function): ReadonlyMap<string, number> {
  const out = new Map<string, number>();
  for (const op of f.body) {
    if (op.op !== 'grouped_matmul') continue;
    const routing = op.operands[2].type as RoutingType;
    out.set(op.operands[1].name, (routing.top.size ?? 1) / (routing.experts.size ?? 1));
  }
  return out;
}

/** Calls `visit` for every function with the full prefix that its weights have, once per call and layer. */
function walk(
  module: Module,
  f: Function,
  prefix: string,
  visit: (f: Function, prefix: string) => void,
): number {
  visit(f, prefix);
  let layers = 0;
  const into = (op: Op, by: string): void => {
    layers += walk(module, functionNamed(module, String(op.attributes.callee)), prefix + by, visit);
  };
  for (const op of f.body) {
    if (op.op === 'call') into(op, String(op.attributes.prefix));
    if (op.op !== 'repeat') continue;
    const { start, stop, prefix: by } = op.attributes as { start: number; stop: number; prefix: string };
    for (let i = start; i < stop; i++) into(op, by.replaceAll('{i}', String(i)));
    layers += stop - start;
  }
  return layers;
}

/** Every checkpoint name with the shape stored under it, experts one by one, in order of first use. */
export function* checkpointNames(
  module: Module,
  from = 'forward',
): Generator<{ name: string; stored: readonly number[] }> {
  const found: { name: string; stored: readonly number[]; experts: number }[] = [];
  const seen = new Set<string>();
  walk(module, functionNamed(module, from), '', (f, prefix) => {
    for (const d of f.declarations) {
      const name = prefix + d.value.name;
      if (d.kind === 'derived' || seen.has(name)) continue;
      seen.add(name);
      found.push({
        name,
        stored: d.stored,
        experts: name.includes('{experts}') ? (d.value.type.dims[0].size ?? 0) : 0,
      });
    }
  });
  for (const { name, stored, experts } of found)
    if (experts === 0) yield { name, stored };
    else for (let e = 0; e < experts; e++) yield { name: name.replace('{experts}', String(e)), stored };
}

/** Figures of the function `from` and everything it calls. */
export function factsOf(module: Module, from = 'forward'): Facts {
  const weights = new Map<string, Weight>();
  const layers = walk(module, functionNamed(module, from), '', (f, prefix) => {
    const share = shares(f);
    for (const d of f.declarations) {
      if (d.kind === 'derived') continue;
      const elements = staticCount((d.value.type as TensorType).dims);
      const active = elements * (share.get(d.value.name) ?? 1);
      weights.set(prefix + d.value.name, { elements, active, buffer: d.kind === 'buffer' });
    }
  });
  const sum = (of: (w: Weight) => number): number => [...weights.values()].reduce((n, w) => n + of(w), 0);
  return {
    parameters: sum((w) => w.elements),
    buffers: sum((w) => (w.buffer ? w.elements : 0)),
    activeParameters: sum((w) => w.active),
    layers,
    cacheBytesPerToken: cacheBytes(module, functionNamed(module, from)),
  };
}

function cacheBytes(module: Module, f: Function): number {
  let total = 0;
  for (const { value } of f.arguments) {
    const { type } = value;
    if (type.kind !== 'state') continue;
    const fields = module.states.find((s) => s.name === type.state)?.fields ?? [];
    const row = fields.reduce((n, x) => n + bytesFor(x.type.dtype, staticCount(x.type.dims.slice(1))), 0);
    total += row * (type.count ?? 1);
  }
  return total;
}
