// Every kernel that the examples have when a pass is off, or all that can be: bodies that the full pipeline never makes.
import { inferencePasses } from '../../compiler/pipeline.ts';
import { precisions } from './models.ts';
import { sweep } from './sweep.ts';

const optional = inferencePasses()
  .filter((p) => !p.required)
  .map((p) => p.name);

for (const precision of precisions)
  await sweep(precision, 'all', [...optional.map((name) => [name]), optional]);
