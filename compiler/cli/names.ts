// "Did you mean …?": the nearest of a list of names, and usage errors that say it.
import { DiagnosticError, type Diagnostic } from '../../ir/diagnostics.ts';

/** The command line itself is wrong: exit code 2. */
export class UsageError extends DiagnosticError {
  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics);
    this.name = 'UsageError';
  }
}

/** An external tool that `--require` asked for is not there: exit code 4. */
export class MissingToolError extends DiagnosticError {
  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics);
    this.name = 'MissingToolError';
  }
}

/** Throws one usage error. `what` is the part of its code after `usage/`. */
export function badUsage(what: string, message: string, fix?: string): never {
  throw new UsageError([{ code: `usage/${what}`, severity: 'error', message, ...(fix ? { fix } : {}) }]);
}

/**
 * Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours, each 1.
 * Formula: Damerau–Levenshtein restricted to one edit per substring.
 */
export function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, rows[i - 2][j - 2] + 1);
      row.push(best);
    }
    rows.push(row);
  }
  return rows[a.length][b.length];
}

/** The known name closest to `given`; undefined when none is close enough to be what was meant. */
export function nearest(given: string, known: readonly string[]): string | undefined {
  // Names longer than a line come from garbage: no suggestion, and no quadratic work.
  if (given.length > 80) return undefined;
  const wanted = given.toLowerCase();
  let best: string | undefined;
  let least = Infinity;
  for (const name of known) {
    const has = name.toLowerCase();
    // Part of a long name (`fp8` for `insert-fp8`) counts as near, but less so than a typing mistake.
    const edits = editDistance(wanted, has);
    const distance = wanted.length >= 3 && has.includes(wanted) ? Math.min(2.5, edits) : edits;
    if (distance < least && distance <= Math.max(2.5, Math.min(wanted.length, has.length) * 0.4)) {
      least = distance;
      best = name;
    }
  }
  return best;
}

/** `did you mean x? known are: …`, for the `fix` of a diagnostic about an unknown name. */
export function suggestion(given: string, known: readonly string[], plural: string): string {
  const near = nearest(given, known);
  if (known.length === 0) return `there are no ${plural}`;
  const list = known.length <= 20 ? known.join(', ') : `${known.slice(0, 20).join(', ')}, …`;
  return near === undefined ? `${plural}: ${list}` : `did you mean ${near}? ${plural}: ${list}`;
}

/**
 * Refuses every name that is not known, all at once, with the nearest known one. `kind` is singular: "pass", "entry".
 * Throws UsageError `usage/unknown-<kind>`.
 */
export function checkNames(
  kind: string,
  plural: string,
  given: readonly string[],
  known: readonly string[],
): void {
  const wrong = given.filter((name) => !known.includes(name));
  if (wrong.length === 0) return;
  throw new UsageError(
    wrong.map((name) => ({
      code: `usage/unknown-${kind}`,
      severity: 'error',
      message: `there is no ${kind} ${JSON.stringify(name.slice(0, 100))}`,
      fix: suggestion(name, known, plural),
    })),
  );
}
