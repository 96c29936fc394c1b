// What a model says about how it is to be run and trained, beside what it computes. Checked and kept on the model as
// data for the passes that read it.
import type { Span } from '../ir/span.ts';
import { currentSpan, report } from './context.ts';
import { describe, listed, nearest } from './words.ts';

/** Ranks along each way of dividing the work; their product is the number of devices. */
export interface Parallel {
  readonly kind: 'parallel';
  /** Pipeline stages. */
  readonly pipeline: number;
  /** Devices that the experts of a layer are spread over. */
  readonly expert: number;
  /** Replicas that see other data. */
  readonly data: number;
  /** Devices that one matrix is spread over. */
  readonly tensor: number;
  /** Shards optimizer states over `data` (ZeRO-1). */
  readonly shardOptimizer: boolean;
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

export interface Schedule {
  readonly kind: 'schedule';
  readonly name: 'dualpipe' | 'dualpipev' | 'zb1p' | '1f1b';
  readonly microBatches: number;
  /** SMs given to communication kernels. */
  readonly commSms: number;
  readonly at: Span;
}

export type Deployment = Parallel | Precision | Optimizer | Schedule;

type Given<T> = Partial<Omit<T, 'kind' | 'at'>>;

const names = (options: object): readonly string[] => Object.keys(options);

function declare<T extends Deployment>(
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
  const out = Object.freeze({ ...defaults, ...given, kind, at: currentSpan() }) as unknown as T;
  check(out, no);
  return out;
}

type Refuse = (what: string, fix: string) => void;

const count = (no: Refuse, name: string, value: unknown): void => {
  if (!(typeof value === 'number' && Number.isSafeInteger(value) && value >= 1))
    no(`${name} must be a whole number from 1 up, not ${describe(value)}`, `leave it out for 1`);
};

const within = (no: Refuse, name: string, value: unknown, least: number, most: number): void => {
  if (!(typeof value === 'number' && value >= least && value <= most))
    no(
      `${name} must be from ${least} to ${most}, not ${describe(value)}`,
      'see the DeepSeek-V3 report, section 4.2, for its values',
    );
};

const oneOf = (no: Refuse, name: string, value: unknown, known: readonly unknown[]): void => {
  if (!known.includes(value)) no(`${name} cannot be ${describe(value)}`, `use ${listed(known.map(String))}`);
};

/** How the work is divided: `parallel({ pipeline: 16, expert: 64, data: 2 })`. Everything is 1 unless said otherwise. */
export const parallel = (given: Given<Parallel>): Parallel =>
  declare<Parallel>(
    'parallel',
    { pipeline: 1, expert: 1, data: 1, tensor: 1, shardOptimizer: true },
    given,
    (o, no) => {
      for (const name of ['pipeline', 'expert', 'data', 'tensor'] as const) count(no, name, o[name]);
      oneOf(no, 'shardOptimizer', o.shardOptimizer, [true, false]);
    },
  );

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

/** Order of micro-batches over pipeline stages: `schedule({ name: 'dualpipe', microBatches: 32 })`. */
export const schedule = (given: Given<Schedule>): Schedule =>
  declare<Schedule>('schedule', { name: 'dualpipe', microBatches: 1, commSms: 20 }, given, (o, no) => {
    oneOf(no, 'name', o.name, ['dualpipe', 'dualpipev', 'zb1p', '1f1b']);
    count(no, 'microBatches', o.microBatches);
    within(no, 'commSms', o.commSms, 0, 131);
    if (
      o.name === 'dualpipe' &&
      Number.isSafeInteger(o.microBatches) &&
      o.microBatches > 1 &&
      o.microBatches % 2 !== 0
    )
      no(
        `dualpipe sends half of the micro-batches each way, and ${o.microBatches} is odd`,
        `use ${o.microBatches + 1}`,
      );
  });
