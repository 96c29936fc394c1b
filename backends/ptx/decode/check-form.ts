// Do an instruction's operands fit a form of the instruction table? Only what the ISA forbids for sure is refused: the
// class of a register, the length of a vector, an address where a register belongs. The emitter's own check
// (../check.ts) is stricter, about immediates for one.
import { accumulatorRegisters, operandType } from '../check.ts';
import type { FormMatch, OperandSpec } from '../form.ts';
import { printOperand } from '../parse/print.ts';
import type { PtxOperand } from '../parse/ast.ts';
import { acceptedClasses, looseClasses, type ScalarType } from '../types.ts';
import type { Entity } from './scope.ts';
import { tableClassOf } from './types.ts';

/** What a name means at the instruction. */
export type Find = (name: string) => Entity | undefined;

export interface Misfit {
  readonly operand: PtxOperand;
  readonly message: string;
}

/** Classes of a width, for what the emitter keeps to one class and the ISA does not. */
const words: readonly string[] = ['b32', 'u32', 's32', 'f32'];

function checkRegister(
  operand: PtxOperand,
  find: Find,
  classes: readonly string[],
  wanted: string,
): Misfit | null {
  if (operand.kind !== 'name') return null;
  const entity = find(operand.name);
  if (entity?.kind === 'vector')
    return { operand, message: `${operand.name} is a vector, not one ${wanted}` };
  if (entity?.kind !== 'register') return null;
  const own = tableClassOf(entity.type);
  // Registers of 8 and 128 bits are not in the table.
  if (own.endsWith('8') || classes.includes(own)) return null;
  return { operand, message: `${operand.name} is a .${entity.type} register, not ${wanted}` };
}

function checkVector(
  operand: PtxOperand,
  find: Find,
  count: number | null,
  classes: readonly string[],
  wanted: string,
): Misfit | null {
  if (operand.kind === 'name') {
    const entity = find(operand.name);
    if (entity?.kind !== 'register' || count === 1) return null;
    return { operand, message: `${operand.name} is one register, not a vector of ${count ?? 'several'}` };
  }
  if (operand.kind !== 'vector')
    return {
      operand,
      message: `${printOperand(operand)} is not a vector of ${count ?? 'several'} registers`,
    };
  if (count !== null && operand.items.length !== count)
    return { operand, message: `the vector has ${operand.items.length} elements, not ${count}` };
  for (const item of operand.items) {
    const misfit = checkRegister(item, find, classes, wanted);
    if (misfit) return misfit;
  }
  return null;
}

function checkOperand(
  opcode: string,
  spec: OperandSpec,
  operand: PtxOperand,
  { bindings }: FormMatch,
  find: Find,
): Misfit | null {
  const bound = (i: number): string => bindings[spec.args[i]!] ?? spec.args[i]!;
  const type = operandType(spec, bindings);
  switch (spec.kind) {
    case 'int':
    case 'sign':
    case '_':
    case 'label':
      return null;
    case 'npred':
    case 'flag': {
      const inner = operand.kind === 'not' ? operand.of : operand;
      return checkRegister(inner, find, ['pred'], 'a predicate');
    }
    case 'addr':
    case 'tensor':
      return operand.kind === 'address' || operand.kind === 'indexed'
        ? null
        : { operand, message: `${printOperand(operand)} is not an address: addresses stand in [ ]` };
    case 'pair':
    case 'sinkable':
      return operand.kind === 'pair'
        ? null
        : { operand, message: `${printOperand(operand)} is not a pair d|p` };
    case 'frag':
      return checkVector(operand, find, Number(spec.args[0]), words, 'of 32 bits');
    case 'acc':
      return checkVector(operand, find, accumulatorRegisters(bound(0), bound(1)), words, 'of 32 bits');
    case 'vec':
    case 'pack': {
      // mov also packs bytes, which the table leaves out; ld and st may widen.
      const count = opcode === 'mov' ? null : Number(bound(0).replace('v', ''));
      const classes = opcode === 'mov' ? anyClass : classesOf(opcode, type!);
      return checkVector(operand, find, count, classes, `.${type}`);
    }
    case 'desc':
      return checkRegister(operand, find, ['b64', 'u64', 's64'], 'of 64 bits');
    default: {
      if (spec.role === 'd' && (operand.kind === 'integer' || operand.kind === 'float'))
        return { operand, message: `${printOperand(operand)} is a constant and cannot be written` };
      if (type === undefined) return null;
      // Every setp has a form with two results.
      if (operand.kind === 'pair' && opcode === 'setp' && spec.role === 'd')
        return (
          checkRegister(operand.first, find, ['pred'], '.pred') ??
          checkRegister(operand.second, find, ['pred'], '.pred')
        );
      if (operand.kind === 'address' || operand.kind === 'vector' || operand.kind === 'pair')
        return { operand, message: `${printOperand(operand)} is not a .${type} register` };
      const classes = spec.kind === 'loose' ? classesOf('ld', type) : acceptedClasses[type];
      return checkRegister(operand, find, classes, `.${type}`);
    }
  }
}

const anyClass: readonly string[] = Object.keys(acceptedClasses);

const classesOf = (opcode: string, type: ScalarType): readonly string[] =>
  (opcode === 'ld' || opcode === 'st') && Object.hasOwn(looseClasses, type)
    ? looseClasses[type as keyof typeof looseClasses]
    : acceptedClasses[type];

/** Null when some form takes the operands, otherwise what the first of fitting length minds. */
export function checkForms(
  opcode: string,
  matches: readonly FormMatch[],
  operands: readonly PtxOperand[],
  find: Find,
): Misfit | null {
  let first: Misfit | null = null;
  for (const match of matches) {
    const specs = match.form.operands;
    const least = specs.filter((s) => !s.optional).length;
    if (operands.length < least || operands.length > specs.length) continue;
    let misfit: Misfit | null = null;
    for (let i = 0; i < operands.length && misfit === null; i++) {
      // cp.async's last operand is a size or, in a form that the table lacks, a predicate.
      if (opcode === 'cp' && i === 3) continue;
      misfit = checkOperand(opcode, specs[i]!, operands[i]!, match, find);
    }
    if (misfit === null) return null;
    first ??= misfit;
  }
  return first;
}
