// What an author's variables hold while a model is traced: handles on IR values. They carry the author's dims (names
// and composite dims), which the IR's types only partly know, and remember where they were made.
import type { DType } from '../ir/formats/dtypes.ts';
import type { Value } from '../ir/module.ts';
import type { Span } from '../ir/span.ts';
import {
  dim as irDim,
  showType,
  tensor as irTensor,
  type Dim as IrDim,
  type TensorType,
  type Type,
} from '../ir/types.ts';
import type { Axes, Dim, Tensor } from './axes.ts';
import { noteNaN } from './context.ts';
import { toPrimitive } from './operators.ts';

/** A value whose name is still open: the author's variable name arrives after the call that makes it. */
export interface NamedLater {
  name: string;
  readonly type: Type;
  readonly source: Value['source'];
}

/** The function that a value belongs to, as far as handles need it. */
export interface Owner {
  /** The author's name for a value; the first one given stays. */
  hint(value: NamedLater, name: string): void;
}

/** What every handle has: the value, the function it belongs to, and where the author made it. */
export abstract class Handle {
  readonly value: NamedLater;
  readonly owner: Owner;
  readonly madeAt: Span;
  constructor(value: NamedLater, owner: Owner, madeAt: Span) {
    this.value = value;
    this.owner = owner;
    this.madeAt = madeAt;
  }
  toString(): string {
    return showType(this.value.type);
  }
  [Symbol.toPrimitive](hint: string): string | number {
    return toPrimitive(
      hint,
      this instanceof TensorHandle ? 'tensors' : 'values of the traced model',
      () => this.toString(),
      'write mul(x, y), add(x, y), gt(x, y), select(c, x, y), …; as text it is String(x)',
    );
  }
}

/** The one implementation of `Tensor`. */
export class TensorHandle extends Handle implements Tensor<Axes> {
  readonly dims: readonly Dim[];
  constructor(value: NamedLater, owner: Owner, madeAt: Span, dims: readonly Dim[]) {
    super(value, owner, madeAt);
    this.dims = dims;
  }
  get axes(): Axes {
    return this.dims.map((d) => d.name);
  }
  get type(): TensorType {
    return this.value.type as TensorType;
  }
  get dtype(): DType {
    return this.type.dtype;
  }
  /** The author's dims and sizes, which a renamed axis's IR type does not show. */
  override toString(): string {
    return showType({ ...this.type, dims: this.dims.map(toIr) });
  }
}

export class PositionsHandle extends Handle {
  readonly kind = 'positions';
  readonly dims: { readonly tokens: Dim; readonly keys: Dim; readonly sequences: Dim; readonly outputs: Dim };
  constructor(value: NamedLater, owner: Owner, madeAt: Span, dims: PositionsHandle['dims']) {
    super(value, owner, madeAt);
    this.dims = dims;
  }
}

export class RoutingHandle extends Handle {
  readonly kind = 'routing';
  readonly dims: { readonly tokens: Dim; readonly experts: Dim; readonly top: Dim; readonly slots: Dim };
  constructor(value: NamedLater, owner: Owner, madeAt: Span, dims: RoutingHandle['dims']) {
    super(value, owner, madeAt);
    this.dims = dims;
  }
}

/** Fields of a cache: what one row of each holds. */
export type CacheFields = Readonly<Record<string, readonly Dim[]>>;

/** A state as seen in one function: `latest` moves on with every op that changes it. */
export class StateHandle {
  readonly kind = 'state';
  readonly state: string;
  readonly count: number | null;
  readonly fields: CacheFields;
  readonly owner: Owner;
  latest: NamedLater;
  /** Layers that repeats of this function have updated, `from` up to, not including, `to`. */
  readonly layersUpdated: { readonly from: number; readonly to: number; readonly at: Span }[] = [];
  constructor(parts: Pick<StateHandle, 'state' | 'count' | 'fields' | 'owner' | 'latest'>) {
    this.state = parts.state;
    this.count = parts.count;
    this.fields = parts.fields;
    this.owner = parts.owner;
    this.latest = parts.latest;
  }
  toString(): string {
    return `cache ${this.state}`;
  }
  [Symbol.toPrimitive](hint: string): string | number {
    return toPrimitive(
      hint,
      'caches',
      () => this.toString(),
      'read rows with remember or cacheRead, and compute with mul, add, …',
    );
  }
}

export type AnyHandle = TensorHandle | PositionsHandle | RoutingHandle | StateHandle;

/** The IR's spelling of a dim. */
export const toIr = (d: Dim): IrDim => irDim(d.name, d.size);

export const typeOf = (dtype: DType, dims: readonly Dim[]): TensorType => irTensor(dtype, dims.map(toIr));

/** `[tokens, hidden=7168]` */
export const showDims = (dims: readonly Dim[]): string =>
  `[${dims.map((d) => (d.size === null ? d.name : `${d.name}=${d.size}`)).join(', ')}]`;

const poisonMark = Symbol('poison');

function* endless(): Generator<unknown> {
  for (;;) yield poison;
}

/**
 * Stands where a mistake left no value. Every op that meets it gives it on without a word, so that one mistake is one
 * message; it takes any access and destructuring, because nobody knows what the value would have been.
 */
export const poison: unknown = new Proxy(
  Object.freeze(function poison() {}),
  {
    get: (_, key) => {
      if (key === poisonMark) return true;
      if (key === Symbol.iterator) return endless;
      if (key === Symbol.toPrimitive || key === 'toString')
        return (hint?: string) => {
          if (hint === 'number' || hint === 'default') noteNaN();
          return 'a value that is unknown because of an earlier mistake';
        };
      if (key === 'then') return undefined;
      if (key === 'axes' || key === 'dims') return [];
      if (key === 'dtype') return 'f32';
      return poison;
    },
    apply: () => poison,
  },
);

export const isPoison = (value: unknown): boolean =>
  typeof value === 'function' && (value as unknown as Record<symbol, unknown>)[poisonMark] === true;
