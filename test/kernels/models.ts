// Every example at sizes that a test can run, and the kernels that the compiler makes of it in every precision.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { h800Target } from '../../backends/h800/target.ts';
import { compileModule } from '../../compiler/compile.ts';
import { importConfig } from '../../dsl/import/index.ts';
import * as dsl from '../../dsl/index.ts';
import { loadModel } from '../../dsl/load.ts';
import { traceModel, type PrecisionName } from '../../dsl/trace-model.ts';
import type { Function, Module } from '../../ir/module.ts';
import type { EmittedKernel } from '../../ir/plan.ts';

const examples = join(import.meta.dirname, '../../examples');
const golden = join(import.meta.dirname, '../golden');

export interface Subject {
  readonly name: string;
  /** The model file, or the Hugging Face configuration that it is imported from. */
  readonly file: string;
  readonly settings: Readonly<Record<string, string>>;
}

/** The real models made small; one block of each kind is enough. Widths of 128 and odd ones take different kernels. */
export const subjects: readonly Subject[] = [
  {
    name: 'tiny',
    file: 'tiny.ts',
    settings: { layers: '2', dense_layers: '1', hidden: '128', vocab: '192', heads: '2', dense_ff: '256' },
  },
  {
    name: 'differential',
    file: 'differential.ts',
    settings: { layers: '1', hidden: '128', vocab: '150', heads: '2', length: '32', expert_ff: '128' },
  },
  {
    name: 'dense-gqa',
    file: 'dense-gqa.ts',
    settings: {
      layers: '1',
      hidden: '128',
      heads: '4',
      key_heads: '2',
      length: '32',
      ff: '192',
      vocab: '200',
    },
  },
  {
    name: 'deepseek-v2-lite',
    file: 'deepseek-v2-lite.ts',
    settings: {
      ...{
        layers: '2',
        hidden: '144',
        vocab: '104',
        heads: '2',
        nope: '32',
        rope: '16',
        v: '32',
        kv_rank: '64',
      },
      ...{ experts: '6', experts_per_token: '3', dense_ff: '208', expert_ff: '80', shared_ff: '160' },
    },
  },
  {
    name: 'deepseek-v3',
    file: 'deepseek-v3.ts',
    settings: {
      ...{ layers: '2', dense_layers: '1', hidden: '128', vocab: '96', heads: '2', nope: '32', rope: '16' },
      ...{ v: '32', q_rank: '128', kv_rank: '64', experts: '8', experts_per_token: '2', expert_groups: '4' },
      ...{ top_groups: '2', dense_ff: '384', expert_ff: '128', shared_ff: '128' },
    },
  },
  // No width is a power of two, few are even: hidden 60, 3 heads, ranks 21 and 18, 15 experts.
  { name: 'nonpow2', file: join(golden, 'tiny_nonpow2/config.json'), settings: {} },
];

export const precisions = ['f32', 'bf16', 'fp8'] as const satisfies readonly PrecisionName[];

/** The module after all passes but the disabled ones, and its kernels. */
export async function compiled(
  { name, file, settings }: Subject,
  precision: PrecisionName,
  disabled: readonly string[] = [],
): Promise<{ readonly module: Module; readonly kernels: readonly EmittedKernel[] }> {
  const scratch = mkdtempSync(join(tmpdir(), 'dsvc-kernels-'));
  try {
    let path = join(examples, file);
    if (file.endsWith('.json')) {
      path = join(scratch, `${name}.ts`);
      writeFileSync(path, importConfig(readFileSync(file, 'utf8'), file).source ?? '');
    }
    const { model } = await loadModel(path, { settings, dslNamespace: dsl });
    const { module } = traceModel(model, { precision, settings });
    return compileModule(module, { target: h800Target, disabled: new Set(disabled), verifyEach: false });
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** One kernel to check: the function that says what it computes, and what was written for it. */
export interface KernelCase {
  /** `model precision @kernel`, of the first model that has it. */
  readonly title: string;
  readonly fn: Function;
  readonly module: Module;
  readonly kernel: EmittedKernel;
}

/** PTX without names and places: kernels that differ in nothing else are one. */
function anonymous({ name, ptx }: EmittedKernel): string {
  // Parameters are called after the kernel and what they stand for: `add_e6ba3a40_tokens`.
  const parameters = [...ptx.matchAll(new RegExp(`\\.param .*\\b(${name}_\\w+)`, 'g'))].map((m) => m[1]);
  const names = new Map([...parameters.map((p, i) => [p, `p${i}`] as const), [name, 'kernel']]);
  return ptx
    .replaceAll(/[A-Za-z_]\w*/g, (word) => names.get(word) ?? word)
    .split('\n')
    .filter((line) => !/^\s*(\.loc|\.file|\/\/)/.test(line))
    .join('\n');
}

/**
 * The kernels of all subjects in one precision, each PTX once; with passes disabled, as that makes other kernels, one set
 * after the other.
 */
export async function kernelCases(
  precision: PrecisionName,
  variants: readonly (readonly string[])[] = [[]],
): Promise<readonly KernelCase[]> {
  const seen = new Map<string, KernelCase>();
  for (const disabled of variants)
    for (const subject of subjects) {
      const { module, kernels } = await compiled(subject, precision, disabled);
      for (const kernel of kernels) {
        const fn = module.functions.find((f) => f.name === kernel.name)!;
        const key = anonymous(kernel);
        const without = disabled.length > 0 ? ` without ${disabled.join(', ')}` : '';
        const title = `${subject.name} ${precision}${without} @${kernel.name}`;
        if (!seen.has(key)) seen.set(key, { title, fn, module, kernel });
      }
    }
  return [...seen.values()];
}
