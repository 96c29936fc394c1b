// A function's body: first everything that is declared in it gets its meaning, then every instruction is decoded. The two
// walks go through blocks in the same order, so the scopes of the first are found again by their count.
import type { Block, FunctionDeclaration, Piece, PtxInstruction, Statement } from '../parse/ast.ts';
import { printOperand } from '../parse/print.ts';
import { checkForms } from './check-form.ts';
import { declare, type Context } from './context.ts';
import { declareRegisters, declareVariables, layOutParameters, type Later } from './declarations.ts';
import { limitsOf } from './limits.ts';
import type { Opcode, Opcodes } from './opcodes.ts';
import { elementSize, mostOperands, OperandResolver, Registers } from './operands.ts';
import type {
  DecodedFunction,
  DecodedInstruction,
  DecodedOperand,
  DecodedParameter,
  Signature,
} from './program.ts';
import { Scope } from './scope.ts';

const noLoc = { file: 0, line: 0, column: 0 };

export class FunctionDecoder {
  readonly #context: Context;
  readonly #opcodes: Opcodes;
  readonly #elementSizes: Map<number, number>;
  readonly #name: string;
  readonly #signature: Signature;
  readonly #registers = new Registers();
  readonly #resolver: OperandResolver;
  readonly #scopes: Scope[] = [];
  readonly #branchTables: number[][] = [];
  readonly #prototypes: Signature[] = [];
  readonly #instructions: DecodedInstruction[] = [];
  /** Jump targets can be looked up when all labels are known. */
  readonly #tables: (() => void)[] = [];
  #next = 0;
  #loc: DecodedInstruction['loc'] = noLoc;

  constructor(
    context: Context,
    opcodes: Opcodes,
    elementSizes: Map<number, number>,
    name: string,
    signature: Signature,
  ) {
    this.#context = context;
    this.#opcodes = opcodes;
    this.#elementSizes = elementSizes;
    this.#name = name;
    this.#signature = signature;
    this.#resolver = new OperandResolver(context, this.#registers, elementSizes);
  }

  /** First walk. `f` has a body. */
  declare(f: FunctionDeclaration, later: Later[]): void {
    const scope = new Scope(this.#context.module);
    const places: readonly (readonly [readonly DecodedParameter[], readonly Piece[], boolean])[] = [
      [this.#signature.parameters, f.parameters ?? [], false],
      [this.#signature.returns, f.returns ?? [], true],
    ];
    for (const [parameters, pieces, isReturn] of places)
      parameters.forEach((p, index) =>
        declare(this.#context, scope, p.name, { kind: 'parameter', index, isReturn }, pieces[index]),
      );
    this.#declareBlock(f.body!, scope, later);
    for (const fill of this.#tables) fill();
  }

  /** Second walk. */
  decode(
    f: FunctionDeclaration,
  ): Pick<
    DecodedFunction,
    'registers' | 'registerNames' | 'branchTables' | 'prototypes' | 'instructions' | 'limits'
  > {
    this.#next = 0;
    this.#decodeBlock(f.body!);
    if (this.#registers.counts.some((count) => count > 200_000))
      this.#context.sink.report('ptx/declaration', `\`${f.name}\` uses more than 200,000 registers`, f);
    return {
      limits: limitsOf(this.#context, f.directives),
      registers: this.#registers.counts,
      registerNames: this.#registers.names,
      branchTables: this.#branchTables,
      prototypes: this.#prototypes,
      instructions: this.#instructions,
    };
  }

  // --- declarations --------------------------------------------------------------------------------------------------

  #declareBlock(block: Block, scope: Scope, later: Later[]): void {
    this.#scopes.push(scope);
    for (const s of block.statements) {
      if (s.kind === 'instruction') this.#next++;
      else if (s.kind === 'block') this.#declareBlock(s, new Scope(scope), later);
      else this.#declareStatement(s, scope, later);
    }
  }

  #declareStatement(s: Exclude<Statement, Block | PtxInstruction>, scope: Scope, later: Later[]): void {
    const context = this.#context;
    switch (s.kind) {
      case 'label':
        declare(context, scope, s.name, { kind: 'label', instruction: this.#next }, s);
        break;
      case 'registers':
        declareRegisters(context, scope, s);
        break;
      case 'variables': {
        const first = context.variables.length;
        declareVariables(context, scope, this.#name, s, later);
        for (let i = first; i < context.variables.length; i++)
          this.#elementSizes.set(i, elementSize(s.type, s.vector));
        break;
      }
      case 'branchTargets': {
        const table: number[] = [];
        const index = this.#branchTables.push(table) - 1;
        declare(context, scope, s.label, { kind: 'branchTable', index }, s);
        this.#tables.push(() => {
          for (const name of s.names) {
            const target = scope.find(name.name);
            if (target?.kind === 'label') table.push(target.instruction);
            else this.#resolver.undefinedName(name, scope, 'label');
          }
        });
        break;
      }
      case 'callTargets': {
        // All targets have one signature: the first one's stands for them.
        const index = this.#prototypes.push({ parameters: [], returns: [] }) - 1;
        declare(context, scope, s.label, { kind: 'prototype', index }, s);
        this.#tables.push(() => {
          for (const name of s.names) {
            const target = scope.find(name.name);
            if (target?.kind !== 'function') this.#resolver.undefinedName(name, scope, 'function');
            else if (name === s.names[0]) {
              const { parameters, returns } = context.functions[target.index];
              this.#prototypes[index] = { parameters, returns };
            }
          }
        });
        break;
      }
      case 'callPrototype': {
        const parameters = layOutParameters(context, s.parameters ?? []);
        const returns = layOutParameters(context, s.returns ?? []);
        const index = this.#prototypes.push({ parameters, returns }) - 1;
        declare(context, scope, s.label, { kind: 'prototype', index }, s);
        break;
      }
      // Places and debug data mean nothing here.
      default:
    }
  }

  // --- instructions --------------------------------------------------------------------------------------------------

  #decodeBlock(block: Block): void {
    const scope = this.#scopes[this.#next++];
    for (const s of block.statements) {
      if (this.#context.sink.full) return;
      if (s.kind === 'instruction') this.#instruction(s, scope);
      else if (s.kind === 'block') this.#decodeBlock(s);
      else if (s.kind === 'loc')
        this.#loc = { file: s.file >>> 0, line: s.line >>> 0, column: Math.min(s.column, 0xffff) };
    }
  }

  #instruction(s: PtxInstruction, scope: Scope): void {
    const opcode = this.#opcodes.find(s.opcode, s.opcodeAt);
    const operands = opcode && this.#operands(s, opcode, scope);
    let guard: DecodedInstruction['guard'] = null;
    if (s.guard) {
      const { predicate, negated } = s.guard;
      const register = this.#resolver.name(predicate, scope);
      if (register?.kind === 'register' && register.class === 0)
        guard = { predicate: register.index, negated };
      else if (register)
        this.#report('ptx/operand-type', `a guard is a predicate, and ${predicate.name} is none`, predicate);
    }
    if (!opcode || !operands) return;
    const { line, column } = this.#context.sink.lines.place(s.opcodeAt);
    this.#instructions.push({
      mnemonic: opcode.number,
      modifiers: opcode.modifiers,
      guard,
      line,
      column: Math.min(column, 0xffff),
      loc: this.#loc,
      operands,
    });
  }

  #operands(s: PtxInstruction, opcode: Opcode, scope: Scope): DecodedOperand[] | null {
    if (opcode.mnemonic === 'call') return this.#call(s, scope);
    const count = s.operands.length;
    if (count < opcode.least || count > opcode.most) {
      const { least, most } = opcode;
      const takes = least === most ? `${least}` : `${least} to ${most}`;
      this.#report('ptx/operand-count', `${s.opcode} takes ${takes} operands, not ${count}`, s);
      return null;
    }
    const misfit = checkForms(opcode.mnemonic, opcode.matches, s.operands, (name) => scope.find(name));
    if (misfit) {
      this.#report('ptx/operand-type', `${s.opcode}: ${misfit.message}`, misfit.operand);
      return null;
    }
    // mov and cvta take the address of an element, everything else what lies there.
    const addresses = opcode.mnemonic !== 'mov' && opcode.mnemonic !== 'cvta';
    const operands: DecodedOperand[] = [];
    for (const operand of s.operands) {
      const isJump = opcode.mnemonic === 'bra' && operand.kind === 'name';
      const resolved = isJump
        ? this.#resolver.name(operand, scope, 'label')
        : this.#resolver.resolve(operand, scope, addresses);
      if (resolved) operands.push(resolved);
    }
    if (operands.length < count) return null;
    return this.#checkTargets(s, opcode, operands);
  }

  /** Branches name labels, and nothing else does. */
  #checkTargets(s: PtxInstruction, opcode: Opcode, operands: DecodedOperand[]): DecodedOperand[] | null {
    for (const [i, operand] of operands.entries()) {
      const wanted =
        opcode.mnemonic === 'bra' ? 'label' : opcode.mnemonic === 'brx' && i === 1 ? 'branchTable' : null;
      const isTarget =
        operand.kind === 'label' || operand.kind === 'branchTable' || operand.kind === 'prototype';
      if (wanted === null ? !isTarget : operand.kind === wanted) continue;
      const shown = printOperand(s.operands[i]);
      const message =
        wanted === 'label'
          ? `${s.opcode} jumps to a label, and ${shown} is none`
          : wanted
            ? `${s.opcode} needs the label of a .branchtargets, and ${shown} is none`
            : `${s.opcode} takes no label, and ${shown} is one`;
      this.#report('ptx/operand-type', message, s.operands[i]);
      return null;
    }
    return operands;
  }

  /** `call (returns), callee, (arguments), prototype` */
  #call(s: PtxInstruction, scope: Scope): DecodedOperand[] | null {
    const rest = [...s.operands];
    const returns = rest[0]?.kind === 'list' ? rest.shift() : undefined;
    const callee = rest.shift();
    const values = rest[0]?.kind === 'list' ? rest.shift() : undefined;
    const prototype = rest.shift();
    if (callee?.kind !== 'name' || rest.length > 0 || prototype?.kind === 'list') {
      this.#report(
        'ptx/operand-count',
        'a call is written call (returns), function, (arguments), prototype',
        s,
      );
      return null;
    }
    const target = this.#resolver.name(callee, scope, callee.name[0] === '%' ? 'register' : 'function');
    const given = returns
      ? this.#resolver.resolve(returns, scope, false)
      : { kind: 'vector' as const, items: [] };
    const passed = values
      ? this.#resolver.resolve(values, scope, false)
      : { kind: 'vector' as const, items: [] };
    const type = prototype?.kind === 'name' ? this.#resolver.name(prototype, scope) : null;
    if (target === null || given?.kind !== 'vector' || passed?.kind !== 'vector') return null;
    if (prototype && type === null) return null;
    let signature: Signature;
    if (target.kind === 'function') {
      const { isEntry, ...called } = this.#context.functions[target.index];
      if (isEntry) {
        this.#report(
          'ptx/operand-type',
          `${callee.name} is a kernel (.entry): only functions can be called`,
          callee,
        );
        return null;
      }
      signature = called;
    } else if (target.kind === 'register' && type?.kind === 'prototype')
      signature = this.#prototypes[type.index];
    else {
      const message =
        target.kind === 'register'
          ? 'an indirect call needs the label of a .callprototype or .calltargets'
          : `${callee.name} is neither a function nor a register`;
      this.#report('ptx/operand-type', message, callee);
      return null;
    }
    const open = signature.parameters.at(-1)?.size === 0;
    const [wantsIn, wantsOut] = [signature.parameters.length, signature.returns.length];
    const fits = open ? passed.items.length >= wantsIn - 1 : passed.items.length === wantsIn;
    if (!fits || given.items.length !== wantsOut || passed.items.length > mostOperands) {
      const message = `${callee.name} takes ${wantsIn} and returns ${wantsOut} values, not ${passed.items.length} and ${given.items.length}`;
      this.#report('ptx/operand-count', message, s);
      return null;
    }
    return [given, target, passed, ...(target.kind === 'register' && type ? [type] : [])];
  }

  #report(code: string, message: string, at: Piece): void {
    this.#context.sink.report(code, message, at);
  }
}
