// A decoded program from its bytes, for tests and `dsvc emu --print`. The C++ loader is the one that has to be wary of
// broken bytes; here they end in an Error.
import { ByteReader } from '../../../ir/byte-stream.ts';
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

function operandOf(r: ByteReader): DecodedOperand {
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

function instructionOf(r: ByteReader): DecodedInstruction {
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

const parametersOf = (r: ByteReader): DecodedParameter[] =>
  r.each(() => ({
    name: r.string(),
    type: r.u8(),
    align: r.u32(),
    size: Number(r.u64()),
    offset: Number(r.u64()),
  }));

const signatureOf = (r: ByteReader): Signature => ({ parameters: parametersOf(r), returns: parametersOf(r) });

const variableOf = (r: ByteReader): DecodedVariable => ({
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

const functionOf = (r: ByteReader): DecodedFunction => ({
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
  const r = new ByteReader(bytes, 'decoded program');
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
