// What every schedule must satisfy before anyone may look into it: names, counts, and that what it refers to is there.
// Whether its ranks do the right things in a possible order is said by the compiler's verifier of schedules, not here.
import type {
  Chunk,
  LayerKind,
  PhaseOrder,
  PhaseRef,
  PhaseStep,
  RankProgram,
  Schedule,
  ScheduleOp,
} from '../schedule.ts';
import {
  printLayer,
  printOrderHeader,
  printRankHeader,
  printScheduleHeader,
  printScheduleOp,
  printStage,
  printStep,
} from '../text/schedule-printer.ts';
import { didYouMean, isIdentifier } from '../text/spelling.ts';
import { noteAt, type Place, type Report } from './report.ts';

/** A broken generator may get every op of a rank wrong: after so many only their number is said. */
const mostPerRank = 10;

const natural = (n: number): boolean => Number.isSafeInteger(n) && n >= 0 && !Object.is(n, -0);
const positive = (n: number): boolean => natural(n) && n > 0;

/** Reports everything that is wrong with a schedule by itself. Linear in its size. */
export function verifySchedule(s: Schedule, report: Report): void {
  const place: Place = { span: s.span, text: () => printScheduleHeader(s) };
  checkName('schedule', s.name, place, report);
  for (const [what, value, least] of [
    ['micro_batches', s.microBatches, 1],
    ['compute_sms', s.sms.compute, 0],
    ['comm_sms', s.sms.comm, 0],
    ['live_activations', s.bounds.activations, 1],
    ['live_stages', s.bounds.stages, 1],
  ] as const)
    if (!natural(value) || value < least)
      report(
        'ir/bound',
        `schedule @${s.name}: ${what} is ${value}`,
        place,
        `make it an integer of at least ${least}`,
      );
  const layers = verifyLayers(s, report);
  verifyStages(s, layers, report);
  verifyOrders(s, layers, report);
  if (s.programs.length === 0)
    report('ir/schedule', `schedule @${s.name} has no ranks`, place, 'write `rank 0 stages [0] {`');
  s.programs.forEach((program, rank) => verifyRank(s, program, rank, report));
}

function checkName(what: string, name: string, place: Place, report: Report): void {
  if (!isIdentifier(name))
    report(
      'ir/name',
      `${what} name ${JSON.stringify(name)} cannot be written in IR text`,
      place,
      'use letters, digits, _ and .',
    );
}

type Layers = ReadonlyMap<string, LayerKind>;

function verifyLayers(s: Schedule, report: Report): Layers {
  const known = new Map<string, LayerKind>();
  for (const layer of s.layers) {
    const place: Place = { span: layer.span, text: () => printLayer(layer) };
    checkName('layer', layer.name, place, report);
    const before = known.get(layer.name);
    if (before)
      report(
        'ir/duplicate-name',
        `schedule @${s.name} has two layers ${layer.name}`,
        place,
        'rename one of them',
        [noteAt('the first one is here', before.span)],
      );
    else known.set(layer.name, layer);
    if (layer.phases.length === 0)
      report('ir/schedule', `layer ${layer.name} has no phases`, place, 'name what it computes');
    const names = new Set<string>();
    for (const { name } of layer.phases) {
      checkName('phase', name, place, report);
      if (name === 'input')
        report(
          'ir/name',
          `a phase of layer ${layer.name} is called input`,
          place,
          'rename it: in orders, input is what the layer before gives',
        );
      if (names.has(name))
        report(
          'ir/duplicate-name',
          `layer ${layer.name} has two phases ${name}`,
          place,
          'rename one of them',
        );
      names.add(name);
    }
  }
  return known;
}

function checkLayer(name: string, layers: Layers, place: Place, report: Report): void {
  if (!layers.has(name))
    report(
      'ir/unknown-layer',
      `there is no layer ${name}`,
      place,
      didYouMean(name, layers.keys()) ?? `declare it: \`layer ${isIdentifier(name) ? name : 'name'} = …\``,
    );
}

function verifyStages(s: Schedule, layers: Layers, report: Report): void {
  s.stages.forEach((stage, number) => {
    const place: Place = { span: stage.span, text: () => printStage(stage, number) };
    for (const { layer, count } of stage.layers) {
      checkLayer(layer, layers, place, report);
      if (!positive(count))
        report(
          'ir/bound',
          `stage ${number} has ${count} layers ${layer}`,
          place,
          'make it a positive integer, or leave the layer out',
        );
    }
  });
}

function verifyOrders(s: Schedule, layers: Layers, report: Report): void {
  const known = new Map<string, PhaseOrder>();
  for (const order of s.orders) {
    const place: Place = { span: order.span, text: () => printOrderHeader(order) };
    const wanted = order.op === 'overlap' ? 2 : 1;
    if (order.layers.length !== wanted) {
      report(
        'ir/schedule',
        `an order of ${order.op} is for ${wanted} layer${wanted === 1 ? '' : 's'}, but here are ${order.layers.length}`,
        place,
        wanted === 2
          ? 'name the forward and the backward layer: `order overlap moe & dense {`'
          : `name one layer: \`order ${order.op} moe {\``,
      );
      continue;
    }
    for (const name of order.layers) checkLayer(name, layers, place, report);
    const key = `${order.op} ${order.layers.join(' & ')}`;
    const before = known.get(key);
    if (before)
      report('ir/duplicate-name', `there are two orders of ${key}`, place, 'keep one of them', [
        noteAt('the first one is here', before.span),
      ]);
    known.set(key, order);
    for (const step of order.steps) verifyStep(step, order, layers, report);
  }
}

/** A forward part is of the order's first layer, the others of its last: they are two in an overlap. */
function verifyStep(step: PhaseStep, order: PhaseOrder, layers: Layers, report: Report): void {
  const place: Place = { span: step.span, text: () => printStep(step) };
  const check = ({ phase, part }: PhaseRef, waits: boolean): void => {
    const name = order.layers[part === 'F' ? 0 : order.layers.length - 1];
    const layer = layers.get(name);
    // A missing layer has been reported.
    if (!layer || (waits && phase === 'input') || layer.phases.some((p) => p.name === phase)) return;
    const phases = layer.phases.map((p) => p.name);
    if (phase === 'input')
      report('ir/unknown-phase', 'input is no phase that can be launched', place, 'put it after `after`');
    else
      report(
        'ir/unknown-phase',
        `layer ${name} has no phase ${phase}`,
        place,
        didYouMean(phase, phases) ?? `its phases are ${phases.join(', ')}`,
      );
  };
  check(step, false);
  for (const wait of step.waits) check(wait, true);
}

function verifyRank(s: Schedule, program: RankProgram, rank: number, report: Report): void {
  const place: Place = { span: program.span, text: () => printRankHeader(program.stages, rank) };
  for (const stage of program.stages)
    if (!natural(stage) || stage >= s.stages.length)
      report(
        'ir/schedule',
        `rank ${rank} holds stage ${stage}, but ${among('stage', s.stages.length)}`,
        place,
        'hold a stage that is there, or declare it: `stage 0 = moe`',
      );
  let wrong = 0;
  program.ops.forEach((op, index) => {
    const problem = problemOf(op, program.stages.length, s.programs.length);
    if (problem === null || ++wrong > mostPerRank) return;
    report(
      'ir/schedule',
      `rank ${rank}, op ${index}: ${problem.message}`,
      { span: op.span, text: () => printScheduleOp(op) },
      problem.fix,
    );
  });
  if (wrong > mostPerRank)
    report('ir/schedule', `rank ${rank} has ${wrong - mostPerRank} more wrong ops`, place);
}

const among = (what: string, count: number): string =>
  count === 0
    ? `there is no ${what}`
    : count === 1
      ? `there is only ${what} 0`
      : `${what}s are 0 to ${count - 1}`;

interface Problem {
  readonly message: string;
  readonly fix: string;
}

function problemOf(op: ScheduleOp, directions: number, ranks: number): Problem | null {
  switch (op.op) {
    case 'commit':
      return null;
    case 'overlap':
      return chunkProblem(op.forward, directions) ?? chunkProblem(op.backward, directions);
    case 'send':
    case 'receive':
      if (natural(op.peer) && op.peer < ranks) return chunkProblem(op.chunk, directions);
      return {
        message: `there is no rank ${op.peer}: ${among('rank', ranks)}`,
        fix: `${op.op} ${op.op === 'send' ? 'to' : 'from'} a rank of this schedule`,
      };
    case 'forward':
    case 'backward':
    case 'backward_input':
    case 'weights':
      return chunkProblem(op.chunk, directions);
  }
}

function chunkProblem({ direction, microBatch }: Chunk, directions: number): Problem | null {
  if (!natural(direction) || direction >= directions)
    return {
      message: `there is no direction d${direction} on this rank: ${among('direction', directions)}`,
      fix: 'a rank has one direction for each stage that it holds',
    };
  if (natural(microBatch)) return null;
  return { message: `there is no micro-batch m${microBatch}`, fix: 'micro-batches are counted from 0' };
}
