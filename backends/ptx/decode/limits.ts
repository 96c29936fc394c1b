// What a function's performance directives ask for.
import type { FunctionDirective } from '../parse/ast.ts';
import { numberIn, type Context } from './context.ts';
import type { Limits } from './program.ts';
import { didYouMean } from './suggest.ts';

/** Numbers of each directive: the least and the most. */
const directives: Readonly<Record<string, readonly [number, number]>> = {
  maxntid: [1, 3],
  reqntid: [1, 3],
  minnctapersm: [1, 1],
  maxnctapersm: [1, 1],
  maxnreg: [1, 1],
  reqnctapercluster: [1, 3],
  maxclusterrank: [1, 1],
  explicitcluster: [0, 0],
  noreturn: [0, 0],
  // Hints to the compiler and to the calling convention: nothing to execute.
  pragma: [0, 0],
  abi_preserve: [1, 1],
  abi_preserve_control: [1, 1],
  blocksareclusters: [0, 0],
};

export const noLimits: Limits = {
  reqntid: [0, 0, 0],
  maxntid: [0, 0, 0],
  minnctapersm: 0,
  maxnctapersm: 0,
  maxnreg: 0,
  reqnctapercluster: [0, 0, 0],
  maxclusterrank: 0,
  explicitcluster: false,
  noreturn: false,
};

const isNumeric = (name: string): name is 'minnctapersm' | 'maxnctapersm' | 'maxnreg' | 'maxclusterrank' =>
  ['minnctapersm', 'maxnctapersm', 'maxnreg', 'maxclusterrank'].includes(name);

/** The limits; unknown directives and wrong counts of numbers are reported. */
export function limitsOf(context: Context, all: readonly FunctionDirective[]): Limits {
  const limits = { ...noLimits };
  for (const directive of all) {
    const { name, values } = directive;
    if (!Object.hasOwn(directives, name)) {
      const fix = didYouMean(name, Object.keys(directives), '.');
      context.sink.report('ptx/declaration', `\`.${name}\` is no directive of functions`, directive, fix);
      continue;
    }
    const [least, most] = directives[name];
    if (values.length < least || values.length > most) {
      const takes = least === most ? `${least}` : `${least} to ${most}`;
      context.sink.report(
        'ptx/declaration',
        `.${name} takes ${takes} numbers, not ${values.length}`,
        directive,
      );
      continue;
    }
    const numbers = values.map((v) => numberIn(context, `.${name}`, v, 0, 0xffffffff));
    if (name === 'maxntid' || name === 'reqntid' || name === 'reqnctapercluster')
      limits[name] = [numbers[0], numbers[1] ?? 1, numbers[2] ?? 1];
    else if (name === 'explicitcluster' || name === 'noreturn') limits[name] = true;
    else if (isNumeric(name)) limits[name] = numbers[0];
  }
  return limits;
}
