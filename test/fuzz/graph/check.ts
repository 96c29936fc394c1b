// One random module, three ways: the interpreter on it as it is, the interpreter after all passes, and the emulator
// running the kernels of the plan. What differs is told in words.
import { h800Target } from '../../../backends/h800/target.ts';
import { PlanRunner } from '../../../compiler/cli/plan-runner.ts';
import { compileModule } from '../../../compiler/compile.ts';
import type { Pass } from '../../../compiler/pass.ts';
import { DiagnosticError } from '../../../ir/diagnostics.ts';
import { interpret, WeightCache, type InterpretResult } from '../../../ir/interpret/index.ts';
import type { RuntimeValue, TensorData } from '../../../ir/interpret/values.ts';
import { functionNamed, type Module } from '../../../ir/module.ts';
import { dequantizeTensor } from '../../../ir/ops/scaling.ts';
import { verifyModule } from '../../../ir/verify.ts';
import { loadCore } from '../../../runtime/emulator/load-core.ts';
import { Enclosure } from './enclose.ts';
import type { Ends } from './ends.ts';
import { inputsOf, weightsOf } from './inputs.ts';

/** Where it went wrong. While a case is made smaller, the stage stays. */
export type Stage = 'generate' | 'interpret' | 'compile' | 'passes' | 'emulator' | 'report' | 'values';

export interface Finding {
  readonly stage: Stage;
  readonly what: string;
}

/** What a case was worth. */
export interface Checked {
  readonly finding: Finding | null;
  /** Elements of results, and those of them that had to lie between two numbers of nearly the same size. */
  readonly elements: number;
  readonly sharp: number;
  /** Families of the kernels that ran. */
  readonly families: readonly string[];
}

export interface CheckOptions {
  /** Instead of the inference pipeline. */
  readonly passes?: readonly Pass[];
  /** Changes the PTX of every kernel: to show that a wrong kernel is found. */
  readonly rewrite?: (ptx: string) => string;
}

const fields = (v: RuntimeValue): readonly (readonly [string, TensorData])[] =>
  v.kind === 'state'
    ? v.layers.flatMap((l, i) =>
        Object.entries(l.fields).map(([n, f]) => [`.${n} of layer ${i}`, f] as const),
      )
    : v.kind === 'tensor'
      ? [['', v]]
      : [];

/** Results, then final states. */
const settled = ({ results, finals }: InterpretResult): readonly RuntimeValue[] => [...results, ...finals];

function arrays(t: TensorData): readonly (readonly [string, readonly number[], Float64Array])[] {
  return [['', t.shape, t.data], ...t.scales.map((s, i) => [`.scale${i}`, s.shape, s.data] as const)];
}

/** The part of an array that has another's shape: axes of rows by expert have room for more than are used. */
function cropped(data: Float64Array, from: readonly number[], to: readonly number[]): Float64Array {
  if (from.join() === to.join()) return data;
  if (from.length !== to.length || from.some((n, axis) => n < to[axis]))
    throw new Wrong('values', `a result is [${from.join(', ')}], should be [${to.join(', ')}]`);
  const steps = from.map((_, axis) => from.slice(axis + 1).reduce((a, b) => a * b, 1));
  const out = new Float64Array(to.reduce((a, b) => a * b, 1));
  for (let i = 0; i < out.length; i++) {
    let [at, rest] = [0, i];
    for (let axis = to.length - 1; axis >= 0; axis--) {
      at += (rest % to[axis]) * steps[axis];
      rest = Math.floor(rest / to[axis]);
    }
    out[i] = data[at];
  }
  return out;
}

const place = (i: number, shape: readonly number[]): string => {
  const at: number[] = [];
  for (let axis = shape.length - 1, rest = i; axis >= 0; axis--) {
    at.unshift(rest % shape[axis]);
    rest = Math.floor(rest / shape[axis]);
  }
  return at.join(', ');
};

/** First element that differs by more than `allowed` of the largest; null when none does. */
function differs(name: string, got: TensorData, want: TensorData, allowed: number): string | null {
  for (const [k, [part, shape, data]] of arrays(want).entries()) {
    const other = arrays(got)[k][2];
    const largest = data.reduce((m, x) => (Number.isFinite(x) ? Math.max(m, Math.abs(x)) : m), 0);
    for (let i = 0; i < data.length; i++) {
      const [g, w] = [other[i], data[i]];
      if (g === w || (Number.isNaN(g) && Number.isNaN(w)) || Math.abs(g - w) <= allowed * largest) continue;
      return `${name}${part}[${place(i, shape)}] is ${g}, before the passes ${w}`;
    }
  }
  return null;
}

/** Ends are sharp when they leave less than this share of a number open. */
const sharpness = 2 ** -6;

/** Elements outside of their ends, in words; counts those that could be told. */
function outside(
  name: string,
  got: TensorData,
  want: TensorData,
  ends: Ends,
  tally: { elements: number; sharp: number },
): string[] {
  const wrong: string[] = [];
  const [lows, highs] = [arrays(ends.lo), arrays(ends.hi)];
  for (const [k, [part, shape, data]] of arrays(want).entries()) {
    const [lo, hi] = [lows[k][2], highs[k][2]];
    const [, from, all] = arrays(got)[k];
    const other = cropped(all, from, shape);
    for (let i = 0; i < data.length; i++) {
      tally.elements++;
      if (hi[i] - lo[i] <= sharpness * Math.max(Math.abs(data[i]), 2 ** -20)) tally.sharp++;
      if ((other[i] >= lo[i] && other[i] <= hi[i]) || (lo[i] === -Infinity && hi[i] === Infinity)) continue;
      wrong.push(
        `${name}${part}[${place(i, shape)}] is ${other[i]}, should be ${data[i]} (from ${lo[i]} to ${hi[i]})`,
      );
    }
  }
  return wrong.length <= 3
    ? wrong
    : [...wrong.slice(0, 3), `… ${wrong.length} of ${want.data.length} elements`];
}

const messageOf = (e: unknown): string =>
  e instanceof DiagnosticError
    ? e.diagnostics.map((d) => `${d.code}: ${d.message}`).join('; ')
    : e instanceof Error
      ? [
          e.message,
          ...((e as { diagnostics?: readonly { message: string }[] }).diagnostics ?? []).map(
            (d) => d.message,
          ),
        ].join('; ')
      : String(e);

class Wrong extends Error {
  readonly stage: Stage;
  constructor(stage: Stage, what: string) {
    super(what);
    this.stage = stage;
  }
}
function at<T>(stage: Stage, work: () => T): T {
  try {
    return work();
  } catch (e) {
    if (e instanceof Wrong) throw e;
    throw new Wrong(stage, messageOf(e));
  }
}

/** Checks a module with one entry `main`. Throws nothing: what goes wrong is the finding. */
export function check(module: Module, options: CheckOptions = {}): Checked {
  const tally = { elements: 0, sharp: 0 };
  const families: string[] = [];
  try {
    run(module, options, tally, families);
    return { finding: null, ...tally, families };
  } catch (e) {
    if (!(e instanceof Wrong)) throw e;
    return { finding: { stage: e.stage, what: e.message }, ...tally, families };
  }
}

function run(
  module: Module,
  options: CheckOptions,
  tally: { elements: number; sharp: number },
  families: string[],
): void {
  const mistakes = verifyModule(module);
  if (mistakes.length > 0) throw new Wrong('generate', mistakes.map((d) => d.message).join('; '));
  const entry = at('generate', () => functionNamed(module, 'main'));
  const inputs = () => at('generate', () => inputsOf(module, entry));
  const { sizes } = inputs();
  const weights = new WeightCache(weightsOf(module));
  const isFp8 = module.attributes.precision === 'fp8';
  const numerics = isFp8 ? 'f64' : 'declared';

  const before = at('interpret', () =>
    interpret(module, 'main', inputs().values, weights, { sizes, numerics }),
  );
  const compiled = at('compile', () =>
    compileModule(module, {
      target: h800Target,
      disabled: new Set(module.attributes.without === undefined ? [] : [String(module.attributes.without)]),
      verifyEach: true,
      ...(options.passes && { passes: options.passes }),
    }),
  );
  families.push(...new Set(compiled.kernels.map((k) => k.family)));

  // Passes keep the meaning: bit by bit where they round as the module does; FP8 without its rounding.
  const after = at('passes', () =>
    interpret(compiled.module, 'main', inputs().values, weights, { sizes, numerics }),
  );
  const names = [
    ...entry.results.map((v) => `%${v.name}`),
    ...entry.arguments.filter((a) => a.inout).map((a) => `%${a.value.name}`),
  ];
  const kept = settled(before);
  for (const [i, v] of settled(after).entries())
    for (const [k, [part, t]] of fields(v).entries()) {
      const type = entry.results[i]?.type;
      // A tile of zeros has any scale: passes that move quantisation need not keep it.
      const value = (x: TensorData): TensorData =>
        isFp8 && type?.kind === 'tensor' && x.scales.length > 0
          ? { ...x, data: dequantizeTensor(x, type.scales, false), scales: [] }
          : x;
      const what = differs(names[i] + part, value(t), value(fields(kept[i])[k][1]), isFp8 ? 1e-9 : 0);
      if (what !== null) throw new Wrong('passes', what);
    }

  const enclosure = new Enclosure(compiled.module);
  const wanted = interpret(compiled.module, 'main', inputs().values, weights, {
    sizes,
    onOp: enclosure.onOp,
  });
  const got = at('emulator', () => emulate(compiled, inputs().values, weights, module, options));
  const wrong = settled(wanted).flatMap((v, i) =>
    fields(v).flatMap(([part, t], k) =>
      outside(names[i] + part, fields(settled(got)[i])[k][1], t, enclosure.of(t), tally),
    ),
  );
  if (wrong.length > 0) throw new Wrong('values', wrong.join('\n'));
}

function emulate(
  compiled: ReturnType<typeof compileModule>,
  inputs: readonly RuntimeValue[],
  weights: WeightCache,
  module: Module,
  { rewrite }: CheckOptions,
): InterpretResult {
  const core = loadCore();
  // Plain f32 sums: the exact model's fewer bits are its own tests' business, and would hide small mistakes here.
  const device = core.createDevice({
    ...{
      checks: ['all'],
      tensorCore: 'f32',
      seed: Number(module.attributes.seed ?? 0),
      maxInstructions: 50_000_000,
    },
  });
  const kernels = rewrite ? compiled.kernels.map((k) => ({ ...k, ptx: rewrite(k.ptx) })) : compiled.kernels;
  const runner = new PlanRunner(core, device, { ...compiled, kernels }, weights, {
    launched: ({ reports }, { kernel }) => {
      const [error] = reports.filter((r) => r.severity === 'error');
      if (error)
        throw new Wrong(
          'report',
          `@${kernel.name}: ${error.code} at line ${error.ptxLine}: ${error.message}`,
        );
    },
  });
  return runner.run('main', inputs);
}
