// Whole attention layers: latent (MLA) and grouped-query (GQA, MHA, MQA). examples/deepseek-v3.ts spells MLA out.
import type { Dim, Tensor } from '../axes.ts';
import { keys, sum } from '../dims.ts';
import { attention, type Positions } from '../ops/positions.ts';
import { broadcast, concat, split } from '../ops/shape.ts';
import { remember, type Cache, type CacheDeclaration } from '../ops/state.ts';
import { attempt, mistake, tensorArg } from '../trace.ts';
import { linear, rmsNorm } from './linear.ts';
import { attentionScale, rope, type RopeConfig } from './rope.ts';

export interface MlaOptions {
  readonly heads: Dim<string, 'static'>;
  /** Per head: part of queries and keys without position, part with, and values. */
  readonly nope: Dim<string, 'static'>;
  readonly ropeDim: Dim<string, 'static'>;
  readonly value: Dim<string, 'static'>;
  readonly kvRank: Dim<string, 'static'>;
  /** Without one queries are projected directly (`q_proj`), as in DeepSeek-V2-Lite. */
  readonly qRank?: Dim<string, 'static'>;
  readonly rope?: RopeConfig;
  /** attentionScale(nope + rope, rope config) unless said otherwise. */
  readonly scale?: number;
  readonly epsilon?: number;
  readonly window?: number;
  /** Prefix of the weights' names. */
  readonly name?: string;
}

/** Multi-head latent attention. The cache needs the fields `latent` (kvRank) and `rope` (ropeDim). */
export function mla<H extends string, D extends CacheDeclaration<{ latent: Dim; rope: Dim }>>(
  x: Tensor<readonly ['tokens', H]>,
  at: Positions,
  cache: Cache<D>,
  options: MlaOptions,
): Tensor<['tokens', H]> {
  return attempt(
    'mla',
    () => {
      const {
        heads,
        nope,
        ropeDim,
        value,
        kvRank,
        qRank,
        epsilon = 1e-6,
        window,
        name = 'self_attn',
      } = options;
      const config = options.rope ?? {};
      const hidden = tensorArg('mla', 'x', x).dims.at(-1) as Dim<H>;
      const weight = (w: string): string => `${name}.${w}`;
      const qk = sum(`${nope.name}+${ropeDim.name}`, nope, ropeDim);
      const kv = sum(`${nope.name}+${value.name}`, nope, value);
      const latents = sum(`${kvRank.name}+${ropeDim.name}`, kvRank, ropeDim);
      const q = qRank
        ? linear(
            rmsNorm(linear(x as Tensor, qRank, weight('q_a_proj')), weight('q_a_layernorm'), { epsilon }),
            [heads, qk],
            weight('q_b_proj'),
          )
        : linear(x as Tensor, [heads, qk], weight('q_proj'));
      const [qNope, qRope] = split(q as Tensor, qk) as unknown as [Tensor, Tensor];
      const [latent, keyRope] = split(
        linear(x as Tensor, latents, weight('kv_a_proj_with_mqa')) as Tensor,
        latents,
      ) as unknown as [Tensor, Tensor];
      const seen = remember(
        cache as unknown as Cache<CacheDeclaration<{ latent: Dim; rope: Dim }>>,
        {
          latent: rmsNorm(latent, weight('kv_a_layernorm'), { epsilon }) as never,
          rope: rope(keyRope, at, config) as never,
        },
        at,
      );
      const [kNope, v] = split(
        linear(seen.latent as Tensor, [heads, kv], weight('kv_b_proj')) as Tensor,
        kv,
      ) as unknown as [Tensor, Tensor];
      const kRope = broadcast(seen.rope as Tensor, [keys, heads, ropeDim]) as Tensor;
      const o = attention({
        q: concat([qNope, rope(qRope, at, config)] as never, qk) as never,
        k: concat([kNope, kRope] as never, qk) as never,
        v: v as never,
        at,
        scale: options.scale ?? attentionScale(qk, config),
        ...(window === undefined ? {} : { window }),
      });
      return linear(o as Tensor, hidden, weight('o_proj'), { over: [heads, value] }) as never;
    },
    () => x as never,
  );
}

export interface GqaOptions {
  readonly heads: Dim<string, 'static'>;
  /** Key heads; they must divide `heads`. The same dim as `heads` is plain multi-head attention. */
  readonly kvHeads?: Dim<string, 'static'>;
  /** Length of queries, keys and values per head. */
  readonly length: Dim<string, 'static'>;
  readonly rope?: RopeConfig;
  readonly scale?: number;
  readonly window?: number;
  readonly bias?: boolean;
  readonly name?: string;
}

/** Grouped-query attention with rotary embedding. The cache needs the fields `k` and `v` over [kvHeads, length]. */
export function gqa<H extends string, D extends CacheDeclaration<{ k: readonly Dim[]; v: readonly Dim[] }>>(
  x: Tensor<readonly ['tokens', H]>,
  at: Positions,
  cache: Cache<D>,
  options: GqaOptions,
): Tensor<['tokens', H]> {
  return attempt(
    'gqa',
    () => {
      const { heads, kvHeads = options.heads, length, bias = false, window, name = 'self_attn' } = options;
      const hidden = tensorArg('gqa', 'x', x).dims.at(-1) as Dim<H>;
      if ((heads.size ?? 0) % (kvHeads.size ?? 1) !== 0)
        mistake({
          code: 'dsl/heads-do-not-divide',
          message: `gqa: ${kvHeads.size} key heads do not divide ${heads.size} query heads`,
          label: `'${kvHeads.name}' and '${heads.name}'`,
          fix: `use a number of key heads that divides ${heads.size}`,
        });
      const project = (out: readonly Dim[], w: string): Tensor =>
        linear(x as Tensor, out, `${name}.${w}`, { bias }) as Tensor;
      const config = options.rope ?? {};
      const seen = remember(
        cache as unknown as Cache<CacheDeclaration<{ k: readonly Dim[]; v: readonly Dim[] }>>,
        {
          k: rope(project([kvHeads, length], 'k_proj'), at, config) as never,
          v: project([kvHeads, length], 'v_proj') as never,
        },
        at,
      );
      const o = attention({
        q: rope(project([heads, length], 'q_proj'), at, config) as never,
        k: seen.k as never,
        v: seen.v as never,
        at,
        scale: options.scale ?? attentionScale(length, config),
        ...(window === undefined ? {} : { window }),
      });
      return linear(o as Tensor, hidden, `${name}.o_proj`, { over: [heads, length] }) as never;
    },
    () => x as never,
  );
}
