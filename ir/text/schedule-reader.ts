// Reads one schedule's lines. Names and numbers are compared by the verifier, which every schedule meets; here stands
// what a schedule as data cannot say: sections in order, stages and ranks counted from 0, attributes given once.
// The span of each part is its place in this text: the verifier points at rank, line and column.
import type { IToken } from 'chevrotain';
import type { Attributes } from '../module.ts';
import type {
  LayerKind,
  PhaseOrder,
  PhaseStep,
  RankProgram,
  Schedule,
  ScheduleOp,
  StageLayers,
} from '../schedule.ts';
import type { Span } from '../span.ts';
import type { Rule } from './grammar-common.ts';
import type { AttributeNode } from './lines.ts';
import { rankOpForms } from './messages.ts';
import { readLine } from './read-line.ts';
import { scheduleGrammar } from './schedule-grammar.ts';
import type { Numbered, ScheduleLine } from './schedule-lines.ts';
import { scheduleAttributes } from './schedule-printer.ts';
import type { Definition, Sink } from './sink.ts';
import { clip, didYouMean, nearest, spellAttribute } from './spelling.ts';
import { endOf, FunctionName, Overlap, RightBrace, Semicolon } from './tokens.ts';

/** What a schedule needs of the module around it. */
export interface ScheduleScope {
  attributeRecord(nodes: readonly AttributeNode[]): Attributes;
  unique(key: string, at: IToken): boolean;
}

const known: readonly string[] = scheduleAttributes;
/** In the order in which they must stand. */
const sections = ['layer', 'stage', 'order', 'rank'];
const attributeExample =
  'kind = "dualpipe", micro_batches = 8, compute_sms = 112, comm_sms = 20, live_activations = 5, live_stages = 2';

/** The order or the rank whose lines are being read. */
type Part =
  | { readonly kind: 'order'; readonly steps: PhaseStep[]; readonly open: Definition }
  | { readonly kind: 'rank'; readonly ops: ScheduleOp[]; readonly open: Definition };

export class ScheduleReader {
  private readonly grammar = scheduleGrammar();
  private readonly sink: Sink;
  private readonly name: IToken;
  private readonly header: Omit<Schedule, 'layers' | 'stages' | 'orders' | 'programs'> | null;
  private readonly layers: LayerKind[] = [];
  private readonly stages: StageLayers[] = [];
  private readonly orders: PhaseOrder[] = [];
  private readonly programs: RankProgram[] = [];
  private readonly next = { stage: 0, rank: 0 };
  private section = 0;
  private part: Part | null = null;

  /** `tokens`: the schedule's header. */
  constructor(scope: ScheduleScope, sink: Sink, tokens: IToken[]) {
    this.sink = sink;
    this.name = tokens.find((t) => t.tokenType === FunctionName) ?? tokens[0];
    const node = this.parse(this.grammar.scheduleLine, 'scheduleLine', tokens);
    this.header = node && this.headerOf(scope, node);
  }

  /** What has not ended yet: the schedule, or its order or rank. */
  get open(): { readonly what: string; readonly at: IToken } {
    const schedule = `schedule ${clip(this.name.image)}`;
    return this.part
      ? { what: `${this.part.open.message} of ${schedule}`, at: this.part.open.at }
      : { what: schedule, at: this.name };
  }

  /** Reads a line. When it ends the schedule: the schedule, or null when its header was wrong. */
  line(tokens: IToken[]): Schedule | null | undefined {
    const first = tokens[0];
    if (first.tokenType !== RightBrace) {
      if (this.part && !isSection(tokens)) this.partLine(this.part, tokens);
      else this.sectionLine(tokens);
      return undefined;
    }
    if (tokens.length > 1)
      this.sink.at('ir/syntax', 'expected the end of the line after `}`', tokens[1], {
        fix: 'put it on a line of its own',
      });
    if (this.part) {
      this.part = null;
      return undefined;
    }
    const { layers, stages, orders, programs } = this;
    return this.header && { ...this.header, layers, stages, orders, programs };
  }

  private parse<R>(rule: Rule<R>, form: string, tokens: IToken[]): R | null {
    return readLine(this.grammar, rule, form, tokens, this.sink);
  }

  private headerOf(scope: ScheduleScope, node: ScheduleLine): ScheduleReader['header'] {
    scope.unique(`schedule ${node.name.image}`, node.name);
    const given = scope.attributeRecord(node.attributes);
    for (const a of node.attributes) this.checkAttribute(a);
    // A misspelled one is not missing too.
    const unknown = Object.keys(given).filter((name) => !known.includes(name));
    const meant = unknown.map((name) => nearest(name, known));
    const missing = scheduleAttributes.filter((name) => !Object.hasOwn(given, name) && !meant.includes(name));
    if (missing.length > 0)
      this.sink.at(
        'ir/attribute',
        `schedule ${clip(node.name.image)} lacks ${missing.join(', ')}`,
        node.name,
        {
          fix: `write all of {${attributeExample}}`,
        },
      );
    const number = (name: (typeof scheduleAttributes)[number]): number => Number(given[name]);
    return {
      name: node.name.image.slice(1),
      kind: String(given.kind),
      microBatches: number('micro_batches'),
      sms: { compute: number('compute_sms'), comm: number('comm_sms') },
      bounds: { activations: number('live_activations'), stages: number('live_stages') },
      span: node.span,
    };
  }

  private checkAttribute({ name, value, from, to }: AttributeNode): void {
    if (!known.includes(name))
      this.sink.at('ir/attribute', `schedules have no attribute ${clip(name)}`, from, {
        to,
        fix: didYouMean(name, known) ?? `they have ${known.join(', ')}`,
      });
    else if (name === 'kind') {
      if (typeof value !== 'string')
        this.sink.at('ir/attribute', `kind is ${clip(spellAttribute(value))}, but must be a string`, from, {
          to,
          fix: 'quote it: kind = "1f1b"',
        });
    } else if (!Number.isSafeInteger(value) || Number(value) < 0 || Object.is(value, -0))
      this.sink.at(
        'ir/attribute',
        `${name} is ${clip(spellAttribute(value))}, but must be a natural number`,
        from,
        { to, fix: 'counts are whole and not negative' },
      );
  }

  private sectionLine(tokens: IToken[]): void {
    const first = tokens[0];
    const word = first.image;
    if (this.part) {
      const { what, at } = this.open;
      this.sink.at('ir/syntax', `${what} has not ended before this ${word}`, first, {
        fix: 'write `}` on a line before',
        notes: [{ message: `${this.part.open.message} starts here`, at }],
      });
      this.part = null;
    }
    const section = sections.indexOf(word);
    if (section < 0) {
      this.sink.at('ir/syntax', 'expected a layer, a stage, an order or a rank here', first, {
        fix: didYouMean(word, sections) ?? `lines of a schedule start with ${sections.join(', ')} or }`,
      });
      return;
    }
    if (section < this.section)
      this.sink.at('ir/syntax', `${word} stands too late`, first, {
        fix: 'the order is: layers, stages, orders, ranks',
      });
    this.section = Math.max(this.section, section);
    if (word === 'layer') this.layer(tokens);
    else if (word === 'stage') this.stage(tokens);
    else if (word === 'order') this.order(tokens);
    else this.rank(tokens);
  }

  private layer(tokens: IToken[]): void {
    const node = this.parse(this.grammar.layerLine, 'layerLine', tokens);
    if (node) this.layers.push({ ...node, span: this.spanOf(tokens) });
  }

  private stage(tokens: IToken[]): void {
    const node = this.parse(this.grammar.stageLine, 'stageLine', tokens);
    this.inTurn('stage', node);
    if (node) this.stages.push({ layers: node.layers, span: this.spanOf(tokens) });
  }

  // A broken header opens its part all the same: the lines that follow belong there.
  private order(tokens: IToken[]): void {
    const node = this.parse(this.grammar.orderLine, 'orderLine', tokens);
    const steps: PhaseStep[] = [];
    const message = node ? clip(`order ${node.op} ${node.layers.join(' & ')}`) : 'this order';
    this.part = { kind: 'order', steps, open: { message, at: tokens[0] } };
    if (node) this.orders.push({ ...node, steps, span: this.spanOf(tokens) });
  }

  private rank(tokens: IToken[]): void {
    const node = this.parse(this.grammar.rankLine, 'rankLine', tokens);
    this.inTurn('rank', node);
    const ops: ScheduleOp[] = [];
    const message = node ? `rank ${node.number}` : 'this rank';
    this.part = { kind: 'rank', ops, open: { message, at: tokens[0] } };
    if (node) this.programs.push({ stages: node.stages, ops, span: this.spanOf(tokens) });
  }

  /** Stages and ranks are numbered in order, without gaps. */
  private inTurn(kind: 'stage' | 'rank', node: Numbered | null): void {
    const expected = this.next[kind];
    // After a wrong number the count goes on from there, so that one slip is one message.
    this.next[kind] = (node?.number ?? expected) + 1;
    if (node && node.number !== expected)
      this.sink.at(
        'ir/schedule',
        `expected ${kind} ${expected} here, but this is ${kind} ${node.number}`,
        node.at,
        {
          fix: `${kind}s are numbered from 0 in order, without gaps`,
        },
      );
  }

  private partLine(part: Part, tokens: IToken[]): void {
    if (part.kind === 'order') {
      const node = this.parse(this.grammar.stepLine, 'stepLine', tokens);
      if (node) part.steps.push({ ...node, span: this.spanOf(tokens) });
      return;
    }
    const fixAt = (token: IToken): string | null => opFix(tokens, token);
    const ops = readLine(this.grammar, this.grammar.rankOpsLine, 'rankOpsLine', tokens, this.sink, fixAt);
    for (const { op, from, to } of ops ?? [])
      part.ops.push({ ...op, span: this.sink.span(from.startOffset, endOf(to)) });
  }

  private spanOf(tokens: readonly IToken[]): Span {
    return this.sink.span(tokens[0].startOffset, endOf(tokens[tokens.length - 1]));
  }
}

/** How the op that a wrong token stands in is written. */
function opFix(tokens: readonly IToken[], wrong: IToken): string | null {
  // At the end of a line there is no token, and the last op is meant.
  const at = tokens.includes(wrong) ? tokens.indexOf(wrong) : tokens.length;
  const start = tokens.slice(0, at).findLastIndex((t) => t.tokenType === Semicolon) + 1;
  if (at <= start) return didYouMean(wrong.image, Object.keys(rankOpForms));
  const first = tokens[start];
  // `forward` and `backward` belong into an overlap; any other op starts anew.
  if (Object.hasOwn(rankOpForms, wrong.image) && first.tokenType !== Overlap) return 'put ; between two ops';
  return Object.hasOwn(rankOpForms, first.image) ? rankOpForms[first.image] : null;
}

/** A line that starts a part of a schedule; no line of an order or a rank starts like it. */
const isSection = (tokens: readonly IToken[]): boolean => sections.includes(tokens[0].image);
