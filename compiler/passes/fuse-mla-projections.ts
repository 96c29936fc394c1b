// The two things that make multi-head latent attention fast, found by shape rather than by name:
// 1. projections that read one input and feed attention (q_a and kv_a) become one GEMM;
// 2. where the cached latents are expanded to keys and values only to be attended to, and that costs more than it
//    saves, the expansion moves to the query and output side ("absorbed" form): two per-head products on activations.
import type { Function, Module, Op, Value } from '../../ir/module.ts';
import type { PassContext, Pass } from '../pass.ts';
import { declineToJoin, joinableGroups, joinMatmuls } from '../join-matmuls.ts';
import { mapBlocks } from '../rewrite.ts';
import { absorb } from './absorb.ts';

export const fuseMlaProjections: Pass = {
  name: 'fuse-mla-projections',
  doc: 'joins the projections that feed attention into one GEMM; absorbs the latent expansion where decode gains',
  run: (module, context) =>
    mapBlocks(module, (f) => {
      const joined = joinMatmuls(module, f, attentionGroups(module, f, context));
      return absorb(module, joined, context);
    }),
};

/** Groups of matmuls over one input whose results all reach an attention, or the cache that it reads. */
function attentionGroups(module: Module, f: Function, context: PassContext): readonly (readonly Op[])[] {
  const feeding = feedsAttention(f);
  const out: (readonly Op[])[] = [];
  for (const group of joinableGroups(f)) {
    const members = group.filter((op) => feeding.has(op.results[0]));
    if (members.length < 2) continue;
    const declined = declineToJoin(members, module, 'fuse-mla-projections');
    if (declined) context.report(declined);
    else out.push(members);
  }
  return out;
}

/** Values that reach an attention op of the same function without passing through another attention. */
function feedsAttention(f: Function): ReadonlySet<Value> {
  const feeding = new Set<Value>();
  for (let i = f.body.length - 1; i >= 0; i--) {
    const op = f.body[i];
    const sink = op.op === 'attention' || op.op === 'cache_append';
    if (!sink && (op.op === 'repeat' || !op.results.some((v) => feeding.has(v)))) continue;
    for (const v of op.operands) feeding.add(v);
  }
  return feeding;
}
