// Makes the run-time side of `positions` and states: for tests, for the command line, and for hosts that drive the
// interpreter. Pages are handed out in order; a real host may hand them out in any.
import type { StateDeclaration } from '../module.ts';
import { bytesFor } from '../formats/index.ts';
import type { PositionsData, StateData, TensorData } from './values.ts';

/** Pages for sequences of at most `lengths` tokens, in order, none shared. `page` is the rows of a page. */
export function pageTable(lengths: readonly number[], page: number): Int32Array[] {
  let next = 0;
  return lengths.map((n) => Int32Array.from({ length: Math.ceil(n / page) }, () => next++));
}

/** Rows that a cache needs for these pages. */
export const cacheRows = (pages: readonly Int32Array[], page: number): number =>
  page * pages.reduce((most, list) => Math.max(most, ...list.map((p) => p + 1)), 0);

/**
 * Several sequences from their beginning, one after the other: token i of a sequence has position i, and the keys are
 * the tokens themselves. `outputs`: the last token of each sequence, or every token. `pages` says where cache rows go
 * (default: just enough); with `page` 0 there is no cache.
 */
export function packedPositions(
  lengths: readonly number[],
  outputs: 'last' | 'all' = 'last',
  page = 64,
  pages: readonly Int32Array[] = page > 0 ? pageTable(lengths, page) : [],
): PositionsData {
  return {
    ...steps(
      lengths.map(() => 0),
      lengths,
      outputs,
    ),
    pages,
    page,
    packed: true,
  };
}

/**
 * A step over a paged cache: sequence s has `cached[s]` tokens in it and gets `lengths[s]` more (1 each: decode; more:
 * chunked prefill or verification of drafts; 0: it rests). The keys are the cache's rows.
 */
export function stepPositions(
  cached: readonly number[],
  lengths: readonly number[],
  outputs: 'last' | 'all',
  page: number,
  pages: readonly Int32Array[],
): PositionsData {
  if (cached.length !== lengths.length || pages.length !== lengths.length)
    throw new RangeError(
      `stepPositions: ${cached.length} cached lengths, ${lengths.length} new lengths and pages of ${pages.length} sequences do not fit`,
    );
  for (const [s, list] of pages.entries())
    if (list.length * page < cached[s] + lengths[s])
      throw new RangeError(
        `stepPositions: sequence ${s} grows to ${cached[s] + lengths[s]} tokens, but has ${list.length} pages of ${page} rows`,
      );
  return { ...steps(cached, lengths, outputs), pages, page, packed: false };
}

function steps(cached: readonly number[], lengths: readonly number[], outputs: 'last' | 'all') {
  const position: number[] = [];
  const sequence: number[] = [];
  const wanted: number[] = [];
  for (const [s, n] of lengths.entries()) {
    for (let i = 0; i < n; i++) {
      if (outputs === 'all' || i === n - 1) wanted.push(position.length);
      position.push(cached[s] + i);
      sequence.push(s);
    }
  }
  return {
    kind: 'positions',
    position: Int32Array.from(position),
    sequence: Int32Array.from(sequence),
    outputs: Int32Array.from(wanted),
  } as const;
}

/**
 * An empty state: zeros in every field, run-time axes `rows` long. `count` as in the state's type: null for one
 * state, else one per layer.
 */
export function newState(declaration: StateDeclaration, count: number | null, rows: number): StateData {
  const zeros = (shape: readonly number[]): { shape: readonly number[]; data: Float64Array } => ({
    shape,
    data: new Float64Array(shape.reduce((n, s) => n * s, 1)),
  });
  const fieldOf = ({ type }: StateDeclaration['fields'][number]): TensorData => {
    const shape = type.dims.map((d) => d.size ?? rows);
    const scales = type.scales.map((level) =>
      zeros(shape.map((n, axis) => (level.tile[axis] === 0 ? 1 : Math.ceil(n / level.tile[axis])))),
    );
    return { kind: 'tensor', dtype: type.dtype, ...zeros(shape), scales };
  };
  const layer = () => ({ fields: Object.fromEntries(declaration.fields.map((f) => [f.name, fieldOf(f)])) });
  return { kind: 'state', layers: Array.from({ length: count ?? 1 }, layer) };
}

/** Bytes that a state's fields take when stored in their dtypes, all layers together. */
export const stateBytes = (state: StateData): number =>
  state.layers
    .flatMap((layer) => Object.values(layer.fields))
    .reduce((n, field) => n + bytesFor(field.dtype, field.data.length), 0);
