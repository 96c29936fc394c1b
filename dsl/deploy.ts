// What a model says about how it is to be run and trained, beside what it computes. Checked and kept on the model as
// data for the passes that read it.
import type { Span } from '../ir/span.ts';
import { currentSpan, declareSetting, report, settingOf } from './context.ts';
import { describe, listed, nearest } from './words.ts';

/** In which order a rank works on micro-batches, when layers are spread over stages. */
export interface Pipeline {
  readonly kind: 'pipeline';
  readonly schedule: 'dualpipe' | 'dualpipev' | 'zb1p' | '1f1b';
  /** Micro-batches of a step. */
  readonly microBatches: number;
  /** SMs given to communication kernels. */
  readonly commSms: number;
  readonly at: Span;
}

/** How the work is divided over ranks. */
export interface Parallel {
  readonly kind: 'parallel';
  /** Ranks that the layers are spread over, as pipeline stages. */
  readonly pp: number;
  /** Ranks that the experts of a layer are spread over. */
  readonly ep: number;
  /** Replicas that see other data. */
  readonly dp: number;
  /** What is sharded over replicas: 0 nothing, 1 the optimizer's state. */
  readonly zero: 0 | 1;
  /** Null without stages. */
  readonly pipeline: Pipeline | null;
  readonly at: Span;
}

export interface Precision {
  readonly kind: 'precision';
  readonly weights: 'f32' | 'bf16' | 'fp8';
  readonly gradients: 'f32' | 'bf16';
  readonly moments: 'f32' | 'bf16';
  /** What is computed again in the backward pass rather than kept. */
  readonly recompute: readonly ('rms_norm' | 'mla_up' | 'swiglu')[];
  readonly at: Span;
}

export interface Optimizer {
  readonly kind: 'optimizer';
  readonly name: 'adamw';
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** Largest global gradient norm; 0 for none. */
  readonly clip: number;
  readonly at: Span;
}

export type Deployment = Parallel | Precision | Optimizer;
type Declared = Deployment | Pipeline;

type Given<T> = Partial<Omit<T, 'kind' | 'at'>>;

const names = (options: object): readonly string[] => Object.keys(options);

function declare<T extends Declared>(
  kind: T['kind'],
  defaults: Omit<T, 'kind' | 'at'>,
  given: Given<T>,
  check: (o: T, no: Refuse) => void,
): T {
  const no: Refuse = (what, fix) => report({ code: `dsl/bad-${kind}`, message: `${kind}: ${what}`, fix });
  for (const name of names(given ?? {}))
    if (!names(defaults).includes(name)) {
      const meant = nearest(name, names(defaults));
      no(
        `there is no setting '${name}'`,
        meant ? `did you mean '${meant}'?` : `use ${listed(names(defaults))}`,
      );
    }
  const out = Object.freeze({
    ...defaults,
    ...given,
    ...settable({ ...defaults, ...given }),
    kind,
    at: currentSpan(),
  }) as unknown as T;
  check(out, no);
  return out;
}

type Refuse = (what: string, fix: string) => void;

const count = (no: Refuse, name: string, value: unknown): void => {
  if (!(typeof value === 'number' && Number.isSafeInteger(value) && value >= 1))
    no(`${name} must be a whole number from 1 up, not ${describe(value)}`, `leave it out for 1`);
};

const within = (
  no: Refuse,
  name: string,
  value: unknown,
  least: number,
  most: number,
  fix = 'see the DeepSeek-V3 report, section 4.2, for its values',
): void => {
  if (!(typeof value === 'number' && value >= least && value <= most))
    no(`${name} must be from ${least} to ${most}, not ${describe(value)}`, fix);
};

const oneOf = (no: Refuse, name: string, value: unknown, known: readonly unknown[]): void => {
  if (!known.includes(value)) no(`${name} cannot be ${describe(value)}`, `use ${listed(known.map(String))}`);
};

/** What `--set` can change of a deployment, by the name that it has there. */
const settingNames: Readonly<Record<string, string>> = {
  pp: 'pp',
  ep: 'ep',
  dp: 'dp',
  microBatches: 'micro_batches',
  commSms: 'comm_sms',
};

/** The values that `--set` gives instead of those declared. What is not a number stays text, for the check to refuse. */
function settable(declared: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [field, name] of Object.entries(settingNames)) {
    const before = declared[field];
    if (typeof before !== 'number') continue;
    const text = settingOf(name);
    const given = text === undefined ? before : Number(text.replaceAll('_', '') || NaN);
    const value = Number.isNaN(given) ? text! : given;
    declareSetting({ name, kind: 'deployment', declared: before, value, at: currentSpan() });
    values[field] = value;
  }
  return values;
}

/**
 * How the work is divided: `parallel({ pp: 16, ep: 64, dp: 128, pipeline: dualPipe({ microBatches: 120 }) })`. Counts are 1
 * unless said otherwise.
 */
export const parallel = (given: Given<Parallel>): Parallel =>
  declare<Parallel>('parallel', { pp: 1, ep: 1, dp: 1, zero: 1, pipeline: null }, given, (o, no) => {
    for (const name of ['pp', 'ep', 'dp'] as const) count(no, name, o[name]);
    oneOf(no, 'zero', o.zero, [0, 1]);
    if (o.pipeline !== null && (o.pipeline as Partial<Pipeline> | undefined)?.kind !== 'pipeline')
      no(
        `pipeline must be a schedule, not ${describe(o.pipeline)}`,
        'write pipeline: dualPipe({ microBatches: 32 })',
      );
  });

const pipeline =
  (schedule: Pipeline['schedule']) =>
  (given: Omit<Given<Pipeline>, 'schedule'>): Pipeline =>
    declare<Pipeline>('pipeline', { schedule, microBatches: 1, commSms: 20 }, given, (o, no) => {
      count(no, 'microBatches', o.microBatches);
      within(no, 'commSms', o.commSms, 1, 131, 'the report gives 20 of 132 SMs to communication');
    });

/** DualPipe: `dualPipe({ microBatches: 120 })`. From both ends at once; takes an even `pp` and 2·pp micro-batches. */
export const dualPipe = pipeline('dualpipe');
/** DualPipeV: down the ranks and back up, two stages on each. Takes 2·pp micro-batches. */
export const dualPipeV = pipeline('dualpipev');
/** ZB1P: 1F1B with weight gradients put off into its bubbles. */
export const zb1p = pipeline('zb1p');
/** 1F1B: one forward, one backward in turn. */
export const oneForwardOneBackward = pipeline('1f1b');

/** Numeric plan of training: `precision({ weights: 'fp8', moments: 'bf16', recompute: ['rms_norm'] })`. */
export const precision = (given: Given<Precision>): Precision =>
  declare<Precision>(
    'precision',
    { weights: 'bf16', gradients: 'f32', moments: 'f32', recompute: [] },
    given,
    (o, no) => {
      oneOf(no, 'weights', o.weights, ['f32', 'bf16', 'fp8']);
      oneOf(no, 'gradients', o.gradients, ['f32', 'bf16']);
      oneOf(no, 'moments', o.moments, ['f32', 'bf16']);
      for (const r of Array.isArray(o.recompute) ? o.recompute : [o.recompute])
        oneOf(no, 'recompute', r, ['rms_norm', 'mla_up', 'swiglu']);
    },
  );

/** `optimizer({ learningRate: 2.2e-4 })`: AdamW with the values of the DeepSeek-V3 report unless said otherwise. */
export const optimizer = (given: Given<Optimizer>): Optimizer =>
  declare<Optimizer>(
    'optimizer',
    {
      name: 'adamw',
      learningRate: 2.2e-4,
      beta1: 0.9,
      beta2: 0.95,
      epsilon: 1e-8,
      weightDecay: 0.1,
      clip: 1,
    },
    given,
    (o, no) => {
      oneOf(no, 'name', o.name, ['adamw']);
      within(no, 'learningRate', o.learningRate, 0, 10);
      for (const name of ['beta1', 'beta2'] as const) within(no, name, o[name], 0, 1);
      within(no, 'epsilon', o.epsilon, 0, 1);
      within(no, 'weightDecay', o.weightDecay, 0, 10);
      within(no, 'clip', o.clip, 0, Infinity);
    },
  );
