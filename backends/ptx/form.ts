// How to read a row of the instruction table.
//
//   ['rn|rz ftz? T=f32|f64', 'd:T a:T b:T', { ptx: '8.0', target: 'sm_90a' }]
//
// First the modifiers in the order PTX writes them: `|` separates alternatives, `?` makes the whole step optional and
// `T=` names what was chosen. Then the operands, each `role:kind`, `?` where it may be left out. Roles: `d` is written,
// `x` read and written, any other letter read. Kinds:
//
//   f32, T       a register of that type or of the chosen one; a source may also be an immediate
//   reg(T)       a register only              any(T)     also a special register or a variable's address (mov)
//   loose(T)     as T, or a wider register    wide(T)    twice as wide as T
//   vec(4,T)     that many registers          pack(2,T)  the same, packed into or out of one scalar
//   pair(T,U)    `d|p`                        sinkable(T,U)  the same, either may be `_`
//   npred        a predicate, possibly negated
//   addr(S)      [base+offset] in a space     tensor(D)  [map, {coordinates}]
//   frag(4)      that many .b32 registers, no other class of 32 bits (wgmma's A)
//   acc(M,T)     the accumulators of a wgmma shape M     desc  a matrix descriptor in a 64-bit register
//   int(a,b,s)   an immediate in a..b, step s            sign  1 or -1    flag  a predicate
//   label        a label                      _          the sink
//
// Last, what it needs: the PTX version that introduced it and the smallest target.
import type { Target } from './types.ts';

export interface Needs {
  readonly ptx?: string;
  readonly target?: Target;
}
export type FormRow = readonly [modifiers: string, operands: string, needs?: Needs];
export type InstructionTable = Readonly<Record<string, readonly FormRow[]>>;

/** One place in a mnemonic where a modifier may or must stand. */
export interface ModifierStep {
  readonly name: string | undefined;
  readonly alternatives: readonly string[];
  readonly optional: boolean;
}

export interface OperandSpec {
  /** d written, x read and written, otherwise read. */
  readonly role: string;
  readonly kind: string;
  readonly args: readonly string[];
  readonly optional: boolean;
  readonly text: string;
}

/** A row of the table, taken apart. */
export interface Form {
  readonly opcode: string;
  readonly modifiers: readonly ModifierStep[];
  readonly operands: readonly OperandSpec[];
  readonly ptx: string;
  readonly target: Target;
  readonly row: FormRow;
}

/** A form and what its named modifiers stand for in one mnemonic. */
export interface FormMatch {
  readonly form: Form;
  readonly bindings: Readonly<Record<string, string>>;
}

const parseStep = (text: string): ModifierStep => {
  const optional = text.endsWith('?');
  const body = optional ? text.slice(0, -1) : text;
  const equals = body.indexOf('=');
  return {
    name: equals < 0 ? undefined : body.slice(0, equals),
    alternatives: body.slice(equals + 1).split('|'),
    optional,
  };
};

const parseOperand = (text: string): OperandSpec => {
  const optional = text.endsWith('?');
  const body = optional ? text.slice(0, -1) : text;
  const colon = body.indexOf(':');
  const kindText = body.slice(colon + 1);
  const open = kindText.indexOf('(');
  return {
    role: body.slice(0, colon),
    kind: open < 0 ? kindText : kindText.slice(0, open),
    args: open < 0 ? [] : kindText.slice(open + 1, -1).split(','),
    optional,
    text,
  };
};

const words = (text: string): string[] => (text === '' ? [] : text.split(' '));

export const parseForm = (opcode: string, row: FormRow): Form => ({
  opcode,
  modifiers: words(row[0]).map(parseStep),
  operands: words(row[1]).map(parseOperand),
  ptx: row[2]?.ptx ?? '1.0',
  target: row[2]?.target ?? 'sm_50',
  row,
});

/** All ways in which `modifiers` spell `form`: none, one, or (never in our table) several. */
function matchForm(form: Form, modifiers: readonly string[]): Readonly<Record<string, string>> | undefined {
  const bindings: Record<string, string> = {};
  const walk = (step: number, at: number): boolean => {
    if (step === form.modifiers.length) return at === modifiers.length;
    const { name, alternatives, optional } = form.modifiers[step]!;
    const word = modifiers[at];
    if (word !== undefined && alternatives.includes(word) && walk(step + 1, at + 1)) {
      if (name !== undefined) bindings[name] = word;
      return true;
    }
    return optional && walk(step + 1, at);
  };
  return walk(0, 0) ? bindings : undefined;
}

/** Looks instructions up in a table, remembering what it has parsed and matched. */
export class FormIndex {
  readonly #table: InstructionTable;
  readonly #forms = new Map<string, readonly Form[]>();
  readonly #matches = new Map<string, readonly FormMatch[]>();
  readonly #following = new Map<string, ReadonlySet<string>>();

  constructor(table: InstructionTable) {
    this.#table = table;
  }

  has(opcode: string): boolean {
    return Object.hasOwn(this.#table, opcode);
  }

  /** The forms of a base opcode; empty when it is not in the table. */
  forms(opcode: string): readonly Form[] {
    let forms = this.#forms.get(opcode);
    if (!forms) {
      forms = this.has(opcode) ? this.#table[opcode]!.map((row) => parseForm(opcode, row)) : [];
      this.#forms.set(opcode, forms);
    }
    return forms;
  }

  /** The forms that a mnemonic spells; empty when it is not legal. */
  matches(opcode: string, modifiers: readonly string[]): readonly FormMatch[] {
    const key = `${opcode}.${modifiers.join('.')}`;
    let found = this.#matches.get(key);
    if (!found) {
      found = this.forms(opcode).flatMap((form) => {
        const bindings = matchForm(form, modifiers);
        return bindings ? [{ form, bindings }] : [];
      });
      this.#matches.set(key, found);
    }
    return found;
  }

  /** Which modifiers may follow a mnemonic's beginning. */
  following(opcode: string, modifiers: readonly string[]): ReadonlySet<string> {
    const key = `${opcode}.${modifiers.join('.')}`;
    const known = this.#following.get(key);
    if (known) return known;
    const next = new Set<string>();
    this.#following.set(key, next);
    const walk = (steps: readonly ModifierStep[], at: number): void => {
      const [head, ...rest] = steps;
      if (!head) return;
      if (at === modifiers.length) head.alternatives.forEach((word) => next.add(word));
      else if (head.alternatives.includes(modifiers[at]!)) walk(rest, at + 1);
      if (head.optional) walk(rest, at);
    };
    for (const form of this.forms(opcode)) walk(form.modifiers, 0);
    return next;
  }
}
