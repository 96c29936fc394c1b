// What the executor of plans refuses: launches that fail, requests that do not fit, and plans that cannot be run.
import { describe, expect, test } from 'vitest';
import type { FileFunction, FileKernel, FileStep, PlanFile } from '../compiler/plan-file/form.ts';
import {
  arena,
  argument,
  ExecutorBench,
  fn,
  layered,
  layeredBench,
  numbers,
  ofDim,
  repeat,
  weight,
} from './executor.testing.ts';
import { hasNative } from './native.ts';

const codeOf = (call: () => unknown): unknown => {
  try {
    return call();
  } catch (error) {
    return (error as { code: unknown }).code;
  }
};

describe.skipIf(!hasNative())('what goes wrong', () => {
  test('in a launch is told with its kernel, layer and line', () => {
    const bench = layeredBench();
    const [x, small] = [bench.floats(numbers(8)), bench.floats([0, 0, 0, 0])];
    const reported: string[] = [];
    let error: unknown;
    try {
      bench.run({
        ...{ entry: 'f', sizes: { n: 8 }, arguments: [x, small] },
        onLaunched: ({ reports }) => reported.push(...reports.map((r) => r.code)),
      });
    } catch (e) {
      error = e;
    }
    expect(error).toMatchObject({
      code: 'emu/out-of-bounds',
      where: 'gather, layer 2 (model.ts:2:1)',
      line: 9,
    });
    expect(reported).toEqual(['emu/out-of-bounds']);
  });

  test('in a request is refused', () => {
    const bench = layeredBench();
    expect(codeOf(() => bench.run({ entry: 'g', sizes: {}, arguments: [] }))).toBe('plan/unknown-entry');
    // A block is no entry.
    expect(codeOf(() => bench.run({ entry: 'layer', sizes: {}, arguments: [] }))).toBe('plan/unknown-entry');
    expect(codeOf(() => bench.run({ entry: 'f', sizes: { n: 1 }, arguments: [1n] }))).toBe('plan/arguments');
    expect(codeOf(() => bench.run({ entry: 'f', sizes: { n: -1 }, arguments: [1n, 1n] }))).toBe(
      'emu/bad-argument',
    );
    expect(codeOf(() => bench.weight(2, 0, 1))).toBe('plan/unknown-weight');
    for (const layer of [0, 1, 5])
      expect(codeOf(() => bench.weight(1, layer, 1))).toBe('plan/unknown-weight');
    const write = (component: number, at: number, count: number): unknown =>
      codeOf(() => bench.executor.writeWeight(bench.handle, 0, 0, component, at, new Uint8Array(count)));
    expect([write(1, 0, 4), write(0, 1, 4), write(0, 5, 0)]).toEqual([
      'plan/unknown-weight',
      'plan/weight-range',
      'plan/weight-range',
    ]);
    // In parts, at any byte.
    expect([write(0, 0, 3), write(0, 3, 1), write(0, 4, 0)]).toEqual([undefined, undefined, undefined]);
  });

  test('in a kernel’s code is told when it is first launched', () => {
    const bench = layeredBench();
    const other = new TypeError('no code');
    const request = { entry: 'f', sizes: { n: 1 }, arguments: [bench.floats([1]), bench.floats(numbers(5))] };
    const run = (kernelCode: () => Uint8Array) => () => bench.run({ ...request, codeOf: kernelCode });
    expect(codeOf(run(() => Uint8Array.of(1, 2, 3)))).toBe('emu/program-format');
    expect(codeOf(run(() => bench.codeOf('gather')))).toBe('emu/no-such-kernel');
    expect(codeOf(run(() => 'scale' as unknown as Uint8Array))).toBe('emu/bad-argument');
    expect(
      run(() => {
        throw other;
      }),
    ).toThrow(other);
    expect(bench.run(request)).toEqual([[105]]);
  });
});

/** The plan with a part of a function, a step or a kernel changed. */
const withFunction = (index: number, change: (f: FileFunction) => Partial<FileFunction>): PlanFile => ({
  ...layered,
  functions: layered.functions.map((f, i) => (i === index ? { ...f, ...change(f) } : f)),
});
const withStep = (f: number, index: number, change: Partial<FileStep>): PlanFile =>
  withFunction(f, ({ steps }) => ({
    steps: steps.map((s, i) => (i === index ? ({ ...s, ...change } as FileStep) : s)),
  }));
const withKernel = (change: Partial<FileKernel>): PlanFile => ({
  ...layered,
  kernels: [{ ...layered.kernels[0], ...change }, layered.kernels[1]],
});
const withWeight = (change: Partial<PlanFile['weights'][number]>): PlanFile => ({
  ...layered,
  weights: [layered.weights[0], { ...layered.weights[1], ...change }],
});
const pointer = { kind: 'pointer', at: 8, value: 0, component: 0, offset: 0 } as const;
const map = {
  ...({ ...pointer, kind: 'tensorMap', at: 0, element: 7, swizzle: 'none' } as const),
  ...{ dims: [ofDim(0)], strides: [], box: [4] },
};
const again = { mode: 'indexed', value: argument(1, 2) } as const;

describe.skipIf(!hasNative())('a plan is refused when', () => {
  test.each<readonly [string, PlanFile, string]>([
    [
      'a dim is unknown',
      {
        ...layered,
        types: [
          { text: 'f32[?]', components: [{ name: 'data', dtype: 'f32', bits: 32, shape: [ofDim(7)] }] },
        ],
      },
      'f32[?] has a dim that does not exist',
    ],
    [
      'elements have no bits',
      {
        ...layered,
        types: [{ text: 'none', components: [{ name: 'data', dtype: 'f32', bits: 0, shape: [] }] }],
      },
      'none has elements of 0 or more than 64 bits',
    ],
    [
      'a ragged dim follows from itself',
      { ...layered, dims: [{ name: 'n', bound: 1, ragged: { of: 0, per: 1, groups: 1, align: 1 } }] },
      'n counts rows of no plain dim',
    ],
    ['weights leave their memory', withWeight({ stride: 512 }), 'layers.{i}.w lies outside of the weights'],
    ['a weight has a run-time size', withWeight({ type: 0 }), 'layers.{i}.w has a run-time size'],
    ['a weight has no layers', withWeight({ layers: [2, 2] }), 'layers.{i}.w has no layers'],
    [
      'a kernel has too many threads',
      withKernel({ threads: 1025 }),
      'scale has no threads, or more than 1024',
    ],
    [
      'a parameter leaves its block',
      withKernel({ parameterBytes: 24 }),
      'scale has a parameter outside of its block',
    ],
    [
      'a parameter is misaligned',
      withKernel({ parameters: [{ ...pointer, at: 4 }] }),
      'scale has a parameter outside of its block',
    ],
    [
      'a parameter is of an unknown dim',
      withKernel({ parameters: [{ kind: 'u32', at: 0, dim: 9 }] }),
      'scale takes a dim that does not exist',
    ],
    [
      'a parameter is of no value',
      withKernel({ parameters: [{ ...pointer, value: 3 }] }),
      'layer gives scale too few values',
    ],
    [
      'a parameter is of no component',
      withKernel({ parameters: [{ ...pointer, component: 1 }] }),
      'layer gives scale too few values',
    ],
    [
      'there is no scratch memory',
      withKernel({ parameters: [{ ...pointer, value: 0xffffffff }] }),
      'scale takes scratch memory and has none',
    ],
    [
      'a map has six dims',
      withKernel({
        parameterBytes: 128,
        parameters: [
          { ...map, dims: Array(6).fill(ofDim(0)), strides: Array(5).fill(ofDim(0)), box: Array(6).fill(1) },
        ],
      }),
      'scale has a tensor map of no rank',
    ],
    [
      'a map has too few strides',
      withKernel({ parameterBytes: 128, parameters: [{ ...map, dims: [ofDim(0), ofDim(0)], box: [4, 4] }] }),
      'scale has a tensor map of no rank',
    ],
    ['a grid has no axes', withKernel({ grid: [] }), 'scale has a grid without axes'],
    [
      'a grid divides by nothing',
      withKernel({ grid: [{ extent: ofDim(0), per: 0 }] }),
      'scale has a grid of blocks of nothing',
    ],
    [
      'a value leaves its arena',
      withFunction(0, () => ({ arenaBytes: 8095 })),
      'layer has a value that leaves its arena',
    ],
    [
      'a value has no type',
      withFunction(0, () => ({ results: [arena(0, 9)] })),
      'layer has a value of no type',
    ],
    [
      'a value has too few places',
      withFunction(0, () => ({ results: [{ type: 0, places: [] }] })),
      'layer has a value with too few or too many places',
    ],
    [
      'an argument is not there',
      withFunction(0, () => ({ results: [argument(2)] })),
      'layer has a place in an argument that it has not',
    ],
    [
      'a weight is not there',
      withFunction(0, () => ({ results: [weight(2)] })),
      'layer has a place in a weight that does not exist',
    ],
    [
      'an entry takes a layer’s weight',
      withFunction(1, () => ({ results: [weight(1)] })),
      'f is no layer, and takes the weight of one',
    ],
    ['a kernel is not there', withStep(0, 0, { kernel: 2 }), 'layer launches a kernel that does not exist'],
    ['operands are more than values', withStep(0, 0, { operands: 4 }), 'layer has more operands than values'],
    [
      'a function repeats itself',
      withStep(1, 1, { function: 1 }),
      'f repeats a function that does not stand before it',
    ],
    ['layers have no weights', withStep(1, 1, { stop: 6 }), 'f repeats layer for layers without weights'],
    ['layers go backwards', withStep(1, 1, { start: 5, stop: 4 }), 'f repeats layer for no range of layers'],
    [
      'an arena does not fit into its caller’s',
      withStep(1, 1, { arena: 8193 }),
      'f has no room for the arena of layer',
    ],
    [
      'operands are missing',
      withStep(1, 1, { operands: [again] }),
      'f gives layer too few or too many operands',
    ],
    [
      'more is carried than comes back',
      withStep(1, 1, {
        operands: [
          { mode: 'carry', value: arena(0), result: arena(0) },
          { mode: 'carry', value: arena(0), result: arena(0) },
        ],
      }),
      'f carries a value that layer does not return',
    ],
    [
      'it never ends',
      {
        ...layered,
        functions: [
          ...layered.functions.slice(0, 1),
          ...[1, 2, 3].map((n) =>
            fn(`f${n}`, {
              ...layered.functions[0],
              steps: [
                repeat(n - 1, n === 1 ? [2, 5] : [0, 1 << 20], 0, [
                  { mode: 'same', value: argument(0) },
                  { mode: 'same', value: argument(1) },
                ]),
              ],
            }),
          ),
        ],
      },
      'f3 runs more than 2^32 steps',
    ],
  ])('%s', (_, file, message) => {
    const call = (): unknown => new ExecutorBench(file);
    expect(codeOf(call)).toBe('plan/format');
    expect(call).toThrow(message);
  });

  test('nothing is wrong with it, it is taken', () => {
    expect(() => new ExecutorBench(layered)).not.toThrow();
    expect(() => new ExecutorBench(withStep(1, 1, { start: 3, stop: 3 }))).not.toThrow();
    expect(() => new ExecutorBench(withKernel({ parameterBytes: 128, parameters: [map] }))).not.toThrow();
  });
});
