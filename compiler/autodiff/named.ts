// Gradients under the official names: what is stacked over layers and experts, one tensor for each again.
import type { TensorData } from '../../ir/interpret/values.ts';
import type { Function } from '../../ir/module.ts';

/** Where a weight's gradient is: a result of the entry, for one weight or stacked over layers. */
export interface GradientOf {
  /** The official name; `{i}` is the layer where the result is stacked over layers. */
  readonly name: string;
  /** The first layer; null when it is not stacked. */
  readonly start: number | null;
  /** Shape of one weight in the checkpoint. */
  readonly stored: readonly number[];
}

/** Names of the attributes of an entry of gradients: one element for each result after the loss. */
export const gradientAttributes = {
  names: 'gradients',
  starts: 'gradient_starts',
  shapes: 'gradient_shapes',
} as const;

/** What the attributes of an entry say about its results after the first. */
export function gradientsOf(f: Function): readonly GradientOf[] {
  const names = (f.attributes[gradientAttributes.names] ?? []) as readonly string[];
  const starts = (f.attributes[gradientAttributes.starts] ?? []) as readonly number[];
  const shapes = (f.attributes[gradientAttributes.shapes] ?? []) as readonly string[];
  return names.map((name, i) => ({
    name,
    start: starts[i] < 0 ? null : starts[i],
    stored: shapes[i].split('x').map(Number),
  }));
}

export interface NamedGradient {
  /** The checkpoint's name of the parameter. */
  readonly name: string;
  /** Of the parameter as the checkpoint stores it. */
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** The gradients that an entry of gradients gave, `results` being all of its results (the loss first). */
export function namedGradients(entry: Function, results: readonly TensorData[]): readonly NamedGradient[] {
  return gradientsOf(entry).flatMap(({ name, start, stored }, k) => {
    const { data } = results[k + 1];
    const size = stored.reduce((n, d) => n * d, 1);
    const names = start === null ? [name] : numbered(name, '{i}', start, results[k + 1].shape[0]);
    const each = data.length / names.length / size;
    const all = name.includes('{experts}') ? names.flatMap((n) => numbered(n, '{experts}', 0, each)) : names;
    return all.map((n, i) => ({ name: n, shape: stored, data: data.subarray(i * size, (i + 1) * size) }));
  });
}

const numbered = (name: string, mark: string, start: number, count: number): string[] =>
  Array.from({ length: count }, (_, i) => name.replaceAll(mark, String(start + i)));
