// Writes one kernel. Mnemonics are properties (k.fma.rn.f32(d, a, b, c)) that come from the instruction table, typed by
// mnemonics.ts; every call is checked against the table again, because a register array has no static length and a
// kernel writer may compute a mnemonic. Registers, labels, parameters and shared memory are declared as they are asked for.
import type {
  Instruction,
  KernelParameterDeclaration,
  PtxKernel,
  SharedVariable,
  SourcePlace,
  Statement,
} from './ast.ts';
import { checkInstruction, operandType } from './check.ts';
import { FormIndex, type Form } from './form.ts';
import { instructions } from './instructions.ts';
import type { Mnemonics } from './mnemonics.ts';
import { showOperand, type Label, type Operand, type Reg, type Sym } from './operands.ts';
import { registerPrefixes, type RegClass } from './types.ts';

/** Structurally ir's Span: where in the author's file something was written; `file` is '' when nobody wrote it. */
export interface PlaceLike {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface KernelOptions {
  /** Threads per CTA, exactly: printed as `.reqntid`. */
  readonly threads: number;
  /** Registers per thread at launch; with `setmaxnreg` this or `minCtasPerSm` must be given, or ptxas ignores it. */
  readonly maxRegisters?: number;
  readonly minCtasPerSm?: number;
}

/** A run-time loop's two labels. */
export interface Loop {
  /** The loop's first instruction: branch here to start the next round. */
  readonly again: Label;
  /** The first instruction after the loop. */
  readonly done: Label;
}

const index = new FormIndex(instructions);
type ChainNode = ((...operands: Operand[]) => void) & Record<string, unknown>;
/** `shared::cta` and `2d` as property names; the inverse of what mnemonics.ts types. */
const propertyOf = (word: string): string => (/^\d/.test(word) ? `_${word}` : word.replaceAll('::', '_'));

export class KernelBuilder {
  readonly #name: string;
  readonly #options: KernelOptions;
  readonly #use: (form: Form) => void;
  readonly #parameters: KernelParameterDeclaration[] = [];
  readonly #registers = new Map<string, { type: RegClass; count: number }>();
  readonly #shared: SharedVariable[] = [];
  readonly #body: Statement[] = [];
  readonly #labels = new Map<string, number>();
  readonly #placed = new Set<string>();
  #guard: Instruction['guard'];
  #place: SourcePlace | undefined;

  constructor(name: string, options: KernelOptions, use: (form: Form) => void) {
    this.#name = name;
    this.#options = options;
    this.#use = use;
    for (const opcode of Object.keys(instructions))
      this.#grow(this as unknown as ChainNode, opcode, opcode, []);
  }

  /** Adds a property that makes its own node when first read: a kernel touches about a hundred of thousands. */
  #grow(node: ChainNode, property: string, opcode: string, modifiers: readonly string[]): void {
    Object.defineProperty(node, property, {
      configurable: true,
      enumerable: true,
      get: () => {
        const child = ((...operands: Operand[]) => this.emit(opcode, modifiers, operands)) as ChainNode;
        for (const word of index.following(opcode, modifiers))
          this.#grow(child, propertyOf(word), opcode, [...modifiers, word]);
        Object.defineProperty(node, property, { value: child, enumerable: true });
        return child;
      },
    });
  }

  /** Emits one instruction by its words; throws when the table has no such mnemonic or an operand does not fit. */
  emit(opcode: string, modifiers: readonly string[], operands: readonly Operand[]): void {
    const mnemonic = [opcode, ...modifiers].join('.');
    const shown = (): string => `${mnemonic} ${operands.map((o) => showOperand(o)).join(', ')}`;
    const matches = index.matches(opcode, modifiers);
    if (matches.length === 0) throw new Error(`ptx: ${this.#name}: no instruction ${mnemonic}`);
    const result = checkInstruction(matches, operands);
    if ('problem' in result) throw new Error(`ptx: ${this.#name}: ${shown()}: ${result.problem}`);
    const { form, bindings } = result.match;
    this.#use(form);
    this.#body.push({
      kind: 'instruction',
      ...(this.#guard ? { guard: this.#guard } : {}),
      opcode,
      modifiers,
      operands: operands.map((operand, i) => asAddress(operand, form.operands[i]!.kind)),
      types: operands.map((_, i) => operandType(form.operands[i]!, bindings)),
      ...(this.#place ? { place: this.#place } : {}),
    });
  }

  /** A new register of a class; `name` gives it a readable name (`%stage0`), shared names are numbered on. */
  reg<C extends RegClass>(type: C, name: string = registerPrefixes[type]): Reg<C> {
    const known = this.#registers.get(name);
    if (known && known.type !== type)
      throw new Error(`ptx: ${this.#name}: registers %${name} are ${known.type}, not ${type}`);
    if (!/^[A-Za-z_]+$/.test(name))
      throw new Error(`ptx: ${this.#name}: ${JSON.stringify(name)} is no register prefix`);
    const group = known ?? { type, count: 0 };
    this.#registers.set(name, group);
    return { kind: 'reg', type, name: `%${name}${group.count++}` };
  }

  /** `count` new registers of a class. */
  regs<C extends RegClass>(type: C, count: number, name?: string): Reg<C>[] {
    return Array.from({ length: count }, () => this.reg(type, name));
  }

  /** Declares a scalar kernel parameter; read it with `ld.param`. Parameters keep the order of their declaration. */
  param(name: string, type: 'u32' | 's32' | 'u64' | 'f32'): Sym<'param'> {
    return this.#declareParameter({ name, type });
  }

  /** Declares a 64-bit pointer parameter and loads it: a global address. */
  pointer(name: string): Reg<'u64'> {
    const symbol = this.#declareParameter({ name, type: 'u64' });
    const raw = this.reg('u64');
    const address = this.reg('u64', name);
    this.emit('ld', ['param', 'u64'], [raw, symbol]);
    this.emit('cvta', ['to', 'global', 'u64'], [address, raw]);
    return address;
  }

  /** Declares a tensor map parameter and gives its generic address, which is what TMA instructions take. */
  tensorMap(name: string): Reg<'u64'> {
    const symbol = this.#declareParameter({ name, type: 'tensorMap' });
    const raw = this.reg('u64');
    const address = this.reg('u64', name);
    this.emit('mov', ['u64'], [raw, symbol]);
    this.emit('cvta', ['param', 'u64'], [address, raw]);
    return address;
  }

  #declareParameter(declaration: KernelParameterDeclaration): Sym<'param'> {
    const name = `${this.#name}_${declaration.name}`;
    if (this.#parameters.some((p) => p.name === name))
      throw new Error(`ptx: ${this.#name}: two parameters are called ${declaration.name}`);
    this.#parameters.push({ ...declaration, name });
    return { kind: 'symbol', space: 'param', name };
  }

  /** Static shared memory; the 48 KiB that a launch may have without opting in are its limit. */
  sharedVariable(name: string, bytes: number, align: number): Sym<'shared'> {
    return this.#declareShared({ name: `${this.#name}_${name}`, bytes, align });
  }

  /** The launch's dynamic shared memory, up to 227 KiB: one symbol, which the kernel divides itself. */
  dynamicShared(align = 1024): Sym<'shared'> {
    return this.#declareShared({ name: `${this.#name}_shared`, bytes: undefined, align });
  }

  #declareShared(variable: SharedVariable): Sym<'shared'> {
    if (this.#shared.some((s) => s.name === variable.name))
      throw new Error(`ptx: ${this.#name}: ${variable.name} is declared twice`);
    this.#shared.push(variable);
    return { kind: 'symbol', space: 'shared', name: variable.name };
  }

  /** A new label; it stands nowhere until `place`. */
  label(hint: string): Label {
    const n = this.#labels.get(hint) ?? 0;
    this.#labels.set(hint, n + 1);
    return { kind: 'label', name: `$${hint}${n === 0 ? '' : `_${n}`}` };
  }

  place(label: Label): void {
    if (this.#placed.has(label.name)) throw new Error(`ptx: ${this.#name}: label ${label.name} stands twice`);
    this.#placed.add(label.name);
    this.#body.push({ kind: 'label', name: label.name });
  }

  comment(text: string): void {
    this.#body.push({ kind: 'comment', text });
  }

  /** What follows was written there; a span without a file (nobody wrote it) ends the previous place. */
  at(span: PlaceLike): void {
    this.#place = span.file === '' ? undefined : { file: span.file, line: span.line, column: span.column };
  }

  /** Predicates every instruction of `body` with `@p`. For more than a few instructions use `branch`. */
  when(predicate: Reg<'pred'>, body: () => void): void {
    this.#guarded({ predicate, negated: false }, body);
  }

  /** Predicates every instruction of `body` with `@!p`. */
  unless(predicate: Reg<'pred'>, body: () => void): void {
    this.#guarded({ predicate, negated: true }, body);
  }

  #guarded(guard: NonNullable<Instruction['guard']>, body: () => void): void {
    if (this.#guard)
      throw new Error(`ptx: ${this.#name}: predicates do not nest; combine them with and.pred`);
    this.#guard = guard;
    try {
      body();
    } finally {
      this.#guard = undefined;
    }
  }

  /** Runs `body` only where `p` holds, by a branch around it. */
  branch(predicate: Reg<'pred'>, hint: string, body: () => void): void {
    const skip = this.label(`${hint}_skip`);
    this.unless(predicate, () => this.emit('bra', [], [skip]));
    body();
    this.place(skip);
  }

  /** A run-time loop: `body` branches to `done` to leave it. */
  loop(hint: string, body: (loop: Loop) => void): void {
    const again = this.label(hint);
    const done = this.label(`${hint}_done`);
    this.place(again);
    body({ again, done });
    this.emit('bra', [], [again]);
    this.place(done);
  }

  /** The kernel as data; throws when a branch goes to a label that stands nowhere. */
  finish(): PtxKernel {
    for (const s of this.#body) {
      if (s.kind !== 'instruction' || s.opcode !== 'bra') continue;
      const target = (s.operands[0] as Label).name;
      if (!this.#placed.has(target)) throw new Error(`ptx: ${this.#name}: label ${target} stands nowhere`);
    }
    const { threads, maxRegisters, minCtasPerSm } = this.#options;
    return {
      name: this.#name,
      parameters: this.#parameters,
      directives: [
        `.reqntid ${threads}, 1, 1`,
        ...(maxRegisters === undefined ? [] : [`.maxnreg ${maxRegisters}`]),
        ...(minCtasPerSm === undefined ? [] : [`.minnctapersm ${minCtasPerSm}`]),
      ],
      registers: [...this.#registers].map(([prefix, { type, count }]) => ({ prefix, type, count })),
      shared: this.#shared,
      body: this.#body,
    };
  }
}

/** A bare register or symbol where an address is asked for means offset 0. */
function asAddress(operand: Operand, kind: string): Operand {
  if (kind !== 'addr' || typeof operand !== 'object' || Array.isArray(operand)) return operand;
  const single = operand as Reg | Sym | { kind: 'address' };
  return single.kind === 'reg' || single.kind === 'symbol'
    ? { kind: 'address', base: single, offset: 0 }
    : operand;
}

/** The builder with its mnemonics. */
export type Kernel = KernelBuilder & Mnemonics<typeof instructions>;
