// The emulator as a device of `dsvc run`: what it says about a kernel is a diagnostic of that kernel's PTX.
import { DiagnosticError } from '../../ir/diagnostics.ts';
import { WeightCache, type WeightSource } from '../../ir/interpret/weights.ts';
import { loadCore } from '../../runtime/emulator/load-core.ts';
import { NativeMissingError } from '../../runtime/native.ts';
import { reportDiagnostic } from './emu-diagnostics.ts';
import { MissingToolError } from './names.ts';
import { PlanRunner, type Executable } from './plan-runner.ts';
import type { Execute } from './run-entries.ts';
import type { Terminal } from './terminal.ts';

/**
 * Runs entries of a compiled module on the emulator. Throws MissingToolError when its core is not built, and
 * DiagnosticError at the first launch that it finds an error in.
 */
export function onEmulator(
  executable: Executable,
  weights: WeightSource | WeightCache,
  terminal: Terminal,
): Execute {
  let core;
  try {
    core = loadCore();
  } catch (error) {
    if (!(error instanceof NativeMissingError)) throw error;
    throw new MissingToolError([{ code: error.code, severity: 'error', message: error.message }]);
  }
  const device = core.createDevice({ checks: ['all'] });
  const cache = weights instanceof WeightCache ? weights : new WeightCache(weights);
  const ptx = new Map(executable.kernels.map((k) => [k.name, k.ptx]));
  const runner = new PlanRunner(core, device, executable, cache, {
    launched: ({ reports }, { kernel: { name }, at }) => {
      const file = `${name}.ptx`;
      const text = ptx.get(name) ?? '';
      if (reports.length > 0) terminal.addText(file, text);
      for (const report of reports) {
        const found = reportDiagnostic(file, text)(report);
        const notes = [
          ...(found.notes ?? []),
          ...(at === undefined ? [] : [{ message: `launched for ${at}` }]),
        ];
        if (report.severity === 'error') throw new DiagnosticError([{ ...found, notes }]);
        terminal.report({ ...found, notes });
      }
    },
  });
  return (entry, inputs) => runner.run(entry, inputs);
}
