// The tasks of a simulation by phases: two queues for each rank, one task for each phase, and those of commits.
import { isCompute, showPhase, type Schedule, type ScheduleOp, type Stream } from '../../../ir/schedule.ts';
import { TaskGraph, type Times } from './engine.ts';
import type { Expander, Expansion, Step } from './expand.ts';
import { none, type Links } from './links.ts';
import type { TransferMode } from './operations.ts';

/** The streams of a rank by the place of their queue. */
export const streams: readonly Stream[] = ['compute', 'comm'];

// Tasks of a blocking commit, in order: the communication stream is ready for it, the batch, the compute stream waits.
const readyTask = 0;
const batchTask = 1;
const blockingTasks = 3;

export class PhaseGraph {
  readonly tasks: TaskGraph;
  /** Time in which the kernels of a task run. */
  readonly busy: Float64Array;
  /** By number of the op: its first task, and how it expands if it is a compute op. One more entry than there are ops. */
  private readonly firstTask: Int32Array;
  private readonly expansions: (Expansion | undefined)[] = [];
  /** By task: number of its op. */
  private readonly opNumber: Int32Array;
  private readonly blocking: boolean;

  private readonly links: Links;
  private readonly transferTime: number;

  constructor(
    schedule: Schedule,
    links: Links,
    expander: Expander,
    transferTime: number,
    mode: TransferMode,
  ) {
    this.links = links;
    this.transferTime = transferTime;
    this.blocking = mode === 'blocking';
    const ops = links.sends.length;
    this.firstTask = new Int32Array(ops + 1);
    for (const [rank, program] of schedule.programs.entries())
      this.count(rank, program.ops, program.stages, expander);
    const tasks = this.firstTask[ops];
    this.tasks = new TaskGraph(tasks, 2 * links.flow.ranks);
    this.busy = new Float64Array(tasks);
    this.opNumber = new Int32Array(tasks);
    for (const [rank, program] of schedule.programs.entries()) this.fill(rank, program.ops);
  }

  /** The tasks of a rank: from the first, up to but without the second. */
  tasksOf(rank: number): readonly [number, number] {
    return [this.firstTask[this.links.firstOp[rank]], this.firstTask[this.links.firstOp[rank + 1]]];
  }

  streamOf(task: number): Stream {
    return streams[this.tasks.queueOf[task] % 2];
  }

  opOf(task: number): { readonly rank: number; readonly index: number } {
    const rank = this.tasks.queueOf[task] >> 1;
    return { rank, index: this.opNumber[task] - this.links.firstOp[rank] };
  }

  /** The phase of a layer that a task is; none for tasks of commits. */
  stepOf(task: number): Step | undefined {
    const op = this.opNumber[task];
    return this.expansions[op]?.steps[task - this.firstTask[op]];
  }

  stepName(task: number): string | undefined {
    const step = this.stepOf(task);
    return step && `${showPhase(step)} of layer ${step.layer}`;
  }

  /** Whether a task takes time of its stream: a phase of a layer, or a batch of transfers. */
  isPhase(task: number): boolean {
    const op = this.opNumber[task];
    return this.expansions[op] !== undefined || !this.blocking || task - this.firstTask[op] === batchTask;
  }

  /** From the first start to the last end of an op's phases. */
  spanOf(op: number, times: Times): { start: number; end: number } {
    let start = Infinity;
    let end = 0;
    for (let task = this.firstTask[op]; task < this.firstTask[op + 1]; task++) {
      start = Math.min(start, times.start[task]);
      end = Math.max(end, times.end[task]);
    }
    return { start, end };
  }

  private count(rank: number, ops: readonly ScheduleOp[], held: readonly number[], expander: Expander): void {
    let [sends, transfers] = [0, 0];
    for (let i = 0; i < ops.length; i++) {
      const op = ops[i];
      const number = this.links.firstOp[rank] + i;
      let size = 0;
      if (isCompute(op)) {
        const expansion = expander.expand(op, held);
        this.expansions[number] = expansion;
        size = expansion.steps.length;
      } else if (op.op === 'commit') {
        if (this.blocking) size = transfers > 0 ? blockingTasks : 0;
        else size = sends > 0 ? 1 : 0;
        sends = transfers = 0;
      } else {
        transfers++;
        if (op.op === 'send') sends++;
      }
      this.firstTask[number + 1] = this.firstTask[number] + size;
    }
  }

  private fill(rank: number, ops: readonly ScheduleOp[]): void {
    let batch: number[] = [];
    for (let i = 0; i < ops.length; i++) {
      const number = this.links.firstOp[rank] + i;
      const expansion = this.expansions[number];
      if (expansion) for (const step of expansion.steps) this.addStep(rank, number, step);
      else if (ops[i].op !== 'commit') batch.push(i);
      else {
        this.addCommit(rank, number, ops, batch);
        batch = [];
      }
    }
  }

  private add(rank: number, stream: Stream, op: number, duration: number, busy = duration): void {
    const task = this.tasks.add(2 * rank + streams.indexOf(stream), duration);
    this.busy[task] = busy;
    this.opNumber[task] = op;
  }

  private addStep(rank: number, op: number, step: Step): void {
    const { links, tasks } = this;
    this.add(rank, step.stream, op, step.duration, step.busy);
    for (const at of step.waits) tasks.wait(this.firstTask[op] + at);
    for (const at of step.deferred) tasks.wait(this.firstTask[links.deferredBy[op]] + at);
    for (const what of step.takes) {
      const ahead = what === 'activations';
      this.waitForInput(
        ahead ? links.activationsFrom[op] : links.gradientsFrom[op],
        ahead ? links.activationsVia[op] : links.gradientsVia[op],
        what,
      );
      if (!ahead && links.lossFrom[op] !== none) tasks.wait(this.output(links.lossFrom[op], 'activations'));
    }
  }

  private waitForInput(from: number, via: number, what: 'activations' | 'gradients'): void {
    if (from === none) return;
    if (via === none) this.tasks.wait(this.output(from, what));
    // Blocking, both streams of this rank have waited for the batch that received it.
    else if (!this.blocking) this.tasks.wait(this.firstTask[via]);
  }

  private output(op: number, what: 'activations' | 'gradients'): number {
    const at = this.expansions[op]?.[what] ?? none;
    if (at === none) throw new Error(`op ${op} makes no ${what}`);
    return this.firstTask[op] + at;
  }

  /** `batch`: places of its transfers in the rank's program. */
  private addCommit(rank: number, op: number, ops: readonly ScheduleOp[], batch: readonly number[]): void {
    if (this.firstTask[op + 1] === this.firstTask[op]) return;
    const { links, tasks } = this;
    this.add(rank, 'comm', op, this.blocking ? 0 : this.transferTime);
    for (const i of batch) {
      const transfer = ops[i];
      if (transfer.op === 'send')
        tasks.wait(this.output(links.sends[links.firstOp[rank] + i], transfer.payload));
    }
    if (!this.blocking) return;
    this.add(rank, 'comm', op, this.transferTime);
    for (const commit of new Set(batch.map((i) => links.answeredBy[links.firstOp[rank] + i])))
      tasks.wait(this.firstTask[commit] + readyTask);
    this.add(rank, 'compute', op, 0);
    tasks.wait(this.firstTask[op] + batchTask);
  }
}
