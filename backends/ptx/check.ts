// Does an operand fit what the table asks for? Runs on every instruction that is emitted (and parsed): a kernel writer's
// slip is found at the line that made it, not in an assembler's log.
import type { FormMatch, OperandSpec } from './form.ts';
import { fitsBits, showOperand, type Operand, type Reg } from './operands.ts';
import {
  acceptedClasses,
  bitsOf,
  looseClasses,
  wideTypes,
  type LooseType,
  type RegClass,
  type ScalarType,
  type WidenableType,
} from './types.ts';

type Bindings = FormMatch['bindings'];
const isType = (name: string): name is ScalarType => Object.hasOwn(acceptedClasses, name);

/** The type that an operand spec names, with modifiers filled in: `wide(T)` of s32 is s64. */
export function operandType(spec: OperandSpec, bindings: Bindings): ScalarType | undefined {
  const resolve = (name: string | undefined): ScalarType | undefined => {
    if (name === undefined) return undefined;
    const type = bindings[name] ?? name;
    return isType(type) ? type : undefined;
  };
  switch (spec.kind) {
    case 'reg':
    case 'any':
    case 'loose':
      return resolve(spec.args[0]);
    case 'wide': {
      const narrow = resolve(spec.args[0]);
      return narrow && wideTypes[narrow as WidenableType];
    }
    case 'vec':
    case 'pack':
    case 'acc':
      return resolve(spec.args[1]);
    default:
      return resolve(spec.kind);
  }
}

const isReg = (operand: Operand): operand is Reg =>
  typeof operand === 'object' && !Array.isArray(operand) && (operand as Reg).kind === 'reg';
const isNumber = (operand: Operand): operand is number | bigint =>
  typeof operand === 'number' || typeof operand === 'bigint';
const kindOf = (operand: Operand): string =>
  isNumber(operand) ? 'number' : Array.isArray(operand) ? 'vector' : (operand as { kind: string }).kind;

const describe = (operand: Operand): string =>
  isReg(operand) ? `${operand.name} (a ${operand.type} register)` : showOperand(operand);

function checkReg(operand: Operand, classes: readonly RegClass[], wanted: string): string | null {
  if (isReg(operand) && classes.includes(operand.type)) return null;
  return `${describe(operand)} is not a register of ${wanted}`;
}

function checkImmediate(operand: number | bigint, type: ScalarType): string | null {
  if (type === 'f32' || type === 'f64')
    return typeof operand === 'number' ? null : `${operand} is not a ${type}`;
  if (type === 'pred' || type === 'f16' || type === 'bf16')
    return `an immediate cannot be a ${type}: put it in a register`;
  return fitsBits(operand, bitsOf[type]) ? null : `${operand} does not fit ${type}`;
}

function checkVector(
  operand: Operand,
  count: number,
  classes: readonly RegClass[],
  wanted: string,
): string | null {
  if (!Array.isArray(operand)) return `${showOperand(operand)} is not a vector of ${count} registers`;
  const registers = operand as readonly Reg[];
  if (registers.length !== count) return `the vector has ${registers.length} registers, not ${count}`;
  for (const r of registers) {
    const problem = checkReg(r, classes, wanted);
    if (problem) return problem;
  }
  return null;
}

/** 64-bit registers address global memory and generic space; shared addresses may be 32 or 64 bits wide. */
function checkAddress(operand: Operand, space: string): string | null {
  const base =
    kindOf(operand) === 'address'
      ? (operand as { base: Reg | { kind: 'symbol'; name: string; space: string } }).base
      : (operand as Reg | { kind: 'symbol'; name: string; space: string });
  if (typeof base !== 'object' || !('kind' in base) || (base.kind !== 'reg' && base.kind !== 'symbol'))
    return `${showOperand(operand)} is not an address`;
  if (base.kind === 'symbol') {
    if (space === 'generic' || base.space === space.split('::')[0]) return null;
    return `${base.name} is in ${base.space} space, not in ${space}`;
  }
  const narrow = space.startsWith('shared') || space === 'local' || space === 'const' || space === 'param';
  const classes: readonly RegClass[] = narrow
    ? [...acceptedClasses.u32, ...acceptedClasses.u64]
    : acceptedClasses.u64;
  return checkReg(base, classes, `${narrow ? '32 or 64' : '64'} bits, as ${space} addresses need`);
}

/** Registers in the accumulator of a wgmma shape: 64·N / 128 threads, two to a register when f16. */
export const accumulatorRegisters = (shape: string, type: string): number => {
  const n = Number(/^m64n(\d+)k/.exec(shape)?.[1]);
  return type === 'f16' ? n / 4 : n / 2;
};

/** Null when `operand` fits `spec`, otherwise one sentence that says what is wrong. */
export function checkOperand(spec: OperandSpec, operand: Operand, bindings: Bindings): string | null {
  const bound = (i: number): string => bindings[spec.args[i]!] ?? spec.args[i]!;
  const type = operandType(spec, bindings);
  const written = spec.role === 'd' || spec.role === 'x';
  switch (spec.kind) {
    case 'loose': {
      if (!written && isNumber(operand)) return checkImmediate(operand, type!);
      return checkReg(operand, looseClasses[type as LooseType], `${type} or wider`);
    }
    case 'reg':
      return checkReg(operand, acceptedClasses[type!], type!);
    case 'any': {
      const kind = kindOf(operand);
      if (kind === 'symbol') return bitsOf[type!] >= 32 ? null : `an address does not fit ${type}`;
      if (kind === 'special') {
        const { type: own, name } = operand as { type: RegClass; name: string };
        return (acceptedClasses[type!] as readonly RegClass[]).includes(own)
          ? null
          : `${name} is ${own}, not ${type}`;
      }
      return isNumber(operand)
        ? checkImmediate(operand, type!)
        : checkReg(operand, acceptedClasses[type!], type!);
    }
    case 'vec':
    case 'pack': {
      const count = Number(bound(0).replace('v', ''));
      return checkVector(operand, count, acceptedClasses[type!], type!);
    }
    case 'frag':
      return checkVector(operand, Number(spec.args[0]), ['b32'], 'b32');
    case 'acc':
      return checkVector(
        operand,
        accumulatorRegisters(bound(0), bound(1)),
        bound(1) === 'f16' ? acceptedClasses.b32 : acceptedClasses.f32,
        bound(1),
      );
    case 'pair':
    case 'sinkable': {
      if (kindOf(operand) !== 'pair') return `${showOperand(operand)} is not a pair d|p`;
      const { first, second } = operand as { first: Operand; second: Operand };
      // prettier-ignore
      for (const [half, i] of [[first, 0], [second, 1]] as const) {
        const wanted = spec.args[i]! as ScalarType;
        if (spec.kind === 'sinkable' && kindOf(half) === 'sink') continue;
        const problem = checkReg(half, acceptedClasses[wanted], wanted);
        if (problem) return problem;
      }
      return null;
    }
    case 'npred':
      return kindOf(operand) === 'not' ? null : checkReg(operand, acceptedClasses.pred, 'pred');
    case 'flag':
      return checkReg(operand, acceptedClasses.pred, 'pred');
    case 'desc':
      return checkReg(operand, acceptedClasses.b64, 'b64, a matrix descriptor');
    case 'addr':
      return checkAddress(operand, bound(0));
    case 'tensor': {
      if (kindOf(operand) !== 'tensor') return `${showOperand(operand)} is not [map, {coordinates}]`;
      const { map, coordinates } = operand as { map: Reg; coordinates: readonly Operand[] };
      const rank = Number(bound(0)[0]);
      if (coordinates.length !== rank) return `${coordinates.length} coordinates for a ${rank}d tensor`;
      for (const c of coordinates) {
        const problem = isNumber(c) ? checkImmediate(c, 's32') : checkReg(c, acceptedClasses.s32, 's32');
        if (problem) return problem;
      }
      return checkReg(map, acceptedClasses.u64, 'u64, the address of a tensor map');
    }
    case 'int': {
      const [low, high, step] = spec.args.map(Number);
      const value = typeof operand === 'number' ? operand : NaN;
      if (Number.isInteger(value) && value >= low! && value <= high! && (value - low!) % (step ?? 1) === 0)
        return null;
      return `${showOperand(operand)} is not an integer in ${low}..${high}${step ? `, in steps of ${step}` : ''}`;
    }
    case 'sign':
      return operand === 1 || operand === -1 ? null : `${showOperand(operand)} is neither 1 nor -1`;
    case 'label':
      return kindOf(operand) === 'label' ? null : `${showOperand(operand)} is not a label`;
    case '_':
      return kindOf(operand) === 'sink' ? null : `${showOperand(operand)} is not the sink _`;
    default: {
      if (type === undefined) throw new Error(`instruction table: unknown operand kind ${spec.text}`);
      if (!written && isNumber(operand)) return checkImmediate(operand, type);
      return checkReg(operand, acceptedClasses[type], type);
    }
  }
}

/** Picks the form whose operands fit, or says why none does. */
export function checkInstruction(
  matches: readonly FormMatch[],
  operands: readonly Operand[],
): { readonly match: FormMatch } | { readonly problem: string } {
  let problem = '';
  for (const match of matches) {
    const found = checkOperands(match, operands);
    if (found === null) return { match };
    problem ||= found;
  }
  return { problem };
}

function checkOperands({ form, bindings }: FormMatch, operands: readonly Operand[]): string | null {
  const specs = form.operands;
  const least = specs.filter((s) => !s.optional).length;
  if (operands.length < least || operands.length > specs.length)
    return `takes ${least === specs.length ? least : `${least} to ${specs.length}`} operands (${form.row[1]}), not ${operands.length}`;
  for (let i = 0; i < operands.length; i++) {
    const problem = checkOperand(specs[i]!, operands[i]!, bindings);
    if (problem) return `operand ${i + 1} (${specs[i]!.text}): ${problem}`;
  }
  return null;
}
