// A decoded program as text, close to PTX: what `dsvc emu --print` shows and tests compare.
import { mnemonics, modifiers, specials } from './names.ts';
import {
  variableSpaces,
  type DecodedFunction,
  type DecodedInstruction,
  type DecodedOperand,
  type DecodedParameter,
  type DecodedProgram,
  type DecodedVariable,
} from './program.ts';

const plus = (offset: bigint): string => (offset === 0n ? '' : offset < 0n ? `${offset}` : `+${offset}`);

/** Names of a function's registers, by class and index. */
type RegisterNames = readonly ReadonlyMap<number, string>[];

function namesOf(f: DecodedFunction): RegisterNames {
  const names = f.registers.map(() => new Map<number, string>());
  for (const r of f.registerNames) names[r.class].set(r.index, r.name);
  return names;
}

function operand(o: DecodedOperand, f: DecodedFunction, p: DecodedProgram, names: RegisterNames): string {
  const show = (inner: DecodedOperand): string => operand(inner, f, p, names);
  switch (o.kind) {
    case 'register':
      return names[o.class].get(o.index) ?? `%c${o.class}_${o.index}`;
    case 'immediate':
      if (o.form === 'integer') return `${BigInt.asIntN(64, o.bits)}`;
      return o.form === 'f32'
        ? `0f${o.bits.toString(16).toUpperCase().padStart(8, '0')}`
        : `0d${o.bits.toString(16).toUpperCase().padStart(16, '0')}`;
    case 'address':
      return `[${show(o.base)}${plus(o.offset)}]`;
    case 'label':
      return `L${o.instruction}`;
    case 'vector':
      return `{${o.items.map(show).join(', ')}}`;
    case 'special':
      return `%${specials[o.id]}`;
    case 'symbol':
      return `${p.variables[o.variable].name}${plus(o.offset)}`;
    case 'sink':
      return '_';
    case 'notPredicate':
      return `!${names[0].get(o.index) ?? `%c0_${o.index}`}`;
    case 'pair':
      return `${show(o.first)}|${show(o.second)}`;
    case 'function':
      return p.functions[o.index].name;
    case 'parameter':
      return `${(o.isReturn ? f.returns : f.parameters)[o.index].name}${plus(o.offset)}`;
    case 'branchTable':
      return `(${f.branchTables[o.index].map((t) => `L${t}`).join(', ')})`;
    case 'prototype':
      return `prototype ${o.index}`;
    case 'tensor': {
      const map = show(o.map);
      const inner = map.startsWith('[') ? map.slice(1, -1) : map;
      return `[${inner}, {${o.coordinates.map(show).join(', ')}}]`;
    }
  }
}

function instruction(
  i: DecodedInstruction,
  f: DecodedFunction,
  p: DecodedProgram,
  names: RegisterNames,
): string {
  const predicate = i.guard && (names[0].get(i.guard.predicate) ?? `%c0_${i.guard.predicate}`);
  const guard = i.guard ? `@${i.guard.negated ? '!' : ''}${predicate} ` : '';
  const opcode = [mnemonics[i.mnemonic], ...i.modifiers.map((m) => modifiers[m])].join('.');
  const operands = i.operands.map((o) => operand(o, f, p, names)).join(', ');
  return `${guard}${opcode}${operands === '' ? '' : ` ${operands}`};`;
}

const parameter = (q: DecodedParameter): string =>
  `.${modifiers[q.type]} ${q.name} (${q.size} bytes at ${q.offset}, align ${q.align})`;

function variable(v: DecodedVariable, p: DecodedProgram): string {
  const parts = [`.${variableSpaces[v.space]} ${v.name}: ${v.size} bytes, align ${v.align}`];
  if (v.isExtern) parts.push('extern');
  if (v.init.length > 0) {
    const bytes = Array.from(v.init.subarray(0, 32), (b) => b.toString(16).padStart(2, '0')).join('');
    parts.push(`= ${bytes}${v.init.length > 32 ? `… ${v.init.length} bytes` : ''}`);
  }
  for (const r of v.relocations) {
    const name = r.to === 'variable' ? p.variables[r.index].name : p.functions[r.index].name;
    parts.push(`at ${r.at}: ${r.isGeneric ? `generic(${name})` : name}${plus(r.addend)}`);
  }
  return parts.join(', ');
}

/** Limits that were given: `reqntid 128,1,1`. */
function limits({ limits: all }: DecodedFunction): string[] {
  return Object.entries(all).flatMap(([name, value]) => {
    if (typeof value === 'boolean') return value ? [`.${name}`] : [];
    if (typeof value === 'number') return value > 0 ? [`.${name} ${value}`] : [];
    return value[0] > 0 ? [`.${name} ${value.join(', ')}`] : [];
  });
}

function describeFunction(f: DecodedFunction, p: DecodedProgram): string[] {
  const names = namesOf(f);
  const targets = new Set(f.branchTables.flat());
  for (const i of f.instructions)
    for (const o of i.operands) if (o.kind === 'label') targets.add(o.instruction);
  const out = [`${f.isExtern ? '.extern ' : ''}${f.isEntry ? '.entry' : '.func'} ${f.name}`];
  for (const q of f.returns) out.push(`  returns ${parameter(q)}`);
  for (const q of f.parameters) out.push(`  param ${parameter(q)}`);
  for (const text of limits(f)) out.push(`  ${text}`);
  if (f.isExtern) return out;
  out.push(`  registers: ${f.registers.join(', ')} (predicates, 32, 64, 128 bits)`);
  f.instructions.forEach((i, n) => {
    if (targets.has(n)) out.push(`L${n}:`);
    out.push(`  ${instruction(i, f, p, names)}`);
  });
  if (targets.has(f.instructions.length)) out.push(`L${f.instructions.length}:`);
  return out;
}

/** The whole program as text, ending in a newline. */
export function describeProgram(p: DecodedProgram): string {
  const out = [`ptx ${p.ptxMajor}.${p.ptxMinor}, ${p.target}`];
  for (const { index, name } of p.files) out.push(`.file ${index} ${JSON.stringify(name)}`);
  for (const v of p.variables) out.push(variable(v, p));
  for (const f of p.functions) out.push('', ...describeFunction(f, p));
  return `${out.join('\n')}\n`;
}
