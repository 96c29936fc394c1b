// Caches: rows that sequences leave behind for later calls. A cache is declared once, held by the model one per
// layer, and handed to each layer by `repeat`.
import type { Dim, NamesOf, Tensor } from '../axes.ts';
import { cached } from '../dims.ts';
import { currentSpan, report } from '../context.ts';
import type { CacheFields, StateHandle } from '../tensor.ts';
import {
  attempt,
  mistake,
  positionsArg,
  refusePoison,
  stateArg,
  tensorArg,
  type FunctionTrace,
} from '../trace.ts';
import { describe, listed, nearest } from '../words.ts';
import { alignTo, axisOf, dimsArg } from './axis.ts';
import type { DTypeName } from './pointwise.ts';
import type { Positions } from './positions.ts';
import type { Span } from '../../ir/span.ts';

/** What a row holds, by field: a dim or several. */
export type Fields = Readonly<Record<string, Dim | readonly Dim[]>>;

export interface CacheDeclaration<F extends Fields = Fields> {
  readonly kind: 'cache';
  readonly name: string;
  readonly fields: F;
  /** Rows per page. */
  readonly page: number;
  readonly dtype: DTypeName;
  readonly at: Span;
}

/** One layer's cache, as a block gets it: `cache: Cache<typeof latentCache>`. */
export interface Cache<D extends CacheDeclaration> {
  readonly kind: 'state';
  readonly fields: CacheFields;
  readonly declaration?: D;
  readonly layers?: 'one';
}

/** The caches of all layers, as `forward` gets them. */
export interface Caches<D extends CacheDeclaration> {
  readonly kind: 'state';
  readonly fields: CacheFields;
  readonly declaration?: D;
  readonly layers?: 'all';
}

/**
 * Declares a paged cache: `cache('latent_cache', { latent: kvRank, rope: ropeDim }, { page: 64 })`. Each sequence's
 * rows lie in pages of `page` rows; one row of every field per token.
 */
export function cache<const F extends Fields>(
  name: string,
  fields: F,
  { page = 64, dtype = 'activation' }: { readonly page?: number; readonly dtype?: DTypeName } = {},
): CacheDeclaration<F> {
  const bad = (message: string, label: string, fix: string): void =>
    report({ code: 'dsl/bad-cache', message, label, fix });
  if (!/^[A-Za-z_][A-Za-z0-9_.]*$/.test(name))
    bad(
      'a cache needs a name of letters, digits and _',
      `this is ${describe(name)}`,
      `write it like 'latent_cache'`,
    );
  if (!Number.isSafeInteger(page) || page < 1 || (page & (page - 1)) !== 0)
    bad(
      `cache '${name}': page must be a power of two`,
      `this is ${describe(page)}`,
      'use 64, as DeepSeek does',
    );
  const dims = Object.values(fields ?? {}).flat() as readonly Dim[];
  if (dims.length === 0 || dims.some((d) => typeof d?.size !== 'number'))
    bad(
      `cache '${name}' needs fields with dims of known size`,
      describe(fields),
      `write it like { latent: kvRank }`,
    );
  return Object.freeze({ kind: 'cache', name, fields, page, dtype, at: currentSpan() });
}

function valuesInOrder(
  op: string,
  t: FunctionTrace,
  state: StateHandle,
  values: Readonly<Record<string, unknown>>,
  rows: Dim,
) {
  const known = Object.keys(state.fields);
  for (const name of Object.keys(values ?? {}))
    if (!known.includes(name)) {
      const meant = nearest(name, known);
      mistake({
        code: 'dsl/no-such-field',
        message: `${op}: cache '${state.state}' has no field '${name}'`,
        fix: meant === null ? `it has ${listed(known)}` : `did you mean '${meant}'?`,
      });
    }
  return known.map((name) => {
    refusePoison(values?.[name]);
    if (values?.[name] === undefined)
      mistake({
        code: 'dsl/missing-field',
        message: `${op}: field '${name}' of cache '${state.state}' is missing`,
        fix: `pass ${listed(known)}`,
      });
    const h = tensorArg(op, name, values[name]);
    const dims = [rows, ...state.fields[name]];
    if (h.dims.length !== dims.length || !h.dims.every((d) => dims.some((w) => w.name === d.name)))
      mistake({
        code: 'dsl/axes-differ',
        message: `${op}: field '${name}' takes [${dims.map((d) => d.name).join(', ')}]`,
        label: `${name} is ${String(h)}`,
        fix: 'bring it to these axes: rename, merge or transpose',
        from: [{ what: `${name} comes from here`, at: h.madeAt }],
      });
    for (const d of dims) axisOf(op, h, d);
    return alignTo(op, t, h, dims);
  });
}

/**
 * Writes each token's row to the cache and gives what attention looks along: over `keys`, which are the call's own
 * tokens in prefill and the cache's rows in decode.
 */
export function remember<const F extends Fields>(
  cache: Cache<CacheDeclaration<F>>,
  values: { readonly [K in keyof F]: Tensor<readonly ['tokens', ...NamesOf<NoInfer<F>[K]>]> },
  at: Positions,
): { -readonly [K in keyof F]: Tensor<['keys', ...NamesOf<F[K]>]> } {
  return attempt('remember', (t) => {
    const state = stateArg('remember', cache);
    const p = positionsArg('remember', at);
    const hs = valuesInOrder('remember', t, state, values, p.dims.tokens);
    const [next, ...seen] = t.op(
      'remember',
      [state.latest, p.value, ...hs.map((h) => h.value)],
      {},
      null,
      'seen',
    );
    state.latest = next;
    const names = Object.keys(state.fields);
    for (const [i, v] of seen.entries()) t.hint(v, `${names[i]}_seen`);
    return Object.fromEntries(
      names.map((n, i) => [n, t.handle(seen[i], [p.dims.keys, ...state.fields[n]])]),
    ) as never;
  });
}

/** Writes each token's row to the cache, and nothing else. */
export function cacheAppend<const F extends Fields>(
  cache: Cache<CacheDeclaration<F>>,
  values: { readonly [K in keyof F]: Tensor<readonly ['tokens', ...NamesOf<NoInfer<F>[K]>]> },
  at: Positions,
): void {
  attempt('cacheAppend', (t) => {
    const state = stateArg('cacheAppend', cache);
    const p = positionsArg('cacheAppend', at);
    const hs = valuesInOrder('cacheAppend', t, state, values, p.dims.tokens);
    [state.latest] = t.op('cache_append', [state.latest, p.value, ...hs.map((h) => h.value)], {}, null);
  });
}

/** A field of the cache, all rows of all sequences: [cached, …]. */
export function cacheRead<const F extends Fields, K extends keyof F & string>(
  cache: Cache<CacheDeclaration<F>>,
  field: K,
): Tensor<['cached', ...NamesOf<F[K]>]> {
  return attempt('cacheRead', (t) => {
    const state = stateArg('cacheRead', cache);
    const dims = state.fields[field];
    if (!dims)
      mistake({
        code: 'dsl/no-such-field',
        message: `cacheRead: cache '${state.state}' has no field ${JSON.stringify(field)}`,
        fix: `it has ${listed(Object.keys(state.fields))}`,
      });
    const [value] = t.op('cache_read', [state.latest], { field }, null, field);
    return t.handle(value, [cached, ...dims]) as never;
  });
}

/** Fields of a declaration as lists of dims. */
export const fieldDims = (declaration: CacheDeclaration): CacheFields =>
  Object.fromEntries(
    Object.entries(declaration.fields).map(([name, d]) => [name, dimsArg('cache', name, d)]),
  );
