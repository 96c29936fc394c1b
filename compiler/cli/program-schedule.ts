// `dsvc schedule`: its flags and its help, beside program.ts because they are many.
import { Option, type Command } from 'commander';
import { addModelFlags, oneOf, wholeNumber } from './flags.ts';
import { scheduleFormats, scheduleKinds, transferModes } from './options.ts';
import type { Act, Handler } from './session.ts';

export function addSchedule(program: Command, act: Act): void {
  const command = program
    .command('schedule')
    .summary('make, check, simulate and draw pipeline schedules')
    .description(
      'Makes a pipeline schedule, simulates it and writes it as IR text, JSON, a trace for Perfetto or a picture.\n' +
        'A model file gives kind, ranks, micro-batches and stages by its deployment; a .dsir file gives the schedule\n' +
        'itself. --check verifies a .dsir file, --pair simulates one overlapped pair of chunks.',
    )
    .argument('[model.ts|x.dsir]', 'model file, or IR with a schedule; - for IR on standard input')
    .addOption(
      new Option(
        '--kind <name>',
        `${scheduleKinds.join(', ')} (default: the model's, or dualpipe)`,
      ).argParser(oneOf('--kind', scheduleKinds)),
    )
    .addOption(
      new Option('--ranks <n>', "pipeline ranks (default: the model's)").argParser(wholeNumber('--ranks', 1)),
    )
    .addOption(
      new Option('--micro-batches <n>', "micro-batches of a step (default: the model's)").argParser(
        wholeNumber('--micro-batches', 1),
      ),
    )
    .option(
      '--cost <F=…,…>',
      'durations of operations: F, B, I (of inputs), W (of weights), FB (overlapped) (default: F=1,B=2,I=1,W=1,FB=3)',
    )
    .option('--costs <file.json>', 'durations of phases, instead of --cost')
    .addOption(
      new Option(
        '--transfer <mode>',
        'async: computing goes on; blocking: a commit waits for its peers (default: async)',
      ).argParser(oneOf('--transfer', transferModes)),
    )
    .addOption(
      new Option('--format <format>', `${scheduleFormats.join(', ')} (default: text)`).argParser(
        oneOf('--format', scheduleFormats),
      ),
    )
    .option('-o, --output <file>', 'write there (default: -, standard output)')
    .option('--check', 'only verify the schedules of a .dsir file')
    .option('--pair', 'only simulate a forward and a backward chunk overlapped, with --costs')
    .addOption(
      new Option('--layers <n>', 'layers of each chunk of --pair (default: 4)').argParser(
        wholeNumber('--layers', 1),
      ),
    );
  addModelFlags(command, 'fp8')
    .addHelpText(
      'after',
      `
Examples:
  dsvc schedule --kind dualpipe --ranks 8 --micro-batches 20
  dsvc schedule --ranks 8 --micro-batches 20 --format svg -o dualpipe.svg
  dsvc schedule model.ts --costs costs.json --format trace -o trace.json
  dsvc schedule --check edited.dsir
  dsvc schedule --pair --layers 4 --costs costs.json`,
    )
    .action(act(async () => (await import('./commands/schedule.ts')).schedule as Handler));
}
