// A model: its states, what it computes, and how far its run-time dims may go. The default export of a model file.
import type { Tensor } from './axes.ts';
import { checkSize } from './dims.ts';
import type { Deployment } from './deploy.ts';
import type { Cache, CacheDeclaration, Caches } from './ops/state.ts';
import type { Positions } from './ops/positions.ts';
import { currentSpan, declareSetting, report, settingOf } from './context.ts';
import { describe, listed, nearest } from './words.ts';
import type { Span } from '../ir/span.ts';

/** Bounds that buffers are planned for, unless the model or `--set` says otherwise. */
export const defaultBounds = {
  tokens: 16384,
  batch: 256,
  cached: 1048576,
  sequences: 256,
  outputs: 256,
} as const;

export type BoundName = keyof typeof defaultBounds;

/** A cache for every layer. */
export interface LayerCaches<D extends CacheDeclaration = CacheDeclaration> {
  readonly kind: 'caches';
  readonly cache: D;
  readonly count: number;
}

/** One cache per layer: `perLayer(latentCache, 61)`. */
export function perLayer<D extends CacheDeclaration>(cache: D, count: number): LayerCaches<D> {
  if (cache?.kind !== 'cache')
    report({
      code: 'dsl/wrong-argument',
      message: 'perLayer needs a cache',
      label: `this is ${describe(cache)}`,
      fix: `declare one: cache('latent_cache', { latent: kvRank })`,
    });
  return Object.freeze({ kind: 'caches', cache, count: checkSize('the number of layers', count) });
}

export type States = Readonly<Record<string, LayerCaches | CacheDeclaration>>;

export type StateArguments<S extends States> = {
  readonly [K in keyof S]: S[K] extends LayerCaches<infer D>
    ? Caches<D>
    : S[K] extends CacheDeclaration
      ? Cache<S[K]>
      : never;
};

export interface ModelOptions<S extends States> {
  /** Caches by the name that `forward` gets them under. */
  readonly state?: S;
  /** Logits of the wanted tokens, f32[outputs, vocab]. */
  forward(
    ids: Tensor<['tokens']>,
    at: Positions,
    state: StateArguments<S>,
  ): Tensor<readonly ['outputs', string]>;
  readonly bounds?: Partial<Record<BoundName, number>>;
  /** parallel(…), precision(…), optimizer(…) */
  readonly deployment?: readonly Deployment[];
}

const modelMark = Symbol.for('dsvc.model');

export interface Model {
  readonly [modelMark]: true;
  readonly name: string;
  readonly states: Readonly<
    Record<string, { readonly cache: CacheDeclaration; readonly count: number | null }>
  >;
  readonly forward: (ids: never, at: never, state: never) => unknown;
  readonly bounds: Readonly<Record<BoundName, number>>;
  readonly deployment: { readonly [K in Deployment['kind']]?: Extract<Deployment, { kind: K }> };
  readonly at: Span;
}

export const isModel = (value: unknown): value is Model =>
  typeof value === 'object' && value !== null && (value as Partial<Model>)[modelMark] === true;

/** A run-time dim's bound: the model's, or what `--set` says. */
function bound(name: BoundName, declared: number): number {
  const text = settingOf(name);
  const value = text === undefined ? declared : Number(text.replaceAll('_', '') || NaN);
  const size = checkSize(`the bound of '${name}'`, value, text === undefined ? undefined : `${name}=${text}`);
  declareSetting({ name, kind: 'bound', declared, value: size, at: currentSpan() });
  return size;
}

/**
 * Declares a model: `export default model('deepseek_v3', { state: { caches }, forward: (ids, at, { caches }) => … })`.
 * Reports `dsl/bad-model`, and mistakes in bounds and deployment.
 */
export function model<const S extends States = Record<never, never>>(
  name: string,
  options: ModelOptions<S>,
): Model {
  const no = (message: string, label: string, fix: string): void =>
    report({ code: 'dsl/bad-model', message, label, fix });
  if (typeof name !== 'string' || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    no(
      'a model needs a name of letters, digits and _',
      `this is ${describe(name)}`,
      `model('deepseek_v3', { … })`,
    );
  if (typeof options?.forward !== 'function')
    no(
      `model '${name}' needs a forward function`,
      `forward is ${describe(options?.forward)}`,
      'forward: (ids, at, state) => logits',
    );
  const given = options?.bounds ?? {};
  for (const key of Object.keys(given))
    if (!(key in defaultBounds)) {
      const meant = nearest(key, Object.keys(defaultBounds));
      no(
        `there is no run-time dim '${key}' to bound`,
        listed(Object.keys(defaultBounds)),
        meant ? `did you mean '${meant}'?` : 'use one of these',
      );
    }
  const states: Record<string, { cache: CacheDeclaration; count: number | null }> = {};
  for (const [key, s] of Object.entries(options?.state ?? {})) {
    if (s?.kind === 'caches') states[key] = { cache: s.cache, count: s.count };
    else if (s?.kind === 'cache') states[key] = { cache: s, count: null };
    else
      no(
        `state '${key}' is no cache`,
        `this is ${describe(s)}`,
        `perLayer(cache('latent_cache', …), layers)`,
      );
  }
  const bounds = Object.fromEntries(
    Object.entries(defaultBounds).map(([n, d]) => [n, bound(n as BoundName, given[n as BoundName] ?? d)]),
  ) as Record<BoundName, number>;
  const deployment: Record<string, Deployment> = {};
  for (const d of options?.deployment ?? []) {
    if (!['parallel', 'precision', 'optimizer'].includes(d?.kind) || deployment[d.kind])
      no(
        deployment[d?.kind]
          ? `deployment has ${d.kind} twice`
          : 'deployment takes parallel, precision and optimizer',
        describe(d),
        'give each at most once',
      );
    else deployment[d.kind] = d;
  }
  return Object.freeze({
    [modelMark]: true as const,
    name,
    states,
    forward: options?.forward,
    bounds,
    deployment,
    at: currentSpan(),
  });
}
