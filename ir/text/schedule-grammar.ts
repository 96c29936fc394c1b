// The grammar of one line of a schedule, apart from that of functions: a text without schedules never pays for it.
// Ranks of large schedules have hundreds of thousands of ops, so the rules of an op stay small.
import type { IToken } from 'chevrotain';
import type { Chunk, ComputeOp, LayerPhase, Part, Payload, PhaseRef, Stream } from '../schedule.ts';
import { CommonGrammar, type Rule } from './grammar-common.ts';
import { naturalNumber } from './literals.ts';
import type {
  LayerLine,
  OrderLine,
  RankLine,
  RankOp,
  ScheduleLine,
  StageLine,
  StepLine,
} from './schedule-lines.ts';
import { clip } from './spelling.ts';
import * as T from './tokens.ts';

const parts: readonly string[] = ['F', 'B', 'W'] satisfies Part[];

export class ScheduleGrammar extends CommonGrammar {
  constructor() {
    super();
    this.performSelfAnalysis();
  }

  readonly scheduleLine: Rule<ScheduleLine> = this.RULE('scheduleLine', () => {
    this.CONSUME(T.ScheduleWord);
    const name = this.CONSUME(T.FunctionName);
    const attributes = this.OPTION(() => this.SUBRULE(this.attributes)) ?? [];
    const span = this.SUBRULE(this.place);
    this.CONSUME(T.LeftBrace);
    return { name, attributes, span };
  });

  readonly layerLine: Rule<LayerLine> = this.RULE('layerLine', () => {
    const phases: LayerPhase[] = [];
    this.CONSUME(T.Layer);
    const name = this.CONSUME(T.Identifier).image;
    this.CONSUME(T.Equals);
    this.AT_LEAST_ONE_SEP({
      SEP: T.Comma,
      DEF: () => {
        const phase = this.CONSUME1(T.Identifier).image;
        const stream =
          this.OPTION(() => {
            this.CONSUME(T.On);
            return this.SUBRULE(this.stream);
          }) ?? 'compute';
        const weights = this.OPTION1(() => {
          this.CONSUME(T.Plus);
          return this.CONSUME(T.Weights);
        });
        phases.push({ name: phase, stream, weights: weights !== undefined });
      },
    });
    return { name, phases };
  });

  readonly stageLine: Rule<StageLine> = this.RULE('stageLine', () => {
    const layers: { layer: string; count: number }[] = [];
    this.CONSUME(T.Stage);
    const { number, at } = this.SUBRULE(this.numbered);
    this.CONSUME(T.Equals);
    this.MANY_SEP({
      SEP: T.Comma,
      DEF: () => {
        const layer = this.CONSUME(T.Identifier).image;
        const count = this.OPTION(() => {
          this.CONSUME(T.Star);
          return this.SUBRULE(this.count);
        });
        layers.push({ layer, count: count ?? 1 });
      },
    });
    return { number, at, layers };
  });

  readonly orderLine: Rule<OrderLine> = this.RULE('orderLine', () => {
    const layers: string[] = [];
    this.CONSUME(T.Order);
    const op = this.OR([
      { ALT: () => this.CONSUME(T.Forward) },
      { ALT: () => this.CONSUME(T.Backward) },
      { ALT: () => this.CONSUME(T.BackwardInput) },
      { ALT: () => this.CONSUME(T.Weights) },
      { ALT: () => this.CONSUME(T.Overlap) },
    ]).image as ComputeOp['op'];
    this.AT_LEAST_ONE_SEP({
      SEP: T.Ampersand,
      DEF: () => void layers.push(this.CONSUME(T.Identifier).image),
    });
    this.CONSUME(T.LeftBrace);
    return { op, layers };
  });

  readonly stepLine: Rule<StepLine> = this.RULE('stepLine', () => {
    const waits: PhaseRef[] = [];
    const stream = this.SUBRULE(this.stream);
    const { phase, part } = this.SUBRULE(this.phaseRef);
    this.OPTION(() => {
      this.CONSUME(T.After);
      this.AT_LEAST_ONE_SEP({
        SEP: T.Comma,
        DEF: () => void waits.push(this.SUBRULE1(this.phaseRef)),
      });
    });
    return { stream, phase, part, waits };
  });

  readonly rankLine: Rule<RankLine> = this.RULE('rankLine', () => {
    const stages: number[] = [];
    this.CONSUME(T.Rank);
    const { number, at } = this.SUBRULE(this.numbered);
    this.CONSUME(T.Stages);
    this.CONSUME(T.LeftBracket);
    this.MANY_SEP({ SEP: T.Comma, DEF: () => void stages.push(this.SUBRULE(this.count)) });
    this.CONSUME(T.RightBracket);
    this.CONSUME(T.LeftBrace);
    return { number, at, stages };
  });

  readonly rankOpsLine: Rule<RankOp[]> = this.RULE('rankOpsLine', () => {
    const ops: RankOp[] = [];
    this.AT_LEAST_ONE_SEP({ SEP: T.Semicolon, DEF: () => void ops.push(this.SUBRULE(this.rankOp)) });
    return ops;
  });

  private readonly rankOp: Rule<RankOp> = this.RULE('rankOp', () => {
    const from = this.LA(1);
    const op = this.OR<RankOp['op']>([
      { ALT: () => (this.CONSUME(T.Forward), { op: 'forward', chunk: this.SUBRULE(this.chunk) }) },
      { ALT: () => (this.CONSUME(T.Backward), { op: 'backward', chunk: this.SUBRULE1(this.chunk) }) },
      {
        ALT: () => (
          this.CONSUME(T.BackwardInput),
          { op: 'backward_input', chunk: this.SUBRULE2(this.chunk) }
        ),
      },
      { ALT: () => (this.CONSUME(T.Weights), { op: 'weights', chunk: this.SUBRULE3(this.chunk) }) },
      {
        ALT: () => {
          this.CONSUME(T.Overlap);
          this.CONSUME1(T.Forward);
          const forward = this.SUBRULE4(this.chunk);
          this.CONSUME(T.Ampersand);
          this.CONSUME1(T.Backward);
          return { op: 'overlap', forward, backward: this.SUBRULE5(this.chunk) };
        },
      },
      {
        ALT: () => {
          this.CONSUME(T.Send);
          const payload = this.SUBRULE(this.payload);
          const chunk = this.SUBRULE6(this.chunk);
          this.CONSUME(T.Arrow);
          return { op: 'send', payload, chunk, peer: this.SUBRULE(this.count) };
        },
      },
      {
        ALT: () => {
          this.CONSUME(T.Receive);
          const payload = this.SUBRULE1(this.payload);
          const chunk = this.SUBRULE7(this.chunk);
          this.CONSUME(T.LeftArrow);
          return { op: 'receive', payload, chunk, peer: this.SUBRULE1(this.count) };
        },
      },
      { ALT: () => (this.CONSUME(T.Commit), { op: 'commit' }) },
    ]);
    return { op, from, to: this.LA(0) };
  });

  private readonly chunk: Rule<Chunk> = this.RULE('chunk', () => {
    const direction = this.CONSUME(T.Direction);
    const microBatch = this.CONSUME(T.MicroBatch);
    return { direction: this.numberAfterLetter(direction), microBatch: this.numberAfterLetter(microBatch) };
  });

  private readonly payload: Rule<Payload> = this.RULE('payload', () =>
    this.OR<Payload>([
      { ALT: () => (this.CONSUME(T.Activations), 'activations') },
      { ALT: () => (this.CONSUME(T.Gradients), 'gradients') },
    ]),
  );

  private readonly stream: Rule<Stream> = this.RULE('stream', () =>
    this.OR<Stream>([
      { ALT: () => (this.CONSUME(T.Compute), 'compute') },
      { ALT: () => (this.CONSUME(T.Comm), 'comm') },
    ]),
  );

  private readonly phaseRef: Rule<PhaseRef> = this.RULE('phaseRef', () => {
    const phase = this.CONSUME(T.Identifier).image;
    this.CONSUME(T.LeftParen);
    const part = this.CONSUME1(T.Identifier);
    this.CONSUME(T.RightParen);
    if (!parts.includes(part.image))
      this.find({
        code: 'ir/syntax',
        message: `a phase has no part ${clip(part.image)}`,
        from: part,
        to: part,
        fix: 'write F (forward), B (backward, gradients of inputs) or W (gradients of weights)',
      });
    return { phase, part: part.image as Part };
  });

  private readonly numbered: Rule<{ number: number; at: IToken }> = this.RULE('numbered', () => {
    const at = this.CONSUME(T.NumberLiteral);
    return { number: this.RECORDING_PHASE ? 0 : naturalNumber(at, this.find), at };
  });

  private numberAfterLetter(token: IToken): number {
    const value = Number(token.image.slice(1));
    if (!Number.isSafeInteger(value) && !this.RECORDING_PHASE)
      this.find({
        code: 'ir/syntax',
        message: `the number of ${clip(token.image)} is too large`,
        from: token,
        to: token,
        fix: 'directions and micro-batches are counted from 0',
      });
    return value;
  }
}

let shared: ScheduleGrammar | null = null;

/** The one grammar of schedules: building it analyses its rules, which takes some milliseconds. */
export const scheduleGrammar = (): ScheduleGrammar => (shared ??= new ScheduleGrammar());
