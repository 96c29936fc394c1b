// What took how long: a tree of phases, printed, or written as JSON or as a Chrome trace.

interface Phase {
  readonly name: string;
  /** Milliseconds since the recording began. */
  readonly start: number;
  milliseconds: number;
  readonly parts: Phase[];
}

export class Timings {
  readonly #root: Phase = { name: 'total', start: 0, milliseconds: 0, parts: [] };
  readonly #began = performance.now();
  readonly #open: Phase[] = [this.#root];

  /** Measures `work` as a phase within the one that is running. */
  async phase<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    const phase: Phase = { name, start: performance.now() - this.#began, milliseconds: 0, parts: [] };
    this.#open.at(-1)!.parts.push(phase);
    this.#open.push(phase);
    try {
      return await work();
    } finally {
      phase.milliseconds = performance.now() - this.#began - phase.start;
      this.#open.pop();
    }
  }

  /** Adds a part of the running phase that ended just now and took so long. */
  add(name: string, milliseconds: number): void {
    const start = performance.now() - this.#began - milliseconds;
    this.#open.at(-1)!.parts.push({ name, start, milliseconds, parts: [] });
  }

  get total(): number {
    return performance.now() - this.#began;
  }

  /** The slowest leaves, slowest first. */
  slowest(count: number): readonly { readonly name: string; readonly milliseconds: number }[] {
    const leaves: Phase[] = [];
    const walk = (p: Phase): void => {
      if (p.parts.length === 0) leaves.push(p);
      else p.parts.forEach(walk);
    };
    this.#root.parts.forEach(walk);
    return leaves.sort((a, b) => b.milliseconds - a.milliseconds).slice(0, count);
  }

  /** Indented lines with milliseconds and the share of the whole. */
  tree(): string {
    const total = this.total;
    const lines: string[] = [];
    const walk = (p: Phase, depth: number): void => {
      const share = ((100 * p.milliseconds) / total).toFixed(1).padStart(5);
      lines.push(`${p.milliseconds.toFixed(1).padStart(9)} ms ${share} %  ${'  '.repeat(depth)}${p.name}`);
      for (const part of p.parts) walk(part, depth + 1);
    };
    walk({ ...this.#root, milliseconds: total }, 0);
    return lines.join('\n');
  }

  /** `{name, startMs, ms, parts}`, nested. */
  json(): string {
    const plain = (p: Phase): object => ({
      name: p.name,
      startMs: round(p.start),
      ms: round(p.milliseconds),
      ...(p.parts.length > 0 ? { parts: p.parts.map(plain) } : {}),
    });
    return `${JSON.stringify(plain({ ...this.#root, milliseconds: this.total }), null, 2)}\n`;
  }

  /** Complete events ("ph": "X") of the Trace Event Format, times in microseconds. */
  chrome(): string {
    const events: object[] = [];
    const walk = (p: Phase): void => {
      events.push({
        name: p.name,
        ph: 'X',
        ts: round(p.start * 1000),
        dur: round(p.milliseconds * 1000),
        pid: 1,
        tid: 1,
      });
      p.parts.forEach(walk);
    };
    walk({ ...this.#root, milliseconds: this.total });
    return `${JSON.stringify({ traceEvents: events })}\n`;
  }
}

const round = (x: number): number => Math.round(x * 1000) / 1000;
