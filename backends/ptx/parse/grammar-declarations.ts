// The grammar of declarations, with chevrotain: registers, variables and the heads of functions.
import type { IToken } from 'chevrotain';
import type * as A from './ast.ts';
import { nameOf, type Rule } from './grammar-constants.ts';
import { numbersOf, OperandGrammar } from './grammar-operands.ts';
import { shown } from './messages.ts';
import * as T from './tokens.ts';

/** A dotted word without its dot. */
const wordOf = (token: IToken): string => token.image.slice(1);
export const unquoted = (token: IToken): string => token.image.replace(/^"|"$/g, '');

export const linkages: ReadonlySet<string> = new Set(['visible', 'weak', 'extern', 'common']);
export const spaces: ReadonlySet<string> = new Set(['global', 'shared', 'local', 'const', 'param', 'tex']);
const vectors: Readonly<Record<string, number>> = { v2: 2, v4: 4, v8: 8 };

/** What stands between a space and the first name. */
interface Traits {
  attributes: A.Attribute[];
  align: A.IntegerConstant | null;
  vector: number;
  type: string | null;
  pointer: { space: string | null; align: A.IntegerConstant | null } | null;
}

/** A function's parts before its body. */
export type FunctionHead = Omit<A.FunctionDeclaration, 'kind' | 'body' | 'from' | 'to'>;

export class DeclarationGrammar extends OperandGrammar {
  readonly registers: Rule<Pick<A.RegisterDeclaration, 'type' | 'vector' | 'names'>> = this.RULE(
    'registers',
    () => {
      const names: A.RegisterDeclaration['names'][number][] = [];
      const dot = this.CONSUME(T.DotWord);
      const traits = this.SUBRULE(this.traits);
      this.AT_LEAST_ONE_SEP({
        SEP: T.Comma,
        DEF: () => {
          const name = this.SUBRULE(this.anyName);
          const count =
            this.OPTION(() => {
              this.CONSUME(T.Less);
              const token = this.CONSUME(T.Integer);
              this.CONSUME(T.Greater);
              return this.ACTION(() => this.integerAt(token));
            }) ?? null;
          names.push({ name: name.name, count, from: name.from, to: name.to });
        },
      });
      return { type: this.ACTION(() => this.typeOf(traits, dot)), vector: traits.vector, names };
    },
  );

  readonly variables: Rule<Omit<A.VariableDeclaration, 'kind' | 'from' | 'to'>> = this.RULE(
    'variables',
    () => {
      const linkage: string[] = [];
      let space = '';
      let dot!: IToken;
      this.AT_LEAST_ONE({
        GATE: () => space === '',
        DEF: () => {
          dot = this.CONSUME(T.DotWord);
          this.ACTION(() => {
            const word = wordOf(dot);
            if (linkages.has(word)) linkage.push(word);
            else space = word;
          });
        },
      });
      const traits = this.SUBRULE(this.traits);
      const names: A.Declarator[] = [];
      this.AT_LEAST_ONE_SEP({
        SEP: T.Comma,
        DEF: () => void names.push(this.SUBRULE(this.declarator)),
      });
      const { attributes, align, vector } = traits;
      const type = this.ACTION(() => this.typeOf(traits, dot));
      return { linkage, space, attributes, align, vector, type, names };
    },
  );

  /** `.attribute(…) .align 16 .v4 .f32 .ptr .global .align 8`, in any order that is not ambiguous. */
  private readonly traits: Rule<Traits> = this.RULE('traits', () => {
    const traits: Traits = { attributes: [], align: null, vector: 1, type: null, pointer: null };
    this.MANY(() => {
      const token = this.CONSUME(T.DotWord);
      const values =
        this.OPTION(() =>
          this.OR<A.IntegerConstant | A.Attribute>([
            {
              ALT: () => {
                const number = this.CONSUME(T.Integer);
                return this.ACTION(() => this.integerAt(number));
              },
            },
            { ALT: () => this.SUBRULE(this.attribute) },
          ]),
        ) ?? null;
      this.ACTION(() => this.addTrait(traits, token, values));
    });
    return traits;
  });

  private addTrait(traits: Traits, token: IToken, value: A.IntegerConstant | A.Attribute | null): void {
    const word = wordOf(token);
    if (value !== null && 'name' in value) {
      if (word === 'attribute') traits.attributes.push(value);
      else this.find(`${token.image} takes no parentheses`, token, token);
      return;
    }
    if (word === 'align') {
      if (value === null) this.find('.align needs a number of bytes', token, token);
      else if (traits.pointer) traits.pointer.align = value;
      else traits.align = value;
      return;
    }
    if (value !== null) this.find(`${token.image} takes no number`, token, token);
    if (word === 'ptr') traits.pointer = { space: null, align: null };
    else if (traits.pointer && spaces.has(word)) traits.pointer.space = word;
    else if (Object.hasOwn(vectors, word)) traits.vector = vectors[word];
    else if (traits.type === null) traits.type = word;
    else this.find(`the type is .${traits.type} already`, token, token);
  }

  /** `(.managed)`, `(.unified(1, 2))` */
  private readonly attribute: Rule<A.Attribute> = this.RULE('attribute', () => {
    const values: A.Constant[] = [];
    this.CONSUME(T.LeftParen);
    const name = this.CONSUME(T.DotWord);
    this.OPTION(() => {
      this.CONSUME1(T.LeftParen);
      this.AT_LEAST_ONE_SEP({
        SEP: T.Comma,
        DEF: () => void values.push(this.SUBRULE(this.integerExpression)),
      });
      this.CONSUME(T.RightParen);
    });
    this.CONSUME1(T.RightParen);
    return { name: this.ACTION(() => wordOf(name)), values };
  });

  private readonly declarator: Rule<A.Declarator> = this.RULE('declarator', () => {
    const { name, from, to } = this.SUBRULE(this.anyName);
    const dims = this.SUBRULE(this.dims);
    const initialiser =
      this.OPTION(() => {
        this.CONSUME(T.Equals);
        return this.SUBRULE(this.initialiser);
      }) ?? null;
    return { name, dims, initialiser, from, to };
  });

  /** `[4][8]`, `[]`, or nothing: null. */
  private readonly dims: Rule<(A.IntegerConstant | null)[] | null> = this.RULE('dims', () => {
    const dims: (A.IntegerConstant | null)[] = [];
    this.MANY(() => {
      this.CONSUME(T.LeftBracket);
      dims.push(this.OPTION(() => this.SUBRULE(this.integerExpression)) ?? null);
      this.CONSUME(T.RightBracket);
    });
    return dims.length > 0 ? dims : null;
  });

  private readonly initialiser: Rule<A.Initialiser> = this.RULE('initialiser', () =>
    this.OR<A.Initialiser>([
      {
        ALT: () => {
          const token = this.CONSUME(T.NumberList);
          const piece = { from: token.startOffset, to: T.endOf(token) };
          return this.ACTION(() => ({ kind: 'items', items: numbersOf(token), ...piece }));
        },
      },
      {
        ALT: () => {
          const items: A.Initialiser[] = [];
          const open = this.CONSUME(T.LeftBrace);
          this.MANY_SEP({ SEP: T.Comma, DEF: () => void items.push(this.SUBRULE(this.initialiser)) });
          const close = this.CONSUME(T.RightBrace);
          return { kind: 'items', items, from: open.startOffset, to: T.endOf(close) };
        },
      },
      {
        // A byte of an address: 0xff00(symbol).
        GATE: () => this.LA(2).tokenType === T.LeftParen,
        ALT: () => {
          const token = this.CONSUME(T.Integer);
          this.CONSUME(T.LeftParen);
          const symbol = this.SUBRULE(this.symbolValue);
          const close = this.CONSUME(T.RightParen);
          return this.ACTION(() => ({
            ...symbol,
            mask: this.integerAt(token),
            from: token.startOffset,
            to: T.endOf(close),
          }));
        },
      },
      {
        ALT: () => {
          const node = this.SUBRULE(this.expression);
          return this.ACTION(() => this.constant(node));
        },
      },
      { ALT: () => this.SUBRULE1(this.symbolValue) },
    ]),
  );

  /** `symbol`, `symbol+4`, `generic(symbol)+4`. */
  private readonly symbolValue: Rule<A.SymbolValue> = this.RULE('symbolValue', () => {
    const word = this.SUBRULE(this.anyName);
    let inner: A.Name | undefined;
    let offset: A.IntegerConstant | null = null;
    this.OPTION(() => {
      this.CONSUME(T.LeftParen);
      inner = this.SUBRULE1(this.anyName);
      this.OPTION1(() => (offset = this.SUBRULE(this.offset)));
      this.CONSUME(T.RightParen);
    });
    this.OPTION2(() => (offset = this.SUBRULE1(this.offset)));
    this.ACTION(() => {
      if (inner && word.name !== 'generic')
        this.findings.push({
          message: `\`${shown(word.name)}\` is no operator: only generic(symbol) is`,
          from: word.from,
          to: word.to,
        });
    });
    const { name } = inner ?? word;
    return {
      kind: 'symbol' as const,
      name,
      generic: inner !== undefined,
      offset,
      mask: null,
      from: word.from,
      to: word.to,
    };
  });

  private integerAt(token: IToken): A.IntegerConstant {
    return this.integerConstant({
      value: this.literal(token),
      first: token,
      last: token,
    });
  }

  private typeOf(traits: Traits, dot: IToken): string {
    if (traits.type === null)
      this.find(`a type stands after ${dot.image}, as in ${dot.image} .b32`, dot, dot);
    return traits.type ?? 'b32';
  }

  // --- functions -----------------------------------------------------------------------------------------------------

  readonly functionHead: Rule<FunctionHead> = this.RULE('functionHead', () => {
    const linkage: string[] = [];
    const attributes: A.Attribute[] = [];
    const early: A.FunctionDirective[] = [];
    let isEntry: boolean | null = null;
    this.AT_LEAST_ONE(() => {
      const token = this.CONSUME(T.DotWord);
      const attribute = this.OPTION({
        GATE: () => token.image === '.attribute',
        DEF: () => this.SUBRULE(this.attribute),
      });
      this.ACTION(() => {
        const word = wordOf(token);
        if (attribute) attributes.push(attribute);
        else if (linkages.has(word)) linkage.push(word);
        else if (word === 'entry' || word === 'func') isEntry = word === 'entry';
        else early.push({ name: word, values: [], texts: [], from: token.startOffset, to: T.endOf(token) });
      });
    });
    const returns = this.OPTION1(() => this.SUBRULE(this.parameters)) ?? null;
    const { name } = this.SUBRULE(this.anyName);
    const parameters = this.OPTION2(() => this.SUBRULE1(this.parameters)) ?? null;
    const directives = this.SUBRULE(this.directives);
    return {
      linkage,
      attributes,
      isEntry: isEntry ?? false,
      name,
      returns,
      parameters,
      directives: this.ACTION(() => [...early, ...directives]),
    };
  });

  protected readonly parameters: Rule<A.Parameter[]> = this.RULE('parameters', () => {
    const parameters: A.Parameter[] = [];
    this.CONSUME(T.LeftParen);
    this.MANY_SEP({ SEP: T.Comma, DEF: () => void parameters.push(this.SUBRULE(this.parameter)) });
    this.CONSUME(T.RightParen);
    return parameters;
  });

  private readonly parameter: Rule<A.Parameter> = this.RULE('parameter', () => {
    const dot = this.CONSUME(T.DotWord);
    const traits = this.SUBRULE(this.traits);
    const { name, from, to } = this.OR([
      { ALT: () => this.SUBRULE(this.anyName) },
      // Prototypes do not name their parameters.
      {
        ALT: () => {
          const token = this.CONSUME(T.Sink);
          return this.ACTION(() => nameOf(token));
        },
      },
    ]);
    const dims = this.SUBRULE(this.dims);
    const { align, vector, pointer } = traits;
    const type = this.ACTION(() => this.typeOf(traits, dot));
    const space = this.ACTION(() => wordOf(dot));
    return { space, align, vector, type, pointer, name, dims, from, to };
  });

  protected readonly directives: Rule<A.FunctionDirective[]> = this.RULE('directives', () => {
    const directives: A.FunctionDirective[] = [];
    this.MANY(() => {
      const dot = this.CONSUME(T.DotWord);
      const values: A.IntegerConstant[] = [];
      const texts: string[] = [];
      this.OPTION(() =>
        this.OR([
          {
            ALT: () =>
              this.AT_LEAST_ONE_SEP({
                SEP: T.Comma,
                DEF: () => void values.push(this.SUBRULE(this.integerExpression)),
              }),
          },
          {
            ALT: () => {
              this.AT_LEAST_ONE_SEP1({
                SEP: T.Comma,
                DEF: () => void texts.push(unquoted(this.CONSUME(T.StringLiteral))),
              });
              this.CONSUME(T.Semicolon);
            },
          },
        ]),
      );
      this.ACTION(() =>
        directives.push({ name: wordOf(dot), values, texts, from: dot.startOffset, to: T.endOf(dot) }),
      );
    });
    return directives;
  });
}
