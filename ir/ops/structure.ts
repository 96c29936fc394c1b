// Calling functions. A block is traced once with its own run-time dims; a call binds them by matching its argument
// types with the operands, and its result types are the callee's through that binding. Dims that the callee makes
// itself (the slots of a routing) keep their name. What calls mean at run time is in the interpreter: only it knows
// weights and layers, so these ops have no reference.
import type { Attributes, Function } from '../module.ts';
import {
  dim,
  dimsOf,
  mapDims,
  sameDim,
  sameType,
  showDim,
  showType,
  tensor,
  type Dim,
  type TensorType,
  type Type,
} from '../types.ts';
import { defineOp, problem, type InferContext } from './define.ts';
import { flagOf, integerOf, named, textOf } from './support.ts';

/** What a callee's run-time dims stand for in the caller. */
export type DimBinding = Map<string, Dim>;

const kinds: Readonly<Record<Type['kind'], string>> = {
  tensor: 'a tensor',
  positions: 'positions',
  routing: 'a routing',
  state: 'a state',
};

/**
 * Matches an argument's type with an operand's and binds the argument's run-time dims. Gives what differs, in words,
 * or null when they match. A dim that is bound already must be bound to the same again.
 */
export function unify(argument: Type, operand: Type, binding: DimBinding): string | null {
  if (argument.kind !== operand.kind) return `it takes ${kinds[argument.kind]}, not ${kinds[operand.kind]}`;
  if (argument.kind === 'state') return sameType(argument, operand) ? null : 'the states differ';
  const [wanted, given] = [dimsOf(argument), dimsOf(operand)];
  if (wanted.length !== given.length) return `it has ${wanted.length} axes, not ${given.length}`;
  for (const [axis, d] of wanted.entries()) {
    const difference = bindDim(d, given[axis], binding);
    if (difference) return `axis ${axis}: ${difference}`;
  }
  if (argument.kind !== 'tensor' || operand.kind !== 'tensor') return null;
  return sameType({ ...argument, dims: operand.dims }, operand) ? null : 'dtype or scales differ';
}

function bindDim(wanted: Dim, given: Dim, binding: DimBinding): string | null {
  if (wanted.size !== null)
    return sameDim(wanted, given) ? null : `${showDim(wanted)} there, ${showDim(given)} here`;
  const name = wanted.name!;
  const bound = binding.get(name);
  if (bound && !sameDim(bound, given))
    return `${name} is ${showDim(bound)} already, and here ${showDim(given)}`;
  binding.set(name, bound ?? given);
  return null;
}

/** The callee's type as the caller sees it. */
export const throughBinding = (type: Type, binding: DimBinding): Type =>
  mapDims(type, (d) => (d.size === null ? (binding.get(d.name!) ?? d) : d));

/**
 * A binding to start from: row axes of states belong to the module, not to a block, so they stand for themselves.
 */
export const globalDims = ({ module }: InferContext): DimBinding =>
  new Map(
    module.states
      .flatMap((s) => s.fields.flatMap((f) => f.type.dims))
      .filter((d) => d.size === null)
      .map((d) => [d.name!, d]),
  );

function expectCallee(op: string, attributes: Attributes, context: InferContext): Function {
  const name = textOf(attributes, 'callee');
  const callee = calleeNamed(name, op, context);
  const wanted = op === 'launch' ? 'kernel' : 'block';
  if (callee.kind !== wanted)
    problem(
      `${op} runs a ${wanted}, but @${name} is ${callee.kind === 'entry' ? 'an entry' : `a ${callee.kind}`}`,
      'callee',
    );
  return callee;
}

function calleeNamed(name: string, op: string, context: InferContext): Function {
  try {
    return context.callee(name);
  } catch {
    problem(`${op}: there is no function @${name}`, 'callee', 'functions stand before those that call them');
  }
}

function expectCount(op: string, callee: Function, operands: readonly unknown[]): void {
  if (operands.length !== callee.arguments.length)
    problem(
      `${op} @${callee.name} takes ${callee.arguments.map((a) => `%${a.value.name}`).join(', ') || 'no operands'}, but got ${operands.length} operand${operands.length === 1 ? '' : 's'}`,
    );
}

/** Binds the callee's dims to the operands'. Throws OpProblem naming the argument. */
function bindArguments(
  op: string,
  callee: Function,
  operands: readonly Type[],
  context: InferContext,
): DimBinding {
  const binding = globalDims(context);
  for (const [i, { value }] of callee.arguments.entries()) {
    const difference = unify(value.type, operands[i], binding);
    if (difference)
      problem(
        `${op} @${callee.name}: argument %${value.name} is ${showType(value.type)}, but got ${showType(operands[i])}: ${difference}`,
        value.name,
      );
  }
  return binding;
}

/** Results, then the finals of inout arguments. */
export const outputsOf = (callee: Function): readonly Type[] =>
  [...callee.results, ...callee.finals].map((v) => v.type);

function inferCall(
  op: string,
  operands: readonly Type[],
  attributes: Attributes,
  declared: readonly Type[] | null,
  context: InferContext,
): readonly Type[] {
  const callee = expectCallee(op, attributes, context);
  expectCount(op, callee, operands);
  const binding = bindArguments(op, callee, operands, context);
  return named(
    outputsOf(callee).map((t) => throughBinding(t, binding)),
    declared,
  );
}

const calleeAttribute = { kind: 'string', doc: 'the function, without @' } as const;
const prefixDoc = "put before the names of the callee's weights";

const call = defineOp({
  name: 'call',
  class: 'structure',
  doc: "a block's results, then the final values of its inout arguments",
  operands: ['operands...'],
  attributes: { callee: calleeAttribute, prefix: { kind: 'string', default: '', doc: prefixDoc } },
  infer: (operands, attributes, declared, context) =>
    inferCall('call', operands, attributes, declared, context),
});

const launch = defineOp({
  name: 'launch',
  class: 'structure',
  doc: 'runs a kernel: its results, then the final values of its inout arguments',
  operands: ['operands...'],
  attributes: { callee: calleeAttribute },
  infer: (operands, attributes, declared, context) =>
    inferCall('launch', operands, attributes, declared, context),
});

// --- repeat ---

export type RepeatMode = 'carry' | 'same' | 'indexed';
const modes: readonly string[] = ['carry', 'same', 'indexed'] satisfies readonly RepeatMode[];

/** A repeat's attributes, read. */
export interface RepeatPlan {
  readonly start: number;
  readonly stop: number;
  readonly reverse: boolean;
  readonly prefix: string;
  readonly modes: readonly RepeatMode[];
}

export const repeatPlan = (attributes: Attributes): RepeatPlan => ({
  start: integerOf(attributes, 'start'),
  stop: integerOf(attributes, 'stop'),
  reverse: flagOf(attributes, 'reverse'),
  prefix: textOf(attributes, 'prefix'),
  modes: attributes.modes as readonly RepeatMode[],
});

/**
 * Element of an indexed operand of `count` elements that layer `i` gets: element i; but with exactly one element per
 * layer (what another repeat stacked) element i − start. Null when `count` is neither.
 */
export function indexedElement(
  count: number,
  i: number,
  { start, stop }: Pick<RepeatPlan, 'start' | 'stop'>,
): number | null {
  if (count === stop - start) return i - start;
  return count >= stop ? i : null;
}

const repeat = defineOp({
  name: 'repeat',
  class: 'structure',
  doc: 'calls a block once per layer: final carries, further results stacked, then the inout arguments as a whole',
  operands: ['operands...'],
  attributes: {
    callee: calleeAttribute,
    start: { kind: 'integer', doc: 'first layer' },
    stop: { kind: 'integer', doc: 'one more than the last layer' },
    prefix: { kind: 'string', default: '', doc: `${prefixDoc}; {i} becomes the layer's number` },
    modes: { kind: 'strings', doc: 'per operand: carry, same or indexed' },
    reverse: {
      kind: 'boolean',
      default: false,
      doc: 'from the last layer to the first; stacking keeps layer order',
    },
  },
  infer: (operands, attributes, declared, context) => {
    const callee = expectCallee('repeat', attributes, context);
    expectCount('repeat', callee, operands);
    const plan = expectPlan(callee, attributes);
    const elements = operands.map((t, i) =>
      plan.modes[i] === 'indexed' ? elementOf(t, plan, callee, i) : t,
    );
    const binding = bindArguments('repeat', callee, elements, context);
    const results = callee.results.map((v) => throughBinding(v.type, binding));
    const carried = operands.filter((_, i) => plan.modes[i] === 'carry' && !callee.arguments[i].inout);
    expectCarried(callee, carried, results);
    const stacked = results.slice(carried.length).map((t) => stack(t, plan, callee));
    const finals = operands.filter((_, i) => callee.arguments[i].inout);
    return named([...carried, ...stacked, ...finals], declared);
  },
});

function expectPlan(callee: Function, attributes: Attributes): RepeatPlan {
  const plan = repeatPlan(attributes);
  const args = callee.arguments;
  if (plan.start < 0 || plan.stop < plan.start)
    problem(`repeat @${callee.name}: layers ${plan.start} to ${plan.stop} are no range`, 'stop');
  if (plan.modes.length !== args.length)
    problem(
      `repeat @${callee.name}: ${plan.modes.length} modes for ${args.length} operands`,
      'modes',
      'write carry, same or indexed for each operand',
    );
  for (const [i, mode] of plan.modes.entries()) {
    if (!modes.includes(mode))
      problem(`repeat @${callee.name}: mode ${mode}`, 'modes', `use one of ${modes.join(', ')}`);
    if (args[i].inout && mode === 'same')
      problem(
        `repeat @${callee.name}: %${args[i].value.name} is updated by each layer, so it cannot be the same for all`,
        'modes',
        'use carry for one value that every layer updates, indexed for one per layer',
      );
  }
  return plan;
}

/** Type of one layer's element of an indexed operand. */
function elementOf(type: Type, plan: RepeatPlan, callee: Function, i: number): Type {
  const of = `repeat @${callee.name}: operand ${i} (%${callee.arguments[i].value.name})`;
  const count =
    type.kind === 'state' ? type.count : type.kind === 'tensor' ? (type.dims[0]?.size ?? null) : null;
  if (count === null) problem(`${of} cannot be indexed by layer: it is ${showType(type)}`, 'modes');
  if (indexedElement(count, plan.start, plan) === null)
    problem(
      `${of} has ${count} elements, but layers run from ${plan.start} to ${plan.stop}`,
      'modes',
      `give it at least ${plan.stop} elements, or ${plan.stop - plan.start}`,
    );
  if (type.kind === 'state') return { ...type, count: null };
  const t = type as TensorType;
  for (const { tile } of t.scales)
    if (tile[0] !== 1) problem(`${of}: tiles of ${showType(t)} hold several layers`, 'modes');
  const scales = t.scales.map((s) => ({ ...s, tile: s.tile.slice(1) }));
  return tensor(t.dtype, t.dims.slice(1), scales);
}

function expectCarried(callee: Function, carried: readonly Type[], results: readonly Type[]): void {
  if (carried.length > results.length)
    problem(
      `repeat @${callee.name}: ${carried.length} operands are carried, but it gives ${results.length} results`,
      'modes',
    );
  for (const [n, type] of carried.entries())
    if (!sameType(type, results[n]))
      problem(
        `repeat @${callee.name}: carry ${n} is ${showType(type)}, but a layer turns it into ${showType(results[n])}`,
        'modes',
      );
}

/** Type of a result that every layer adds to. */
function stack(type: Type, { start, stop }: RepeatPlan, callee: Function): Type {
  if (type.kind !== 'tensor')
    problem(
      `repeat @${callee.name}: a result of type ${showType(type)} cannot be stacked over layers`,
      null,
      'only tensors can: return what it is made of',
    );
  const scales = type.scales.map((s) => ({ ...s, tile: [1, ...s.tile] }));
  return tensor(type.dtype, [dim(null, stop - start), ...type.dims], scales);
}

export const structureOps = { call, repeat, launch };
