import { describe, expect, test } from 'vitest';
import { DiagnosticError } from '../ir/diagnostics.ts';
import { boundOf } from '../ir/module.ts';
import { dim as irDim } from '../ir/types.ts';
import * as dsl from './index.ts';
import { around, fromText } from './testing.ts';
import { traceModel } from './trace-model.ts';

const text = `import { dim, head, embedding, model, option, repeat, block, mul } from 'dsvc';
const hidden = dim('hidden', 64), vocab = dim('vocab', 32);
const layers = option('layers', 3), scale = option('scale', 0.5), twice = option('twice', false);
const kind = option('kind', 'plain', ['plain', 'fancy']);
const layer = block('layer', (x) => mul(x, scale * (twice ? 2 : 1) * (kind === 'fancy' ? 10 : 1)));
export default model('m', {
  forward: (ids, at) => head(repeat(layers, layer, embedding(ids, vocab, hidden)), at, vocab),
  bounds: { tokens: 1024 },
});`;

const factor = async (set: Readonly<Record<string, string>>): Promise<unknown> => {
  const { module } = await fromText(text, { set });
  return module.functions[0].body.find((op) => op.op === 'const')?.attributes.value;
};

describe('--set', () => {
  test('changes dims, and what follows from them', async () => {
    const { facts } = await fromText(text, { set: { hidden: '16', vocab: '8', layers: '1' } });
    expect(facts).toMatchObject({ parameters: 2 * 8 * 16 + 16, layers: 1 });
  });

  test.each([
    [{}, 0.5],
    [{ scale: '3e-1' }, 0.3],
    [{ twice: 'true' }, 1],
    [{ kind: 'fancy' }, 5],
  ])('%j changes options', async (set, value) => {
    expect(await factor(set)).toBe(value);
  });

  test('changes bounds, over what the model says', async () => {
    const bounds = (set: Readonly<Record<string, string>>) =>
      fromText(text, { set }).then(({ module }) => ['tokens', 'batch'].map((n) => boundOf(module, irDim(n))));
    expect(await bounds({})).toEqual([1024, 256]);
    expect(await bounds({ tokens: '77', batch: '1_000' })).toEqual([77, 1000]);
  });

  test('bounds may also be given when tracing', async () => {
    const { model } = await fromText(text);
    const { module } = traceModel(model, { settings: { tokens: '5', hidden: '3' } });
    expect(boundOf(module, irDim('tokens'))).toBe(5);
    expect(() => traceModel(model, { settings: { tokens: 'x' } })).toThrow(DiagnosticError);
  });

  test('refuses other kinds', async () => {
    const wrong = async (set: Readonly<Record<string, string>>): Promise<readonly string[]> =>
      fromText(text, { set }).then(
        () => [],
        (e: DiagnosticError) => e.diagnostics.map((d) => d.message),
      );
    expect(await wrong({ layers: 'many' })).toEqual(["--set layers=many: 'layers' takes a number"]);
    expect(await wrong({ layers: '2.5' })).toEqual([
      'range needs two whole numbers, the second not below the first',
    ]);
    expect(await wrong({ twice: 'yes' })).toEqual(["--set twice=yes: 'twice' takes true or false"]);
    expect(await wrong({ kind: 'odd' })).toEqual(["--set kind=odd: 'kind' takes one of plain, fancy"]);
    expect(await wrong({ vocab: '' })).toEqual(["--set vocab=: 'vocab' takes a number"]);
  });

  test('lists what can be set, with values', async () => {
    const { settings, settingsUsed } = await fromText(text, { set: { layers: '2' } });
    expect(settings.map((s) => `${s.kind} ${s.name}=${String(s.value)}`)).toEqual([
      'dim hidden=64',
      'dim vocab=32',
      'option layers=2',
      'option scale=0.5',
      'option twice=false',
      'option kind=plain',
      'bound tokens=1024',
      'bound batch=256',
      'bound cached=1048576',
      'bound sequences=256',
      'bound outputs=256',
    ]);
    expect(settings[2]).toMatchObject({ declared: 3, at: { file: 'model.ts', line: 3 } });
    expect(settingsUsed).toEqual({ layers: '2' });
  });
});

test('deployment is kept on the model, its counts as set', async () => {
  const before = `const plan = [parallel({ pp: 16, ep: 64, pipeline: dualPipe({ microBatches: 32 }) }), precision({ weights: 'fp8', moments: 'bf16', recompute: ['rms_norm', 'swiglu'] }), optimizer({ learningRate: 1e-4 })];`;
  const { model } = await fromText(
    around('  return x;', before).replace("model('test', {", "model('test', {\n  deployment: plan,"),
    { set: { pp: '8', micro_batches: '120' } },
  );
  expect(model.deployment).toMatchObject({
    parallel: {
      ...{ pp: 8, ep: 64, dp: 1, zero: 1, at: { file: 'model.ts', line: 6 } },
      pipeline: { schedule: 'dualpipe', microBatches: 120, commSms: 20 },
    },
    precision: { weights: 'fp8', gradients: 'f32', moments: 'bf16', recompute: ['rms_norm', 'swiglu'] },
    optimizer: { name: 'adamw', learningRate: 1e-4, beta2: 0.95, weightDecay: 0.1, clip: 1 },
  });
});

describe('without loading a file', () => {
  const { block, dim, embedding, head, model, mul, repeat, softmax } = dsl;
  const hidden = dim('hidden', 8);
  const vocab = dim('vocab', 16);

  test('a model can be built and traced', () => {
    const layer = block('layer', (x: dsl.Tensor<['tokens', 'hidden']>) => mul(x, 2));
    const m = model('direct', {
      forward: (ids, at) => head(repeat(2, layer, embedding(ids, vocab, hidden)), at, vocab),
    });
    const { module } = traceModel(m);
    const { span } = module.functions[0].body[1];
    expect(span).toMatchObject({ file: 'dsl/settings.test.ts' });
    expect(module.functions[0].arguments[0].value.name).toBe('x');
  });

  test('a mistake outside of a trace is thrown at once, with its place', () => {
    const codeOf = (f: () => unknown): unknown => {
      try {
        return f();
      } catch (e) {
        const [d] = (e as DiagnosticError).diagnostics;
        return [d.code, d.at?.file];
      }
    };
    expect(codeOf(() => dim('zero', 0))).toEqual(['dsl/bad-size', 'dsl/settings.test.ts']);
    expect(codeOf(() => softmax({} as never, hidden as never))).toEqual([
      'dsl/outside-trace',
      'dsl/settings.test.ts',
    ]);
  });
});
