// A whole plan on the emulator beside the interpreter: results, states that stay on the device between calls, and what
// observers see.
import { describe, expect, test } from 'vitest';
import { h800Target } from '../../backends/h800/target.ts';
import { interpret } from '../../ir/interpret/interpreter.ts';
import { newState, packedPositions } from '../../ir/interpret/positions.ts';
import type { RuntimeValue, StateData, TensorData } from '../../ir/interpret/values.ts';
import { WeightCache, type WeightSource } from '../../ir/interpret/weights.ts';
import { loadCore } from '../../runtime/emulator/load-core.ts';
import { hasNative } from '../../runtime/native.ts';
import { parsed } from '../../test/support/expect-pass.ts';
import { compileModule } from '../compile.ts';
import { PlanRunner, type Executable, type LaunchEvent, type RunObserver } from './plan-runner.ts';

/** Three layers, under two prefixes, write rows into their caches. */
const text = `
  dsir 1
  module @m {
    dim t <= 64
    dim cached <= 256
    dim outputs <= 64
    dim sequences <= 4
    state cache paged(64) { rows: f32[cached, 16] }

    block @layer(%h: f32[t, 16], %at: positions[t, t, sequences, outputs], inout %s: state cache) -> (f32[t, 16]) {
      param "w": f32[16] stored [16]
      %a = rms_norm %h, param "w" {epsilon = 0.1} : f32[t, 16]
      %b = add %a, %h : f32[t, 16]
      %s.1 = cache_append %s, %at, %b : state cache
      return %b; %s.1
    }

    entry @f(%x: f32[t, 16], %at: positions[t, t, sequences, outputs], inout %s: state cache[3]) -> (f32[outputs, 16]) {
      %y, %s.1 = repeat @layer %x, %at, %s {start = 0, stop = 2, prefix = "a.{i}.", modes = [carry, same, indexed]} : f32[t, 16], state cache[3]
      %z, %s.2 = repeat @layer %y, %at, %s.1 {start = 2, stop = 3, prefix = "b.{i}.", modes = [carry, same, indexed]} : f32[t, 16], state cache[3]
      %rows = position_field %at {field = outputs} : i32[outputs]
      %o = gather %z, %rows : f32[outputs, 16]
      return %o; %s.2
    }
  }
`;
const compiled = compileModule(parsed(text), { target: h800Target, disabled: new Set(), verifyEach: true });
const { module } = compiled;

const random = (seed: number, count: number): Float64Array =>
  Float64Array.from({ length: count }, (_, i) => Math.fround(Math.sin(seed * 97 + i * 12.9898) * 2));
const source: WeightSource = {
  get: (name, shape) => ({
    ...{ kind: 'tensor', dtype: 'f32', shape, scales: [] },
    data: random(name.length + name.charCodeAt(0), shape[0]),
  }),
};
const x = (seed: number, tokens: number): TensorData => ({
  ...{ kind: 'tensor', dtype: 'f32', shape: [tokens, 16], scales: [] },
  data: random(seed, tokens * 16),
});
const empty = (rows = 128): StateData => newState(module.states[0], 3, rows);

const runner = (
  observer: Partial<RunObserver> = {},
  settings = {},
  what: Executable = compiled,
): PlanRunner =>
  new PlanRunner(
    loadCore(),
    loadCore().createDevice({ checks: ['all'], ...settings }),
    what,
    new WeightCache(source),
    {
      launched: ({ reports }) => expect(reports).toEqual([]),
      ...observer,
    },
  );
const reference = (inputs: readonly RuntimeValue[]) =>
  interpret(module, 'f', inputs, new WeightCache(source));

const largest = (a: TensorData, b: TensorData): number => {
  expect(a.shape).toEqual(b.shape);
  return a.data.reduce((most, v, i) => Math.max(most, Math.abs(v - b.data[i])), 0);
};
const rows = (s: RuntimeValue): readonly TensorData[] =>
  s.kind === 'state' ? s.layers.map((l) => l.fields.rows) : [];
/** Everything a call gives is what the interpreter gives. */
function expectSame(got: ReturnType<PlanRunner['run']>, want: ReturnType<typeof reference>): void {
  expect(largest(got.results[0] as TensorData, want.results[0] as TensorData)).toBeLessThan(1e-5);
  const [a, b] = [rows(got.finals[0]), rows(want.finals[0])];
  expect(a.length).toBe(3);
  a.forEach((layer, i) => expect(largest(layer, b[i])).toBeLessThan(1e-5));
}
const prefill = packedPositions([5, 3], 'all');
/** Over the first rows only: the others stay as they are. */
const shorter = packedPositions([1, 1], 'all', 64, prefill.pages);

describe.skipIf(!hasNative())('states', () => {
  test('stay on the device from call to call, and come back when somebody looks', () => {
    const device = runner();
    const first = device.run('f', [x(1, 8), prefill, empty()]);
    const want = reference([x(1, 8), prefill, empty()]);
    const second = device.run('f', [x(2, 2), shorter, first.finals[0]]);
    expectSame(second, reference([x(2, 2), shorter, want.finals[0]]));
    // As on the host, where a call updates the state that it was given.
    rows(first.finals[0]).forEach((layer, i) => expect(largest(layer, rows(second.finals[0])[i])).toBe(0));
  });

  test('that the host has looked at may have changed there', () => {
    const device = runner();
    const first = device.run('f', [x(1, 8), prefill, empty()]);
    const want = reference([x(1, 8), prefill, empty()]);
    for (const s of [first.finals[0], want.finals[0]]) rows(s)[1].data.fill(0.5, 64 * 16);
    expectSame(
      device.run('f', [x(2, 2), shorter, first.finals[0]]),
      reference([x(2, 2), shorter, want.finals[0]]),
    );
  });

  test('that others push off the device are read before', () => {
    const device = runner();
    const first = device.run('f', [x(1, 8), prefill, empty()]);
    // As many rows, then more.
    const same = device.run('f', [x(5, 8), prefill, empty()]);
    const more = device.run('f', [x(6, 8), prefill, empty(192)]);
    expectSame(first, reference([x(1, 8), prefill, empty()]));
    expectSame(same, reference([x(5, 8), prefill, empty()]));
    expectSame(more, reference([x(6, 8), prefill, empty(192)]));
  });
});

describe.skipIf(!hasNative())('observers', () => {
  test('see every launch with its values, before and after it', () => {
    const seen: string[] = [];
    const texts = (event: LaunchEvent, name: string, count: number): number => {
      const bytes = event.read(name, 'data', 4 * count);
      return new Float32Array(bytes.slice().buffer).reduce((a, b) => a + b, 0);
    };
    let input = 0;
    const device = runner({
      launch: (event) => {
        const { kernel, fn, layer, dims, pages } = event;
        expect([dims.get('t'), dims.get('cached'), pages]).toEqual([8, 128, 1]);
        if (kernel.name.startsWith('rms_norm')) input = texts(event, fn.arguments[0].value.name, 128);
        return () => {
          seen.push(`${kernel.name.replace(/_[0-9a-f]{8}$/, '')} ${layer}`);
          expect(() => event.read('nobody', 'data', 4)).toThrow('nobody.data has no place');
          const result = fn.results[0];
          if (kernel.name.startsWith('rms_norm')) expect(texts(event, result.name, 128)).not.toBe(input);
        };
      },
    });
    device.run('f', [x(1, 8), prefill, empty()]);
    expect(seen).toEqual(
      [0, 1, 2].flatMap((l) => [`rms_norm_add ${l}`, `cache_append ${l}`]).concat('gather null'),
    );
  });

  test('that throw end the run with what they threw', () => {
    const error = new Error('enough');
    const device = runner({
      launched: () => {
        throw error;
      },
    });
    expect(() => device.run('f', [x(1, 8), prefill, empty()])).toThrow(error);
  });
});

describe.skipIf(!hasNative())('mistakes are diagnostics', () => {
  const codes = (call: () => unknown): unknown => {
    try {
      return call();
    } catch (error) {
      return (error as { diagnostics: readonly { code: string; message: string }[] }).diagnostics.map((d) => [
        d.code,
        d.message,
      ]);
    }
  };

  test('sizes beyond the bounds', () => {
    const positions = packedPositions([65], 'all');
    expect(codes(() => runner().run('f', [x(1, 65), positions, empty()]))).toEqual([
      ['plan/dim-bound', 't is 65, but the plan bounds it by 64'],
    ]);
  });

  test('a plan that somebody has changed', () => {
    const functions = compiled.plan.functions.map((f) => ({ ...f, arenaBytes: 0 }));
    const broken = { ...compiled, plan: { ...compiled.plan, functions } };
    expect(codes(() => runner({}, {}, broken))).toEqual([
      ['plan/format', 'the plan is broken: layer has a value that leaves its arena'],
    ]);
  });
});
