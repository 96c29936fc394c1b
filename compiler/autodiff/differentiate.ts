// Autodiff of a specialised entry: its ops and the blocks that it repeats. A repeat becomes two. The forward one also
// stacks what the backward pass reads of every layer (residuals); the backward one goes from the last layer to the first,
// carries the gradients of what the layers hand on, and stacks the gradients of their weights, in f32.
import { FunctionBuilder } from '../../ir/builder.ts';
import { fail } from '../../ir/diagnostics.ts';
import { hasGradient } from '../../ir/gradients/index.ts';
import {
  functionNamed,
  type Declaration,
  type DeriveExpression,
  type Function,
  type Module,
  type Op,
  type ParameterDeclaration,
  type Value,
} from '../../ir/module.ts';
import { repeatPlan, type RepeatMode } from '../../ir/ops/structure.ts';
import { fill, tensorOf } from '../../ir/ops/composite.ts';
import { tensor, type TensorType } from '../../ir/types.ts';
import { dropDead } from '../rewrite.ts';
import { gradientAttributes, type GradientOf } from './named.ts';
import { freeValues, withArguments, withRaggedAgain } from './residuals.ts';
import { Cotangents, dependents, ownDType, reverse } from './reverse.ts';

/**
 * Adds an entry `name` that gives the first result of `entry`, the loss (one f32 element), and the gradient of every
 * parameter that `entry` reaches. `module` is specialised and without states. Throws a DiagnosticError where an op has
 * no gradient.
 */
export function differentiate(module: Module, entry: string, name: string): Module {
  return new Autodiff(module).entry(functionNamed(module, entry), name);
}

/** A block's backward pass, and what its forward pass must keep for it. */
interface Backward {
  readonly forward: string;
  readonly backward: string;
  /** Residuals in the order of both functions; those that are arguments of mode `same` are passed again instead. */
  readonly stacked: readonly Value[];
  readonly same: readonly number[];
  /** Weights, in the order of the backward block's results. */
  readonly weights: readonly ParameterDeclaration[];
}

/** The weights of a function with a gradient: parameters, also those that are only read through derived weights. */
const parametersOf = (f: Function): readonly ParameterDeclaration[] =>
  f.declarations.flatMap((d) => (d.kind === 'parameter' && hasGradient(d.value) ? [d] : []));
const valuesOf = (list: readonly ParameterDeclaration[]): readonly Value[] => list.map((d) => d.value);

/** Derived weights as ops over parameters, so that gradients go through them like through everything else. */
function derivations(declarations: readonly Declaration[]): Op[] {
  const byName = new Map(declarations.map((d) => [d.value.name, d.value]));
  const ops: Op[] = [];
  const valueOf = (e: DeriveExpression, into: Value | null, span: Op['span']): Value => {
    if ('parameter' in e) return byName.get(e.parameter)!;
    const operands = e.operands.map((x) => valueOf(x, null, span));
    const result: Value = into ?? { name: `derive.${ops.length}`, type: e.type, source: 'derived' };
    ops.push({ op: e.op, operands, attributes: e.attributes, results: [result], span });
    return result;
  };
  for (const d of declarations) if (d.kind === 'derived') valueOf(d.expression, d.value, d.span);
  return ops;
}

class Autodiff {
  private readonly functions: Function[];
  private readonly module: Module;
  private readonly made = new Map<string, Backward>();

  constructor(module: Module) {
    this.module = module;
    this.functions = [...module.functions];
  }

  private get context() {
    return {
      module: this.module,
      callee: (name: string) =>
        this.functions.find((f) => f.name === name) ?? functionNamed(this.module, name),
    };
  }

  entry(f: Function, name: string): Module {
    const [loss] = f.results;
    const ok = loss?.type.kind === 'tensor' && loss.type.dtype === 'f32' && loss.type.scales.length === 0;
    if (!ok || (loss.type as TensorType).dims.some((d) => d.size !== 1))
      fail({
        code: 'autodiff/no-loss',
        at: f.span,
        message: `@${f.name} must give a loss of one f32 element first`,
        fix: 'differentiate an entry that returns its loss',
      });
    const { ops, cotangents, b, weights } = this.backward(f, [], (into, seeds) =>
      seeds.add(loss, fill(into, 1, loss.type as TensorType)),
    );
    const gradients: { of: GradientOf; value: Value }[] = [];
    for (const { value: p, stored } of parametersOf(f)) {
      const value = cotangents.get(p) ?? fill(b, 0, tensor('f32', tensorOf(p).dims));
      gradients.push({ of: { name: p.name, start: null, stored }, value });
    }
    for (const w of weights) gradients.push(w);
    const built = b.finish({ kind: 'entry', name, results: [loss, ...gradients.map((g) => g.value)] });
    const entry: Function = {
      ...built,
      arguments: f.arguments,
      declarations: f.declarations,
      body: [...ops, ...built.body],
      attributes: {
        ...f.attributes,
        [gradientAttributes.names]: gradients.map((g) => g.of.name),
        [gradientAttributes.starts]: gradients.map((g) => g.of.start ?? -1),
        [gradientAttributes.shapes]: gradients.map((g) => g.of.stored.join('x')),
      },
      span: f.span,
    };
    return { ...this.module, functions: [...this.functions, dropDead(entry)] };
  }

  /**
   * The backward pass of a function's body: forward ops (repeats among them replaced by those that keep residuals), a
   * builder with the backward ops, and the gradients found.
   */
  private backward(
    f: Function,
    wanted: readonly Value[],
    seed: (b: FunctionBuilder, seeds: Cotangents) => void,
  ) {
    const b = FunctionBuilder.rewriting(this.context, { ...f, arguments: [], declarations: [] });
    for (const a of f.arguments) b.fresh(a.value.name);
    const derived = derivations(f.declarations);
    const weightLike = new Set<Value>([
      ...f.declarations.map((d) => d.value),
      ...derived.flatMap((op) => op.results),
    ]);
    const cotangents = new Cotangents(b, (v) => (weightLike.has(v) ? 'f32' : ownDType(v)));
    seed(b, cotangents);
    const all = [...derived, ...f.body];
    const active = dependents(all, [...wanted, ...valuesOf(parametersOf(f)), ...this.repeatsWithWeights(f)]);
    const replaced = new Map<Op, Op>();
    const weights: { of: GradientOf; value: Value }[] = [];
    reverse(b, all, cotangents, active, (op, found) => {
      if (op.op !== 'repeat') return false;
      replaced.set(op, this.repeat(b, op, found, active, weights));
      return true;
    });
    return { ops: f.body.map((op) => replaced.get(op) ?? op), cotangents, b, weights };
  }

  /** Results of repeats whose blocks have weights: they depend on weights although no operand does. */
  private repeatsWithWeights(f: Function): readonly Value[] {
    return f.body
      .filter((op) => op.op === 'repeat' && this.hasWeights(String(op.attributes.callee)))
      .flatMap((op) => op.results.filter(hasGradient));
  }

  private hasWeights(name: string): boolean {
    const f = functionNamed(this.module, name);
    return (
      parametersOf(f).length > 0 ||
      f.body.some((op) => op.op === 'repeat' && this.hasWeights(String(op.attributes.callee)))
    );
  }

  /** Appends the backward repeat of `op` to `b`; gives the forward repeat that keeps residuals. */
  private repeat(
    b: FunctionBuilder,
    op: Op,
    cotangents: Cotangents,
    active: ReadonlySet<Value>,
    weights: { of: GradientOf; value: Value }[],
  ): Op {
    const f = functionNamed(this.module, String(op.attributes.callee));
    const plan = repeatPlan(op.attributes);
    if (plan.reverse)
      fail({
        code: 'autodiff/no-gradient',
        at: op.span,
        message: 'a repeat that goes backwards has no gradient yet',
      });
    const carried = indices(plan.modes, 'carry');
    const zero = (v: Value): Value => fill(b, 0, tensorOf(v));
    // Carried values have gradients whether or not anything behind the repeat read them.
    const flows = carried.map((i, n) => ({ i, n })).filter(({ i }) => hasGradient(op.operands[i]));
    const shared = indices(plan.modes, 'same').filter(
      (i) => active.has(op.operands[i]) && hasGradient(op.operands[i]),
    );
    const perLayer = indices(plan.modes, 'indexed').filter(
      (i) => active.has(op.operands[i]) && hasGradient(op.operands[i]),
    );
    const stackedResults = op.results.map((_, r) => r).slice(carried.length);
    const read = stackedResults.filter((r) => cotangents.get(op.results[r]) !== null);
    const made = this.block(f, plan.modes, flows, shared, perLayer, read);

    const forward = this.forwardRepeat(op, made);
    const residuals = forward.results.slice(op.results.length);
    const operands = [
      ...flows.map(({ n }) => cotangents.get(op.results[n]) ?? zero(op.results[n])),
      ...shared.map((i) => zero(op.operands[i])),
      ...read.map((r) => cotangents.get(op.results[r])!),
      ...residuals,
      ...made.same.map((i) => op.operands[i]),
    ];
    const modes: RepeatMode[] = [
      ...flows.map((): RepeatMode => 'carry'),
      ...shared.map((): RepeatMode => 'carry'),
      ...read.map((): RepeatMode => 'indexed'),
      ...residuals.map((): RepeatMode => 'indexed'),
      ...made.same.map((): RepeatMode => 'same'),
    ];
    const { start, stop, prefix } = plan;
    const results = b.op('repeat', operands, {
      callee: made.backward,
      start,
      stop,
      prefix,
      modes,
      reverse: true,
    });
    let at = 0;
    for (const { i } of flows) cotangents.add(op.operands[i], results[at++]);
    for (const i of shared) cotangents.add(op.operands[i], results[at++]);
    for (const { value, stored } of made.weights)
      weights.push({ of: { name: prefix + value.name, start, stored }, value: results[at++] });
    for (const i of perLayer) {
      const count = tensorOf(op.operands[i]).dims[0].size!;
      const part = results[at++];
      cotangents.add(
        op.operands[i],
        count === stop - start ? part : b.one('pad', [part], { axis: 0, before: start, after: count - stop }),
      );
    }
    return forward;
  }

  private forwardRepeat(op: Op, { forward, stacked }: Backward): Op {
    const b = new FunctionBuilder(this.context);
    for (const r of op.results) b.fresh(r.name);
    const extra = b.op('repeat', op.operands, { ...op.attributes, callee: forward }, null, [
      ...op.results.map((r) => r.name),
      ...stacked.map((v) => `${op.results[0].name}.${v.name}`),
    ]);
    // The results that were there keep their identity.
    return {
      ...op,
      attributes: { ...op.attributes, callee: forward },
      results: [...op.results, ...extra.slice(op.results.length)],
    };
  }

  /** The two blocks for a repeated one, made once for each way that it is used. */
  private block(
    f: Function,
    modes: readonly RepeatMode[],
    flows: readonly { i: number; n: number }[],
    shared: readonly number[],
    perLayer: readonly number[],
    read: readonly number[],
  ): Backward {
    const key = JSON.stringify([f.name, modes, flows, shared, perLayer, read]);
    const known = this.made.get(key);
    if (known) return known;
    const wanted = [...flows.map(({ i }) => i), ...shared, ...perLayer].map((i) => f.arguments[i].value);
    const carriedResults = flows.map(({ n }) => f.results[n]);
    const seeds = new Map<Value, Value>();
    const args: Value[] = [];
    const sums: Value[] = [];
    const { ops, cotangents, b, weights } = this.backward(f, wanted, (into, found) => {
      const argument = (hint: string, type: Value['type']): Value => {
        const v = into.argument(hint, type);
        args.push(v);
        return v;
      };
      for (const r of carriedResults) seeds.set(r, argument(`d_${r.name}`, r.type));
      for (const i of shared)
        sums.push(argument(`sum_${f.arguments[i].value.name}`, f.arguments[i].value.type));
      for (const [r, d] of seeds) found.add(r, d);
      for (const r of read) found.add(f.results[r], argument(`d_${f.results[r].name}`, f.results[r].type));
    });
    if (weights.length > 0)
      fail({
        code: 'autodiff/no-gradient',
        at: f.span,
        message: `@${f.name} repeats a block with weights inside of a repeated block`,
        fix: 'repeat over one range of layers at a time',
      });
    const gradient = (v: Value): Value => cotangents.get(v) ?? fill(b, 0, tensorOf(v));
    const parameters = parametersOf(f);
    const results = [
      ...flows.map(({ i }) => gradient(f.arguments[i].value)),
      ...shared.map((i, k) => b.one('add', [sums[k], gradient(f.arguments[i].value)])),
      ...valuesOf(parameters).map((p) => cotangents.get(p) ?? fill(b, 0, tensor('f32', tensorOf(p).dims))),
      ...perLayer.map((i) => gradient(f.arguments[i].value)),
    ];
    const ragged = new Set(this.module.dims.flatMap((d) => (d.ragged ? [d.name] : [])));
    const ownOps = dropDead(b.finish({ kind: 'block', name: `${f.name}.backward`, results }));
    const body = withRaggedAgain(ownOps, f, args, ragged);
    const used = freeValues(body, new Set(args));
    const declared = f.declarations.filter((d) => used.has(d.value));
    const isSame = (v: Value): number =>
      f.arguments.findIndex((a, i) => a.value === v && modes[i] === 'same');
    const free = [...used].filter((v) => !declared.some((d) => d.value === v));
    const stacked = free.filter((v) => isSame(v) < 0);
    const same = free.map(isSame).filter((i) => i >= 0);
    const backward = withArguments(
      body,
      args,
      [...stacked, ...same.map((i) => f.arguments[i].value)],
      f.declarations,
    );
    const forward: Function = {
      ...f,
      name: this.freshName(`${f.name}.forward`),
      body: ops,
      results: [...f.results, ...stacked],
    };
    const made: Backward = {
      forward: forward.name,
      backward: this.freshName(backward.name),
      stacked,
      same,
      weights: parameters,
    };
    this.functions.push(forward, { ...backward, name: made.backward });
    this.made.set(key, made);
    return made;
  }

  private freshName(base: string): string {
    let name = base;
    for (let n = 2; this.functions.some((f) => f.name === name); n++) name = `${base}.${n}`;
    return name;
  }
}

const indices = (modes: readonly RepeatMode[], mode: RepeatMode): readonly number[] =>
  modes.flatMap((m, i) => (m === mode ? [i] : []));
