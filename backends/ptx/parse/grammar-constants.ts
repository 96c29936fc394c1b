// The grammar of constants and of names with offsets, with chevrotain. What is wrong with a constant goes to `findings`.
import { EmbeddedActionsParser, type IToken, type ParserMethod } from 'chevrotain';
import type { Constant, IntegerConstant, Name, Piece } from './ast.ts';
import * as C from './constants.ts';
import { grammarMessages } from './messages.ts';
import * as T from './tokens.ts';

export type Rule<R, A extends unknown[] = []> = ParserMethod<A, R>;

/** A computed constant with the tokens that it came from. */
interface ValueNode {
  readonly value: C.Value;
  readonly first: IToken;
  readonly last: IToken;
}

export const integerOf = (spelling: string, value: C.IntegerValue, piece: Piece): IntegerConstant => ({
  kind: 'integer',
  value: value.value,
  unsigned: value.unsigned,
  spelling,
  ...piece,
});

export const nameOf = (token: IToken): Name => ({
  kind: 'name',
  name: token.image,
  from: token.startOffset,
  to: T.endOf(token),
});

/** The last of its subclasses calls `performSelfAnalysis`. */
export class ConstantGrammar extends EmbeddedActionsParser {
  /** What rules found wrong in the statement read last, besides syntax. */
  findings: (Piece & { readonly message: string })[] = [];
  /** The text that the tokens are from. */
  text = '';

  constructor() {
    super(T.vocabulary, { maxLookahead: 2, errorMessageProvider: grammarMessages });
  }

  protected find(message: string, first: IToken, last: IToken): void {
    this.findings.push({ message, from: first.startOffset, to: T.endOf(last) });
  }

  /** The value of an integer token. */
  protected literal(token: IToken): C.IntegerValue {
    return C.integerLiteral(token.image, (message) => this.find(message, token, token));
  }

  /** The source between two tokens. Blanks count: `7 % 4` is not `7 %4`, which is a name. */
  private spelling(first: IToken, last: IToken): string {
    if (first === last) return first.image;
    const text = this.text.slice(first.startOffset, T.endOf(last));
    return text.replace(/(?:\/\*[^]*?\*\/|\/\/[^\n]*|\\\r?\n|\s)+/g, ' ');
  }

  protected integerConstant({ value, first, last }: ValueNode): IntegerConstant {
    const piece = { from: first.startOffset, to: T.endOf(last) };
    if (value.kind === 'integer') return integerOf(this.spelling(first, last), value, piece);
    this.find('an integer stands here, not a float', first, last);
    return integerOf(this.spelling(first, last), C.zero, piece);
  }

  protected constant({ value, first, last }: ValueNode): Constant {
    const piece = { from: first.startOffset, to: T.endOf(last) };
    const spelling = this.spelling(first, last);
    if (value.kind === 'integer') return integerOf(spelling, value, piece);
    return value.kind === 'single'
      ? { kind: 'float', width: 32, bits: value.bits, spelling, ...piece }
      : { kind: 'float', width: 64, bits: C.bitsOfDouble(value.value), spelling, ...piece };
  }

  /** A number, or an expression of numbers. */
  protected readonly expression: Rule<ValueNode> = this.RULE('expression', () => {
    const values: C.Value[] = [];
    const operators: string[] = [];
    const head = this.SUBRULE(this.term);
    let last = head.last;
    values.push(head.value);
    this.MANY(() => {
      operators.push(this.SUBRULE(this.operator).image);
      const next = this.SUBRULE1(this.term);
      values.push(next.value);
      last = next.last;
    });
    let value = this.ACTION(() =>
      C.evaluate(values, operators, (message) => this.find(message, head.first, last)),
    );
    this.OPTION(() => {
      this.CONSUME(T.Question);
      const a = this.SUBRULE(this.expression);
      this.CONSUME(T.Colon);
      const b = this.SUBRULE1(this.expression);
      last = b.last;
      value = this.ACTION(() =>
        C.choose(value, a.value, b.value, (message) => this.find(message, head.first, last)),
      );
    });
    return { value, first: head.first, last };
  });

  private readonly operator: Rule<IToken> = this.RULE('operator', () =>
    this.OR([
      { ALT: () => this.CONSUME(T.BinaryOperator) },
      { ALT: () => this.CONSUME(T.Plus) },
      { ALT: () => this.CONSUME(T.Minus) },
      { ALT: () => this.CONSUME(T.Bar) },
      { ALT: () => this.CONSUME(T.Less) },
      { ALT: () => this.CONSUME(T.Greater) },
    ]),
  );

  /** A number with signs and casts before it, or an expression in parentheses. */
  private readonly term: Rule<ValueNode> = this.RULE('term', () => {
    const signs: IToken[] = [];
    this.MANY(() => void signs.push(this.SUBRULE(this.sign)));
    const node = this.OR([
      {
        ALT: () => {
          const token = this.CONSUME(T.Integer);
          const value: C.Value = this.ACTION(() => this.literal(token));
          return { value, first: token, last: token };
        },
      },
      {
        ALT: () => {
          const token = this.CONSUME(T.HexFloat);
          return { value: this.ACTION(() => C.floatLiteral(token.image)), first: token, last: token };
        },
      },
      {
        ALT: () => {
          const token = this.CONSUME(T.Float);
          return { value: this.ACTION(() => C.floatLiteral(token.image)), first: token, last: token };
        },
      },
      {
        ALT: () => {
          const token = this.CONSUME(T.WarpSize);
          const value: C.Value = { kind: 'integer', value: 32n, unsigned: false };
          return { value, first: token, last: token };
        },
      },
      {
        ALT: () => {
          const first = this.CONSUME(T.LeftParen);
          const { value } = this.SUBRULE(this.expression);
          return { value, first, last: this.CONSUME(T.RightParen) };
        },
      },
    ]);
    if (signs.length === 0) return node;
    return this.ACTION(() => {
      let value = node.value;
      for (let i = signs.length - 1; i >= 0; i--)
        value = C.unary(signs[i].image, value, (message) => this.find(message, signs[i], node.last));
      // A cast's token is its type: the parenthesis stands one token earlier.
      const first = signs[0].tokenType === T.DotWord ? (signs[0].payload as IToken) : signs[0];
      return { value, first, last: node.last };
    });
  });

  /** `-`, `+`, `!`, `~`, or a cast: then the token of its type. */
  private readonly sign: Rule<IToken> = this.RULE('sign', () =>
    this.OR([
      { ALT: () => this.CONSUME(T.Minus) },
      { ALT: () => this.CONSUME(T.Plus) },
      { ALT: () => this.CONSUME(T.Bang) },
      { ALT: () => this.CONSUME(T.Tilde) },
      {
        ALT: () => {
          const open = this.CONSUME(T.LeftParen);
          const type = this.CONSUME(T.DotWord);
          this.CONSUME(T.RightParen);
          this.ACTION(() => (type.payload = open));
          return type;
        },
      },
    ]),
  );

  protected readonly integerExpression: Rule<IntegerConstant> = this.RULE('integerExpression', () => {
    const node = this.SUBRULE(this.expression);
    return this.ACTION(() => this.integerConstant(node));
  });

  /** What follows a name: `+8`, `-(2*4)`. A minus is part of the offset's spelling. */
  protected readonly offset: Rule<IntegerConstant> = this.RULE('offset', () => {
    const sign = this.OR([{ ALT: () => this.CONSUME(T.Plus) }, { ALT: () => this.CONSUME(T.Minus) }]);
    const node = this.SUBRULE(this.expression);
    return this.ACTION(() => {
      const offset = this.integerConstant(node);
      if (sign.tokenType === T.Plus) return offset;
      return {
        ...offset,
        value: BigInt.asIntN(64, -offset.value),
        spelling: `-${offset.spelling}`,
        minus: true as const,
        from: sign.startOffset,
      };
    });
  });

  protected readonly anyName: Rule<Name> = this.RULE('anyName', () => {
    const token = this.OR([
      { ALT: () => this.CONSUME(T.Register) },
      { ALT: () => this.CONSUME(T.Identifier) },
      { ALT: () => this.CONSUME(T.Dotted) },
    ]);
    return this.ACTION(() => nameOf(token));
  });
}
