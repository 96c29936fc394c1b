// The kernels that the examples have when a pass is off, or all that can be: bodies that the full pipeline never makes. With
// many tokens the first of each kind.
import { inferencePasses } from '../../compiler/pipeline.ts';
import { precisions } from './models.ts';
import { sweep } from './sweep.ts';

const optional = inferencePasses()
  .filter((p) => !p.required)
  .map((p) => p.name);

for (const precision of precisions)
  await sweep(precision, 'sampled', [...optional.map((name) => [name]), optional]);
