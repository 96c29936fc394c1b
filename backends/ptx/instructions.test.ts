// Every row of the table, with each of its modifiers, through ptxas: what the table calls legal must assemble.
import { expect, test } from 'vitest';
import { KernelBuilder, type Kernel } from './builder.ts';
import { accumulatorRegisters, operandType } from './check.ts';
import { FormIndex, type Form, type ModifierStep, type OperandSpec } from './form.ts';
import { instructions } from './instructions.ts';
import { ptxModule } from './module.ts';
import { at, pair, sink, tensorAt, type Label, type Operand, type Reg } from './operands.ts';
import { assemble } from './ptxas.ts';
import { acceptedClasses, type RegClass, type ScalarType } from './types.ts';

const index = new FormIndex(instructions);

/** Mnemonics that use each alternative of each step at least once, with the optional steps left out and put in. */
function spellings(steps: readonly ModifierStep[]): string[][] {
  const choices = steps.map((s) => (s.optional ? [undefined, ...s.alternatives] : [...s.alternatives]));
  const all = choices.reduce((n, c) => n * c.length, 1);
  const pick = (choose: (step: number) => string | undefined): string[] =>
    steps.flatMap((_, i) => choose(i) ?? []);
  if (all <= 100) {
    return Array.from({ length: all }, (_, n) => {
      let rest = n;
      return pick((i) => {
        const options = choices[i]!;
        const chosen = options[rest % options.length];
        rest = Math.floor(rest / options.length);
        return chosen;
      });
    });
  }
  // Too many to list: all steps turn together, and each round shifts them against each other so that pairs vary too.
  const longest = Math.max(...choices.map((c) => c.length));
  return Array.from({ length: longest * 3 }, (_, n) => {
    const round = Math.floor(n / longest);
    return pick((i) => choices[i]![(n + round * (i + 1)) % choices[i]!.length]);
  });
}

/** Registers that stand in for any operand: 32 of each class, used round robin. */
class Pool {
  readonly k: KernelBuilder;
  readonly #known = new Map<RegClass, Reg[]>();
  readonly labels: Label[] = [];
  readonly shared: Reg;
  readonly global: Reg;
  constructor(k: KernelBuilder, shared: Reg, global: Reg) {
    this.k = k;
    this.shared = shared;
    this.global = global;
  }
  of(type: RegClass, n = 0): Reg {
    const regs = this.#known.get(type) ?? this.k.regs(type, 128);
    this.#known.set(type, regs);
    return regs[n]!;
  }

  operand(spec: OperandSpec, bindings: Readonly<Record<string, string>>): Operand {
    const bound = (i: number): string => bindings[spec.args[i]!] ?? spec.args[i]!;
    const type = operandType(spec, bindings);
    const first = (t: ScalarType): RegClass => (acceptedClasses[t] as readonly RegClass[])[0] ?? 'b32';
    const vector = (count: number, t: RegClass): Reg[] =>
      Array.from({ length: count }, (_, i) => this.of(t, i));
    switch (spec.kind) {
      case 'vec':
      case 'pack':
        return vector(Number(bound(0).replace('v', '')), first(type!));
      case 'frag':
        return vector(Number(spec.args[0]), 'b32');
      case 'acc':
        return vector(accumulatorRegisters(bound(0), bound(1)), bound(1) === 'f16' ? 'b32' : 'f32');
      case 'sinkable':
        return pair(sink, this.of('pred'));
      case 'pair':
        return pair(this.of(first(spec.args[0] as ScalarType), 2), this.of('pred', 1));
      case 'npred':
        return { kind: 'not', of: this.of('pred') as Reg<'pred'> };
      case 'flag':
        return this.of('pred');
      case 'desc':
        return this.of('b64');
      case 'addr':
        return at(bound(0).startsWith('shared') ? this.shared : this.global, 16);
      case 'tensor':
        return tensorAt(
          this.global as Reg<'u64'>,
          Array.from({ length: Number(bound(0)[0]) }, (_, i) =>
            i === 0 ? 8 : (this.of('s32') as Reg<'s32'>),
          ),
        );
      case 'int':
        return Number(spec.args[0]);
      case 'sign':
        return 1;
      case 'label': {
        // To the next instruction: a branch that may stand anywhere.
        const label = this.k.label('target');
        this.labels.push(label);
        return label;
      }
      case '_':
        return sink;
      default:
        return this.of(first(type!), spec.role === 'd' ? 2 : 3);
    }
  }
}

/** Emits every spelling of a form, with and without its optional operands; returns how many there were. */
function exercise(k: KernelBuilder, pool: Pool, form: Form): number {
  let count = 0;
  for (const modifiers of spellings(form.modifiers)) {
    const match = index.matches(form.opcode, modifiers).find((m) => m.form === form);
    if (!match)
      throw new Error(`${form.opcode}.${modifiers.join('.')} does not match its own row ${form.row[0]}`);
    const least = form.operands.filter((s) => !s.optional).length;
    for (let n = least; n <= form.operands.length; n++) {
      const operands = form.operands.slice(0, n).map((spec) => pool.operand(spec, match.bindings));
      k.emit(form.opcode, modifiers, operands);
      for (const label of pool.labels.splice(0)) k.place(label);
      count++;
    }
  }
  return count;
}

/** One kernel per form: ptxas takes more than proportional time for long ones, and odd neighbours do not matter. */
function exerciseAll(wanted: (form: Form) => boolean): { ptx: string; version: string; count: number } {
  const m = ptxModule();
  let count = 0;
  for (const opcode of Object.keys(instructions)) {
    for (const [i, form] of index.forms(opcode).entries()) {
      if (!wanted(form)) continue;
      m.kernel(`${opcode}_${i}`, { threads: 128, maxRegisters: 248 }, (k: Kernel) => {
        const shared = k.reg('u32', 'shared');
        const global = k.pointer('x');
        k.mov.u32(shared, k.sharedVariable('space', 1024, 128));
        count += exercise(k, new Pool(k, shared, global), form);
      });
    }
  }
  return { ptx: m.toString(), version: m.module.version, count };
}

test('every spelling of a form matches that form, and the builder takes it', () => {
  expect(exerciseAll(() => true).count).toBeGreaterThan(3500);
});

// One module per PTX version, so that a form that claims to be older than it is gets caught.
const versions = ['8.0', '8.1', '8.3', '8.4', '8.6'];
const versionOf = (form: Form): string => (form.ptx.padStart(4, '0') > '08.0' ? form.ptx : '8.0');

test('the versions above are all there are', () => {
  const found = new Set(Object.keys(instructions).flatMap((op) => index.forms(op).map(versionOf)));
  expect([...found].sort()).toEqual(versions);
});

test.for(versions)('ptxas takes every form of PTX %s', async (version, context) => {
  const { ptx, version: printed } = exerciseAll((form) => versionOf(form) === version);
  expect(printed).toBe(version);
  // -O0: only the parser and the checks matter here.
  const result = await assemble(ptx, { args: ['-O0'] });
  if (result.status === 'missing') return context.skip('no ptxas on this machine');
  const lines = ptx.split('\n');
  const problems =
    result.status === 'assembled'
      ? []
      : result.errors.slice(0, 20).map((e) => `${lines[(e.line ?? 1) - 1]!.trim()}   <- ${e.message}`);
  expect(problems).toEqual([]);
});
