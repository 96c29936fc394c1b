// The emulator as a device of `dsvc run`: what it says about a kernel is a diagnostic of that kernel's PTX.
import { DiagnosticError, type Diagnostic } from '../../ir/diagnostics.ts';
import type { WeightCache } from '../../ir/interpret/weights.ts';
import { isCoreError } from '../../runtime/emulator/device.ts';
import { Comparison } from './compare/index.ts';
import { jsonLine, tableHeader, tableLine } from './compare/table.ts';
import { refusalDiagnostic, reportDiagnostic } from './emu-diagnostics.ts';
import { deviceSettings, nativeCore, statisticsText, type LaunchStatistics } from './emulator-settings.ts';
import { writeProduct } from './files.ts';
import type { RunOptions } from './options.ts';
import { PlanRunner, type Executable, type LaunchEvent, type LaunchResult } from './plan-runner.ts';
import type { Execute } from './run-entries.ts';
import type { Terminal } from './terminal.ts';

export interface EmulatedRun {
  /** Runs an entry. Throws DiagnosticError at the first launch that an error was found in. */
  readonly execute: Execute;
  /** When all is done: writes `--stats`, and reports what `--compare` found. */
  readonly finish: () => Promise<void>;
}

/** Throws MissingToolError when the core is not built. */
export function onEmulator(
  executable: Executable,
  weights: WeightCache,
  terminal: Terminal,
  options: RunOptions,
): EmulatedRun {
  const core = nativeCore();
  const device = core.createDevice(deviceSettings(options));
  const ptx = new Map(executable.kernels.map((k) => [k.name, k.ptx]));
  const statistics: LaunchStatistics[] = [];
  // Plain sums differ from the interpreter's in nothing but their order.
  const fp8 = options.tensorCore === 'f32' ? 'f32' : 'fp8';
  const comparison =
    options.compare === 'ref'
      ? new Comparison(executable.module, weights, fp8, shownBy(terminal))
      : undefined;
  let entry = '';
  let running = '';

  /** The kernel's text, for the terminal to show lines of. */
  const textOf = (kernel: string): { readonly file: string; readonly text: string } => {
    const file = `${kernel}.ptx`;
    const text = ptx.get(kernel) ?? '';
    terminal.addText(file, text);
    return { file, text };
  };
  const launched = ({ reports, statistics: counts }: LaunchResult, event: LaunchEvent): void => {
    const { kernel, layer, at } = event;
    if (options.stats !== undefined)
      statistics.push({ entry, kernel: kernel.name, layer, at: at ?? null, statistics: counts });
    const { file, text } = textOf(kernel.name);
    const found = reports.map((report): Diagnostic => {
      const d = reportDiagnostic(file, text)(report);
      const by = at === undefined ? [] : [{ message: `launched for ${at}` }];
      return { ...d, notes: [...(d.notes ?? []), ...by] };
    });
    // Its results are not to be trusted: what follows would only repeat it.
    if (found.some((d) => d.severity === 'error')) throw new DiagnosticError(found);
    for (const d of found) terminal.report(d);
  };
  const runner = new PlanRunner(core, device, executable, weights, {
    launched,
    launch: (event) => {
      running = event.kernel.name;
      return comparison?.launch(event) ?? (() => {});
    },
  });
  const execute: Execute = (name, inputs) => {
    entry = name;
    try {
      return runner.run(name, inputs);
    } catch (error) {
      const { file, text } = textOf(running);
      const told = isCoreError(error)
        ? [refusalDiagnostic(file, text, error)]
        : error instanceof DiagnosticError
          ? error.diagnostics
          : [];
      if (told.length === 0) throw error;
      // A launch that went wrong before may well be why.
      const before = comparison?.verdict();
      throw new DiagnosticError(before ? [before, ...told] : told);
    }
  };
  return {
    execute: comparison ? comparison.beside(execute) : execute,
    finish: async () => {
      if (options.stats !== undefined) await writeProduct(options.stats, statisticsText(statistics, options));
      const found = comparison?.verdict();
      if (found) terminal.report(found);
    },
  };
}

/** Each launch as it ends, so that a run that stops has said what went before. */
function shownBy(terminal: Terminal): ConstructorParameters<typeof Comparison>[3] {
  let call = 0;
  return (row) => {
    if (terminal.settings.diagnostics === 'json') return terminal.show(jsonLine(row));
    if (row.call !== call) terminal.show(tableHeader(row));
    call = row.call;
    return terminal.show(tableLine(row));
  };
}
