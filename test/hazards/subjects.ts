// The kernels with synchronisation: one of each kind that the examples give, at sizes where pipelines go round their
// stages more than once and every block has several tiles.
import type { PrecisionName } from '../../dsl/trace-model.ts';
import { compiled, type KernelCase } from '../kernels/models.ts';
import { mutantsOf, synchronises } from './mutants.ts';

interface Source {
  readonly name: string;
  readonly file: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly precision: PrecisionName;
  /** Only kernels of these families. */
  readonly families: readonly string[];
}

const small = { layers: '2', dense_layers: '1', heads: '2', nope: '32', rope: '16', vocab: '96' };
const sources: readonly Source[] = [
  // Five blocks of 128 along K: a ring has two to four stages.
  {
    ...{ name: 'deepseek-v3', file: 'deepseek-v3.ts', precision: 'fp8' },
    families: ['gemm', 'loops', 'attention'],
    settings: {
      ...{ ...small, hidden: '640', v: '320', q_rank: '640', kv_rank: '512', experts: '4' },
      ...{ experts_per_token: '2', expert_groups: '2', top_groups: '2', dense_ff: '640' },
      ...{ expert_ff: '128', shared_ff: '256' },
    },
  },
  // More experts than a warp has lanes.
  {
    ...{ name: 'deepseek-v3', file: 'deepseek-v3.ts', precision: 'f32', families: ['routing'] },
    settings: {
      ...{ ...small, hidden: '128', v: '32', q_rank: '128', kv_rank: '64', experts: '64' },
      ...{ experts_per_token: '4', expert_groups: '8', top_groups: '4', dense_ff: '128' },
      ...{ expert_ff: '128', shared_ff: '128' },
    },
  },
  {
    ...{ name: 'differential', file: 'differential.ts', precision: 'f32' },
    families: ['loops', 'attention', 'routing'],
    settings: {
      ...{ layers: '1', hidden: '128', vocab: '150', heads: '2', length: '32', expert_ff: '128' },
      experts: '48',
    },
  },
];

/** What makes two kernels alike here: the same synchronisation around the same ops. */
const kindOf = ({ kernel, fn }: KernelCase): string =>
  [
    kernel.family,
    ...fn.body.map((op) => op.op),
    ...mutantsOf(kernel).map((m) => m.original.replace(/^@\S+\s+/, '').split(/\s/)[0]),
  ].join(' ');

export async function synchronisedKernels(): Promise<readonly KernelCase[]> {
  const found = new Map<string, KernelCase>();
  for (const { families, precision, ...subject } of sources) {
    const { module, kernels } = await compiled(subject, precision);
    for (const kernel of kernels) {
      if (!families.includes(kernel.family) || !synchronises(kernel)) continue;
      const fn = module.functions.find((f) => f.name === kernel.name)!;
      const c = { title: `${subject.name} ${precision} @${kernel.name}`, fn, module, kernel };
      const kind = kindOf(c);
      if (!found.has(kind)) found.set(kind, c);
    }
  }
  return [...found.values()];
}
