// From a plan and its kernels to the form that executors run: names become numbers, locations become one place for each
// array, weights are bound to the repeats that use them.
import { dtypeInfo } from '../../ir/formats/dtypes.ts';
import { functionNamed, type Function, type Module } from '../../ir/module.ts';
import type { EmittedKernel, Extent } from '../../ir/plan.ts';
import { showType, type Type } from '../../ir/types.ts';
import { alignUp, componentBytes, componentsOf } from '../memory/buffers.ts';
import type { Location, Plan, PlanFunction, PlanStep } from '../plan.ts';
import { entriesOf, weightUses } from '../weights.ts';
import { LoweredKernels } from './kernels.ts';
import {
  modes,
  type FileExtent,
  type FileFunction,
  type FileOperand,
  type FilePlace,
  type FileStep,
  type FileType,
  type FileValue,
  type PlanFile,
} from './form.ts';

const missing = (what: string): never => {
  throw new Error(`plan: ${what} has no place`);
};

/** A function under one prefix, for one range of layers. */
interface Context {
  readonly fn: Function;
  readonly plan: PlanFunction;
  /** Of its weights' names, with `{i}` for the layer. */
  readonly prefix: string;
  readonly layers: readonly [number, number] | null;
  /** The first array of each argument. */
  readonly slots: readonly number[];
}

class Lowering {
  readonly #module: Module;
  readonly #plan: Plan;
  readonly #dims: ReadonlyMap<string, number>;
  readonly #types = new Map<string, number>();
  readonly #fileTypes: FileType[] = [];
  readonly #kernels: LoweredKernels;
  readonly #functions: FileFunction[] = [];
  readonly #numbers = new Map<string, number>();

  constructor(module: Module, plan: Plan, kernels: readonly EmittedKernel[]) {
    this.#module = module;
    this.#plan = plan;
    // The page table's columns are no dim of a module: the page table is.
    this.#dims = new Map([...plan.dims.map((d) => d.name), 'pages'].map((name, i) => [name, i]));
    this.#kernels = new LoweredKernels(module, kernels, this.#dims, (e) => this.#extent(e));
  }

  lower(): PlanFile {
    const { dims, states, weights, weightBytes } = this.#plan;
    for (const f of this.#plan.functions) if (f.kind === 'entry') this.#function(f.name, '', null);
    const declared = new Map(
      weightUses(this.#module, entriesOf(this.#module)).map((use) => [use.name, use.declaration.value.type]),
    );
    return {
      dims: [
        ...dims.map(({ name, bound, ragged }) => ({
          name,
          bound,
          ...(ragged && { ragged: { ...ragged, of: this.#dims.get(ragged.of) ?? missing(ragged.of) } }),
        })),
        { name: 'pages', bound: 0 },
      ],
      states: states.map(({ name, policy, page }) => ({ name, policy, page })),
      weights: weights.map(({ name, layers, offset, stride }) => ({
        name,
        type: this.#type(declared.get(name) ?? missing(`weight ${name}`)),
        layers,
        offset,
        stride,
      })),
      weightBytes,
      // Behind the weights: those had types to add.
      types: this.#fileTypes,
      kernels: this.#kernels.lowered,
      functions: this.#functions,
    };
  }

  #extent(e: Extent): FileExtent {
    return {
      constant: e.constant,
      terms: e.terms.map(({ dim, factor }) => ({
        dim: this.#dims.get(dim) ?? missing(`dim ${dim}`),
        factor,
      })),
    };
  }

  #type(type: Type): number {
    const text = showType(type);
    let number = this.#types.get(text);
    if (number === undefined) {
      this.#types.set(text, (number = this.#fileTypes.length));
      this.#fileTypes.push({
        text,
        components: componentsOf(type, this.#module).map(({ component, dtype, shape }) => ({
          name: component,
          dtype,
          bits: dtypeInfo[dtype].bits,
          shape: shape.map((e) => this.#extent(e)),
        })),
      });
    }
    return number;
  }

  #function(name: string, prefix: string, layers: readonly [number, number] | null): number {
    const key = `${name}|${prefix}|${layers?.join() ?? ''}`;
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const fn = functionNamed(this.#module, name);
    const plan = this.#plan.functions.find((f) => f.name === name) ?? missing(`function ${name}`);
    const slots: number[] = [];
    let slot = 0;
    for (const { value } of fn.arguments) {
      slots.push(slot);
      slot += componentsOf(value.type, this.#module).length;
    }
    const context: Context = { fn, plan, prefix, layers, slots };
    const lowered: FileFunction = {
      name,
      isEntry: plan.kind === 'entry',
      arguments: fn.arguments.map(({ value, inout }) => ({
        name: value.name,
        type: this.#type(value.type),
        inout,
      })),
      arenaBytes: plan.arenaBytes,
      steps: plan.steps.map((s, i) =>
        s.launch === undefined ? this.#repeat(s, context, i) : this.#launch(s, context, i),
      ),
      results: fn.results.map(({ type }, i) => this.#value(plan.results[i], type, context)),
    };
    // Callees were added while the steps were lowered: they stand before it.
    const number = this.#functions.length;
    this.#numbers.set(key, number);
    this.#functions.push(lowered);
    return number;
  }

  #launch(step: PlanStep, context: Context, index: number): FileStep {
    const { fn, number } = this.#kernels.named(step.launch!);
    const results = fn.results.flatMap(({ name, type }, i) =>
      // A state is updated where it lies: the result is the operand.
      fn.arguments.some((a) => a.value.name === name)
        ? []
        : [this.#value(step.results[i], type, context, index)],
    );
    return {
      kind: 'launch',
      at: step.at ?? '',
      kernel: number,
      operands: fn.arguments.length,
      values: [
        ...fn.arguments.map(({ value }, i) => this.#value(step.operands[i], value.type, context, index)),
        ...results,
      ],
    };
  }

  #repeat(step: PlanStep, context: Context, index: number): FileStep {
    const { function: name, start, stop, prefix, modes: given } = step.repeat!;
    const callee = functionNamed(this.#module, name);
    let carried = 0;
    const operands = callee.arguments.map(({ value: { type } }, i): FileOperand => {
      const mode = modes.find((m) => m === given[i]) ?? missing(`an operand of mode ${given[i]}`);
      const value = this.#value(step.operands[i], type, context, index);
      // Carried values come first among the results, in the order of the operands.
      return mode === 'carry'
        ? { mode, value, result: this.#value(step.results[carried++], type, context, index) }
        : { mode, value };
    });
    return {
      kind: 'repeat',
      at: step.at ?? '',
      function: this.#function(name, context.prefix + prefix, [start, stop]),
      start,
      stop,
      arena: step.arena ?? 0,
      operands,
    };
  }

  #value(location: Location, type: Type, context: Context, before?: number): FileValue {
    const { components } = this.#fileTypes[this.#type(type)];
    return {
      type: this.#type(type),
      places: components.map(({ name }) => this.#place(location, type, name, context, before)),
    };
  }

  /** Where one array of a value lies; `before`: number of the step that asks, all of them when left out. */
  #place(
    location: Location,
    type: Type,
    component: string,
    context: Context,
    before = context.plan.steps.length,
  ): FilePlace {
    if ('of' in location) {
      const whole = wholeOf(location.of, context, before);
      const part = component === 'data' ? location.component : `${location.component}.${component}`;
      return this.#place(location.of, whole, part, context, before);
    }
    if ('argument' in location) {
      const { type: own } = context.fn.arguments[location.argument].value;
      const array = componentsOf(own, this.#module).findIndex((c) => c.component === component);
      if (array < 0) missing(component);
      return { base: 'argument', index: context.slots[location.argument] + array, offset: 0 };
    }
    let offset = 'arena' in location ? location.arena : 0;
    for (const c of componentsOf(type, this.#module)) {
      if (c.component === component)
        return 'arena' in location
          ? { base: 'arena', index: 0, offset }
          : { base: 'weight', index: this.#weight(location.weight, context), offset };
      offset += alignUp(componentBytes(c, this.#module));
    }
    return missing(component);
  }

  /** The weight that has every layer of the function's range: the one of this very range, if there are several. */
  #weight(name: string, { prefix, layers }: Context): number {
    const { weights } = this.#plan;
    const of = (fits: (range: readonly [number, number] | null) => boolean): number =>
      weights.findIndex((w) => w.name === prefix + name && fits(w.layers));
    const exact = of((range) => `${range}` === `${layers}`);
    const index =
      exact >= 0
        ? exact
        : of((range) => !range || (layers !== null && range[0] <= layers[0] && layers[1] <= range[1]));
    if (index < 0) missing(`weight ${prefix}${name}`);
    return index;
  }
}

/** The type of a value that others are parts of: an argument of the function, or the last result at the place. */
function wholeOf(location: Location, { fn, plan }: Context, before: number): Type {
  if ('argument' in location) return fn.arguments[location.argument].value.type;
  const launches = fn.body.filter((op) => op.op === 'launch' || op.op === 'repeat');
  for (let i = before - 1; i >= 0; i--)
    for (const [k, r] of plan.steps[i].results.entries())
      if ('arena' in location && 'arena' in r && r.arena === location.arena) {
        const { type } = launches[i].results[k];
        if (type.kind === 'routing' || type.kind === 'positions' || type.kind === 'state') return type;
      }
  return missing('a whole value');
}

/** A plan in the form that executors run. Deterministic. */
export const lowerPlan = (module: Module, plan: Plan, kernels: readonly EmittedKernel[]): PlanFile =>
  new Lowering(module, plan, kernels).lower();
