// `dsvc emu`: its flags and its help.
import type { Command } from 'commander';
import { addEmulatorFlags } from './emulator-flags.ts';
import type { Act, Handler } from './session.ts';

export function addEmu(program: Command, act: Act): void {
  const command = program
    .command('emu')
    .summary('run PTX on an emulated sm_90a and report its hazards')
    .description(
      'Runs kernels of any PTX file for sm_50 to sm_90a on the CPU, as a launch file says, and reports what is wrong\n' +
        'with them: at the PTX line and, where the PTX tells it, the line of the source. docs/EMULATOR.md explains the\n' +
        'launch file. A seed chooses the order in which blocks, warps and asynchronous copies proceed, and replays it.',
    )
    .argument('[file.ptx]', 'PTX text, or - for standard input')
    .option('--launch <launch.json>', 'what to run, over which buffers')
    .option('--output <file>', "the launch file's outputs, safetensors (default: not written)");
  addEmulatorFlags(command)
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
