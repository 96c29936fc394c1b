// What a user asks of `dsvc run`: flags that do not go together are told before anything is read.
import { isBundle } from './bundle-file.ts';
import { emulatorFlags } from './emulator-flags.ts';
import { deviceSettings } from './emulator-settings.ts';
import { checkWritable, refuseSame, requireFile } from './files.ts';
import { badUsage, checkNames } from './names.ts';
import type { RunOptions } from './options.ts';

const devices = ['ref', 'emulator'];
const entries = ['prefill', 'decode', 'gradients'];

/** What is wrong with the flags together. Throws UsageError. */
export function checkRequest(path: string, options: RunOptions): void {
  checkNames('device', 'devices', [options.device], devices);
  checkNames('entry', 'entries', [options.entry], entries);
  if (options.entry === 'decode' && options.steps === undefined)
    badUsage('missing-flag', '--entry decode needs --steps', 'say how many tokens to generate: --steps 16');
  if (options.entry === 'gradients' && (options.device !== 'ref' || isBundle(path)))
    badUsage(
      'conflict',
      '--entry gradients runs a model file in the reference interpreter',
      'give the model file and --device ref',
    );
  if (options.entry !== 'decode' && options.steps !== undefined)
    badUsage('conflict', '--steps is for --entry decode', 'leave --steps out, or use --entry decode');
  if (options.device !== 'ref' && (options.capture.length > 0 || options.numerics))
    badUsage(
      'conflict',
      `${options.numerics ? '--numerics' : '--capture'} is for the reference interpreter`,
      `leave it out, or use --device ref`,
    );
  checkEmulatorFlags(path, options);
  if (options.entry !== 'prefill' && options.capture.length > 0)
    badUsage('conflict', '--capture is for --entry prefill', 'capture the prompt with --entry prefill');
  refuseSame(options.output, [path, options.input, options.weights]);
  checkWritable(options.output);
  if (!isBundle(path)) requireFile(path, 'a model file or a bundle');
  else if (
    options.precision !== undefined ||
    Object.keys(options.set).length > 0 ||
    options.disablePass.length > 0
  )
    badUsage(
      'conflict',
      'a bundle is compiled already: --precision, --set and --disable-pass come too late',
      'give the model file',
    );
}

/** Flags of the emulator are for it alone; what it writes must have a place. */
function checkEmulatorFlags(path: string, options: RunOptions): void {
  const { device, compare, check, stats, output, input, weights } = options;
  const given = [
    ...Object.entries(emulatorFlags).flatMap(([flag, name]) =>
      (name === 'check' ? check.length > 0 : options[name] !== undefined) ? [flag] : [],
    ),
    ...(compare === undefined ? [] : ['--compare']),
  ];
  if (device === 'ref' && given.length > 0)
    badUsage('conflict', `${given[0]} is for the emulator`, 'leave it out, or use --device emulator');
  if (device === 'emulator') deviceSettings(options);
  if (stats === undefined || stats === '-') return;
  refuseSame(stats, [path, input, weights, output]);
  checkWritable(stats);
}
