import { describe, expect, test } from 'vitest';
import { DiagnosticError, renderDiagnostic } from '../diagnostics.ts';
import type { Module } from '../module.ts';
import { parseModule } from '../text/index.ts';
import { interpret, type OpEvent } from './interpreter.ts';
import { newState, packedPositions, stepPositions } from './positions.ts';
import { noWeights, randomTensor, tableSource } from './testing.ts';
import type { RuntimeValue, StateData, TensorData } from './values.ts';
import { WeightCache } from './weights.ts';

const dims = ['n', 'rows', 'tokens', 'keys', 'sequences', 'outputs']
  .map((d) => `  dim ${d} <= 64\n`)
  .join('');
function parse(body: string): Module {
  const { module, diagnostics } = parseModule(`dsir 1\nmodule @test {\n${dims}${body}\n}\n`, 'test.dsir');
  if (!module)
    throw new Error(diagnostics.map((d) => `${d.at?.line}: ${d.message} ${d.label ?? ''}`).join('\n'));
  return module;
}
const tensor = (
  shape: readonly number[],
  data: readonly number[],
  dtype: TensorData['dtype'] = 'f32',
): TensorData => ({
  kind: 'tensor',
  dtype,
  shape,
  data: Float64Array.from(data),
  scales: [],
});
const dataOf = (v: RuntimeValue): number[] => [...(v as TensorData).data];
/** The first diagnostic, rendered. */
function failure(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (!(error instanceof DiagnosticError)) throw error;
    return renderDiagnostic(error.diagnostics[0], { sourceOf: () => undefined });
  }
  throw new Error('it did not fail');
}

describe('numerics', () => {
  const module = parse(`
  entry @main(%x: f32[n]) -> (bf16[n], f32[n]) {
    %y = cast %x : bf16[n]
    %z = cast %y : f32[n]
    %w = mul %z, %z : f32[n]
    return %y, %w
  }`);
  const x = tensor([2], [1 + 2 ** -9, 1 / 3]);

  test('declared: every value is rounded to its dtype, and inputs are left alone', () => {
    const { results } = interpret(module, 'main', [x], noWeights);
    expect(dataOf(results[0])).toEqual([1, 0.333984375]);
    expect(dataOf(results[1])).toEqual([1, 0.333984375 ** 2]);
    expect(dataOf(x)).toEqual([1 + 2 ** -9, 1 / 3]);
  });
  test('f64: nothing is', () => {
    const { results } = interpret(module, 'main', [x], noWeights, { numerics: 'f64' });
    expect(dataOf(results[1])).toEqual([(1 + 2 ** -9) ** 2, (1 / 3) ** 2]);
  });
});

describe('inputs', () => {
  const module = parse(`
  dim cached <= 16
  state rows paged(4) { k: f32[cached, 2] }
  entry @main(%x: f32[n, 2], %y: f32[n], %at: positions[n, cached, sequences, outputs], inout %s: state rows) -> (f32[cached, 2]) {
    %s.1 = cache_append %s, %at, %x : state rows
    %k = cache_read %s.1 {field = k} : f32[cached, 2]
    return %k; %s.1
  }`);
  const at = stepPositions([1], [2], 'last', 4, [Int32Array.from([1])]);
  const state = (): StateData => newState(module.states[0], null, 8);
  const [x, y] = [randomTensor([2, 2], 1), randomTensor([2], 2)];
  const run =
    (...inputs: RuntimeValue[]) =>
    () =>
      interpret(module, 'main', inputs, noWeights);

  test('bind run-time dims, and states are updated in place', () => {
    const s = state();
    const { results, finals } = run(x, y, at, s)();
    expect((results[0] as TensorData).shape).toEqual([8, 2]);
    expect(finals[0]).toBe(s);
    expect(dataOf(s.layers[0].fields.k).slice(10, 14)).toEqual(dataOf(x));
  });
  test.each([
    ['count', [x]],
    ['kind', [x, at, at, state()]],
    ['dtype', [tensor([2, 2], [0, 0, 0, 0], 'bf16'), y, at, state()]],
    ['rank', [y, y, at, state()]],
    ['static size', [randomTensor([2, 3], 1), y, at, state()]],
    ['run-time size', [x, randomTensor([3], 1), at, state()]],
    ['elements', [x, { ...y, data: new Float64Array(3) }, at, state()]],
    ['packed for paged', [x, y, packedPositions([2], 'last', 4), state()]],
    ['number of states', [x, y, at, newState(module.states[0], 2, 8)]],
    ['field', [x, y, at, newState({ ...module.states[0], fields: [] }, null, 8)]],
    ['outputs', [x, y, { ...at, outputs: Int32Array.from([2]) }, state()]],
  ] satisfies [string, RuntimeValue[]][])('that do not fit: %s', (_, inputs) => {
    expect(failure(run(...inputs))).toMatchSnapshot();
  });
});

describe('calls', () => {
  const module = parse(`
  dim slots = ragged(rows * 2, groups = 3, align = 4) <= 64
  block @scale(%x: f32[tokens, w=2]) -> (f32[tokens, w=2]) {
    param "factor.weight": f32[2] stored [2]
    %f = broadcast param "factor.weight" {axes = [1]} : f32[tokens, 2]
    %y = mul %x, %f : f32[tokens, 2]
    return %y
  }
  block @layer(%x: f32[tokens, w=2], %extra: f32[tokens]) -> (f32[tokens, w=2], f32[tokens]) {
    %y = call @scale %x {prefix = "inner."} : f32[tokens, w=2]
    %s = sum %y {axes = [1]} : f32[tokens]
    %t = add %s, %extra : f32[tokens]
    return %y, %t
  }
  block @choose(%scores: f32[tokens, 3]) -> (f32[tokens, 3], f32[slots]) {
    %r = route %scores {top = 2} : routing[tokens, 3, 2, slots]
    %w = routing_field %r {field = slot_weights} : f32[slots]
    %next = mul %scores, %scores : f32[tokens, 3]
    return %next, %w
  }
  block @unweigh(%w: f32[slots]) -> (f32[]) {
    %s = sum %w {axes = [0]} : f32[]
    return %s
  }
  kernel @double(%x: f32[rows, w=2]) -> (f32[rows, w=2]) {
    %y = add %x, %x : f32[rows, w=2]
    return %y
  }
  entry @main(%x: f32[rows, w=2], %extra: f32[3, rows]) -> (f32[rows, w=2], f32[2, rows]) {
    %y, %t = repeat @layer %x, %extra {start = 1, stop = 3, prefix = "layers.{i}.", modes = [carry, indexed]} : f32[rows, w=2], f32[2, rows]
    return %y, %t
  }
  entry @backward(%x: f32[rows, w=2], %extra: f32[2, rows]) -> (f32[rows, w=2], f32[2, rows]) {
    %y, %t = repeat @layer %x, %extra {start = 1, stop = 3, prefix = "layers.{i}.", modes = [carry, indexed], reverse = true} : f32[rows, w=2], f32[2, rows]
    return %y, %t
  }
  entry @nothing(%x: f32[rows, w=2], %extra: f32[3, rows]) -> (f32[rows, w=2], f32[0, rows]) {
    %y, %t = repeat @layer %x, %extra {start = 1, stop = 1, prefix = "layers.{i}.", modes = [carry, indexed]} : f32[rows, w=2], f32[0, rows]
    return %y, %t
  }
  entry @twice(%x: f32[rows, w=2]) -> (f32[rows, w=2]) {
    %y = launch @double %x : f32[rows, w=2]
    return %y
  }
  entry @ragged(%scores: f32[rows, 3]) -> (f32[2, slots], f32[2]) {
    %next, %w = repeat @choose %scores {start = 0, stop = 2, modes = [carry]} : f32[rows, 3], f32[2, slots]
    %s = repeat @unweigh %w {start = 0, stop = 2, modes = [indexed]} : f32[2]
    return %w, %s
  }`);
  const weights = {
    'layers.1.inner.factor.weight': tensor([2], [2, 3]),
    'layers.2.inner.factor.weight': tensor([2], [10, 100]),
  };
  const x = tensor([2, 2], [1, 1, 2, 1]);

  test('repeat carries, indexes by layer, stacks; prefixes name the weights', () => {
    const extra = tensor([3, 2], [7, 7, 0.25, 0.5, 0.125, 0]);
    const { results } = interpret(module, 'main', [x, extra], tableSource(weights));
    expect(dataOf(results[0])).toEqual([20, 300, 40, 300]);
    expect(results[1]).toEqual(tensor([2, 2], [5.25, 7.5, 320.125, 340]));
  });
  test('in reverse, with one element per layer that runs; stacks keep the order of layers', () => {
    const extra = tensor([2, 2], [0.25, 0.5, 0.125, 0]);
    const source = tableSource(weights);
    const { results } = interpret(module, 'backward', [x, extra], source);
    expect(dataOf(results[1])).toEqual([320.25, 340.5, 110.125, 120]);
    expect(source.read).toEqual(['layers.2.inner.factor.weight', 'layers.1.inner.factor.weight']);
  });
  test('no layers', () => {
    const { results } = interpret(module, 'nothing', [x, randomTensor([3, 2], 1)], noWeights);
    expect(results[0]).toBe(x);
    expect((results[1] as TensorData).shape).toEqual([0, 2]);
  });
  test('launch', () => {
    expect(dataOf(interpret(module, 'twice', [x], noWeights).results[0])).toEqual([2, 2, 4, 2]);
  });
  test('layers whose routings have different numbers of slots', () => {
    // Squaring turns −0.9 into the best choice: 8 slots in layer 0 and 12 in layer 1, if experts differ.
    const scores = tensor([3, 3], [0.5, 0.4, -0.9, 0.5, 0.4, -0.3, 0.5, 0.4, -0.1]);
    const { results } = interpret(module, 'ragged', [scores], noWeights);
    expect((results[0] as TensorData).shape).toEqual([2, 12]);
    // Weights of each token add up to 1.
    for (const s of dataOf(results[1])) expect(s).toBeCloseTo(3, 6);
  });
  test('hooks see every op with its prefix and layer', () => {
    const seen: string[] = [];
    const onOp = ({ op, function: f, prefix, layer, outputs }: OpEvent): void => {
      seen.push(`${f.name} ${op.op} ${prefix} ${layer} ${outputs.length}`);
    };
    interpret(module, 'main', [x, randomTensor([3, 2], 1)], tableSource(weights), { onOp });
    expect(seen).toEqual([
      ...[1, 2].flatMap((i) => [
        `scale broadcast layers.${i}.inner. ${i} 1`,
        `scale mul layers.${i}.inner. ${i} 1`,
        `layer call layers.${i}. ${i} 1`,
        `layer sum layers.${i}. ${i} 1`,
        `layer add layers.${i}. ${i} 1`,
      ]),
      'main repeat  null 2',
    ]);
  });
  test("a cache keeps weights over runs; otherwise a layer's are dropped when it is done", () => {
    const inputs = [x, randomTensor([3, 2], 1)];
    const source = tableSource(weights);
    const cache = new WeightCache(source);
    interpret(module, 'main', inputs, cache);
    interpret(module, 'main', inputs, cache);
    expect(source.read.length).toBe(2);
    expect(cache.held).toBe(4);
    interpret(module, 'main', inputs, cache, { releaseAfterLayer: true });
    expect(cache.held).toBe(0);
  });
  test('a block alone, under a prefix', () => {
    const { results } = interpret(module, 'scale', [x], tableSource(weights), { prefix: 'layers.2.inner.' });
    expect(dataOf(results[0])).toEqual([10, 100, 20, 100]);
  });
  test('a missing weight is named in full, at its declaration', () => {
    expect(failure(() => interpret(module, 'scale', [x], tableSource({}), { prefix: 'layers.9.' })))
      .toMatchInlineSnapshot(`
      "error[weights/missing]: the checkpoint has no tensor layers.9.factor.weight
        declared f32[2]
      fix: check the checkpoint, or the prefix of the block's call"
    `);
  });
});

describe('states per layer', () => {
  const module = parse(`
  dim cached <= 16
  state rows paged(4) { k: f32[cached, 2] }
  block @attend(%x: f32[tokens, 2], %at: positions[tokens, keys, sequences, outputs], inout %s: state rows) -> (f32[tokens, 2]) {
    %s.1, %k = remember %s, %at, %x : state rows, f32[keys, 2]
    %q = reshape %x : f32[tokens, 1, 2]
    %kv = reshape %k : f32[keys, 1, 2]
    %o = attention %q, %kv, %kv, %at {scale = 0.5} : f32[tokens, 1, 2]
    %y = reshape %o : f32[tokens, 2]
    return %y; %s.1
  }
  entry @prefill(%x: f32[tokens, 2], %at: positions[tokens, tokens, sequences, outputs], inout %s: state rows[3]) -> (f32[tokens, 2]) {
    %y, %s.1 = repeat @attend %x, %at, %s {start = 0, stop = 3, modes = [carry, same, indexed]} : f32[tokens, 2], state rows[3]
    return %y; %s.1
  }
  entry @step(%x: f32[tokens, 2], %at: positions[tokens, cached, sequences, outputs], inout %s: state rows[3]) -> (f32[tokens, 2]) {
    %y, %s.1 = repeat @attend %x, %at, %s {start = 0, stop = 3, modes = [carry, same, indexed]} : f32[tokens, 2], state rows[3]
    return %y; %s.1
  }
  block @see(%at: positions[tokens, keys, sequences, outputs]) -> (bool[tokens, keys]) {
    %v = visible %at : bool[tokens, keys]
    return %v
  }
  entry @rows(%at: positions[tokens, cached, sequences, outputs]) -> (bool[tokens, cached]) {
    %v = call @see %at : bool[tokens, cached]
    return %v
  }`);
  const pages = [Int32Array.from([2, 0]), Int32Array.from([1, 3])];
  const x = randomTensor([8, 2], 5);
  const rowsOf = (tokens: readonly number[]): TensorData =>
    tensor(
      [tokens.length, 2],
      tokens.flatMap((t) => [x.data[2 * t], x.data[2 * t + 1]]),
    );

  test('prefill, then decoding token by token, equals prefill of everything', () => {
    const whole = newState(module.states[0], 3, 16);
    const all = interpret(module, 'prefill', [x, packedPositions([5, 3], 'all', 4, pages), whole], noWeights);
    const grown = newState(module.states[0], 3, 16);
    const layers = grown.layers;
    // Tokens 0 to 4 are sequence 0, tokens 5 to 7 sequence 1.
    const first = interpret(
      module,
      'prefill',
      [rowsOf([0, 1, 2, 5]), packedPositions([3, 1], 'all', 4, pages), grown],
      noWeights,
    );
    const second = interpret(
      module,
      'step',
      [rowsOf([3, 6]), stepPositions([3, 1], [1, 1], 'all', 4, pages), grown],
      noWeights,
    );
    const third = interpret(
      module,
      'step',
      [rowsOf([4, 7]), stepPositions([4, 2], [1, 1], 'all', 4, pages), grown],
      noWeights,
    );
    const steps = [first, second, third].flatMap(({ results }) => dataOf(results[0]));
    const order = [0, 1, 2, 5, 3, 6, 4, 7];
    expect(steps).toEqual(order.flatMap((t) => dataOf(all.results[0]).slice(2 * t, 2 * t + 2)));
    expect(grown).toEqual(whole);
    expect((third.finals[0] as StateData).layers[1]).toBe(layers[1]);
  });
  test("keys that no value shows come from the caller's dims", () => {
    const at = stepPositions([0], [2], 'last', 4, [Int32Array.from([1])]);
    const { results } = interpret(module, 'rows', [at], noWeights, { sizes: { cached: 8 } });
    expect(dataOf(results[0])).toEqual([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]);
  });
  test('a dim without a size is an error that names it', () => {
    const at = stepPositions([0], [2], 'last', 4, [Int32Array.from([1])]);
    expect(failure(() => interpret(module, 'see', [at], noWeights))).toMatchSnapshot();
  });
});

test('an error inside an op names the op, its place, its layer, its operands and the values', () => {
  const module = parse(`
  block @pick(%x: f32[4, 2], %i: i32[n]) -> (f32[4, 2], f32[n, 2]) {
    %y = gather %x, %i : f32[n, 2] at model.ts:7:3-20
    return %x, %y
  }
  entry @main(%x: f32[4, 2], %i: i32[n]) -> (f32[4, 2], f32[2, n, 2]) {
    %z, %y = repeat @pick %x, %i {start = 0, stop = 2, prefix = "layers.{i}.", modes = [carry, same]} : f32[4, 2], f32[2, n, 2]
    return %z, %y
  }`);
  const inputs = [randomTensor([4, 2], 1), tensor([3], [0, 9, 1], 'i32')];
  expect(failure(() => interpret(module, 'main', inputs, noWeights))).toMatchSnapshot();
});
