// One function: every value is defined once and before its uses, types and dims hold, declarations make sense, and
// what is updated in place is returned.
import { calleeOf, inoutArguments, type Declaration, type Function, type Op, type Value } from '../module.ts';
import { opTable } from '../ops/index.ts';
import { printDeclaration, printFunction, printOp } from '../text/printer.ts';
import { isIdentifier } from '../text/spelling.ts';
import { dimsOf, sameType, showType, staticCount, type TensorType } from '../types.ts';
import { expressionType, tableContext, verifyOp } from './ops.ts';
import { noteAt, type ModuleTable, type Place, type Report } from './report.ts';
import { verifyType, type DimScope } from './types.ts';
import { Versions } from './versions.ts';

/** Reports everything wrong with `f`; `table.earlier` holds the functions that stand before it. */
export function verifyFunction(f: Function, table: ModuleTable, report: Report): void {
  new FunctionVerifier(f, table, report).run();
}

const shown = (v: Value): string =>
  v.source === 'argument' || v.source === 'result' ? `%${v.name}` : JSON.stringify(v.name);

class FunctionVerifier {
  private readonly f: Function;
  private readonly table: ModuleTable;
  private readonly report: Report;
  private readonly header: Place;
  private readonly scope: DimScope;
  private readonly defined = new Set<Value>();
  private readonly names = new Map<string, Place>();
  /** Ragged dims that exist so far: of arguments, or defined by a routing. */
  private readonly raggedDims = new Set<string>();
  private readonly routingOf = new Map<string, Value>();
  private readonly versions: Versions;

  constructor(f: Function, table: ModuleTable, report: Report) {
    this.f = f;
    this.table = table;
    this.report = report;
    this.header = {
      span: f.span,
      text: () => printFunction({ ...f, body: [], declarations: [] }).split('\n', 1)[0],
    };
    const own =
      f.kind === 'entry' ? [] : f.arguments.flatMap((a) => dimsOf(a.value.type).flatMap((d) => d.name ?? []));
    this.scope = { table, own: new Set(own) };
    this.versions = new Versions(f.arguments, report);
  }

  run(): void {
    const { f } = this;
    if (!isIdentifier(f.name))
      this.report(
        'ir/name',
        `function name ${JSON.stringify(f.name)} cannot be written in IR text`,
        this.header,
        'use letters, digits, _ and .',
      );
    for (const a of f.arguments) {
      if (a.value.source !== 'argument')
        this.report(
          'ir/name',
          `argument ${shown(a.value)} has source ${a.value.source}`,
          this.header,
          'its source is argument',
        );
      this.define(a.value, this.header);
      this.raggedOfArgument(a.value);
    }
    this.declarations();
    const context = tableContext(this.table);
    for (const op of f.body) {
      const place: Place = { span: op.span.file === '' ? f.span : op.span, text: () => printOp(op) };
      for (const v of op.operands) this.use(v, place);
      if (f.kind === 'kernel' && calleeOf(op) !== null)
        this.report(
          'ir/kernel',
          `kernel @${f.name} holds ${op.op}`,
          place,
          'a kernel is one launch: it cannot call functions',
        );
      else verifyOp(op, context, this.table, place, this.report);
      this.versions.op(op, this.table.earlier.get(calleeOf(op) ?? '') ?? null, place);
      for (const r of op.results) {
        if (r.source !== 'result')
          this.report('ir/name', `result ${shown(r)} has source ${r.source}`, place, 'its source is result');
        this.define(r, place);
        this.raggedOfResult(r, op, place);
      }
    }
    this.returned();
  }

  private define(v: Value, place: Place): void {
    if (!isIdentifier(v.name))
      this.report(
        'ir/name',
        `value name ${JSON.stringify(v.name)} cannot be written in IR text`,
        place,
        'use letters, digits, _ and .',
      );
    const before = this.names.get(v.name);
    if (before)
      this.report(
        'ir/duplicate-name',
        `%${v.name} is defined twice`,
        place,
        'names are unique in a function: take one from FunctionBuilder.fresh',
        [noteAt(`first defined by ${before.text()}`, before.span)],
      );
    else this.names.set(v.name, place);
    this.defined.add(v);
    verifyType(v.type, `%${v.name}`, this.scope, place, this.report);
  }

  private use(v: Value, place: Place): void {
    if (this.defined.has(v)) return;
    const twin = v.source === 'argument' || v.source === 'result' ? this.names.has(v.name) : false;
    this.report(
      'ir/unknown-value',
      twin
        ? `${shown(v)} is another value than the one of that name in @${this.f.name}`
        : `${shown(v)} is used, but nothing before defines it in @${this.f.name}`,
      place,
      twin
        ? 'values are compared by identity: take the one that the op or argument holds'
        : 'define it before its first use',
    );
    // One message per value is enough.
    this.defined.add(v);
  }

  private declarations(): void {
    const { f } = this;
    const names = new Map<string, Declaration>();
    const parameters = new Map<string, TensorType>();
    const context = tableContext(this.table);
    for (const d of f.declarations) {
      const place: Place = { span: d.span.file === '' ? f.span : d.span, text: () => printDeclaration(d) };
      const name = JSON.stringify(d.value.name);
      const before = names.get(d.value.name);
      if (f.kind === 'kernel')
        this.report(
          'ir/kernel',
          `kernel @${f.name} declares ${name}`,
          place,
          'weights come into a kernel as operands',
        );
      if (before)
        this.report('ir/duplicate-name', `${name} is declared twice`, place, 'declare each weight once', [
          noteAt(`first as ${printDeclaration(before)}`, before.span),
        ]);
      names.set(d.value.name, d);
      this.defined.add(d.value);
      if (d.value.source !== d.kind)
        this.report('ir/name', `${name} is a ${d.kind}, but its value's source is ${d.value.source}`, place);
      if (/[\s\u0000-\u001f\u007f]/.test(d.value.name) || d.value.name === '')
        this.report(
          'ir/name',
          `${name} is no weight's name`,
          place,
          'names have no blanks and no control characters',
        );
      verifyType(d.value.type, name, this.scope, place, this.report);
      if (d.value.type.dims.some((x) => x.size === null)) {
        this.report(
          'ir/type',
          `${name} is ${showType(d.value.type)}, but weights have no run-time dims`,
          place,
          'give every dim its size',
        );
        continue;
      }
      if (d.kind === 'derived') {
        const type = expressionType(d.expression, parameters, context, place, this.report);
        if (type && !sameType(type, d.value.type))
          this.report(
            'ir/type',
            `${name} is ${showType(d.value.type)}, but its expression gives ${showType(type)}`,
            place,
            `declare it as ${showType(type)}`,
          );
        continue;
      }
      if (d.kind === 'parameter') parameters.set(d.value.name, d.value.type);
      this.stored(d.value.name, d.value.type, d.stored, place);
    }
  }

  /** The checkpoint's shape holds as many elements as the declared one; `{…}` in the name stands for axis 0. */
  private stored(name: string, type: TensorType, stored: readonly number[], place: Place): void {
    const stacked = /\{[^{}]*\}/.test(name);
    const own = staticCount(stacked ? type.dims.slice(1) : type.dims);
    const count = stored.reduce((n, s) => n * s, 1);
    if (
      stored.every((s) => Number.isSafeInteger(s) && s >= 0) &&
      own === count &&
      !(stacked && type.dims.length === 0)
    )
      return;
    this.report(
      'ir/type',
      `${JSON.stringify(name)} is ${showType(type)}, but [${stored.join(', ')}] is stored${stacked ? ' for each element of axis 0' : ''}`,
      place,
      'declared dims merge or split the stored axes in order: both hold the same number of elements',
    );
  }

  private raggedOfArgument(v: Value): void {
    for (const d of dimsOf(v.type)) if (d.size === null && d.name !== null) this.raggedDims.add(d.name);
    this.tieRouting(v, this.header);
  }

  private raggedOfResult(v: Value, op: Op, place: Place): void {
    if (v.type.kind === 'routing') {
      const { slots } = v.type;
      const definition = Object.hasOwn(opTable, op.op) ? opTable[op.op] : null;
      if (definition?.class === 'routing' && !this.table.dims.get(slots.name ?? '')?.ragged)
        this.report(
          'ir/ragged',
          `%${v.name} defines ${slots.name ?? slots.size}, which is no ragged dim`,
          place,
          'declare it: dim slots = ragged(tokens * top, groups = experts, align = 128) <= …',
        );
      this.tieRouting(v, place);
      return;
    }
    for (const d of dimsOf(v.type))
      if (
        d.size === null &&
        d.name !== null &&
        this.table.dims.get(d.name)?.ragged &&
        !this.raggedDims.has(d.name)
      ) {
        this.report(
          'ir/ragged',
          `%${v.name} has the ragged dim ${d.name}, but no routing before it defines ${d.name}`,
          place,
          'route first: rows belong to a routing',
        );
        this.raggedDims.add(d.name);
      }
  }

  /** A slots dim means the rows of one routing; two routings with one dim would mix their rows. */
  private tieRouting(v: Value, place: Place): void {
    if (v.type.kind !== 'routing' || v.type.slots.name === null || v.type.slots.size !== null) return;
    const name = v.type.slots.name;
    this.raggedDims.add(name);
    const before = this.routingOf.get(name);
    if (before)
      this.report(
        'ir/ragged',
        `%${v.name} and %${before.name} both define ${name}`,
        place,
        'declare a ragged dim of its own for each routing',
      );
    else this.routingOf.set(name, v);
  }

  private returned(): void {
    const { f, header } = this;
    const place: Place = {
      span: f.span,
      text: () =>
        printFunction({ ...f, body: [], declarations: [] })
          .trimEnd()
          .split('\n')
          .at(-2)!
          .trim(),
    };
    for (const v of [...f.results, ...f.finals]) {
      this.use(v, place);
      this.versions.use(v, place);
    }
    const inout = inoutArguments(f);
    if (inout.length !== f.finals.length)
      this.report(
        'ir/state',
        `@${f.name} has ${inout.length} inout arguments, but returns ${f.finals.length} final values`,
        header,
        'return one final value per inout argument, in order',
      );
    for (const [i, { value }] of inout.slice(0, f.finals.length).entries()) {
      const final = f.finals[i];
      const root = this.versions.rootOf(final);
      if (!sameType(final.type, value.type))
        this.report(
          'ir/type',
          `the final value of %${value.name} is ${showType(final.type)}, not ${showType(value.type)}`,
          place,
          'an update keeps the type',
        );
      else if (value.type.kind === 'state' && root?.value !== value)
        this.report(
          'ir/state',
          `the final value of %${value.name}, %${final.name}, is ${root ? `a version of %${root.value.name}` : 'not made from it'}`,
          place,
          'return the newest version of each inout argument, in the order of the arguments',
        );
    }
  }
}
