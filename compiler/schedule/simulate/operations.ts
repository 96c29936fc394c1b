// Simulation by operations: a chunk op takes one time, a rank does one thing at a time. This is the model in which the
// bubbles of the papers are counted.
import { isCompute, type ComputeOp, type Schedule } from '../../../ir/schedule.ts';
import type { OpCosts } from '../scheduler.ts';
import { failDeadlock } from './deadlock.ts';
import { run, TaskGraph } from './engine.ts';
import { linksOf, none, type Links } from './links.ts';
import { rankTimes, timesOf, type Simulation } from './result.ts';

/**
 * `async`: an op starts when its rank is free and what it takes was made elsewhere and transferred; commits take no time.
 * `blocking`: a commit ends when the ranks at the other ends of its batch have reached theirs, and the transfer is over.
 */
export type TransferMode = 'async' | 'blocking';

export interface SimulateOptions {
  readonly costs: OpCosts;
  readonly transfer: TransferMode;
  /** Of a message (async) or of a batch (blocking), in the unit of the costs. */
  readonly transferTime?: number;
}

/** When every op of every rank runs. Throws a DiagnosticError for a schedule that cannot proceed. */
export function simulate(schedule: Schedule, options: SimulateOptions): Simulation {
  const links = linksOf(schedule);
  const { graph, taskOf, opOf } = buildGraph(schedule, links, options);
  const times = run(graph);
  if (!('end' in times))
    failDeadlock(schedule, graph, times, (task) => {
      const rank = graph.queueOf[task];
      return { rank, index: opOf[task] - links.firstOp[rank] };
    });
  const ranks = schedule.programs.map((program, rank) =>
    timesOf(program, (index) => {
      const task = taskOf[links.firstOp[rank] + index];
      return { start: times.start[task], end: times.end[task] };
    }),
  );
  const makespan = ranks.flat().reduce((most, t) => Math.max(most, t.end), 0);
  return {
    makespan,
    ranks: ranks.map((ops) =>
      rankTimes(
        ops,
        ops.reduce((sum, t) => sum + costOf(t.op, options.costs), 0),
        makespan,
      ),
    ),
  };
}

function costOf({ op }: ComputeOp, costs: OpCosts): number {
  return op === 'backward_input' ? costs.backwardInput : costs[op];
}

/** One queue for each rank. A compute op is a task; a blocking commit is two: that the rank came to it, and its batch. */
function buildGraph(
  schedule: Schedule,
  links: Links,
  { costs, transfer, transferTime = 0 }: SimulateOptions,
): { graph: TaskGraph; taskOf: Int32Array; opOf: Int32Array } {
  const blocking = transfer === 'blocking';
  const taskOf = new Int32Array(links.sends.length).fill(none);
  let tasks = 0;
  for (const [rank, { ops }] of schedule.programs.entries())
    for (let i = 0; i < ops.length; i++) {
      const size = isCompute(ops[i]) ? 1 : ops[i].op === 'commit' && blocking ? 2 : 0;
      taskOf[links.firstOp[rank] + i] = tasks;
      tasks += size;
    }

  const graph = new TaskGraph(tasks, links.flow.ranks);
  const opOf = new Int32Array(tasks);
  const take = (from: number, via: number): void => {
    // What was received stands behind a commit on this rank, which has waited for it when commits block.
    if (from !== none && (via === none || !blocking))
      graph.wait(taskOf[from], via === none ? 0 : transferTime);
  };
  for (const [rank, { ops }] of schedule.programs.entries()) {
    let batch: number[] = [];
    for (let i = 0; i < ops.length; i++) {
      const op = ops[i];
      const number = links.firstOp[rank] + i;
      if (isCompute(op)) {
        opOf[graph.add(rank, costOf(op, costs))] = number;
        take(links.activationsFrom[number], links.activationsVia[number]);
        take(links.gradientsFrom[number], links.gradientsVia[number]);
        take(links.lossFrom[number], none);
        take(links.deferredBy[number], none);
      } else if (op.op !== 'commit') {
        batch.push(links.answeredBy[number]);
      } else if (blocking) {
        opOf[graph.add(rank, 0)] = number;
        opOf[graph.add(rank, batch.length > 0 ? transferTime : 0)] = number;
        for (const answer of new Set(batch)) graph.wait(taskOf[answer]);
        batch = [];
      }
    }
  }
  return { graph, taskOf, opOf };
}
