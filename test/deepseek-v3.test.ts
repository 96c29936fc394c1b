// DeepSeek-V3 and V2-Lite at their real sizes: the published counts, what the passes made of them, and that nothing
// grows with the number of layers.
import { readFileSync, writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { h800Target } from '../backends/h800/target.ts';
import { bundleFiles } from '../compiler/bundle.ts';
import { compileModule, type Compiled } from '../compiler/compile.ts';
import * as dsl from '../dsl/index.ts';
import { importConfig } from '../dsl/import/index.ts';
import { loadModel } from '../dsl/load.ts';
import { traceModel } from '../dsl/trace-model.ts';
import { printModule } from '../ir/text/printer.ts';

const root = join(import.meta.dirname, '..');
const scratch = mkdtempSync(join(tmpdir(), 'dsvc-v3-'));
afterAll(() => rmSync(scratch, { recursive: true }));

async function compiled(file: string, settings: Readonly<Record<string, string>> = {}): Promise<Compiled> {
  const { model } = await loadModel(file, { settings, dslNamespace: dsl });
  const { module } = traceModel(model, { precision: 'fp8', settings });
  const targeted = { ...module, attributes: { ...module.attributes, target: 'h800' } };
  return compileModule(targeted, { target: h800Target, disabled: new Set(), verifyEach: true });
}

function imported(name: string): string {
  const { source } = importConfig(
    readFileSync(join(root, 'test/golden/configs', `${name}.json`), 'utf8'),
    'config.json',
  );
  const file = join(scratch, `${name}.ts`);
  writeFileSync(file, source ?? '');
  return file;
}

const v3 = join(root, 'examples/deepseek-v3.ts');

test('the report of DeepSeek-V3 holds the published figures', async () => {
  const { report, kernels, module } = await compiled(v3);
  expect(report.parameters).toEqual({ main: 671_026_419_200, mtp: 0, active: 37_552_297_472 });
  expect(report.kvBytesPerToken).toBe(70_272);
  expect(report.layers).toBe(61);
  expect(report.uniqueBlocks).toBeLessThanOrEqual(6);
  // A third of the published training cost of 250 GFLOP per token, which counts forward and two backward passes.
  expect((3 * report.flopsPerToken.prefill) / 1e9).toBeCloseTo(250.45, 1);
  expect(report.passes.map((p) => p.name)).toEqual(
    expect.arrayContaining(['fuse-mla-projections', 'insert-fp8']),
  );

  // Every FP8 linear is a tensor-core kernel, and the joint down-projection is there.
  const fp8 = module.functions.filter(
    (f) => f.kind === 'kernel' && f.body.some((op) => op.attributes.promote === 128),
  );
  expect(fp8.length).toBeGreaterThanOrEqual(16);
  expect(fp8.map((f) => f.attributes.family)).toEqual(fp8.map(() => 'gemm'));
  const text = printModule(module);
  expect(text).toContain('f8e4m3<128x128; f32>[2112, 7168]');
  expect(text).toContain('f8e4m3<1x128x128; f32>[experts=256, 4096, 7168]');
  expect(kernels.every((k) => k.ptx.includes('.target sm_90a'))).toBe(true);
  expect(kernels.filter((k) => k.family === 'gemm').every((k) => /wgmma\.mma_async\S*e4m3/.test(k.ptx))).toBe(
    true,
  );
});

test('prefill and decode share one copy of each weight', async () => {
  const { plan } = await compiled(v3);
  const keys = plan.weights.map((w) => `${w.name} ${w.layers}`);
  expect(new Set(keys).size).toBe(keys.length);
  expect(
    plan.weights.filter((w) => w.name.endsWith('self_attn.o_proj.f8.weight')).map((w) => w.layers),
  ).toEqual([
    [0, 3],
    [3, 61],
  ]);
  for (const [i, w] of plan.weights.entries()) {
    const copies = w.layers ? w.layers[1] - w.layers[0] : 1;
    const next = plan.weights[i + 1];
    if (next) expect(next.offset).toBe(w.offset + copies * w.stride);
  }
});

test('nothing grows with the number of layers: same kernels, same IR, same plan but for the ranges', async () => {
  const of = (c: Compiled): Map<string, string | Uint8Array> =>
    new Map(bundleFiles(c, { model: 'm', version: '0', emit: new Set(['ptx', 'ir', 'bundle']) }));
  const [few, many] = [of(await compiled(v3, { layers: '4' })), of(await compiled(v3, { layers: '610' }))];
  const kernels = (files: Map<string, string | Uint8Array>): [string, string | Uint8Array][] =>
    [...files].filter(([name]) => name.startsWith('kernels/') || name === 'plan/kernels.json');
  expect(kernels(many)).toEqual(kernels(few));
  const size = (files: Map<string, string | Uint8Array>, name: string): number =>
    files.get(name)?.length ?? 0;
  for (const name of ['ir/final.dsir', 'plan/rank0.json', 'plan/rank0.bin'])
    expect(size(many, name)).toBeLessThan(1.01 * size(few, name));
});

test.each([
  ['deepseek-v3', 671_026_419_200],
  ['deepseek-v2-lite', 15_706_484_224],
])('example and imported config of %s have the published parameters', async (name, parameters) => {
  for (const file of [join(root, `examples/${name}.ts`), imported(name)])
    expect((await compiled(file)).report.parameters.main).toBe(parameters);
});
