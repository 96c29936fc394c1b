// A decoded program from its bytes, for tests and `dsvc emu --print`. The C++ loader is the one that has to be wary of
// broken bytes; here they end in an Error.
import {
  formatVersion,
  immediateForms,
  operandKinds,
  type DecodedFunction,
  type DecodedInstruction,
  type DecodedOperand,
  type DecodedParameter,
  type DecodedProgram,
  type DecodedVariable,
  type Signature,
} from './program.ts';

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  strings: string[] = [];

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #skip(count: number): number {
    const at = this.#at;
    if (at + count > this.#bytes.length) throw new Error('decoded program: it ends too early');
    this.#at = at + count;
    return at;
  }
  u8(): number {
    return this.#bytes[this.#skip(1)];
  }
  u16(): number {
    return this.#view.getUint16(this.#skip(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#skip(4), true);
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#skip(8), true);
  }
  i64(): bigint {
    return this.#view.getBigInt64(this.#skip(8), true);
  }
  flag(): boolean {
    return this.u8() !== 0;
  }
  raw(count: number): Uint8Array {
    const at = this.#skip(count);
    return this.#bytes.slice(at, at + count);
  }
  some<T>(count: number, read: () => T): T[] {
    return Array.from({ length: count }, read);
  }
  each<T>(read: () => T): T[] {
    return this.some(this.u32(), read);
  }
  string(): string {
    const index = this.u32();
    if (index >= this.strings.length) throw new Error(`decoded program: there is no string ${index}`);
    return this.strings[index];
  }
  end(): void {
    if (this.#at !== this.#bytes.length) throw new Error('decoded program: bytes follow its end');
  }
}

function operandOf(r: Reader): DecodedOperand {
  const number = r.u8();
  const kind = operandKinds[number];
  switch (kind) {
    case 'register':
      return { kind, class: r.u8(), index: r.u32() };
    case 'immediate':
      return { kind, form: immediateForms[r.u8()], bits: r.u64() };
    case 'address':
      return { kind, base: operandOf(r), offset: r.i64() };
    case 'label':
      return { kind, instruction: r.u32() };
    case 'vector':
      return { kind, items: r.some(r.u8(), () => operandOf(r)) };
    case 'special':
      return { kind, id: r.u8() };
    case 'symbol':
      return { kind, variable: r.u32(), offset: r.i64() };
    case 'sink':
      return { kind };
    case 'pair':
      return { kind, first: operandOf(r), second: operandOf(r) };
    case 'parameter':
      return { kind, index: r.u32(), isReturn: r.flag(), offset: r.i64() };
    case 'notPredicate':
    case 'function':
    case 'branchTable':
    case 'prototype':
      return { kind, index: r.u32() };
    case 'tensor':
      return { kind, map: operandOf(r), coordinates: r.some(r.u8(), () => operandOf(r)) };
    default:
      throw new Error(`decoded program: there is no operand kind ${number}`);
  }
}

function instructionOf(r: Reader): DecodedInstruction {
  const mnemonic = r.u16();
  const modifiers = r.some(r.u8(), () => r.u16());
  const guard = r.u8();
  return {
    mnemonic,
    modifiers,
    guard: guard === 0 ? null : { predicate: r.u32(), negated: guard === 2 },
    line: r.u32(),
    column: r.u16(),
    loc: { file: r.u32(), line: r.u32(), column: r.u16() },
    operands: r.some(r.u8(), () => operandOf(r)),
  };
}

const parametersOf = (r: Reader): DecodedParameter[] =>
  r.each(() => ({
    name: r.string(),
    type: r.u8(),
    align: r.u32(),
    size: Number(r.u64()),
    offset: Number(r.u64()),
  }));

const signatureOf = (r: Reader): Signature => ({ parameters: parametersOf(r), returns: parametersOf(r) });

const variableOf = (r: Reader): DecodedVariable => ({
  name: r.string(),
  space: r.u8(),
  align: r.u32(),
  size: Number(r.u64()),
  isExtern: r.flag(),
  init: r.raw(r.u32()),
  relocations: r.each(() => ({
    at: Number(r.u64()),
    to: r.u8() === 0 ? ('variable' as const) : ('function' as const),
    index: r.u32(),
    addend: r.i64(),
    isGeneric: r.flag(),
  })),
});

const functionOf = (r: Reader): DecodedFunction => ({
  name: r.string(),
  isEntry: r.flag(),
  isExtern: r.flag(),
  ...signatureOf(r),
  limits: {
    reqntid: r.some(3, () => r.u32()),
    maxntid: r.some(3, () => r.u32()),
    minnctapersm: r.u32(),
    maxnctapersm: r.u32(),
    maxnreg: r.u32(),
    reqnctapercluster: r.some(3, () => r.u32()),
    maxclusterrank: r.u32(),
    explicitcluster: r.flag(),
    noreturn: r.flag(),
  },
  registers: r.some(4, () => r.u32()),
  registerNames: r.each(() => ({ class: r.u8(), index: r.u32(), name: r.string() })),
  branchTables: r.each(() => r.each(() => r.u32())),
  prototypes: r.each(() => signatureOf(r)),
  instructions: r.each(() => instructionOf(r)),
});

/** Reads what `encodeProgram` wrote. Throws an Error on anything else. */
export function readProgram(bytes: Uint8Array): DecodedProgram {
  const r = new Reader(bytes);
  const utf8 = new TextDecoder();
  if (utf8.decode(r.raw(4)) !== 'DPTX') throw new Error('decoded program: it does not begin with DPTX');
  const version = r.u32();
  if (version !== formatVersion)
    throw new Error(`decoded program: version ${version}, this is for version ${formatVersion}`);
  r.strings = r.each(() => utf8.decode(r.raw(r.u32())));
  const [ptxMajor, ptxMinor, target] = [r.u8(), r.u8(), r.string()];
  if (r.u8() !== 64) throw new Error('decoded program: its addresses are not 64 bits wide');
  const program: DecodedProgram = {
    ptxMajor,
    ptxMinor,
    target,
    files: r.each(() => ({ index: r.u32(), name: r.string() })),
    variables: r.each(() => variableOf(r)),
    functions: r.each(() => functionOf(r)),
  };
  r.end();
  return program;
}
