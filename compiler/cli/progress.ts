// How long the rest of a row of equal steps will take.

/** A clock that says how long the rest takes when all parts take as long as those done: `12 s`. */
export function estimate(): (done: number, total: number) => string {
  const began = performance.now();
  return (done, total) => `${Math.ceil((((performance.now() - began) / done) * (total - done)) / 1000)} s`;
}
