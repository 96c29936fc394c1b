// Runs a kernel, or a mutant of it, and says what the emulator finds.
import type { EmittedKernel } from '../../ir/plan.ts';
import { inputsFor, manyTokens, type Step } from '../kernels/inputs.ts';
import type { KernelCase } from '../kernels/models.ts';
import { runKernel } from '../support/run-kernel.ts';
import type { Mutant } from './mutants.ts';

/** Instructions of warps after which a mutant counts as hanging: several times what the kernels take. */
export const hanging = 1_000_000;

/** Enough tokens that each warp of a routing kernel sees more choices than it has lanes. */
const manyChoices: Step = { packed: [250, 1, 249], lengths: [250, 1, 249], cached: [0, 64, 5] };

/**
 * What is reported under the seeds, "error emu/… (line …): …"; with `first` no more seeds than it takes to have
 * something. `warnings`: those too.
 */
export function findingsOf(
  { fn, module }: KernelCase,
  kernel: EmittedKernel,
  seeds: readonly number[],
  how: 'first' | 'all',
  { warnings = false, maxInstructions = 100_000_000 } = {},
): readonly string[] {
  const step = kernel.family === 'routing' ? manyChoices : manyTokens(fn, module);
  const { values, launchSizes } = inputsFor(fn, module, step, 1);
  const found: string[] = [];
  for (const seed of seeds) {
    if (how === 'first' && found.length > 0) break;
    try {
      runKernel(kernel, fn, module, values, {
        ...{ engine: 'core', sizes: launchSizes, seed, atMost: 2 },
        settings: { maxInstructions, tensorCore: 'f32' },
        onReports: (reports) => {
          for (const r of reports)
            if (r.severity === 'error' || (warnings && r.severity === 'warning'))
              found.push(`${r.severity} ${r.code} (line ${r.ptxLine}): ${r.message}`);
        },
      });
    } catch (error) {
      // A mutant may compute wrongly as well, and write where it should not; what counts is what the emulator says.
      if (!(error instanceof Error && error.message.startsWith('runKernel: '))) throw error;
    }
  }
  return found;
}

interface Redundant {
  readonly family: string;
  readonly original: RegExp;
  /** Where it stands, among the lines of the PTX. */
  readonly at?: (lines: readonly string[], index: number) => boolean;
  readonly why: string;
}

const labelNear = (label: string, from: number, to: number) => (lines: readonly string[], index: number) =>
  lines.slice(index + from, index + to + 1).some((l) => l.trim() === label);

/** Synchronisation that a kernel could do without, each with the reason. */
const redundancies: readonly Redundant[] = [
  {
    family: 'gemm',
    original: /^fence\.mbarrier_init\.release\.cluster/,
    why:
      'the kernel has no cluster: bar.sync 0 behind it orders the inits before all uses in the block, and copies signal ' +
      'mbarriers through the generic proxy, so no other proxy and no other block has to see them',
  },
  {
    family: 'gemm',
    original: /^cp\.async\.wait_all/,
    why:
      'every copy of the scale warp is waited for by the math warps, through cp.async.mbarrier.arrive on the full barrier, ' +
      'before the block ends; the warp itself reads nothing of them',
  },
  {
    family: 'routing',
    original: /^bar\.warp\.sync/,
    at: labelNear('$token:', -3, -1),
    why:
      'the warp has read the last scores of the token before when it meets in its last pick; what it reads after that, the ' +
      'chosen experts, is written again behind more of these barriers',
  },
  {
    family: 'routing',
    original: /^bar\.warp\.sync/,
    at: labelNear('$pick:', 1, 3),
    why: 'each lane looks at the experts that it wrote itself, those whose number modulo 32 is its own',
  },
];

/** Why a mutant is as right as the kernel; null when it is not. */
export function redundant({ kernel }: KernelCase, { original, change, line }: Mutant): string | null {
  if (change !== 'deleted') return null;
  const lines = kernel.ptx.split('\n');
  const found = redundancies.find(
    ({ family, original: text, at }) =>
      family === kernel.family && text.test(original) && (at?.(lines, line - 1) ?? true),
  );
  return found?.why ?? null;
}
