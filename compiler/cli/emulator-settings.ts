// What the emulator's flags mean: the settings of the core, and the file of --stats.
import { checks, chooseChecks } from '../../runtime/emulator/checks.ts';
import type { Core, DeviceSettings, Statistics } from '../../runtime/emulator/device.ts';
import { loadCore } from '../../runtime/emulator/load-core.ts';
import { NativeMissingError } from '../../runtime/native.ts';
import { checkNames, MissingToolError } from './names.ts';
import type { EmulatorOptions } from './options.ts';

/** The core, or exit code 4 with what to install. */
export function nativeCore(): Core {
  try {
    return loadCore();
  } catch (error) {
    if (!(error instanceof NativeMissingError)) throw error;
    // Its message says what to install.
    throw new MissingToolError([{ code: error.code, severity: 'error', message: error.message }]);
  }
}

const known = checks.map((c) => c.code.replace('emu/', ''));

/** What the flags mean to the core. Throws UsageError for a check that there is not. */
export function deviceSettings(options: EmulatorOptions): DeviceSettings {
  const { check, seed = 0, tensorCore = 'exact', stats, maxInstructions, sms } = options;
  const chosen = chooseChecks(check.length > 0 ? check : ['all']);
  checkNames('check', 'checks', chosen.unknown, known);
  return {
    seed,
    checks: chosen.checks,
    tensorCore,
    statistics: stats !== undefined,
    ...(maxInstructions !== undefined && { maxInstructions }),
    ...(sms !== undefined && { sms }),
  };
}

/** What `--stats` writes of one launch: only what replays exactly, no times, nothing of the host. */
export interface LaunchStatistics {
  readonly statistics: Statistics;
  readonly [more: string]: unknown;
}

/** The form of the statistics; grows when a key changes its meaning or goes. */
const statsVersion = 1;

export function statisticsText(
  launches: readonly LaunchStatistics[],
  { seed = 0, tensorCore = 'exact' }: EmulatorOptions,
): string {
  const rows = launches.map(({ statistics: { seconds: _, ...counts }, ...launch }) => ({
    ...launch,
    ...counts,
  }));
  return `${JSON.stringify({ version: statsVersion, seed, tensorCore, launches: rows }, null, 2)}\n`;
}
