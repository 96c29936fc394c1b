// The grammar of one statement of PTX, with chevrotain: an instruction, a declaration, a function's head, a directive.
// A statement is read by itself, so a mistake never reaches beyond it; ./parser.ts cuts the text into statements.
import type { IToken } from 'chevrotain';
import type * as A from './ast.ts';
import type { Rule } from './grammar-constants.ts';
import { DeclarationGrammar, unquoted } from './grammar-declarations.ts';
import * as T from './tokens.ts';

export type InstructionNode = Omit<A.PtxInstruction, 'kind' | 'from' | 'to'>;

export class StatementGrammar extends DeclarationGrammar {
  constructor() {
    super();
    this.performSelfAnalysis();
  }

  /** Reads a statement with a rule; null when it does not fit, and then `errors` has one entry. */
  read<R>(rule: Rule<R>, tokens: IToken[]): R | null {
    this.findings = [];
    this.input = tokens;
    const result = rule.call(this);
    return this.errors.length > 0 ? null : result;
  }

  // --- instructions --------------------------------------------------------------------------------------------------

  readonly instruction: Rule<InstructionNode> = this.RULE('instruction', () => {
    const guard = this.OPTION(() => this.SUBRULE(this.guard)) ?? null;
    const { opcode, opcodeAt } = this.SUBRULE(this.opcode);
    const operands: A.PtxOperand[] = [];
    this.MANY_SEP({ SEP: T.Comma, DEF: () => void operands.push(this.SUBRULE(this.operand)) });
    return { guard, opcode, opcodeAt, operands };
  });

  /** `call (result), function, (arguments), prototype`: all but the function may be left out. */
  readonly call: Rule<InstructionNode> = this.RULE('call', () => {
    const guard = this.OPTION(() => this.SUBRULE(this.guard)) ?? null;
    const { opcode, opcodeAt } = this.SUBRULE(this.opcode);
    const operands: A.PtxOperand[] = [];
    this.OPTION1(() => {
      operands.push(this.SUBRULE(this.list));
      this.CONSUME(T.Comma);
    });
    operands.push(this.SUBRULE(this.anyName));
    this.MANY(() => {
      this.CONSUME1(T.Comma);
      operands.push(
        this.OR<A.PtxOperand>([
          { ALT: () => this.SUBRULE1(this.list) },
          { ALT: () => this.SUBRULE1(this.anyName) },
        ]),
      );
    });
    return { guard, opcode, opcodeAt, operands };
  });

  private readonly guard: Rule<{ predicate: A.Name; negated: boolean }> = this.RULE('guard', () => {
    this.CONSUME(T.At);
    const negated = this.OPTION(() => this.CONSUME(T.Bang)) !== undefined;
    return { predicate: this.SUBRULE(this.anyName), negated };
  });

  private readonly opcode: Rule<{ opcode: string; opcodeAt: number }> = this.RULE('opcode', () => {
    const word = this.OR([{ ALT: () => this.CONSUME(T.Dotted) }, { ALT: () => this.CONSUME(T.Identifier) }]);
    let opcode = word.image;
    this.MANY(() => {
      opcode += this.CONSUME(T.DotWord).image;
    });
    return { opcode, opcodeAt: word.startOffset };
  });

  private readonly list: Rule<A.ListOperand> = this.RULE('list', () => {
    const items: A.PtxOperand[] = [];
    const open = this.CONSUME(T.LeftParen);
    this.MANY_SEP({ SEP: T.Comma, DEF: () => void items.push(this.SUBRULE(this.operand)) });
    const close = this.CONSUME(T.RightParen);
    return { kind: 'list' as const, items, from: open.startOffset, to: T.endOf(close) };
  });

  // --- functions' tables -----------------------------------------------------------------------------------------------

  readonly prototype: Rule<Omit<A.PrototypeDirective, 'kind' | 'from' | 'to'>> = this.RULE(
    'prototype',
    () => {
      const label = this.SUBRULE(this.anyName);
      this.CONSUME(T.Colon);
      this.CONSUME(T.DotWord);
      const returns = this.OPTION(() => this.SUBRULE(this.parameters)) ?? null;
      this.CONSUME(T.Sink);
      const parameters = this.OPTION1(() => this.SUBRULE1(this.parameters)) ?? null;
      const directives = this.SUBRULE(this.directives);
      return { label: label.name, returns, parameters, directives };
    },
  );

  readonly targets: Rule<{ label: string; names: A.Name[] }> = this.RULE('targets', () => {
    const names: A.Name[] = [];
    const label = this.SUBRULE(this.anyName);
    this.CONSUME(T.Colon);
    this.CONSUME(T.DotWord);
    this.AT_LEAST_ONE_SEP({ SEP: T.Comma, DEF: () => void names.push(this.SUBRULE1(this.anyName)) });
    return { label: label.name, names };
  });

  // --- module --------------------------------------------------------------------------------------------------------

  readonly version: Rule<{ major: number; minor: number }> = this.RULE('version', () => {
    this.CONSUME(T.DotWord);
    const [major, minor] = this.CONSUME(T.Float).image.split('.').map(Number);
    return { major, minor: minor ?? 0 };
  });

  readonly target: Rule<string[]> = this.RULE('target', () => {
    const names: string[] = [];
    this.CONSUME(T.DotWord);
    this.AT_LEAST_ONE_SEP({ SEP: T.Comma, DEF: () => void names.push(this.SUBRULE(this.anyName).name) });
    return names;
  });

  readonly addressSize: Rule<number> = this.RULE('addressSize', () => {
    this.CONSUME(T.DotWord);
    const token = this.CONSUME(T.Integer);
    return this.ACTION(() => Number(this.literal(token).value));
  });

  readonly alias: Rule<{ name: A.Name; of: A.Name }> = this.RULE('alias', () => {
    this.CONSUME(T.DotWord);
    const name = this.SUBRULE(this.anyName);
    this.CONSUME(T.Comma);
    return { name, of: this.SUBRULE1(this.anyName) };
  });

  readonly pragma: Rule<string[]> = this.RULE('pragma', () => {
    const texts: string[] = [];
    this.CONSUME(T.DotWord);
    this.AT_LEAST_ONE_SEP({
      SEP: T.Comma,
      DEF: () => void texts.push(unquoted(this.CONSUME(T.StringLiteral))),
    });
    return texts;
  });

  readonly fileLine: Rule<Pick<A.FileDirective, 'index' | 'name' | 'values'>> = this.RULE('fileLine', () => {
    const values: A.IntegerConstant[] = [];
    this.CONSUME(T.DotWord);
    const index = this.CONSUME(T.Integer);
    const name = this.CONSUME(T.StringLiteral);
    this.MANY(() => {
      this.CONSUME(T.Comma);
      values.push(this.SUBRULE(this.integerExpression));
    });
    return { index: this.ACTION(() => Number(this.literal(index).value)), name: unquoted(name), values };
  });

  readonly loc: Rule<Pick<A.LocDirective, 'file' | 'line' | 'column' | 'functionName' | 'inlinedAt'>> =
    this.RULE('loc', () => {
      this.CONSUME(T.DotWord);
      const place = this.SUBRULE(this.locPlace);
      let functionName: A.Name | A.NameOffset | null = null;
      let inlinedAt: readonly [number, number, number] | null = null;
      this.MANY(() => {
        this.CONSUME(T.Comma);
        const word = this.CONSUME(T.Identifier);
        this.OR([
          {
            GATE: () => word.image === 'function_name',
            ALT: () => {
              functionName = this.SUBRULE(this.operand) as A.Name | A.NameOffset;
            },
          },
          {
            GATE: () => word.image === 'inlined_at',
            ALT: () => {
              inlinedAt = this.SUBRULE1(this.locPlace);
            },
          },
        ]);
      });
      const [file, line, column] = this.ACTION(() => place) ?? [0, 0, 0];
      return { file, line, column, functionName, inlinedAt };
    });

  private readonly locPlace: Rule<readonly [number, number, number]> = this.RULE('locPlace', () => {
    const a = this.CONSUME(T.Integer);
    const b = this.CONSUME1(T.Integer);
    const c = this.CONSUME2(T.Integer);
    return this.ACTION(
      () =>
        [
          Number(this.literal(a).value),
          Number(this.literal(b).value),
          Number(this.literal(c).value),
        ] as const,
    );
  });
}
