// `node scripts/profile-costs.mjs`: writes examples/costs/deepseek-v3-h800.json from the summary of DeepSeek's published
// profile. A test keeps the two equal.
import { build } from 'esbuild';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { format } from 'prettier';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { outputFiles } = await build({
  entryPoints: [join(root, 'compiler/schedule/profile-costs.ts')],
  bundle: true,
  format: 'esm',
  platform: 'node',
  write: false,
});
const code = Buffer.from(outputFiles[0].text).toString('base64');
const { costsFromProfile } = await import(`data:text/javascript;base64,${code}`);

const profile = JSON.parse(readFileSync(join(root, 'test/golden/profile_data_summary.json'), 'utf8'));
const out = join(root, 'examples/costs/deepseek-v3-h800.json');
writeFileSync(
  out,
  await format(JSON.stringify(costsFromProfile(profile)), { parser: 'json', printWidth: 110 }),
);
console.error(`wrote ${out}`);
