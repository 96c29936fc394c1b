// The commands, their flags and their help. What a command does stands in commands/ and is loaded when it runs, so that
// `dsvc --help` loads commander and nothing else.
import { Command, Option } from 'commander';
import { addEmulatorFlags } from './emulator-flags.ts';
import { addModelFlags, addPassFlags, list, oneOf, someOf, wholeNumber } from './flags.ts';
import { emitKinds, pipelineNames } from './options.ts';
import { packageVersion } from './package-root.ts';
import { addEmu } from './program-emu.ts';
import { addSchedule } from './program-schedule.ts';
import type { Act, Handler, Outcome, Session } from './session.ts';
import { logLevels } from './terminal.ts';

/** Builds the command line. `finish` is called with the exit code of the command that ran. */
export function buildProgram(session: Session, finish: (code: number | void) => void): Command {
  const program = new Command('dsvc');
  const act: Act =
    (load) =>
    async (...args) => {
      // Commander appends the command itself; no handler needs it.
      const run = (await load()) as (session: Session, ...rest: unknown[]) => Outcome;
      finish(await run(session, ...args.slice(0, -1)));
    };
  program
    .description(
      'Compiles DeepSeek-V3-class models, written in TypeScript, to PTX for the H800.\n' +
        'Products go to files, or to standard output with -o -; everything else goes to standard error.',
    )
    .version(packageVersion(), '-V, --version', 'print the version')
    .addOption(
      new Option('--log-level <level>', `how much to say: ${logLevels.join(', ')}`)
        .default('info')
        .argParser(oneOf('--log-level', logLevels)),
    )
    .addOption(
      new Option(
        '--color <when>',
        'colour on standard error: auto (a terminal, and no NO_COLOR), always, never',
      )
        .default('auto')
        .argParser(oneOf('--color', ['auto', 'always', 'never'])),
    )
    .addOption(
      new Option('--diagnostics <format>', 'text for people, json for programs: one object a line')
        .default('text')
        .argParser(oneOf('--diagnostics', ['text', 'json'])),
    )
    .configureHelp({ showGlobalOptions: true })
    .helpCommand('help [command]', 'show the help of a command')
    .addHelpText(
      'after',
      `
Examples:
  dsvc import config.json -o model.ts           a model file from a published configuration
  dsvc check model.ts                           all mistakes of a model file at once
  dsvc compile model.ts --target h800 -o out    PTX, plan and report
  dsvc run model.ts --weights DIR --input in.safetensors --output out.safetensors

Exit codes: 0 ok, 1 error in the input, 2 bad usage, 3 bug in dsvc, 4 missing tool under --require.`,
    );
  addCheck(program, act);
  addCompile(program, act);
  addRun(program, act);
  addOpt(program, act);
  addSchedule(program, act);
  addEmu(program, act);
  addSmall(program, act);
  return program;
}

function addCheck(program: Command, act: Act): void {
  const command = program
    .command('check')
    .summary('check a model file: shapes, dtypes, names and types')
    .description(
      'Traces a model file, verifies the result and runs the TypeScript checker; reports every mistake at its place.',
    )
    .argument('<model.ts>', 'model file');
  addModelFlags(command, "the target's own")
    .option('--no-types', 'leave the TypeScript checker out')
    .addHelpText(
      'after',
      `
Examples:
  dsvc check model.ts
  dsvc check model.ts --set layers=4 --diagnostics=json`,
    )
    .action(act(async () => (await import('./commands/check.ts')).check as Handler));
}

function addCompile(program: Command, act: Act): void {
  const command = program
    .command('compile')
    .summary('compile a model to a bundle of kernels, plan and report')
    .description(
      'Compiles a model file (or a .dsir file) to a bundle: PTX, cubins where ptxas is found, plan, report.',
    )
    .argument('<model.ts|x.dsir>', 'model file, or IR with --compile-from')
    .addOption(new Option('--target <name>', 'see `dsvc targets`').default('h800'))
    .addOption(
      new Option('--entry <name,…>', 'compile only these entries; repeatable')
        .argParser(list)
        .default([], 'all'),
    )
    .option(
      '-o, --output <dir>',
      'folder of the bundle; with --compile-to, a .dsir file or - for standard output',
    )
    .addOption(
      new Option(
        '--emit <kind,…>',
        `what to write: ${emitKinds.join(', ')} (default: all of them)`,
      ).argParser(someOf('--emit', emitKinds)),
    )
    .option('--compile-to <phase>', 'stop after a phase (trace, or a pass) and write the IR')
    .option(
      '--compile-from <phase>',
      'the input is IR after this phase (trace, or a pass): go on from there',
    );
  addModelFlags(command, 'fp8 for h800');
  addPassFlags(command)
    .option('--dry-run', 'compile, but write nothing: list the files and commands instead')
    .option('--keep', 'also keep what ptxas was given and what it said, in DIR/keep')
    .addOption(
      new Option('-X <tool=flag,…>', 'flags for an external tool, as in -Xptxas=-O1; repeatable')
        .argParser((value: string, before: readonly string[]) => [...before, value])
        .default([], 'none'),
    )
    .option('--resource-usage', 'print registers, spills and shared memory of every kernel')
    .addOption(
      new Option('--require <kind,…>', 'fail with exit code 4 when this cannot be made: cubin')
        .argParser(someOf('--require', ['cubin']))
        .default([], 'nothing'),
    )
    .option('--cache-dir <dir>', 'where assembled kernels are kept (default: $XDG_CACHE_HOME/dsvc)')
    .option('--no-cache', 'neither read nor write the cache')
    .option('--explain-cache', 'say for every kernel why it was assembled or found')
    .addHelpText(
      'after',
      `
Examples:
  dsvc compile model.ts --target h800 -o out
  dsvc compile model.ts --entry decode --precision bf16 --set layers=4 -o out --emit=ptx
  dsvc compile model.ts -o out --dump-dir=ir --timing
  dsvc compile model.ts --compile-to=insert-fp8 -o after.dsir
  dsvc compile after.dsir --compile-from=insert-fp8 -o out`,
    )
    .action(act(async () => (await import('./commands/compile.ts')).compile as Handler));
}

function addRun(program: Command, act: Act): void {
  const command = program
    .command('run')
    .summary('run a model on a checkpoint and inputs')
    .description(
      'Runs an entry of a model file or a bundle on a checkpoint.\n\n' +
        '--entry prefill: input_ids [B, T] i64 gives logits [B, T, V] f32 of all positions.\n' +
        '--entry gradients: gives loss [1] (mean cross entropy of the next tokens) and the gradient of every parameter\n' +
        'under its name in the checkpoint.\n' +
        '--entry decode --steps N: input_ids holds the prompt; gives prefill_logits, generated_ids [B, N], step_logits\n' +
        '[B, N+1, V] (row 0: the last prompt position; row i: after feeding generated_ids[i-1]) and the caches as\n' +
        'cache.L.<field> [B, T+N, …]. The next token is the largest logit, the lowest index on ties, unless the input\n' +
        'holds forced_ids [B, N].',
    )
    .argument('<model.ts|bundle>', 'model file or compiled bundle')
    .requiredOption('--weights <dir|file>', 'checkpoint: a folder, an index or a .safetensors file')
    .requiredOption('--input <file>', 'inputs, safetensors')
    .requiredOption('--output <file>', 'results, safetensors')
    .option(
      '--device <name>',
      'ref: the reference interpreter, on the IR after all passes; emulator: the PTX, on an emulated H800',
      'ref',
    )
    .addOption(new Option('--entry <name>', 'prefill, decode or gradients').default('prefill'))
    .addOption(new Option('--steps <n>', 'tokens to generate (decode)').argParser(wholeNumber('--steps', 0)));
  addModelFlags(command, 'fp8 for FP8 checkpoints, else f32');
  command
    .addOption(
      new Option(
        '--capture <what,…>',
        'also write: hidden (residual stream), router (logits, indices, weights)',
      )
        .argParser(someOf('--capture', ['hidden', 'router']))
        .default([], 'nothing'),
    )
    .addOption(
      new Option('--numerics <mode>', 'f64: no rounding to the dtypes in between').argParser(
        oneOf('--numerics', ['f64']),
      ),
    )
    .addOption(
      new Option(
        '--compare <device>',
        'ref: print how far each launch of the emulator is from the interpreter; fail when one is too far',
      ).argParser(oneOf('--compare', ['ref'])),
    );
  addEmulatorFlags(command);
  addPassFlags(command)
    .addHelpText(
      'after',
      `
Examples:
  dsvc run model.ts --weights checkpoint --input prompt.safetensors --output logits.safetensors
  dsvc run model.ts --entry decode --steps 16 --weights checkpoint --input prompt.safetensors --output out.safetensors
  dsvc run model.ts --capture hidden,router --numerics=f64 --weights c --input i.safetensors --output o.safetensors
  dsvc run bundle --device emulator --compare ref --weights c --input i.safetensors --output o.safetensors`,
    )
    .action(act(async () => (await import('./commands/run.ts')).run as Handler));
}

function addOpt(program: Command, act: Act): void {
  const command = program
    .command('opt')
    .summary('parse, verify and transform IR text')
    .description(
      'Reads IR text (- for standard input), verifies it, runs passes and prints the result. Without passes a printed\n' +
        'file comes back byte for byte. Runs the reproducers and dumps that other commands write.',
    )
    .argument('<x.dsir>', 'IR text, or - for standard input')
    .addOption(
      new Option('--pass <name,…>', 'run these passes in this order; repeatable')
        .argParser(list)
        .default([], 'none'),
    )
    .addOption(
      new Option('--pipeline [name]', `run all passes of a pipeline: ${pipelineNames.join(', ')}`)
        .preset('inference')
        .argParser(oneOf('--pipeline', pipelineNames)),
    )
    .option('-o, --output <file>', 'write the result there, - for standard output (default: only verify)');
  addPassFlags(command)
    .addHelpText(
      'after',
      `
Examples:
  dsvc opt x.dsir -o -
  dsvc opt 003-fuse-gate-up.dsir --pass insert-fp8 -o -
  dsvc opt - --pipeline=training --print-ir-after-change -o out.dsir < x.dsir`,
    )
    .action(act(async () => (await import('./commands/opt.ts')).opt as Handler));
}

function addSmall(program: Command, act: Act): void {
  program
    .command('import')
    .summary('write a model file from a published config.json')
    .description('Writes a model file from the config.json of a DeepSeek-V2 or V3 checkpoint.')
    .argument('<config.json>', 'configuration as published')
    .requiredOption('-o, --output <file>', 'model file to write, - for standard output')
    .addHelpText('after', '\nExample:\n  dsvc import DeepSeek-V3/config.json -o model.ts')
    .action(act(async () => (await import('./commands/import.ts')).importModel as Handler));
  const format = (): Option =>
    new Option('--format <format>', 'text or json')
      .default('text')
      .argParser(oneOf('--format', ['text', 'json']));
  program
    .command('targets')
    .summary('list what can be compiled for')
    .description('Lists the targets of `dsvc compile --target`.')
    .addOption(format())
    .addHelpText('after', '\nExample:\n  dsvc targets --format json')
    .action(act(async () => (await import('./commands/lists.ts')).targets as Handler));
  program
    .command('passes')
    .summary('list the passes in their order')
    .description(
      'Lists the passes of the pipeline in order, what each is for, and whether it can be disabled.',
    )
    .addOption(format())
    .addHelpText('after', '\nExample:\n  dsvc passes')
    .action(act(async () => (await import('./commands/lists.ts')).passes as Handler));
}
