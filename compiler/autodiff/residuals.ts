// What a backward block reads of its forward one: kept for it, made again, or passed again.
import type { Declaration, Function, Op, Value } from '../../ir/module.ts';
import { dimsOf } from '../../ir/types.ts';
import { dropDead } from '../rewrite.ts';

/**
 * A routing and its rows, whose number every layer chooses, cannot be stacked over layers: the backward body makes them
 * again, from the tokens' values that they came from.
 */
export function withRaggedAgain(
  body: Function,
  f: Function,
  args: readonly Value[],
  ragged: ReadonlySet<string>,
): Function {
  const isRagged = (v: Value): boolean =>
    v.type.kind === 'routing' || dimsOf(v.type).some((d) => d.size === null && ragged.has(d.name!));
  const needed = new Set([...freeValues(body, new Set(args))].filter(isRagged));
  const again: Op[] = [];
  for (const op of f.body.toReversed()) {
    if (!op.results.some((r) => needed.has(r))) continue;
    again.unshift(op);
    op.operands.filter(isRagged).forEach((v) => needed.add(v));
  }
  return again.length === 0 ? body : { ...body, body: [...again, ...body.body] };
}

/** Values that a body reads and does not make, in the order of their first use. */
export function freeValues(f: Function, own: ReadonlySet<Value>): Set<Value> {
  const made = new Set(own);
  const free = new Set<Value>();
  const read = (v: Value): void => {
    if (!made.has(v)) free.add(v);
  };
  for (const op of f.body) {
    op.operands.forEach(read);
    for (const r of op.results) made.add(r);
  }
  f.results.forEach(read);
  return free;
}

/** The function with what it read freely as arguments behind `args`; weights stay declarations. */
export function withArguments(
  f: Function,
  args: readonly Value[],
  free: readonly Value[],
  declarations: readonly Declaration[],
): Function {
  const stand = new Map(free.map((v): [Value, Value] => [v, { ...v, source: 'argument' }]));
  const now = (v: Value): Value => stand.get(v) ?? v;
  return dropDead({
    ...f,
    arguments: [...args, ...free.map(now)].map((value) => ({ value, inout: false })),
    declarations,
    body: f.body.map((op) => ({ ...op, operands: op.operands.map(now) })),
    results: f.results.map(now),
  });
}
