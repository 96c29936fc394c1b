// PTX text from PTX as data. Deterministic: the same module prints the same bytes everywhere.
import type { Instruction, PtxKernel, PtxModule, SharedVariable, Statement } from './ast.ts';
import { showOperand } from './operands.ts';

export function showInstruction(i: Instruction): string {
  const guard = i.guard ? `@${i.guard.negated ? '!' : ''}${i.guard.predicate.name} ` : '';
  const mnemonic = i.modifiers.length === 0 ? i.opcode : `${i.opcode}.${i.modifiers.join('.')}`;
  const operands = i.operands.map((operand, n) => showOperand(operand, i.types[n]));
  return `${guard}${mnemonic}${operands.length === 0 ? '' : ` ${operands.join(', ')}`};`;
}

const showShared = ({ name, bytes, align }: SharedVariable): string =>
  bytes === undefined
    ? `.extern .shared .align ${align} .b8 ${name}[];`
    : `.shared .align ${align} .b8 ${name}[${bytes}];`;

const showParameter = ({ name, type }: PtxKernel['parameters'][number]): string =>
  type === 'tensorMap' ? `.param .align 64 .b8 ${name}[128]` : `.param .${type} ${name}`;

/** Source files in order of first use; the index in `.file` counts from 1. */
function filesOf(module: PtxModule): Map<string, number> {
  const files = new Map<string, number>();
  for (const kernel of module.kernels)
    for (const s of kernel.body)
      if (s.kind === 'instruction' && s.place && !files.has(s.place.file))
        files.set(s.place.file, files.size + 1);
  return files;
}

function printBody(body: readonly Statement[], files: ReadonlyMap<string, number>, out: string[]): void {
  let current = '';
  for (const s of body) {
    if (s.kind === 'label') {
      out.push(`${s.name}:`);
    } else if (s.kind === 'comment') {
      for (const line of s.text.split('\n')) out.push(`  // ${line}`.trimEnd());
    } else {
      if (s.place) {
        const loc = `  .loc ${files.get(s.place.file)!} ${s.place.line} ${s.place.column}`;
        // One .loc for a run of instructions from one place: they would only lengthen the text.
        if (loc !== current) out.push((current = loc));
      }
      out.push(`  ${showInstruction(s)}`);
    }
  }
}

function printKernel(kernel: PtxKernel, files: ReadonlyMap<string, number>, out: string[]): void {
  for (const s of kernel.shared) if (s.bytes === undefined) out.push(showShared(s), '');
  const parameters = kernel.parameters.map((p) => `  ${showParameter(p)}`).join(',\n');
  out.push(`.visible .entry ${kernel.name}(`);
  if (parameters !== '') out.push(parameters);
  out.push(')', ...kernel.directives, '{');
  for (const { prefix, type, count } of kernel.registers) out.push(`  .reg .${type} %${prefix}<${count}>;`);
  for (const s of kernel.shared) if (s.bytes !== undefined) out.push(`  ${showShared(s)}`);
  out.push('');
  printBody(kernel.body, files, out);
  out.push('}');
}

/** The whole module, ending in a newline. */
export function printModule(module: PtxModule): string {
  const files = filesOf(module);
  const out = [`.version ${module.version}`, `.target ${module.target}`, '.address_size 64', ''];
  for (const [file, index] of files) out.push(`.file ${index} ${JSON.stringify(file)}`);
  if (files.size > 0) out.push('');
  for (const kernel of module.kernels) {
    printKernel(kernel, files, out);
    out.push('');
  }
  out.pop();
  return `${out.join('\n')}\n`;
}
