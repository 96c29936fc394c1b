// Barriers, and what the lanes of a warp do together. A thread waits until all of its lane mask (or CTA) have come.
import type { Thread } from './machine.ts';
import type { Compiler, Step } from './instructions.ts';
import type { Code, Get } from './operands.ts';

/** A warp-wide instruction: waits for the lanes in `mask`, then runs `together`. */
const gathered = (mask: Get<number>, together: Step['together']): Step => ({
  run: (t) => {
    if (((mask(t) >>> (t.tid % 32)) & 1) === 0) throw new Error('the lane is not in its own mask');
    t.waiting = { kind: 'warp', mask: mask(t), barrier: -1, count: 0 };
  },
  together,
});

const laneOf = (t: Thread): number => t.tid % 32;

function shuffle(c: Code): Step {
  const target = c.operand(0);
  const [value, valid] =
    target.kind === 'pair'
      ? [c.putIntOf(target.first), c.putPredicateOf(target.second)]
      : [c.putInt(0), null];
  const [a, b, clamp, mask] = [c.int(1), c.int(2), c.int(3), c.int(4)];
  const mode = c.i.modifiers[1];
  return gathered(mask, (members) => {
    const values = new Map(members.map((t) => [laneOf(t), a(t)]));
    const results = members.map((t) => {
      const lane = laneOf(t);
      const segment = (clamp(t) >>> 8) & 31;
      const last = (lane & segment) | (clamp(t) & 31 & ~segment);
      const first = lane & segment;
      const by = b(t) & 31;
      const from =
        mode === 'up'
          ? lane - by
          : mode === 'down'
            ? lane + by
            : mode === 'bfly'
              ? lane ^ by
              : first | (by & ~segment);
      const inside = mode === 'up' ? from >= last : from <= last;
      const source = inside ? from : lane;
      if (!values.has(source)) throw new Error(`shfl reads lane ${source}, which does not take part`);
      return { v: values.get(source)!, inside };
    });
    for (const [i, t] of members.entries()) {
      value(t, results[i].v);
      valid?.(t, results[i].inside);
    }
  });
}

function vote(c: Code): Step {
  const p = c.predicate(1);
  const mask = c.int(2);
  if (c.has.has('ballot')) {
    const d = c.putInt(0);
    return gathered(mask, (members) => {
      const ballot = members.reduce((bits, t) => bits | (p(t) ? 1 << laneOf(t) : 0), 0);
      for (const t of members) d(t, ballot);
    });
  }
  const d = c.putPredicate(0);
  return gathered(mask, (members) => {
    const answers = members.map((t) => p(t));
    const all = answers.every((x) => x);
    const any = answers.some((x) => x);
    const answer = c.has.has('all') ? all : c.has.has('any') ? any : all || !any;
    for (const t of members) d(t, answer);
  });
}

function match(c: Code): Step {
  if (!c.has.has('any') || c.type !== 'b32') c.fail('only match.any.sync.b32 here');
  const [d, a, mask] = [c.putInt(0), c.int(1), c.int(2)];
  return gathered(mask, (members) => {
    const values = members.map((t) => a(t));
    for (const [i, t] of members.entries())
      d(
        t,
        members.reduce((bits, o, j) => bits | (values[j] === values[i] ? 1 << laneOf(o) : 0), 0),
      );
  });
}

function reduceAcross(c: Code): Step {
  const [d, a, mask] = [c.putInt(0), c.int(1), c.int(2)];
  const unsigned = c.type === 'u32';
  const op: Record<string, (x: number, y: number) => number> = {
    add: (x, y) => (x + y) | 0,
    min: (x, y) => (unsigned ? Math.min(x >>> 0, y >>> 0) : Math.min(x, y)),
    max: (x, y) => (unsigned ? Math.max(x >>> 0, y >>> 0) : Math.max(x, y)),
    and: (x, y) => x & y,
    or: (x, y) => x | y,
    xor: (x, y) => x ^ y,
  };
  const join = op[c.i.modifiers[1]] ?? c.fail('which operation?');
  return gathered(mask, (members) => {
    const all = members.map((t) => a(t)).reduce(join);
    for (const t of members) d(t, all);
  });
}

function barrier(c: Code): Step {
  if (c.i.modifiers[0] === 'warp') return gathered(c.int(0), () => {});
  if (c.i.modifiers[0] !== 'sync') c.fail('only bar.sync here');
  const [id, count] = [c.int(0), c.i.operands.length > 1 ? c.int(1) : () => 0];
  return {
    run: (t) => {
      t.waiting = { kind: 'barrier', mask: 0, barrier: id(t), count: count(t) };
    },
  };
}

export const exchange: Readonly<Record<string, Compiler>> = {
  shfl: shuffle,
  vote,
  match,
  redux: reduceAcross,
  bar: barrier,
};
