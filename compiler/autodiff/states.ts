// Training runs on packed sequences, whose keys are the step's own tokens: caches are written and never read. This takes
// them out of a specialised entry, so that no residual holds a cache.
import { calleeOf, type Function, type Module, type Op } from '../../ir/module.ts';
import type { RepeatMode } from '../../ir/ops/structure.ts';
import { fail } from '../../ir/diagnostics.ts';

/** The module without states in the functions that `entry` reaches. Throws a DiagnosticError when a cache is read. */
export function withoutStates(module: Module): Module {
  return { ...module, functions: module.functions.map((f) => (f.kind === 'kernel' ? f : strip(f))) };
}

function strip(f: Function): Function {
  const isState = (v: { readonly type: { readonly kind: string } }): boolean => v.type.kind === 'state';
  const body = f.body.flatMap((op): Op[] => {
    if (op.op === 'cache_append') return [];
    if (op.op === 'cache_read')
      fail({
        code: 'autodiff/cache',
        at: op.span,
        message: `@${f.name} reads a cache: what is in it comes from other steps, whose gradient is not known here`,
        fix: 'differentiate an entry over packed sequences',
      });
    if (calleeOf(op) === null || !op.operands.some(isState)) return [op];
    const keeps = op.operands.map((v) => !isState(v));
    const modes = op.attributes.modes as readonly RepeatMode[] | undefined;
    return [
      {
        ...op,
        operands: op.operands.filter((_, i) => keeps[i]),
        attributes: { ...op.attributes, ...(modes && { modes: modes.filter((_, i) => keeps[i]) }) },
        results: op.results.filter((r) => !isState(r)),
      },
    ];
  });
  return { ...f, arguments: f.arguments.filter((a) => !isState(a.value)), body, finals: [] };
}
