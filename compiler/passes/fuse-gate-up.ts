// SwiGLU's gate and up projections read one input: one GEMM of twice the width reads it once.
import type { Function, Module, Op } from '../../ir/module.ts';
import { declineToJoin, joinableGroups, joinMatmuls } from '../join-matmuls.ts';
import type { Pass, PassContext } from '../pass.ts';
import { definitions, mapBlocks } from '../rewrite.ts';

export const fuseGateUp: Pass = {
  name: 'fuse-gate-up',
  doc: 'joins the gate and up projections of SwiGLU into one matmul (dense and grouped)',
  run: (module, context) =>
    mapBlocks(module, (f) => joinMatmuls(module, f, gateUpGroups(module, f, context))),
};

function gateUpGroups(module: Module, f: Function, context: PassContext): readonly (readonly Op[])[] {
  const defs = definitions(f);
  const pairs = new Map<Op, Op>();
  for (const op of f.body) {
    if (op.op !== 'silu_mul') continue;
    const gate = defs.get(op.operands[0]);
    const up = defs.get(op.operands[1]);
    if (gate && up && gate !== up) pairs.set(gate, up);
  }
  const out: (readonly Op[])[] = [];
  for (const group of joinableGroups(f)) {
    for (const gate of group) {
      const up = pairs.get(gate);
      if (!up || !group.includes(up)) continue;
      const declined = declineToJoin([gate, up], module, 'fuse-gate-up');
      if (declined) context.report(declined);
      else out.push([gate, up]);
    }
  }
  return out;
}
