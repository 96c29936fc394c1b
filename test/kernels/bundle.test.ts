// The kernels in the bundle of DeepSeek-V3 at its real size, in FP8: what a host reads in plan/kernels.json is what the
// PTX takes, lines lead to the model file, and ptxas, where there is one, has nothing to say.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../backends/ptx/ptxas.ts';
import { h800Target } from '../../backends/h800/target.ts';
import { bundleFiles } from '../../compiler/bundle.ts';
import { compileModule } from '../../compiler/compile.ts';
import type { Plan } from '../../compiler/plan.ts';
import * as dsl from '../../dsl/index.ts';
import { loadModel } from '../../dsl/load.ts';
import { traceModel } from '../../dsl/trace-model.ts';
import type { EmittedKernel, KernelParameter } from '../../ir/plan.ts';
import { parsePtx } from '../support/ptx-run/parse.ts';

const source = join(import.meta.dirname, '../../examples/deepseek-v3.ts');
const lines = readFileSync(source, 'utf8').split('\n');

const { model } = await loadModel(source, { settings: {}, dslNamespace: dsl });
const { module } = traceModel(model, { precision: 'fp8' });
const compiled = compileModule(module, { target: h800Target, disabled: new Set(), verifyEach: false });
const files = bundleFiles(compiled, { model: 'm', version: '0', emit: new Set(['ptx', 'bundle']) });
const launches = JSON.parse(String(files.get('plan/kernels.json'))) as readonly Omit<EmittedKernel, 'ptx'>[];
const plan = JSON.parse(String(files.get('plan/rank0.json'))) as Plan;
const ptxOf = (name: string): string => String(files.get(`kernels/${name}.ptx`));

const bytes: Record<KernelParameter['kind'], number> = { pointer: 8, u32: 4, tensorMap: 128 };

/** Operands of a GEMM have names of their own; a0, a1, a2 are rows, weights and the routing, v0 is the result. */
const gemmNames: Readonly<Record<string, string>> = {
  ...{ a0: 'a', a1: 'b', v0: 'out', a0_scale0: 'aScale', a1_scale0: 'bScale' },
  ...{ a2_expertOfBlock: 'expertOfBlock', a2_offsets: 'totalRows', a2_tokenOf: 'tokenOf' },
};

/** What a parameter is called in the PTX, after the kernel's name: the value and component, or the dim. */
function nameOf(p: KernelParameter, isGemm: boolean): string {
  if (p.kind === 'u32') {
    if ('pagesOf' in p) return `${p.pagesOf}_pages_per_sequence`;
    return isGemm ? 'm' : p.dim.replaceAll(/\W/g, '_');
  }
  const name = [p.value, p.component === 'data' ? '' : p.component].filter(Boolean).join('_');
  return isGemm ? gemmNames[name] : name;
}

test('every kernel of the plan has its PTX, and the other way round', () => {
  const kernels = [...files.keys()].filter((f) => f.endsWith('.ptx'));
  expect(launches.map((k) => `kernels/${k.name}.ptx`).sort()).toEqual(kernels.sort());
  expect(launches.length).toBeGreaterThan(50);
});

test('the plan launches every kernel, and no other', () => {
  const launched = plan.functions.flatMap((f) => f.steps.flatMap((s) => s.launch ?? []));
  expect([...new Set(launched)].sort()).toEqual(launches.map((k) => k.name).sort());
});

describe.each(launches.map((k) => [k.name, k] as const))('%s', (name, launch) => {
  const ptx = ptxOf(name);
  const entries = parsePtx(ptx);
  const [entry] = entries;

  test('takes the parameters of the plan in number, order and width', () => {
    expect(entries.map((e) => e.name)).toEqual([name]);
    const wanted = launch.parameters.map((p) => ({
      name: `${name}_${nameOf(p, launch.family === 'gemm')}`,
      bytes: bytes[p.kind],
    }));
    expect(entry.parameters.map((p) => ({ name: p.name, bytes: p.bytes }))).toEqual(wanted);
    // Parameters are 4 KiB at most.
    expect(wanted.reduce((n, p) => n + p.bytes, 0)).toBeLessThanOrEqual(4096);
  });

  test('has the threads and the shared memory of the plan', () => {
    expect(entry.threads).toEqual([launch.threads, 1, 1]);
    expect(entry.shared.some((s) => s.bytes === null)).toBe(launch.dynamicSharedBytes > 0);
    expect(launch.staticSharedBytes).toBeLessThanOrEqual(49_152);
    expect(launch.staticSharedBytes + launch.dynamicSharedBytes).toBeLessThanOrEqual(232_448);
  });

  test('leads to lines of the model file', () => {
    const places = [...ptx.matchAll(/^\s*\.loc (\d+) (\d+) (\d+)$/gm)].map((m) => m.slice(1).map(Number));
    expect([...ptx.matchAll(/\.file (\d+) "(.*)"/g)].map((m) => m.slice(1))).toEqual([
      ['1', 'deepseek-v3.ts'],
    ]);
    expect(places.length).toBeGreaterThan(0);
    for (const [file, line, column] of places) {
      expect(file).toBe(1);
      // The place of a call: something is written there.
      expect(lines[line - 1]?.slice(column - 1), `line ${line}, column ${column}`).toMatch(/^[A-Za-z[(]/);
    }
    expect(ptx).not.toMatch(/"[^"]*[\\/][^"]*"/);
  });

  test('assembles', async (context) => {
    const result = await assemble(ptx);
    if (result.status === 'missing') return context.skip('no ptxas on this machine');
    if (result.status === 'rejected')
      throw new Error(result.errors.map((e) => `line ${e.line}: ${e.message}`).join('\n'));
    expect({ infos: result.infos, warnings: result.warnings }).toEqual({ infos: [], warnings: [] });
    const { spills, stackBytes, sharedBytes } = result.kernels[name];
    expect({ spills, stackBytes }).toEqual({ spills: { storeBytes: 0, loadBytes: 0 }, stackBytes: 0 });
    expect(sharedBytes).toBe(launch.staticSharedBytes);
  });
});
