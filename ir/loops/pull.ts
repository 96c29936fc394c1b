// The puller with its rules.
import type { Function, Module, Value } from '../module.ts';
import type { Pool } from './expr.ts';
import { pullRules } from './pull-rules.ts';
import { Puller } from './puller.ts';

/** Gives elements of a kernel function's values as expressions; see puller.ts. */
export class Pull extends Puller {
  /** `given`: values that stand in memory besides the arguments (what another writer has just computed). */
  constructor(fn: Function, module: Module, pool: Pool, given: ReadonlySet<Value> = new Set()) {
    super(fn, module, pool, given, pullRules);
  }
}
