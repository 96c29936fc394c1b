// `dsvc opt`: IR text in, passes, IR text out.
import { basename } from 'node:path';
import { DiagnosticError } from '../../../ir/diagnostics.ts';
import type { Module } from '../../../ir/module.ts';
import { printModule } from '../../../ir/text/printer.ts';
import { countOps, runPipeline, type Pass } from '../../pass.ts';
import { allPasses, pipelines } from '../../pipeline.ts';
import { dumpHeader, PassObserver } from '../dumps.ts';
import { checkWritable, refuseSame, writeProduct } from '../files.ts';
import { readIr } from '../ir-file.ts';
import { badUsage, checkNames } from '../names.ts';
import type { OptOptions } from '../options.ts';
import type { Session } from '../session.ts';
import { showTimings } from '../report.ts';
import { loadTarget, targetNames } from '../targets.ts';
import { Timings } from '../timings.ts';

export async function opt(session: Session, path: string, options: OptOptions): Promise<void> {
  const { terminal, crash } = session;
  if (options.reproducer !== undefined) crash.reproducer = options.reproducer;
  const all = allPasses();
  const known = all.map((p) => p.name);
  checkNames('pass', 'passes', options.pass, known);
  if (options.pipeline !== undefined && options.pass.length > 0)
    badUsage('conflict', '--pass and --pipeline exclude each other', 'give one of them');
  if (options.output !== undefined) refuseSame(options.output, [path]);
  if (options.output !== undefined && options.output !== '-') checkWritable(options.output);

  const timings = new Timings();
  const observer = new PassObserver(options, all, terminal, timings);
  const { module, header } = await timings.phase('parse and verify', () => readIr(path, terminal));
  crash.module = module;
  const passes: readonly Pass[] = options.pipeline
    ? pipelines[options.pipeline]()
    : options.pass.map((name) => all.find((p) => p.name === name)!);
  const result = await timings.phase('passes', () => runPasses(session, module, passes, options, observer));
  const changed = passes.length > 0;
  if (options.output !== undefined)
    // A header tells how the text came about: the input's stays true only when nothing ran.
    await writeProduct(
      options.output,
      printModule(result, { header: changed ? repeatCommand(path, options, module, result) : header }),
    );
  else
    terminal.info(
      `${path}: valid IR, ${module.functions.length} functions${changed ? '; passes ran' : ''} (-o writes it)`,
    );
  showTimings(timings, options, terminal);
}

/** The header of a result: as in a dump, so that repeating a dump's command gives that dump byte for byte. */
function repeatCommand(path: string, options: OptOptions, before: Module, after: Module): readonly string[] {
  const passes = options.pipeline ? `--pipeline=${options.pipeline}` : `--pass ${options.pass.join(',')}`;
  return dumpHeader(
    `dsvc opt ${basename(path)} ${passes} -o -`,
    before === after,
    countOps(before),
    countOps(after),
  );
}

async function runPasses(
  { terminal }: Session,
  module: Module,
  passes: readonly Pass[],
  options: OptOptions,
  observer: PassObserver,
): Promise<Module> {
  if (passes.length === 0) return module;
  const name = module.attributes.target;
  if (name !== undefined && !targetNames.includes(String(name)))
    throw new DiagnosticError([
      {
        code: 'ir/unknown-target',
        severity: 'error',
        message: `the module's attribute target is ${JSON.stringify(name)}`,
        fix: `known targets: ${targetNames.join(', ')}`,
      },
    ]);
  const target = name === undefined ? null : await loadTarget(String(name));
  observer.begin(module, 'input', `dsvc opt 000-input.dsir -o -`);
  const run = runPipeline(module, passes, {
    target,
    disabled: new Set(options.disablePass),
    verifyEach: options.verifyEach,
    onPass: observer.onPass,
  });
  for (const d of run.diagnostics) terminal.report(d);
  return run.module;
}
