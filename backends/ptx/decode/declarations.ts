// Variables, parameters and registers as the decoded program has them.
import type {
  Declarator,
  IntegerConstant,
  Parameter,
  Piece,
  RegisterDeclaration,
  VariableDeclaration,
} from '../parse/ast.ts';
import { alignmentOf, declare, numberIn, reportDuplicate, type Context } from './context.ts';
import { countOf, initialise } from './initialise.ts';
import { modifierNumber } from './names.ts';
import { variableSpaces, type DecodedParameter } from './program.ts';
import { registerEntity, type Scope } from './scope.ts';
import { registerClassOf, sizeOf } from './types.ts';

/** Larger ones would not fit the chip's memory, and their values not ours. */
const largestVariable = 2 ** 36;
const largestInitialised = 2 ** 26;
/** A file with more registers in one range is no kernel. */
const mostRegisters = 1_000_000;

/** Sizes of the dimensions; an open first one takes what the initialiser has. */
function dimsOf(
  context: Context,
  dims: readonly (IntegerConstant | null)[] | null,
  open: number | null,
  at: Piece,
): number[] {
  return (dims ?? []).map((dim, i) => {
    if (dim) return numberIn(context, 'an array size', dim, 0, largestVariable);
    if (i === 0 && open !== null) return open;
    context.sink.report(
      'ptx/declaration',
      'an array without a size needs an initial value, or to be .extern',
      at,
    );
    return 0;
  });
}

/** A later pass gives variables their values, when all names are known. */
export type Later = () => void;

/** Adds the variables of a declaration. `owner` is the function that they stand in, or null. */
export function declareVariables(
  context: Context,
  scope: Scope,
  owner: string | null,
  declaration: VariableDeclaration,
  later: Later[],
): void {
  const { space, type, vector, names } = declaration;
  const size = sizeOf(type);
  const spaceNumber = variableSpaces.indexOf(space as (typeof variableSpaces)[number]);
  if (size === undefined || spaceNumber < 0 || (space === 'param' && owner === null)) {
    const message =
      size === undefined
        ? `a variable cannot have the type .${type}`
        : spaceNumber < 0
          ? `variables in .${space} are not supported`
          : 'a .param variable stands in a function';
    context.sink.report('ptx/declaration', message, declaration);
  }
  const align = alignmentOf(context, declaration.align, (size ?? 1) * vector);
  for (const d of names) {
    const index = context.variables.length;
    const isExtern = declaration.linkage.includes('extern');
    const open = isExtern ? 0 : d.initialiser ? countOf(d.initialiser) : null;
    const dims = dimsOf(context, d.dims, open, d);
    if (vector > 1) dims.push(vector);
    const bytes = dims.reduce((n, dim) => n * dim, size ?? 1);
    if (bytes > largestVariable || (d.initialiser && bytes > largestInitialised))
      context.sink.report('ptx/declaration', `\`${d.name}\` has ${bytes} bytes, more than can be held`, d);
    context.variables.push({
      name: uniqueName(context, owner, d.name),
      space: Math.max(0, spaceNumber),
      align,
      size: bytes,
      isExtern,
      init: new Uint8Array(),
      relocations: [],
    });
    declare(context, scope, d.name, { kind: 'variable', index }, d);
    if (d.initialiser && size !== undefined && bytes <= largestInitialised)
      later.push(() => giveValue(context, index, type, dims, d));
  }
}

function giveValue(
  context: Context,
  index: number,
  type: string,
  dims: readonly number[],
  d: Declarator,
): void {
  const space = variableSpaces[context.variables[index].space];
  if (space !== 'global' && space !== 'const')
    context.sink.report('ptx/initialiser', `a .${space} variable cannot have an initial value`, d);
  const value = initialise(context, type, dims, d.initialiser!);
  context.variables[index] = { ...context.variables[index], ...value };
}

/** The name itself for variables of the module, `function$name`, then `function$name$2` … for the others. */
function uniqueName(context: Context, owner: string | null, name: string): string {
  const base = owner === null ? name : `${owner}$${name}`;
  for (;;) {
    const count = (context.variableNames.get(base) ?? 0) + 1;
    context.variableNames.set(base, count);
    if (count === 1) return base;
    const unique = `${base}$${count}`;
    if (context.variableNames.has(unique)) continue;
    context.variableNames.set(unique, 1);
    return unique;
  }
}

/** Parameters with their places in the parameter block. */
export function layOutParameters(context: Context, all: readonly Parameter[]): DecodedParameter[] {
  let end = 0;
  return all.map((p) => {
    const size = sizeOf(p.type);
    if (p.space !== 'param' || size === undefined) {
      const message =
        p.space === 'param'
          ? `a parameter cannot have the type .${p.type}`
          : p.space === 'reg'
            ? 'parameters in registers (.reg) are not supported'
            : `a parameter cannot be in .${p.space}`;
      context.sink.report('ptx/declaration', message, p, {
        fix: 'declare it .param .b32, .b64, .align 8 .b8 x[16] …',
      });
    }
    const align = alignmentOf(context, p.align, (size ?? 1) * p.vector);
    // `.param .b8 x[]`, the last of a function with any number of arguments, has no size of its own.
    const dims = dimsOf(context, p.dims, 0, p);
    const bytes = dims.reduce((n, dim) => n * dim, (size ?? 1) * p.vector);
    const offset = Math.ceil(end / align) * align;
    end = offset + bytes;
    if (end > 65536) {
      context.sink.report('ptx/declaration', `the parameters have ${end} bytes, more than 65536`, p);
      end = 0;
    }
    return { name: p.name, type: modifierNumber.get(p.type) ?? 0, align, size: bytes, offset };
  });
}

export function declareRegisters(context: Context, scope: Scope, declaration: RegisterDeclaration): void {
  const { type, vector, names } = declaration;
  const registerClass = registerClassOf(type);
  if (registerClass === undefined || vector > 4) {
    const message =
      vector > 4 ? 'a vector register has two or four elements' : `a register cannot have the type .${type}`;
    context.sink.report('ptx/declaration', message, declaration);
  }
  const own = registerClass ?? 1;
  const width = Math.min(vector, 4);
  for (const { name, count, from, to } of names) {
    const at = { from, to };
    if (count === null) {
      declare(context, scope, name, registerEntity(name, type, own, width), at);
      continue;
    }
    const range = {
      prefix: name,
      count: numberIn(context, 'a count of registers', count, 0, mostRegisters),
      type,
      class: own,
      vector: width,
      at,
    };
    const earlier = scope.declareRange(range);
    if (earlier) reportDuplicate(context, name, at, earlier);
  }
}
