// What the grammars of functions and of schedules have in common: attributes, counts and places, and how a line is read
// with one of their rules. Findings are what can be said of a line's parts without knowing the module.
import { EmbeddedActionsParser, type IToken, type ParserMethod } from 'chevrotain';
import type { Attribute } from '../module.ts';
import { noSpan, type Span } from '../span.ts';
import type { AttributeNode, Finding } from './lines.ts';
import { naturalNumber, numberOf, placeOf, stringOf, type Find } from './literals.ts';
import { grammarMessages } from './messages.ts';
import { valueWords } from './spelling.ts';
import * as T from './tokens.ts';

export type Rule<R> = ParserMethod<[], R>;

/** Its subclasses define rules of lines and then call `performSelfAnalysis`. */
export class CommonGrammar extends EmbeddedActionsParser {
  /** What rules found wrong in the line read last, besides syntax. */
  findings: Finding[] = [];

  constructor() {
    super(T.vocabulary, { maxLookahead: 2, errorMessageProvider: grammarMessages });
  }

  /** Reads a line with a rule; null when it does not fit, and then `errors` has one entry. */
  read<R>(rule: Rule<R>, tokens: IToken[]): R | null {
    this.findings = [];
    this.input = tokens;
    const result = rule.call(this);
    return this.errors.length > 0 ? null : result;
  }

  protected readonly attributes: Rule<AttributeNode[]> = this.RULE('attributes', () => {
    const list: AttributeNode[] = [];
    this.CONSUME(T.LeftBrace);
    this.AT_LEAST_ONE_SEP({
      SEP: T.Comma,
      DEF: () => {
        const from = this.OR([
          { ALT: () => this.CONSUME(T.Identifier) },
          { ALT: () => this.CONSUME(T.StringLiteral) },
        ]);
        this.CONSUME(T.Equals);
        const { value, to } = this.SUBRULE(this.value);
        const name = from.tokenType === T.StringLiteral ? this.unquote(from) : from.image;
        list.push({ name, value, from, to });
      },
    });
    this.CONSUME(T.RightBrace);
    return list;
  });

  private readonly value: Rule<{ value: Attribute; to: IToken }> = this.RULE('value', () =>
    this.OR<{ value: Attribute; to: IToken }>([
      {
        ALT: () => {
          const to = this.CONSUME(T.NumberLiteral);
          return { value: this.RECORDING_PHASE ? 0 : numberOf(to, this.find), to };
        },
      },
      {
        ALT: () => {
          const to = this.CONSUME(T.StringLiteral);
          return { value: this.unquote(to), to };
        },
      },
      {
        ALT: () => {
          const to = this.CONSUME(T.Identifier);
          return { value: valueWords.get(to.image) ?? to.image, to };
        },
      },
      {
        ALT: () => {
          const items: Attribute[] = [];
          this.CONSUME(T.LeftBracket);
          this.MANY_SEP({ SEP: T.Comma, DEF: () => void items.push(this.SUBRULE(this.value).value) });
          return { value: items, to: this.CONSUME(T.RightBracket) };
        },
      },
    ]),
  );

  /** A natural number. */
  protected readonly count: Rule<number> = this.RULE('count', () => {
    const token = this.CONSUME(T.NumberLiteral);
    return this.RECORDING_PHASE ? 0 : naturalNumber(token, this.find);
  });

  /** The author's place at the end of a line, or noSpan. */
  protected readonly place: Rule<Span> = this.RULE('place', () => {
    const token = this.OPTION(() => this.CONSUME(T.Place));
    return token === undefined || this.RECORDING_PHASE ? noSpan : placeOf(token, this.find);
  });

  protected readonly find: Find = (finding) => {
    if (!this.RECORDING_PHASE) this.findings.push(finding);
  };

  protected unquote(token: IToken): string {
    return this.RECORDING_PHASE ? '' : stringOf(token, this.find);
  }
}
