// What a kernel function writes: an array per component of each result, and the rows appended to caches.
import type { Function, Module, Op, StateDeclaration, Value } from '../module.ts';
import type { Span } from '../span.ts';
import { componentsOf, fieldComponent, levelOf, scaleDType, tensorOf } from './components.ts';
import type { Buffer, Expr } from './expr.ts';
import { linear, type Index } from './indices.ts';
import type { Puller } from './puller.ts';

/** One array that the kernel writes: its elements run over `extents`. */
export interface Output {
  readonly extents: readonly Index[];
  readonly span: Span;
  /** What to store where, for one element. */
  at(index: readonly Index[]): { readonly buffer: Buffer; readonly offset: Index; readonly value: Expr };
}

/** Everything a kernel function writes: components of its results, and rows appended to caches. */
export function outputsOf(fn: Function, pull: Puller): Output[] {
  const producers = new Map<Value, Op>(fn.body.flatMap((op) => op.results.map((r) => [r, op] as const)));
  const results = fn.results.flatMap((v) => outputsOfValue(v, producers.get(v)?.span ?? fn.span, pull));
  const finals = fn.finals.flatMap((v) => {
    const appends: Output[] = [];
    // A state argument may pass through several appends, of which each writes other rows.
    for (let op = producers.get(v); op; op = producers.get(op.operands[0]))
      appends.unshift(...appendOutputs(op, pull));
    return appends;
  });
  return [...results, ...finals];
}

function outputsOfValue(v: Value, span: Span, pull: Puller): Output[] {
  if (v.type.kind !== 'tensor')
    throw new Error(`kernel @${pull.fn.name}: ${pull.producer(v)?.op ?? v.name} has no loop form`);
  const type = tensorOf(v);
  return componentsOf(type).map((component) => {
    const shape = pull.extents(type, component);
    return {
      extents: pull.extents(type, component, (d) => pull.count(d)),
      span,
      at: (index) => ({
        buffer: pull.buffer(v, component),
        offset: linear(index, shape),
        value: pull.at(v, index, component),
      }),
    };
  });
}

/** The state argument behind a chain of appends. */
function stateArgument(fn: Function, v: Value): Value {
  const op = fn.body.find((o) => o.results.includes(v));
  return op ? stateArgument(fn, op.operands[0]) : v;
}

function appendOutputs(op: Op, pull: Puller): Output[] {
  if (op.op !== 'cache_append') throw new Error(`kernel @${pull.fn.name}: ${op.op} has no loop form`);
  const [state, at, ...values] = op.operands;
  const declared = declarationOf(state, pull.module);
  const target = stateArgument(pull.fn, state);
  return values.flatMap((v, n) => {
    const field = declared.fields[n];
    return componentsOf(tensorOf(v)).map((component): Output => {
      const level = levelOf(component);
      const dtype = level < 0 ? field.type.dtype : scaleDType(field.type.scales[level]);
      const shape = pull.extents(field.type, component);
      return {
        extents: pull.extents(tensorOf(v), component, (d) => pull.count(d)),
        span: op.span,
        at: (index) => {
          const [sequence, position] = ['sequence', 'position'].map((f) =>
            pull.positionField(at, f, index[0]),
          );
          const row = pull.cacheRow(at, sequence, position, declared.page, shape[0]);
          return {
            buffer: pull.pool.buffer(target.name, fieldComponent(field.name, component), dtype),
            offset: linear([row, ...index.slice(1)], shape),
            value: pull.at(v, index, component),
          };
        },
      };
    });
  });
}

function declarationOf(state: Value, module: Module): StateDeclaration {
  const name = state.type.kind === 'state' ? state.type.state : null;
  const found = module.states.find((s) => s.name === name);
  if (!found) throw new Error(`no state ${name} is declared`);
  return found;
}
