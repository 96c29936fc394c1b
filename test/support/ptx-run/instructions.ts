// What each instruction does to a thread. `run` is one thread's step; instructions that a warp or CTA executes together
// make the thread wait in `run` and act in `together`, when all have come.
import type { Machine, Thread } from './machine.ts';
import { arithmetic } from './arithmetic.ts';
import { asynchronous } from './asynchronous.ts';
import { conversions } from './convert.ts';
import { data } from './data.ts';
import { Code } from './operands.ts';
import type { PtxInstruction } from './parse.ts';
import { exchange } from './exchange.ts';
import { tensorCores } from './tensor-cores.ts';

export interface Step {
  readonly run: (t: Thread) => void;
  /** `members` take part; `lanes` are all threads of the warp, or of the CTA for a barrier. */
  readonly together?: (members: readonly Thread[], lanes: readonly Thread[]) => void;
}

export type Compiler = (c: Code) => Step | ((t: Thread) => void);

/** By opcode. */
const table: Readonly<Record<string, Compiler>> = {
  ...arithmetic,
  ...conversions,
  ...data,
  ...exchange,
  ...asynchronous,
  ...tensorCores,
};

export function compile(i: PtxInstruction, machine: Machine): Step {
  const c = new Code(i, machine);
  const compiler = Object.hasOwn(table, i.opcode)
    ? table[i.opcode]
    : c.fail('an instruction that ptx-run does not know');
  const made = compiler(c);
  const step: Step = typeof made === 'function' ? { run: made } : made;
  if (!i.guard) return step;
  const slot = machine.registers.get(i.guard.name) ?? c.fail(`${i.guard.name} is not declared`);
  const wanted = i.guard.negated ? 0 : 1;
  return {
    ...step,
    run: (t) => {
      const v = t.lo[slot];
      if (v !== 0 && v !== 1) throw new Error('a predicate that nothing has set');
      if (v === wanted) step.run(t);
    },
  };
}
