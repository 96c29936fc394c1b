// The interpreter's run with an enclosure of every value beside it: between which numbers each element must lie when a
// kernel makes only the errors that slack.ts allows. Where a choice hangs on less than that (a floor at a whole number,
// a comparison of equals, an index of a tie) both outcomes are allowed.
import { interpret, type OpEvent } from '../../../ir/interpret/index.ts';
import { moduleOf, noWeights } from '../../../ir/interpret/testing.ts';
import type {
  ReferenceContext,
  RoutingData,
  RuntimeValue,
  TensorData,
} from '../../../ir/interpret/values.ts';
import type { Module } from '../../../ir/module.ts';
import { opDefinition, type OpName } from '../../../ir/ops/index.ts';
import { dimsOf, type Type } from '../../../ir/types.ts';
import type { Applied, RoutingEnds } from './applied.ts';
import { exact, unknown, type Ends } from './ends.ts';
import { rules } from './rules.ts';
import { compositeFactor } from './slack.ts';

export class Enclosure {
  readonly #module: Module;
  readonly #ends: WeakMap<object, Ends>;
  readonly #routings: WeakMap<object, RoutingEnds>;
  readonly #factor: number;

  constructor(module: Module, within?: Enclosure) {
    this.#module = module;
    this.#ends = within ? within.#ends : new WeakMap();
    this.#routings = within ? within.#routings : new WeakMap();
    this.#factor = within ? compositeFactor : 1;
  }

  /** What was not computed is exact: arguments, weights, constants. */
  of(v: TensorData): Ends {
    return this.#ends.get(v) ?? exact(v);
  }
  set(v: object, ends: Ends): void {
    this.#ends.set(v, ends);
  }
  routing(r: RoutingData): RoutingEnds {
    return this.#routings.get(r) ?? { sure: true, lo: r.weights, hi: r.weights };
  }
  setRouting(r: RoutingData, ends: RoutingEnds): void {
    this.#routings.set(r, ends);
  }

  /** The interpreter's hook. */
  readonly onOp = (event: OpEvent): void => {
    const { op, inputs, outputs } = event;
    // What structure ops give has its ends from inside.
    if (opDefinition(op.op).class === 'structure') return;
    const applied = this.#applied(event);
    const unsure = inputs.some((v) => v.kind === 'routing' && !this.routing(v).sure);
    const found = unsure ? null : (rules[op.op as OpName] ?? null)(applied);
    outputs.forEach((v, i) => {
      if (v.kind !== 'tensor' || inputs.includes(v)) return;
      this.#ends.set(v, found?.[i] ?? unknown(v));
    });
  };

  #applied({ op, inputs, outputs }: OpEvent): Applied {
    const { reference } = opDefinition(op.op);
    const shapes = new Map<string, number>();
    const learn = (type: Type, v: RuntimeValue): void => {
      const sizes =
        v.kind === 'tensor'
          ? v.shape
          : v.kind === 'routing'
            ? [v.tokens, v.experts, v.top, v.tokenOf.length]
            : [];
      dimsOf(type).forEach(
        (d, i) => d.size === null && sizes[i] !== undefined && shapes.set(d.name!, sizes[i]),
      );
    };
    op.operands.forEach((v, i) => learn(v.type, inputs[i]));
    op.results.forEach((v, i) => learn(v.type, outputs[i]));
    const size = (name: string): number => shapes.get(name) ?? NaN;
    const context: ReferenceContext = {
      ...{
        operands: op.operands.map((v) => v.type),
        results: op.results.map((v) => v.type),
        size,
        rounding: false,
      },
      shapeOf: (type) => dimsOf(type).map((d) => d.size ?? size(d.name!)),
      alignOf: (name) => this.#module.dims.find((d) => d.name === name)!.ragged!.align,
    };
    return {
      ...{ op, inputs, outputs, factor: this.#factor, enclosure: this },
      ends: (i) => this.of(inputs[i] as TensorData),
      reference: (given) => reference!(given, op.attributes, context),
    };
  }

  /** A composite by its decomposition. */
  decomposed({ op, inputs, outputs }: Applied): readonly Ends[] {
    const application = {
      operands: op.operands.map((v) => v.type),
      attributes: op.attributes,
      declared: op.results.map((v) => v.type),
      ...{ dims: this.#module.dims, states: this.#module.states },
    };
    const module = moduleOf(op.op, application);
    const inner = new Enclosure(module, this);
    const sizes = Object.fromEntries(
      inputs.flatMap((v, i) => {
        const t = op.operands[i].type;
        // Paged keys: no value shows how many there are, but keys' own tensors do.
        return t.kind === 'positions' && v.kind === 'positions' && v.packed
          ? [[t.keys.name!, v.position.length]]
          : [];
      }),
    );
    const { results } = interpret(module, 'decomposed', inputs, noWeights, { sizes, onOp: inner.onOp });
    return results.map((r, i) => {
      const { lo, hi } = this.of(r as TensorData);
      const value = outputs[i] as TensorData;
      // Around the reference's own value too: the two meanings differ by less than the slack.
      const least = (a: Float64Array, b: Float64Array): Float64Array =>
        a.map((x, k) => (b[k] < x ? b[k] : x));
      const most = (a: Float64Array, b: Float64Array): Float64Array => a.map((x, k) => (b[k] > x ? b[k] : x));
      const around = (of: TensorData, f: typeof least): TensorData => ({
        ...value,
        data: f(of.data, value.data),
        scales: value.scales.map((s, k) => ({ ...s, data: f(of.scales[k].data, s.data) })),
      });
      return { lo: around(lo, least), hi: around(hi, most) };
    });
  }
}
