// IR to text, as docs/IR.md describes it. Prints anything, correct or not: the verifier shows broken ops with it.
// What the printer writes for a correct module, the parser reads back to a module that prints the same bytes.
import type {
  Argument,
  Attribute,
  Attributes,
  Declaration,
  DeriveExpression,
  DimDeclaration,
  Function,
  Module,
  Op,
  StateDeclaration,
  Value,
} from '../module.ts';
import { calleeOf } from '../module.ts';
import { commonAttributes, type AttributeSpec } from '../ops/define.ts';
import { opTable } from '../ops/index.ts';
import { showType } from '../types.ts';
import { scheduleLines } from './schedule-printer.ts';
import { isIdentifier, spellAttribute, spellPlace } from './spelling.ts';

export interface PrintOptions {
  /** Comment lines before `dsir 1`, without their `// `: which command reproduces a dump, say. */
  readonly header?: readonly string[];
}

/** The whole `.dsir` text, ending with a newline. */
export function printModule(module: Module, options: PrintOptions = {}): string {
  const out: string[] = [];
  for (const line of (options.header ?? []).flatMap((text) => text.split(/\r\n?|\n/)))
    out.push(line === '' ? '//' : `// ${line}`);
  out.push('dsir 1', `module @${module.name}${printAttributes(module.attributes)} {`);
  for (const d of module.dims) out.push(`  ${printDim(d)}`);
  for (const s of module.states) out.push(`  ${printState(s)}`);
  module.functions.forEach((f, i) => {
    if (i > 0 || module.dims.length > 0 || module.states.length > 0) out.push('');
    functionLines(f, '  ', out);
  });
  for (const schedule of module.schedules) {
    if (
      module.functions.length + module.dims.length + module.states.length > 0 ||
      schedule !== module.schedules[0]
    )
      out.push('');
    scheduleLines(schedule, '  ', out);
  }
  out.push('}');
  return out.join('\n') + '\n';
}

/** One function without the module's indentation, ending with a newline. */
export function printFunction(f: Function): string {
  const out: string[] = [];
  functionLines(f, '', out);
  return out.join('\n') + '\n';
}

function functionLines(f: Function, indent: string, out: string[]): void {
  out.push(`${indent}${printHeader(f)}`);
  for (const d of f.declarations) out.push(`${indent}  ${printDeclaration(d)}`);
  for (const op of f.body) out.push(`${indent}  ${printOp(op)}`);
  const results = f.results.map(printOperand).join(', ');
  const finals = f.finals.map(printOperand).join(', ');
  out.push(`${indent}  return${results && ` ${results}`}${finals && `; ${finals}`}`);
  out.push(`${indent}}`);
}

function printHeader(f: Function): string {
  const args = f.arguments.map(printArgument).join(', ');
  const results = f.results.map((v) => showType(v.type)).join(', ');
  return `${f.kind} @${f.name}(${args}) -> (${results})${printAttributes(f.attributes)}${spellPlace(f.span)} {`;
}

const printArgument = (a: Argument): string =>
  `${a.inout ? 'inout ' : ''}%${a.value.name}: ${showType(a.value.type)}`;

/** `dim tokens <= 16384`. */
export function printDim(d: DimDeclaration): string {
  const r = d.ragged;
  const rows = r ? ` = ragged(${r.of} * ${r.per}, groups = ${r.groups}, align = ${r.align})` : '';
  return `dim ${d.name}${rows} <= ${d.bound}`;
}

/** `state latent_cache paged(64) { latent: bf16[cached, 512] }`. */
export function printState(s: StateDeclaration): string {
  const policy = s.policy === 'recurrent' && s.page === 0 ? s.policy : `${s.policy}(${s.page})`;
  const fields = s.fields.map((f) => ` ${f.name}: ${showType(f.type)}`).join(',');
  return `state ${s.name} ${policy} {${fields} }`;
}

/** A weight, a buffer or a derived weight, on one line. */
export function printDeclaration(d: Declaration): string {
  const head = `${JSON.stringify(d.value.name)}: ${showType(d.value.type)}`;
  if (d.kind === 'derived') return `derive ${head} = ${printExpression(d.expression)}${spellPlace(d.span)}`;
  return `${d.kind === 'buffer' ? 'buffer' : 'param'} ${head} stored [${d.stored.join(', ')}]${spellPlace(d.span)}`;
}

function printExpression(e: DeriveExpression): string {
  if ('parameter' in e) return `param ${JSON.stringify(e.parameter)}`;
  const operands = e.operands.map((o) =>
    'parameter' in o ? printExpression(o) : `${printExpression(o)} : ${showType(o.type)}`,
  );
  return `${e.op}(${operands.join(', ')})${printAttributes(e.attributes, e.op)}`;
}

/** One op without indentation and newline. */
export function printOp(op: Op): string {
  const callee = calleeOf(op);
  let text = op.results.length > 0 ? `${op.results.map((r) => `%${r.name}`).join(', ')} = ${op.op}` : op.op;
  if (callee !== null) text += ` @${callee}`;
  if (op.operands.length > 0) text += ` ${op.operands.map(printOperand).join(', ')}`;
  text += printAttributes(op.attributes, op.op, callee === null ? null : 'callee');
  if (op.results.length > 0) text += ` : ${op.results.map((r) => showType(r.type)).join(', ')}`;
  return text + spellPlace(op.span);
}

function printOperand(v: Value): string {
  switch (v.source) {
    case 'parameter':
      return `param ${JSON.stringify(v.name)}`;
    case 'buffer':
      return `buffer ${JSON.stringify(v.name)}`;
    case 'derived':
      return `derived ${JSON.stringify(v.name)}`;
    case 'argument':
    case 'result':
      return `%${v.name}`;
  }
}

const specsByOp = new Map<string, Readonly<Record<string, AttributeSpec>>>();

/** What an op may carry, in printing order: its own attributes, then the annotations that every op may have. */
export function attributeSpecs(op: string): Readonly<Record<string, AttributeSpec>> {
  let specs = specsByOp.get(op);
  if (specs === undefined) {
    specs = Object.hasOwn(opTable, op) ? { ...opTable[op].attributes, ...commonAttributes } : {};
    specsByOp.set(op, specs);
  }
  return specs;
}

/** ` {a = 1}` with a leading space, or nothing. With `op`: the definition's order, without what is at its default. */
function printAttributes(
  attributes: Attributes,
  op: string | null = null,
  except: string | null = null,
): string {
  const specs = op === null ? {} : attributeSpecs(op);
  const parts: string[] = [];
  const print = (name: string): void => {
    if (name === except || !Object.hasOwn(attributes, name)) return;
    const value = attributes[name];
    const initial = Object.hasOwn(specs, name) ? specs[name].default : undefined;
    if (initial === undefined || !sameAttribute(value, initial))
      parts.push(`${isIdentifier(name) ? name : JSON.stringify(name)} = ${spellAttribute(value)}`);
  };
  Object.keys(specs).forEach(print);
  for (const name of Object.keys(attributes)) if (!Object.hasOwn(specs, name)) print(name);
  return parts.length > 0 ? ` {${parts.join(', ')}}` : '';
}

const sameAttribute = (a: Attribute, b: Attribute): boolean =>
  Array.isArray(a) && Array.isArray(b)
    ? a.length === b.length && a.every((x, i) => sameAttribute(x, b[i]))
    : Object.is(a, b);
