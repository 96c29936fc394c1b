// What the grammar makes of one line of a schedule: plain records that keep the tokens which messages point at.
import type { IToken } from 'chevrotain';
import type { ComputeOp, LayerPhase, PhaseStep, RankProgram, ScheduleOp, StageLayers } from '../schedule.ts';
import type { Span } from '../span.ts';
import type { AttributeNode } from './lines.ts';

export interface ScheduleLine {
  readonly name: IToken;
  readonly attributes: readonly AttributeNode[];
  readonly span: Span;
}

export interface LayerLine {
  readonly name: string;
  readonly phases: readonly LayerPhase[];
}

/** A stage or a rank by its number: they stand in order, so that the number is their place in the schedule. */
export interface Numbered {
  readonly number: number;
  readonly at: IToken;
}

export type StageLine = Numbered & Pick<StageLayers, 'layers'>;
export type RankLine = Numbered & Pick<RankProgram, 'stages'>;

export interface OrderLine {
  readonly op: ComputeOp['op'];
  readonly layers: readonly string[];
}

export type StepLine = Omit<PhaseStep, 'span'>;

type WithoutSpan<T> = T extends unknown ? Omit<T, 'span'> : never;

/** One op of a rank; several may stand on a line. */
export interface RankOp {
  readonly op: WithoutSpan<ScheduleOp>;
  readonly from: IToken;
  readonly to: IToken;
}
