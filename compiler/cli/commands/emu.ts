// `dsvc emu`: runs PTX on the emulated device as a launch file says.
import { dirname } from 'node:path';
import { DiagnosticError, type Diagnostic } from '../../../ir/diagnostics.ts';
import { checks } from '../../../runtime/emulator/checks.ts';
import { isCoreError } from '../../../runtime/emulator/device.ts';
import { parseLaunchFile } from '../../../runtime/emulator/launch-file.ts';
import { LaunchError } from '../../../runtime/emulator/launch-problem.ts';
import { runLaunches, type RunResult } from '../../../runtime/emulator/run-launches.ts';
import { writeSafetensors } from '../../../runtime/safetensors.ts';
import { launchDiagnostic, refusalDiagnostic, reportDiagnostic } from '../emu-diagnostics.ts';
import { deviceSettings, nativeCore, statisticsText, type LaunchStatistics } from '../emulator-settings.ts';
import { checkWritable, readText, refuseSame, stdinName, writeProduct } from '../files.ts';
import { badUsage } from '../names.ts';
import type { EmuOptions } from '../options.ts';
import type { Session } from '../session.ts';

export async function emu(session: Session, path: string | undefined, options: EmuOptions): Promise<void> {
  if (options.listChecks) return writeProduct('-', listChecks());
  const { terminal } = session;
  const { file, launch } = checkRequest(path, options);
  const name = file === '-' ? stdinName : file;
  const ptx = readText(file, 'a PTX file');
  terminal.addText(name, ptx);
  if (options.print) return print(session, name, ptx);

  const settings = deviceSettings(options);
  const launchText = readText(launch!, 'a launch file');
  const core = nativeCore();
  const told = launchDiagnostic(launch!, launchText);
  let result: RunResult;
  try {
    // Both texts are read before either is judged: their mistakes are told together.
    const found: Diagnostic[] = [];
    const program = await decode(name, ptx, found);
    const launches = collect(() => parseLaunchFile(launchText), found, told);
    if (!program || !launches) throw new DiagnosticError(found);
    for (const d of found) terminal.report(d);
    result = runLaunches(core, launches, program, dirname(launch!), settings);
  } catch (error) {
    if (error instanceof LaunchError) throw new DiagnosticError(error.problems.map(told));
    if (isCoreError(error)) throw new DiagnosticError([refusalDiagnostic(name, ptx, error)]);
    throw error;
  }
  for (const l of result.launches)
    l.reports.map(reportDiagnostic(name, ptx)).forEach((d) => terminal.report(d));
  await writeResults(session, result, options);
}

/** What is wrong with the flags together. */
function checkRequest(
  path: string | undefined,
  options: EmuOptions,
): { readonly file: string; readonly launch: string | undefined } {
  const { launch, output, stats, print: onlyPrint } = options;
  if (path === undefined)
    badUsage('missing-argument', 'there is no PTX file', 'dsvc emu file.ptx --launch launch.json');
  if (onlyPrint) {
    if (launch !== undefined || output !== undefined || stats !== undefined)
      badUsage('conflict', '--print runs nothing', 'leave --launch, --output and --stats out');
    return { file: path, launch };
  }
  if (launch === undefined)
    badUsage(
      'missing-flag',
      '--launch is missing',
      'write a launch file (docs/EMULATOR.md), or look with --print',
    );
  if (path === '-' && launch === '-')
    badUsage('conflict', 'both the PTX and the launch file are standard input', 'give one of them as a file');
  const outputs = [output, stats].filter((p) => p !== undefined && p !== '-') as string[];
  if (output === '-') badUsage('invalid-value', '--output cannot be standard output', 'name a file');
  for (const out of outputs) {
    refuseSame(out, [path, launch]);
    checkWritable(out);
  }
  if (outputs.length === 2) refuseSame(outputs[0], [outputs[1]]);
  return { file: path, launch };
}

/** The decoded program; null when errors were found. */
async function decode(name: string, ptx: string, found: Diagnostic[]): Promise<Uint8Array | null> {
  // The parser library takes a third of a second to load: only who reads PTX pays for it.
  const { decodePtx } = await import('../../../backends/ptx/decode/index.ts');
  const { program, diagnostics } = decodePtx(ptx, name);
  found.push(...diagnostics);
  return program;
}

function collect<T>(
  step: () => T,
  found: Diagnostic[],
  told: (problem: LaunchError['problems'][number]) => Diagnostic,
): T | null {
  try {
    return step();
  } catch (error) {
    if (!(error instanceof LaunchError)) throw error;
    found.push(...error.problems.map(told));
    return null;
  }
}

async function print({ terminal }: Session, name: string, ptx: string): Promise<void> {
  const { parsePtx } = await import('../../../backends/ptx/parse/index.ts');
  const { printKernels } = await import('../emu-print.ts');
  const { module, diagnostics } = parsePtx(ptx, name);
  if (!module || diagnostics.some((d) => d.severity === 'error')) throw new DiagnosticError(diagnostics);
  for (const d of diagnostics) terminal.report(d);
  await writeProduct('-', printKernels(module));
}

async function writeResults({ terminal }: Session, result: RunResult, options: EmuOptions): Promise<void> {
  const { output, stats } = options;
  const { launches, outputs } = result;
  if (output !== undefined && outputs) writeSafetensors(output, outputs);
  if (stats !== undefined) await writeProduct(stats, statisticsText(statisticsOf(result), options));
  const instructions = launches.reduce((n, l) => n + l.statistics.warpInstructions, 0);
  const seconds = launches.reduce((n, l) => n + l.statistics.seconds, 0);
  const written =
    outputs === null
      ? 'no outputs: the kernel did not end well'
      : output === undefined
        ? 'no output asked for'
        : `${output}: ${outputs.map((t) => t.name).join(', ') || 'no tensor'}`;
  terminal.info(
    `${written}; ${launches.length} launch${launches.length === 1 ? '' : 'es'}, ` +
      `${instructions} instructions of warps in ${seconds.toFixed(2)} s`,
  );
}

const statisticsOf = ({ launches }: RunResult): readonly LaunchStatistics[] =>
  launches.map(({ kernel, statistics }) => ({ kernel, statistics }));
function listChecks(): string {
  const width = Math.max(...checks.map((c) => c.code.length));
  return checks
    .map(({ code, severity, always, doc }) => {
      const when =
        severity === 'refused' ? 'refused' : severity === 'note' ? '--stats' : always ? 'always ' : 'chosen ';
      const level = (severity === 'refused' ? 'error' : severity).padEnd(7);
      return `${code.padEnd(width)}  ${level}  ${when}  ${doc}\n`;
    })
    .join('');
}
