// The meaning of the language, executed: every op through its reference, in f64, each result rounded to its dtype.
// Simple before fast; passes, kernels and gradients are compared with it. States are updated in place, as plans do.
// Values are dropped after their last use and weights after their layer, so a run needs little more than one layer.
import { DiagnosticError, fail } from '../diagnostics.ts';
import { dtypeInfo, roundInto } from '../formats/index.ts';
import { calleeOf, functionNamed, type Function, type Module, type Op, type Value } from '../module.ts';
import { opDefinition } from '../ops/index.ts';
import { globalDims, indexedElement, repeatPlan, unify } from '../ops/structure.ts';
import { showType, type TensorType } from '../types.ts';
import { elementAt, stacked, withElement } from './layers.ts';
import { showValue, Sizes } from './sizes.ts';
import type { RuntimeValue, TensorData } from './values.ts';
import { WeightCache, type WeightSource } from './weights.ts';

/** One executed op, as hooks see it. Values are the interpreter's own: read them, or copy them to keep them. */
export interface OpEvent {
  readonly op: Op;
  readonly function: Function;
  /** What stands before the weights' names in this activation. */
  readonly prefix: string;
  /** The layer that the innermost repeat is at; null outside of one. */
  readonly layer: number | null;
  readonly inputs: readonly RuntimeValue[];
  readonly outputs: readonly RuntimeValue[];
}

export interface InterpretOptions {
  /** `declared` (default): every value is rounded to its dtype. `f64`: nothing is. */
  readonly numerics?: 'declared' | 'f64';
  /** Called after every op, callees' ops before their call. */
  readonly onOp?: (event: OpEvent) => void;
  /** Sizes of run-time dims that no input tells. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Put before the names of weights: to run a block alone. */
  readonly prefix?: string;
  /**
   * Drops a layer's weights when its repeat goes on to the next. Default: true, unless `weights` is a WeightCache,
   * which is there to keep them.
   */
  readonly releaseAfterLayer?: boolean;
}

export interface InterpretResult {
  readonly results: readonly RuntimeValue[];
  /** Final values of the inout arguments, in order. */
  readonly finals: readonly RuntimeValue[];
}

/**
 * Runs a function of a module. `inputs`: one value per argument, in order; states among them are changed.
 * Throws a DiagnosticError: `interpret/input` when inputs do not fit the arguments, `weights/…` when a weight is
 * missing or ill-shaped, `interpret/op` when an op's meaning fails on its values (an index out of range, say).
 */
export function interpret(
  module: Module,
  functionName: string,
  inputs: readonly RuntimeValue[],
  weights: WeightSource | WeightCache,
  options: InterpretOptions = {},
): InterpretResult {
  const f = functionNamed(module, functionName);
  const sizes = new Sizes(module, Object.entries(options.sizes ?? {}));
  matchInputs(f, inputs, sizes);
  const kept = weights instanceof WeightCache;
  const run = new Run(module, kept ? weights : new WeightCache(weights), {
    rounding: options.numerics !== 'f64',
    release: options.releaseAfterLayer ?? !kept,
    onOp: options.onOp,
  });
  const outputs = run.activate(f, inputs, { prefix: options.prefix ?? '', layer: null, sizes });
  return { results: outputs.slice(0, f.results.length), finals: outputs.slice(f.results.length) };
}

function matchInputs(f: Function, inputs: readonly RuntimeValue[], sizes: Sizes): void {
  if (inputs.length !== f.arguments.length)
    fail({
      code: 'interpret/input',
      at: f.span,
      message: `@${f.name} takes ${f.arguments.length} inputs, got ${inputs.length}`,
      label: f.arguments.map(({ value }) => `%${value.name}: ${showType(value.type)}`).join(', '),
    });
  for (const [i, { value }] of f.arguments.entries()) {
    const difference = sizes.match(value.type, inputs[i]);
    if (difference)
      fail({
        code: 'interpret/input',
        at: f.span,
        message: `input %${value.name} of @${f.name} must be ${showType(value.type)}, got ${showValue(inputs[i])}: ${difference}`,
      });
  }
}

/** One activation of a function. */
interface Frame {
  readonly prefix: string;
  readonly layer: number | null;
  readonly sizes: Sizes;
}

class Run {
  private readonly module: Module;
  private readonly weights: WeightCache;
  private readonly settings: {
    readonly rounding: boolean;
    readonly release: boolean;
    readonly onOp: InterpretOptions['onOp'];
  };
  private readonly dying = new WeakMap<Function, ReadonlyMap<Op, readonly Value[]>>();

  constructor(module: Module, weights: WeightCache, settings: Run['settings']) {
    this.module = module;
    this.weights = weights;
    this.settings = settings;
  }

  /** Results, then finals. */
  activate(f: Function, inputs: readonly RuntimeValue[], frame: Frame): readonly RuntimeValue[] {
    const values = new Map(f.arguments.map(({ value }, i) => [value, inputs[i]]));
    const lookUp = (v: Value): RuntimeValue => {
      const found = values.get(v);
      if (found) return found;
      if (v.source === 'argument' || v.source === 'result')
        throw new Error(`@${f.name} uses %${v.name} before it is defined, or after a pass dropped its op`);
      return this.weights.value(f, v.name, frame.prefix, this.settings.rounding);
    };
    const lastUses = this.lastUses(f);
    for (const op of f.body) {
      this.explained(op, f, frame, () => {
        const operands = op.operands.map(lookUp);
        const outputs =
          calleeOf(op) === null ? this.apply(op, operands, frame) : this.enter(op, operands, frame);
        this.check(op, outputs, frame);
        for (const [i, v] of op.results.entries()) values.set(v, outputs[i]);
        const { prefix, layer } = frame;
        this.settings.onOp?.({ op, function: f, prefix, layer, inputs: operands, outputs });
      });
      for (const v of lastUses.get(op) ?? []) values.delete(v);
    }
    return [...f.results, ...f.finals].map(lookUp);
  }

  /** Runs `body`; an error in it names the op, where it was written, and what it worked on. */
  private explained(op: Op, f: Function, { prefix, layer }: Frame, body: () => void): void {
    try {
      body();
    } catch (error) {
      if (error instanceof DiagnosticError) throw error;
      const where = [prefix && `prefix ${prefix}`, layer !== null && `layer ${layer}`]
        .filter(Boolean)
        .join(', ');
      const operands = op.operands.map(
        (v) => `${v.source === 'result' || v.source === 'argument' ? '%' : ''}${v.name}: ${showType(v.type)}`,
      );
      const explained = new DiagnosticError([
        {
          code: 'interpret/op',
          severity: 'error',
          at: op.span,
          message: `${op.op} in @${f.name}${where ? ` (${where})` : ''}: ${(error as Error).message}`,
          ...(operands.length > 0 && { notes: [{ message: `operands: ${operands.join('; ')}` }] }),
        },
      ]);
      explained.cause = error;
      throw explained;
    }
  }

  private apply(op: Op, inputs: readonly RuntimeValue[], { sizes }: Frame): readonly RuntimeValue[] {
    const { reference } = opDefinition(op.op);
    if (!reference) throw new Error('it has no reference meaning');
    const { rounding } = this.settings;
    const outputs = reference(inputs, op.attributes, {
      operands: op.operands.map((v) => v.type),
      results: op.results.map((v) => v.type),
      size: (name) => sizes.get(name),
      shapeOf: (type) => sizes.shapeOf(type),
      alignOf: (name) => sizes.alignOf(name),
      rounding,
    });
    return rounding ? outputs.map((v) => (v.kind === 'tensor' ? rounded(v, inputs) : v)) : outputs;
  }

  /** Outputs fit their types; run-time dims that they bring along are bound. */
  private check(op: Op, outputs: readonly RuntimeValue[], { sizes }: Frame): void {
    if (outputs.length !== op.results.length)
      throw new Error(`${op.results.length} results are declared, but it gives ${outputs.length}`);
    for (const [i, { name, type }] of op.results.entries()) {
      const difference = sizes.match(type, outputs[i], true);
      if (difference)
        throw new Error(
          `result %${name} is declared ${showType(type)}, but came out otherwise: ${difference}`,
        );
    }
  }

  private enter(op: Op, operands: readonly RuntimeValue[], frame: Frame): readonly RuntimeValue[] {
    const callee = functionNamed(this.module, calleeOf(op)!);
    if (op.op === 'repeat') return this.repeat(op, callee, operands, frame);
    const prefix = op.op === 'call' ? frame.prefix + String(op.attributes.prefix) : frame.prefix;
    const sizes = this.calleeSizes(op, callee, operands, frame);
    return this.activate(callee, operands, { prefix, layer: frame.layer, sizes });
  }

  /** Run-time dims of a callee: from the values it gets; where those do not tell, from the types they have here. */
  private calleeSizes(op: Op, callee: Function, inputs: readonly RuntimeValue[], { sizes }: Frame): Sizes {
    const own = sizes.inherited();
    for (const [i, { value }] of callee.arguments.entries()) {
      const difference = own.match(value.type, inputs[i]);
      if (difference)
        throw new Error(
          `@${callee.name} takes %${value.name}: ${showType(value.type)}, got ${showValue(inputs[i])}: ${difference}`,
        );
    }
    // Keys of paged positions, say: no value shows how many there are.
    const binding = globalDims({ module: this.module, callee: (name) => functionNamed(this.module, name) });
    for (const [i, { value }] of callee.arguments.entries())
      if (value.type.kind !== 'state') unify(value.type, op.operands[i].type, binding);
    for (const [name, d] of binding) {
      const size = d.size ?? (sizes.has(d.name!) ? sizes.get(d.name!) : null);
      if (size !== null && !own.has(name)) own.set(name, size);
    }
    // A kernel is a piece of its caller: what it names otherwise is the caller's.
    if (callee.kind === 'kernel')
      for (const [name, size] of sizes.entries()) if (!own.has(name)) own.set(name, size);
    return own;
  }

  private repeat(
    op: Op,
    callee: Function,
    operands: readonly RuntimeValue[],
    frame: Frame,
  ): readonly RuntimeValue[] {
    const plan = repeatPlan(op.attributes);
    const args = callee.arguments;
    const current = [...operands];
    const carries = args.flatMap((a, i) => (plan.modes[i] === 'carry' && !a.inout ? [i] : []));
    const inouts = args.flatMap((a, i) => (a.inout ? [i] : []));
    const count = plan.stop - plan.start;
    const collected = callee.results.slice(carries.length).map(() => new Array<TensorData>(count));
    for (let n = 0; n < count; n++) {
      const layer = plan.reverse ? plan.stop - 1 - n : plan.start + n;
      const elementOf = (i: number): number => indexedElement(countOf(operands[i]), layer, plan)!;
      const inputs = current.map((v, i) => (plan.modes[i] === 'indexed' ? elementAt(v, elementOf(i)) : v));
      const prefix = frame.prefix + plan.prefix.replaceAll('{i}', String(layer));
      const sizes = this.calleeSizes(op, callee, inputs, frame);
      const outputs = this.activate(callee, inputs, { prefix, layer, sizes });
      for (const [k, i] of carries.entries()) current[i] = outputs[k];
      for (const [k, layers] of collected.entries())
        layers[layer - plan.start] = outputs[carries.length + k] as TensorData;
      for (const [k, i] of inouts.entries()) {
        const final = outputs[callee.results.length + k];
        current[i] = plan.modes[i] === 'indexed' ? withElement(current[i], elementOf(i), final) : final;
      }
      // Without {i} the layers share their weights.
      if (this.settings.release && plan.prefix.includes('{i}')) this.weights.release(prefix);
    }
    const sizeOf = (d: { name: string | null; size: number | null }): number =>
      d.size ?? (frame.sizes.has(d.name!) ? frame.sizes.get(d.name!) : 0);
    const stacks = collected.map((layers, k) =>
      stacked(op.results[carries.length + k].type as TensorType, layers, sizeOf),
    );
    return [...carries.map((i) => current[i]), ...stacks, ...inouts.map((i) => current[i])];
  }

  /** Which values an op is the last to use. */
  private lastUses(f: Function): ReadonlyMap<Op, readonly Value[]> {
    let found = this.dying.get(f);
    if (!found) {
      const last = new Map<Value, Op>();
      for (const op of f.body) for (const v of [...op.operands, ...op.results]) last.set(v, op);
      for (const v of [...f.results, ...f.finals]) last.delete(v);
      const ends = new Map<Op, Value[]>();
      for (const [v, op] of last) ends.set(op, [...(ends.get(op) ?? []), v]);
      this.dying.set(f, (found = ends));
    }
    return found;
  }
}

const countOf = (value: RuntimeValue): number => {
  if (value.kind === 'state') return value.layers.length;
  if (value.kind === 'tensor') return value.shape[0];
  throw new Error(`${value.kind} cannot be indexed by layer`);
};

/** The value rounded to its dtype; codes of scaled values are rounded when they are made. */
function rounded(value: TensorData, inputs: readonly RuntimeValue[]): TensorData {
  if (value.scales.length > 0 || dtypeInfo[value.dtype].kind === 'scale') return value;
  // Views share their operand's data, which is rounded already; a cast may share it too, and must not change it.
  const source = inputs.find(
    (x): x is TensorData => x.kind === 'tensor' && x.data.buffer === value.data.buffer,
  );
  if (source && source.dtype === value.dtype && source.scales.length === 0) return value;
  const data = source ? value.data.slice() : value.data;
  roundInto(value.dtype, data);
  return { ...value, data };
}
