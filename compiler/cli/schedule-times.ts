// Simulates a schedule with the costs of the command line, and says in words what they were.
import { DiagnosticError, fail } from '../../ir/diagnostics.ts';
import { isCompute, type Schedule } from '../../ir/schedule.ts';
import { parseOpCosts } from '../schedule/costs.ts';
import { parsePhaseCosts, type PhaseCosts } from '../schedule/phase-costs.ts';
import { costUnit, halvesOf, milliseconds, show, type TimeUnit } from '../schedule/render/figures.ts';
import type { OpCosts } from '../schedule/scheduler.ts';
import {
  simulate,
  simulatePhases,
  type PhaseEvent,
  type Simulation,
  type TransferMode,
} from '../schedule/simulate.ts';
import { readText } from './files.ts';
import { UsageError } from './names.ts';

export interface Simulated {
  readonly simulation: Simulation;
  readonly transfer: TransferMode;
  readonly unit: TimeUnit;
  /** Costs and transfers in words. */
  readonly subtitle: string;
  /** Costs of operations; null when phases have theirs. */
  readonly costs: OpCosts | null;
  /** By rank, where phases were simulated. */
  readonly phases?: readonly (readonly PhaseEvent[])[];
}

const words = { async: 'asynchronous transfers', blocking: 'blocking transfers' } as const;

/** More phases than this make a trace of hundreds of megabytes, which no viewer opens and no string holds. */
const mostPhases = 1_000_000;

/** Phases that a simulation would list: every layer's, in every chunk's forward or backward. */
function countPhases({ layers, stages, programs }: Schedule): number {
  const ofLayer = new Map(layers.map((l) => [l.name, l.phases.length]));
  const ofStage = stages.map((s) =>
    s.layers.reduce((sum, { layer, count: n }) => sum + n * (ofLayer.get(layer) ?? 0), 0),
  );
  let total = 0;
  for (const { stages: held, ops } of programs)
    for (const op of ops)
      if (isCompute(op)) for (const { chunk } of halvesOf(op)) total += ofStage[held[chunk.direction]] ?? 0;
  return total;
}

/**
 * `events`: also when each phase runs, where phases have costs. Throws a DiagnosticError for a schedule that stands still,
 * and for one of which too many phases are asked.
 */
export function simulated(
  schedule: Schedule,
  costs: Costs,
  { transfer, events }: { readonly transfer: TransferMode; readonly events: boolean },
): Simulated {
  if ('phases' in costs) {
    const phases = events ? countPhases(schedule) : 0;
    if (phases > mostPhases)
      fail({
        code: 'schedule/trace-too-long',
        message: `a trace of ${phases} phases is more than a viewer can open: at most ${mostPhases}`,
        fix: 'trace fewer ranks or micro-batches, or leave --costs out: a trace of operations is far shorter',
      });
    const simulation = simulatePhases(schedule, { costs: costs.phases, transfer, events });
    return {
      simulation,
      transfer,
      unit: milliseconds,
      subtitle: `costs of phases; ${words[transfer]}`,
      costs: null,
      ...(events && { phases: simulation.ranks.map((r) => r.events) }),
    };
  }
  const { forward, backward, backwardInput, weights, overlap } = costs.ops;
  return {
    simulation: simulate(schedule, { costs: costs.ops, transfer }),
    transfer,
    unit: costUnit,
    subtitle:
      `F ${show(forward)}, B ${show(backward)}, I ${show(backwardInput)}, W ${show(weights)}, ` +
      `F&B ${show(overlap)}; ${words[transfer]}`,
    costs: costs.ops,
  };
}

/** What `--cost` or `--costs` says. */
export type Costs = { readonly ops: OpCosts } | { readonly phases: PhaseCosts };

/** The simplest that fit together: B = I + W, and overlapping saves nothing. */
const defaultCosts = 'F=1,B=2,I=1,W=1,FB=3';

/** Throws UsageError for a `--cost` that is none, DiagnosticError for a file that is none. */
export function readCosts({ cost, costs }: { readonly cost?: string; readonly costs?: string }): Costs {
  if (costs !== undefined) return { phases: readPhaseCosts(costs) };
  try {
    return { ops: parseOpCosts(cost ?? defaultCosts) };
  } catch (error) {
    if (error instanceof DiagnosticError) throw new UsageError(error.diagnostics);
    throw error;
  }
}

export const readPhaseCosts = (path: string): PhaseCosts =>
  parsePhaseCosts(readText(path, 'a file of costs, such as examples/costs/deepseek-v3-h800.json'), path);
