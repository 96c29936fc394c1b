// Says who waits for whom when a simulation cannot go on.
import { fail } from '../../../ir/diagnostics.ts';
import type { Schedule } from '../../../ir/schedule.ts';
import { noteAt, showOp, spanOf, where } from '../verify/report.ts';
import type { Stuck, TaskGraph } from './engine.ts';

/** Where a task comes from: an op of a rank, and which part of it where that is not all. */
export interface Origin {
  readonly rank: number;
  readonly index: number;
  readonly what?: string;
}

/** Throws a DiagnosticError that follows the waits round the circle. */
export function failDeadlock(
  schedule: Schedule,
  graph: TaskGraph,
  stuck: readonly Stuck[],
  originOf: (task: number) => Origin,
): never {
  const circle = findCircle(graph, stuck);
  const say = (task: number): string => {
    const { rank, index, what } = originOf(task);
    const part = what === undefined ? '' : `${what} of `;
    const op = showOp(schedule.programs[rank].ops[index]);
    return `rank ${rank}: ${part}${op} (${where(schedule, rank, index)})`;
  };
  const at = (task: number) => spanOf(schedule, originOf(task).rank, originOf(task).index);
  const ranks = circle.map((s) => originOf(s.task).rank);
  fail({
    code: 'schedule/deadlock',
    at: at(circle[0].task),
    message: `nothing goes on: rank ${[...ranks, ranks[0]].join(' waits for rank ')}`,
    notes: circle.map(({ task, awaited }) => noteAt(`${say(task)} waits for ${say(awaited)}`, at(task))),
    fix: 'reorder the operations or the commits of one of these ranks',
  });
}

/** From any stuck task to what it waits for, to the head of that one's queue, and on until a queue comes again. */
function findCircle(graph: TaskGraph, stuck: readonly Stuck[]): readonly Stuck[] {
  const heads = new Map(stuck.map((s) => [graph.queueOf[s.task], s]));
  const path: Stuck[] = [];
  let at = stuck[0];
  while (!path.includes(at)) {
    path.push(at);
    const next = heads.get(graph.queueOf[at.awaited]);
    if (!next) throw new Error('a stuck task waits for a queue that ran to its end');
    at = next;
  }
  return path.slice(path.indexOf(at));
}
