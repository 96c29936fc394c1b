// What an opcode's text stands for: its numbers, how many operands it takes, and the forms of the instruction table that
// spell it. The emitter's table holds the forms that we emit; the counts below hold for all of PTX, whatever the form.
import type { FormMatch } from '../form.ts';
import { FormIndex } from '../form.ts';
import { instructions } from '../instructions.ts';
import type { Sink } from '../parse/sink.ts';
import { mnemonicNumber, mnemonics, modifierNumber, modifiers } from './names.ts';
import { didYouMean } from './suggest.ts';

/** Operands of each mnemonic: `3`, or the least and the most over all its forms. */
// prettier-ignore
const operandCounts: Readonly<Record<string, string>> = {
  abs: '2', activemask: '1', add: '3', addc: '3', alloca: '2-3', and: '3', applypriority: '2', atom: '3-5', bar: '1-4',
  barrier: '0-4', bfe: '4', bfi: '5', bfind: '2', bmsk: '3', bra: '1', brev: '2', brkpt: '0', brx: '2', call: '1-4',
  clz: '2', cnot: '2', copysign: '3', cos: '2', cp: '0-6', createpolicy: '1-4', cvt: '2-4', cvta: '2', discard: '2',
  div: '3', dp2a: '4', dp4a: '4', elect: '2', ex2: '2', exit: '0', fence: '0-2', fma: '4', fns: '4', getctarank: '2',
  griddepcontrol: '0', isspacep: '2', istypep: '2', ld: '2-3', ldmatrix: '2', ldu: '2', lg2: '2', lop3: '5-6', mad: '4',
  mad24: '4', madc: '4', mapa: '3', match: '3', max: '3', mbarrier: '1-4', membar: '0', min: '3', mma: '4-6', mov: '2',
  movmatrix: '2', mul: '3', mul24: '3', multimem: '2-3', nanosleep: '1', neg: '2', not: '2', or: '3', pmevent: '1',
  popc: '2', prefetch: '1', prefetchu: '1', prmt: '4', rcp: '2', red: '2-3', redux: '3', rem: '3', ret: '0', rsqrt: '2',
  sad: '4', selp: '4', set: '3-4', setmaxnreg: '1', setp: '3-4', shf: '4', shfl: '4-5', shl: '3', shr: '3', sin: '2',
  slct: '4', sqrt: '2', st: '2-3', stackrestore: '1', stacksave: '1', stmatrix: '2', sub: '3', subc: '3', suld: '2',
  suq: '2', sured: '2', sust: '2', szext: '3', tanh: '2', tensormap: '2-3', testp: '2', tex: '2-5', tld4: '2-5',
  trap: '0', txq: '2-3', vabsdiff: '3-4', vabsdiff2: '4', vabsdiff4: '4', vadd: '3-4', vadd2: '4', vadd4: '4',
  vavrg2: '4', vavrg4: '4', vmad: '4', vmax: '3-4', vmax2: '4', vmax4: '4', vmin: '3-4', vmin2: '4', vmin4: '4',
  vote: '2-3', vset: '3-4', vset2: '4', vset4: '4', vshl: '3-4', vshr: '3-4', vsub: '3-4', vsub2: '4', vsub4: '4',
  wgmma: '0-10', wmma: '2-4', xor: '3',
};

/** Mnemonics of later chips, to say so instead of calling them unknown. */
const laterMnemonics: ReadonlySet<string> = new Set(['tcgen05', 'clusterlaunchcontrol']);

/** What only the architecture-specific target has: ptxas refuses it for sm_90. */
const needsSm90a = (mnemonic: string, words: readonly string[]): boolean =>
  mnemonic === 'wgmma' || mnemonic === 'setmaxnreg' || (mnemonic === 'tensormap' && words[0] === 'replace');

const table = new FormIndex(instructions);

export interface Opcode {
  readonly mnemonic: string;
  readonly number: number;
  readonly modifiers: readonly number[];
  /** Fewest and most operands. */
  readonly least: number;
  readonly most: number;
  /** Empty when the table has no such form: then the counts are all that is known. */
  readonly matches: readonly FormMatch[];
}

/** Looks opcodes up; each is reported once when it is unknown. */
export class Opcodes {
  /** What the module is for, as `.target` says. */
  chip = '';
  readonly #sink: Sink;
  readonly #known = new Map<string, Opcode | null>();

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  /** `at`: where the text stands. Null when it is no instruction, and that has been reported. */
  find(text: string, at: number): Opcode | null {
    let opcode = this.#known.get(text);
    if (opcode === undefined) this.#known.set(text, (opcode = this.#read(text, at)));
    return opcode;
  }

  #read(text: string, at: number): Opcode | null {
    const [mnemonic, ...words] = text.split('.');
    const whole = { from: at, to: at + text.length };
    const number = mnemonicNumber.get(mnemonic);
    if (number === undefined) {
      const message = laterMnemonics.has(mnemonic)
        ? `\`${text}\` needs sm_100 or later: sm_50 to sm_90a are supported`
        : `\`${mnemonic}\` is no instruction of PTX`;
      this.#sink.report('ptx/unsupported-instruction', message, whole, didYouMean(mnemonic, mnemonics));
      return null;
    }
    if (needsSm90a(mnemonic, words) && this.chip !== 'sm_90a' && this.chip !== '')
      this.#sink.report('ptx/target', `\`${text}\` needs the target sm_90a, not ${this.chip}`, whole, {
        fix: 'write .target sm_90a',
      });
    let place = at + mnemonic.length + 1;
    const numbers: number[] = [];
    for (const word of words) {
      const modifier = modifierNumber.get(word);
      if (modifier === undefined) {
        this.#sink.report(
          'ptx/unsupported-instruction',
          `\`.${word}\` of \`${text}\` is no modifier that sm_50 to sm_90a have`,
          { from: place, to: place + word.length },
          didYouMean(word, modifiers, '.'),
        );
        return null;
      }
      numbers.push(modifier);
      place += word.length + 1;
    }
    const [least, most = least] = operandCounts[mnemonic].split('-').map(Number);
    const matches = table.matches(mnemonic, words);
    // bar.red's count of threads may be left out; the table has only the form without.
    const isComplete = matches.length > 0 && !(mnemonic === 'bar' && words[0] === 'red');
    if (!isComplete) return { mnemonic, number, modifiers: numbers, least, most, matches: [] };
    const counts = matches.map(({ form }) => form.operands);
    return {
      mnemonic,
      number,
      modifiers: numbers,
      least: Math.min(...counts.map((specs) => specs.filter((s) => !s.optional).length)),
      most: Math.max(...counts.map((specs) => specs.length)),
      matches,
    };
  }
}
