// The entries of a module by name, and the module without the others.
import { calleeOf, type Function, type Module } from '../../ir/module.ts';
import { entriesOf } from '../weights.ts';
import { checkNames } from './names.ts';

/**
 * The module with only the entries named (all when none is), the functions that they reach, and the dims and states as
 * they are. Throws UsageError `usage/unknown-entry`.
 */
export function keepEntries(module: Module, names: readonly string[]): Module {
  if (names.length === 0) return module;
  checkNames(
    'entry',
    'entries',
    names,
    entriesOf(module).map((f) => f.name),
  );
  const byName = new Map(module.functions.map((f) => [f.name, f]));
  const kept = new Set<Function>();
  const keep = (f: Function | undefined): void => {
    if (f === undefined || kept.has(f)) return;
    kept.add(f);
    for (const op of f.body) {
      const callee = calleeOf(op);
      if (callee !== null) keep(byName.get(callee));
    }
  };
  for (const name of names) keep(byName.get(name));
  return { ...module, functions: module.functions.filter((f) => kept.has(f)) };
}
