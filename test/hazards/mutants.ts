// Kernels with one synchronisation taken out. A pipelined kernel without one of its fences, waits, arrivals or barriers
// is wrong on the chip, mostly without being noticed: the emulator must say so for each.
import type { EmittedKernel } from '../../ir/plan.ts';

export interface Mutant {
  /** Line of the PTX, from 1. */
  readonly line: number;
  /** The instruction that was changed, as written. */
  readonly original: string;
  /** What was done to it. */
  readonly change: string;
  readonly kernel: EmittedKernel;
}

interface Rule {
  /** Of the instruction without its guard. */
  readonly opcode: RegExp;
  /** Instead of the instruction; an empty text deletes it. Null: not this one. */
  readonly replace?: (guard: string, instruction: string) => string | null;
  readonly change: string;
}

const rules: readonly Rule[] = [
  { opcode: /^(fence|membar)\./, change: 'deleted' },
  { opcode: /^wgmma\.(fence|commit_group|wait_group)\./, change: 'deleted' },
  { opcode: /^cp\.async\.(bulk\.)?(commit_group|wait_group|wait_all)/, change: 'deleted' },
  { opcode: /^(bar|barrier)(\.cta)?\.(sync|arrive|warp\.sync)/, change: 'deleted' },
  { opcode: /^barrier\.cluster\./, change: 'deleted' },
  { opcode: /^cp\.async\.mbarrier\.arrive/, change: 'deleted' },
  { opcode: /^mbarrier\.(init|arrive|arrive_drop|expect_tx|complete_tx)\b/, change: 'deleted' },
  {
    opcode: /^mbarrier\.arrive\.expect_tx\./,
    change: 'expects nothing',
    replace: (guard, text) => {
      const [, barrier] = /(\[[^\]]*\])/.exec(text) ?? [];
      return `${guard}mbarrier.arrive.shared::cta.b64 _, ${barrier};`;
    },
  },
  {
    opcode: /^mbarrier\.arrive\.expect_tx\./,
    change: 'expects half',
    replace: (guard, text) => {
      const [, before, bytes] = /^(.*,\s*)(\d+);$/.exec(text) ?? [];
      return bytes === undefined ? null : `${guard}${before}${Number(bytes) / 2};`;
    },
  },
  {
    opcode: /^mbarrier\.(try_wait|test_wait)\./,
    change: 'does not wait',
    replace: (guard, text) => {
      const [, done] = /\s(%[\w.]+)\s*,/.exec(text) ?? [];
      return `${guard}setp.eq.u32 ${done}, 0, 0;`;
    },
  },
];

/** Every kernel that differs from this one in one synchronisation. */
export function mutantsOf(kernel: EmittedKernel): readonly Mutant[] {
  const lines = kernel.ptx.split('\n');
  return lines.flatMap((line, i) => {
    const [, guard = '', instruction] = /^\s*(@!?%[\w.]+\s+)?(.*;)\s*$/.exec(line) ?? [];
    if (instruction === undefined) return [];
    return rules.flatMap(({ opcode, replace, change }): Mutant[] => {
      if (!opcode.test(instruction)) return [];
      const text = replace ? replace(guard, instruction) : '';
      if (text === null) return [];
      const ptx = lines.with(i, text).join('\n');
      return [{ line: i + 1, original: line.trim(), change, kernel: { ...kernel, ptx } }];
    });
  });
}

/** True when the kernel's threads meet anywhere. */
export const synchronises = (kernel: EmittedKernel): boolean => mutantsOf(kernel).length > 0;
