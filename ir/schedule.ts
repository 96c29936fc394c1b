// Pipeline schedules: which rank does what in which order, as data like the rest of the IR. A schedule says nothing about
// how it came about: a generator's and one edited by hand are verified, simulated, drawn and executed alike.
// compiler/schedule says what a sound one is; docs/IR.md how it is written.
import type { Span } from './span.ts';

/**
 * One micro-batch in one direction: what a rank works on at a time. A rank holds one stage for every direction, so rank
 * and direction name the stage. Micro-batches are counted from 0 in each direction.
 */
export interface Chunk {
  readonly direction: number;
  readonly microBatch: number;
}

/** What goes from stage to stage: activations to the next, gradients of them back. */
export type Payload = 'activations' | 'gradients';

/**
 * `backward` makes gradients of inputs and weights; `backward_input` those of inputs alone, and then `weights` those of
 * the weights, later. `overlap` is a forward and a backward chunk, phase by phase on two streams.
 */
export type ComputeOp =
  | {
      readonly op: 'forward' | 'backward' | 'backward_input' | 'weights';
      readonly chunk: Chunk;
      readonly span: Span;
    }
  | { readonly op: 'overlap'; readonly forward: Chunk; readonly backward: Chunk; readonly span: Span };

/** Queues a transfer. Sender and receiver call what is sent by the same direction and micro-batch. */
export interface TransferOp {
  readonly op: 'send' | 'receive';
  readonly payload: Payload;
  readonly chunk: Chunk;
  readonly peer: number;
  readonly span: Span;
}

/** Starts all queued transfers as one batch. Blocking transfers have ended when it ends. */
export interface CommitOp {
  readonly op: 'commit';
  readonly span: Span;
}

export type ScheduleOp = ComputeOp | TransferOp | CommitOp;

export interface RankProgram {
  /** The stage that the rank holds for each direction. */
  readonly stages: readonly number[];
  readonly ops: readonly ScheduleOp[];
  readonly span: Span;
}

export type Stream = 'compute' | 'comm';

/** A layer cut at its communication ops, in the order of the forward pass. */
export interface LayerKind {
  readonly name: string;
  readonly phases: readonly LayerPhase[];
  readonly span: Span;
}

export interface LayerPhase {
  readonly name: string;
  readonly stream: Stream;
  /** Its backward pass has a part for weights that can wait. */
  readonly weights: boolean;
}

/** A stage's layers from its first to its last, equal ones counted. */
export interface StageLayers {
  readonly layers: readonly { readonly layer: string; readonly count: number }[];
  readonly span: Span;
}

/** F: forward; B: backward, gradients of inputs; W: gradients of weights. */
export type Part = 'F' | 'B' | 'W';

/** `phase` is a phase of the layer, or `input`: what the layer before (in the part's direction) or a transfer gives. */
export interface PhaseRef {
  readonly phase: string;
  readonly part: Part;
}

/** Launches a phase on its stream after the events of the phases that it waits for. Its own event follows it. */
export interface PhaseStep extends PhaseRef {
  readonly stream: Stream;
  readonly waits: readonly PhaseRef[];
  readonly span: Span;
}

/**
 * The order in which the phases of one layer (of an `overlap`: of a forward and a backward layer) are launched. Chunks run
 * it layer by layer; where an overlapped chunk has more layers than the other, the rest run the plain orders.
 */
export interface PhaseOrder {
  readonly op: ComputeOp['op'];
  /** One layer kind; for `overlap` the forward one and the backward one. */
  readonly layers: readonly string[];
  readonly steps: readonly PhaseStep[];
  readonly span: Span;
}

export interface Schedule {
  readonly name: string;
  /** The generator's name; anything for one written by hand. */
  readonly kind: string;
  readonly microBatches: number;
  /** Streaming multiprocessors for each stream. */
  readonly sms: { readonly compute: number; readonly comm: number };
  /** What a rank may hold at a time: chunks between their forward and the end of their backward, and stages. */
  readonly bounds: { readonly activations: number; readonly stages: number };
  readonly layers: readonly LayerKind[];
  /** By stage number. */
  readonly stages: readonly StageLayers[];
  readonly orders: readonly PhaseOrder[];
  /** By rank. */
  readonly programs: readonly RankProgram[];
  readonly span: Span;
}

export const isCompute = (op: ScheduleOp): op is ComputeOp =>
  op.op !== 'commit' && op.op !== 'send' && op.op !== 'receive';

/** A chunk as text: `d0 m12`. */
export const showChunk = (c: Chunk): string => `d${c.direction} m${c.microBatch}`;

export const showPhase = (r: PhaseRef): string => `${r.phase}(${r.part})`;
