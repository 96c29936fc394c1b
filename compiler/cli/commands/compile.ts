// `dsvc compile`: from a model file (or IR) to a bundle on disk.
import { basename } from 'node:path';
import type { Module } from '../../../ir/module.ts';
import type { Target } from '../../../ir/target.ts';
import { printModule } from '../../../ir/text/printer.ts';
import { bundleFiles } from '../../bundle.ts';
import { compileModule, type Compiled } from '../../compile.ts';
import { runPipeline, type Pass } from '../../pass.ts';
import { inferencePasses } from '../../pipeline.ts';
import { makeCubins, ptxasCommand, ptxasFlags, ptxasOrWarning, type Cubin } from '../cubins.ts';
import { PassObserver } from '../dumps.ts';
import { keepEntries } from '../entries.ts';
import { checkBundlePlace, checkWritable, refuseSame, writeFolder, writeProduct } from '../files.ts';
import { readIr } from '../ir-file.ts';
import { loadAndTrace } from '../model.ts';
import { badUsage, checkNames } from '../names.ts';
import { emitKinds, type CompileOptions, type EmitKind } from '../options.ts';
import { packageVersion } from '../package-root.ts';
import type { Session } from '../session.ts';
import { estimate } from '../progress.ts';
import { resourceTable, showTimings, summary } from '../report.ts';
import { loadTarget } from '../targets.ts';
import { Timings } from '../timings.ts';
import type { Ptxas } from '../../../backends/ptx/ptxas.ts';

/** The phase before every pass. */
const traced = 'trace';

export async function compile(session: Session, path: string, options: CompileOptions): Promise<void> {
  const { terminal, crash } = session;
  if (options.reproducer !== undefined) crash.reproducer = options.reproducer;
  const all = inferencePasses();
  const names = all.map((p) => p.name);
  checkRequest(path, options, names);
  const flags = ptxasFlags(options.X);
  const timings = new Timings();
  const observer = new PassObserver(options, all, terminal, timings);
  const target = await loadTarget(options.target);
  const emit: ReadonlySet<EmitKind> = new Set(options.emit ?? emitKinds);
  if (options.emit?.includes('host'))
    terminal.report({
      code: 'emit/no-host-program',
      severity: 'warning',
      message: 'this version of dsvc writes no host program: --emit=host adds nothing',
      fix: 'leave host out; plan/ and kernels/ hold what a host needs',
    });
  const wantsCubins =
    options.compileTo === undefined && (emit.has('cubin') || options.resourceUsage === true);
  const required = options.require.includes('cubin');
  // Looked for first: a tool that --require misses should not cost a compilation.
  if (wantsCubins && required) await ptxasOrWarning(required, terminal);

  const start = await timings.phase('load and trace', () => readStart(session, path, options));
  const module = keepEntries(start, options.entry);
  crash.module = module;
  const first = options.compileFrom === undefined ? 0 : names.indexOf(options.compileFrom) + 1;
  const last = options.compileTo === undefined ? names.length : names.indexOf(options.compileTo) + 1;
  const passes = all.slice(first, last);
  const begun = first === 0 ? 'traced' : 'input';
  observer.begin(
    module,
    begun,
    first === 0 && !isIr(path) ? traceCommand(path, options) : `dsvc opt 000-${begun}.dsir -o -`,
  );

  if (options.compileTo !== undefined) {
    await stopAt(session, module, target, passes, options, observer, timings);
    return;
  }
  const compiled = await timings.phase('compile', () => {
    const left = estimate();
    const result = compileModule(module, {
      target,
      passes,
      disabled: new Set(options.disablePass),
      verifyEach: options.verifyEach,
      onPass: observer.onPass,
      onKernel: (done, total, name) =>
        terminal.progress(`writing kernel ${done}/${total} ${name}, ${left(done, total)} left`),
    });
    terminal.endProgress();
    for (const phase of ['emit', 'plan', 'report']) timings.add(phase, result.timings[phase] ?? 0);
    return result;
  });
  for (const d of compiled.diagnostics) terminal.report(d);

  // Said only now: whose model does not compile has other worries than a missing tool.
  const ptxas = wantsCubins ? await ptxasOrWarning(required, terminal) : null;
  const assemble = ptxas !== null && !options.dryRun;
  const cubins = assemble
    ? await timings.phase('ptxas', () => makeCubins(compiled.kernels, ptxas, options, terminal))
    : [];
  remark(session, cubins);
  const reported = withResources(compiled, cubins);
  const files = outputFiles(reported, cubins, emit, options);
  if (options.dryRun) dryRun(session, reported, files, ptxas, flags, options);
  else await timings.phase('write', () => writeFolder(options.output!, withTimings(files, timings, options)));
  if (options.resourceUsage) terminal.show(resourceTable(reported.report.kernels, cubins));
  if (options.timing === 'tree') showTimings(timings, options, terminal);
  terminal.info(summary(reported, cubins, timings, options.dryRun ? null : options.output!));
}

const isIr = (path: string): boolean => path === '-' || path.endsWith('.dsir');

/** The command that traces the model again, with the model's name alone: where it lies is nobody's business. */
function traceCommand(path: string, { precision = 'fp8', set, entry, target }: CompileOptions): string {
  const settings = Object.entries(set)
    .map(([name, value]) => ` --set ${name}=${value}`)
    .join('');
  const entries = entry.length > 0 ? ` --entry ${entry.join(',')}` : '';
  return `dsvc compile ${basename(path)} --target ${target} --precision ${precision}${settings}${entries} --compile-to trace -o -`;
}

/** What is wrong with the flags together. */
function checkRequest(path: string, options: CompileOptions, passes: readonly string[]): void {
  const phases = [traced, ...passes];
  for (const phase of [options.compileTo, options.compileFrom])
    if (phase !== undefined) checkNames('phase', 'phases', [phase], phases);
  if (options.compileFrom !== undefined && !isIr(path))
    badUsage(
      'conflict',
      `--compile-from needs IR text, and ${path} does not end in .dsir`,
      'give a .dsir file, or - for standard input',
    );
  if (isIr(path) && (options.precision !== undefined || Object.keys(options.set).length > 0))
    badUsage(
      'conflict',
      '--precision and --set change how a model is traced, and IR is traced already',
      'give the model file',
    );
  if (
    options.compileTo !== undefined &&
    options.compileFrom !== undefined &&
    phases.indexOf(options.compileTo) < phases.indexOf(options.compileFrom)
  )
    badUsage(
      'conflict',
      `--compile-to=${options.compileTo} comes before --compile-from=${options.compileFrom}`,
      `the order is ${phases.join(', ')}`,
    );
  if (options.output === undefined) {
    if (options.dryRun) return;
    badUsage(
      'missing-flag',
      "required option '-o, --output <dir>' not specified",
      'say where the bundle goes: -o DIR',
    );
  }
  refuseSame(options.output, [path]);
  if (options.compileTo !== undefined) {
    if (options.output !== '-') checkWritable(options.output);
  } else if (options.output === '-')
    badUsage(
      'conflict',
      'a bundle is a folder and cannot go to standard output',
      'give -o DIR, or --compile-to for the IR alone',
    );
  else {
    const inside = [
      path === '-' ? [] : path,
      options.dumpDir ?? [],
      options.cacheDir ?? [],
      options.reproducer ?? [],
    ].flat();
    checkBundlePlace(options.output, inside);
  }
}

async function readStart({ terminal }: Session, path: string, options: CompileOptions): Promise<Module> {
  if (isIr(path)) return (await readIr(path, terminal)).module;
  return loadAndTrace(
    path,
    { precision: options.precision ?? 'fp8', target: options.target, set: options.set },
    terminal,
  );
}

/** `--compile-to`: the IR after a phase, as a file that `opt` and `--compile-from` read. */
async function stopAt(
  { terminal }: Session,
  module: Module,
  target: Target,
  passes: readonly Pass[],
  options: CompileOptions,
  observer: PassObserver,
  timings: Timings,
): Promise<void> {
  const result = await timings.phase('passes', () =>
    runPipeline(module, passes, {
      target,
      disabled: new Set(options.disablePass),
      verifyEach: options.verifyEach,
      onPass: observer.onPass,
    }),
  );
  for (const d of result.diagnostics) terminal.report(d);
  const header = [
    `dsvc compile ${options.output === undefined ? '-' : basename(options.output)} --compile-from=${options.compileTo} -o DIR`,
  ];
  if (options.output !== undefined && !options.dryRun)
    await writeProduct(options.output, printModule(result.module, { header }));
  showTimings(timings, options, terminal);
}

/** The report with what ptxas said about each kernel. */
function withResources(compiled: Compiled, cubins: readonly Cubin[]): Compiled {
  const byName = new Map(cubins.map((c) => [c.name, c.resources]));
  const kernels = compiled.report.kernels.map((k) => {
    const r = byName.get(k.name);
    return r ? { ...k, registers: r.registers, spills: r.spills.storeBytes + r.spills.loadBytes } : k;
  });
  return { ...compiled, report: { ...compiled.report, kernels } };
}

/** ptxas's remarks: a well-made kernel has none, so each is worth a warning at the author's line. */
function remark({ terminal }: Session, cubins: readonly Cubin[]): void {
  for (const { name, remarks } of cubins)
    if (remarks.length > 0)
      terminal.report({
        code: 'kernel/ptxas-remark',
        severity: 'warning',
        message: `ptxas on kernel ${name}: ${remarks[0]}${remarks.length > 1 ? ` (and ${remarks.length - 1} more)` : ''}`,
      });
}

function outputFiles(
  compiled: Compiled,
  cubins: readonly Cubin[],
  emit: ReadonlySet<EmitKind>,
  options: CompileOptions,
): ReadonlyMap<string, string | Uint8Array> {
  const files = new Map(
    bundleFiles(compiled, {
      model: compiled.module.name,
      version: packageVersion(),
      emit,
      cubins: new Map(cubins.map((c) => [c.name, c.cubin])),
    }),
  );
  if (options.keep)
    for (const k of compiled.kernels) {
      files.set(`keep/${k.name}.ptx`, k.ptx);
      const made = cubins.find((c) => c.name === k.name);
      if (made)
        files.set(
          `keep/${k.name}.ptxas.json`,
          `${JSON.stringify({ ...made.resources, remarks: made.remarks }, null, 1)}\n`,
        );
    }
  return files;
}

/** timing.json differs from run to run, so it is there only when asked for. */
function withTimings(
  files: ReadonlyMap<string, string | Uint8Array>,
  timings: Timings,
  { timing }: CompileOptions,
): ReadonlyMap<string, string | Uint8Array> {
  if (timing === undefined) return files;
  return new Map(files).set('timing.json', timing === 'chrome' ? timings.chrome() : timings.json());
}

function dryRun(
  { terminal }: Session,
  compiled: Compiled,
  files: ReadonlyMap<string, string | Uint8Array>,
  ptxas: Ptxas | null,
  flags: readonly string[],
  options: CompileOptions,
): void {
  const folder = options.output ?? 'DIR';
  for (const [name, content] of files)
    terminal.show(`write ${folder}/${name} (${Buffer.byteLength(content)} bytes)`);
  if (ptxas) for (const k of compiled.kernels) terminal.show(`run ${ptxasCommand(ptxas, k.name, flags)}`);
}
