// Types of IR values: tensors with named dims and scales, and the three structured kinds (positions, routing, state)
// that let attention, experts and caches be written once. Types are immutable and compared by structure.
import type { DType } from './formats/dtypes.ts';

/**
 * One axis. `size` is its length, or null when it is known only at run time; such a dim is declared in the module by
 * its name, with a bound. Names are for people and for matching: a static dim may have none.
 */
export interface Dim {
  readonly name: string | null;
  readonly size: number | null;
}

/** Scale formats: any f32, an f32 that is a power of two, or an exponent byte. */
export type ScaleFormat = 'f32' | 'pow2' | 'ue8m0';

/**
 * One level of scaling: element = code · scale of the tile it lies in. `tile` has one length per axis, in the order
 * of the shape; 0 stands for the whole axis. Edge tiles may be partial, as if the tensor were padded with zeros.
 */
export interface ScaleLevel {
  readonly tile: readonly number[];
  readonly format: ScaleFormat;
}

/** Codes and their scales are one value until kernels are selected; `scales` is empty for a plain tensor. */
export interface TensorType {
  readonly kind: 'tensor';
  readonly dtype: DType;
  readonly scales: readonly ScaleLevel[];
  readonly dims: readonly Dim[];
}

/**
 * Where each token stands: its position in its sequence, which keys it may see, where its cache rows go, and which
 * tokens' outputs are wanted. `keys` is the axis that attention looks along: equal to `tokens` when the keys are the
 * step's own tokens (packed prefill), or the cache's axis (decode, chunked prefill).
 */
export interface PositionsType {
  readonly kind: 'positions';
  readonly tokens: Dim;
  readonly keys: Dim;
  readonly sequences: Dim;
  readonly outputs: Dim;
}

/** A choice of `top` experts for every token; `slots` is the ragged axis of rows grouped by expert that it defines. */
export interface RoutingType {
  readonly kind: 'routing';
  readonly tokens: Dim;
  readonly experts: Dim;
  readonly top: Dim;
  readonly slots: Dim;
}

/** A declared state (cache, recurrent state): one, or `count` of them, one per layer. */
export interface StateType {
  readonly kind: 'state';
  readonly state: string;
  readonly count: number | null;
}

export type Type = TensorType | PositionsType | RoutingType | StateType;

export const dim = (name: string | null, size: number | null = null): Dim => ({ name, size });

export const tensor = (
  dtype: DType,
  dims: readonly Dim[],
  scales: readonly ScaleLevel[] = [],
): TensorType => ({
  kind: 'tensor',
  dtype,
  scales,
  dims,
});

/** Same axis: equal sizes, and for run-time sizes equal names. A static dim's name does not take part. */
export const sameDim = (a: Dim, b: Dim): boolean =>
  a.size === b.size && (a.size !== null || a.name === b.name);

export const sameDims = (a: readonly Dim[], b: readonly Dim[]): boolean =>
  a.length === b.length && a.every((d, i) => sameDim(d, b[i]));

const sameScales = (a: readonly ScaleLevel[], b: readonly ScaleLevel[]): boolean =>
  a.length === b.length &&
  a.every(
    (s, i) =>
      s.format === b[i].format &&
      s.tile.length === b[i].tile.length &&
      s.tile.every((t, j) => t === b[i].tile[j]),
  );

export function sameType(a: Type, b: Type): boolean {
  if (a.kind === 'tensor' && b.kind === 'tensor')
    return a.dtype === b.dtype && sameDims(a.dims, b.dims) && sameScales(a.scales, b.scales);
  if (a.kind === 'positions' && b.kind === 'positions')
    return sameDims([a.tokens, a.keys, a.sequences, a.outputs], [b.tokens, b.keys, b.sequences, b.outputs]);
  if (a.kind === 'routing' && b.kind === 'routing')
    return sameDims([a.tokens, a.experts, a.top, a.slots], [b.tokens, b.experts, b.top, b.slots]);
  if (a.kind === 'state' && b.kind === 'state') return a.state === b.state && a.count === b.count;
  return false;
}

/** Rewrites every dim of a type; sizes of scales follow the shape by themselves. */
export function mapDims(type: Type, f: (d: Dim) => Dim): Type {
  switch (type.kind) {
    case 'tensor':
      return { ...type, dims: type.dims.map(f) };
    case 'positions':
      return {
        ...type,
        tokens: f(type.tokens),
        keys: f(type.keys),
        sequences: f(type.sequences),
        outputs: f(type.outputs),
      };
    case 'routing':
      return {
        ...type,
        tokens: f(type.tokens),
        experts: f(type.experts),
        top: f(type.top),
        slots: f(type.slots),
      };
    case 'state':
      return type;
  }
}

/** Every dim that a type mentions, in printing order. */
export function dimsOf(type: Type): readonly Dim[] {
  switch (type.kind) {
    case 'tensor':
      return type.dims;
    case 'positions':
      return [type.tokens, type.keys, type.sequences, type.outputs];
    case 'routing':
      return [type.tokens, type.experts, type.top, type.slots];
    case 'state':
      return [];
  }
}

export const showDim = (d: Dim): string =>
  d.size === null ? `${d.name}` : d.name === null ? `${d.size}` : `${d.name}=${d.size}`;

/** The spelling of IR text: `f8e4m3<1x128; f32>[tokens, hidden=7168]`, `positions[…]`, `routing[…]`, `name[61]`. */
export function showType(type: Type): string {
  switch (type.kind) {
    case 'tensor': {
      const scales = type.scales
        .map((s) => `<${s.tile.map((t) => (t === 0 ? '*' : t)).join('x')}; ${s.format}>`)
        .join('');
      return `${type.dtype}${scales}[${type.dims.map(showDim).join(', ')}]`;
    }
    case 'positions':
    case 'routing':
      return `${type.kind}[${dimsOf(type).map(showDim).join(', ')}]`;
    case 'state':
      return type.count === null ? `state ${type.state}` : `state ${type.state}[${type.count}]`;
  }
}

/** Shape of a scale level's tensor: the ceiling of axis over tile, per axis. Symbolic axes stay symbolic when the tile is 1. */
export function scaleDims(type: TensorType, level: ScaleLevel): readonly Dim[] {
  return type.dims.map((d, i) => {
    const tile = level.tile[i];
    if (tile === 1) return d;
    if (tile === 0) return dim(null, 1);
    if (d.size === null) throw new Error(`scaleDims: run-time axis ${d.name} cannot be tiled by ${tile}`);
    return dim(null, Math.ceil(d.size / tile));
  });
}

/** Number of elements of the static axes (run-time axes count as 1). */
export const staticCount = (dims: readonly Dim[]): number => dims.reduce((n, d) => n * (d.size ?? 1), 1);
