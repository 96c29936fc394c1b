// The grammar of one line of IR text, with chevrotain. A line is a statement, so a mistake never reaches beyond its
// line; which lines may follow which is the reader's business. Rules return plain records with the tokens that
// messages point at; what can be said without knowing the module (a dtype, an escape) is checked here.
import type { IToken } from 'chevrotain';
import type { FunctionKind } from '../module.ts';
import { dim, type Dim, type ScaleLevel, type Type } from '../types.ts';
import { CommonGrammar, type Rule } from './grammar-common.ts';
import type {
  DeriveLine,
  DimLine,
  ExpressionNode,
  HeaderLine,
  ModuleLine,
  OperandKind,
  OperandNode,
  OpLine,
  ParameterLine,
  ReturnLine,
  StateLine,
  TypeNode,
} from './lines.ts';
import { scaleLevel, typeOf } from './literals.ts';
import * as T from './tokens.ts';

export class LineParser extends CommonGrammar {
  constructor() {
    super();
    this.performSelfAnalysis();
  }

  readonly versionLine: Rule<IToken> = this.RULE('versionLine', () => {
    this.CONSUME(T.Dsir);
    return this.CONSUME(T.NumberLiteral);
  });

  readonly moduleLine: Rule<ModuleLine> = this.RULE('moduleLine', () => {
    this.CONSUME(T.ModuleWord);
    const name = this.CONSUME(T.FunctionName);
    const attributes = this.OPTION(() => this.SUBRULE(this.attributes)) ?? [];
    this.CONSUME(T.LeftBrace);
    return { name, attributes };
  });

  readonly dimLine: Rule<DimLine> = this.RULE('dimLine', () => {
    this.CONSUME(T.DimWord);
    const name = this.SUBRULE(this.dimName);
    const ragged =
      this.OPTION(() => {
        this.CONSUME(T.Equals);
        this.CONSUME(T.Ragged);
        this.CONSUME(T.LeftParen);
        const of = this.SUBRULE1(this.dimName);
        this.CONSUME(T.Star);
        const per = this.SUBRULE(this.count);
        this.CONSUME1(T.Comma);
        this.CONSUME(T.Groups);
        this.CONSUME1(T.Equals);
        const groups = this.SUBRULE1(this.count);
        this.CONSUME2(T.Comma);
        this.CONSUME(T.Align);
        this.CONSUME2(T.Equals);
        const align = this.SUBRULE2(this.count);
        this.CONSUME(T.RightParen);
        return { of, per, groups, align };
      }) ?? null;
    this.CONSUME(T.AtMost);
    const bound = this.SUBRULE3(this.count);
    return { name, bound, ragged };
  });

  readonly stateLine: Rule<StateLine> = this.RULE('stateLine', () => {
    const fields: { name: IToken; type: TypeNode }[] = [];
    this.CONSUME(T.StateWord);
    const name = this.CONSUME(T.Identifier);
    const policy = this.CONSUME1(T.Identifier);
    const page =
      this.OPTION(() => {
        this.CONSUME(T.LeftParen);
        const rows = this.SUBRULE(this.count);
        this.CONSUME(T.RightParen);
        return rows;
      }) ?? null;
    this.CONSUME(T.LeftBrace);
    this.MANY_SEP({
      SEP: T.Comma,
      DEF: () => {
        const field = this.CONSUME2(T.Identifier);
        this.CONSUME(T.Colon);
        fields.push({ name: field, type: this.SUBRULE(this.type) });
      },
    });
    this.CONSUME(T.RightBrace);
    return { name, policy, page, fields };
  });

  readonly headerLine: Rule<HeaderLine> = this.RULE('headerLine', () => {
    const args: { inout: boolean; name: IToken; type: TypeNode }[] = [];
    const results: TypeNode[] = [];
    const kind = this.OR([
      { ALT: () => this.CONSUME(T.Entry) },
      { ALT: () => this.CONSUME(T.Block) },
      { ALT: () => this.CONSUME(T.Kernel) },
    ]).image as FunctionKind;
    const name = this.CONSUME(T.FunctionName);
    this.CONSUME1(T.LeftParen);
    this.MANY_SEP({
      SEP: T.Comma,
      DEF: () => {
        const inout = this.OPTION(() => this.CONSUME(T.Inout)) !== undefined;
        const argument = this.CONSUME(T.ValueName);
        this.CONSUME(T.Colon);
        args.push({ inout, name: argument, type: this.SUBRULE(this.type) });
      },
    });
    this.CONSUME1(T.RightParen);
    this.CONSUME(T.Arrow);
    this.CONSUME2(T.LeftParen);
    this.MANY_SEP1({ SEP: T.Comma, DEF: () => void results.push(this.SUBRULE1(this.type)) });
    this.CONSUME2(T.RightParen);
    const attributes = this.OPTION1(() => this.SUBRULE(this.attributes)) ?? [];
    const span = this.SUBRULE(this.place);
    this.CONSUME(T.LeftBrace);
    return { kind, name, arguments: args, results, attributes, span };
  });

  readonly parameterLine: Rule<ParameterLine> = this.RULE('parameterLine', () => {
    const stored: number[] = [];
    const kind = this.OR([
      { ALT: () => (this.CONSUME(T.Param), 'parameter' as const) },
      { ALT: () => (this.CONSUME(T.Buffer), 'buffer' as const) },
    ]);
    const name = this.CONSUME(T.StringLiteral);
    this.CONSUME(T.Colon);
    const type = this.SUBRULE(this.type);
    this.CONSUME(T.Stored);
    this.CONSUME(T.LeftBracket);
    this.MANY_SEP({ SEP: T.Comma, DEF: () => void stored.push(this.SUBRULE(this.count)) });
    this.CONSUME(T.RightBracket);
    const span = this.SUBRULE(this.place);
    return { kind, name, text: this.unquote(name), type, stored, span };
  });

  readonly deriveLine: Rule<DeriveLine> = this.RULE('deriveLine', () => {
    this.CONSUME(T.Derive);
    const name = this.CONSUME(T.StringLiteral);
    this.CONSUME(T.Colon);
    const type = this.SUBRULE(this.type);
    this.CONSUME(T.Equals);
    const expression = this.SUBRULE(this.expression);
    const span = this.SUBRULE(this.place);
    return { name, text: this.unquote(name), type, expression, span };
  });

  readonly returnLine: Rule<ReturnLine> = this.RULE('returnLine', () => {
    const results: OperandNode[] = [];
    const finals: OperandNode[] = [];
    const word = this.CONSUME(T.Return);
    this.MANY_SEP({ SEP: T.Comma, DEF: () => void results.push(this.SUBRULE(this.operand)) });
    const semicolon =
      this.OPTION(() => {
        const mark = this.CONSUME(T.Semicolon);
        this.AT_LEAST_ONE_SEP({ SEP: T.Comma, DEF: () => void finals.push(this.SUBRULE1(this.operand)) });
        return mark;
      }) ?? null;
    return { word, results, finals, semicolon };
  });

  readonly opLine: Rule<OpLine> = this.RULE('opLine', () => {
    const results: IToken[] = [];
    const operands: OperandNode[] = [];
    const types: TypeNode[] = [];
    this.OPTION(() => {
      this.AT_LEAST_ONE_SEP({ SEP: T.Comma, DEF: () => void results.push(this.CONSUME(T.ValueName)) });
      this.CONSUME(T.Equals);
    });
    const op = this.CONSUME(T.Identifier);
    const callee = this.OPTION1(() => this.CONSUME(T.FunctionName)) ?? null;
    this.MANY_SEP({ SEP: T.Comma, DEF: () => void operands.push(this.SUBRULE(this.operand)) });
    const attributes = this.OPTION2(() => this.SUBRULE(this.attributes)) ?? [];
    this.OPTION3(() => {
      this.CONSUME(T.Colon);
      this.AT_LEAST_ONE_SEP1({ SEP: T.Comma, DEF: () => void types.push(this.SUBRULE(this.type)) });
    });
    const span = this.SUBRULE(this.place);
    return { results, op, callee, operands, attributes, types, span };
  });

  private readonly expression: Rule<ExpressionNode> = this.RULE('expression', () =>
    this.OR<ExpressionNode>([
      {
        ALT: () => {
          const from = this.CONSUME(T.Param);
          const to = this.CONSUME(T.StringLiteral);
          return { parameter: this.unquote(to), from, to };
        },
      },
      {
        ALT: () => {
          const operands: ExpressionNode[] = [];
          const op = this.CONSUME(T.Identifier);
          this.CONSUME(T.LeftParen);
          this.MANY_SEP({ SEP: T.Comma, DEF: () => void operands.push(this.SUBRULE(this.typedExpression)) });
          const to = this.CONSUME(T.RightParen);
          const attributes = this.OPTION(() => this.SUBRULE(this.attributes)) ?? [];
          return { op, operands, attributes, type: null, from: op, to };
        },
      },
    ]),
  );

  private readonly typedExpression: Rule<ExpressionNode> = this.RULE('typedExpression', () => {
    const expression = this.SUBRULE(this.expression);
    const type = this.OPTION(() => {
      this.CONSUME(T.Colon);
      return this.SUBRULE(this.type);
    });
    if (type === undefined || this.RECORDING_PHASE) return expression;
    if ('op' in expression) return { ...expression, type };
    const message = "a parameter's type stands at its declaration only";
    this.find({ code: 'ir/syntax', message, from: type.from, to: type.to, fix: 'leave the type out' });
    return expression;
  });

  private readonly operand: Rule<OperandNode> = this.RULE('operand', () =>
    this.OR<OperandNode>([
      {
        ALT: () => {
          const token = this.CONSUME(T.ValueName);
          return { kind: 'value', name: token.image.slice(1), from: token, to: token };
        },
      },
      { ALT: () => this.named('parameter', this.CONSUME(T.Param), this.CONSUME(T.StringLiteral)) },
      { ALT: () => this.named('buffer', this.CONSUME(T.Buffer), this.CONSUME1(T.StringLiteral)) },
      { ALT: () => this.named('derived', this.CONSUME(T.Derived), this.CONSUME2(T.StringLiteral)) },
    ]),
  );

  // One token decides, so that a type that ends early is reported where it ends; `state` alone is no dtype.
  private readonly type: Rule<TypeNode> = this.RULE('type', () =>
    this.OR<TypeNode>({
      MAX_LOOKAHEAD: 1,
      IGNORE_AMBIGUITIES: true,
      DEF: [
        {
          ALT: () => {
            const from = this.CONSUME(T.StateWord);
            const state = this.CONSUME(T.Identifier);
            const count = this.OPTION(() => {
              this.CONSUME(T.LeftBracket);
              const size = this.SUBRULE(this.count);
              return { size, to: this.CONSUME(T.RightBracket) };
            });
            const type: Type = { kind: 'state', state: state.image, count: count?.size ?? null };
            return { type, from, to: count?.to ?? state, dims: [], state };
          },
        },
        {
          ALT: () => {
            const levels: ScaleLevel[] = [];
            const dims: Dim[] = [];
            const names: IToken[] = [];
            const from = this.CONSUME1(T.Identifier);
            this.MANY(() => {
              const level = this.SUBRULE(this.scale);
              if (level) levels.push(level);
            });
            this.CONSUME1(T.LeftBracket);
            this.MANY_SEP({
              SEP: T.Comma,
              DEF: () => {
                const d = this.SUBRULE(this.dim);
                dims.push(d.dim);
                if (d.name) names.push(d.name);
              },
            });
            const to = this.CONSUME1(T.RightBracket);
            const type = this.RECORDING_PHASE ? null : typeOf(from, to, levels, dims, this.find);
            return { type, from, to, dims: names, state: null };
          },
        },
      ],
    }),
  );

  private readonly scale: Rule<ScaleLevel | null> = this.RULE('scale', () => {
    this.CONSUME(T.Less);
    const tile = this.OR([
      { ALT: () => this.CONSUME(T.Tile) },
      { ALT: () => this.CONSUME(T.NumberLiteral) },
      { ALT: () => this.CONSUME(T.Star) },
    ]);
    this.CONSUME(T.Semicolon);
    const format = this.CONSUME(T.Identifier);
    this.CONSUME(T.Greater);
    return this.RECORDING_PHASE ? null : scaleLevel(tile, format, this.find);
  });

  private readonly dim: Rule<{ dim: Dim; name: IToken | null }> = this.RULE('dim', () =>
    this.OR<{ dim: Dim; name: IToken | null }>([
      { ALT: () => ({ dim: dim(null, this.SUBRULE(this.count)), name: null }) },
      {
        ALT: () => {
          const name = this.SUBRULE(this.dimName);
          const size = this.OPTION(() => {
            this.CONSUME(T.Equals);
            return this.SUBRULE1(this.count);
          });
          return size === undefined
            ? { dim: dim(name.image), name }
            : { dim: dim(name.image, size), name: null };
        },
      },
    ]),
  );

  private readonly dimName: Rule<IToken> = this.RULE('dimName', () =>
    this.OR([{ ALT: () => this.CONSUME(T.Identifier) }, { ALT: () => this.CONSUME(T.DimName) }]),
  );

  private named(kind: OperandKind, from: IToken, to: IToken): OperandNode {
    return { kind, name: this.unquote(to), from, to };
  }
}

let shared: LineParser | null = null;

/** The one parser: building it analyses the grammar, which takes some milliseconds. */
export const lineParser = (): LineParser => (shared ??= new LineParser());
