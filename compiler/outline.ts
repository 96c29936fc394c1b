// Turns groups of ops into kernel functions and launches of them. Equal kernels are one function: a kernel's name ends
// in a hash of its text without spans, so that layers, entries and compilations share it.
import { createHash } from 'node:crypto';

import { functionNamed, type Function, type Module, type Op, type Value } from '../ir/module.ts';
import { opDefinition } from '../ir/ops/index.ts';
import { noSpan } from '../ir/span.ts';
import { printFunction } from '../ir/text/printer.ts';

/** One launch to be: its ops in program order, views pulled in from outside included. */
export interface Group {
  readonly ops: readonly Op[];
  /** Results that others read, in order. */
  readonly results: readonly Value[];
}

/** Ops that only rename memory: no kernel is needed, the plan points at the operand's buffer. */
export function isAlias(op: Op): boolean {
  switch (op.op) {
    case 'reshape':
    case 'cache_read':
    case 'position_field':
      return true;
    case 'routing_field':
      return op.attributes.field !== 'slot_weights';
    default:
      return false;
  }
}

/** Collects the kernels of a module while its functions are rewritten. */
export class Outliner {
  readonly kernels = new Map<string, Function>();
  private readonly module: Module;

  constructor(module: Module) {
    this.module = module;
    for (const f of module.functions) if (f.kind === 'kernel') this.kernels.set(f.name, f);
  }

  /** The launch that replaces a group; its results are the group's, by identity. */
  launch(group: Group): Op {
    const inside = new Set(group.ops.flatMap((op) => op.results));
    const outside: Value[] = [];
    for (const op of group.ops)
      for (const v of op.operands) if (!inside.has(v) && !outside.includes(v)) outside.push(v);
    const kernel = this.kernelFor(group, outside);
    const main = group.ops.find((op) => opDefinition(op.op).class !== 'view') ?? group.ops[0];
    return {
      op: 'launch',
      operands: outside,
      attributes: { callee: kernel, memory: [] },
      results: group.results,
      span: main.span,
    };
  }

  private kernelFor(group: Group, outside: readonly Value[]): string {
    const map = new Map<Value, Value>();
    const args = outside.map((v, i) => {
      const value: Value = { name: `a${i}`, type: v.type, source: 'argument' };
      map.set(v, value);
      return { value, inout: false };
    });
    let n = 0;
    const body = group.ops.map((op): Op => {
      const operands = op.operands.map((v) => map.get(v) ?? v);
      const results = op.results.map((r): Value => {
        const value: Value = { name: `v${n++}`, type: r.type, source: 'result' };
        map.set(r, value);
        return value;
      });
      return { ...op, operands, results };
    });
    // A state is updated where it lies: its argument is inout and its new value a final, as everywhere.
    const results = group.results.map((v) => map.get(v) ?? v);
    const shape: Function = {
      kind: 'kernel',
      name: 'k',
      arguments: args.map((a) => ({
        ...a,
        inout: a.value.type.kind === 'state' && changesState(body, a.value),
      })),
      declarations: [],
      body,
      results: results.filter((v) => v.type.kind !== 'state'),
      finals: results.filter((v) => v.type.kind === 'state'),
      attributes: {},
      span: noSpan,
    };
    const bare = { ...shape, body: body.map((op) => ({ ...op, span: noSpan })) };
    const hash = createHash('sha256').update(printFunction(bare)).digest('hex').slice(0, 8);
    const name = `${kernelStem(group.ops)}_${hash}`;
    if (!this.kernels.has(name)) this.kernels.set(name, { ...shape, name });
    return name;
  }

  /** The module with rewritten functions and every kernel in front of them. */
  finish(functions: readonly Function[]): Module {
    return { ...this.module, functions: [...this.kernels.values(), ...functions] };
  }
}

const changesState = (body: readonly Op[], state: Value): boolean =>
  body.some((op) => op.op === 'cache_append' && op.operands[0] === state);

/** What a kernel does, in a name: its ops that compute, the telling ones first come. */
function kernelStem(ops: readonly Op[]): string {
  const telling = ops.filter((op) => opDefinition(op.op).class !== 'view').map((op) => op.op);
  const names = [...new Set(telling.length > 0 ? telling : ops.map((op) => op.op))];
  return names.slice(0, 3).join('_') + (names.length > 3 ? `_and_${names.length - 3}` : '');
}

/** The kernel function that a launch names. */
export const kernelOf = (module: Module, op: Op): Function =>
  functionNamed(module, String(op.attributes.callee));
