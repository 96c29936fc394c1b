// IR text to IR. Reads line by line: a line that does not fit is reported and skipped, so one run finds all
// independent mistakes; what a broken line would have defined is remembered as broken and not reported again.
// Never throws, whatever the text. This module alone brings chevrotain along: load it when a text must be read.
import type { IToken } from 'chevrotain';
import type { Diagnostic } from '../diagnostics.ts';
import type {
  Attributes,
  DimDeclaration,
  Function,
  FunctionKind,
  Module,
  StateDeclaration,
  StatePolicy,
} from '../module.ts';
import type { Schedule } from '../schedule.ts';
import type { ModuleScope } from './application.ts';
import { FunctionReader } from './function-reader.ts';
import type { Rule } from './grammar-common.ts';
import { lineParser, type LineParser } from './grammar.ts';
import type { AttributeNode, DimLine, StateLine, TypeNode } from './lines.ts';
import { lineForms } from './messages.ts';
import { readLine } from './read-line.ts';
import { ScheduleReader, type ScheduleScope } from './schedule-reader.ts';
import { mostDiagnostics, Sink } from './sink.ts';
import { didYouMean } from './spelling.ts';
import { endOf, FunctionName, RightBrace, tokenizeLines, ValueName } from './tokens.ts';
import { showType, type TensorType } from '../types.ts';

export interface ParseResult {
  /** Null when there is any error. */
  readonly module: Module | null;
  readonly diagnostics: readonly Diagnostic[];
  /** The comment lines before `dsir 1`, without `// `. */
  readonly header: readonly string[];
}

/** Reads a module. `file` is what diagnostics call the text; spans of ops are the author's places in the text. */
export function parseModule(text: string, file: string): ParseResult {
  const sink = new Sink(text, file);
  let module: Module | null = null;
  try {
    module = new ModuleReader(text, sink).read();
  } catch (bug) {
    // Anything thrown here is a mistake of ours, but whoever reads a text must get an answer all the same.
    const why = bug instanceof Error ? bug.message : String(bug);
    sink.diagnostics.length = Math.min(sink.diagnostics.length, mostDiagnostics - 1);
    sink.error('ir/internal', `reading this text failed: ${why}`, 0, 0, {
      fix: 'this is a bug in dsvc, please report it',
    });
  }
  return {
    module: sink.diagnostics.length > 0 ? null : module,
    diagnostics: sink.diagnostics,
    header: headerOf(text),
  };
}

function headerOf(text: string): string[] {
  const header: string[] = [];
  for (let start = text.startsWith('\ufeff') ? 1 : 0; start < text.length;) {
    const newline = text.indexOf('\n', start);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(start, end).replace(/\r$/, '');
    const comment = /^[ \t]*\/\/ ?/.exec(line);
    if (comment) header.push(line.slice(comment[0].length));
    else if (line.trim() !== '') break;
    start = end + 1;
  }
  return header;
}

const functionWords = ['entry', 'block', 'kernel'];
/** What has a body: a line that starts with one of these and a name is the header of another one. */
const bodyWords = [...functionWords, 'schedule'];
const moduleWords = ['dim', 'state', ...bodyWords];
/** The order in which sections must stand. */
const sectionOf = (word: string): number =>
  word === 'dim' ? 0 : word === 'state' ? 1 : word === 'schedule' ? 3 : 2;

const startsBody = (tokens: readonly IToken[]): boolean =>
  bodyWords.includes(tokens[0].image) && tokens.length > 1 && tokens[1].tokenType === FunctionName;

class ModuleReader implements ModuleScope, ScheduleScope {
  readonly dims = new Set<string>();
  readonly states = new Set<string>();
  readonly functions = new Map<string, Function>();
  readonly broken = new Set<string>();
  readonly written = new Set<string>();
  private readonly dimList: DimDeclaration[] = [];
  private readonly stateList: StateDeclaration[] = [];
  private readonly functionList: Function[] = [];
  private readonly scheduleList: Schedule[] = [];
  private readonly namedAt = new Map<string, IToken>();
  private readonly text: string;
  private last: IToken | null = null;
  private readonly sink: Sink;
  private readonly parser: LineParser;
  private name = '';
  private attributes: Attributes = {};
  private section = 0;
  /** False when the module's own line is missing: its end is not missed then. */
  private opened = true;
  private state: 'version' | 'module' | 'inside' | 'after' | 'done' = 'version';
  private current: FunctionReader | null = null;
  private schedule: ScheduleReader | null = null;

  constructor(text: string, sink: Sink) {
    this.sink = sink;
    this.parser = lineParser();
    this.text = text;
    for (const [, name] of text.matchAll(/^[ \t]*(?:entry|block|kernel)[ \t]+@([A-Za-z_][A-Za-z0-9_.]*)/gm))
      this.written.add(name);
  }

  get module(): Module {
    return {
      name: this.name,
      attributes: this.attributes,
      dims: this.dimList,
      states: this.stateList,
      functions: this.functionList,
      schedules: this.scheduleList,
    };
  }

  read(): Module | null {
    for (const tokens of tokenizeLines(this.text)) {
      if (this.sink.full) break;
      this.line(tokens);
      this.last = tokens[tokens.length - 1];
    }
    if (this.sink.full)
      this.sink.diagnostics[mostDiagnostics - 1] = {
        ...this.sink.diagnostics[mostDiagnostics - 1],
        code: 'ir/too-many',
        message: `too many errors: reading stopped here, after ${mostDiagnostics}`,
        fix: 'is this a .dsir file? If so, correct the first errors: others may follow from them',
      };
    else this.finish();
    return this.module;
  }

  private parse<R>(rule: Rule<R>, form: string, tokens: IToken[]): R | null {
    return readLine(this.parser, rule, form, tokens, this.sink);
  }

  private line(tokens: IToken[]): void {
    const first = tokens[0];
    const word = first.image;
    switch (this.state) {
      case 'version':
        this.state = 'module';
        if (word === 'dsir') return this.version(tokens);
        this.sink.at('ir/version', 'the text does not start with its format version', first, {
          fix:
            word === 'module'
              ? 'write `dsir 1` before it'
              : 'is this a .dsir file? It would start with `dsir 1`',
        });
        // Another kind of file: everything in it would be wrong.
        if (word !== 'module') this.state = 'done';
        return this.line(tokens);
      case 'module':
        this.state = 'inside';
        if (word === 'module') return this.moduleLine(tokens);
        this.sink.at('ir/syntax', 'expected the module before anything else', first, {
          fix: lineForms.moduleLine,
        });
        this.opened = false;
        return this.line(tokens);
      case 'after':
        this.sink.at('ir/syntax', 'nothing may stand after the end of the module', first, {
          to: tokens[tokens.length - 1],
          fix: 'a file holds one module; is there a `}` too many before this?',
        });
        // One message is enough for all that follows.
        this.state = 'done';
        return;
      case 'done':
        return;
      case 'inside':
        if (this.current) this.functionLine(this.current, tokens);
        else if (this.schedule) this.scheduleLine(this.schedule, tokens);
        else this.moduleLevelLine(tokens);
    }
  }

  private version(tokens: IToken[]): void {
    const number = this.parse(this.parser.versionLine, 'versionLine', tokens);
    if (number !== null && number.image !== '1')
      this.sink.at('ir/version', `this is format version ${number.image}, and only 1 is known`, number, {
        fix: 'print the module again with the dsvc that reads it',
      });
  }

  private moduleLine(tokens: IToken[]): void {
    const node = this.parse(this.parser.moduleLine, 'moduleLine', tokens);
    if (node === null) return;
    this.name = node.name.image.slice(1);
    this.attributes = this.attributeRecord(node.attributes);
  }

  private moduleLevelLine(tokens: IToken[]): void {
    const first = tokens[0];
    const word = first.image;
    if (first.tokenType === RightBrace) {
      if (tokens.length > 1)
        this.sink.at('ir/syntax', 'expected the end of the line after `}`', tokens[1], {
          fix: 'put it on a line of its own',
        });
      this.state = 'after';
      return;
    }
    if (!moduleWords.includes(word)) {
      const op = first.tokenType === ValueName || word === 'return';
      this.sink.at(
        'ir/syntax',
        op ? 'this line belongs in a function' : 'expected a dim, a state, a function or a schedule here',
        first,
        {
          fix: op
            ? 'is there a `}` too many before this?'
            : (didYouMean(word, moduleWords) ??
              `lines of a module start with ${moduleWords.join(', ')} or }`),
        },
      );
      return;
    }
    const section = sectionOf(word);
    if (section < this.section)
      this.sink.at('ir/syntax', `${word} stands too late`, first, {
        fix: 'the order is: dims, states, functions, schedules',
      });
    this.section = Math.max(this.section, section);
    if (word === 'dim') this.dim(tokens);
    else if (word === 'state') this.stateDeclaration(tokens);
    else if (word === 'schedule') this.schedule = new ScheduleReader(this, this.sink, tokens);
    else this.header(tokens, word as FunctionKind);
  }

  private dim(tokens: IToken[]): void {
    const node = this.parse(this.parser.dimLine, 'dimLine', tokens);
    if (node !== null) this.addDim(node);
    // A broken declaration still declares: its uses must not be reported too.
    else if (tokens.length > 1) this.dims.add(tokens[1].image);
  }

  private addDim(node: DimLine): void {
    const name = node.name.image;
    if (!this.unique(`dim ${name}`, node.name)) return;
    const { ragged } = node;
    if (ragged && !this.dims.has(ragged.of.image))
      this.sink.at('ir/unknown-dim', `there is no dim ${ragged.of.image} before this`, ragged.of, {
        fix: didYouMean(ragged.of.image, this.dims) ?? 'declare it on a line before',
      });
    this.dims.add(name);
    const base = { name, bound: node.bound };
    this.dimList.push(ragged ? { ...base, ragged: { ...ragged, of: ragged.of.image } } : base);
  }

  private stateDeclaration(tokens: IToken[]): void {
    const node = this.parse(this.parser.stateLine, 'stateLine', tokens);
    if (node !== null) this.addState(node);
    else if (tokens.length > 1) this.states.add(tokens[1].image);
  }

  private addState(node: StateLine): void {
    const name = node.name.image;
    if (!this.unique(`state ${name}`, node.name)) return;
    this.states.add(name);
    const policies: readonly string[] = ['paged', 'ring', 'recurrent'] satisfies StatePolicy[];
    if (!policies.includes(node.policy.image))
      this.sink.at('ir/syntax', `there is no state policy ${node.policy.image}`, node.policy, {
        fix: didYouMean(node.policy.image, policies) ?? 'write paged(rows per page), ring(rows) or recurrent',
      });
    else if (node.page === null && node.policy.image !== 'recurrent')
      this.sink.at('ir/syntax', `${node.policy.image} needs a number of rows`, node.policy, {
        fix: `write ${node.policy.image}(64)`,
      });
    const fields: { name: string; type: TensorType }[] = [];
    for (const f of node.fields) {
      this.checkType(f.type, this.dims);
      if (fields.some((x) => x.name === f.name.image))
        this.sink.at('ir/duplicate-name', `${name} has two fields ${f.name.image}`, f.name, {
          fix: 'rename one of them',
        });
      if (f.type.type?.kind === 'tensor') fields.push({ name: f.name.image, type: f.type.type });
      else if (f.type.type)
        this.sink.at('ir/type', `a field is a tensor, not ${showType(f.type.type)}`, f.type.from, {
          to: f.type.to,
        });
    }
    this.stateList.push({ name, policy: node.policy.image as StatePolicy, page: node.page ?? 0, fields });
  }

  private header(tokens: IToken[], kind: FunctionKind): void {
    const node = this.parse(this.parser.headerLine, 'headerLine', tokens);
    const name = node?.name ?? tokens.find((t) => t.tokenType === FunctionName) ?? tokens[0];
    this.current = new FunctionReader(this, this.sink, kind, name);
    if (node === null) return this.current.poison();
    if (!this.unique(node.name.image, node.name)) this.current.poison();
    this.current.header(node, this.attributeRecord(node.attributes));
  }

  private functionLine(reader: FunctionReader, tokens: IToken[]): void {
    const first = tokens[0];
    const word = first.image;
    if (first.tokenType === RightBrace) {
      if (tokens.length > 1)
        this.sink.at('ir/syntax', 'expected the end of the line after `}`', tokens[1], {
          fix: 'put it on a line of its own',
        });
      return this.close(reader, first);
    }
    if (startsBody(tokens)) {
      this.notEnded(`@${reader.name}`, reader.nameToken, first);
      this.close(reader, null);
      return this.moduleLevelLine(tokens);
    }
    const p = this.parser;
    if (word === 'param' || word === 'buffer') {
      const node = this.parse(p.parameterLine, 'parameterLine', tokens);
      return node ? reader.parameter(node) : reader.brokenDeclaration(tokens);
    }
    if (word === 'derive') {
      const node = this.parse(p.deriveLine, 'deriveLine', tokens);
      return node ? reader.derive(node) : reader.brokenDeclaration(tokens);
    }
    if (word === 'return') {
      const node = this.parse(p.returnLine, 'returnLine', tokens);
      return node ? reader.returns(node) : reader.brokenReturn();
    }
    const node = this.parse(p.opLine, 'opLine', tokens);
    return node ? reader.op(node) : reader.brokenOp(tokens);
  }

  private close(reader: FunctionReader, brace: IToken | null): void {
    this.current = null;
    const f = reader.finish(brace);
    if (f === null) {
      this.broken.add(reader.name);
      return;
    }
    this.functions.set(f.name, f);
    this.functionList.push(f);
  }

  private scheduleLine(reader: ScheduleReader, tokens: IToken[]): void {
    if (startsBody(tokens)) {
      this.notEnded(reader.open.what, reader.open.at, tokens[0]);
      this.schedule = null;
      return this.moduleLevelLine(tokens);
    }
    const schedule = reader.line(tokens);
    if (schedule === undefined) return;
    if (schedule) this.scheduleList.push(schedule);
    this.schedule = null;
  }

  private notEnded(what: string, at: IToken, next: IToken): void {
    const other = next.image === 'schedule' ? 'schedule' : 'function';
    this.sink.at('ir/syntax', `${what} has not ended before this ${other} starts`, next, {
      fix: 'write `}` on a line before',
      notes: [{ message: `${what} starts here`, at }],
    });
  }

  private finish(): void {
    const end = this.last ? endOf(this.last) : 0;
    if (this.state === 'version') {
      this.sink.error('ir/version', 'the text holds no module', 0, 0, {
        fix: 'write `dsir 1`, then the module',
      });
    } else if (this.state === 'module') {
      this.sink.error('ir/syntax', 'the text ends before the module', end, end, {
        fix: lineForms.moduleLine,
      });
    } else if (this.state === 'inside' && (this.opened || this.current || this.schedule)) {
      const body = this.current ?? this.schedule;
      const open = this.current
        ? { what: `@${this.current.name}`, at: this.current.nameToken }
        : this.schedule?.open;
      const what = this.current ? `function @${this.current.name}` : (open?.what ?? 'the module');
      this.sink.error('ir/syntax', `the text ends inside ${what}`, end, end, {
        fix: body
          ? `write \`}\` for the ${this.current ? 'function' : 'schedule'} and one for the module`
          : 'write `}` on a line of its own',
        ...(open ? { notes: [{ message: `${open.what} starts here`, at: open.at }] } : {}),
      });
    }
  }

  /** Takes a name of the module, or reports that it is taken. */
  unique(key: string, at: IToken): boolean {
    const before = this.namedAt.get(key);
    if (before === undefined) {
      this.namedAt.set(key, at);
      return true;
    }
    const notes = [{ message: 'it is first declared here', at: before }];
    this.sink.at('ir/duplicate-name', `${key} is declared twice`, at, {
      notes,
      fix: 'give one of them another name',
    });
    return false;
  }

  /** Attributes by name, in order; a second one of a name is reported. */
  attributeRecord(nodes: readonly AttributeNode[]): Attributes {
    const seen = new Map<string, AttributeNode>();
    for (const node of nodes) {
      const before = seen.get(node.name);
      if (before)
        this.sink.at('ir/duplicate-name', `attribute ${node.name} is given twice`, node.from, {
          to: node.to,
          notes: [{ message: 'it is first given here', at: before.from }],
          fix: 'keep one of them',
        });
      else seen.set(node.name, node);
    }
    // fromEntries defines own properties, whatever their names: `__proto__` is one like others.
    return Object.fromEntries([...seen.values()].map((n) => [n.name, n.value]));
  }

  /** Reports run-time dims that are not in `dims` and states that are not declared; false when there is one. */
  checkType(node: TypeNode, dims: ReadonlySet<string>, more: ReadonlySet<string> | null = null): boolean {
    let fine = node.type !== null;
    for (const token of node.dims) {
      if (dims.has(token.image) || more?.has(token.image)) continue;
      fine = false;
      this.sink.at('ir/unknown-dim', `there is no run-time dim ${token.image}`, token, {
        fix:
          didYouMean(token.image, [...dims, ...(more ?? [])]) ??
          `declare it in the module (\`dim ${token.image} <= 1024\`), or give its size: ${token.image}=64`,
      });
    }
    if (node.state && !this.states.has(node.state.image)) {
      fine = false;
      this.sink.at('ir/unknown-state', `there is no state ${node.state.image}`, node.state, {
        fix: didYouMean(node.state.image, this.states) ?? `declare it in the module before its functions`,
      });
    }
    return fine;
  }
}
