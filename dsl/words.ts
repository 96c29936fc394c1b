// Words for diagnostics: lists, plurals, and the name that was probably meant.

/** Edits between two words, a swap of neighbours counting as one. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + same);
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) next[j] = Math.min(next[j], before[j - 2] + 1);
    }
    [before, row] = [row, next];
  }
  return row[b.length];
}

/** The known name nearest to a misspelt one, when it is near enough to be worth saying. */
export function nearest(name: string, known: readonly string[]): string | null {
  const squeezed = (s: string): string => s.toLowerCase().replace(/[^a-z0-9]/g, '');
  const best = known
    .map((k) => ({ k, d: distance(squeezed(name), squeezed(k)) }))
    .sort((a, b) => a.d - b.d)
    .at(0);
  return best && best.d <= Math.max(1, Math.floor(name.length / 3)) && best.d < name.length ? best.k : null;
}

/** `a, b and c`. */
export const listed = (words: readonly string[]): string =>
  words.length < 2 ? (words[0] ?? 'none') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;

/** How a value that should not be here is called: `undefined`, `a string ("x")`, `a function`. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'an object';
  return `a ${typeof value} (${JSON.stringify(value)?.slice(0, 40) ?? String(value)})`;
}
