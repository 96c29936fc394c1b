// Phase orders: each that is needed exists once, launches every phase once on its stream, and enforces every dependence
// of data. Two launches are in order when a chain of stream order and waits leads from one to the other; launch order
// alone orders nothing between streams.
import {
  showPhase,
  type ComputeOp,
  type LayerKind,
  type Part,
  type PhaseOrder,
  type PhaseRef,
  type PhaseStep,
  type Schedule,
} from '../../../ir/schedule.ts';
import { orderKey, orderNeeds } from './needs.ts';
import { atOp, noteAt, showOrder, spanOf, type Findings } from './report.ts';

/** Parts that an operation launches, of its first layer or (overlap) of its second. */
const partsOf: Readonly<Record<ComputeOp['op'], readonly { part: Part; of: 0 | 1 }[]>> = {
  forward: [{ part: 'F', of: 0 }],
  backward: [
    { part: 'B', of: 0 },
    { part: 'W', of: 0 },
  ],
  backward_input: [{ part: 'B', of: 0 }],
  weights: [{ part: 'W', of: 0 }],
  overlap: [
    { part: 'F', of: 0 },
    { part: 'B', of: 1 },
    { part: 'W', of: 1 },
  ],
};

export function verifyOrders(schedule: Schedule, findings: Findings): void {
  const kinds = new Map(schedule.layers.map((k) => [k.name, k]));
  const known = new Map<string, PhaseOrder>();
  for (const order of schedule.orders) {
    const key = orderKey(order);
    const first = known.get(key);
    if (first) {
      findings.error('duplicate-order', null, () => ({
        message: `${showOrder(order)} is given twice`,
        at: order.span,
        notes: [noteAt('first here', first.span)],
        fix: 'remove one of them',
      }));
      continue;
    }
    known.set(key, order);
    const layers = layersOf(order, kinds, findings);
    if (layers) verifyOrder(order, layers, findings);
  }
  for (const [key, need] of orderNeeds(schedule))
    if (!known.has(key) && need.layers.every((l) => kinds.has(l)))
      findings.error('missing-order', null, () => ({
        message: `${atOp(schedule, need.rank, need.index)} needs an ${showOrder(need)}, and there is none`,
        at: spanOf(schedule, need.rank, need.index),
        fix: `add ${showOrder(need)} with its phases`,
      }));
}

/** The layers of an order when they exist and are as many as its operation has. */
function layersOf(
  order: PhaseOrder,
  kinds: ReadonlyMap<string, LayerKind>,
  findings: Findings,
): readonly LayerKind[] | null {
  const expected = order.op === 'overlap' ? 2 : 1;
  if (order.layers.length !== expected) {
    findings.error('order-layers', null, () => ({
      message: `${showOrder(order)} names ${order.layers.length} layers, and ${order.op} is of ${expected}`,
      at: order.span,
      fix: order.op === 'overlap' ? 'name the forward and the backward layer' : 'name one layer',
    }));
    return null;
  }
  const layers: LayerKind[] = [];
  for (const name of order.layers) {
    const kind = kinds.get(name);
    if (kind) layers.push(kind);
    else
      findings.error('unknown-layer', null, () => ({
        message: `${showOrder(order)}: layer ${name} is not declared`,
        at: order.span,
        fix: `use one of: ${[...kinds.keys()].join(', ')}`,
      }));
  }
  return layers.length === expected ? layers : null;
}

function verifyOrder(order: PhaseOrder, layers: readonly LayerKind[], findings: Findings): void {
  const before = findings.errors;
  const launched = verifySteps(order, layers, findings);
  verifyWaits(order, findings);
  // With a phase or a wait that is wrong already, what follows from it would be told again.
  if (findings.errors === before) verifyDependences(order, layers, launched, findings);
}

/** Every phase part once, on its stream. Steps by their phase. */
function verifySteps(
  order: PhaseOrder,
  layers: readonly LayerKind[],
  findings: Findings,
): ReadonlyMap<string, PhaseStep> {
  const expected = new Map<string, PhaseStep['stream']>();
  for (const { part, of } of partsOf[order.op])
    for (const p of layers[of].phases)
      if (part !== 'W' || p.weights) expected.set(showPhase({ phase: p.name, part }), p.stream);
  const launched = new Map<string, PhaseStep>();
  for (const step of order.steps) {
    const name = showPhase(step);
    const stream = expected.get(name);
    const first = launched.get(name);
    if (stream === undefined)
      findings.error('unknown-phase', null, () => ({
        message: `${showOrder(order)} launches ${name}, which its layers do not have`,
        at: step.span,
        fix: `its phases are ${[...expected.keys()].join(', ')}`,
      }));
    else if (first)
      findings.error('duplicate-phase', null, () => ({
        message: `${showOrder(order)} launches ${name} twice`,
        at: step.span,
        notes: [noteAt('first here', first.span)],
        fix: 'remove one of them',
      }));
    else if (step.stream !== stream)
      findings.error('stream', null, () => ({
        message: `${showOrder(order)} launches ${name} on ${step.stream}, and it is a phase of ${stream}`,
        at: step.span,
        fix: `launch it on ${stream}`,
      }));
    if (!first) launched.set(name, step);
  }
  for (const [name, stream] of expected)
    if (!launched.has(name))
      findings.error('missing-phase', null, () => ({
        message: `${showOrder(order)} never launches ${name}`,
        at: order.span,
        fix: `add it on ${stream}`,
      }));
  return launched;
}

/** What layers are given is there before the first launch: activations for F, gradients for B. Nothing for W alone. */
const inputsOf = (op: ComputeOp['op']): readonly string[] =>
  partsOf[op].filter(({ part }) => part !== 'W').map(({ part }) => showPhase({ phase: 'input', part }));

/** A wait is for an event that was recorded before; any other would return at once. */
function verifyWaits(order: PhaseOrder, findings: Findings): void {
  const recorded = new Set(inputsOf(order.op));
  const launches = new Map(order.steps.map((s) => [showPhase(s), s]));
  for (const step of order.steps) {
    for (const wait of step.waits) {
      const name = showPhase(wait);
      if (recorded.has(name)) continue;
      const later = launches.get(name);
      findings.error(later ? 'late-wait' : 'unknown-wait', null, () => ({
        message: `${showOrder(order)}: ${showPhase(step)} waits for ${name}, which is ${
          later === step ? 'itself' : later ? 'launched only after it' : 'not launched here'
        }`,
        at: step.span,
        notes: later && later !== step ? [noteAt(`${name} is launched here`, later.span)] : [],
        fix: 'a wait for what was not recorded before is a wait for nothing: wait for an earlier phase',
      }));
    }
    recorded.add(showPhase(step));
  }
}

/** What the phase part before gives in the direction of a part; input where there is none. */
function giver(layer: LayerKind, at: number, part: 'F' | 'B'): PhaseRef {
  const other = layer.phases.at(part === 'F' ? at - 1 : at + 1);
  const isFirst = part === 'F' ? at === 0 : at === layer.phases.length - 1;
  return { phase: isFirst || !other ? 'input' : other.name, part };
}

function verifyDependences(
  order: PhaseOrder,
  layers: readonly LayerKind[],
  launched: ReadonlyMap<string, PhaseStep>,
  findings: Findings,
): void {
  const reached = reachedBy(order);
  // Weights need what their inputs' gradients need: when those do not wait for it, that is the finding.
  const raced = new Set<string>();
  const place = new Map(order.steps.map((s, i) => [showPhase(s), i]));
  for (const { part, of } of partsOf[order.op])
    for (const [at, p] of layers[of].phases.entries()) {
      const name = showPhase({ phase: p.name, part });
      const step = launched.get(name);
      // Deferred weights run in an operation of their own, after one that had all of this.
      if (!step || order.op === 'weights') continue;
      const needed = showPhase(giver(layers[of], at, part === 'F' ? 'F' : 'B'));
      const input = showPhase({ phase: p.name, part: 'B' });
      const isToldAlready = part === 'W' && raced.has(input);
      if (!isToldAlready && !reached.get(name)?.has(needed)) {
        raced.add(name);
        findings.error('missing-wait', null, () => ({
          message: `${showOrder(order)}: ${name} on ${step.stream} can start before ${needed} has ended`,
          at: step.span,
          notes: launched.has(needed)
            ? [noteAt(`${needed} is launched here`, launched.get(needed)!.span)]
            : [],
          fix: `launch it after ${needed} and let it wait for ${needed}`,
        }));
      }
      if (part === 'W' && (place.get(name) ?? 0) < (place.get(input) ?? 0))
        findings.error('phase-order', null, () => ({
          message: `${showOrder(order)} launches ${name} before ${input}`,
          at: step.span,
          notes: [noteAt(`${input} is launched here`, launched.get(input)!.span)],
          fix: 'gradients of inputs are waited for, those of weights are not: launch them after',
        }));
    }
}

/** By phase: what has ended when it starts, by the order of its stream and by waits. */
function reachedBy(order: PhaseOrder): ReadonlyMap<string, ReadonlySet<string>> {
  const reached = new Map<string, ReadonlySet<string>>();
  const lastOn = new Map<string, string>();
  for (const step of order.steps) {
    const ended = new Set<string>();
    const before = [lastOn.get(step.stream), ...step.waits.map(showPhase)];
    for (const name of before)
      if (name !== undefined) {
        ended.add(name);
        for (const earlier of reached.get(name) ?? []) ended.add(earlier);
      }
    reached.set(showPhase(step), ended);
    lastOn.set(step.stream, showPhase(step));
  }
  return reached;
}
