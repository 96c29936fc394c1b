import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  ceilQuotient,
  constant,
  delinear,
  divisorOf,
  linear,
  minus,
  plus,
  provablyWithin,
  quotient,
  remainder,
  size,
  smaller,
  times,
  variableIndex,
  type Index,
  type Variable,
} from './indices.ts';

const variables: Variable[] = [5, 12, 7].map((n, id) => ({ id, name: `v${id}`, extent: constant(n) }));
const [a, b, c] = variables.map(variableIndex);
const tokens = size('tokens', 100);
const inTokens: Variable = { id: 9, name: 't', extent: tokens };

/** The number that an index stands for. */
function evaluate(i: Index, values: readonly number[], dims = 40, t = 0): number {
  const go = (x: Index): number => evaluate(x, values, dims, t);
  return i.terms.reduce((sum, term) => {
    const product = term.atoms.reduce((p, atom) => {
      switch (atom.kind) {
        case 'variable':
          return p * (atom.variable === inTokens ? t : values[atom.variable.id]);
        case 'size':
          return p * dims;
        case 'quotient':
          return p * Math.floor(go(atom.of) / go(atom.by));
        case 'remainder': {
          const [of, by] = [go(atom.of), go(atom.by)];
          return p * (((of % by) + by) % by);
        }
        case 'smaller':
          return p * Math.min(go(atom.of), go(atom.by));
        default:
          throw new Error(atom.kind);
      }
    }, term.factor);
    return sum + product;
  }, i.constant);
}

describe('indices', () => {
  test('mean what they say, whatever was simplified', () => {
    const leaf = fc.oneof(
      fc.constantFrom(a, b, c),
      fc.integer({ min: 0, max: 40 }).map((n) => constant(n)),
    );
    const { index } = fc.letrec<{ index: Index }>((tie) => ({
      index: fc.oneof(
        { maxDepth: 4 },
        leaf,
        fc.tuple(tie('index'), tie('index')).map(([x, y]) => plus(x, y)),
        fc.tuple(tie('index'), fc.integer({ min: 0, max: 24 })).map(([x, n]) => times(x, constant(n))),
        fc.tuple(tie('index'), fc.integer({ min: 1, max: 24 })).map(([x, n]) => quotient(x, constant(n))),
        fc.tuple(tie('index'), fc.integer({ min: 1, max: 24 })).map(([x, n]) => remainder(x, constant(n))),
        fc.tuple(tie('index'), tie('index')).map(([x, y]) => smaller(x, y)),
      ),
    }));
    // Built beside its value, so that a wrong rule shows: quotient and remainder put together again.
    fc.assert(
      fc.property(
        index,
        fc.integer({ min: 1, max: 60 }),
        fc.nat(4),
        fc.nat(11),
        fc.nat(6),
        (i, n, x, y, z) => {
          const value = evaluate(i, [x, y, z]);
          expect(value).toBeGreaterThanOrEqual(i.low);
          expect(value).toBeLessThanOrEqual(i.high);
          expect(evaluate(quotient(i, constant(n)), [x, y, z])).toBe(Math.floor(value / n));
          expect(evaluate(remainder(i, constant(n)), [x, y, z])).toBe(value % n);
          expect(evaluate(minus(i, constant(n)), [x, y, z])).toBe(value - n);
          if (divisorOf(i) > 0) expect(value % divisorOf(i)).toBe(0);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('coordinates and positions are inverses, in the normal form', () => {
    const shapes = [[5, 12, 7], [2, 6, 5, 7], [420], [35, 12]].map((s) => s.map(constant));
    const flat: Variable = { id: 20, name: 'flat', extent: constant(420) };
    for (const shape of shapes) expect(linear(delinear(variableIndex(flat), shape), shape).key).toBe('1*v20');
    // Through another shape and back.
    const there = delinear(linear([a, b, c], shapes[0]), shapes[1]);
    expect(delinear(linear(there, shapes[1]), shapes[0]).map((i) => i.key)).toEqual(
      [a, b, c].map((i) => i.key),
    );
  });

  test('run-time sizes divide exactly', () => {
    const t = variableIndex(inTokens);
    const at = plus(times(a, tokens), t);
    expect(quotient(at, tokens).key).toBe(a.key);
    expect(remainder(at, tokens).key).toBe(t.key);
    expect(provablyWithin(t, tokens)).toBe(true);
    expect(provablyWithin(plus(t, constant(1)), tokens)).toBe(false);
  });

  test('parts that are aligned stay so', () => {
    const i = plus(times(b, constant(4)), constant(3));
    expect(remainder(i, constant(32)).constant).toBe(3);
    expect(divisorOf(minus(remainder(i, constant(32)), constant(3)))).toBe(4);
    expect(ceilQuotient(constant(130), 128).constant).toBe(2);
  });
});
