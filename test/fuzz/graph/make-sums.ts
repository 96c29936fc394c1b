// Makers of reductions and contractions.
import type { Value } from '../../../ir/module.ts';
import { dim, tensor, type Dim, type TensorType } from '../../../ir/types.ts';
import { elements, floats, largest, type Drawing, type TensorValue } from './drawing.ts';
import { axisOf, mixable, type Maker } from './maker.ts';

// --- reductions ---

const reduce =
  (name: string): Maker =>
  (d) => {
    const x = d.draw(
      (t) => floats(t) && t.dims.length > 0,
      () => d.type(),
    );
    const rank = x.type.dims.length;
    // Mostly trailing axes, as kernels fuse them.
    const axes = x.type.dims
      .map((_, i) => i)
      .filter((i) => mixable(x.type.dims[i]) && d.c.chance(i === rank - 1 ? 0.9 : 0.25));
    if (axes.length === 0) return;
    const size = name === 'sum' ? d.size(x) * elements(axes.map((a) => x.type.dims[a])) : d.size(x);
    if (d.comfortable(x.type.dtype, size)) d.one(name, [x], { axes }, null, size);
  };
const argmax: Maker = (d) => {
  const x = d.draw(
    (t) => floats(t) && t.dims.length > 0,
    () => d.type(),
  );
  const axis = axisOf(d, x.type, mixable);
  if (axis !== null) d.one('argmax', [x], { axis }, null, 512);
};
const cumsum: Maker = (d) => {
  const x = d.draw(
    (t) => floats(t) && t.dims.length > 0,
    () => d.type(),
  );
  const axis = axisOf(d, x.type, mixable);
  if (axis === null) return;
  const size = d.size(x) * elements([x.type.dims[axis]]);
  if (d.comfortable(x.type.dtype, size)) d.one('cumsum', [x], { axis }, null, size);
};
// Not of rows grouped by expert: those that are not in use hold what nobody wrote. The kernel takes an element of such a
// row, inside of it whatever it holds, and the emulator rightly says where that address came from.
const top_k: Maker = (d) => {
  const x = d.draw(
    (t) => floats(t) && t.dims.at(-1)?.size != null && t.dims.every(mixable),
    () => tensor(d.dtype, [dim('tokens'), dim(null, 16)]),
  );
  d.op(
    'top_k',
    [x],
    { k: 1 + d.c.below(Math.min(8, x.type.dims.at(-1)!.size!)) },
    null,
    Math.max(256, d.size(x)),
  );
};

// --- contractions ---

/** Rows to multiply: a float matrix with a static last axis. */
const factor = (d: Drawing): TensorValue =>
  d.draw(
    (t) => floats(t) && t.dims.length >= 2 && t.dims.at(-1)!.size !== null && elements(t.dims) <= largest,
    () =>
      tensor(d.dtype, [
        dim('tokens'),
        dim(null, d.c.pick([16, 32, 64, 112, 128, 128, 144, 256, d.length()])),
      ]),
  );
const matmul: Maker = (d) => {
  const x = d.within(factor(d), 16);
  const kept = d.c.chance(0.2) && x.type.dims.length > 2 && x.type.dims.at(-2)!.size !== null ? 2 : 1;
  const k = x.type.dims.slice(-kept);
  const lead = elements(x.type.dims.slice(0, -kept));
  const room = Math.max(1, Math.min(256, Math.floor(largest / lead)));
  // Multiples of 8 suit the tile kernels, the others do not.
  const n = d.c.chance(0.6) && room >= 8 ? 8 * (1 + d.c.below(Math.floor(room / 8))) : d.length(room);
  const isWeight = d.c.chance(0.85);
  const w = isWeight
    ? d.weight(tensor(x.type.dtype, [dim(null, n), ...k]))
    : d.within(d.like(tensor(x.type.dtype, [dim(null, n), ...k])), 16);
  const to = d.c.chance(0.8) ? x.type.dtype : d.c.pick(['f32', 'bf16'] as const);
  const depth = elements(k);
  // Weights are at most 2 / √K.
  const size = isWeight ? 2 * d.size(x) * Math.sqrt(depth) : d.size(x) * d.size(w) * depth;
  if (!d.comfortable(to, size)) return;
  d.one(
    'matmul',
    [x, w],
    kept === 1 ? {} : { contract: kept },
    tensor(to, [...x.type.dims.slice(0, -kept), dim(null, n)]),
    size,
  );
};
/** Two products of one input: what passes join. */
const scaledMatmul: Maker = (d) => {
  const wide = (t: TensorType): boolean =>
    floats(t) && t.dims.length === 2 && t.dims[0].size === null && (t.dims[1].size ?? 1) % 16 === 0;
  const found = d.draw(wide, () =>
    tensor(d.dtype, [dim('tokens'), dim(null, d.c.pick([64, 128, 144, 256]))]),
  );
  const x = d.within(found, 16);
  const [rows, k] = x.type.dims;
  const scaled = (v: Value, tile: readonly number[]): TensorValue =>
    d.one('quantize', [v], {}, tensor('f8e4m3', (v.type as TensorType).dims, [{ tile, format: 'f32' }]), 448);
  const n = d.c.pick([8, 16, 24, 32, 40, 64]);
  const w = d.weight(tensor(x.type.dtype, [dim(null, n), k]));
  const to = d.c.pick(['bf16', 'f32'] as const);
  d.one(
    'matmul',
    [scaled(x, [1, 128]), scaled(w, [128, 128])],
    { promote: 128 },
    tensor(to, [rows, dim(null, n)]),
    1000,
  );
};
const einsum: Maker = (d) => {
  const x = d.within(
    d.draw(
      (t) => floats(t) && t.dims.length >= 1 && t.dims.length <= 4 && elements(t.dims) <= 2000,
      () => tensor(d.dtype, [dim('tokens'), dim(null, d.length(64))]),
    ),
    16,
  );
  const letters = [...'abcdef'].slice(0, x.type.dims.length);
  // Every axis of the first: shared and kept, shared and summed, or its own. One new axis on the other side.
  const roles = x.type.dims.map((s) =>
    d.c.pick([mixable(s) ? 'summed' : 'own', 'batch', 'own', 'own'] as const),
  );
  const fresh = dim(null, d.length(16));
  const shared = letters.filter((_, i) => roles[i] !== 'own');
  const left = [...shared, 'z'];
  if (d.c.chance(0.5)) left.reverse();
  const dimOf = (l: string): Dim => (l === 'z' ? fresh : x.type.dims[letters.indexOf(l)]);
  const y = d.within(d.like(tensor(x.type.dtype, left.map(dimOf))), 16);
  const out = [...letters.filter((_, i) => roles[i] !== 'summed'), 'z'];
  const size = d.size(x) * d.size(y) * elements(letters.filter((_, i) => roles[i] === 'summed').map(dimOf));
  const dims = out.map(dimOf);
  if (elements(dims) > largest || !d.comfortable(x.type.dtype, size)) return;
  d.one(
    'einsum',
    [x, y],
    { spec: `${letters.join('')},${left.join('')}->${out.join('')}` },
    tensor(d.c.chance(0.7) ? x.type.dtype : 'f32', dims),
    size,
  );
};

export const sumMakers = {
  ...{
    sum: reduce('sum'),
    max_over: reduce('max_over'),
    min_over: reduce('min_over'),
    argmax,
    cumsum,
    top_k,
  },
  ...{ matmul: (d: Drawing) => (d.c.chance(0.3) ? scaledMatmul : matmul)(d), einsum },
} as const;
