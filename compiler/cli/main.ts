#!/usr/bin/env node
// The command line's entry: reads the arguments, runs one command, turns what it threw into words and an exit code.
// Loads as little as possible itself: help and version must appear at once.
import { CommanderError, type Command } from 'commander';
import type { CrashContext } from './failures.ts';
import { UsageError } from './names.ts';
import { buildProgram } from './program.ts';
import { defaultSettings, logLevels, Terminal, type TerminalSettings } from './terminal.ts';

/** How to talk must be known before the arguments are parsed: their mistakes are already told that way. */
function settingsOf(args: readonly string[]): TerminalSettings {
  const value = (flag: string): string | undefined => {
    let found: string | undefined;
    for (const [i, arg] of args.entries()) {
      if (arg === '--') break;
      if (arg === flag) found = args[i + 1];
      else if (arg.startsWith(`${flag}=`)) found = arg.slice(flag.length + 1);
    }
    return found;
  };
  const pick = <T extends string>(flag: string, known: readonly T[], otherwise: T): T => {
    const given = value(flag);
    return known.find((k) => k === given) ?? otherwise;
  };
  return {
    level: pick('--log-level', logLevels, defaultSettings.level),
    color: pick('--color', ['auto', 'always', 'never'], defaultSettings.color),
    diagnostics: pick('--diagnostics', ['text', 'json'], defaultSettings.diagnostics),
  };
}

/** `--timing` alone means `--timing=tree`; commander's optional values would swallow the next argument. */
const normalized = (args: readonly string[]): string[] =>
  args.map((a) => (a === '--timing' ? '--timing=tree' : a));

const usageCodes: Readonly<Record<string, string>> = {
  'commander.unknownOption': 'unknown-flag',
  'commander.unknownCommand': 'unknown-command',
  'commander.missingArgument': 'missing-argument',
  'commander.optionMissingArgument': 'missing-value',
  'commander.missingMandatoryOptionValue': 'missing-flag',
  'commander.excessArguments': 'excess-arguments',
  'commander.invalidArgument': 'invalid-value',
};

/** Commander's complaint as ours; its suggestion becomes the fix. */
function usageError(error: CommanderError): UsageError {
  const [first, ...rest] = error.message.split('\n');
  const meant = /\(Did you mean (.*)\?\)/.exec(rest.join(' '))?.[1];
  return new UsageError([
    {
      code: `usage/${usageCodes[error.code] ?? 'error'}`,
      severity: 'error',
      message: first.replace(/^error: /, ''),
      fix: meant === undefined ? 'see `dsvc --help`, or `dsvc help COMMAND`' : `did you mean ${meant}?`,
    },
  ]);
}

/** Commander must not write or exit by itself, in any command. */
function tame(command: Command): void {
  command.exitOverride().configureOutput({ outputError: () => {} });
  for (const c of command.commands) tame(c);
}

async function main(args: readonly string[]): Promise<number> {
  const terminal = new Terminal(settingsOf(args));
  const crash: CrashContext = {};
  const failed = async (error: unknown): Promise<number> =>
    (await import('./failures.ts')).reportFailure(error, terminal, crash);
  // Whatever escapes a command's own promises (a callback, a model file's timer) is told like the rest.
  const escaped = (error: unknown): void => void failed(error).then((code) => process.exit(code));
  process.on('uncaughtException', escaped);
  process.on('unhandledRejection', escaped);

  let code: number | void = 0;
  const program = buildProgram({ terminal, crash }, (c) => (code = c));
  tame(program);
  if (args.length === 0) {
    process.stderr.write(program.helpInformation());
    return 2;
  }
  try {
    await program.parseAsync(normalized(args), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) return failed(error);
    return error.exitCode === 0 || error.code === 'commander.help' ? 0 : failed(usageError(error));
  }
  return code ?? (terminal.errors > 0 ? 1 : 0);
}

// `dsvc … | head` closes the pipe early: that is no failure, and there is nobody left to tell.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
    throw error;
  });

// Set, not exit(): pipes are still being written to.
process.exitCode = await main(process.argv.slice(2));
