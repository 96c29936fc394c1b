// `npm run bench:ir`: printing, parsing and verifying a megabyte of IR text. Prints figures with the machine.
import { build } from 'esbuild';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
// Inside the repository, so that chevrotain is found.
const scratch = mkdtempSync(join(root, 'dist/bench-'));
const entry = `export { parseModule } from './ir/text/parser.ts';
export { printModule } from './ir/text/printer.ts';
export { verifyModule } from './ir/verify.ts';`;
const { outputFiles } = await build({
  stdin: { contents: entry, resolveDir: root, loader: 'ts' },
  bundle: true,
  format: 'esm',
  platform: 'node',
  packages: 'external',
  write: false,
});
const file = join(scratch, 'ir.mjs');
writeFileSync(file, outputFiles[0].text);
const { parseModule, printModule, verifyModule } = await import(pathToFileURL(file).href);
rmSync(scratch, { recursive: true });

const { module } = parseModule(
  readFileSync(join(root, 'ir/fixtures/every-op.dsir'), 'utf8'),
  'every-op.dsir',
);
const copied = module.functions.filter((f) => !f.body.some((op) => 'callee' in op.attributes));
const functions = [];
while (functions.length < 1200)
  for (const f of copied) functions.push({ ...f, name: `${f.name}.${functions.length}` });
const large = { ...module, functions };

const best = (run) => {
  let least = Infinity;
  for (let i = 0; i < 7; i++) {
    const start = performance.now();
    run();
    least = Math.min(least, performance.now() - start);
  }
  return least;
};
let text = '';
const print = best(() => (text = printModule(large)));
const parse = best(() => parseModule(text, 'large.dsir'));
const verify = best(() => verifyModule(large));
console.log(`machine: ${cpus()[0].model.trim()}, ${cpus().length} cores, node ${process.version}`);
console.log(
  `${(text.length / 2 ** 20).toFixed(2)} MiB of IR text, best of 7: print ${print.toFixed(0)} ms, parse ${parse.toFixed(0)} ms, verify ${verify.toFixed(0)} ms`,
);
