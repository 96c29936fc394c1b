// Schedules to text, as docs/IR.md describes them. Prints anything, correct or not: the verifier shows what is wrong with
// it. Only the header says where its author asked for it (`at …`); the rest of a schedule is made, and when it was edited
// by hand its place is the text itself, which printing would make untrue.
import {
  showChunk,
  showPhase,
  type LayerKind,
  type PhaseOrder,
  type PhaseStep,
  type Schedule,
  type ScheduleOp,
  type StageLayers,
} from '../schedule.ts';
import { spellNumber, spellPlace } from './spelling.ts';

/** A schedule's attributes in printing order, all of them required. */
export const scheduleAttributes = [
  'kind',
  'micro_batches',
  'compute_sms',
  'comm_sms',
  'live_activations',
  'live_stages',
] as const;

/** One schedule without the module's indentation, ending with a newline. */
export function printSchedule(s: Schedule): string {
  const out: string[] = [];
  scheduleLines(s, '', out);
  return out.join('\n') + '\n';
}

export function scheduleLines(s: Schedule, indent: string, out: string[]): void {
  out.push(`${indent}${printScheduleHeader(s)}`);
  for (const layer of s.layers) out.push(`${indent}  ${printLayer(layer)}`);
  s.stages.forEach((stage, i) => out.push(`${indent}  ${printStage(stage, i)}`));
  for (const order of s.orders) {
    out.push(`${indent}  ${printOrderHeader(order)}`);
    for (const step of order.steps) out.push(`${indent}    ${printStep(step)}`);
    out.push(`${indent}  }`);
  }
  s.programs.forEach((program, rank) => {
    out.push(`${indent}  ${printRankHeader(program.stages, rank)}`);
    rankLines(program.ops, `${indent}    `, out);
    out.push(`${indent}  }`);
  });
  out.push(`${indent}}`);
}

/** A computation is a line; so is a batch of transfers with its commit. */
function rankLines(ops: readonly ScheduleOp[], indent: string, out: string[]): void {
  let batch = '';
  for (const op of ops) {
    const queues = op.op === 'send' || op.op === 'receive';
    const text = printScheduleOp(op);
    if (queues || op.op === 'commit') batch = batch === '' ? indent + text : `${batch}; ${text}`;
    if (!queues && batch !== '') {
      out.push(batch);
      batch = '';
    }
    if (!queues && op.op !== 'commit') out.push(indent + text);
  }
  if (batch !== '') out.push(batch);
}

/** `schedule @train {kind = "dualpipe", …} at model.ts:1:2-3 {`. */
export function printScheduleHeader(s: Schedule): string {
  const values: Readonly<Record<(typeof scheduleAttributes)[number], string>> = {
    // In quotes even where it could do without: some kinds, such as 1f1b, are no names.
    kind: JSON.stringify(s.kind),
    micro_batches: spellNumber(s.microBatches),
    compute_sms: spellNumber(s.sms.compute),
    comm_sms: spellNumber(s.sms.comm),
    live_activations: spellNumber(s.bounds.activations),
    live_stages: spellNumber(s.bounds.stages),
  };
  const attributes = scheduleAttributes.map((name) => `${name} = ${values[name]}`).join(', ');
  return `schedule @${s.name} {${attributes}}${spellPlace(s.span)} {`;
}

/** `layer moe = attention + weights, dispatch on comm`. */
export function printLayer(layer: LayerKind): string {
  const phases = layer.phases.map(
    (p) => `${p.name}${p.stream === 'compute' ? '' : ` on ${p.stream}`}${p.weights ? ' + weights' : ''}`,
  );
  return `layer ${layer.name} = ${phases.join(', ')}`;
}

/** `stage 0 = dense * 3, moe`; a stage without layers ends after `=`. */
export function printStage(stage: StageLayers, number: number): string {
  const layers = stage.layers.map((l) => (l.count === 1 ? l.layer : `${l.layer} * ${spellNumber(l.count)}`));
  return `stage ${number} =${layers.length > 0 ? ` ${layers.join(', ')}` : ''}`;
}

/** `order overlap moe & dense {`. */
export const printOrderHeader = (order: PhaseOrder): string =>
  `order ${order.op} ${order.layers.join(' & ')} {`;

/** `comm dispatch(F) after attention(F)`. */
export function printStep(step: PhaseStep): string {
  const waits = step.waits.length > 0 ? ` after ${step.waits.map(showPhase).join(', ')}` : '';
  return `${step.stream} ${showPhase(step)}${waits}`;
}

/** `rank 0 stages [0, 7] {`. */
export const printRankHeader = (stages: readonly number[], rank: number): string =>
  `rank ${rank} stages [${stages.map(spellNumber).join(', ')}] {`;

/** One op of a rank: `send activations d0 m0 -> 1`. */
export function printScheduleOp(op: ScheduleOp): string {
  switch (op.op) {
    case 'overlap':
      return `overlap forward ${showChunk(op.forward)} & backward ${showChunk(op.backward)}`;
    case 'send':
      return `send ${op.payload} ${showChunk(op.chunk)} -> ${op.peer}`;
    case 'receive':
      return `receive ${op.payload} ${showChunk(op.chunk)} <- ${op.peer}`;
    case 'commit':
      return 'commit';
    case 'forward':
    case 'backward':
    case 'backward_input':
    case 'weights':
      return `${op.op} ${showChunk(op.chunk)}`;
  }
}
