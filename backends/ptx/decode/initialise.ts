// Initial values of variables: bytes, and the places where an address has to be filled in at load.
import type { Constant, Initialiser, Items, SymbolValue } from '../parse/ast.ts';
import { integerBits, numberOf, type Context } from './context.ts';
import type { Relocation } from './program.ts';
import { isFloatType, sizeOf } from './types.ts';

/** One byte of an address, as `0xff00(symbol)` asks for. */
interface AddressByte {
  readonly at: number;
  readonly byte: number;
  readonly symbol: SymbolValue;
}

class Filler {
  /** Grows with what is filled: a large array may have few values. */
  bytes = new Uint8Array(64);
  readonly relocations: Relocation[] = [];
  readonly #addressBytes: AddressByte[] = [];
  readonly #context: Context;
  readonly #type: string;
  readonly #size: number;

  constructor(context: Context, type: string) {
    this.#context = context;
    this.#type = type;
    this.#size = sizeOf(type)!;
  }

  /** Fills elements `from` to `from + room`, where `dims` are the sizes of the levels of braces that remain. */
  fill(value: Initialiser, from: number, dims: readonly number[]): void {
    const room = dims.reduce((n, dim) => n * dim, 1);
    if (value.kind !== 'items') {
      this.#element(value, from);
      return;
    }
    if (dims.length === 0) {
      this.#report('the braces nest deeper than the array has dimensions', value);
      return;
    }
    // A list with a number in it fills the elements one after the other, whatever the rows.
    const isFlat = value.items.some((item) => item.kind !== 'items');
    const step = isFlat ? 1 : room / dims[0];
    if (value.items.length * step > room) {
      this.#report(`${value.items.length} values for ${room / step}`, value);
      return;
    }
    value.items.forEach((item, i) => this.fill(item, from + i * step, isFlat ? [] : dims.slice(1)));
  }

  finish(): void {
    this.#joinAddressBytes();
    this.relocations.sort((a, b) => a.at - b.at);
  }

  #element(value: Exclude<Initialiser, Items>, index: number): void {
    const at = index * this.#size;
    if (value.kind === 'symbol') this.#symbol(value, at);
    else this.#constant(value, at);
  }

  #constant(value: Constant, at: number): void {
    if (value.kind === 'integer') {
      if (isFloatType(this.#type))
        this.#report(`${value.spelling} is an integer, not a .${this.#type}`, value);
      else this.#bits(integerBits(value), at);
    } else if (this.#size === 4 || this.#size === 8) {
      // 0f… and 0d… in their own width are bits: NaNs keep their payload.
      const isExact = value.width === 8 * this.#size;
      this.#bits(isExact ? value.bits : floatBits(numberOf(value), this.#size), at);
    } else this.#report(`${value.spelling} is a float, not a .${this.#type}`, value);
  }

  /** The low bytes of a number, as many as an element has. */
  #bits(bits: bigint, at: number): void {
    if (bits === 0n) return;
    if (at + this.#size > this.bytes.length) {
      const grown = new Uint8Array(Math.max(at + this.#size, 2 * this.bytes.length));
      grown.set(this.bytes);
      this.bytes = grown;
    }
    for (let i = 0; i < Math.min(8, this.#size); i++)
      this.bytes[at + i] = Number((bits >> BigInt(8 * i)) & 0xffn);
  }

  #symbol(symbol: SymbolValue, at: number): void {
    if (symbol.mask) {
      const byte = Array.from({ length: 8 }, (_, i) => i).find(
        (i) => integerBits(symbol.mask!) === 0xffn << BigInt(8 * i),
      );
      if (byte === undefined || this.#size !== 1)
        this.#report('a mask picks one byte of an address for a .b8: 0xff, 0xff00, …', symbol);
      else this.#addressBytes.push({ at, byte, symbol });
      return;
    }
    if (this.#size !== 8) {
      this.#report(`an address needs 8 bytes, a .${this.#type} has ${this.#size}`, symbol);
      return;
    }
    this.#relocate(symbol, at);
  }

  #relocate(symbol: SymbolValue, at: number): void {
    const entity = this.#context.module.find(symbol.name);
    if (entity?.kind !== 'variable' && entity?.kind !== 'function') {
      this.#context.sink.report(
        'ptx/undefined-name',
        `there is no variable or function \`${symbol.name}\``,
        symbol,
      );
      return;
    }
    const addend = BigInt.asIntN(64, symbol.offset?.value ?? 0n);
    this.relocations.push({ at, to: entity.kind, index: entity.index, addend, isGeneric: symbol.generic });
  }

  /** Eight bytes of one address in their order are one address. */
  #joinAddressBytes(): void {
    const all = this.#addressBytes;
    for (let i = 0; i < all.length; i += 8) {
      const { at, symbol } = all[i];
      const isWhole = [0, 1, 2, 3, 4, 5, 6, 7].every((k) => {
        const part = all[i + k];
        return (
          part?.at === at + k &&
          part.byte === k &&
          part.symbol.name === symbol.name &&
          part.symbol.generic === symbol.generic &&
          (part.symbol.offset?.value ?? 0n) === (symbol.offset?.value ?? 0n)
        );
      });
      if (isWhole) this.#relocate(symbol, at);
      else this.#report('the bytes of an address must stand in order, all eight of them', symbol);
      if (!isWhole) return;
    }
  }

  #report(message: string, at: Initialiser): void {
    this.#context.sink.report('ptx/initialiser', message, at);
  }
}

const scratch = new DataView(new ArrayBuffer(8));

function floatBits(value: number, size: number): bigint {
  if (size === 4) {
    scratch.setFloat32(0, value);
    return BigInt(scratch.getUint32(0));
  }
  scratch.setFloat64(0, value);
  return scratch.getBigUint64(0);
}

/** Elements that an initialiser without a size given stands for. */
export const countOf = (value: Initialiser | null): number =>
  value?.kind === 'items' ? value.items.length : value ? 1 : 0;

/** The initial bytes of a variable, without zeros at their end, and its addresses. */
export function initialise(
  context: Context,
  type: string,
  dims: readonly number[],
  value: Initialiser,
): { readonly init: Uint8Array; readonly relocations: readonly Relocation[] } {
  const filler = new Filler(context, type);
  filler.fill(value, 0, dims);
  filler.finish();
  let end = filler.bytes.length;
  while (end > 0 && filler.bytes[end - 1] === 0) end--;
  return { init: filler.bytes.slice(0, end), relocations: filler.relocations };
}
