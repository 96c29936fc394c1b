// The schedule of a model: its layers cut into phases at their communication ops, spread over stages, and the generator
// that its deployment names. Until a partition pass assigns layers by cost, stages get equal counts of them.
import { fail } from '../../ir/diagnostics.ts';
import { calleeOf, functionNamed, type Function, type Module, type Op, type Value } from '../../ir/module.ts';
import { opDefinition } from '../../ir/ops/index.ts';
import type { LayerKind, LayerPhase, Schedule, StageLayers } from '../../ir/schedule.ts';
import { noSpan, type Span } from '../../ir/span.ts';
import { makeSchedule, schedulerNamed, stageCount } from './make.ts';

/** What is asked for instead of what the model declares. */
export interface ScheduleOverrides {
  readonly kind?: string;
  readonly ranks?: number;
  readonly microBatches?: number;
  readonly commSms?: number;
}

/** True when the model's deployment declares a pipeline. */
export const declaresPipeline = (module: Module): boolean =>
  module.attributes['pipeline.schedule'] !== undefined;

/**
 * The schedule of a traced or specialized model, called `train`. Throws a DiagnosticError: `schedule/no-pipeline` when
 * neither the model nor `overrides` say what to make, `schedule/no-layers`, `schedule/few-layers`, and what makeSchedule
 * throws.
 */
export function scheduleOfModel(module: Module, overrides: ScheduleOverrides = {}): Schedule {
  const { attributes } = module;
  const declared = (name: string): number | undefined => {
    const value = attributes[name];
    return typeof value === 'number' ? value : undefined;
  };
  const kind = overrides.kind ?? attributes['pipeline.schedule'];
  const ranks = overrides.ranks ?? declared('parallel.pp');
  const microBatches = overrides.microBatches ?? declared('pipeline.micro_batches');
  if (kind === undefined || ranks === undefined || microBatches === undefined)
    fail({
      code: 'schedule/no-pipeline',
      message: `model ${module.name} declares no pipeline, and ${listed({ kind, ranks, microBatches })}`,
      fix: 'declare deployment: [parallel({ pp: 16, pipeline: dualPipe({ microBatches: 120 }) })], or say --kind, --ranks and --micro-batches',
    });
  const scheduler = schedulerNamed(String(kind));
  const commSms = overrides.commSms ?? declared('pipeline.comm_sms');
  const refused = scheduler.refuse(ranks, microBatches);
  const { layers, rows, span } = layersOfModel(module);
  if (refused) fail({ code: 'schedule/bad-size', message: refused.rule, at: span, fix: refused.fix });
  const stages = spread(rows, stageCount(scheduler, ranks), span);
  return makeSchedule(scheduler.name, {
    ...{ ranks, microBatches, layers, stages, span },
    ...(commSms !== undefined && { commSms }),
  });
}

function listed(given: Readonly<Record<string, unknown>>): string {
  const flags: Readonly<Record<string, string>> = {
    kind: '--kind',
    ranks: '--ranks',
    microBatches: '--micro-batches',
  };
  const missing = Object.keys(given).filter((k) => given[k] === undefined);
  return `${missing.map((k) => flags[k]).join(' and ')} ${missing.length > 1 ? 'are' : 'is'} not given`;
}

/** A run of equal layers; `isBody` for those that are spread over stages. */
interface Row {
  readonly layer: string;
  readonly count: number;
  readonly isBody: boolean;
}

/** The layers of a model in order: what its repeats run, and what is before, between and after them. */
function layersOfModel(module: Module): { layers: LayerKind[]; rows: Row[]; span: Span } {
  const root =
    module.functions.find((f) => f.kind === 'entry' && f.name === 'train') ??
    module.functions.find((f) => f.kind === 'entry');
  if (!root)
    fail({
      code: 'schedule/no-layers',
      message: `module ${module.name} has no entry whose layers could be scheduled`,
      fix: 'give the IR of a model, traced or specialized',
    });
  const body = flatten(module, root);
  const layers = new Map<string, LayerKind>();
  const rows: Row[] = [];
  let between: Op[] = [];
  const close = (name: string): void => {
    // What only moves data costs nothing worth a phase.
    if (between.some(isWork)) {
      let unique = name;
      for (let n = 1; layers.has(unique); n++) unique = `${name}_${n}`;
      layers.set(unique, { name: unique, phases: phasesOf(between), span: between[0].span });
      rows.push({ layer: unique, count: 1, isBody: false });
    }
    between = [];
  };
  for (const op of body) {
    if (op.op !== 'repeat') {
      between.push(op);
      continue;
    }
    close(rows.length === 0 ? 'embedding' : 'between');
    const callee = functionNamed(module, calleeOf(op)!);
    if (!layers.has(callee.name))
      layers.set(callee.name, {
        name: callee.name,
        phases: phasesOf(flatten(module, callee)),
        span: callee.span,
      });
    const count = Number(op.attributes.stop) - Number(op.attributes.start);
    if (count > 0) rows.push({ layer: callee.name, count, isBody: true });
  }
  close('head');
  if (!rows.some((r) => r.isBody))
    fail({
      code: 'schedule/no-layers',
      message: `@${root.name} repeats no layers, so there is nothing to spread over stages`,
      at: root.span,
      fix: 'write the layers as repeat(range(0, layers), layer, …)',
    });
  const used = new Set(rows.map((r) => r.layer));
  return { layers: [...layers.values()].filter((l) => used.has(l.name)), rows, span: root.span };
}

/** A function's ops with calls opened, so that values lead from op to op across them. */
function flatten(module: Module, f: Function): Op[] {
  const out: Op[] = [];
  const visit = (fn: Function, values: ReadonlyMap<Value, Value>): ReadonlyMap<Value, Value> => {
    const now = new Map(values);
    for (const op of fn.body) {
      const operands = op.operands.map((v) => now.get(v) ?? v);
      if (op.op !== 'call') {
        out.push({ ...op, operands });
        continue;
      }
      const callee = functionNamed(module, calleeOf(op)!);
      const inner = visit(callee, new Map(callee.arguments.map((a, i) => [a.value, operands[i]])));
      const given = [...callee.results, ...callee.finals].map((v) => inner.get(v) ?? v);
      op.results.forEach((r, i) => now.set(r, given[i]));
    }
    return now;
  };
  visit(f, new Map());
  return out;
}

/** Ops that other ranks take part in, by the phase that they make, and the phase that computes between them. */
const communication: Readonly<Record<string, string>> = {
  group_tokens: 'dispatch',
  combine_tokens: 'combine',
};

const isWork = (op: Op): boolean => {
  const { class: kind } = opDefinition(op.op);
  return kind === 'contraction' || op.op === 'attention' || op.op === 'gather';
};

const hasWeights = (op: Op): boolean =>
  (opDefinition(op.op).class === 'contraction' || op.op === 'gather') &&
  op.operands.some((v) => v.source === 'parameter' || v.source === 'derived');

/**
 * A layer's phases: its ops by how many communication ops they depend on, one after the other. What comes after the last
 * communication without a contraction (a residual sum) runs with the next layer.
 */
function phasesOf(ops: readonly Op[]): LayerPhase[] {
  const depthOf = new Map<Value, number>();
  const compute = new Map<number, Op[]>();
  const comm = new Map<number, string>();
  for (const op of ops) {
    const depth = Math.max(0, ...op.operands.map((v) => depthOf.get(v) ?? 0));
    const sent = communication[op.op];
    if (sent) {
      // Several that wait for the same phase are one.
      comm.set(depth, sent);
    } else compute.set(depth, [...(compute.get(depth) ?? []), op]);
    for (const r of op.results) depthOf.set(r, sent ? depth + 1 : depth);
  }
  const phases: LayerPhase[] = [];
  const add = (name: string, stream: LayerPhase['stream'], weights: boolean): void => {
    let unique = name;
    for (let n = 2; phases.some((p) => p.name === unique); n++) unique = `${name}${n}`;
    phases.push({ name: unique, stream, weights });
  };
  const depths = 1 + Math.max(0, ...compute.keys(), ...[...comm.keys()].map((d) => d + 1));
  for (let depth = 0; depth < depths; depth++) {
    const here = compute.get(depth) ?? [];
    if (here.some(isWork)) add(nameOf(here, comm.size > 0), 'compute', here.some(hasWeights));
    const sent = comm.get(depth);
    if (sent) add(sent, 'comm', false);
  }
  return phases;
}

/** As the field calls it: attention, mlp; a layer that is not cut is one phase. */
function nameOf(ops: readonly Op[], isCut: boolean): string {
  if (!isCut) return 'layer';
  if (ops.some((op) => op.op === 'attention')) return 'attention';
  return ops.some((op) => op.op === 'grouped_matmul' || op.op === 'matmul') ? 'mlp' : 'compute';
}

/**
 * Layers in order over stages, equal counts; stages with one layer less are the outer ones, which also embed and make the
 * logits.
 */
function spread(rows: readonly Row[], count: number, at: Span): StageLayers[] {
  const layers = rows.filter((r) => r.isBody).reduce((n, r) => n + r.count, 0);
  if (layers < count)
    fail({
      code: 'schedule/few-layers',
      message: `${layers} layers cannot fill ${count} stages`,
      at,
      fix: `use at most ${layers} stages`,
    });
  const least = Math.floor(layers / count);
  // Outermost first, the last stage before the first one: the head is more work than the embedding.
  const outward = Array.from({ length: count }, (_, i) => (i % 2 === 0 ? count - 1 - i / 2 : (i - 1) / 2));
  const fewer = new Set(outward.slice(0, count * (least + 1) - layers));
  const room = Array.from({ length: count }, (_, i) => (fewer.has(i) ? least : least + 1));

  const stages: { layer: string; count: number }[][] = room.map(() => []);
  let stage = 0;
  let free = room[0];
  const put = (layer: string, n: number): void => {
    const last = stages[stage].at(-1);
    if (last?.layer === layer) last.count += n;
    else stages[stage].push({ layer, count: n });
  };
  for (const row of rows) {
    if (!row.isBody) {
      put(row.layer, row.count);
      continue;
    }
    for (let left = row.count; left > 0;) {
      if (free === 0) free = room[++stage];
      const n = Math.min(left, free);
      put(row.layer, n);
      left -= n;
      free -= n;
    }
  }
  return stages.map((list) => ({ layers: list, span: noSpan }));
}
