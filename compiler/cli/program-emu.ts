// `dsvc emu`: its flags and its help.
import { Option, type Command } from 'commander';
import { list, oneOf, wholeNumber } from './flags.ts';
import { tensorCoreModes } from './options.ts';
import type { Act, Handler } from './session.ts';

export function addEmu(program: Command, act: Act): void {
  program
    .command('emu')
    .summary('run PTX on an emulated sm_90a and report its hazards')
    .description(
      'Runs kernels of any PTX file for sm_50 to sm_90a on the CPU, as a launch file says, and reports what is wrong\n' +
        'with them: at the PTX line and, where the PTX tells it, the line of the source. docs/EMULATOR.md explains the\n' +
        'launch file. A seed chooses the order in which blocks, warps and asynchronous copies proceed, and replays it.',
    )
    .argument('[file.ptx]', 'PTX text, or - for standard input')
    .option('--launch <launch.json>', 'what to run, over which buffers')
    .option('--output <file>', "the launch file's outputs, safetensors (default: not written)")
    .addOption(
      new Option('--seed <n>', 'order of everything that has none')
        .argParser(wholeNumber('--seed', 0))
        .default(0),
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
      new Option('--tensor-core <mode>', 'exact: sums as the chip does; f32: plain sums, faster')
        .argParser(oneOf('--tensor-core', tensorCoreModes))
        .default('exact'),
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
    .option('--stats <file.json>', 'write counts of instructions; - for standard output')
    .option('--print', 'only print the kernels, their parameters and their instructions')
    .option('--list-checks', 'only print every code that can be reported')
    .addHelpText(
      'after',
      `
Examples:
  dsvc emu kernel.ptx --launch launch.json --output out.safetensors
  dsvc emu kernel.ptx --launch launch.json --output out.safetensors --seed 7 --stats stats.json
  dsvc emu kernel.ptx --print
  dsvc emu --list-checks`,
    )
    .action(act(async () => (await import('./commands/emu.ts')).emu as Handler));
}
