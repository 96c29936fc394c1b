// The clock of both simulators. Tasks stand in queues (a rank, or one of its streams) and run in the order of their queue;
// a task starts when its queue is free and all that it waits for has ended. What comes out does not depend on the order in
// which queues are looked at: every time is a maximum of sums along the task's own past.

/** Tasks are numbered in the order in which they are added; those of one queue run in that order. */
export class TaskGraph {
  readonly queueOf: Int32Array;
  readonly duration: Float64Array;
  /** Where the waits of a task begin in `waits`; one more entry than there are tasks. */
  readonly firstWait: Int32Array;
  readonly waits: number[] = [];
  /** Time between the end of what a wait is for and when it is satisfied. */
  readonly delays: number[] = [];
  count = 0;

  readonly queues: number;

  constructor(tasks: number, queues: number) {
    this.queues = queues;
    this.queueOf = new Int32Array(tasks);
    this.duration = new Float64Array(tasks);
    this.firstWait = new Int32Array(tasks + 1);
  }

  /** Adds a task; waits given after it and before the next are its waits. */
  add(queue: number, duration: number): number {
    const task = this.count++;
    this.queueOf[task] = queue;
    this.duration[task] = duration;
    this.firstWait[task] = this.waits.length;
    this.firstWait[task + 1] = this.waits.length;
    return task;
  }

  /** The task added last waits for `task`, which may be one that is added later. */
  wait(task: number, delay = 0): void {
    this.waits.push(task);
    this.delays.push(delay);
    this.firstWait[this.count] = this.waits.length;
  }
}

export interface Times {
  readonly start: Float64Array;
  readonly end: Float64Array;
}

/** A task at the head of its queue, and the one that it waits for in vain. */
export interface Stuck {
  readonly task: number;
  readonly awaited: number;
}

/** When each task runs, or, when not all can, the heads of the queues that are stuck. */
export function run(graph: TaskGraph): Times | readonly Stuck[] {
  const { count, queues, queueOf, duration, firstWait, waits, delays } = graph;
  const { first, order } = byQueue(graph);
  const start = new Float64Array(count).fill(Number.NaN);
  const end = new Float64Array(count).fill(Number.NaN);
  const cursor = first.slice(0, queues);
  const free = new Float64Array(queues);
  // Queues that wait for a task, as lists threaded through two arrays: a queue waits for one task at a time.
  const waiting = new Int32Array(count).fill(-1);
  const nextWaiting = new Int32Array(queues).fill(-1);
  const ready = Array.from({ length: queues }, (_, q) => queues - 1 - q);

  const missing = (task: number): number => {
    for (let w = firstWait[task]; w < firstWait[task + 1]; w++)
      if (Number.isNaN(end[waits[w]])) return waits[w];
    return -1;
  };
  const runTask = (task: number): void => {
    let begin = free[queueOf[task]];
    for (let w = firstWait[task]; w < firstWait[task + 1]; w++) {
      const satisfied = end[waits[w]] + delays[w];
      if (satisfied > begin) begin = satisfied;
    }
    start[task] = begin;
    end[task] = free[queueOf[task]] = begin + duration[task];
    for (let q = waiting[task]; q >= 0; q = nextWaiting[q]) ready.push(q);
    waiting[task] = -1;
  };
  for (let queue = ready.pop(); queue !== undefined; queue = ready.pop()) {
    for (; cursor[queue] < first[queue + 1]; cursor[queue]++) {
      const task = order[cursor[queue]];
      const awaited = missing(task);
      if (awaited >= 0) {
        nextWaiting[queue] = waiting[awaited];
        waiting[awaited] = queue;
        break;
      }
      runTask(task);
    }
  }

  const stuck: Stuck[] = [];
  for (let queue = 0; queue < queues; queue++) {
    if (cursor[queue] === first[queue + 1]) continue;
    const task = order[cursor[queue]];
    stuck.push({ task, awaited: missing(task) });
  }
  return stuck.length > 0 ? stuck : { start, end };
}

/** The tasks of each queue, in order: those of queue q lie in `order` from first[q] to first[q + 1]. */
function byQueue({ count, queues, queueOf }: TaskGraph): { first: Int32Array; order: Int32Array } {
  const first = new Int32Array(queues + 1);
  for (let t = 0; t < count; t++) first[queueOf[t] + 1]++;
  for (let q = 0; q < queues; q++) first[q + 1] += first[q];
  const at = first.slice();
  const order = new Int32Array(count);
  for (let t = 0; t < count; t++) order[at[queueOf[t]]++] = t;
  return { first, order };
}
