// Which phase orders the programs come to, each with a first operation that needs it. Stages are runs of equal layers, and
// are kept so: a stage of thousands of layers costs what one of two runs costs.
import { isCompute, type ComputeOp, type Schedule, type StageLayers } from '../../../ir/schedule.ts';

export interface Need {
  readonly op: ComputeOp['op'];
  readonly layers: readonly string[];
  readonly rank: number;
  /** The operation of the rank's program. */
  readonly index: number;
}

export const orderKey = (o: Pick<Need, 'op' | 'layers'>): string => JSON.stringify([o.op, ...o.layers]);

const kinds: readonly ComputeOp['op'][] = ['forward', 'backward', 'backward_input', 'weights', 'overlap'];

type Runs = StageLayers['layers'];

/** By key, in the order in which programs come to them. */
export function orderNeeds(schedule: Schedule): Map<string, Need> {
  const needs = new Map<string, Need>();
  for (const [rank, { stages, ops }] of schedule.programs.entries()) {
    const runsOf = (direction: number): Runs => schedule.stages[stages[direction]]?.layers ?? [];
    // Numbers, because this is asked for every operation of a long run.
    const seen = new Set<number>();
    for (let index = 0; index < ops.length; index++) {
      const op = ops[index];
      if (!isCompute(op)) continue;
      const first = op.op === 'overlap' ? op.forward.direction : op.chunk.direction;
      const second = op.op === 'overlap' ? op.backward.direction : first;
      const seenKey = (kinds.indexOf(op.op) * stages.length + first) * stages.length + second;
      if (seen.has(seenKey)) continue;
      seen.add(seenKey);
      const add = (kind: ComputeOp['op'], ...layers: string[]): void => {
        const key = orderKey({ op: kind, layers });
        if (!needs.has(key)) needs.set(key, { op: kind, layers, rank, index });
      };
      if (op.op === 'overlap') meet(runsOf(first), [...runsOf(second)].reverse(), add);
      else for (const { layer } of runsOf(first)) add(op.op, layer);
    }
  }
  return needs;
}

/** Two sequences of runs side by side; what is longer goes on alone. */
function meet(
  forward: Runs,
  backward: Runs,
  add: (kind: 'overlap' | 'forward' | 'backward', ...layers: string[]) => void,
): void {
  let f = 0;
  let b = 0;
  let leftF = forward[0]?.count ?? 0;
  let leftB = backward[0]?.count ?? 0;
  while (f < forward.length || b < backward.length) {
    if (f === forward.length) add('backward', backward[b].layer);
    else if (b === backward.length) add('forward', forward[f].layer);
    else add('overlap', forward[f].layer, backward[b].layer);
    const isAlone = f === forward.length || b === backward.length;
    const step = isAlone ? Math.max(leftF, leftB) : Math.min(leftF, leftB);
    if (f < forward.length && (leftF -= step) <= 0) leftF = forward[++f]?.count ?? 0;
    if (b < backward.length && (leftB -= step) <= 0) leftB = backward[++b]?.count ?? 0;
  }
}
