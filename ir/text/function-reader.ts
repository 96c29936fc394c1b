// Reads one function's lines: resolves names, infers every op and compares the result with the types written.
// A value whose line was wrong is known but empty (null): its uses are skipped in silence, so that one mistake is
// one message.
import type { IToken } from 'chevrotain';
import type {
  Argument,
  Attributes,
  Declaration,
  DeriveExpression,
  Function,
  FunctionKind,
  Op,
  Value,
} from '../module.ts';
import { noSpan, type Span } from '../span.ts';
import { sameType, showType, type TensorType, type Type } from '../types.ts';
import { Applications, type ModuleScope } from './application.ts';
import type {
  DeriveLine,
  ExpressionNode,
  HeaderLine,
  OperandKind,
  OperandNode,
  OpLine,
  ParameterLine,
  ReturnLine,
  TypeNode,
} from './lines.ts';
import type { Sink } from './sink.ts';
import { didYouMean } from './spelling.ts';
import { StringLiteral, ValueName } from './tokens.ts';

/** A name's value (null: its definition was wrong) and where it was defined. */
interface Entry {
  readonly value: Value | null;
  readonly at: IToken;
}

const operandWord: Readonly<Record<Exclude<OperandKind, 'value'>, string>> = {
  parameter: 'param',
  buffer: 'buffer',
  derived: 'derived',
};

export class FunctionReader {
  readonly nameToken: IToken;
  readonly name: string;
  private readonly scope: ModuleScope;
  private readonly sink: Sink;
  private readonly kind: FunctionKind;
  private readonly applications: Applications;
  private readonly values = new Map<string, Entry>();
  private readonly declared = new Map<string, Entry>();
  private readonly unknown = new Set<string>();
  private readonly ownDims = new Set<string>();
  private readonly arguments: Argument[] = [];
  private readonly declarations: Declaration[] = [];
  private readonly body: Op[] = [];
  private resultTypes: readonly TypeNode[] = [];
  /** The inout arguments; a type is null when it was wrong. */
  private readonly inout: { readonly name: string; readonly type: Type | null }[] = [];
  private attributes: Attributes = {};
  private span: Span = noSpan;
  private results: readonly Value[] = [];
  private finals: readonly Value[] = [];
  private opSeen = false;
  private returned: IToken | 'broken' | null = null;
  private sound = true;
  private headerSound = false;
  /** The header was wrong: unknown names are most likely its arguments. */
  private poisoned = false;

  constructor(scope: ModuleScope, sink: Sink, kind: FunctionKind, name: IToken) {
    this.scope = scope;
    this.sink = sink;
    this.kind = kind;
    this.nameToken = name;
    this.name = name.image.replace(/^@/, '');
    this.applications = new Applications(scope, sink, this.name);
  }

  poison(): void {
    this.poisoned = true;
    this.sound = false;
  }

  header(node: HeaderLine, attributes: Attributes): void {
    this.attributes = attributes;
    this.span = node.span;
    this.resultTypes = node.results;
    // A block's run-time dims are its parameters: whatever its arguments mention exists.
    if (this.kind !== 'entry')
      for (const a of node.arguments) for (const d of a.type.dims) this.ownDims.add(d.image);
    for (const a of node.arguments) {
      const fine = this.checkType(a.type);
      const value: Value | null =
        fine && a.type.type ? { name: a.name.image.slice(1), type: a.type.type, source: 'argument' } : null;
      if (a.inout) this.inout.push({ name: a.name.image, type: value?.type ?? null });
      if (this.define(a.name, value) && value) this.arguments.push({ value, inout: a.inout });
      else this.sound = false;
    }
    for (const type of node.results) this.checkType(type);
    this.headerSound = this.sound;
  }

  parameter(node: ParameterLine): void {
    if (!this.declarationMayStand(node.name)) return;
    const type = this.tensorType(node.type);
    const value = type && ({ name: node.text, type, source: node.kind } as const);
    if (this.declare(node.name, node.text, value) && value)
      this.declarations.push({ kind: node.kind, value, stored: node.stored, span: node.span });
  }

  derive(node: DeriveLine): void {
    if (!this.declarationMayStand(node.name)) return;
    const type = this.tensorType(node.type);
    const expression = this.expression(node.expression, type, true);
    const value = type && expression && ({ name: node.text, type, source: 'derived' } as const);
    if (this.declare(node.name, node.text, value) && value && expression)
      this.declarations.push({ kind: 'derived', value, expression, span: node.span });
  }

  /** Takes the name of a declaration whose line was wrong. */
  brokenDeclaration(tokens: readonly IToken[]): void {
    this.sound = false;
    const name = tokens[1];
    if (name?.tokenType !== StringLiteral) return;
    try {
      const text = String(JSON.parse(name.image));
      if (!this.declared.has(text)) this.declared.set(text, { value: null, at: name });
    } catch {
      // The literal itself was wrong and has been reported.
    }
  }

  /** Takes the result names of an op whose line was wrong. */
  brokenOp(tokens: readonly IToken[]): void {
    this.sound = false;
    this.opSeen = true;
    for (let i = 0; i < tokens.length && tokens[i].tokenType === ValueName; i += 2)
      if (!this.values.has(tokens[i].image.slice(1)))
        this.values.set(tokens[i].image.slice(1), { value: null, at: tokens[i] });
  }

  brokenReturn(): void {
    this.sound = false;
    this.returned = 'broken';
  }

  op(node: OpLine): void {
    if (this.returned !== null) {
      if (this.returned !== 'broken')
        this.wrong('ir/syntax', 'this op stands after the return', node.op, {
          notes: [{ message: 'the function returns here', at: this.returned }],
          fix: 'return is the last line of a function',
        });
      this.returned = 'broken';
    }
    this.opSeen = true;
    const operands = node.operands.map((o) => this.operand(o));
    const types = node.types.map((t) => (this.checkType(t) ? t.type : null));
    const definition = this.applications.definition(node);
    let attributes: Attributes | null = null;
    if (definition && operands.every((v) => v !== null) && types.every((t) => t !== null))
      attributes = this.applications.infer(
        definition,
        node,
        operands,
        types,
        node.types,
        node.results.length,
      );
    const results = node.results.map((token, i): Value | null => {
      const type = types[i] ?? null;
      const value = type && ({ name: token.image.slice(1), type, source: 'result' } as const);
      return this.define(token, value) ? value : null;
    });
    if (attributes && operands.every((v) => v !== null) && results.every((v) => v !== null))
      this.body.push({ op: node.op.image, operands, attributes, results, span: node.span });
    else this.sound = false;
  }

  returns(node: ReturnLine): void {
    if (this.returned !== null && this.returned !== 'broken')
      this.wrong('ir/syntax', `@${this.name} returns twice`, node.word, {
        notes: [{ message: 'it returns here first', at: this.returned }],
        fix: 'keep one return, as the last line',
      });
    this.returned = node.word;
    const results = node.results.map((o) => this.operand(o));
    const finals = node.finals.map((o) => this.operand(o));
    if (!this.poisoned) {
      this.checkCount(node.word, results.length, 'result', this.resultTypes.length, 'type in its header');
      this.checkCount(
        node.semicolon ?? node.word,
        finals.length,
        'final value',
        this.inout.length,
        'inout argument',
      );
    }
    results.forEach((v, i) => {
      const type = this.resultTypes[i]?.type;
      if (v && type) this.checkReturned(node.results[i], v, type, 'the header declares');
    });
    finals.forEach((v, i) => {
      const argument = this.inout[i];
      if (v && argument?.type) this.checkReturned(node.finals[i], v, argument.type, `${argument.name} is`);
    });
    if (results.every((v) => v !== null) && finals.every((v) => v !== null)) {
      this.results = results;
      this.finals = finals;
    } else this.sound = false;
  }

  /** The function; when its header was fine but its body was not, one that only calls can use; else null. */
  finish(brace: IToken | null): Function | null {
    if (this.returned === null && brace)
      this.wrong('ir/syntax', `@${this.name} does not return`, brace, {
        fix: 'write `return %a, %b; %final` before the `}` (a plain `return` without results)',
      });
    if (!this.headerSound) return null;
    const f: Function = {
      kind: this.kind,
      name: this.name,
      arguments: this.arguments,
      declarations: this.declarations,
      body: this.body,
      results: this.results,
      finals: this.finals,
      attributes: this.attributes,
      span: this.span,
    };
    if (this.sound) return f;
    const results = this.resultTypes.flatMap((node, i): Value[] =>
      node.type ? [{ name: `result${i}`, type: node.type, source: 'result' }] : [],
    );
    return { ...f, results, finals: this.arguments.filter((a) => a.inout).map((a) => a.value) };
  }

  private wrong(code: string, message: string, at: IToken, more: Parameters<Sink['at']>[3] = {}): void {
    this.sound = false;
    this.sink.at(code, message, at, more);
  }

  private checkType(node: TypeNode): boolean {
    const fine = this.scope.checkType(node, this.scope.dims, this.ownDims);
    if (!fine) this.sound = false;
    return fine;
  }

  private checkCount(at: IToken, count: number, what: string, wanted: number, why: string): void {
    if (count === wanted) return;
    this.wrong(
      'ir/type',
      `@${this.name} returns ${counted(count, what)}, but has ${counted(wanted, why)}`,
      at,
      {
        fix: 'return lists the results, then after `;` one final value per inout argument',
      },
    );
  }

  /** `why` says where the wanted type comes from. */
  private checkReturned(node: OperandNode, value: Value, wanted: Type, why: string): void {
    if (sameType(value.type, wanted)) return;
    const message = `@${this.name} returns ${showType(value.type)}, but ${why} ${showType(wanted)}`;
    this.wrong('ir/type', message, node.from, {
      to: node.to,
      fix: `return a value of type ${showType(wanted)}`,
    });
  }

  private tensorType(node: TypeNode): TensorType | null {
    if (!this.checkType(node) || node.type === null) return null;
    if (node.type.kind === 'tensor') return node.type;
    this.wrong('ir/type', `a weight is a tensor, not ${showType(node.type)}`, node.from, { to: node.to });
    return null;
  }

  private declarationMayStand(name: IToken): boolean {
    if (!this.opSeen && this.returned === null) return true;
    this.wrong('ir/syntax', 'declarations stand before the first op', name, {
      fix: 'move this line to the start of the function',
    });
    return true;
  }

  /** Takes a value's name, or reports that it is taken. */
  private define(token: IToken, value: Value | null): boolean {
    const name = token.image.slice(1);
    const before = this.values.get(name);
    if (before === undefined) {
      this.values.set(name, { value, at: token });
      if (value === null) this.sound = false;
      return true;
    }
    this.wrong('ir/duplicate-name', `${token.image} is defined twice`, token, {
      notes: [{ message: 'it is first defined here', at: before.at }],
      fix: `give one of them another name, such as ${token.image}.1`,
    });
    return false;
  }

  private declare(token: IToken, name: string, value: Value | null): boolean {
    const before = this.declared.get(name);
    if (before === undefined) {
      this.declared.set(name, { value, at: token });
      if (value === null) this.sound = false;
      return true;
    }
    this.wrong('ir/duplicate-name', `${token.image} is declared twice`, token, {
      notes: [{ message: 'it is first declared here', at: before.at }],
      fix: 'a function declares each of its weights once',
    });
    return false;
  }

  /** The value that an operand names; null, and reported unless its definition was wrong, when there is none. */
  private operand(node: OperandNode): Value | null {
    const { kind, name } = node;
    const entry = (kind === 'value' ? this.values : this.declared).get(name);
    if (entry !== undefined) {
      if (kind === 'value' || entry.value === null || entry.value.source === kind) return entry.value;
      const is = operandWord[entry.value.source as keyof typeof operandWord];
      this.wrong('ir/unknown-value', `${JSON.stringify(name)} is no ${operandWord[kind]}`, node.from, {
        to: node.to,
        notes: [{ message: `it is declared here as ${is}`, at: entry.at }],
        fix: `write ${is} ${JSON.stringify(name)}`,
      });
      return null;
    }
    this.sound = false;
    const key = `${kind} ${name}`;
    if (this.unknown.has(key) || (this.poisoned && kind === 'value')) return null;
    this.unknown.add(key);
    if (kind === 'value')
      this.wrong('ir/unknown-value', `there is no value %${name} before this line`, node.from, {
        fix:
          didYouMean(name, this.values.keys(), (s) => `%${s}`) ??
          'values are defined on a line before their first use',
      });
    else
      this.wrong('ir/unknown-value', `@${this.name} declares no weight ${JSON.stringify(name)}`, node.from, {
        to: node.to,
        fix:
          didYouMean(name, this.declared.keys(), (s) => JSON.stringify(s)) ??
          'declare it at the start of the function',
      });
    return null;
  }

  /** A derived weight's expression; `type` is the type written for it, or null when it is to be inferred. */
  private expression(
    node: ExpressionNode,
    type: TensorType | null,
    outermost: boolean,
  ): DeriveExpression | null {
    if ('parameter' in node) {
      const entry = this.declared.get(node.parameter);
      const value = this.operand({ kind: 'parameter', name: node.parameter, from: node.from, to: node.to });
      if (outermost && value && type && !sameType(value.type, type))
        this.wrong(
          'ir/type',
          `${JSON.stringify(node.parameter)} is ${showType(value.type)}, but ${showType(type)} is declared`,
          node.from,
          { to: node.to },
        );
      return value && entry ? { parameter: node.parameter } : null;
    }
    const operands = node.operands.map((o) =>
      this.expression(o, 'parameter' in o || !o.type ? null : this.tensorType(o.type), false),
    );
    const definition = this.applications.definition({ ...node, callee: null });
    if (!definition || operands.some((o) => o === null) || (outermost && type === null)) return null;
    const values = operands.map((o): Value => this.asValue(o!));
    const inferred = this.applications.apply(
      definition,
      { ...node, callee: null },
      values,
      type ? [type] : null,
    );
    if (inferred === null) return null;
    const [result] = inferred.types;
    if (inferred.types.length !== 1 || result.kind !== 'tensor') {
      this.wrong('ir/type', `${definition.name} does not give one tensor`, node.op, {
        fix: 'a derived weight is made of ops with one tensor result',
      });
      return null;
    }
    if (type && !sameType(result, type)) {
      this.wrong(
        'ir/type',
        `${definition.name} gives ${showType(result)}, but ${showType(type)} is written`,
        node.op,
        {
          label: `gives ${showType(result)}`,
          fix: `write ${showType(result)}`,
        },
      );
      return null;
    }
    return {
      op: definition.name,
      operands: operands.map((o) => o!),
      attributes: inferred.attributes,
      type: type ?? result,
    };
  }

  private asValue(e: DeriveExpression): Value {
    if ('parameter' in e)
      return this.declared.get(e.parameter)?.value ?? unreachable(`${e.parameter} was looked up before`);
    return { name: e.op, type: e.type, source: 'result' };
  }
}

/** `1 type in its header`, `2 types in its header`. */
const counted = (n: number, what: string): string =>
  `${n} ${n === 1 ? what : what.replace(/^(type|result|final value|inout argument)/, '$1s')}`;

function unreachable(message: string): never {
  throw new Error(message);
}
