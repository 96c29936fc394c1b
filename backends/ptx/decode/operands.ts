// Operands of the tree as operands of the decoded program: names become numbers.
import type { IntegerConstant, Name, PtxOperand } from '../parse/ast.ts';
import { printOperand } from '../parse/print.ts';
import { integerBits, type Context } from './context.ts';
import { specialNumber, specials } from './names.ts';
import type { DecodedOperand } from './program.ts';
import type { Entity, RegisterEntity, Scope } from './scope.ts';
import { didYouMean } from './suggest.ts';
import { sizeOf } from './types.ts';

/** Registers of one function: each gets its number when it is first named, so that a frame holds no unused ones. */
export class Registers {
  readonly counts = [0, 0, 0, 0];
  readonly names: { readonly class: number; readonly index: number; readonly name: string }[] = [];

  indexOf(entity: RegisterEntity): number {
    if (entity.index < 0) {
      entity.index = this.counts[entity.class]++;
      this.names.push({ class: entity.class, index: entity.index, name: entity.name });
    }
    return entity.index;
  }
}

/** The core's counts of operands and of vector elements are bytes. */
export const mostOperands = 255;

/** What is no value by itself. */
const nested: ReadonlySet<DecodedOperand['kind']> = new Set(['vector', 'address', 'tensor', 'pair', 'label']);

/** `%r1.b0`, `%r1.h1`: the bytes and halves that video instructions select. */
const selector = /\.(?:b[0-7]+|h[0-3]+)$/;

export class OperandResolver {
  readonly #context: Context;
  readonly #registers: Registers;
  /** Bytes of an element, by variable. */
  readonly #elementSizes: ReadonlyMap<number, number>;
  /** Said once for each name of a function. */
  readonly #reported = new Set<string>();

  constructor(context: Context, registers: Registers, elementSizes: ReadonlyMap<number, number>) {
    this.#context = context;
    this.#registers = registers;
    this.#elementSizes = elementSizes;
  }

  /** Null when the operand means nothing, and that has been reported. `scope` is where the instruction stands. */
  resolve(operand: PtxOperand, scope: Scope, addresses: boolean): DecodedOperand | null {
    switch (operand.kind) {
      case 'integer':
        return { kind: 'immediate', form: 'integer', bits: integerBits(operand) };
      case 'float':
        return { kind: 'immediate', form: operand.width === 32 ? 'f32' : 'f64', bits: operand.bits };
      case 'sink':
        return { kind: 'sink' };
      case 'name':
        return this.name(operand, scope);
      case 'not': {
        const of = this.name(operand.of, scope);
        if (of === null) return null;
        if (of.kind === 'register' && of.class === 0) return { kind: 'notPredicate', index: of.index };
        return this.#refuse(operand, `! takes a predicate, and ${operand.of.name} is none`);
      }
      case 'pair': {
        const first = this.resolve(operand.first, scope, addresses);
        const second = this.resolve(operand.second, scope, addresses);
        return first && second && { kind: 'pair', first, second };
      }
      case 'vector':
      case 'list':
        return this.vector(operand.items, operand, scope);
      case 'nameOffset':
        return this.#offset(this.name(operand.base, scope), operand.offset.value, operand);
      case 'indexed': {
        const symbol = this.#element(operand.base, operand.index, scope, operand);
        return symbol && addresses ? addressOf(symbol) : symbol;
      }
      case 'address':
        return this.#address(operand, scope);
    }
  }

  vector(items: readonly PtxOperand[], at: PtxOperand, scope: Scope): DecodedOperand | null {
    if (items.length > mostOperands)
      return this.#refuse(at, `${items.length} elements, at most ${mostOperands} are supported`);
    const resolved: DecodedOperand[] = [];
    let whole = true;
    for (const item of items) {
      let one = this.resolve(item, scope, false);
      if (one && nested.has(one.kind))
        one = this.#refuse(item, `${printOperand(item)} cannot stand inside of a list`);
      if (one) resolved.push(one);
      else whole = false;
    }
    return whole ? { kind: 'vector', items: resolved } : null;
  }

  /** `what`: how a name that means nothing is called in the message. */
  name(name: Name, scope: Scope, what = ''): DecodedOperand | null {
    const entity = scope.find(name.name);
    if (entity) return this.entity(entity);
    const text = name.name;
    if (text[0] === '%') {
      const id = specialNumber.get(text.slice(1));
      if (id !== undefined) return { kind: 'special', id };
      if (specials.some((s) => s.startsWith(`${text.slice(1)}.`)))
        return this.#refuse(
          name,
          `${text} as a vector is not supported: read ${text}.x, ${text}.y and ${text}.z`,
        );
    }
    const selected = selector.exec(text);
    if (selected && scope.find(text.slice(0, selected.index)))
      return this.#refuse(name, `selecting a part of a register (${selected[0]}) is not supported`);
    return this.undefinedName(name, scope, what);
  }

  entity(entity: Entity): DecodedOperand {
    switch (entity.kind) {
      case 'register':
        return { kind: 'register', class: entity.class, index: this.#registers.indexOf(entity) };
      case 'vector':
        return { kind: 'vector', items: entity.elements.map((element) => this.entity(element)) };
      case 'variable':
        return { kind: 'symbol', variable: entity.index, offset: 0n };
      case 'parameter':
        return { kind: 'parameter', index: entity.index, isReturn: entity.isReturn, offset: 0n };
      case 'label':
        return { kind: 'label', instruction: entity.instruction };
      case 'function':
      case 'branchTable':
      case 'prototype':
        return { kind: entity.kind, index: entity.index };
    }
  }

  undefinedName(name: Name, scope: Scope, what = ''): null {
    const text = name.name;
    if (this.#reported.has(text)) return null;
    this.#reported.add(text);
    // Looking for the nearest name is not free.
    if (!this.#context.sink.wants('ptx/undefined-name')) return null;
    const kind = what || (text[0] === '%' ? 'register' : 'register, variable, parameter or label');
    const range = scope.rangeLike(text);
    const fix = range
      ? {
          fix: `.reg .${range.type} ${range.prefix}<${range.count}> has ${range.prefix}0 to ${range.prefix}${range.count - 1}`,
        }
      : didYouMean(text, text[0] === '%' ? candidates(scope) : scope.known());
    this.#context.sink.report('ptx/undefined-name', `there is no ${kind} \`${text}\``, name, fix);
    return null;
  }

  #address(operand: PtxOperand & { kind: 'address' }, scope: Scope): DecodedOperand | null {
    const base = this.resolve(operand.base, scope, false);
    if (base === null) return null;
    const isPlace =
      (base.kind === 'register' && (base.class === 1 || base.class === 2)) ||
      ['symbol', 'immediate', 'parameter'].includes(base.kind);
    if (!isPlace) return this.#refuse(operand, `${printOperand(operand.base)} is no address`);
    const address = addressOf(base, operand.offset?.value ?? 0n);
    if (operand.items.length === 0) return address;
    const [coordinates, ...more] = operand.items;
    if (more.length > 0 || coordinates.kind !== 'vector')
      return this.#refuse(operand, 'an address with coordinates is written [map, {c0, c1}]');
    const vector = this.vector(coordinates.items, coordinates, scope);
    if (vector?.kind !== 'vector') return null;
    return { kind: 'tensor', map: address, coordinates: vector.items };
  }

  /** `table[2]` */
  #element(base: Name, index: IntegerConstant, scope: Scope, at: PtxOperand): DecodedOperand | null {
    const symbol = this.name(base, scope);
    if (symbol?.kind !== 'symbol') return symbol && this.#refuse(at, `${base.name} is not an array`);
    const size = this.#elementSizes.get(symbol.variable) ?? 1;
    return this.#offset(symbol, index.value * BigInt(size), at);
  }

  #offset(base: DecodedOperand | null, offset: bigint, at: PtxOperand): DecodedOperand | null {
    if (base === null) return null;
    if (base.kind === 'symbol' || base.kind === 'parameter')
      return { ...base, offset: BigInt.asIntN(64, base.offset + offset) };
    return this.#refuse(at, 'only the address of a variable takes an offset here');
  }

  #refuse(at: PtxOperand, message: string): null {
    this.#context.sink.report('ptx/unsupported-operand', message, at);
    return null;
  }
}

/** The offset always stands in the address, also that of its base. */
function addressOf(base: DecodedOperand, offset = 0n): DecodedOperand {
  if (base.kind !== 'symbol' && base.kind !== 'parameter')
    return { kind: 'address', base, offset: wrap(offset) };
  return { kind: 'address', base: { ...base, offset: 0n }, offset: wrap(base.offset + offset) };
}

const wrap = (offset: bigint): bigint => BigInt.asIntN(64, offset);

function* candidates(scope: Scope): Generator<string> {
  yield* scope.known();
  for (const name of specials) yield `%${name}`;
}

/** Bytes of a variable's element: what an index counts. */
export const elementSize = (type: string, vector: number): number => (sizeOf(type) ?? 1) * vector;
