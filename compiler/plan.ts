// Plans: what a host does to run an entry, as plain data. A plan names buffers and launches of each unique function
// once; a repeat says for which layers it runs, so a plan's size does not depend on the number of layers.
import {
  functionNamed,
  type Attributes,
  type DeriveExpression,
  type Function,
  type Module,
  type Op,
  type Value,
} from '../ir/module.ts';
import { showSpan } from '../ir/span.ts';
import { showType } from '../ir/types.ts';
import { arenaIntervals, ownersOf } from './memory/liveness.ts';
import { packSequentially } from './memory/arena.ts';
import { alignUp, componentsOf, valueBytes } from './memory/buffers.ts';
import { isAlias } from './outline.ts';
import { tensorBytes } from './report/counts.ts';
import { entriesOf, weightUses } from './weights.ts';

/** Where a value lies. Offsets are in bytes; arenas nest: a repeat says where its function's arena begins. */
export type Location =
  | { readonly arena: number }
  | { readonly argument: number }
  | { readonly weight: string }
  /** A part of another value that needs no copy: a state's field, a routing's or positions' array. */
  | { readonly of: Location; readonly component: string };

export interface PlanStep {
  readonly launch?: string;
  readonly repeat?: {
    readonly function: string;
    readonly start: number;
    readonly stop: number;
    readonly prefix: string;
    readonly modes: readonly string[];
  };
  /** Repeat only: where the function's arena begins in the caller's. */
  readonly arena?: number;
  readonly operands: readonly Location[];
  readonly results: readonly Location[];
  /** The author's line. */
  readonly at?: string;
}

export interface PlanFunction {
  readonly name: string;
  readonly kind: 'entry' | 'block';
  readonly arguments: readonly { readonly name: string; readonly type: string; readonly inout: boolean }[];
  readonly arenaBytes: number;
  readonly steps: readonly PlanStep[];
  readonly results: readonly Location[];
  readonly finals: readonly Location[];
}

/** A checkpoint tensor by its name relative to the layer's prefix, or an op over such expressions. */
export type PlanExpression =
  | { readonly parameter: string }
  | {
      readonly op: string;
      readonly operands: readonly PlanExpression[];
      readonly attributes: Attributes;
      readonly type: string;
    };

export interface PlanWeight {
  readonly name: string;
  readonly layers: readonly [number, number] | null;
  readonly type: string;
  readonly bytes: number;
  /** Offset of the first layer's copy in the weights' arena, and from one layer's copy to the next. */
  readonly offset: number;
  readonly stride: number;
  /** Checkpoint shape of a plain parameter. */
  readonly stored?: readonly number[];
  /** How a derived one is computed at load. */
  readonly derive?: PlanExpression;
}

export interface Plan {
  readonly format: 1;
  readonly dims: Module['dims'];
  readonly states: readonly {
    readonly name: string;
    readonly policy: string;
    readonly page: number;
    readonly fields: readonly { readonly name: string; readonly type: string }[];
  }[];
  readonly weights: readonly PlanWeight[];
  readonly weightBytes: number;
  readonly functions: readonly PlanFunction[];
}

/** The plan of a module after select-kernels. */
export function makePlan(module: Module): Plan {
  const functions = module.functions.filter((f) => f.kind !== 'kernel');
  const arenas = new Map<string, number>();
  const planned = functions.map((f) => planFunction(module, f, arenas));
  const { weights, bytes } = planWeights(module);
  return {
    format: 1,
    dims: module.dims,
    states: module.states.map((s) => ({
      ...s,
      fields: s.fields.map((x) => ({ name: x.name, type: showType(x.type) })),
    })),
    weights,
    weightBytes: bytes,
    functions: planned,
  };
}

function planFunction(module: Module, f: Function, arenas: Map<string, number>): PlanFunction {
  const locations = new Map<Value, Location>();
  f.arguments.forEach((a, i) => locations.set(a.value, { argument: i }));
  for (const d of f.declarations) locations.set(d.value, { weight: d.value.name });
  const planned = f.attributes.arena !== undefined;
  let arenaBytes = Number(f.attributes.arena ?? 0);
  if (!planned) {
    // plan-memory was off: one buffer per value.
    const { values, intervals } = arenaIntervals(module, f);
    const packed = packSequentially(intervals);
    values.forEach((v, i) => locations.set(v, { arena: packed.offsets[i] }));
    arenaBytes = packed.bytes;
  } else
    for (const op of f.body)
      op.results.forEach((r, i) => {
        const offset = (op.attributes.memory as readonly number[])[i] ?? -1;
        if (offset >= 0) locations.set(r, { arena: offset });
      });
  const owners = ownersOf(module, f);
  const locate = (v: Value): Location => {
    const known = locations.get(v) ?? locations.get(owners.get(v) ?? v);
    if (!known) throw new Error(`makePlan: ${v.name} of @${f.name} has no place`);
    return known;
  };
  const steps: PlanStep[] = [];
  for (const op of f.body) {
    if (isAlias(op)) {
      locations.set(op.results[0], aliasLocation(op, locate(op.operands[0])));
      continue;
    }
    let arena: number | undefined;
    if (op.op === 'repeat' && planned)
      arena = (op.attributes.memory as readonly number[])[op.results.length] ?? 0;
    else if (op.op === 'repeat') {
      arena = arenaBytes;
      arenaBytes += arenas.get(String(op.attributes.callee)) ?? 0;
    }
    steps.push({
      ...(op.op === 'launch'
        ? { launch: String(op.attributes.callee) }
        : {
            repeat: {
              function: String(op.attributes.callee),
              start: Number(op.attributes.start),
              stop: Number(op.attributes.stop),
              prefix: String(op.attributes.prefix),
              modes: op.attributes.modes as readonly string[],
            },
            arena,
          }),
      operands: op.operands.map(locate),
      results: op.results.map(locate),
      ...(op.span.file === '' ? {} : { at: showSpan(op.span) }),
    });
  }
  arenas.set(f.name, arenaBytes);
  return {
    name: f.name,
    kind: f.kind === 'entry' ? 'entry' : 'block',
    arguments: f.arguments.map((a) => ({ name: a.value.name, type: showType(a.value.type), inout: a.inout })),
    arenaBytes,
    steps,
    results: f.results.map(locate),
    finals: f.finals.map(locate),
  };
}

function aliasLocation(op: Op, of: Location): Location {
  return op.op === 'reshape' ? of : { of, component: String(op.attributes.field) };
}

function planExpression(e: DeriveExpression): PlanExpression {
  if ('parameter' in e) return e;
  // Arena offsets mean nothing at load.
  const { memory: _, ...attributes } = e.attributes;
  return { op: e.op, operands: e.operands.map(planExpression), attributes, type: showType(e.type) };
}

function planWeights(module: Module): { weights: readonly PlanWeight[]; bytes: number } {
  const weights: PlanWeight[] = [];
  const seen = new Set<string>();
  let offset = 0;
  for (const use of weightUses(module, entriesOf(module))) {
    const { declaration: d, layers, name } = use;
    const key = `${name}|${layers?.join() ?? ''}`;
    if (seen.has(key) || !use.function.body.some((op) => op.operands.includes(d.value))) continue;
    seen.add(key);
    const bytes = tensorBytes(d.value.type);
    const stride = alignUp(valueBytes(d.value.type, module));
    weights.push({
      name,
      layers,
      type: showType(d.value.type),
      bytes,
      offset,
      stride,
      ...(d.kind === 'derived' ? { derive: planExpression(d.expression) } : { stored: d.stored }),
    });
    offset += stride * (layers ? layers[1] - layers[0] : 1);
  }
  return { weights, bytes: offset };
}

/** Arrays of each argument of an entry, for hosts that prepare inputs. */
export const entryInputs = (module: Module, name: string) =>
  functionNamed(module, name).arguments.map((a) => ({
    name: a.value.name,
    components: componentsOf(a.value.type, module),
  }));
