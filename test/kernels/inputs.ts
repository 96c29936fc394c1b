// Values for a kernel function's arguments at small run-time sizes: random numbers where numbers are wanted, routings as
// `route` makes them, page tables with shuffled pages, and rows of indices that exist.
import { quantizeTiles, roundInto } from '../../ir/formats/index.ts';
import { newState, packedPositions, stepPositions } from '../../ir/interpret/index.ts';
import { apply, randomNumbers } from '../../ir/interpret/testing.ts';
import type {
  PositionsData,
  RoutingData,
  RuntimeValue,
  StateData,
  TensorData,
} from '../../ir/interpret/values.ts';
import { boundOf, type Function, type Module } from '../../ir/module.ts';
import {
  dim,
  dimsOf,
  sameDim,
  tensor,
  type Dim,
  type PositionsType,
  type RoutingType,
  type TensorType,
  type Type,
} from '../../ir/types.ts';

/** New tokens of each sequence: packed, or on top of what each has in the cache. */
export interface Step {
  readonly packed: readonly number[];
  readonly lengths: readonly number[];
  readonly cached: readonly number[];
}

/** One token; and numbers that are no multiple of any tile, for dims with little and with more room. */
export const oneToken: Step = { packed: [1], lengths: [1], cached: [70] };
const thirteen: Step = { packed: [6, 1, 6], lengths: [1, 9, 0, 3], cached: [5, 64, 130, 0] };
const seventyOne: Step = { packed: [40, 1, 30], lengths: [1, 65, 0, 5], cached: [5, 64, 130, 0] };
export interface KernelInputs {
  readonly values: readonly RuntimeValue[];
  /** Sizes of run-time dims for the interpreter: ragged ones as their routing uses them. */
  readonly sizes: Readonly<Record<string, number>>;
  /** Sizes that a host would pass: ragged dims are left to their rule. */
  readonly launchSizes: Readonly<Record<string, number>>;
}

const cachedDims = (module: Module): ReadonlySet<string> =>
  new Set(
    module.states.flatMap((s) =>
      s.fields.flatMap((f) => f.type.dims.flatMap((d) => (d.size === null ? [d.name!] : []))),
    ),
  );

/** Dims whose rows are tokens: those that nothing else explains. */
const isTokens = (d: Dim, module: Module): boolean =>
  d.size === null &&
  !/^(outputs|sequences)/.test(d.name!) &&
  !cachedDims(module).has(d.name!) &&
  !module.dims.find((x) => x.name === d.name)?.ragged;

const typesOf = (fn: Function): readonly Type[] => [
  ...fn.arguments.map((a) => a.value.type),
  ...fn.body.flatMap((op) => op.results.map((v) => v.type)),
];

/** The larger of the two sizes that a kernel is run at: as many tokens as its dims have room for. */
export function manyTokens(fn: Function, module: Module): Step {
  const types = typesOf(fn);
  const tokens = types.flatMap(dimsOf).filter((d) => isTokens(d, module));
  return Math.min(...tokens.map((d) => boundOf(module, d))) < 71 ? thirteen : seventyOne;
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Random values for every argument of a kernel function. */
export function inputsFor(fn: Function, module: Module, step: Step, seed: number): KernelInputs {
  return new Maker(fn, module, step, seed).make();
}

class Maker {
  private readonly fn: Function;
  private readonly module: Module;
  private readonly step: Step;
  private readonly next: () => number;
  private readonly page: number;
  private readonly sizes = new Map<string, number>();
  private readonly routings = new Map<string, RoutingData>();
  /** Ops that decide what values make sense. */
  private readonly ops: ReadonlySet<string>;

  constructor(fn: Function, module: Module, step: Step, seed: number) {
    this.fn = fn;
    this.module = module;
    this.step = step;
    this.next = randomNumbers(seed);
    this.page = module.states.find((s) => s.policy === 'paged')?.page ?? 64;
    this.ops = new Set(fn.body.map((op) => op.op));
  }

  make(): KernelInputs {
    const tokens = sum(this.isPaged ? this.step.lengths : this.step.packed);
    const types = typesOf(this.fn);
    const dims = new Map(types.flatMap(dimsOf).flatMap((d) => (d.size === null ? [[d.name!, d]] : [])));
    const states = this.fn.arguments.flatMap((a) =>
      a.value.type.kind === 'state' ? [a.value.type.state] : [],
    );
    for (const s of this.module.states)
      if (states.includes(s.name))
        for (const f of s.fields) for (const d of f.type.dims) if (d.size === null) dims.set(d.name!, d);
    const ragged: Dim[] = [];
    for (const d of dims.values()) {
      const declared = this.module.dims.find((x) => x.name === d.name);
      if (declared?.ragged) ragged.push(d);
      else if (cachedDims(this.module).has(d.name!)) this.sizes.set(d.name!, this.cacheRows());
      else if (/^outputs/.test(d.name!)) this.sizes.set(d.name!, this.outputs());
      else if (/^sequences/.test(d.name!)) this.sizes.set(d.name!, this.sequences());
      else this.sizes.set(d.name!, tokens);
    }
    for (const d of ragged) {
      const { of } = this.module.dims.find((x) => x.name === d.name)!.ragged!;
      if (!this.sizes.has(of)) this.sizes.set(of, tokens);
    }
    const launchSizes = Object.fromEntries(this.sizes);
    for (const d of ragged) this.sizes.set(d.name!, this.routingOf(d).tokenOf.length);
    const values = this.fn.arguments.map((a) => this.value(a.value.type));
    return { values, sizes: Object.fromEntries(this.sizes), launchSizes };
  }

  private get isPaged(): boolean {
    return this.fn.arguments.some(
      ({ value: { type } }) => type.kind === 'positions' && !sameDim(type.tokens, type.keys),
    );
  }

  private sequences(): number {
    return this.isPaged ? this.step.lengths.length : this.step.packed.length;
  }

  private outputs(): number {
    return (this.isPaged ? this.step.lengths : this.step.packed).filter((n) => n > 0).length;
  }

  /** Rows of each sequence in the cache after the step. */
  private rows(): number[] {
    const { packed, lengths, cached } = this.step;
    return this.isPaged ? lengths.map((n, s) => n + cached[s]) : [...packed];
  }

  /** One page more than any sequence needs: not every row is in use. */
  private cacheRows(): number {
    return this.page * (sum(this.rows().map((n) => Math.ceil(n / this.page))) + 1);
  }

  /** Pages in no order, none shared. */
  private pages(): Int32Array[] {
    const free = Array.from({ length: this.cacheRows() / this.page }, (_, i) => i);
    for (let i = free.length - 1; i > 0; i--) {
      const j = Math.floor(((this.next() + 1) / 2) * (i + 1));
      [free[i], free[j]] = [free[j], free[i]];
    }
    return this.rows().map((n) => Int32Array.from({ length: Math.ceil(n / this.page) }, () => free.pop()!));
  }

  private value(type: Type): RuntimeValue {
    switch (type.kind) {
      case 'positions':
        return this.positions(type);
      case 'routing':
        return this.routingOf(type.slots);
      case 'state':
        return this.state(type.state, type.count);
      case 'tensor':
        return this.tensor(type);
    }
  }

  private positions(type: PositionsType): PositionsData {
    const { packed, lengths, cached } = this.step;
    return sameDim(type.tokens, type.keys)
      ? packedPositions(packed, 'last', this.page, this.pages())
      : stepPositions(cached, lengths, 'last', this.page, this.pages());
  }

  private state(name: string, count: number | null): StateData {
    const declared = this.module.states.find((s) => s.name === name)!;
    const state = newState(declared, count, this.cacheRows());
    for (const layer of state.layers)
      for (const field of Object.values(layer.fields)) field.data.set(this.numbers(field.dtype, field.shape));
    return state;
  }

  /** The routing that defines a ragged dim: random scores through `route`. */
  private routingOf(slots: Dim): RoutingData {
    const known = this.routings.get(slots.name!);
    if (known) return known;
    const { of, per, groups } = this.module.dims.find((d) => d.name === slots.name)!.ragged!;
    const type: RoutingType = {
      kind: 'routing',
      tokens: dim(of),
      experts: dim(null, groups),
      top: dim(null, per),
      slots,
    };
    const shape = [this.sizes.get(of)!, groups];
    const scores: TensorData = {
      kind: 'tensor',
      dtype: 'f32',
      shape,
      data: this.numbers('f32', shape),
      scales: [],
    };
    const application = {
      operands: [tensor('f32', [type.tokens, type.experts])],
      attributes: { top: per },
      declared: [type],
      dims: this.module.dims,
    };
    const made = apply('route', application, [scores])[0] as RoutingData;
    this.routings.set(slots.name!, made);
    return made;
  }

  private shapeOf(type: TensorType): number[] {
    return type.dims.map((d) => d.size ?? this.sizes.get(d.name!)!);
  }

  private tensor(type: TensorType): TensorData {
    const made = this.plainOrScaled(type);
    const routing = this.routings.get(type.dims[0]?.name ?? '');
    if (!routing || !['grouped_matmul', 'combine_tokens'].some((op) => this.ops.has(op))) return made;
    // What fills up groups is nobody's: these ops must not let it through.
    for (const array of [made, ...made.scales]) {
      const width = product(array.shape.slice(1));
      for (const [slot, token] of routing.tokenOf.entries())
        if (token < 0) array.data.fill(NaN, slot * width, (slot + 1) * width);
    }
    return made;
  }

  private plainOrScaled(type: TensorType): TensorData {
    const shape = this.shapeOf(type);
    const plain = { kind: 'tensor', dtype: type.dtype, shape, scales: [] } as const;
    const [level] = type.scales;
    if (level) {
      // A tile of 0 is the whole axis.
      const tile = level.tile.map((n, axis) => (n === 0 ? Math.max(1, shape[axis]) : n));
      const values = this.numbers('f32', shape);
      const { codes, scales, scaleShape } = quantizeTiles({
        values,
        shape,
        tile,
        format: type.dtype,
        scale: level.format,
        amaxFloor: 1e-4,
      });
      return { ...plain, data: codes, scales: [{ shape: scaleShape, data: scales }] };
    }
    if (type.dtype === 'i32' || type.dtype === 'i64') {
      const rows = this.rowsToIndex();
      return {
        ...plain,
        data: Float64Array.from({ length: product(shape) }, () => Math.floor(((this.next() + 1) / 2) * rows)),
      };
    }
    return { ...plain, data: this.numbers(type.dtype, shape) };
  }

  /** Indices are rows of what is gathered from. */
  private rowsToIndex(): number {
    const tables = this.fn.body
      .filter((op) => op.op === 'gather')
      .map((op) => this.shapeOf(op.operands[0].type as TensorType)[0]);
    return Math.min(...tables, 1 << 20);
  }

  private numbers(dtype: TensorType['dtype'], shape: readonly number[]): Float64Array {
    const width = shape.at(-1) ?? 1;
    // Scores and their biases are multiples of 1/64 in (0, 1]: sums are exact, and ties are many.
    if (this.ops.has('route'))
      return Float64Array.from({ length: product(shape) }, () => Math.ceil((this.next() + 1) * 32) / 64);
    // Rows of very different sizes where a row is normalised or scaled: also one of zeros.
    const isScaled = [...this.ops].some((op) => /norm|quantize/.test(op));
    const sizes = isScaled && shape.length > 1 ? [1, 1, 30, 0, 1e-3] : [1];
    const values = Float64Array.from({ length: product(shape) }, (_, i) => {
      const x = this.next() * 2;
      return dtype === 'bool' ? Number(x > 0) : x * sizes[Math.floor(i / width) % sizes.length];
    });
    return roundInto(dtype, values);
  }
}

const product = (shape: readonly number[]): number => shape.reduce((n, s) => n * s, 1);
