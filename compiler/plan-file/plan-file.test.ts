// Plan files: what a plan becomes, that its bytes say the same, and that the core refuses every broken one.
import { beforeAll, describe, expect, test } from 'vitest';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { h800Target } from '../../backends/h800/target.ts';
import type { EmittedKernel } from '../../ir/plan.ts';
import { loadCore } from '../../runtime/emulator/load-core.ts';
import { isExecutorError, loadExecutor } from '../../runtime/executor.ts';
import { hasNative } from '../../runtime/native.ts';
import { compiled, subjects } from '../../test/kernels/models.ts';
import { parsed } from '../../test/support/expect-pass.ts';
import { bundleFiles } from '../bundle.ts';
import { compileModule, type Compiled } from '../compile.ts';
import type { Plan } from '../plan.ts';
import { encodePlanFile } from './encode.ts';
import type { FileFunction, FileValue, PlanFile } from './form.ts';
import { lowerPlan } from './lower.ts';
import { readPlanFile } from './read.testing.ts';

const lowered = ({ module, plan, kernels }: Compiled): PlanFile => lowerPlan(module, plan, kernels);

/** The same block under two prefixes, with a stack of states; a scaled value that two kernels share. */
const text = `
  dsir 1
  module @m {
    dim t <= 64
    dim cached <= 128
    dim outputs <= 8
    dim sequences <= 4
    state cache paged(64) { rows: f32[cached, 16] }

    block @layer(%h: f32[t, 16], %at: positions[t, t, sequences, outputs], inout %s: state cache) -> (f32[t, 16]) {
      param "w": f32[16] stored [16]
      %a = rms_norm %h, param "w" {epsilon = 0.1} : f32[t, 16]
      %s.1 = cache_append %s, %at, %a : state cache
      return %a; %s.1
    }

    entry @f(%x: f32[t, 16], %at: positions[t, t, sequences, outputs], inout %s: state cache[5]) -> (f32[outputs, 16]) {
      %y, %s.1 = repeat @layer %x, %at, %s {start = 0, stop = 2, prefix = "first.{i}.", modes = [carry, same, indexed]} : f32[t, 16], state cache[5]
      %z, %s.2 = repeat @layer %y, %at, %s.1 {start = 2, stop = 5, prefix = "second.{i}.", modes = [carry, same, indexed]} : f32[t, 16], state cache[5]
      %rows = position_field %at {field = outputs} : i32[outputs]
      %o = gather %z, %rows : f32[outputs, 16]
      return %o; %s.2
    }
  }
`;

/** The small model, and one with everything that bundles hold: routings, scaled values, tensor maps. */
const small = compileModule(parsed(text), { target: h800Target, disabled: new Set(), verifyEach: true });
let fp8: Compiled;
beforeAll(async () => {
  fp8 = (await compiled(
    subjects.find((s) => s.name === 'tiny')!,
    'fp8',
  )) as Compiled;
});

/** `arena+512` for each array. */
const show = (v: FileValue): string =>
  v.places.map((p) => `${p.base}${p.base === 'arena' ? '' : p.index}+${p.offset}`).join(' ');

const showSteps = (f: FileFunction, file: PlanFile): string[] =>
  f.steps.map((s) =>
    s.kind === 'launch'
      ? `${file.kernels[s.kernel].name.replace(/_[0-9a-f]+$/, '')}: ${s.values.slice(0, s.operands).map(show).join(', ')} -> ${s.values.slice(s.operands).map(show).join(', ')}`
      : `repeat ${s.function} [${s.start}, ${s.stop}) at ${s.arena}: ${s.operands.map((o) => `${o.mode} ${show(o.value)}${o.result ? ` -> ${show(o.result)}` : ''}`).join(', ')}`,
  );

test('lowering gives every array a place and binds weights to the repeats that use them', () => {
  const file = lowered(small);
  expect(file.dims.map((d) => d.name)).toEqual(['t', 'cached', 'outputs', 'sequences', 'pages']);
  expect(file.weights.map(({ name, layers }) => [name, layers])).toEqual([
    ['first.{i}.w', [0, 2]],
    ['second.{i}.w', [2, 5]],
  ]);
  const [a, b, f] = file.functions;
  expect(file.functions.map((g) => [g.name, g.isEntry, g.arenaBytes])).toEqual([
    ['layer', false, 4096],
    ['layer', false, 4096],
    ['f', true, 12288],
  ]);
  // Positions have five arrays, so the state is array 6.
  const positions = [1, 2, 3, 4, 5].map((i) => `argument${i}+0`).join(' ');
  const layer = (weight: number): string[] => [
    `rms_norm: argument0+0, weight${weight}+0 -> arena+0`,
    `cache_append: argument6+0, ${positions}, arena+0 -> `,
  ];
  expect(showSteps(a, file)).toEqual(layer(0));
  expect(showSteps(b, file)).toEqual(layer(1));
  expect(showSteps(f, file)).toEqual([
    `repeat 0 [0, 2) at 4096: carry argument0+0 -> arena+0, same ${positions}, indexed argument6+0`,
    `repeat 1 [2, 5) at 8192: carry arena+0 -> arena+4096, same ${positions}, indexed argument6+0`,
    'gather: arena+4096, argument4+0 -> arena+0',
  ]);
  expect(f.results.map(show)).toEqual(['arena+0']);
});

describe('bytes', () => {
  test('say what was put into them, the same every time', () => {
    for (const model of [fp8, small]) {
      const file = lowered(model);
      const written = encodePlanFile(file);
      expect(readPlanFile(written)).toEqual(file);
      expect(encodePlanFile(lowered(model))).toEqual(written);
      expect(encodePlanFile(readPlanFile(written))).toEqual(written);
    }
  });

  test('follow from the other files of a bundle', () => {
    for (const model of [fp8, small]) {
      const emit = new Set(['ir', 'ptx', 'bundle'] as const);
      const files = bundleFiles(model, { model: 'm', version: '0', emit });
      const json = <T>(path: string): T => JSON.parse(String(files.get(path))) as T;
      const again = lowerPlan(
        parsed(String(files.get('ir/final.dsir'))),
        json<Plan>('plan/rank0.json'),
        json<EmittedKernel[]>('plan/kernels.json'),
      );
      expect(files.get('plan/rank0.bin')).toEqual(encodePlanFile(again));
    }
  });

  test('refuse numbers that have no place in them', () => {
    const file = lowered(small);
    expect(() => encodePlanFile({ ...file, weightBytes: -1 })).toThrow('-1 is no u64');
    expect(() => encodePlanFile({ ...file, weightBytes: 2 ** 53 })).toThrow(RangeError);
    expect(() => encodePlanFile({ ...file, states: [{ name: 's', policy: 'p', page: 0.5 }] })).toThrow(
      '0.5 is no u32',
    );
  });
});

test.skipIf(!hasNative())('parameter blocks are laid out as the PTX has them', () => {
  const core = loadCore();
  const device = core.createDevice({});
  // One kernel of every kind.
  const kinds = new Map(lowered(fp8).kernels.map((k) => [k.parameters.map((p) => p.kind).join(), k]));
  expect([...kinds.keys()].some((kind) => kind.includes('tensorMap'))).toBe(true);
  for (const k of kinds.values()) {
    const { ptx } = fp8.kernels.find((x) => x.name === k.name)!;
    const program = core.loadProgram(device, decodePtx(ptx, k.name).program!);
    const { parameters, parameterBytes } = core.describeProgram(program).kernels[0];
    expect([k.name, k.parameterBytes]).toEqual([k.name, parameterBytes]);
    expect(k.parameters.map((p) => p.at)).toEqual(parameters.map((p) => p.offset));
  }
});

describe.skipIf(!hasNative())('the core', () => {
  const executor = loadExecutorIfBuilt();
  const device = hasNative() ? loadCore().createDevice({}) : undefined;
  /** The code of what is wrong with a file; null when it is taken. */
  const load = (file: Uint8Array): string | null => {
    try {
      executor!.createExecutor(device!, file);
      return null;
    } catch (error) {
      if (!isExecutorError(error)) throw error;
      expect(error.message.length).toBeGreaterThan(10);
      return error.code;
    }
  };

  test('takes it, and counts the same', () => {
    const file = lowered(fp8);
    const handle = executor!.createExecutor(device!, encodePlanFile(file));
    const { entries, ...counts } = executor!.describePlan(handle);
    expect(counts).toEqual({
      functions: file.functions.length,
      steps: file.functions.reduce((n, f) => n + f.steps.length, 0),
      kernels: file.kernels.length,
      weights: file.weights.length,
      weightBytes: file.weightBytes,
    });
    expect(
      entries.map((e) => [e.name, e.arenaBytes, e.arguments.map((a) => [a.name, a.type, a.inout])]),
    ).toEqual(
      file.functions
        .filter((f) => f.isEntry)
        .map((f) => [
          f.name,
          f.arenaBytes,
          f.arguments.map((a) => [a.name, file.types[a.type].text, a.inout]),
        ]),
    );
  });

  const bytes = encodePlanFile(lowered(small));
  const changed = (file: Uint8Array, at: number, value: number): Uint8Array => {
    const copy = file.slice();
    copy[at] = value;
    return copy;
  };

  test('refuses every file that ends too early, and one that goes on', () => {
    for (let n = 0; n < bytes.length; n++)
      expect([n, load(bytes.subarray(0, n))]).toEqual([n, 'plan/format']);
    expect(load(Uint8Array.of(...bytes, 0))).toBe('plan/format');
    expect(load(bytes)).toBeNull();
  });

  test('refuses another version and other files by their first bytes', () => {
    expect(load(changed(bytes, 4, 2))).toBe('plan/version');
    expect(load(changed(bytes, 0, 0x45))).toBe('plan/format');
  });

  test('takes or refuses a file with any byte changed, and does not fall over', () => {
    const large = encodePlanFile(lowered(fp8));
    const found = new Map<string | null, number>();
    let seed = 1;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    const mutate = (file: Uint8Array, at: number): void => {
      const code = load(changed(file, at, file[at] ^ (1 + random(255))));
      found.set(code, (found.get(code) ?? 0) + 1);
    };
    for (let at = 4; at < bytes.length; at++) mutate(bytes, at);
    for (let n = 0; n < 300; n++) mutate(large, 4 + random(large.length - 4));
    // Names, offsets and factors may be anything; indices, counts and kinds may not.
    expect(new Set(found.keys())).toEqual(new Set([null, 'plan/format', 'plan/version']));
    expect(found.get('plan/format')!).toBeGreaterThan(0.2 * bytes.length);
  });
});

function loadExecutorIfBuilt() {
  return hasNative() ? loadExecutor() : undefined;
}
