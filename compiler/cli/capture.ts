// `--capture`: the residual stream and the routers' decisions, read off while the interpreter runs. What to look for is
// found in the traced module by what it means; where it is in the final module, after any passes, by following weights
// and carries. Nothing depends on the names of passes.
import type { OpEvent } from '../../ir/interpret/interpreter.ts';
import type { RoutingData, RuntimeValue, TensorData } from '../../ir/interpret/values.ts';
import { calleeOf, functionNamed, type Function, type Module, type Op, type Value } from '../../ir/module.ts';
import { opDefinition } from '../../ir/ops/index.ts';
import { fail } from '../../ir/diagnostics.ts';

export type CaptureKind = 'hidden' | 'router';

export class Capture {
  /** `hidden.0` …, `hidden.norm`, `router.L.logits`, `router.L.indices`, `router.L.weights`. */
  readonly tensors = new Map<string, TensorData>();
  readonly #kinds: ReadonlySet<CaptureKind>;
  readonly #module: Module;
  readonly #entry: Function;
  /** Layer bodies, and which of their results is the residual stream. */
  readonly #layers = new Map<Function, Value>();
  #firstRepeat: Op | undefined;
  readonly #normWeight: string | null;
  readonly #routerWeights: readonly RegExp[];
  /** Results of ops inside kernels that may turn out to be wanted when their launch ends. */
  readonly #inside = new Map<Op, RuntimeValue>();

  /** `final` is what runs, `traced` is the model before any pass (of a bundle, `final` again). */
  constructor(kinds: readonly CaptureKind[], traced: Module, final: Module, entry: string) {
    this.#kinds = new Set(kinds);
    this.#module = final;
    this.#entry = functionNamed(final, entry);
    this.#normWeight = finalNormWeight(traced);
    this.#routerWeights = routerWeights(traced);
    for (const op of this.#entry.body) {
      if (op.op !== 'repeat') continue;
      const callee = functionNamed(final, calleeOf(op)!);
      if (carriedIndex(op) < 0 || callee.results.length === 0) continue;
      this.#firstRepeat ??= op;
      this.#layers.set(callee, callee.results[0]);
    }
    if (this.#kinds.has('hidden') && !this.#firstRepeat)
      fail({
        code: 'capture/no-layers',
        message: `entry @${entry} repeats no layer: there is no residual stream to capture`,
        fix: 'write the layers with repeat, or leave --capture hidden out',
      });
    if (this.#kinds.has('router') && this.#routerWeights.length === 0)
      fail({
        code: 'capture/no-router',
        message: 'the model routes no tokens',
        fix: 'leave --capture router out',
      });
  }

  readonly onOp = (event: OpEvent): void => {
    const { op, function: f, outputs, layer } = event;
    if (f.kind === 'kernel') {
      this.#inside.set(op, outputs[0]);
      return;
    }
    if (this.#kinds.has('hidden')) this.#hidden(event);
    if (this.#kinds.has('router') && layer !== null) {
      outputs.forEach((v) => v.kind === 'routing' && this.#routing(layer, v));
      const logits = this.#byWeight(event, (name) => this.#routerWeights.some((r) => r.test(name)));
      if (logits) this.#keep(`router.${layer}.logits`, logits);
    }
    if (op.op === 'launch') this.#inside.clear();
  };

  #hidden(event: OpEvent): void {
    const { op, function: f, inputs, outputs, layer } = event;
    if (f === this.#entry) {
      // The first repeat ends after its layers, but its operand was the embedding all along.
      if (op === this.#firstRepeat) {
        const embedding = inputs[carriedIndex(op)];
        if (embedding.kind === 'tensor') this.#keep('hidden.0', embedding);
      }
      const norm = this.#byWeight(event, (name) => name === this.#normWeight);
      if (norm) this.#keep('hidden.norm', norm);
      return;
    }
    const carried = this.#layers.get(f);
    const at = carried === undefined ? -1 : op.results.indexOf(carried);
    const value = outputs[at];
    if (layer !== null && value?.kind === 'tensor') this.#keep(`hidden.${layer + 1}`, value);
  }

  #routing(layer: number, { tokens, top, indices, weights }: RoutingData): void {
    const shape = [tokens, top];
    this.#keep(`router.${layer}.indices`, {
      kind: 'tensor',
      dtype: 'i32',
      shape,
      data: Float64Array.from(indices),
      scales: [],
    });
    this.#keep(`router.${layer}.weights`, { kind: 'tensor', dtype: 'f32', shape, data: weights, scales: [] });
  }

  /** The result of the op that takes a weight of that name: this op, or the one inside the kernel it launches. */
  #byWeight({ op, prefix, outputs }: OpEvent, wanted: (name: string) => boolean): TensorData | undefined {
    const at = op.operands.findIndex(
      (v) => v.source !== 'argument' && v.source !== 'result' && wanted(prefix + v.name),
    );
    if (at < 0) return undefined;
    let value: RuntimeValue | undefined = outputs[0];
    if (op.op === 'launch') {
      const kernel = functionNamed(this.#module, calleeOf(op)!);
      const inner = consumerOf(kernel, kernel.arguments[at].value);
      value = inner && this.#inside.get(inner);
    }
    return value?.kind === 'tensor' ? value : undefined;
  }

  #keep(name: string, value: TensorData): void {
    this.tensors.set(name, { ...value, data: value.data.slice() });
  }
}

/** Which operand of a repeat is carried from layer to layer as a tensor; −1 when none is. */
function carriedIndex(op: Op): number {
  const modes = op.attributes.modes as readonly string[];
  return op.operands.findIndex((v, i) => modes[i] === 'carry' && v.type.kind === 'tensor');
}

/** The weight of the last norm after the layers, by name: in the function that repeats them. */
function finalNormWeight(traced: Module): string | null {
  const main = traced.functions.findLast((f) => f.body.some((op) => op.op === 'repeat'));
  const norm = main && flat(traced, main).findLast((op) => op.op === 'rms_norm');
  return norm?.operands[1].name ?? null;
}

/** Full names (as patterns: any prefix) of the weights whose products are the routers' logits. */
function routerWeights(traced: Module): readonly RegExp[] {
  const out: RegExp[] = [];
  for (const f of traced.functions) {
    if (f.kind === 'kernel') continue;
    const body = flat(traced, f);
    const defined = new Map(body.flatMap((op) => op.results.map((r) => [r, op] as const)));
    for (const route of body.filter((op) => op.op === 'route')) {
      // Scores are a pointwise function of the logits, which are the nearest product of something with a weight.
      let op = defined.get(route.operands[0]);
      while (op && opDefinition(op.op).class !== 'contraction')
        op = op.operands.map((v) => defined.get(v)).find((d) => d);
      const weight = op?.operands.find((v) => v.source === 'parameter');
      if (weight) out.push(new RegExp(`(^|\\.)${weight.name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`));
    }
  }
  return out;
}

/** The ops of a function with those of its kernels in place of their launches: of a bundle only that form is known. */
function flat(module: Module, f: Function): readonly Op[] {
  return f.body.flatMap((op) => {
    if (op.op !== 'launch') return [op];
    const kernel = functionNamed(module, calleeOf(op)!);
    const outside = new Map<Value, Value>(kernel.arguments.map((a, i) => [a.value, op.operands[i]]));
    [...kernel.results, ...kernel.finals].forEach((v, i) => outside.set(v, op.results[i]));
    // Launched twice, a kernel's inner values are two sets of values.
    const here = (v: Value): Value => {
      const known = outside.get(v) ?? { ...v };
      outside.set(v, known);
      return known;
    };
    return kernel.body.map((o) => ({ ...o, operands: o.operands.map(here), results: o.results.map(here) }));
  });
}

/** The op that computes with an argument of a kernel; casts and views of it are passed by. */
function consumerOf(kernel: Function, argument: Value): Op | undefined {
  let value = argument;
  for (const op of kernel.body) {
    if (!op.operands.includes(value)) continue;
    if (op.op !== 'cast' && opDefinition(op.op).class !== 'view') return op;
    value = op.results[0];
  }
  return undefined;
}
