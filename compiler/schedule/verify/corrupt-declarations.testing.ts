// Ways to spoil what a sound schedule declares: placement, layers, bounds, multiprocessors, phase orders.
import type { PhaseOrder, PhaseStep, Schedule } from '../../../ir/schedule.ts';
import { noSpan } from '../../../ir/span.ts';
import type { Corrupted, Corruption } from './corrupt.testing.ts';
import { showOrder } from './report.ts';

/** Of the schedule as a whole. */
const declared =
  (code: string, says: string, edit: (schedule: Schedule) => Schedule | null): Corruption =>
  (schedule) => {
    const edited = edit(schedule);
    return edited && { schedule: edited, codes: [code], says, at: schedule.span };
  };

type Steps = readonly PhaseStep[];

/** Of the order of one operation. `edit` gives the steps, and which one is at fault (null: the order itself). */
const ordered =
  (
    op: PhaseOrder['op'],
    code: string,
    says: string,
    edit: (steps: Steps) => { steps: Steps; at: PhaseStep | null },
  ): Corruption =>
  (schedule) => {
    const order = schedule.orders.find((o) => o.op === op);
    if (!order) return null;
    const { steps, at } = edit(order.steps);
    return {
      schedule: { ...schedule, orders: schedule.orders.map((o) => (o === order ? { ...o, steps } : o)) },
      codes: [code],
      says: `${showOrder(order)}${says}`,
      at: at ? at.span : order.span,
    };
  };

const find = (steps: Steps, phase: string, part: string): number =>
  steps.findIndex((s) => s.phase === phase && s.part === part);

const changed =
  (phase: string, part: string, change: (step: PhaseStep) => PhaseStep) =>
  (steps: Steps): { steps: Steps; at: PhaseStep } => {
    const i = find(steps, phase, part);
    return { steps: steps.with(i, change(steps[i])), at: steps[i] };
  };

const isDualpipe = (s: Schedule): boolean => s.kind === 'dualpipe';

const withPlacement = (s: Schedule, rank: number, stages: readonly number[]): Schedule => ({
  ...s,
  programs: s.programs.map((p, r) => (r === rank ? { ...p, stages } : p)),
});

const withStage = (s: Schedule, layers: Schedule['stages'][number]['layers']): Schedule => ({
  ...s,
  stages: s.stages.with(0, { layers, span: s.span }),
});

const withPhases = (s: Schedule, name: string): Schedule => ({
  ...s,
  layers: [
    ...s.layers,
    { name: 'extra', span: s.span, phases: [phase('all'), ...(name === '' ? [] : [phase(name)])] },
  ],
});
const phase = (name: string) => ({ name, stream: 'compute' as const, weights: true });

export const declarations: Readonly<Record<string, Corruption>> = {
  stageHeldTwice: declared('placement', 'stages are not placed well: stage ', (s) =>
    s.programs.length > 2 && !isDualpipe(s)
      ? withPlacement(s, s.programs.length - 1, [0, ...s.programs.at(-1)!.stages.slice(1)])
      : null,
  ),
  bothDirectionsOneStage: declared('placement', 'stages are not placed well: stage ', (s) =>
    isDualpipe(s) ? withPlacement(s, 0, [0, 0]) : null,
  ),
  mirroredTwice: declared('placement', 'stages are not placed well: stage 0 is held', (s) =>
    isDualpipe(s) ? { ...s, programs: [...s.programs, ...s.programs] } : null,
  ),
  stageNobodyHolds: declared('placement', 'stages are not placed well: no rank holds stage', (s) =>
    s.programs.length > 1 && !isDualpipe(s)
      ? withPlacement(s, 0, [99, ...s.programs[0].stages.slice(1)])
      : null,
  ),
  unevenPlacement: declared('placement', 'stages are not placed well: rank 1 holds', (s) =>
    s.programs.length > 1 ? withPlacement(s, 1, [...s.programs[1].stages, 1]) : null,
  ),
  noRanks: declared('placement', 'stages are not placed well: there is no rank', (s) => ({
    ...s,
    programs: [],
  })),
  oddMicroBatches: declared('placement', 'stages are not placed well: 9 micro-batches cannot', (s) =>
    isDualpipe(s) ? { ...s, microBatches: 9 } : null,
  ),
  noMicroBatches: declared('micro-batches', 'schedule train has 0 micro-batches', (s) => ({
    ...s,
    microBatches: 0,
  })),
  farTooManyMicroBatches: declared('missing-op', '1000000000000 micro-batches on', (s) => ({
    ...s,
    microBatches: 1e12,
  })),
  tooManySms: declared('sms', 'compute has 120 and comm 20 multiprocessors, and the device has 132', (s) => ({
    ...s,
    sms: { compute: 120, comm: 20 },
  })),
  noSmsForCommunication: declared('sms', 'compute has 132 and comm 0 multiprocessors', (s) => ({
    ...s,
    sms: { compute: 132, comm: 0 },
  })),
  tooFewStages(s): Corrupted | null {
    const held = s.programs[0].stages.length;
    return {
      schedule: { ...s, bounds: { ...s.bounds, stages: held - 1 } },
      codes: s.programs.map(() => 'live-stages').slice(0, 8),
      says: `rank 0 holds stages ${s.programs[0].stages.join(' and ')}: ${held}, and the bound is ${held - 1}`,
      at: s.programs[0].span,
    };
  },
  stageWithoutLayers: declared('stage-layers', 'stage 0 has no layers', (s) => withStage(s, [])),
  layersNegative: declared('stage-layers', 'stage 0 has -1 layers moe', (s) =>
    withStage(s, [{ layer: 'moe', count: -1 }]),
  ),
  unknownLayer: declared('unknown-layer', 'stage 0 has a layer dense, which is not declared', (s) =>
    withStage(s, [{ layer: 'dense', count: 1 }]),
  ),
  stagesNotListed: declared('stage-layers', 'ranks hold', (s) => ({ ...s, stages: s.stages.slice(1) })),
  layerDeclaredTwice: declared('duplicate-layer', 'layer moe is declared twice', (s) => ({
    ...s,
    layers: [...s.layers, { ...s.layers[0], span: s.span }],
  })),
  layerWithoutPhases: declared('layer-phases', 'layer extra has no phases', (s) => ({
    ...s,
    layers: [...s.layers, { name: 'extra', phases: [], span: s.span }],
  })),
  phaseNamedInput: declared('layer-phases', 'layer extra has a phase input', (s) => withPhases(s, 'input')),
  phaseNamedTwice: declared('layer-phases', 'layer extra has two phases all', (s) => withPhases(s, 'all')),

  missingOrder(s): Corrupted | null {
    const at = s.programs[0].ops.find((o) => o.op === 'forward');
    return {
      schedule: { ...s, orders: s.orders.filter((o) => o.op !== 'forward') },
      codes: ['missing-order'],
      says: 'rank 0: forward d0 m0 needs an order forward moe, and there is none',
      at: at?.span ?? noSpan,
    };
  },
  doubledOrder(s): Corrupted | null {
    const again = { ...s.orders[0], span: { ...s.orders[0].span, line: 999_999 } };
    return {
      schedule: { ...s, orders: [...s.orders, again] },
      codes: ['duplicate-order'],
      says: `${showOrder(again)} is given twice`,
      at: again.span,
      other: s.orders[0].span,
    };
  },
  orderOfUnknownLayer(s): Corrupted | null {
    const order = { ...s.orders[0], layers: ['dense'] };
    return {
      schedule: { ...s, orders: [...s.orders, order] },
      codes: ['unknown-layer'],
      says: `order forward dense: layer dense is not declared`,
      at: order.span,
    };
  },
  orderOfTwoLayers(s): Corrupted | null {
    const order = { ...s.orders[0], layers: ['moe', 'moe'] };
    return {
      schedule: { ...s, orders: [...s.orders, order] },
      codes: ['order-layers'],
      says: 'order forward moe & moe names 2 layers, and forward is of 1',
      at: order.span,
    };
  },

  missingWait: ordered(
    'overlap',
    'missing-wait',
    ': mlp(F) on compute can start before dispatch(F) has ended',
    changed('mlp', 'F', (s) => ({ ...s, waits: [] })),
  ),
  missingWaitForInput: ordered(
    'forward',
    'missing-wait',
    ': attention(F) on compute can start before input(F) has ended',
    changed('attention', 'F', (s) => ({ ...s, waits: [] })),
  ),
  missingWaitBackward: ordered(
    'backward',
    'missing-wait',
    ': attention(B) on compute can start before dispatch(B) has ended',
    changed('attention', 'B', (s) => ({ ...s, waits: [{ phase: 'mlp', part: 'B' }] })),
  ),
  waitForALaterPhase: ordered(
    'overlap',
    'late-wait',
    ': mlp(F) waits for combine(F), which is launched only after it',
    changed('mlp', 'F', (s) => ({ ...s, waits: [...s.waits, { phase: 'combine', part: 'F' }] })),
  ),
  waitForItself: ordered(
    'forward',
    'late-wait',
    ': mlp(F) waits for mlp(F), which is itself',
    changed('mlp', 'F', (s) => ({ ...s, waits: [...s.waits, { phase: 'mlp', part: 'F' }] })),
  ),
  waitForAnotherOrdersPhase: ordered(
    'backward_input',
    'unknown-wait',
    ': mlp(B) waits for mlp(F), which is not launched here',
    changed('mlp', 'B', (s) => ({ ...s, waits: [...s.waits, { phase: 'mlp', part: 'F' }] })),
  ),
  wrongStream: ordered(
    'forward',
    'stream',
    ' launches dispatch(F) on compute, and it is a phase of comm',
    changed('dispatch', 'F', (s) => ({ ...s, stream: 'compute' })),
  ),
  phaseOfNoLayer: ordered(
    'forward',
    'unknown-phase',
    ' launches norm(F), which its layers do not have',
    (steps) => {
      const step = { ...steps[0], phase: 'norm', waits: [] };
      return { steps: [...steps, step], at: step };
    },
  ),
  weightsOfCommunication: ordered(
    'weights',
    'unknown-phase',
    ' launches dispatch(W), which its layers do not have',
    (steps) => {
      const step: PhaseStep = { ...steps[0], phase: 'dispatch', stream: 'comm' };
      return { steps: [...steps, step], at: step };
    },
  ),
  missingPhase: ordered('forward', 'missing-phase', ' never launches combine(F)', (steps) => ({
    steps: steps.toSpliced(find(steps, 'combine', 'F'), 1),
    at: null,
  })),
  doubledPhase: ordered('overlap', 'duplicate-phase', ' launches mlp(W) twice', (steps) => {
    const step = { ...steps[find(steps, 'mlp', 'W')], span: { ...steps[0].span, line: 999_999 } };
    return { steps: [...steps, step], at: step };
  }),
  weightsFirst: ordered('backward', 'phase-order', ' launches mlp(W) before mlp(B)', (steps) => {
    const [b, w] = [find(steps, 'mlp', 'B'), find(steps, 'mlp', 'W')];
    // It waits for the gradients that mlp(B) waits for, so only its place is wrong.
    const step = { ...steps[w], waits: steps[b].waits };
    return { steps: steps.toSpliced(w, 1).toSpliced(b, 0, step), at: step };
  }),
};
