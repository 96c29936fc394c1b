// The kernels with synchronisation: one of each kind that the examples give, at sizes where pipelines go round their
// stages more than once and every block has several tiles.
import { compiled, type KernelCase } from '../kernels/models.ts';
import type { PrecisionName } from '../../dsl/trace-model.ts';
import { mutantsOf, synchronises } from './mutants.ts';

/** Widths of five blocks of 128 and more: a ring has two to four stages. */
const pipelined = {
  name: 'deepseek-v3',
  file: 'deepseek-v3.ts',
  settings: {
    ...{ layers: '2', dense_layers: '1', hidden: '640', vocab: '96', heads: '2', nope: '32', rope: '16' },
    ...{ v: '320', q_rank: '640', kv_rank: '512', experts: '8', experts_per_token: '2', expert_groups: '4' },
    ...{ top_groups: '2', dense_ff: '1280', expert_ff: '640', shared_ff: '640' },
  },
};
const others = {
  name: 'differential',
  file: 'differential.ts',
  settings: { layers: '1', hidden: '128', vocab: '150', heads: '2', length: '32', expert_ff: '128' },
};

/** What makes two kernels alike here: the same synchronisation around the same ops. */
const kindOf = ({ kernel, fn }: KernelCase): string =>
  [
    kernel.family,
    ...fn.body.map((op) => op.op),
    ...mutantsOf(kernel).map((m) => m.original.replace(/^@\S+\s+/, '').split(/\s/)[0]),
  ].join(' ');

export async function synchronisedKernels(): Promise<readonly KernelCase[]> {
  const found = new Map<string, KernelCase>();
  const sources: readonly (readonly [typeof pipelined | typeof others, PrecisionName])[] = [
    [pipelined, 'fp8'],
    ...(process.env.ONLY
      ? []
      : ([
          [pipelined, 'bf16'],
          [others, 'f32'],
        ] as const)),
  ];
  for (const [subject, precision] of sources) {
    const { module, kernels } = await compiled(subject, precision);
    for (const kernel of kernels.filter(synchronises)) {
      const fn = module.functions.find((f) => f.name === kernel.name)!;
      const c = { title: `${subject.name} ${precision} @${kernel.name}`, fn, module, kernel };
      const kind = kindOf(c);
      if (!found.has(kind)) found.set(kind, c);
    }
  }
  return [...found.values()];
}
