// What the parts of the decoder share: where findings go, the program under construction, and the module's names.
import type { Constant, IntegerConstant, Piece } from '../parse/ast.ts';
import type { Sink } from '../parse/sink.ts';
import type { DecodedFunction, DecodedVariable } from './program.ts';
import { Scope, type Entity } from './scope.ts';

export interface Context {
  readonly sink: Sink;
  readonly module: Scope;
  readonly variables: DecodedVariable[];
  readonly functions: DecodedFunction[];
  /** Names given to variables so far, and how often each was asked for. */
  readonly variableNames: Map<string, number>;
}

/** Declares a name, or reports the earlier declaration. */
export function declare(context: Context, scope: Scope, name: string, entity: Entity, at: Piece): void {
  const earlier = scope.declare(name, entity, at);
  if (earlier) reportDuplicate(context, name, at, earlier);
}

export function reportDuplicate(context: Context, name: string, at: Piece, earlier: Piece): void {
  context.sink.report('ptx/duplicate-name', `\`${name}\` is declared twice`, at, {
    notes: [{ message: `\`${name}\` is declared here`, at: earlier }],
    fix: 'rename one of them, or put one into a block { } of its own',
  });
}

/** The value of a number that has to lie in a range; `least` when it does not, which is reported. */
export function numberIn(
  context: Context,
  what: string,
  constant: IntegerConstant,
  least: number,
  most: number,
): number {
  const { value } = constant;
  if (value >= BigInt(least) && value <= BigInt(most)) return Number(value);
  context.sink.report('ptx/constant', `${what} is ${value}, it must lie in ${least} to ${most}`, constant);
  return least;
}

/** An alignment in bytes, or `natural` when none is given. */
export function alignmentOf(context: Context, given: IntegerConstant | null, natural: number): number {
  if (given === null) return natural;
  const align = numberIn(context, 'an alignment', given, 1, 1 << 20);
  if ((align & (align - 1)) === 0) return align;
  context.sink.report('ptx/constant', `an alignment of ${align} is not a power of two`, given);
  return natural;
}

/** An integer's bits, as the 64-bit pattern. */
export const integerBits = (constant: IntegerConstant): bigint => BigInt.asUintN(64, constant.value);

const scratch = new DataView(new ArrayBuffer(8));

/** What a constant is as a JavaScript number. */
export function numberOf(constant: Constant): number {
  if (constant.kind === 'integer') return Number(constant.value);
  if (constant.width === 32) {
    scratch.setUint32(0, Number(constant.bits));
    return scratch.getFloat32(0);
  }
  scratch.setBigUint64(0, constant.bits);
  return scratch.getFloat64(0);
}
