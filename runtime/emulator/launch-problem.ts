// What is wrong with a launch file, as data: its path in the JSON, its characters in the text, what to write instead.
import type { Place } from './json-tree.ts';

export interface LaunchProblem {
  /** Stable, `launch/what-is-wrong`. */
  readonly code: string;
  readonly place: Place;
  /** Starts with the path, except where the whole file is meant. */
  readonly message: string;
  readonly fix: string;
}

/** A launch file that cannot be run; all that was found wrong with it. */
export class LaunchError extends Error {
  readonly problems: readonly LaunchProblem[];
  constructor(problems: readonly LaunchProblem[]) {
    super(problems.map((p) => `${p.code}: ${p.message}`).join('\n'));
    this.name = 'LaunchError';
    this.problems = problems;
  }
}

/** Collects problems, so that one run tells them all. */
export class Problems {
  readonly found: LaunchProblem[] = [];

  /** Adds one. `what` is the rest of the code; the message is about the value at `place`. */
  add(what: string, place: Place, message: string, fix: string): undefined {
    const subject = place.path === '' ? 'the launch file' : place.path;
    this.found.push({ code: `launch/${what}`, place, message: `${subject} ${message}`, fix });
    return undefined;
  }

  /** Throws LaunchError when there are any. */
  throwIfAny(): void {
    if (this.found.length > 0) throw new LaunchError(this.found);
  }
}
