// PTX text to the program that the emulator loads.
import type { Diagnostic } from '../../../ir/diagnostics.ts';
import type {
  AddressSizeDirective,
  FunctionDeclaration,
  ModuleStatement,
  PtxModule,
  TargetDirective,
  VersionDirective,
} from '../parse/ast.ts';
import { readModule } from '../parse/parser.ts';
import type { Sink } from '../parse/sink.ts';
import { declare, type Context } from './context.ts';
import { declareVariables, layOutParameters, type Later } from './declarations.ts';
import { encodeProgram } from './encode.ts';
import { FunctionDecoder } from './function.ts';
import { limitsOf } from './limits.ts';
import { Opcodes } from './opcodes.ts';
import { elementSize } from './operands.ts';
import type { DecodedFunction, DecodedProgram } from './program.ts';
import { Scope } from './scope.ts';

export { describeProgram } from './describe.ts';
export { encodeProgram } from './encode.ts';
export { readProgram } from './read.ts';
export type * from './program.ts';

/** A function and, where it has a body, what decodes it. */
interface Defined {
  readonly index: number;
  readonly declaration: FunctionDeclaration;
  readonly decoder: FunctionDecoder;
}

class ModuleDecoder {
  readonly #context: Context;
  readonly #opcodes: Opcodes;
  readonly #elementSizes = new Map<number, number>();
  readonly #later: Later[] = [];
  readonly #defined: Defined[] = [];

  constructor(sink: Sink) {
    this.#context = {
      sink,
      module: new Scope(null),
      variables: [],
      functions: [],
      variableNames: new Map(),
    };
    this.#opcodes = new Opcodes(sink);
  }

  decode({ statements }: PtxModule): DecodedProgram {
    const version = this.#one(statements, 'version');
    const target = this.#one(statements, 'target');
    const addressSize = this.#one(statements, 'addressSize');
    const chip = this.#head(version, target, addressSize, statements);
    this.#opcodes.chip = chip;
    for (const s of statements) this.#declare(s);
    for (const s of statements) if (s.kind === 'alias') this.#alias(s);
    for (const { declaration, decoder } of this.#defined) decoder.declare(declaration, this.#later);
    for (const give of this.#later) give();
    const { functions, variables } = this.#context;
    for (const { index, declaration, decoder } of this.#defined)
      functions[index] = { ...functions[index], isExtern: false, ...decoder.decode(declaration) };
    return {
      ptxMajor: version?.major ?? 0,
      ptxMinor: version?.minor ?? 0,
      target: chip,
      files: statements.flatMap((s) => (s.kind === 'file' ? [{ index: s.index >>> 0, name: s.name }] : [])),
      variables,
      functions,
    };
  }

  // --- version, target, address size ---------------------------------------------------------------------------------

  #one<K extends 'version' | 'target' | 'addressSize'>(
    statements: readonly ModuleStatement[],
    kind: K,
  ): Extract<ModuleStatement, { kind: K }> | undefined {
    return statements.find((s): s is Extract<ModuleStatement, { kind: K }> => s.kind === kind);
  }

  /** Checks what the module says of itself; returns the chip. */
  #head(
    version: VersionDirective | undefined,
    target: TargetDirective | undefined,
    size: AddressSizeDirective | undefined,
    statements: readonly ModuleStatement[],
  ): string {
    const { sink } = this.#context;
    const first = statements[0] ?? { from: 0, to: 0 };
    if (!version)
      sink.report('ptx/version', 'the module does not begin with .version', first, {
        fix: 'write .version 8.0',
      });
    else if (!isSupported(version))
      sink.report(
        'ptx/version',
        `PTX ${version.major}.${version.minor} is not supported: 6.0 to 9.0 are`,
        version,
        {
          fix: 'compile with CUDA 13.0 or older',
        },
      );
    const chip = target?.names[0] ?? '';
    const number = Number(/^sm_(\d{2,3})[af]?$/.exec(chip)?.[1] ?? NaN);
    if (!target)
      sink.report('ptx/target', 'the module has no .target', version ?? first, {
        fix: 'write .target sm_90a',
      });
    else if (!(number >= 50 && number <= 90))
      sink.report('ptx/target', `target \`${chip}\` is not supported: sm_50 to sm_90a are`, target, {
        fix: 'compile for sm_90a',
      });
    // Without the directive a module's addresses have 32 bits.
    if ((size?.bits ?? 32) !== 64)
      sink.report(
        'ptx/address-size',
        size
          ? `addresses of ${size.bits} bits are not supported`
          : 'without .address_size addresses have 32 bits, which is not supported',
        size ?? target ?? version ?? first,
        { fix: 'compile for 64 bits: .address_size 64' },
      );
    return chip;
  }

  // --- declarations --------------------------------------------------------------------------------------------------

  #declare(s: ModuleStatement): void {
    const context = this.#context;
    if (s.kind === 'variables') {
      const before = context.variables.length;
      // A declaration of what another file, or this one, defines.
      const fresh = { ...s, names: s.names.filter((d) => !this.#isRepeated(s.linkage, d.name)) };
      declareVariables(context, context.module, null, fresh, this.#later);
      for (let i = before; i < context.variables.length; i++)
        this.#elementSizes.set(i, elementSize(s.type, s.vector));
    } else if (s.kind === 'function') this.#declareFunction(s);
    else if (s.kind === 'registers')
      context.sink.report('ptx/declaration', 'registers outside of functions are not supported', s);
  }

  #isRepeated(linkage: readonly string[], name: string): boolean {
    const known = this.#context.module.find(name);
    return linkage.includes('extern') && known?.kind === 'variable';
  }

  #declareFunction(f: FunctionDeclaration): void {
    const context = this.#context;
    const known = context.module.find(f.name);
    const signature = {
      returns: layOutParameters(context, f.returns ?? []),
      parameters: layOutParameters(context, f.parameters ?? []),
    };
    let index: number;
    if (known?.kind === 'function') {
      index = known.index;
      if (f.body && this.#defined.some((d) => d.index === index))
        context.sink.report('ptx/duplicate-name', `function \`${f.name}\` is defined twice`, f);
      // The definition's names of parameters are the ones its body knows.
      if (f.body) context.functions[index] = { ...context.functions[index], ...signature };
    } else {
      index = context.functions.length;
      context.functions.push(
        declared(f.name, f.isEntry, signature, limitsOf(context, f.body ? [] : f.directives)),
      );
      declare(context, context.module, f.name, { kind: 'function', index }, f);
    }
    if (!f.body) return;
    const decoder = new FunctionDecoder(context, this.#opcodes, this.#elementSizes, f.name, signature);
    this.#defined.push({ index, declaration: f, decoder });
  }

  #alias(s: ModuleStatement & { kind: 'alias' }): void {
    const context = this.#context;
    const target = context.module.find(s.of.name);
    if (target?.kind !== 'function') {
      context.sink.report('ptx/undefined-name', `there is no function \`${s.of.name}\``, s.of);
      return;
    }
    const known = context.module.find(s.name.name);
    // An alias is declared as a function before it is named here: that entry becomes the other name of the target.
    if (known?.kind !== 'function') declare(context, context.module, s.name.name, target, s.name);
    else context.module.rename(s.name.name, target);
  }
}

const isSupported = ({ major, minor }: VersionDirective): boolean =>
  major >= 6 && minor <= 9 && (major < 9 || (major === 9 && minor === 0));

const declared = (
  name: string,
  isEntry: boolean,
  signature: Pick<DecodedFunction, 'parameters' | 'returns'>,
  limits: DecodedFunction['limits'],
): DecodedFunction => ({
  name,
  isEntry,
  isExtern: true,
  ...signature,
  limits,
  registers: [0, 0, 0, 0],
  registerNames: [],
  branchTables: [],
  prototypes: [],
  instructions: [],
});

/**
 * Reads PTX text and decodes it. `program` is null when an error was found; the diagnostics then say what, at most fifty.
 * Never throws.
 */
export function decodePtx(
  text: string,
  file: string,
): { readonly program: Uint8Array | null; readonly diagnostics: readonly Diagnostic[] } {
  const { module, sink } = readModule(text, file);
  // What a statement declares is unknown when it could not be read: names would be missed for no other reason.
  if (sink.diagnostics.length > 0) sink.muted.add('ptx/undefined-name');
  // Nothing of it was PTX: that it has no version either is no news.
  if (module.statements.length === 0) return { program: null, diagnostics: sink.sorted() };
  const program = new ModuleDecoder(sink).decode(module);
  const isBroken = sink.diagnostics.some((d) => d.severity === 'error');
  return { program: isBroken ? null : encodeProgram(program), diagnostics: sink.sorted() };
}
