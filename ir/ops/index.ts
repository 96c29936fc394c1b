// The table of all ops. A forgotten op is a type error wherever a table is `Record<OpName, …>`.
import { adjointOps } from './adjoint.ts';
import { attentionOps } from './attention.ts';
import { compositeOps } from './composite.ts';
import { contractionOps } from './contraction.ts';
import type { OpDefinition } from './define.ts';
import { lossOps } from './loss.ts';
import { pointwiseOps } from './pointwise.ts';
import { reductionOps } from './reduction.ts';
import { routingOps } from './routing.ts';
import { scalingOps } from './scaling.ts';
import { stateOps } from './state.ts';
import { structureOps } from './structure.ts';
import { viewOps } from './view.ts';

const all = {
  ...pointwiseOps,
  ...viewOps,
  ...reductionOps,
  ...contractionOps,
  ...scalingOps,
  ...compositeOps,
  ...attentionOps,
  ...adjointOps,
  ...lossOps,
  ...routingOps,
  ...stateOps,
  ...structureOps,
} satisfies Record<string, OpDefinition>;

export type OpName = keyof typeof all;

export const opTable: Readonly<Record<string, OpDefinition>> = all;

/** The definition of an op that is known to exist. */
export function opDefinition(name: string): OpDefinition {
  const found = opTable[name];
  if (!found) throw new Error(`opDefinition: no op ${name}`);
  return found;
}

export const opNames = (): readonly string[] => Object.keys(opTable);
