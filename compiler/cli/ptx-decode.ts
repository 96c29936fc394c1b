// What the stand-in libcuda runs to load PTX: `node ptx-decode.js FILE NAME OUTPUT` writes the decoded program of FILE to
// OUTPUT. Mistakes in the PTX are told on standard error as diagnostics of NAME, with exit code 1.
import { readFileSync, writeFileSync } from 'node:fs';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { renderDiagnostic } from '../../ir/diagnostics.ts';

const [file, name, output] = process.argv.slice(2);
if (output === undefined) {
  process.stderr.write('usage: node ptx-decode.js FILE NAME OUTPUT\n');
  process.exit(2);
}
const text = readFileSync(file, 'utf8');
const { program, diagnostics } = decodePtx(text, name);
for (const d of diagnostics)
  process.stderr.write(`${renderDiagnostic(d, { sourceOf: (f) => (f === name ? text : undefined) })}\n`);
if (program) writeFileSync(output, program);
else process.exitCode = 1;
