// One maker for each op of the table: it draws operands and attributes that fit and applies the op. What no maker is
// written for stands here with the reason; a new op without either is a type error.
import type { Value } from '../../../ir/module.ts';
import type { OpName } from '../../../ir/ops/index.ts';
import { isTensor, type TensorValue } from './drawing.ts';
import { elementMakers } from './make-elements.ts';
import { modelMakers } from './make-models.ts';
import { sumMakers } from './make-sums.ts';
import type { Maker } from './maker.ts';

/** A maker, or why there is none. */
/** Ops of training, which no target has kernels for yet. */
const backward = { not: 'stands in training, for which there are no kernels yet' };

export const makers: Readonly<Record<OpName, Maker | { readonly not: string }>> = {
  ...elementMakers,
  ...sumMakers,
  ...modelMakers,
  call: { not: 'made by the module generator, which has the blocks' },
  repeat: { not: 'made by the module generator, which has the blocks' },
  launch: { not: 'made by passes alone: a traced module has no kernels' },
  ...{
    scatter_add: backward,
    grouped_wgrad: backward,
    attention_gradient: backward,
    gather_choices: backward,
    scatter_choices: backward,
    group_choices: backward,
    ungroup_choices: backward,
    cross_entropy: backward,
    cross_entropy_gradient: backward,
  },
};

export const madeOps = Object.entries(makers).flatMap(([name, m]) => (typeof m === 'function' ? [name] : []));
export const isResult = (v: Value): v is TensorValue => isTensor(v) && v.source === 'result';
