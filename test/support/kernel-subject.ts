// For tests: a kernel function from a body, emitted, run in the functional PTX interpreter and compared with the IR
// interpreter.
import { expect } from 'vitest';
import { FunctionBuilder, inferContext } from '../../ir/builder.ts';
import { interpret } from '../../ir/interpret/index.ts';
import { emptyModule, noWeights, randomNumbers } from '../../ir/interpret/testing.ts';
import type { RuntimeValue, TensorData } from '../../ir/interpret/values.ts';
import { round } from '../../ir/formats/index.ts';
import type { DimDeclaration, Function, Module, StateDeclaration, Value } from '../../ir/module.ts';
import { type as typeOf } from '../../ir/ops/testing.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import type { TensorType, Type } from '../../ir/types.ts';
import { assemble } from '../../backends/ptx/ptxas.ts';
import { runKernel, type RunOptions, type RunResult } from './run-kernel.ts';

export interface Subject {
  readonly fn: Function;
  readonly module: Module;
}

export interface Given {
  /** Types of the arguments, spelled, or types. */
  readonly args: readonly (string | Type)[];
  readonly inout?: readonly number[];
  readonly dims?: readonly DimDeclaration[];
  readonly states?: readonly StateDeclaration[];
  readonly name?: string;
}

/** A kernel function over arguments of the given types. The body gives results, or results and finals. */
export function kernelOf(
  given: Given,
  body: (
    b: FunctionBuilder,
    args: readonly Value[],
  ) => readonly Value[] | { readonly results: readonly Value[]; readonly finals: readonly Value[] },
): Subject {
  const module: Module = { ...emptyModule, dims: given.dims ?? [], states: given.states ?? [] };
  const b = new FunctionBuilder(inferContext(module));
  const args = given.args.map((t, i) =>
    b.argument(`x${i}`, typeof t === 'string' ? typeOf(t) : t, given.inout?.includes(i) ?? false),
  );
  b.span = { file: 'model.ts', line: 7, column: 3, endLine: 7, endColumn: 20 };
  const made = body(b, args);
  const { results, finals } = 'results' in made ? made : { results: made, finals: [] };
  const fn = b.finish({ kind: 'kernel', name: given.name ?? 'kernel', results, finals });
  return { fn, module: { ...module, functions: [fn] } };
}

/** Random values of a plain tensor type, in [-spread, spread), rounded to its dtype. */
export function random(
  type: string | Type,
  seed: number,
  sizes: Readonly<Record<string, number>> = {},
  spread = 2,
): TensorData {
  const { dtype, dims } = (typeof type === 'string' ? typeOf(type) : type) as TensorType;
  const shape = dims.map((d) => d.size ?? sizes[d.name!]);
  const next = randomNumbers(seed);
  const count = shape.reduce((n, s) => n * s, 1);
  const one = (): number => {
    if (dtype === 'bool') return next() < 0 ? 0 : 1;
    if (dtype === 'i32' || dtype === 'i64') return Math.floor(next() * 100);
    return round(dtype, next() * spread);
  };
  return { kind: 'tensor', dtype, shape, data: Float64Array.from({ length: count }, one), scales: [] };
}

export const tensorValue = (
  dtype: TensorData['dtype'],
  shape: readonly number[],
  values: ArrayLike<number>,
): TensorData => ({
  kind: 'tensor',
  dtype,
  shape,
  data: Float64Array.from(values),
  scales: [],
});

/** Runs a kernel in both thread orders (what differs is a race) and gives what it leaves. */
export function run(
  kernel: EmittedKernel,
  { fn, module }: Subject,
  inputs: readonly RuntimeValue[],
  options: RunOptions = {},
): RunResult {
  const forward = runKernel(kernel, fn, module, inputs, { ...options, order: 'forward' });
  const reverse = runKernel(kernel, fn, module, inputs, { ...options, order: 'reverse' });
  for (const [key, bytes] of forward.arrays)
    if (!Buffer.from(bytes).equals(Buffer.from(reverse.arrays.get(key)!)))
      throw new Error(`${key} depends on the order of threads`);
  return forward;
}

/** What the IR interpreter gives for the same function. States among the inputs are changed. */
export const reference = (
  { fn, module }: Subject,
  inputs: readonly RuntimeValue[],
  sizes: Readonly<Record<string, number>> = {},
): readonly RuntimeValue[] => interpret(module, fn.name, inputs, noWeights, { sizes }).results;

/** Largest relative difference that is still rounding, by dtype: one unit in the last place and a little. */
const tolerance: Partial<Record<TensorData['dtype'], number>> = {
  f32: 4e-6,
  bf16: 2 ** -7,
  f16: 2 ** -10,
  f8e4m3: 2 ** -3,
  f8e5m2: 2 ** -2,
  f12e5m6: 2 ** -6,
};

export interface Close {
  /** Relative, for floats. */
  readonly relative?: number;
  /** Added to the tolerance: what cancellation leaves. */
  readonly absolute?: number;
  /** Share of the elements of a narrow float that may be one code off. */
  readonly share?: number;
}

/** Compares tensors element by element; ints and bools exactly. */
export function expectClose(
  got: RuntimeValue,
  want: RuntimeValue,
  { relative, absolute = 1e-6, share = 0.01 }: Close = {},
): void {
  if (got.kind !== 'tensor' || want.kind !== 'tensor') throw new Error('expectClose compares tensors');
  expect(got.dtype).toBe(want.dtype);
  const allowed = relative ?? tolerance[want.dtype] ?? 0;
  const off: string[] = [];
  let rough = 0;
  for (const [i, w] of want.data.entries()) {
    const g = got.data[i];
    if (Object.is(g, w) || g === w || (Number.isNaN(g) && Number.isNaN(w))) continue;
    const difference = Math.abs(g - w);
    if (want.dtype !== 'f32' && allowed > 0 && difference > 1e-5 * Math.abs(w) + absolute) rough++;
    if (!(difference <= allowed * Math.abs(w) + absolute) || allowed === 0)
      off.push(`[${i}] is ${g}, should be ${w}`);
  }
  expect(off.slice(0, 5), `${off.length} of ${want.data.length} elements differ`).toEqual([]);
  // Rounding to a narrow float may go the other way where f32 sums differ, but seldom.
  expect(rough, 'elements rounded the other way').toBeLessThanOrEqual(Math.ceil(share * want.data.length));
  for (const [level, s] of want.scales.entries()) {
    const scales = got.scales[level];
    expect(Array.from(scales.shape)).toEqual(Array.from(s.shape));
    for (const [i, w] of s.data.entries())
      expect(
        Math.abs(scales.data[i] - w),
        `scale ${i}: ${scales.data[i]}, should be ${w}`,
      ).toBeLessThanOrEqual(1e-6 * Math.abs(w));
  }
}

/**
 * Assembles a kernel: no error, no spills. Gives a sentence when there is no ptxas, for the test to skip with.
 */
export async function assembled(kernel: EmittedKernel): Promise<string | null> {
  const result = await assemble(kernel.ptx);
  if (result.status === 'missing') return 'ptxas is not installed';
  if (result.status === 'rejected')
    throw new Error(
      `${kernel.name}: ${result.errors.map((e) => `line ${e.line}: ${e.message}`).join('; ')}\n${kernel.ptx}`,
    );
  const { spills, stackBytes } = result.kernels[kernel.name];
  expect({ name: kernel.name, spills, stackBytes }).toEqual({
    name: kernel.name,
    spills: { storeBytes: 0, loadBytes: 0 },
    stackBytes: 0,
  });
  expect(result.seconds, 'seconds in ptxas').toBeLessThan(10);
  return null;
}
