// README.md is true: its commands run, and what any of our documents links to is there.
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dsvc, root } from '../cli/process.ts';
import { anchorsOf, blocksOf, localLinksOf } from './markdown.ts';

const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');
const readme = textOf('README.md');
const scripts = blocksOf(readme).filter((b) => b.language === 'sh');

/** Every `npx dsvc …` of the text, in blocks (`npm ci && npx dsvc …`) and in code between words. */
function commands(): readonly string[] {
  const inBlocks = scripts.flatMap((b) => b.text.split(/\n|&&/)).map((c) => c.trim());
  const inline = [...readme.matchAll(/`(npx dsvc [^`\n]*)`/g)].map((m) => m[1]);
  return [...new Set([...inBlocks, ...inline])].filter((c) => c.startsWith('npx dsvc '));
}

/** Words that stand for something of the reader's: DIR, model.ts, in.safetensors. */
const placeholder = (word: string): boolean =>
  /^[A-Z]{2,}$/.test(word) || (/\.(ts|json|dsir|safetensors)$/.test(word) && !word.includes('/'));

const runnable = commands().filter((c) => !c.split(/[ =]/).some(placeholder));

test('README.md has two commands, and CI runs the second after its own set-up', () => {
  expect(scripts.map((b) => b.text)).toEqual([
    'npm ci && npx dsvc compile examples/deepseek-v3.ts --target h800 -o build/deepseek-v3\n',
    'npm ci && npm test\n',
  ]);
  const last = textOf('.ci/run')
    .split('\n')
    .filter((line) => /^npm\b/.test(line));
  expect(last).toEqual([expect.stringMatching(/^npm ci && npm test( |$)/)]);
});

describe('commands of README.md', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'dsvc-readme-'));
    // What the commands read, under the names they use; what they write stays here.
    for (const file of runnable.flatMap((c) => c.split(' ')).filter((w) => existsSync(join(root, w)))) {
      if (!/\.\w+$/.test(file)) continue;
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      copyFileSync(join(root, file), join(folder, file));
    }
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('there are some of every kind', () => {
    const kinds = new Set(runnable.map((c) => c.split(' ')[2]));
    expect([...kinds].sort()).toEqual(['check', 'compile', 'emu', 'import', 'passes', 'schedule', 'targets']);
  });

  const core = existsSync(join(root, 'build/native/dsvc_core.node'));
  if (!core) console.warn('the C++ core is not built: commands that need the emulator are skipped');
  test.each(runnable.filter((c) => core || !c.includes(' emu ')))(
    '%s',
    { timeout: 300_000 },
    async (command) => {
      const args = command.split(' ').slice(2);
      const at = args.indexOf('-o') + 1;
      const output = at > 0 ? args[at] : '';
      if (at > 0) {
        args[at] = join(folder, 'made', output);
        mkdirSync(dirname(args[at]), { recursive: true });
      }
      // Everything but the kernels' assembly, which takes minutes at full size and is tested elsewhere.
      if (args[0] === 'compile') args.push('--emit=ptx,ir,bundle');
      const { code, stderr } = await dsvc(args, { cwd: folder });
      expect(stderr).not.toMatch(/^error/m);
      expect(code).toBe(0);
      if (at > 0) expect(existsSync(args[at])).toBe(true);
      // What the repository holds, like pictures, is what the command makes.
      if (output.startsWith('docs/')) expect(readFileSync(args[at], 'utf8')).toBe(textOf(output));
    },
  );
});

const documents = [
  ...readdirSync(root).filter((f) => f.endsWith('.md')),
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((f) => f.endsWith('.md'))
    .map((f) => join('docs', f)),
];

test.each(documents)('links of %s lead somewhere', (document) => {
  const text = textOf(document);
  const broken = localLinksOf(text).filter((link) => {
    const [path, anchor] = link.split('#');
    const target = path === '' ? document : join(dirname(document), path);
    if (!existsSync(resolve(root, target))) return true;
    return anchor !== undefined && !anchorsOf(textOf(target)).includes(`#${anchor}`);
  });
  expect(broken).toEqual([]);
});
