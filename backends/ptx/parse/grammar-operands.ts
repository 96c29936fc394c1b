// The grammar of operands, with chevrotain. Rules return nodes of the tree.
import type { IToken } from 'chevrotain';
import type { IntegerConstant, Name, PtxOperand, SinkOperand } from './ast.ts';
import type { IntegerValue } from './constants.ts';
import { ConstantGrammar, integerOf, type Rule } from './grammar-constants.ts';
import * as T from './tokens.ts';

const sinkOf = (token: IToken): SinkOperand => ({
  kind: 'sink',
  from: token.startOffset,
  to: T.endOf(token),
});

/** The registers of a `RegisterList` token. */
function registersOf(token: IToken): Name[] {
  const names: Name[] = [];
  const register = /%[\w$]+/g;
  for (let match = register.exec(token.image); match; match = register.exec(token.image)) {
    const from = token.startOffset + match.index;
    names.push({ kind: 'name', name: match[0], from, to: from + match[0].length });
  }
  return names;
}

/** The numbers of a `NumberList` token. */
export function numbersOf(token: IToken): IntegerConstant[] {
  const numbers: IntegerConstant[] = [];
  const digits = /\d+/g;
  for (let match = digits.exec(token.image); match; match = digits.exec(token.image)) {
    const from = token.startOffset + match.index;
    const value: IntegerValue = { kind: 'integer', value: BigInt(match[0]), unsigned: false };
    numbers.push(integerOf(match[0], value, { from, to: from + match[0].length }));
  }
  return numbers;
}

/** The parts of a `PlainAddress` token. */
function plainAddress(token: IToken): PtxOperand {
  const image = token.image;
  const [, before, name, sign] = /^(\[\s*)([^\s+\]]+)\s*(\+?)/.exec(image)!;
  const from = token.startOffset + before.length;
  const piece = { from: token.startOffset, to: T.endOf(token) };
  const base: Name = { kind: 'name', name, from, to: from + name.length };
  if (sign === '') return { kind: 'address', base, offset: null, items: [], ...piece };
  const at = image.indexOf('+') + 1;
  const digits = /-?\d+/.exec(image.slice(at))!;
  const start = token.startOffset + at + digits.index;
  const spelling = digits[0];
  const negative = spelling[0] === '-';
  const value = BigInt(negative ? spelling.slice(1) : spelling);
  const offset = integerOf(
    spelling,
    { kind: 'integer', value: negative ? -value : value, unsigned: false },
    { from: start, to: start + spelling.length },
  );
  return { kind: 'address', base, offset, items: [], ...piece };
}

export class OperandGrammar extends ConstantGrammar {
  private readonly nameOrSink: Rule<Name | SinkOperand> = this.RULE('nameOrSink', () =>
    this.OR<Name | SinkOperand>([
      { ALT: () => this.SUBRULE(this.anyName) },
      {
        ALT: () => {
          const token = this.CONSUME(T.Sink);
          return this.ACTION(() => sinkOf(token));
        },
      },
    ]),
  );

  protected readonly operand: Rule<PtxOperand> = this.RULE('operand', () =>
    this.OR<PtxOperand>([
      { ALT: () => this.SUBRULE(this.named) },
      {
        ALT: () => {
          const token = this.CONSUME(T.PlainAddress);
          return this.ACTION(() => plainAddress(token));
        },
      },
      {
        ALT: () => {
          const token = this.CONSUME(T.RegisterList);
          return this.ACTION(() => ({
            kind: 'vector' as const,
            items: registersOf(token),
            from: token.startOffset,
            to: T.endOf(token),
          }));
        },
      },
      {
        ALT: () => {
          const token = this.CONSUME(T.NumberList);
          return this.ACTION(() => ({
            kind: 'vector' as const,
            items: numbersOf(token),
            from: token.startOffset,
            to: T.endOf(token),
          }));
        },
      },
      {
        ALT: () => {
          const bang = this.CONSUME(T.Bang);
          const of = this.SUBRULE(this.anyName);
          return this.ACTION(() => ({ kind: 'not' as const, of, from: bang.startOffset, to: of.to }));
        },
      },
      {
        ALT: () => {
          const node = this.SUBRULE(this.expression);
          return this.ACTION(() => this.constant(node));
        },
      },
      { ALT: () => this.SUBRULE(this.address) },
      { ALT: () => this.SUBRULE(this.vector) },
    ]),
  );

  /** An operand that begins with a name or the sink. */
  private readonly named: Rule<PtxOperand> = this.RULE('named', () => {
    const first = this.SUBRULE(this.nameOrSink);
    return (
      this.OPTION(() =>
        this.OR<PtxOperand>([
          {
            ALT: () => {
              this.CONSUME(T.Bar);
              const second = this.SUBRULE1(this.nameOrSink);
              return this.ACTION(() => ({
                kind: 'pair' as const,
                first,
                second,
                from: first.from,
                to: second.to,
              }));
            },
          },
          {
            ALT: () => {
              const offset = this.SUBRULE(this.offset);
              return this.ACTION(() => ({
                kind: 'nameOffset' as const,
                base: first as Name,
                offset,
                from: first.from,
                to: offset.to,
              }));
            },
          },
          {
            ALT: () => {
              this.CONSUME(T.LeftBracket);
              const index = this.SUBRULE(this.integerExpression);
              const close = this.CONSUME(T.RightBracket);
              return this.ACTION(() => ({
                kind: 'indexed' as const,
                base: first as Name,
                index,
                from: first.from,
                to: T.endOf(close),
              }));
            },
          },
        ]),
      ) ?? first
    );
  });

  private readonly address: Rule<PtxOperand> = this.RULE('address', () => {
    const open = this.CONSUME(T.LeftBracket);
    const base = this.OR<Name | IntegerConstant>([
      { ALT: () => this.SUBRULE(this.anyName) },
      { ALT: () => this.SUBRULE(this.integerExpression) },
    ]);
    const offset = this.OPTION(() => this.SUBRULE(this.offset)) ?? null;
    const items: PtxOperand[] = [];
    this.MANY(() => {
      this.CONSUME(T.Comma);
      items.push(this.SUBRULE(this.operand));
    });
    const close = this.CONSUME(T.RightBracket);
    return this.ACTION(() => ({
      kind: 'address' as const,
      base,
      offset,
      items,
      from: open.startOffset,
      to: T.endOf(close),
    }));
  });

  private readonly vector: Rule<PtxOperand> = this.RULE('vector', () => {
    const items: PtxOperand[] = [];
    const open = this.CONSUME(T.LeftBrace);
    this.MANY_SEP({ SEP: T.Comma, DEF: () => void items.push(this.SUBRULE(this.operand)) });
    const close = this.CONSUME(T.RightBrace);
    return this.ACTION(() => ({
      kind: 'vector' as const,
      items,
      from: open.startOffset,
      to: T.endOf(close),
    }));
  });
}
