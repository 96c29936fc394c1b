// How every op is differentiated. A forgotten op is a type error.
import type { OpName } from '../ops/index.ts';
import { compositeGradients, routingGradients, stateGradients, structureGradients } from './composite.ts';
import { pointwiseGradients } from './pointwise.ts';
import { contractionGradients, reductionGradients } from './reduction.ts';
import type { Gradient } from './rule.ts';
import { viewGradients } from './view.ts';

const table: Readonly<Record<OpName, Gradient>> = {
  ...pointwiseGradients,
  ...viewGradients,
  ...reductionGradients,
  ...contractionGradients,
  ...compositeGradients,
  ...routingGradients,
  ...stateGradients,
  ...structureGradients,
};

/** How the op is differentiated. */
export function gradientOf(op: string): Gradient {
  const found = (table as Readonly<Record<string, Gradient>>)[op];
  if (!found) throw new Error(`gradientOf: no op ${op}`);
  return found;
}

export { gradientType, hasGradient, type Gradient, type GradientContext } from './rule.ts';
