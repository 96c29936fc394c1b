// Gives every value that needs memory an offset in its function's arena, reusing what is no longer read. A repeat's
// block gets a stretch of its caller's arena; carries and states are updated where they lie. Weights are not here:
// entries name them, so that prefill and decode share one copy.
import type { Function, Module, Op, Value } from '../../ir/module.ts';
import { packIntervals, type Interval } from '../memory/arena.ts';
import { arenaIntervals } from '../memory/liveness.ts';
import type { Pass } from '../pass.ts';

export const planMemory: Pass = {
  name: 'plan-memory',
  doc: 'assigns arena offsets, reusing memory of values that are no longer read',
  run: (module) => {
    const arenas = new Map<string, number>();
    const functions: Function[] = [];
    for (const f of module.functions) {
      const planned = f.kind === 'kernel' ? f : planFunction(module, f, arenas);
      functions.push(planned);
    }
    return { ...module, functions };
  },
};

/** `arenas` holds the arena bytes of functions planned before: callees come first. */
function planFunction(module: Module, f: Function, arenas: Map<string, number>): Function {
  const { values, intervals } = arenaIntervals(module, f);
  const calls: { op: Op; interval: Interval }[] = f.body.flatMap((op, i) =>
    op.op === 'repeat' || op.op === 'call'
      ? [{ op, interval: { bytes: arenas.get(String(op.attributes.callee)) ?? 0, from: i, to: i } }]
      : [],
  );
  const { offsets, bytes } = packIntervals([...intervals, ...calls.map((c) => c.interval)]);
  arenas.set(f.name, bytes);
  const at = new Map<Value, number>(values.map((v, i) => [v, offsets[i]]));
  const base = new Map<Op, number>(calls.map((c, i) => [c.op, offsets[values.length + i]]));
  const body = f.body.map((op): Op => {
    const own = op.results.map((r) => at.get(r) ?? -1);
    const memory = base.has(op) ? [...own, base.get(op) ?? 0] : own;
    return { ...op, attributes: { ...op.attributes, memory } };
  });
  return { ...f, body, attributes: { ...f.attributes, arena: bytes } };
}
