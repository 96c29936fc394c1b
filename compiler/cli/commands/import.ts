// `dsvc import`: a published config.json becomes a model file.
import { DiagnosticError } from '../../../ir/diagnostics.ts';
import { importConfig } from '../../../dsl/import/index.ts';
import { checkWritable, readText, refuseSame, stdinName, writeProduct } from '../files.ts';
import type { ImportOptions } from '../options.ts';
import type { Session } from '../session.ts';

export async function importModel(
  { terminal }: Session,
  path: string,
  { output }: ImportOptions,
): Promise<void> {
  refuseSame(output, [path]);
  if (output !== '-') checkWritable(output);
  const text = readText(path, 'a config.json');
  const name = path === '-' ? stdinName : path;
  terminal.addText(name, text);
  const { source, diagnostics } = importConfig(text, name);
  if (source === null || diagnostics.some((d) => d.severity === 'error'))
    throw new DiagnosticError(diagnostics);
  for (const d of diagnostics) terminal.report(d);
  await writeProduct(output, source);
  if (output !== '-') terminal.info(`${output}: written from ${name}`);
}
