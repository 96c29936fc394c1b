// Every op that is not yet part of a launch becomes a kernel of its own. After it, blocks hold launches, aliases and
// structure only, and what is to be planned and emitted is plain to see.
import type { Function, Op, Value } from '../../ir/module.ts';
import { opDefinition } from '../../ir/ops/index.ts';
import { isAlias, Outliner } from '../outline.ts';
import type { Pass } from '../pass.ts';
import { definitions } from '../rewrite.ts';

export const outlineKernels: Pass = {
  name: 'outline-kernels',
  doc: 'makes every op that is left a kernel function and a launch',
  required: true,
  run: (module) => {
    const outliner = new Outliner(module);
    let changed = false;
    const blocks = module.functions
      .filter((f) => f.kind !== 'kernel')
      .map((f): Function => {
        if (!f.body.some(needsKernel)) return f;
        changed = true;
        return { ...f, body: outlined(f, outliner) };
      });
    return changed ? outliner.finish(blocks) : module;
  },
};

const needsKernel = (op: Op): boolean => opDefinition(op.op).class !== 'structure' && !isAlias(op);

function outlined(f: Function, outliner: Outliner): readonly Op[] {
  const defs = definitions(f);
  const returned = new Set<Value>([...f.results, ...f.finals]);
  // Constants and what views make of them read no memory: they are written into each kernel that uses them (one alone
  // could not even know the size of a ragged dim).
  const free = new Set<Op>();
  for (const op of f.body)
    if (opDefinition(op.op).class === 'view' && op.operands.every((v) => free.has(defs.get(v) as Op)))
      free.add(op);
  const readByStructure = new Set(f.body.filter((op) => !needsKernel(op)).flatMap((op) => op.operands));
  const alone = (op: Op): boolean => op.results.some((r) => returned.has(r) || readByStructure.has(r));

  const withConstants = (op: Op): readonly Op[] => {
    const producers = op.operands
      .map((v) => defs.get(v))
      .filter((p): p is Op => p !== undefined && free.has(p));
    return [...new Set([...producers.flatMap(withConstants), op])];
  };
  return f.body.flatMap((op) => {
    if (!needsKernel(op)) return [op];
    if (free.has(op) && !alone(op)) return [];
    return [outliner.launch({ ops: withConstants(op), results: op.results })];
  });
}
