// What makers of random ops draw from: values made so far, new arguments and weights, and ops that keep numbers where
// every op has a meaning (no logarithm of −1, no overflow, no row that does not exist).
import { FunctionBuilder } from '../../../ir/builder.ts';
import { dtypeInfo, type DType } from '../../../ir/formats/index.ts';
import type { Attributes, Value } from '../../../ir/module.ts';
import { problem } from '../../../ir/ops/define.ts';
import { isOf } from '../../../ir/ops/support.ts';
import {
  dim,
  sameDims,
  sameType,
  tensor,
  type Dim,
  type PositionsType,
  type TensorType,
  type Type,
} from '../../../ir/types.ts';
import type { Choices } from '../random.ts';

export type TensorValue = Value & { readonly type: TensorType };
export type Test = (t: TensorType) => boolean;

export const isTensor = (v: Value): v is TensorValue => v.type.kind === 'tensor';
export const plain: Test = (t) => t.scales.length === 0 && t.dtype !== 'f8ue8m0';
export const floats: Test = (t) => plain(t) && isOf('float', t);
export const isStatic: Test = (t) => t.dims.every((d) => d.size !== null);

/** Run-time dims with their largest sizes; the module declares them. */
export const bounds = { tokens: 48, rows: 20, sequences: 8, outputs: 48, cached: 512 } as const;
const most = (d: Dim): number => d.size ?? bounds[d.name as 'tokens'] ?? 512;
export const elements = (dims: readonly Dim[]): number => dims.reduce((n, d) => n * most(d), 1);

/** Keys are the cache's rows, or the tokens themselves. */
export const positionsType = (paged: boolean): PositionsType => ({
  ...{ kind: 'positions', tokens: dim('tokens'), keys: dim(paged ? 'cached' : 'tokens') },
  ...{ sequences: dim('sequences'), outputs: dim('outputs') },
});

/** Lengths of static axes: ones, odd ones, powers of two, and what tile kernels are made for. */
const lengths = [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 31, 32, 33, 48, 64, 65, 96, 128, 136, 256] as const;
/** Elements of a tensor at most: the emulator runs a thread for each. */
export const largest = 6000;

/** What numbers a type's elements may be at most without trouble further on. */
const comfortable = (dtype: DType): number => {
  const { kind } = dtypeInfo[dtype];
  return kind === 'int'
    ? 1e6
    : dtype === 'f16' || dtype === 'f12e5m6'
      ? 1000
      : dtype === 'f8e4m3'
        ? 100
        : 1e4;
};

export class Drawing {
  readonly c: Choices;
  readonly b: FunctionBuilder;
  readonly kind: 'entry' | 'block';
  /** Of floats, unless an op wants another. */
  readonly dtype: DType;
  readonly pool: TensorValue[] = [];
  /** Positions of the tokens, a routing of them, a cache: what the function has. */
  at: Value | null = null;
  routing: Value | null = null;
  cache: Value | null = null;
  /** What was read of a cache may not be used after a later update: reading ends updates. */
  isRead = false;
  /** Largest magnitude of a value's elements, about. */
  readonly #size = new Map<Value, number>();
  #weights = 0;

  constructor(c: Choices, b: FunctionBuilder, kind: 'entry' | 'block', dtype: DType) {
    this.c = c;
    this.b = b;
    this.kind = kind;
    this.dtype = dtype;
  }

  // --- values ---

  size(v: Value): number {
    return this.#size.get(v) ?? 32;
  }

  /** Applies an op whose elements are at most `size`; tensors among its results can be drawn from now on. */
  op(
    name: string,
    operands: readonly Value[],
    attributes: Attributes,
    declared: readonly Type[] | null,
    size: number,
  ): readonly Value[] {
    const results = this.b.op(name, operands, attributes, declared);
    for (const r of results) {
      this.#size.set(r, size);
      if (isTensor(r)) this.pool.push(r);
    }
    return results;
  }

  one(
    name: string,
    operands: readonly Value[],
    attributes: Attributes = {},
    declared: Type | null = null,
    size?: number,
  ): TensorValue {
    const most = size ?? Math.max(1, ...operands.map((v) => this.size(v)));
    return this.op(name, operands, attributes, declared && [declared], most)[0] as TensorValue;
  }

  argument(type: TensorType): TensorValue {
    const v = this.b.argument('x', type) as TensorValue;
    this.pool.push(v);
    return v;
  }

  /** Positions of the tokens; an entry that has none yet gets packed ones. */
  positions(): Value | null {
    if (this.at || this.kind === 'block') return this.at;
    this.at = this.b.argument('at', positionsType(false));
    return this.at;
  }

  /** Rows by expert have no size but by their routing: they come from rows of tokens. */
  grouped(type: TensorType, slots: number): TensorValue {
    if (slots > 0 || !this.routing || elements(type.dims) > 4 * largest)
      return problem('rows by expert come from group_tokens alone');
    const rows = this.argument({ ...type, dims: [dim('tokens'), ...type.dims.slice(1)] });
    return this.one('group_tokens', [rows, this.routing]);
  }

  /** A tensor from outside: an argument of an entry; where there can be none, a weight or a constant. */
  fresh(type: TensorType): TensorValue {
    const slots = type.dims.findIndex((d) => d.size === null && d.name === 'slots');
    if (slots >= 0) return this.grouped(type, slots);
    if (this.kind === 'entry' && (!isStatic(type) || this.c.chance(0.5))) return this.argument(type);
    if (isStatic(type) && plain(type) && isOf('float', type)) return this.weight(type);
    if (dtypeInfo[type.dtype].kind !== 'bool' && type.dims.length > 0 && this.c.chance(0.5))
      return this.one('iota', [], { axis: 0 }, { ...type, scales: [] }, most(type.dims[0]));
    return this.one('const', [], { value: this.c.below(2) }, { ...type, scales: [] }, 1);
  }

  weight(type: TensorType): TensorValue {
    const stored = type.dims.map((d) => d.size!);
    const name = this.c.chance(0.5) ? `w${this.#weights++}.weight` : `norm${this.#weights++}.w`;
    const v = this.b.parameter('parameter', name, type, stored) as TensorValue;
    this.#size.set(v, 1);
    return v;
  }

  /** A splat; not drawn from. */
  splat(value: number, type: TensorType): Value {
    const v = this.b.one('const', [], { value }, { ...type, scales: [] });
    this.#size.set(v, Math.abs(value));
    return v;
  }

  /** A tensor that passes: one made before, mostly one of the last. */
  find(test: Test): TensorValue | null {
    const found = this.pool.filter((v) => test(v.type));
    if (found.length === 0) return null;
    return this.c.chance(0.6) ? this.c.pick(found.slice(-3)) : this.c.pick(found);
  }

  /** A tensor that passes, or a new argument of the type that `make` gives. */
  draw(test: Test, make: () => TensorType): TensorValue {
    return this.find(test) ?? this.fresh(make());
  }

  float(): TensorValue {
    return this.draw(floats, () => this.type());
  }

  /** Of a given type: one made before, another cast or stretched to it, or a new one. */
  like(type: TensorType): TensorValue {
    const same = this.find((t) => sameType(t, type));
    if (same && this.c.chance(0.7)) return same;
    const shaped = this.find((t) => plain(t) && sameDims(t.dims, type.dims));
    if (shaped && this.c.chance(0.5)) return this.cast(shaped, type.dtype);
    const narrow = this.find(
      (t) =>
        plain(t) &&
        t.dtype === type.dtype &&
        t.dims.length < type.dims.length &&
        placesIn(t.dims, type.dims) !== null,
    );
    if (narrow && this.c.chance(0.7))
      return this.one(
        'broadcast',
        [narrow],
        { axes: placesIn(narrow.type.dims, type.dims)! },
        { ...type, scales: [] },
      );
    return this.fresh(type);
  }

  cast(v: TensorValue, dtype: DType): TensorValue {
    if (v.type.dtype === dtype) return v;
    const from = dtypeInfo[v.type.dtype].kind === 'bool' ? v : this.within(v, comfortable(dtype));
    return this.one('cast', [from], {}, { ...v.type, dtype }, dtype === 'bool' ? 1 : this.size(from));
  }

  bools(): TensorValue {
    const known = this.find((t) => t.dtype === 'bool');
    if (known && this.c.chance(0.6)) return known;
    const a = this.float();
    return this.one(this.c.pick(['lt', 'ge', 'gt', 'le']), [a, this.like(a.type)], {}, null, 1);
  }

  // --- staying where ops have a meaning ---

  /** Into ±limit, when it could be beyond. */
  within(v: TensorValue, limit: number): TensorValue {
    if (this.size(v) <= limit) return v;
    const low = this.one('max', [v, this.splat(-limit, v.type)]);
    return this.one('min', [low, this.splat(limit, v.type)], {}, null, limit);
  }

  /** At least `least`. */
  positive(v: TensorValue, least = 0.25): TensorValue {
    const size = this.one('abs', [v]);
    return this.one('add', [size, this.splat(least, v.type)], {}, null, this.size(v) + least);
  }

  /** Whether a result of this size may be made in this dtype. */
  comfortable(dtype: DType, size: number): boolean {
    return size <= comfortable(dtype);
  }

  /** Row numbers of an axis, whole numbers from 0 to n − 1. */
  rows(of: Dim): TensorValue {
    if (of.name === 'slots' && of.size === null) problem('how many slots are in use is not known');
    if (of.size === null) {
      // What counts along the same axis exists in any number.
      return this.one('iota', [], { axis: 0 }, tensor('i32', [of]), most(of));
    }
    const found = this.find((t) => t.dtype === 'i32');
    const ints =
      found && elements(found.type.dims) <= 256 ? found : this.fresh(tensor('i32', [dim('tokens')]));
    const low = this.one('max', [ints, this.splat(0, ints.type)]);
    return this.one('min', [low, this.splat(of.size - 1, ints.type)], {}, null, of.size);
  }

  // --- types ---

  length(limit = 256): number {
    return this.c.pick(lengths.filter((n) => n <= limit));
  }

  /** A shape of one to four axes, often with tokens in front. */
  shape(): readonly Dim[] {
    const dims: Dim[] = [];
    // A block knows the sizes that its argument tells.
    if (this.c.chance(0.7)) dims.push(dim(this.kind === 'block' || this.c.chance(0.8) ? 'tokens' : 'rows'));
    const rank = this.c.pick([1, 1, 2, 2, 3]);
    for (let i = 0; i < rank; i++) {
      const left = Math.floor(largest / elements(dims));
      if (left < 1) break;
      dims.push(dim(this.c.chance(0.2) ? `d${i}` : null, this.length(Math.min(256, left))));
    }
    return dims;
  }

  type(): TensorType {
    const other = ['f32', 'bf16', 'f16'] as const;
    return tensor(this.c.chance(0.8) ? this.dtype : this.c.pick(other), this.shape());
  }
}

/** Axes of `all` that hold `some` in order, or null. */
function placesIn(some: readonly Dim[], all: readonly Dim[]): number[] | null {
  const axes: number[] = [];
  let from = 0;
  for (const d of some) {
    const at = all.findIndex(
      (x, i) => i >= from && x.size === d.size && (x.size !== null || x.name === d.name),
    );
    if (at < 0) return null;
    axes.push(at);
    from = at + 1;
  }
  return axes;
}
