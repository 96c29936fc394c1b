// einsum of two operands: reading a spec and evaluating it, by packing both sides to [batch, own, shared].
import type { TensorData } from '../interpret/values.ts';
import { problem } from './define.ts';
import { multiply } from './multiply.ts';
import { permute, product, rowsOver } from './support.ts';

/** Letters of an einsum: which stand where, and what each stands for. */
export interface Einsum {
  readonly a: readonly string[];
  readonly b: readonly string[];
  readonly out: readonly string[];
}

/** Reads "thn,hnr->thr". Throws OpProblem unless it is two operands and a result, each letter once in each. */
export function parseEinsum(spec: string): Einsum {
  const match = /^([A-Za-z]*),([A-Za-z]*)->([A-Za-z]*)$/.exec(spec);
  if (!match)
    problem(`einsum: "${spec}" is no spec of two operands`, 'spec', 'write letters like "thn,hnr->thr"');
  const [a, b, out] = match.slice(1).map((s) => [...s]);
  for (const [where, letters] of [
    ['a', a],
    ['b', b],
    ['the result', out],
  ] as const) {
    const twice = letters.find((l, i) => letters.indexOf(l) !== i);
    if (twice) problem(`einsum: "${spec}" has ${twice} twice in ${where}`, 'spec', 'use one letter per axis');
  }
  const unknown = out.find((l) => !a.includes(l) && !b.includes(l));
  if (unknown)
    problem(
      `einsum: "${spec}" has ${unknown} in the result but in no operand`,
      'spec',
      'broadcast adds axes',
    );
  return { a, b, out };
}

/** Sums out axes that only one operand has, then puts the axes in the order batch, own, shared. */
function pack(
  value: TensorData,
  letters: readonly string[],
  groups: readonly (readonly string[])[],
): Float64Array {
  const kept = letters.filter((l) => groups.some((g) => g.includes(l)));
  const alone = letters.flatMap((l, i) => (kept.includes(l) ? [] : [i]));
  let { data } = value;
  if (alone.length > 0) {
    const { data: source, rows, length } = rowsOver(data, value.shape, alone);
    data = new Float64Array(rows);
    for (let row = 0; row < rows; row++)
      for (let i = row * length; i < (row + 1) * length; i++) data[row] += source[i];
  }
  const shape = kept.map((l) => value.shape[letters.indexOf(l)]);
  return permute(
    data,
    shape,
    groups.flat().map((l) => kept.indexOf(l)),
  );
}

/** The spec that parses to these letters. */
export const showEinsum = ({ a, b, out }: Einsum): string => `${a.join('')},${b.join('')}->${out.join('')}`;

/** The contraction in f64, row-major over the result's letters. Sizes must agree. */
export function evaluateEinsum({ a, b, out }: Einsum, x: TensorData, y: TensorData): Float64Array {
  const size = (l: string): number => (a.includes(l) ? x.shape[a.indexOf(l)] : y.shape[b.indexOf(l)]);
  const count = (letters: readonly string[]): number => product(letters.map(size));
  const batch = out.filter((l) => a.includes(l) && b.includes(l));
  const left = out.filter((l) => !b.includes(l));
  const right = out.filter((l) => !a.includes(l));
  const shared = a.filter((l) => b.includes(l) && !out.includes(l));
  const [batches, m, n, k] = [batch, left, right, shared].map(count);
  const aData = pack(x, a, [batch, left, shared]);
  const bData = pack(y, b, [batch, right, shared]);
  const result = new Float64Array(batches * m * n);
  for (let i = 0; i < batches; i++)
    multiply(
      { data: aData, offset: i * m * k, stride: k },
      { data: bData, offset: i * n * k, stride: k },
      m,
      n,
      k,
      result,
      i * m * n,
    );
  const order = [...batch, ...left, ...right];
  return permute(
    result,
    order.map(size),
    out.map((l) => order.indexOf(l)),
  );
}
