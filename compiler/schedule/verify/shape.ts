// What a schedule declares before any program: placement of stages, layers, bounds, shares of the multiprocessors.
import type { Schedule } from '../../../ir/schedule.ts';
import { flowOf, type Flow } from '../flow.ts';
import { h800Sms } from '../scheduler.ts';
import { noteAt, type Findings } from './report.ts';

/** The flow when placement implies one. Nothing else can be checked without. */
export function verifyShape(schedule: Schedule, findings: Findings): Flow | null {
  const flow = verifyPlacement(schedule, findings);
  verifyLayers(schedule, findings);
  if (flow) verifyStages(schedule, flow, findings);
  verifySms(schedule, findings);
  return flow;
}

const positive = (n: number): boolean => Number.isSafeInteger(n) && n > 0;

function verifyPlacement(schedule: Schedule, findings: Findings): Flow | null {
  if (!positive(schedule.microBatches)) {
    findings.error('micro-batches', null, () => ({
      message: `schedule ${schedule.name} has ${schedule.microBatches} micro-batches`,
      at: schedule.span,
      fix: 'make it a positive integer',
    }));
    return null;
  }
  const flow = flowOf(schedule);
  const wrong = typeof flow === 'string' ? flow : heldTwice(schedule, flow);
  if (wrong === null) return flow as Flow;
  findings.error('placement', null, () => ({
    message: `stages are not placed well: ${wrong}`,
    at: schedule.span,
    fix: 'let every stage from 0 be held in one direction, or once in each direction',
  }));
  return null;
}

/** Where micro-batches of a direction find a stage must be one place. */
function heldTwice(schedule: Schedule, flow: Flow): string | null {
  const known = new Map<string, number>();
  const oneWay = schedule.programs.length * flow.directions === flow.stages;
  for (const [rank, program] of schedule.programs.entries())
    for (const [direction, stage] of program.stages.entries()) {
      const key = oneWay ? `${stage}` : `${stage} ${direction}`;
      const other = known.get(key);
      if (other !== undefined)
        return `stage ${stage} is held in direction ${direction} by rank ${other} and by rank ${rank}`;
      known.set(key, rank);
    }
  return null;
}

function verifyLayers(schedule: Schedule, findings: Findings): void {
  const kinds = new Map<string, Schedule['layers'][number]>();
  for (const kind of schedule.layers) {
    const other = kinds.get(kind.name);
    if (other)
      findings.error('duplicate-layer', null, () => ({
        message: `layer ${kind.name} is declared twice`,
        at: kind.span,
        notes: [noteAt('first here', other.span)],
        fix: 'rename or remove one of them',
      }));
    kinds.set(kind.name, kind);
    if (kind.phases.length === 0)
      findings.error('layer-phases', null, () => ({
        message: `layer ${kind.name} has no phases`,
        at: kind.span,
        fix: 'list its phases in the order of the forward pass',
      }));
    const names = new Set<string>();
    for (const phase of kind.phases) {
      if (names.has(phase.name) || phase.name === 'input')
        findings.error('layer-phases', null, () => ({
          message:
            phase.name === 'input'
              ? `layer ${kind.name} has a phase input, which is the name of what a layer is given`
              : `layer ${kind.name} has two phases ${phase.name}`,
          at: kind.span,
          fix: 'give it another name',
        }));
      names.add(phase.name);
    }
  }
}

function verifyStages(schedule: Schedule, flow: Flow, findings: Findings): void {
  const kinds = new Set(schedule.layers.map((k) => k.name));
  if (schedule.stages.length !== flow.stages)
    findings.error('stage-layers', null, () => ({
      message: `ranks hold ${flow.stages} stages, and the layers of ${schedule.stages.length} are given`,
      at: schedule.span,
      fix: 'list the layers of every stage that a rank holds, and of no other',
    }));
  for (const [stage, { layers, span }] of schedule.stages.entries()) {
    if (layers.length === 0)
      findings.error('stage-layers', null, () => ({
        message: `stage ${stage} has no layers`,
        at: span,
        fix: 'move a layer of a neighbour here, or schedule fewer stages',
      }));
    for (const { layer, count } of layers) {
      if (!kinds.has(layer))
        findings.error('unknown-layer', null, () => ({
          message: `stage ${stage} has a layer ${layer}, which is not declared`,
          at: span,
          fix: `use one of: ${[...kinds].join(', ')}`,
        }));
      if (!positive(count))
        findings.error('stage-layers', null, () => ({
          message: `stage ${stage} has ${count} layers ${layer}`,
          at: span,
          fix: 'make it a positive integer',
        }));
    }
  }
  const bound = schedule.bounds.stages;
  for (const [rank, { stages, span }] of schedule.programs.entries())
    // Parameters are held by stage: so many stages are so many times the memory.
    if (!(stages.length <= bound))
      findings.error('live-stages', null, () => ({
        message: `rank ${rank} holds stages ${stages.join(' and ')}: ${stages.length}, and the bound is ${bound}`,
        at: span,
        fix: `place ${bound} on a rank, or raise the bound to ${stages.length} if their parameters fit`,
      }));
}

function verifySms({ sms, span }: Schedule, findings: Findings): void {
  const sound = positive(sms.compute) && positive(sms.comm) && sms.compute + sms.comm <= h800Sms;
  if (!sound)
    findings.error('sms', null, () => ({
      message: `compute has ${sms.compute} and comm ${sms.comm} multiprocessors, and the device has ${h800Sms}`,
      at: span,
      fix: `give both at least one and together at most ${h800Sms}, like 112 and 20`,
    }));
}
