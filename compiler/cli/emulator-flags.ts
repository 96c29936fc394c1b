// The flags of whatever runs on the emulator: `dsvc emu` and `dsvc run --device emulator`.
import { Option, type Command } from 'commander';
import { list, oneOf, wholeNumber } from './flags.ts';
import { tensorCoreModes, type EmulatorOptions } from './options.ts';

/** Flag and option of each, for messages about flags that go together. */
export const emulatorFlags = {
  '--seed': 'seed',
  '--threads': 'threads',
  '--check': 'check',
  '--tensor-core': 'tensorCore',
  '--max-instructions': 'maxInstructions',
  '--sms': 'sms',
  '--stats': 'stats',
} as const satisfies Readonly<Record<string, keyof EmulatorOptions>>;

export const addEmulatorFlags = (command: Command): Command =>
  command
    .addOption(
      new Option('--seed <n>', 'order of everything that has none (default: 0)').argParser(
        wholeNumber('--seed', 0),
      ),
    )
    .addOption(
      new Option(
        '--threads <n>',
        'threads of the host that may be used; results never depend on it',
      ).argParser(wholeNumber('--threads', 1)),
    )
    .addOption(
      new Option('--check <what,…>', 'all, none, or codes of --list-checks; memory safety is always checked')
        .argParser(list)
        .default([], 'all'),
    )
    .addOption(
      new Option(
        '--tensor-core <mode>',
        'exact: sums as the chip does; f32: plain sums, faster (default: exact)',
      ).argParser(oneOf('--tensor-core', tensorCoreModes)),
    )
    .addOption(
      new Option('--max-instructions <n>', 'end a launch after so many instructions of warps').argParser(
        wholeNumber('--max-instructions', 1),
      ),
    )
    .addOption(
      new Option('--sms <n>', 'multiprocessors of the device (default: 132)').argParser(
        wholeNumber('--sms', 1),
      ),
    )
    .option('--stats <file.json>', 'write counts of instructions; - for standard output');
