// PTX text from a parsed tree: one statement per line, numbers as they were spelled, comments gone.
import type * as A from './ast.ts';

const list = (items: readonly string[]): string => items.join(', ');

export function printOperand(o: A.PtxOperand): string {
  switch (o.kind) {
    case 'integer':
    case 'float':
      return o.spelling;
    case 'name':
      return o.name;
    case 'nameOffset':
      return `${o.base.name}${printOffset(o.offset)}`;
    case 'indexed':
      return `${o.base.name}[${o.index.spelling}]`;
    case 'address': {
      const base = o.base.kind === 'name' ? o.base.name : o.base.spelling;
      const items = o.items.map((item) => `, ${printOperand(item)}`).join('');
      return `[${base}${o.offset ? printOffset(o.offset) : ''}${items}]`;
    }
    case 'vector':
      return `{${list(o.items.map(printOperand))}}`;
    case 'list':
      return `(${list(o.items.map(printOperand))})`;
    case 'pair':
      return `${printOperand(o.first)}|${printOperand(o.second)}`;
    case 'not':
      return `!${o.of.name}`;
    case 'sink':
      return '_';
  }
}

/** Offsets written with a minus carry it in their spelling, in front of an unsigned literal or a parenthesis. */
const printOffset = (offset: A.IntegerConstant): string =>
  offset.minus ? offset.spelling : `+${offset.spelling}`;

export function printInstruction(i: A.PtxInstruction): string {
  const guard = i.guard ? `@${i.guard.negated ? '!' : ''}${i.guard.predicate.name} ` : '';
  const operands = list(i.operands.map(printOperand));
  return `${guard}${i.opcode}${operands === '' ? '' : ` ${operands}`};`;
}

const dims = (sizes: readonly (A.IntegerConstant | null)[] | null): string =>
  (sizes ?? []).map((size) => `[${size?.spelling ?? ''}]`).join('');

const attributes = (all: readonly A.Attribute[]): string[] =>
  all.map(({ name, values }) => {
    const inside = values.length === 0 ? '' : `(${list(values.map((v) => v.spelling))})`;
    return `.attribute(.${name}${inside})`;
  });

function initialiser(value: A.Initialiser): string {
  switch (value.kind) {
    case 'items':
      return `{${list(value.items.map(initialiser))}}`;
    case 'symbol': {
      const offset = value.offset ? printOffset(value.offset) : '';
      const symbol = value.generic ? `generic(${value.name})${offset}` : `${value.name}${offset}`;
      return value.mask ? `${value.mask.spelling}(${symbol})` : symbol;
    }
    default:
      return value.spelling;
  }
}

/** The words before a name that say what it is. */
function traits(align: A.IntegerConstant | null, vector: number, type: string): string[] {
  return [...(align ? [`.align ${align.spelling}`] : []), ...(vector > 1 ? [`.v${vector}`] : []), `.${type}`];
}

function parameter(p: A.Parameter): string {
  const words = [`.${p.space}`, ...traits(p.align, p.vector, p.type)];
  if (p.pointer) {
    words.push('.ptr');
    if (p.pointer.space) words.push(`.${p.pointer.space}`);
    if (p.pointer.align) words.push(`.align ${p.pointer.align.spelling}`);
  }
  return `${words.join(' ')} ${p.name}${dims(p.dims)}`;
}

const parameters = (all: readonly A.Parameter[] | null): string[] =>
  all ? [`(${list(all.map(parameter))})`] : [];

const directive = ({ name, values, texts }: A.FunctionDirective): string => {
  if (texts.length > 0) return `.${name} ${list(texts.map((t) => `"${t}"`))};`;
  return `.${name}${values.length > 0 ? ` ${list(values.map((v) => v.spelling))}` : ''}`;
};

function functionHead(f: A.FunctionDeclaration): string {
  return [
    ...f.linkage.map((word) => `.${word}`),
    f.isEntry ? '.entry' : '.func',
    ...attributes(f.attributes),
    // .func (returns) name (parameters)
    ...parameters(f.returns),
    f.name,
    ...parameters(f.parameters),
    ...f.directives.map(directive),
  ].join(' ');
}

/** One statement without its body, as a line. */
function line(s: Exclude<A.Statement | A.ModuleStatement, A.Block | A.FunctionDeclaration>): string {
  switch (s.kind) {
    case 'instruction':
      return printInstruction(s);
    case 'label':
      return `${s.name}:`;
    case 'registers': {
      const names = s.names.map(({ name, count }) => (count ? `${name}<${count.spelling}>` : name));
      return `.reg ${traits(null, s.vector, s.type).join(' ')} ${list(names)};`;
    }
    case 'variables': {
      const words = [...s.linkage.map((word) => `.${word}`), `.${s.space}`, ...attributes(s.attributes)];
      const names = s.names.map(
        (d) => `${d.name}${dims(d.dims)}${d.initialiser ? ` = ${initialiser(d.initialiser)}` : ''}`,
      );
      return `${[...words, ...traits(s.align, s.vector, s.type)].join(' ')} ${list(names)};`;
    }
    case 'file':
      return `.file ${[`${s.index} "${s.name}"`, ...s.values.map((v) => v.spelling)].join(', ')}`;
    case 'loc': {
      const name = s.functionName ? `, function_name ${printOperand(s.functionName)}` : '';
      const inlined = s.inlinedAt ? `, inlined_at ${s.inlinedAt.join(' ')}` : '';
      return `.loc ${s.file} ${s.line} ${s.column}${name}${inlined}`;
    }
    case 'section':
      return `.section .${s.name} ${s.text}`;
    case 'pragma':
      return `.pragma ${list(s.texts.map((t) => `"${t}"`))};`;
    case 'alias':
      return `.alias ${s.name.name}, ${s.of.name};`;
    case 'branchTargets':
    case 'callTargets':
      return `${s.label}: .${s.kind.toLowerCase()} ${list(s.names.map((n) => n.name))};`;
    case 'callPrototype': {
      const words = ['.callprototype', ...parameters(s.returns), '_', ...parameters(s.parameters)];
      return `${s.label}: ${[...words, ...s.directives.map(directive)].join(' ')};`;
    }
    case 'version':
      return `.version ${s.major}.${s.minor}`;
    case 'target':
      return `.target ${list(s.names)}`;
    case 'addressSize':
      return `.address_size ${s.bits}`;
  }
}

function block(b: A.Block, indent: string, out: string[]): void {
  out.push(`${indent}{`);
  for (const s of b.statements) {
    if (s.kind === 'block') block(s, `${indent}  `, out);
    else out.push(s.kind === 'label' ? line(s) : `${indent}  ${line(s)}`);
  }
  out.push(`${indent}}`);
}

/** The module as text, ending in a newline. */
export function printParsed(module: A.PtxModule): string {
  const out: string[] = [];
  for (const s of module.statements) {
    if (s.kind !== 'function') out.push(line(s));
    else if (s.body === null) out.push(`${functionHead(s)};`);
    else {
      out.push(functionHead(s));
      block(s.body, '', out);
    }
  }
  return `${out.join('\n')}\n`;
}
