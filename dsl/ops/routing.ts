// Choosing experts and working on rows grouped by expert. No token is dropped: a routing's slots hold every choice,
// each expert's rows start at a multiple of 128, and padding rows are zero.
import type { Dim, Slots, Tensor } from '../axes.ts';
import { sameDim } from '../../ir/types.ts';
import { raggedBound } from '../../ir/module.ts';
import { derivedDim } from '../dims.ts';
import { currentSpan } from '../context.ts';
import { RoutingHandle, toIr, type TensorHandle } from '../tensor.ts';
import { attempt, mistake, refusePoison, routingArg, tensorArg, type FunctionTrace } from '../trace.ts';
import { describe, listed } from '../words.ts';
import { dimArg } from './axis.ts';
import { checkWeightName } from './contract.ts';
import { dtypeArg, type DTypeName } from './pointwise.ts';

/** A choice of experts for every token, over the experts axis E. */
export interface Routing<E extends string = string> {
  readonly kind: 'routing';
  readonly experts?: E;
}

export interface RouteOptions {
  /** Experts per token. */
  readonly top: number;
  /** Added to the scores for choosing only: f32[experts], see `buffer`. */
  readonly bias?: Tensor;
  /** Groups that the experts fall into, in order; 1 unless said otherwise. */
  readonly groups?: number;
  /** Groups that a token may take experts from. */
  readonly topGroups?: number;
  /** A group's score: the sum of its two best choices, or the best. */
  readonly groupScore?: 'top2' | 'max';
  /** Divides a token's weights by their sum; true unless said otherwise. */
  readonly normalize?: boolean;
  /** Factor of the weights. */
  readonly scale?: number;
  /** Added to the sum when normalizing. */
  readonly epsilon?: number;
  /** Name of the ragged axis, when a block routes twice over the same experts. */
  readonly slots?: string;
}

/** Rows of each expert's group start at a multiple of this: the M of a GEMM tile. */
const slotAlignment = 128;

const integer = (name: string, value: unknown, most: number, fix: string): void => {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= most) return;
  mistake({
    code: `dsl/bad-${name}`,
    message: `route: ${name} must be a whole number from 1 to ${most}`,
    label: `this is ${describe(value)}`,
    fix,
  });
};

function checkChoice(experts: number, top: number, groups: number, topGroups: number): void {
  integer('top', top, experts, `there are ${experts} experts to choose from`);
  integer('groups', groups, experts, `there are ${experts} experts`);
  if (experts % groups !== 0)
    mistake({
      code: 'dsl/groups-do-not-divide',
      message: `route: ${groups} groups do not divide ${experts} experts`,
      label: `${experts} / ${groups} = ${(experts / groups).toFixed(2)}`,
      fix: `use one of ${listed(divisors(experts).map(String))}`,
    });
  integer('topGroups', topGroups, groups, `there are ${groups} groups`);
  const open = (experts / groups) * topGroups;
  if (top > open)
    mistake({
      code: 'dsl/top-exceeds',
      message: `route: ${top} experts per token, but ${topGroups} of ${groups} groups hold only ${open}`,
      fix: `use a top of at most ${open}, or more topGroups`,
    });
}

const divisors = (n: number): number[] =>
  Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);

/**
 * Chooses `top` experts per token: choice = score + bias; only the best groups stay; weight = score (without bias),
 * divided by the sum of the chosen if `normalize`, times `scale`. Scores: f32[tokens, experts].
 */
export function route<E extends string>(
  scores: Tensor<readonly ['tokens', E]>,
  options: RouteOptions,
): Routing<E> {
  return attempt('route', (t) => {
    const h = tensorArg('route', 'scores', scores);
    const {
      top,
      groups = 1,
      topGroups = groups,
      groupScore = 'top2',
      normalize = true,
      scale = 1,
      epsilon = 1e-20,
    } = options;
    refusePoison(options.bias);
    if (h.dims.length !== 2 || h.dims[1].size === null)
      mistake({
        code: 'dsl/axes-differ',
        message: 'route needs scores over [tokens, experts]',
        label: `scores are ${String(h)}`,
        fix: `linear(x, experts, 'gate', { dtype: 'f32' })`,
      });
    if (h.dtype !== 'f32')
      mistake({
        code: 'dsl/wrong-dtype',
        message: 'route needs scores in f32',
        label: `scores are ${String(h)}`,
        fix: `linear(x, experts, 'gate', { dtype: 'f32' }), or cast(scores, 'f32')`,
        from: [{ what: 'the scores come from here', at: h.madeAt }],
      });
    const [of, experts] = h.dims;
    checkChoice(experts.size as number, top, groups, topGroups);
    if (!(Number.isFinite(scale) && scale > 0) || !(Number.isFinite(epsilon) && epsilon >= 0))
      mistake({
        code: 'dsl/bad-scale',
        message: 'route: scale must be positive and epsilon not negative',
        fix: 'leave them out for 1 and 1e-20',
      });
    const bias = options.bias === undefined ? [] : [biasArg(options.bias, experts)];
    const slots = declareSlots(t, of, experts, top, options.slots);
    const topDim = derivedDim('top', top);
    const type = {
      kind: 'routing',
      tokens: toIr(of),
      experts: toIr(experts),
      top: toIr(topDim),
      slots: toIr(slots),
    } as const;
    const attributes = {
      top,
      groups,
      top_groups: topGroups,
      group_score: groupScore,
      normalize,
      scale,
      epsilon,
    };
    const [value] = t.op('route', [h.value, ...bias.map((b) => b.value)], attributes, [type], 'routing');
    return new RoutingHandle(value, t, currentSpan(), { tokens: of, experts, top: topDim, slots }) as never;
  });
}

function biasArg(value: unknown, experts: Dim): TensorHandle {
  const b = tensorArg('route', 'bias', value);
  if (b.dtype !== 'f32' || b.dims.length !== 1 || b.dims[0].size !== experts.size)
    mistake({
      code: 'dsl/axes-differ',
      message: `route needs a bias of f32[${experts.name}=${experts.size}]`,
      label: `bias is ${String(b)}`,
      fix: `buffer('gate.e_score_correction_bias', [${experts.name}])`,
    });
  return b;
}

/** The ragged dim of a routing. One function may define it once: a size belongs to one routing. */
function declareSlots(t: FunctionTrace, of: Dim, experts: Dim, top: number, given?: string): Dim {
  const name = given ?? `slots@${experts.name}`;
  const ragged = { of: of.name, per: top, groups: experts.size as number, align: slotAlignment };
  const { module } = t;
  const known = module.dims.find((d) => d.name === name);
  const differs = known && JSON.stringify(known.ragged) !== JSON.stringify(ragged);
  if (t.slots.has(name) || differs)
    mistake({
      code: 'dsl/slots-twice',
      message: differs
        ? `route: '${name}' was declared for another routing`
        : `route: this block has a routing over '${experts.name}' already`,
      fix: `name this one's rows: route(scores, { …, slots: '${name}2' })`,
    });
  t.slots.add(name);
  const bound = module.bounds[of.name];
  if (!known) module.dims.push({ name, bound: raggedBound(ragged, bound ?? (of.size as number)), ragged });
  return Object.freeze({ name, kind: 'ragged', size: null });
}

/** Weights of a token's experts, f32[tokens, top], in descending order of choice. */
export const routingWeights = (routing: Routing): Tensor<['tokens', 'top']> =>
  routingField('routingWeights', routing, 'weights') as never;
/** Numbers of a token's experts, i32[tokens, top]. */
export const routingIndices = (routing: Routing): Tensor<['tokens', 'top']> =>
  routingField('routingIndices', routing, 'indices') as never;
/** The routing weight of each grouped row, f32[slots]; 0 on padding. */
export const slotWeights = <E extends string>(routing: Routing<E>): Tensor<[Slots<E>]> =>
  routingField('slotWeights', routing, 'slot_weights') as never;

const routingField = (
  name: string,
  routing: unknown,
  field: 'weights' | 'indices' | 'slot_weights',
): unknown =>
  attempt(name, (t) => {
    const r = routingArg(name, routing);
    const dims = field === 'slot_weights' ? [r.dims.slots] : [r.dims.tokens, r.dims.top];
    return t.tensor('routing_field', [r], { field }, field === 'indices' ? 'i32' : 'f32', dims, field);
  });

/** Rows of x grouped by expert: [tokens, …] becomes [slots@experts, …]. */
export function groupTokens<E extends string, const R extends readonly string[]>(
  x: Tensor<readonly ['tokens', ...R]>,
  routing: Routing<E>,
): Tensor<[Slots<E>, ...R]> {
  return attempt('groupTokens', (t) => {
    const h = tensorArg('groupTokens', 'x', x);
    const r = routingArg('groupTokens', routing);
    firstAxis('groupTokens', h, r.dims.tokens);
    return t.tensor('group_tokens', [h, r], {}, h.dtype, [r.dims.slots, ...h.dims.slice(1)]) as never;
  });
}

/** Sum over each token's choices, in f32, without weights: apply them before, in `siluMul`. */
export function combineTokens<E extends string, const R extends readonly string[]>(
  y: Tensor<readonly [Slots<NoInfer<E>>, ...R]>,
  routing: Routing<E>,
): Tensor<['tokens', ...R]> {
  return attempt('combineTokens', (t) => {
    const h = tensorArg('combineTokens', 'y', y);
    const r = routingArg('combineTokens', routing);
    firstAxis('combineTokens', h, r.dims.slots);
    return t.tensor('combine_tokens', [h, r], {}, h.dtype, [r.dims.tokens, ...h.dims.slice(1)]) as never;
  });
}

function firstAxis(op: string, h: TensorHandle, wanted: Dim): void {
  if (h.dims.length > 0 && sameDim(toIr(h.dims[0]), toIr(wanted))) return;
  mistake({
    code: 'dsl/axes-differ',
    message: `${op} needs rows of '${wanted.name}'`,
    label: `this is ${String(h)}`,
    fix:
      wanted.kind === 'ragged'
        ? 'group the tokens first: groupTokens(x, routing)'
        : `bring '${wanted.name}' to the front`,
    from: [{ what: 'it comes from here', at: h.madeAt }],
  });
}

/**
 * Each row times its expert's matrix: [slots, K] becomes [slots, out]. One checkpoint tensor [out, K] per expert:
 * the name must hold `{experts}`, `groupedLinear(rows, routing, ff, 'experts.{experts}.up_proj')`.
 */
export function groupedLinear<E extends string, K extends string, const N extends string>(
  x: Tensor<readonly [Slots<NoInfer<E>>, K]>,
  routing: Routing<E>,
  out: Dim<N, 'static'>,
  name: string,
  { dtype }: { readonly dtype?: DTypeName } = {},
): Tensor<[Slots<E>, N]> {
  return attempt(
    'groupedLinear',
    (t) => {
      const h = tensorArg('groupedLinear', 'x', x);
      const r = routingArg('groupedLinear', routing);
      const n = dimArg('groupedLinear', 'the output', out);
      firstAxis('groupedLinear', h, r.dims.slots);
      checkWeightName('groupedLinear', name);
      if (!name.includes('{experts}'))
        mistake({
          code: 'dsl/bad-name',
          message: 'groupedLinear needs {experts} in the name: there is one matrix per expert',
          label: `this is ${JSON.stringify(name)}`,
          fix: `write it like 'experts.{experts}.up_proj'`,
        });
      const k = h.dims[1];
      const w = t.parameter(
        'parameter',
        `${name}.weight`,
        h.dtype,
        [r.dims.experts, n, k],
        [n.size as number, k?.size as number],
      );
      const to = dtype === undefined ? h.dtype : dtypeArg('groupedLinear', t, dtype);
      return t.tensor(
        'grouped_matmul',
        [h, w, r],
        {},
        to,
        [r.dims.slots, n],
        name.split('.').at(-1),
      ) as never;
    },
    (t) => {
      const r = routingArg('groupedLinear', routing);
      return t.placeholder(t.module.activation, [r.dims.slots, out]) as never;
    },
  );
}
