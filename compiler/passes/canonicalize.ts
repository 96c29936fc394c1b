// One spelling for equal things, so that later passes match shapes and not habits: equal ops are computed once,
// views that change nothing disappear, chains of reshapes become one, dead ops go.
import type { Function, Module, Op, Value } from '../../ir/module.ts';
import { sameType, showType, type TensorType } from '../../ir/types.ts';
import type { Pass } from '../pass.ts';
import { definitions, dropDead, mapBlocks, rewriteFunction } from '../rewrite.ts';

export const canonicalize: Pass = {
  name: 'canonicalize',
  doc: 'computes equal ops once, drops views that change nothing, joins chains of reshapes, removes dead ops',
  run: (module) => mapBlocks(module, (f) => canonicalizeFunction(module, f)),
};

/** For passes that leave equal ops behind. */
export function canonicalizeFunction(module: Module, f: Function): Function {
  const live = dropDead(f);
  const defs = definitions(live);
  const numbers = new Numbers();
  return rewriteFunction(module, live, (op, r) => {
    const operands = op.operands.map((v) => r.now(v));
    const same = identity(op, operands);
    if (same) {
      r.replace(op.results[0], same);
      return true;
    }
    const shorter = reshapeOfReshape(op, defs);
    if (shorter) {
      const source = r.now(shorter);
      if (sameType(source.type, op.results[0].type)) r.replace(op.results[0], source);
      else r.replace(op.results[0], r.b.one('reshape', [source], {}, op.results[0].type, op.results[0].name));
      return true;
    }
    const known = numbers.lookup(op, operands);
    if (known) {
      op.results.forEach((v, i) => r.replace(v, known[i]));
      return true;
    }
    return false;
  });
}

/** Value numbering: the results of an equal op seen before, or null and the op is remembered. */
class Numbers {
  private readonly ids = new Map<Value, number>();
  private readonly seen = new Map<string, readonly Value[]>();

  lookup(op: Op, operands: readonly Value[]): readonly Value[] | null {
    // A state has one owner: its ops are never shared.
    if (op.operands.some((v) => v.type.kind === 'state') || op.op === 'repeat' || op.op === 'call')
      return null;
    const types = op.results.map((v) => showType(v.type)).join();
    const key = `${op.op}(${operands.map((v) => this.id(v)).join()})${JSON.stringify(op.attributes)}:${types}`;
    const known = this.seen.get(key);
    if (known) return known;
    this.seen.set(key, op.results);
    return null;
  }

  private id(v: Value): number {
    const known = this.ids.get(v);
    if (known !== undefined) return known;
    this.ids.set(v, this.ids.size);
    return this.ids.size - 1;
  }
}

/** The operand that an op merely passes on, if it does. */
function identity(op: Op, operands: readonly Value[]): Value | null {
  const [x] = operands;
  const result = op.results[0]?.type;
  if (!x || !result) return null;
  switch (op.op) {
    case 'reshape':
    case 'cast':
    case 'broadcast':
      return sameType(x.type, result) ? x : null;
    case 'transpose':
      return (op.attributes.order as readonly number[]).every((o, i) => o === i) ? x : null;
    case 'concat':
      return operands.length === 1 ? x : null;
    case 'split':
      return op.results.length === 1 ? x : null;
    case 'slice': {
      const axis = Number(op.attributes.axis);
      return op.attributes.start === 0 && op.attributes.stop === (x.type as TensorType).dims[axis].size
        ? x
        : null;
    }
    default:
      return null;
  }
}

/** What a chain of reshapes starts from, when there is a chain. */
function reshapeOfReshape(op: Op, defs: ReadonlyMap<Value, Op>): Value | null {
  if (op.op !== 'reshape') return null;
  let source = op.operands[0];
  for (let inner = defs.get(source); inner?.op === 'reshape'; inner = defs.get(source))
    source = inner.operands[0];
  return source === op.operands[0] ? null : source;
}
