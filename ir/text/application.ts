// Ops as written against their definitions: which op, which attributes, and what inference makes of it. Used for the
// ops of a body and for those in derived weights.
import type { IToken } from 'chevrotain';
import { inferOp } from '../builder.ts';
import type { Attributes, Function, Module, Value } from '../module.ts';
import { OpProblem, type InferContext, type OpDefinition } from '../ops/define.ts';
import { opNames, opTable } from '../ops/index.ts';
import { sameType, showType, type Type } from '../types.ts';
import type { AttributeNode, TypeNode } from './lines.ts';
import { attributeSpecs } from './printer.ts';
import type { Sink } from './sink.ts';
import { clip, didYouMean } from './spelling.ts';

/** What a function's lines refer to: the module as read so far. */
export interface ModuleScope {
  readonly module: Module;
  readonly dims: ReadonlySet<string>;
  readonly functions: ReadonlyMap<string, Function>;
  /** Functions whose text was wrong: calls of them are not reported again. */
  readonly broken: ReadonlySet<string>;
  /** Functions that stand anywhere in the text. */
  readonly written: ReadonlySet<string>;
  attributeRecord(nodes: readonly AttributeNode[]): Attributes;
  checkType(node: TypeNode, dims: ReadonlySet<string>, more?: ReadonlySet<string> | null): boolean;
}

/** Structure ops name the function they use; `call` and its kin are the only ops that do. */
const takesCallee = (op: string): boolean => op === 'call' || op === 'repeat' || op === 'launch';

/** An op as written, in a body or in a derived declaration. */
export interface Application {
  readonly op: IToken;
  readonly callee: IToken | null;
  readonly operands: readonly { readonly from: IToken; readonly to: IToken }[];
  readonly attributes: readonly AttributeNode[];
}

/** Checks applications in one function. Whoever gets null here knows that it has been reported. */
export class Applications {
  private readonly scope: ModuleScope;
  private readonly sink: Sink;
  private readonly caller: string;
  private readonly context: InferContext;

  /** `caller` is the function being read. */
  constructor(scope: ModuleScope, sink: Sink, caller: string) {
    this.scope = scope;
    this.sink = sink;
    this.caller = caller;
    this.context = {
      module: scope.module,
      callee: (f) => scope.functions.get(f) ?? unreachable(`callee @${f} was looked up before`),
    };
  }

  /** The op's definition; null, and reported, when there is no such op or its callee is wrong. */
  definition(node: Application): OpDefinition | null {
    const name = node.op.image;
    if (!Object.hasOwn(opTable, name)) {
      const fix = didYouMean(name, opNames()) ?? 'docs/IR.md lists every op';
      this.sink.at('ir/unknown-op', `there is no op ${clip(name)}`, node.op, { fix });
      return null;
    }
    if (takesCallee(name) !== (node.callee !== null)) {
      if (node.callee)
        this.sink.at('ir/syntax', `${name} uses no function`, node.callee, {
          fix: 'only call, repeat and launch do',
        });
      else
        this.sink.at('ir/syntax', `${name} needs a function`, node.op, {
          fix: `write ${name} @function %operand`,
        });
      return null;
    }
    if (node.callee && !this.calleeExists(node.callee)) return null;
    return opTable[name];
  }

  private calleeExists(token: IToken): boolean {
    const name = token.image.slice(1);
    if (this.scope.functions.has(name)) return true;
    if (this.scope.broken.has(name)) return false;
    const later = this.scope.written.has(name);
    this.sink.at(
      'ir/unknown-function',
      name === this.caller
        ? `@${name} uses itself`
        : later
          ? `@${name} stands after its caller`
          : `there is no function @${name}`,
      token,
      {
        fix: later
          ? name === this.caller
            ? 'a function can only use those that stand before it'
            : `move @${name} before @${this.caller}: callees stand before callers`
          : (didYouMean(name, this.scope.functions.keys(), (s) => `@${s}`) ??
            'callees stand before callers in the module'),
      },
    );
    return false;
  }

  /** Completed attributes when inference agrees with the types written; else null, and reported. */
  infer(
    definition: OpDefinition,
    node: Application,
    operands: readonly Value[],
    declared: readonly Type[],
    typeNodes: readonly TypeNode[],
    named: number,
  ): Attributes | null {
    const inferred = this.apply(definition, node, operands, declared.length > 0 ? declared : null);
    if (inferred === null) return null;
    const { types } = inferred;
    const spelled = types.map(showType).join(', ');
    if (types.length !== named) {
      this.sink.at(
        'ir/type',
        `${definition.name} gives ${counted(types.length, 'result')}, but ${named} ${named === 1 ? 'is' : 'are'} named`,
        node.op,
        {
          label: `gives ${spelled || 'nothing'}`,
          fix: types.length === 0 ? 'leave out the names and `=`' : 'name every result: `%a, %b = …`',
        },
      );
      return null;
    }
    if (declared.length !== types.length) {
      this.sink.at(
        'ir/type',
        declared.length === 0
          ? `the result types of ${definition.name} are missing`
          : `${definition.name} has ${counted(types.length, 'result')}, but ${counted(declared.length, 'type')} written`,
        node.op,
        {
          fix: types.length === 0 ? 'leave the types out' : `write : ${spelled}`,
        },
      );
      return null;
    }
    for (let i = 0; i < types.length; i++) {
      if (sameType(types[i], declared[i])) continue;
      this.sink.at(
        'ir/type',
        `${definition.name} gives ${showType(types[i])}, but ${showType(declared[i])} is written`,
        typeNodes[i].from,
        {
          to: typeNodes[i].to,
          label: `${definition.name} of ${operands.map((v) => showType(v.type)).join(' and ') || 'nothing'} gives ${showType(types[i])}`,
          fix: `write ${showType(types[i])}, or change the operands`,
        },
      );
      return null;
    }
    return inferred.attributes;
  }

  /** Runs inference and turns what it throws into a diagnostic at the operand or attribute it blames. */
  apply(
    definition: OpDefinition,
    node: Application,
    operands: readonly Value[],
    declared: readonly Type[] | null,
  ): { types: readonly Type[]; attributes: Attributes } | null {
    const written = this.scope.attributeRecord(node.attributes);
    if (!this.attributesExist(definition, node)) return null;
    const given = node.callee ? { callee: node.callee.image.slice(1), ...written } : written;
    try {
      return inferOp(definition.name, operands, given, declared, this.context);
    } catch (error) {
      if (error instanceof OpProblem) this.blame(definition, node, operands, error);
      else {
        // The rule itself failed: our bug, but the line that shows it is worth more than a stack.
        const why = error instanceof Error ? error.message : String(error);
        this.sink.at('ir/internal', `inference of ${definition.name} failed: ${why}`, node.op, {
          fix: 'this is a bug in dsvc, please report it',
        });
      }
      return null;
    }
  }

  private attributesExist(definition: OpDefinition, node: Application): boolean {
    if (node.attributes.length === 0) return true;
    const specs = attributeSpecs(definition.name);
    const known = Object.keys(specs).filter((name) => name !== 'callee' || !takesCallee(definition.name));
    const odd = node.attributes.find((a) => !known.includes(a.name));
    if (!odd) return true;
    this.sink.at('ir/attribute', `${definition.name} has no attribute ${clip(odd.name)}`, odd.from, {
      to: odd.to,
      fix: didYouMean(odd.name, known) ?? `it takes ${known.join(', ')}`,
    });
    return false;
  }

  private blame(
    definition: OpDefinition,
    node: Application,
    operands: readonly Value[],
    error: OpProblem,
  ): void {
    const attribute = node.attributes.find((a) => a.name === error.at);
    const isAttribute = error.at !== null && Object.hasOwn(attributeSpecs(definition.name), error.at);
    const callee = node.callee && this.scope.functions.get(node.callee.image.slice(1));
    const names = callee
      ? callee.arguments.map((a) => a.value.name)
      : definition.operands.map((o) => o.replace(/\?$|\.\.\.$/, ''));
    const index = error.at === null ? -1 : names.indexOf(error.at);
    const operand = node.operands[index];
    const at = attribute ?? operand ?? { from: node.op, to: node.op };
    this.sink.at(isAttribute ? 'ir/attribute' : 'ir/type', error.message, at.from, {
      to: at.to,
      ...(operand && !attribute ? { label: `this is ${showType(operands[index].type)}` } : {}),
      fix: error.fix ?? (isAttribute && !attribute ? `write {${error.at} = …}` : null),
    });
  }
}

/** `1 result`, `2 results`. */
const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

function unreachable(message: string): never {
  throw new Error(message);
}
