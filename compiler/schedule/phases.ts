// A chunk operation in phases: layers are cut at their communication ops, and while one side of an overlapped pair
// communicates, the other computes. The order for two mixture-of-experts layers is the one recorded on H800
// (facts of DeepSeek's profile data): combine(B), attention(F), mlp(B), dispatch(F), dispatch(B), mlp(W), mlp(F),
// attention(B), attention(W), combine(F).
import {
  isCompute,
  type ComputeOp,
  type LayerKind,
  type LayerPhase,
  type Part,
  type PhaseOrder,
  type PhaseRef,
  type PhaseStep,
  type RankProgram,
  type StageLayers,
} from '../../ir/schedule.ts';
import { noSpan } from '../../ir/span.ts';

/** A layer of routed experts over many ranks: what its communication cuts it into. */
export const moeLayer: LayerKind = {
  name: 'moe',
  phases: [
    { name: 'attention', stream: 'compute', weights: true },
    { name: 'dispatch', stream: 'comm', weights: false },
    { name: 'mlp', stream: 'compute', weights: true },
    { name: 'combine', stream: 'comm', weights: false },
  ],
  span: noSpan,
};

/** The phases of one layer in one direction, each waiting for the one before where that is on another stream. */
function chain(phases: readonly LayerPhase[], part: Part): PhaseStep[] {
  const ordered = part === 'F' ? phases : [...phases].reverse();
  return ordered.map((p, i) => {
    const before: LayerPhase | undefined = ordered[i - 1];
    const waits: PhaseRef[] =
      i === 0 ? [{ phase: 'input', part }] : before.stream === p.stream ? [] : [{ phase: before.name, part }];
    return { phase: p.name, part, stream: p.stream, waits, span: noSpan };
  });
}

const weightsOf = (layer: LayerKind, phase: string): PhaseStep[] =>
  layer.phases
    .filter((p) => p.name === phase && p.weights)
    .map((p) => ({ phase: p.name, part: 'W', stream: p.stream, waits: [], span: noSpan }));

/** A chain cut into what is launched before its first computation, and each computation with what follows it. */
function rounds(steps: readonly PhaseStep[]): { lead: PhaseStep[]; rounds: PhaseStep[][] } {
  const lead: PhaseStep[] = [];
  const found: PhaseStep[][] = [];
  for (const step of steps) {
    if (step.stream === 'compute') found.push([step]);
    else (found.at(-1) ?? lead).push(step);
  }
  return { lead, rounds: found };
}

function overlapped(ahead: LayerKind, back: LayerKind): PhaseStep[] {
  const f = rounds(chain(ahead.phases, 'F'));
  const b = rounds(chain(back.phases, 'B'));
  const steps = [...b.lead, ...f.lead];
  for (let i = 0; i < Math.max(f.rounds.length, b.rounds.length); i++) {
    const [computeF, ...commF] = f.rounds[i] ?? [];
    const [computeB, ...commB] = b.rounds[i] ?? [];
    if (computeF) steps.push(computeF);
    if (computeB) steps.push(computeB);
    // Weight gradients fill the time of a communication that the inputs' gradients wait for.
    const weights = computeB ? weightsOf(back, computeB.phase) : [];
    if (commB.length > 0) steps.push(...commF, ...commB, ...weights);
    else steps.push(...weights, ...commF);
  }
  return steps;
}

function backward(layer: LayerKind): PhaseStep[] {
  const { lead, rounds: cut } = rounds(chain(layer.phases, 'B'));
  return [
    ...lead,
    ...cut.flatMap(([compute, ...comm]) => [compute, ...comm, ...weightsOf(layer, compute.phase)]),
  ];
}

/** The order in which dsvc launches the phases of a layer, or of a forward and a backward layer. */
export function orderFor(op: ComputeOp['op'], layers: readonly LayerKind[]): PhaseOrder {
  const [first, second] = layers;
  const steps = {
    forward: () => chain(first.phases, 'F'),
    backward: () => backward(first),
    backward_input: () => chain(first.phases, 'B'),
    weights: () => [...first.phases].reverse().flatMap((p) => weightsOf(first, p.name)),
    overlap: () => overlapped(first, second),
  }[op]();
  return { op, layers: layers.map((l) => l.name), steps, span: noSpan };
}

/** The layers of a stage one by one, from its first to its last. */
export const layersOf = (stage: StageLayers): readonly string[] =>
  stage.layers.flatMap(({ layer, count }) => Array.from({ length: count }, () => layer));

/** One layer's turn in a chunk operation: its place in its stage, and that of the other one in an overlapped pair. */
export interface Turn {
  readonly op: ComputeOp['op'];
  readonly layers: readonly string[];
  /** Index in the stage of the forward and of the backward layer; null where there is none. */
  readonly forward: number | null;
  readonly backward: number | null;
}

/**
 * The turns of a chunk operation: forwards run from a stage's first layer, backwards from its last; an overlapped pair
 * does both at once while both have layers.
 */
export function turnsOf(
  op: ComputeOp['op'],
  forward: readonly string[],
  back: readonly string[],
): readonly Turn[] {
  if (op === 'forward') return forward.map((l, i) => ({ op, layers: [l], forward: i, backward: null }));
  const last = back.length - 1;
  if (op !== 'overlap')
    return back.map((_, i) => ({ op, layers: [back[last - i]], forward: null, backward: last - i }));
  return Array.from({ length: Math.max(forward.length, back.length) }, (_, i): Turn => {
    if (i > last) return { op: 'forward', layers: [forward[i]], forward: i, backward: null };
    const b = last - i;
    if (i >= forward.length) return { op: 'backward', layers: [back[b]], forward: null, backward: b };
    return { op, layers: [forward[i], back[b]], forward: i, backward: b };
  });
}

/** The stages that an op of a rank works on: of its forward chunk and of its backward chunk. */
export function stagesOfOp(
  op: ComputeOp,
  held: readonly number[],
): { forward: number | null; backward: number | null } {
  if (op.op === 'overlap')
    return { forward: held[op.forward.direction], backward: held[op.backward.direction] };
  const stage = held[op.chunk.direction];
  return op.op === 'forward' ? { forward: stage, backward: null } : { forward: null, backward: stage };
}

/** Every order that the programs come to, each once, plain ones first. Layers and stages that are not there are left out. */
export function neededOrders(
  programs: readonly RankProgram[],
  stages: readonly StageLayers[],
): readonly Pick<PhaseOrder, 'op' | 'layers'>[] {
  const listed = stages.map(layersOf);
  const seen = new Set<string>();
  const needed = new Map<string, Pick<PhaseOrder, 'op' | 'layers'>>();
  for (const { stages: held, ops } of programs)
    for (const op of ops) {
      if (!isCompute(op)) continue;
      const { forward, backward: back } = stagesOfOp(op, held);
      const key = `${op.op} ${forward} ${back}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const of = (s: number | null): readonly string[] => (s === null ? [] : (listed[s] ?? []));
      for (const { op: kind, layers } of turnsOf(op.op, of(forward), of(back)))
        needed.set(`${kind} ${layers.join(' ')}`, { op: kind, layers });
    }
  const rank = ['forward', 'backward', 'backward_input', 'weights', 'overlap'];
  return [...needed.values()].sort((a, b) => rank.indexOf(a.op) - rank.indexOf(b.op));
}
