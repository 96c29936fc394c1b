// Where each value of a function lies: in its arena for a span of steps, in somebody else's memory (arguments,
// weights), or in the memory of another value that it renames or updates.
import { functionNamed, type Function, type Module, type Op, type Value } from '../../ir/module.ts';
import { isAlias } from '../outline.ts';
import { valueBytes } from './buffers.ts';
import type { Interval } from './arena.ts';

/** The value whose memory a value is, followed to the end; a value that owns memory gives itself. */
export type Owners = ReadonlyMap<Value, Value>;

/** Result number i of a launch or repeat that is the new value of a state or carry: the operand that it replaces. */
export function updatedOperand(module: Module, op: Op, result: number): Value | null {
  if (op.op !== 'launch' && op.op !== 'repeat' && op.op !== 'call') return null;
  const callee = functionNamed(module, String(op.attributes.callee));
  const inout = callee.arguments.flatMap((a, i) => (a.inout ? [op.operands[i]] : []));
  const fromEnd = op.results.length - result;
  return fromEnd <= inout.length ? inout[inout.length - fromEnd] : null;
}

export function ownersOf(module: Module, f: Function): Owners {
  const owners = new Map<Value, Value>();
  const owner = (v: Value): Value => owners.get(v) ?? v;
  for (const op of f.body) {
    if (isAlias(op)) owners.set(op.results[0], owner(op.operands[0]));
    else
      op.results.forEach((r, i) => {
        const updated = updatedOperand(module, op, i);
        if (updated) owners.set(r, owner(updated));
      });
  }
  return owners;
}

/** Values with memory of their own in the function's arena, and when they must be there (step = index in the body). */
export function arenaIntervals(
  module: Module,
  f: Function,
): { values: readonly Value[]; intervals: readonly Interval[] } {
  const owners = ownersOf(module, f);
  const owner = (v: Value): Value => owners.get(v) ?? v;
  const last = new Map<Value, number>();
  f.body.forEach((op, i) => op.operands.forEach((v) => last.set(owner(v), i)));
  for (const v of [...f.results, ...f.finals]) last.set(owner(v), f.body.length);
  const values: Value[] = [];
  const intervals: Interval[] = [];
  f.body.forEach((op, i) => {
    for (const r of op.results) {
      if (owner(r) !== r) continue;
      values.push(r);
      intervals.push({ bytes: valueBytes(r.type, module), from: i, to: last.get(r) ?? i });
    }
  });
  return { values, intervals };
}
