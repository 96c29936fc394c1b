// `--compare ref`: every launch of a device's run beside the reference interpreter. A launch is judged on its own: its
// results against what the interpreter makes of the inputs that the device had, so that no error of an earlier launch
// counts. The interpreter's own run of the entry is the second measure: it shows what adds up, and finds what a look at
// one kernel cannot, a launch that was given another value's place.
import { DiagnosticError, type Diagnostic } from '../../../ir/diagnostics.ts';
import { dtypeInfo } from '../../../ir/formats/index.ts';
import { interpret, type OpEvent } from '../../../ir/interpret/interpreter.ts';
import type { RuntimeValue, StateData, TensorData } from '../../../ir/interpret/values.ts';
import type { WeightCache } from '../../../ir/interpret/weights.ts';
import type { Function, Module, Value } from '../../../ir/module.ts';
import { opDefinition } from '../../../ir/ops/index.ts';
import type { Span } from '../../../ir/span.ts';
import type { TensorType, Type } from '../../../ir/types.ts';
import type { LaunchEvent } from '../plan-runner.ts';
import type { Execute } from '../run-entries.ts';
import { DeviceValues } from './device-values.ts';
import { differences, distanceOf, showTolerance, type Distance, type Sums } from './values.ts';

/** One launch beside the reference. */
export interface ComparedLaunch {
  readonly entry: string;
  /** Calls of entries and launches of a call count from 1. */
  readonly call: number;
  readonly launch: number;
  readonly kernel: string;
  /** What it computes, in the order of its body. */
  readonly ops: readonly string[];
  readonly layer: number | null;
  /** The author's place. */
  readonly at: Span;
  /** On the device's own inputs; of several results the worst. Null: the two cannot be compared number by number. */
  readonly local: Distance | null;
  /** Against the interpreter's run of the whole entry. */
  readonly whole: Distance | null;
  readonly tolerance: string;
  /** Which of the two leaves its tolerance. */
  readonly verdict: 'ok' | 'local' | 'whole';
  /** What left it, in words. */
  readonly wrong: readonly string[];
}

/** What the interpreter's run made at one launch. */
interface Expected {
  readonly kernel: string;
  readonly at: Span;
  readonly outputs: readonly RuntimeValue[];
}

/**
 * Relative L2 that the whole run may be off, by the narrowest dtype that a launch has written so far: roundings that went
 * the other way are carried on. After a token went to another expert the two runs are no longer the same computation.
 */
export const wholeTolerance = { f32: 1e-3, bf16: 0.2, fp8: 0.5 } as const;
type Narrowest = keyof typeof wholeTolerance;

export class Comparison {
  readonly #module: Module;
  readonly #weights: WeightCache;
  readonly #fp8: Sums;
  readonly #onLaunch: (row: ComparedLaunch) => void;
  readonly #device: DeviceValues;
  readonly #states = new Map<string, StateData>();
  #expected: Expected[] = [];
  #entry = '';
  #call = 0;
  #launch = 0;
  #narrowest: Narrowest = 'f32';
  #rerouted = false;
  #first: ComparedLaunch | undefined;
  #wrong = 0;
  #all = 0;

  /** `module`: the one whose plan runs. `fp8`: how its device sums products of FP8. */
  constructor(module: Module, weights: WeightCache, fp8: Sums, onLaunch: (row: ComparedLaunch) => void) {
    this.#module = module;
    this.#fp8 = fp8;
    this.#weights = weights;
    this.#onLaunch = onLaunch;
    this.#device = new DeviceValues(module);
  }

  /** Runs entries on the device, the interpreter going first. Its results are kept until the device has made its own. */
  beside(device: Execute): Execute {
    return (entry, inputs) => {
      this.#entry = entry;
      this.#call++;
      this.#launch = 0;
      this.#interpret(entry, inputs);
      return device(entry, inputs);
    };
  }

  /** For the runner's observer. */
  readonly launch = (event: LaunchEvent): (() => void) => {
    const { fn } = event;
    const inputs = fn.arguments.map(({ value }) => this.#device.read(event, value));
    return () => this.#compare(event, inputs);
  };

  /** One error that names the first launch that left its tolerance; null when none did. */
  verdict(): Diagnostic | null {
    const row = this.#first;
    if (!row) return null;
    const where = `launch ${row.launch} of call ${row.call} (@${row.entry}${row.layer === null ? '' : `, layer ${row.layer}`})`;
    const isLocal = row.verdict === 'local';
    return {
      code: isLocal ? 'compare/kernel-differs' : 'compare/run-differs',
      severity: 'error',
      message: isLocal
        ? `kernel ${row.kernel} does not compute what the reference does: ${where} is the first to leave its tolerance (${row.tolerance})`
        : `${where}, kernel ${row.kernel}, is right on its inputs, but the run is ${row.whole?.relativeL2.toExponential(2)} (relative L2) away from the reference's`,
      at: row.at,
      notes: [
        ...row.wrong.map((message) => ({ message })),
        { message: `${this.#wrong} of ${this.#all} launches leave their tolerance` },
      ],
      fix: isLocal
        ? `look at kernels/${row.kernel}.ptx and at what its body means in ir/final.dsir`
        : 'look for an earlier launch that writes to the inputs of this one, and at the places in the plan',
    };
  }

  #interpret(entry: string, inputs: readonly RuntimeValue[]): void {
    const { arguments: args } = this.#module.functions.find((f) => f.name === entry)!;
    // The interpreter changes states in place, and goes on with its own.
    const own = inputs.map((v, i): RuntimeValue => {
      const { type } = args[i].value;
      if (v.kind !== 'state' || type.kind !== 'state') return v;
      return this.#states.get(type.state) ?? copied(v);
    });
    const expected: Expected[] = [];
    const onOp = ({ op, function: f, outputs }: OpEvent): void => {
      if (op.op !== 'launch' || f.kind === 'kernel') return;
      const kept = outputs.map((v) => (v.kind === 'state' ? copied(v) : v));
      expected.push({ kernel: String(op.attributes.callee), at: op.span, outputs: kept });
    };
    const { finals } = interpret(this.#module, entry, own, this.#weights, { onOp });
    args
      .filter((a) => a.inout)
      .forEach(({ value: { type } }, i) => {
        const final = finals[i];
        if (type.kind === 'state' && final.kind === 'state') this.#states.set(type.state, final);
      });
    this.#expected = expected;
  }

  #compare(event: LaunchEvent, inputs: readonly RuntimeValue[]): void {
    const { fn, kernel, layer } = event;
    const expected = this.#expected.shift();
    this.#launch++;
    if (expected?.kernel !== kernel.name)
      throw new Error(`compare: the plan launches ${kernel.name}, the IR ${expected?.kernel ?? 'nothing'}`);
    const inouts = fn.arguments.filter((a) => a.inout).map((a) => a.value);
    const values = [...fn.results, ...inouts];
    // Routings first: they say how many rows of the others are in use.
    const order = [...values].sort(
      (a, b) => Number(b.type.kind === 'routing') - Number(a.type.kind === 'routing'),
    );
    const got = new Map(order.map((v) => [v, this.#device.read(event, v)]));
    const { wanted, wrong } = this.#reference(event, inputs);
    const sums = multipliesFp8(fn) ? this.#fp8 : 'f32';
    if (wanted) wrong.push(...values.flatMap((v, i) => differences(v.name, got.get(v)!, wanted[i], sums)));
    const local = wanted && worst(values, (v, i) => distanceOf(v.type, got.get(v)!, wanted[i]));
    const whole = worst(values, (v, i) => distanceOf(v.type, got.get(v)!, expected.outputs[i]));
    for (const { type } of values) this.#narrowest = narrower(this.#narrowest, type, this.#module);
    this.#rerouted ||= whole.distance === null;
    const isLocal = wrong.length > 0;
    // What comes after the first that is wrong is wrong because of it.
    const isJudged = !isLocal && !this.#rerouted && !this.#first;
    const allowed = wholeTolerance[this.#narrowest];
    const strays = isJudged && !(whole.distance!.relativeL2 <= allowed);
    if (strays)
      wrong.push(
        `%${whole.value.name}: relative L2 ${whole.distance!.relativeL2.toExponential(2)}, at most ${allowed} is expected`,
      );
    this.#tell({
      ...{ entry: this.#entry, call: this.#call, launch: this.#launch, kernel: kernel.name, layer },
      ops: fn.body.map((op) => op.op),
      at: expected.at,
      local: local?.distance ?? null,
      whole: whole.distance,
      tolerance: toleranceText((local ?? whole).value.type, this.#module, sums),
      verdict: isLocal ? 'local' : strays ? 'whole' : 'ok',
      wrong,
    });
  }

  /** What the interpreter makes of a kernel's inputs; null, and why, when it cannot run on them. */
  #reference(
    event: LaunchEvent,
    inputs: readonly RuntimeValue[],
  ): { readonly wanted: readonly RuntimeValue[] | null; readonly wrong: string[] } {
    const sizes = this.#device.sizes(event);
    try {
      const { results, finals } = interpret(this.#module, event.fn.name, inputs, this.#weights, { sizes });
      return { wanted: [...results, ...finals], wrong: [] };
    } catch (error) {
      // What an earlier kernel left here need not make sense: an index beyond its table, say.
      if (!(error instanceof DiagnosticError)) throw error;
      const [{ message }] = error.diagnostics;
      return { wanted: null, wrong: [`the reference cannot run on these inputs: ${message}`] };
    }
  }

  #tell(row: ComparedLaunch): void {
    this.#all++;
    if (row.verdict !== 'ok') {
      this.#wrong++;
      this.#first ??= row;
    }
    this.#onLaunch(row);
  }
}

/** The value that is furthest off; one that cannot be compared is further than any. */
function worst(
  values: readonly Value[],
  distance: (v: Value, i: number) => Distance | null,
): { readonly value: Value; readonly distance: Distance | null } {
  const all = values.map((value, i) => ({ value, distance: distance(value, i) }));
  const far = ({ distance: d }: (typeof all)[number]): number => d?.relativeL2 ?? Infinity;
  return all.reduce((most, x) => (far(x) > far(most) ? x : most));
}

const tensorsOf = (type: Type, module: Module): readonly TensorType[] => {
  if (type.kind === 'tensor') return [type];
  if (type.kind !== 'state') return [];
  return module.states.find((s) => s.name === type.state)!.fields.map((f) => f.type);
};

function narrower(before: Narrowest, type: Type, module: Module): Narrowest {
  let found = before;
  for (const { dtype } of tensorsOf(type, module)) {
    const { kind, bits } = dtypeInfo[dtype];
    if (kind !== 'float' || bits === 32) continue;
    if (bits <= 8) return 'fp8';
    found = found === 'fp8' ? found : 'bf16';
  }
  return found;
}

/** A contraction of FP8 codes: it runs on tensor cores. */
export const multipliesFp8 = ({ body }: Function): boolean =>
  body.some(
    ({ op, operands }) =>
      opDefinition(op).class === 'contraction' &&
      operands.some(({ type }) => type.kind === 'tensor' && dtypeInfo[type.dtype].bits === 8),
  );

const toleranceText = (type: Type, module: Module, sums: Sums): string =>
  [...new Set(tensorsOf(type, module).map((t) => showTolerance(t.dtype, sums)))].join(', ') || 'same choices';

const copied = (state: StateData): StateData => ({
  kind: 'state',
  layers: state.layers.map(({ fields }) => ({
    fields: Object.fromEntries(
      Object.entries(fields).map(([name, f]): [string, TensorData] => [
        name,
        {
          ...f,
          data: f.data.slice(),
          scales: f.scales.map((s) => ({ ...s, data: s.data.slice() })),
        },
      ]),
    ),
  })),
});
