import fc from 'fast-check';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as prettier from 'prettier';
import { expect, test } from 'vitest';
import { importConfig, readConfig } from './index.ts';

const root = join(import.meta.dirname, '../..');
const text = (name: string): string => readFileSync(join(root, 'test/golden', name), 'utf8');
type Config = Record<string, unknown>;
const v3 = JSON.parse(text('configs/deepseek-v3.json')) as Config;
const v2 = JSON.parse(text('configs/deepseek-v2-lite.json')) as Config;

function source(config: Config | string, file = 'config.json'): string {
  const given = typeof config === 'string' ? config : JSON.stringify(config);
  const imported = importConfig(given, file);
  expect(imported.diagnostics.filter((d) => d.severity === 'error')).toEqual([]);
  return imported.source!;
}

// The fixtures are also checked by `tsc` with the rest of the tree.
test.each([
  ['deepseek-v3', 'configs/deepseek-v3.json'],
  ['deepseek-v2-lite', 'configs/deepseek-v2-lite.json'],
  ['tiny-yarn', 'tiny_yarn/config.json'],
])('writes %s as in its fixture', async (name, config) => {
  await expect(source(text(config), `some/folder/${name}.json`)).toMatchFileSnapshot(`fixtures/${name}.ts`);
});

const grouped = {
  ...v2,
  n_routed_experts: 160,
  n_group: 8,
  topk_group: 3,
  topk_method: 'group_limited_greedy',
  routed_scaling_factor: 16,
};

/** Every part that a config can add or leave out. */
const variants: Readonly<Record<string, Config>> = {
  v3,
  v2,
  grouped,
  tied: { ...v3, tie_word_embeddings: true },
  epsilon: { ...v3, rms_norm_eps: 1e-5 },
  tiedEpsilon: { ...v2, tie_word_embeddings: true, rms_norm_eps: 2.5e-7 },
  dense: { ...v3, first_k_dense_replace: 61 },
  noDense: { ...v3, first_k_dense_replace: 0 },
  noShared: { ...v3, n_shared_experts: 0 },
  oneGroup: { ...v3, n_group: 1, topk_group: 1 },
  unnormalised: { ...v3, norm_topk_prob: false, routed_scaling_factor: 1 },
  plainQuery: { ...v3, q_lora_rank: null },
  plainRope: { ...v3, rope_scaling: null, rope_theta: 1e6 },
  mscales: {
    ...v3,
    rope_scaling: { type: 'yarn', factor: 40, original_max_position_embeddings: 4096, mscale_all_dim: 0.5 },
  },
};

const written: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(variants).map(([name, config]) => [name, source(config)]),
);

test('every variant is laid out as prettier would', async () => {
  const style = JSON.parse(readFileSync(join(root, '.prettierrc.json'), 'utf8')) as prettier.Options;
  for (const [name, text] of Object.entries(written))
    expect(text, name).toBe(await prettier.format(text, { ...style, parser: 'typescript' }));
});

test('every variant passes the type checker', () => {
  const folder = mkdtempSync(join(tmpdir(), 'dsvc-import-'));
  try {
    for (const [name, text] of Object.entries(written)) writeFileSync(join(folder, `${name}.ts`), text);
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        extends: join(root, 'tsconfig.json'),
        compilerOptions: {
          paths: { dsvc: [join(root, 'dsl/index.ts')] },
          typeRoots: [join(root, 'node_modules/@types')],
        },
        include: ['*.ts'],
        exclude: [],
      }),
    );
    const report = (() => {
      try {
        return execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder], {
          encoding: 'utf8',
        });
      } catch (e) {
        return String((e as { stdout?: unknown }).stdout);
      }
    })();
    expect(report).toBe('');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('says what it leaves out', () => {
  expect(source(v3)).toContain('// Its multi-token-prediction layers, after the last layer, are left out.');
  expect(source(v2)).not.toContain('prediction');
});

test('names the model as asked, and no folder of the config', () => {
  const { source: written } = importConfig(JSON.stringify(v2), '/home/someone/models/my config.json', {
    name: 'mine',
  });
  expect(written).toContain("model('mine', {");
  expect(written).toContain('imported from my_config.json');
  expect(written).not.toContain('someone');
});

test('only the mistakes come back when there are some', () => {
  expect(importConfig('{', 'config.json')).toMatchObject({
    source: null,
    diagnostics: [{ code: 'import/json' }],
  });
  expect(importConfig('[]', 'config.json')).toMatchObject({
    source: null,
    diagnostics: [{ code: 'import/not-an-object' }],
  });
});

const keys = [
  ...new Set([
    ...Object.keys(v3),
    ...Object.keys(v2),
    'rope_parameters',
    'head_dim',
    'mlp_bias',
    'rope_interleave',
    'num_experts',
  ]),
];
const value: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom(
    0,
    1,
    2,
    3,
    7,
    8,
    64,
    -1,
    0.5,
    1e300,
    '8',
    '',
    true,
    false,
    null,
    'yarn',
    'default',
    'greedy',
    'noaux_tc',
    'sigmoid',
  ),
  fc.jsonValue({ maxDepth: 2 }),
  fc.record(
    {
      type: fc.constantFrom('yarn', 'default', 'linear', 3),
      factor: fc.constantFrom(40, 1, 0, '4'),
      beta_fast: fc.constantFrom(32, 1, null),
      mscale: fc.constantFrom(1, 0, 'x'),
      mscale_all_dim: fc.constantFrom(0.5, 0),
      attention_factor: fc.constantFrom(null, 1, 2),
      quant_method: fc.constantFrom('fp8', 'x'),
      weight_block_size: fc.constantFrom([128, 128], [1], 'x', null),
    },
    { requiredKeys: [] },
  ),
);

test('any config gives a model file or errors, and never throws', () => {
  let count = 0;
  fc.assert(
    fc.property(
      fc.constantFrom(v3, v2, grouped),
      fc.dictionary(fc.constantFrom(...keys), value, { maxKeys: 4 }),
      fc.uniqueArray(fc.constantFrom(...keys), { maxLength: 3 }),
      (base, changes, removed) => {
        const config = Object.fromEntries(
          Object.entries({ ...base, ...changes }).filter(([k]) => !removed.includes(k)),
        );
        const given = JSON.stringify(config);
        const { source: out, diagnostics } = importConfig(given, 'config.json');
        const errors = diagnostics.filter((d) => d.severity === 'error');
        expect(out === null, errors.map((d) => d.message).join('; ')).toBe(errors.length > 0);
        for (const d of diagnostics) {
          expect(d.code).toMatch(/^import\/[a-z-]+$/);
          expect(d.fix).toBeTruthy();
          expect(d.at!.line).toBe(1);
          expect(d.at!.endColumn).toBeGreaterThan(d.at!.column);
          expect(d.at!.endColumn).toBeLessThanOrEqual(given.length + 1);
        }
        if (out !== null) {
          count++;
          expect(out).not.toMatch(/NaN|undefined|Infinity|null/);
        }
      },
    ),
    { numRuns: 200 },
  );
  // Both outcomes must occur, or the property says nothing.
  expect(count).toBeGreaterThan(10);
  expect(count).toBeLessThan(190);
});

test('every key with every odd value gives a config or an error', () => {
  const odd: readonly unknown[] = [
    0,
    1,
    2,
    7,
    -1,
    0.5,
    1e300,
    '8',
    '',
    'yarn',
    true,
    false,
    null,
    [],
    {},
    [128, 128],
    { type: 'yarn' },
    { quant_method: 'fp8' },
  ];
  for (const base of [v3, v2, grouped])
    for (const key of keys)
      for (const given of [...odd, undefined]) {
        const { config, diagnostics } = readConfig(JSON.stringify({ ...base, [key]: given }), 'config.json');
        expect(config === null, `${key}: ${JSON.stringify(given)}`).toBe(
          diagnostics.some((d) => d.severity === 'error'),
        );
      }
});

test('any text gives diagnostics, and never throws', () => {
  const given = JSON.stringify(v3, null, 1);
  const cut = fc
    .tuple(fc.nat(given.length), fc.nat(20), fc.string({ maxLength: 5 }))
    .map(([at, n, s]) => given.slice(0, at) + s + given.slice(at + n));
  fc.assert(
    fc.property(fc.oneof(cut, fc.string(), fc.string({ unit: 'binary' })), (mutated) => {
      const { source: out, diagnostics } = importConfig(mutated, 'config.json');
      expect(out === null).toBe(diagnostics.some((d) => d.severity === 'error'));
    }),
    { numRuns: 200 },
  );
});
