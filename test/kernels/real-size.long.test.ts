// The kernels of the examples at the ends of their buffers, all of them.
import { reaches, realKernels } from './reach.ts';

for (const example of ['deepseek-v3', 'deepseek-v2-lite', 'dense-gqa', 'differential'])
  for (const precision of ['f32', 'bf16', 'fp8'] as const) reaches(await realKernels(example, precision));
