// docs/DSL.md is true: its files trace and compile, its snippets too, its errors are what the compiler says, and its
// reference lists exactly what dsl/index.ts exports.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { typeCheck } from '../../compiler/cli/type-check.ts';
import * as dsl from '../../dsl/index.ts';
import { checkpointNames } from '../../dsl/facts.ts';
import { loadModel } from '../../dsl/load.ts';
import { defaultBounds } from '../../dsl/model.ts';
import { traceModel } from '../../dsl/trace-model.ts';
import { verifyModule } from '../../ir/verify.ts';
import { dsvc, root } from '../cli/process.ts';
import { blocksOf, proseOf, type Block } from './markdown.ts';
import { exportedForms } from './reference.ts';
import { notPrinted, shownCommands } from './shown.ts';

const guide = readFileSync(join(root, 'docs/DSL.md'), 'utf8');
const blocks = blocksOf(guide);
const scripts = blocks.filter((b) => b.language === 'ts');

const fileName = /^\/\/ (wrong: )?([\w-]+\.ts)\n/;
const nameOf = (b: Block): string => fileName.exec(b.text)?.[2] ?? '';
const isWrong = (b: Block): boolean => fileName.exec(b.text)?.[1] !== undefined;
const files = scripts.filter((b) => nameOf(b) !== '' && !isWrong(b));
const wrong = scripts.filter(isWrong);
const snippets = scripts.filter((b) => nameOf(b) === '');

/**
 * The snippets as a model: each in a block of its own behind the declarations of dense.ts, with everything imported.
 * A snippet declares what it needs beyond that.
 */
function snippetsFile(): string {
  const dense = files.find((b) => nameOf(b) === 'dense.ts')?.text ?? '';
  const declarations = /^import \{[^}]*\} from 'dsvc';\n(.*?)^export default/ms.exec(dense)?.[1];
  if (declarations === undefined)
    throw new Error('docs/DSL.md has no dense.ts with an import and a default export');
  const calls = snippets.map(
    (b) => `block('line_${b.line}', (x: Hidden, at: Positions, cache: Rows) => {\n${b.text}return x;\n})`,
  );
  return `import { ${Object.keys(dsl).join(', ')}, type Cache, type Positions, type Tensor } from 'dsvc';
${declarations}
${calls.map((call, i) => `const s${i} = ${call};`).join('\n')}
export default model('snippets', {
  state: { ${calls.map((_, i) => `c${i}: perLayer(rows, 8)`).join(', ')} },
  forward(ids, at, state) {
    const x = embedding(ids, vocab, hidden);
    ${calls.map((_, i) => `repeat(1, s${i}, x, at, state.c${i});`).join('\n    ')}
    return head(x, at, vocab);
  },
  bounds: { tokens: 512, batch: 16, cached: 4096, sequences: 16, outputs: 16 },
});
`;
}

const folder = mkdtempSync(join(tmpdir(), 'dsvc-docs-'));
beforeAll(() => {
  for (const b of [...files, ...wrong]) writeFileSync(join(folder, nameOf(b)), b.text);
  writeFileSync(join(folder, 'snippets.ts'), snippetsFile());
});
afterAll(() => rmSync(folder, { recursive: true }));

test('the guide has files, snippets and mistakes', () => {
  expect(files.map(nameOf)).toEqual(['small.ts', 'dense.ts']);
  expect(wrong.map(nameOf)).toEqual(['axes.ts', 'operators.ts']);
  expect(snippets.length).toBeGreaterThan(10);
  expect(commands.length).toBeGreaterThan(3);
});

describe.each([...files.map(nameOf), 'snippets.ts'])('%s', (name) => {
  test.each(['f32', 'bf16', 'fp8'] as const)('traces in %s', async (precision) => {
    const loaded = await loadModel(join(folder, name), { dslNamespace: dsl });
    const { module, diagnostics } = traceModel(loaded.model, { precision });
    expect([...loaded.diagnostics, ...diagnostics]).toEqual([]);
    expect(verifyModule(module)).toEqual([]);
  });

  test('pleases the type checker', async () => {
    expect(await typeCheck(join(folder, name))).toEqual({ diagnostics: [] });
  });

  test('compiles', async () => {
    const args = ['compile', name, '--target', 'h800', '-o', `out-${name}`, '--emit=ptx,ir,bundle'];
    const { code, stderr } = await dsvc(args, { cwd: folder });
    expect(stderr).not.toMatch(/^(error|warning)/m);
    expect(code).toBe(0);
  });
});

test.each(wrong.map((b) => [nameOf(b), b] as const))('%s is refused in these words', async (name, block) => {
  const shown = blocks[blocks.indexOf(block) + 1];
  expect(shown?.language, 'a ```text block must follow').toBe('text');
  const { code, stderr } = await dsvc(['check', name], { cwd: folder });
  expect(stderr).toBe(shown.text);
  expect(code).toBe(1);
});

// Blocks that show a command: its standard output has the lines, in this order; … stands for any number of others.
const shown = blocks.filter((b) => b.language === 'text').flatMap(shownCommands);
test.each(shown.map((c) => [c.args.join(' '), c] as const))('dsvc %s prints', async (_, { args, lines }) => {
  const { stdout, code } = await dsvc(args, { cwd: folder });
  expect(code).toBe(0);
  expect(lines.length).toBeGreaterThan(0);
  expect(notPrinted(lines, stdout)).toBeUndefined();
});

test('the reference lists what dsl/index.ts exports, each as it is called', () => {
  const reference = guide.slice(guide.indexOf('\n## Reference\n'));
  const rows = [...reference.matchAll(/^\| (`.*?`) +\|/gm)];
  const listed = rows.flatMap((row) => [...row[1].matchAll(/`([^`]+)`/g)].map((m) => m[1]));
  expect([...listed].sort()).toEqual([...exportedForms().values()].sort());
});

test('the names of weights in the text are those of dense.ts', async () => {
  const { model } = await loadModel(join(folder, 'dense.ts'), { dslNamespace: dsl });
  const names = [...checkpointNames(traceModel(model).module)].map((w) => w.name);
  const quoted = [...proseOf(guide).matchAll(/`([\w.]*\w\.weight)`/g)].map((m) => m[1]);
  expect(quoted).toContain('model.layers.3.self_attn.q_proj.weight');
  for (const name of quoted)
    expect(
      names.some((n) => n === name || n.endsWith(`.${name}`)),
      name,
    ).toBe(true);
});

test('the table of run-time axes has the bounds of dsl/model.ts', () => {
  const table = /^\| axis [\s\S]*?\n\n/m.exec(guide)?.[0] ?? '';
  const bounds = [...table.matchAll(/\| (\d+) +\|$/gm)].map((m) => Number(m[1]));
  const { tokens, batch, sequences, outputs, cached } = defaultBounds;
  expect(bounds).toEqual([tokens, batch, sequences, outputs, cached]);
});

const commands = [...proseOf(guide).matchAll(/`npx dsvc ([^`\n]*\.ts\b[^`\n]*)`/g)].map((m) => m[1]);
test.each(commands)('dsvc %s', async (command) => {
  const args = command.split(' ').concat(command.startsWith('compile') ? ['--emit=ptx,ir,bundle'] : []);
  const { code, stderr } = await dsvc(args, { cwd: folder });
  expect(stderr).not.toMatch(/^error/m);
  expect(code).toBe(0);
});
