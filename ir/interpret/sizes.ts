// Run-time sizes of dims in one activation of a function, bound by matching its types with the values it gets.
import type { Module } from '../module.ts';
import { dimsOf, sameDim, type Dim, type PositionsType, type TensorType, type Type } from '../types.ts';
import type { PositionsData, RuntimeValue, TensorData } from './values.ts';

/** Dims that mean the same in every function: the row axes of states. */
export const stateDims = (module: Module): ReadonlySet<string> =>
  new Set(
    module.states
      .flatMap((s) => s.fields.flatMap((f) => f.type.dims))
      .filter((d) => d.size === null)
      .map((d) => d.name!),
  );

export class Sizes {
  private readonly known: Map<string, number>;
  private readonly module: Module;
  private readonly global: ReadonlySet<string>;

  constructor(module: Module, known: Iterable<readonly [string, number]> = []) {
    this.module = module;
    this.known = new Map(known);
    this.global = stateDims(module);
  }

  has(name: string): boolean {
    return this.known.has(name);
  }

  get(name: string): number {
    const size = this.known.get(name);
    if (size === undefined) {
      const bound = [...this.known].map(([n, s]) => `${n} = ${s}`).join(', ');
      throw new Error(`the run-time dim ${name} has no size yet (known: ${bound || 'none'})`);
    }
    return size;
  }

  set(name: string, size: number): void {
    this.known.set(name, size);
  }

  entries(): Iterable<readonly [string, number]> {
    return this.known;
  }

  /** Sizes that a callee starts with: those of dims that mean the same in every function. */
  inherited(): Sizes {
    return new Sizes(
      this.module,
      [...this.known].filter(([name]) => this.global.has(name)),
    );
  }

  shapeOf(type: Type): number[] {
    return dimsOf(type).map((d) => d.size ?? this.get(d.name!));
  }

  /** Rows of a routing's groups start at multiples of this. */
  alignOf(name: string): number {
    const ragged = this.module.dims.find((d) => d.name === name)?.ragged;
    if (!ragged) throw new Error(`${name} is no ragged dim of the module`);
    return ragged.align;
  }

  private isRagged(name: string): boolean {
    return this.module.dims.some((d) => d.name === name && d.ragged !== undefined);
  }

  /**
   * Checks a value against a type and binds the dims that have no size yet. Gives what differs, in words, or null.
   * `renew`: a ragged dim takes the value's size even if it has one, as each new routing brings its own.
   */
  match(type: Type, value: RuntimeValue, renew = false): string | null {
    if (type.kind !== value.kind) return `expected ${type.kind}, got ${value.kind}`;
    switch (type.kind) {
      case 'tensor':
        return this.matchTensor(type, value as TensorData, renew);
      case 'positions':
        return this.matchPositions(type, value as PositionsData);
      case 'routing': {
        const r = value as Extract<RuntimeValue, { kind: 'routing' }>;
        const slots = r.tokenOf.length;
        return this.bindAll(
          [type.tokens, type.experts, type.top, type.slots],
          [r.tokens, r.experts, r.top, slots],
          renew,
        );
      }
      case 'state': {
        const { layers } = value as Extract<RuntimeValue, { kind: 'state' }>;
        if (layers.length !== (type.count ?? 1))
          return `expected ${type.count ?? 1} states, got ${layers.length}`;
        return this.matchFields(type.state, layers);
      }
    }
  }

  private matchFields(
    state: string,
    layers: Extract<RuntimeValue, { kind: 'state' }>['layers'],
  ): string | null {
    const declared = this.module.states.find((s) => s.name === state);
    if (!declared) return `no state ${state} is declared`;
    for (const [n, layer] of layers.entries())
      for (const field of declared.fields) {
        const value = layer.fields[field.name];
        if (!value) return `state ${n} has no field ${field.name}`;
        const difference = this.matchTensor(field.type, value, false);
        if (difference) return `field ${field.name} of state ${n}: ${difference}`;
      }
    return null;
  }

  private matchTensor(type: TensorType, value: TensorData, renew: boolean): string | null {
    if (value.dtype !== type.dtype) return `expected ${type.dtype}, got ${value.dtype}`;
    if (value.shape.length !== type.dims.length)
      return `expected ${type.dims.length} axes, got [${value.shape.join(', ')}]`;
    const difference = this.bindAll(type.dims, value.shape, renew);
    if (difference) return difference;
    const count = value.shape.reduce((n, s) => n * s, 1);
    if (value.data.length !== count)
      return `${value.data.length} elements do not fill [${value.shape.join(', ')}]`;
    if (value.scales.length !== type.scales.length)
      return `expected ${type.scales.length} levels of scales, got ${value.scales.length}`;
    for (const [n, { tile }] of type.scales.entries()) {
      const wanted = value.shape.map((s, axis) => (tile[axis] === 0 ? 1 : Math.ceil(s / tile[axis])));
      const got = value.scales[n].shape;
      if (got.length !== wanted.length || got.some((s, axis) => s !== wanted[axis]))
        return `expected scales [${wanted.join(', ')}], got [${got.join(', ')}]`;
    }
    return null;
  }

  private matchPositions(type: PositionsType, at: PositionsData): string | null {
    const tokens = at.position.length;
    if (at.sequence.length !== tokens)
      return `${tokens} positions, but ${at.sequence.length} sequence numbers`;
    const last = at.sequence.reduce((most, s) => Math.max(most, s), -1);
    const sequences = at.pages.length > 0 ? at.pages.length : last + 1;
    if (last >= sequences) return `sequence ${last} has no pages: there are pages of ${sequences} sequences`;
    const stray = at.outputs.find((row) => row < 0 || row >= tokens);
    if (stray !== undefined) return `outputs names row ${stray} of ${tokens} tokens`;
    const looks = sameDim(type.keys, type.tokens);
    if (!at.packed && looks) return 'expected packed positions (the keys are the tokens), got paged ones';
    if (at.packed && type.keys.name !== null && this.global.has(type.keys.name))
      return 'expected paged positions (the keys are cache rows), got packed ones';
    const difference = this.bindAll(
      [type.tokens, type.sequences, type.outputs],
      [tokens, sequences, at.outputs.length],
      false,
    );
    return difference ?? (at.packed ? this.bindAll([type.keys], [tokens], false) : null);
  }

  private bindAll(dims: readonly Dim[], sizes: readonly number[], renew: boolean): string | null {
    for (const [axis, d] of dims.entries()) {
      const size = sizes[axis];
      const expected = d.size ?? this.known.get(d.name!);
      if (
        expected !== undefined &&
        expected !== size &&
        !(renew && d.size === null && this.isRagged(d.name!))
      )
        return `${d.name ?? `axis ${axis}`} is ${expected}, got ${size}`;
      if (d.size === null) this.known.set(d.name!, size);
    }
    return null;
  }
}

/** A run-time value in few words, for messages. */
export function showValue(value: RuntimeValue): string {
  switch (value.kind) {
    case 'tensor':
      return `${value.dtype}${value.scales.length > 0 ? ' scaled ' : ''}[${value.shape.join(', ')}]`;
    case 'positions':
      return `${value.packed ? 'packed' : 'paged'} positions of ${value.position.length} tokens`;
    case 'routing':
      return `routing of ${value.tokens} tokens to ${value.top} of ${value.experts} experts`;
    case 'state':
      return `${value.layers.length} states`;
  }
}
