// The known name that a misspelled one most likely meant.

/** Edits (insert, delete, replace, swap neighbours) from `a` to `b`, or `most + 1` when there are more. */
function distance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, before[j - 2] + 1);
      row.push(best);
    }
    if (Math.min(...row) > most) return most + 1;
    [before, last] = [last, row];
  }
  return last[b.length];
}

/** The nearest of `known`, at most a third of the letters away; undefined when none is near. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  if (name.length > 60) return undefined;
  let least = Math.max(1, Math.min(3, Math.floor(name.length / 3))) + 1;
  let found: string | undefined;
  for (const candidate of known) {
    const d = distance(name, candidate, least - 1);
    if (d < least) [least, found] = [d, candidate];
  }
  return found;
}

/** `{ fix: 'did you mean add?' }`, or nothing. */
export function didYouMean(name: string, known: Iterable<string>, prefix = ''): { readonly fix?: string } {
  const found = nearest(name, known);
  return found === undefined ? {} : { fix: `did you mean ${prefix}${found}?` };
}
