// What names mean at a place: registers, variables, parameters, labels, functions. Blocks nest; an inner name hides an
// outer one. A range `%r<1000>` is one entry: its registers come into being, and get their numbers, when first named.
import type { Piece } from '../parse/ast.ts';

export interface RegisterEntity {
  readonly kind: 'register';
  readonly name: string;
  readonly type: string;
  readonly class: number;
  /** Given on first use; -1 before. */
  index: number;
}
export type Entity =
  | RegisterEntity
  | { readonly kind: 'vector'; readonly elements: readonly RegisterEntity[] }
  | { readonly kind: 'variable'; readonly index: number }
  | { readonly kind: 'parameter'; readonly index: number; readonly isReturn: boolean }
  | { readonly kind: 'label'; readonly instruction: number }
  | { readonly kind: 'function'; readonly index: number }
  | { readonly kind: 'branchTable'; readonly index: number }
  | { readonly kind: 'prototype'; readonly index: number };

export interface RegisterRange {
  readonly prefix: string;
  readonly count: number;
  readonly type: string;
  readonly class: number;
  readonly vector: number;
  readonly at: Piece;
}

export const vectorParts = ['x', 'y', 'z', 'w'] as const;

/** One register, or the two or four of a vector. */
export function registerEntity(name: string, type: string, registerClass: number, vector: number): Entity {
  const make = (own: string): RegisterEntity => ({
    kind: 'register',
    name: own,
    type,
    class: registerClass,
    index: -1,
  });
  if (vector === 1) return make(name);
  return { kind: 'vector', elements: vectorParts.slice(0, vector).map((part) => make(`${name}.${part}`)) };
}

export class Scope {
  readonly parent: Scope | null;
  readonly #names = new Map<string, Entity>();
  readonly #places = new Map<string, Piece>();
  readonly #ranges = new Map<string, RegisterRange>();

  constructor(parent: Scope | null) {
    this.parent = parent;
  }

  /** Returns the place of a name's earlier declaration in this scope, or null when it is new. */
  declare(name: string, entity: Entity, at: Piece): Piece | null {
    const earlier = this.#places.get(name) ?? this.#ranges.get(this.#rangeOf(name)?.prefix ?? '')?.at;
    if (earlier) return earlier;
    this.#names.set(name, entity);
    this.#places.set(name, at);
    return null;
  }

  /** Gives a declared name another meaning. */
  rename(name: string, entity: Entity): void {
    this.#names.set(name, entity);
  }

  declareRange(range: RegisterRange): Piece | null {
    const earlier = this.#ranges.get(range.prefix);
    if (earlier) return earlier.at;
    this.#ranges.set(range.prefix, range);
    return null;
  }

  /** The range that has a register of this name. */
  #rangeOf(name: string): RegisterRange | undefined {
    if (this.#ranges.size === 0) return undefined;
    // `%r1<5>` has %r10 … %r14: any split before trailing digits may be the right one. Ten digits are more than a count has.
    for (let at = name.length - 1; at > 0 && at >= name.length - 10; at--) {
      const digit = name.charCodeAt(at) - 48;
      if (digit < 0 || digit > 9) return undefined;
      if (digit === 0 && at < name.length - 1) continue;
      const range = this.#ranges.get(name.slice(0, at));
      if (range && Number(name.slice(at)) < range.count) return range;
    }
    return undefined;
  }

  #own(name: string): Entity | undefined {
    const found = this.#names.get(name);
    if (found) return found;
    const range = this.#rangeOf(name);
    if (!range) return undefined;
    const entity = registerEntity(name, range.type, range.class, range.vector);
    this.#names.set(name, entity);
    return entity;
  }

  /** What a name means here. `v.x` is an element of the vector register `v`. */
  find(name: string): Entity | undefined {
    for (let scope: Scope | null = this; scope !== null; scope = scope.parent) {
      const found = scope.#own(name);
      if (found) return found;
    }
    const dot = name.lastIndexOf('.');
    if (dot <= 0) return undefined;
    const vector = this.find(name.slice(0, dot));
    if (vector?.kind !== 'vector') return undefined;
    return vector.elements.find((element) => element.name.endsWith(name.slice(dot)));
  }

  /** The range that a name's letters point to, whatever its number. */
  rangeLike(name: string): RegisterRange | undefined {
    const prefix = name.replace(/\d+$/, '');
    for (let scope: Scope | null = this; scope !== null; scope = scope.parent) {
      const range = scope.#ranges.get(prefix);
      if (range) return range;
    }
    return undefined;
  }

  /** All names that are declared here and outside, for suggestions. */
  *known(): Generator<string> {
    for (let scope: Scope | null = this; scope !== null; scope = scope.parent) yield* scope.#places.keys();
  }
}
