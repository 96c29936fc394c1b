// `dsvc emu --print`: the kernels of a PTX file with their parameters, then the instructions as they were understood. What
// it prints is PTX again.
import type { FunctionDeclaration, Parameter, PtxModule } from '../../backends/ptx/parse/index.ts';
import { printParsed } from '../../backends/ptx/parse/index.ts';

/** Bytes of a fundamental type: `u32`, `b8`, `f16x2`. */
function typeBytes(type: string): number {
  const [, bits, packed] = /(\d+)(?:x(\d))?$/.exec(type) ?? [];
  if (bits === undefined) return 1;
  // .f16x2 counts the packed elements; e4m3 and its like carry other numbers, but are no types of parameters.
  return (Number(bits) / 8) * Number(packed ?? 1);
}

function sizeOf({ type, vector, dims }: Parameter): number {
  return (dims ?? []).reduce((n, d) => n * Number(d?.value ?? 0n), typeBytes(type) * vector);
}

function describe(kernel: FunctionDeclaration): string[] {
  const parameters = kernel.parameters ?? [];
  const lines = [
    `// kernel ${kernel.name}: ${parameters.length || 'no'} parameter${parameters.length === 1 ? '' : 's'}`,
  ];
  let end = 0;
  for (const [i, p] of parameters.entries()) {
    const size = sizeOf(p);
    const align = Number(p.align?.value ?? BigInt(typeBytes(p.type) * p.vector));
    const offset = Math.ceil(end / align) * align;
    end = offset + size;
    const pointer = p.pointer ? `, points to .${p.pointer.space ?? 'generic'}` : '';
    lines.push(
      `//   [${i}] ${p.name}: .${p.type}${p.dims ? '[]' : ''}, ${size} byte${size === 1 ? '' : 's'} at ${offset}, aligned to ${align}${pointer}`,
    );
  }
  for (const { name, values } of kernel.directives)
    if (values.length > 0) lines.push(`//   .${name} ${values.map((v) => v.spelling).join(', ')}`);
  return lines;
}

export function printKernels(module: PtxModule): string {
  const kernels = module.statements.filter(
    (s) => s.kind === 'function' && s.isEntry,
  ) as FunctionDeclaration[];
  const head = kernels.length === 0 ? ['// no kernel'] : kernels.flatMap(describe);
  return `${head.join('\n')}\n${printParsed(module)}`;
}
