// `dsvc targets` and `dsvc passes`: what can be named on the command line.
import { allPasses, pipelines } from '../../pipeline.ts';
import { writeProduct } from '../files.ts';
import type { ListOptions } from '../options.ts';
import type { Session } from '../session.ts';
import { loadTarget, targetNames } from '../targets.ts';

export async function targets(_session: Session, options: ListOptions): Promise<void> {
  const all = await Promise.all(targetNames.map(loadTarget));
  const rows = all.map((t) => ({ name: t.name, doc: t.doc, memoryBytes: t.memoryBytes }));
  await print(options, rows, (t) => [t.name, t.doc]);
}

export async function passes(_session: Session, options: ListOptions): Promise<void> {
  const rows = allPasses().map((p) => ({
    name: p.name,
    doc: p.doc,
    canBeDisabled: p.required !== true,
    pipelines: Object.entries(pipelines).flatMap(([name, list]) => (list().includes(p) ? [name] : [])),
  }));
  await print(options, rows, ({ name, doc, canBeDisabled, pipelines: of }) => [
    name,
    doc +
      (canBeDisabled ? '' : ' (cannot be disabled)') +
      (of.length < Object.keys(pipelines).length ? ` (only for ${of.join(', ')})` : ''),
  ]);
}

async function print<T>(
  options: ListOptions,
  rows: readonly T[],
  cells: (row: T) => readonly [string, string],
): Promise<void> {
  const table = rows.map(cells);
  const width = Math.max(...table.map(([name]) => name.length));
  const text =
    options.format === 'json'
      ? `${JSON.stringify(rows, null, 2)}\n`
      : table.map(([name, doc]) => `${name.padEnd(width)}  ${doc}\n`).join('');
  await writeProduct('-', text);
}
