// Flags that several commands share, and how their values are read. Values are checked here or by commander, before a
// command begins, so that a typing mistake costs no compile time.
import { Option, type Command } from 'commander';
import { badUsage, suggestion } from './names.ts';

/** Collects a repeatable, comma-separated list. */
export const list = (value: string, before: readonly string[] = []): readonly string[] => [
  ...before,
  ...value
    .split(',')
    .map((v) => v.trim())
    .filter((v) => v !== ''),
];

/** Collects `name=value` pairs; the last of two values for one name counts. Throws UsageError `usage/setting`. */
export function setting(
  value: string,
  before: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const at = value.indexOf('=');
  const name = value.slice(0, at);
  if (at < 1 || !/^[A-Za-z_][\w.-]*$/.test(name))
    badUsage(
      'setting',
      `--set ${JSON.stringify(value.slice(0, 100))} is not name=value`,
      'write, for example, --set layers=4',
    );
  return { ...before, [name]: value.slice(at + 1) };
}

/** A whole number from `least` up. Throws UsageError `usage/invalid-value`. */
export const wholeNumber =
  (flag: string, least: number) =>
  (value: string): number => {
    const n = Number(value);
    if (!/^\d+$/.test(value) || !Number.isSafeInteger(n) || n < least)
      badUsage(
        'invalid-value',
        `${flag} is ${JSON.stringify(value.slice(0, 100))}`,
        `give a whole number, ${least} or more`,
      );
    return n;
  };

/** One of a few words. Throws UsageError `usage/invalid-value` with the nearest. */
export const oneOf =
  (flag: string, known: readonly string[]) =>
  (value: string): string => {
    if (!known.includes(value))
      badUsage(
        'invalid-value',
        `${flag} cannot be ${JSON.stringify(value.slice(0, 100))}`,
        suggestion(value, known, 'values'),
      );
    return value;
  };

/** A comma-separated list of a few words. */
export const someOf =
  (flag: string, known: readonly string[]) =>
  (value: string, before: readonly string[] = []): readonly string[] => {
    const given = list(value);
    for (const v of given) oneOf(flag, known)(v);
    if (given.length === 0) badUsage('invalid-value', `${flag} is empty`, suggestion('', known, 'values'));
    return [...before, ...given];
  };

export const precisions = ['f32', 'bf16', 'fp8'] as const;

/** `--set`, `--precision`: what a model is traced with. */
export const addModelFlags = (command: Command, precisionDefault: string): Command =>
  command
    .addOption(
      new Option(
        '--precision <plan>',
        `numeric plan: ${precisions.join(', ')} (default: ${precisionDefault})`,
      ).argParser(oneOf('--precision', precisions)),
    )
    .addOption(
      new Option('--set <name=value>', 'change a setting that the model declares; repeatable')
        .argParser(setting)
        .default({}, 'none'),
    );

/** `--disable-pass`, verification, dumps and timing: of every command that runs passes. */
export const addPassFlags = (command: Command): Command =>
  command
    .addOption(
      new Option('--disable-pass <name,…>', 'leave passes out (see `dsvc passes`); repeatable')
        .argParser(list)
        .default([], 'none'),
    )
    .option('--verify-each', 'verify the IR after every pass (default)', true)
    .option('--no-verify-each', 'do not verify between passes')
    .option('--dump-dir <dir>', 'write the IR after every pass to DIR/NNN-pass.dsir')
    .addOption(
      new Option('--print-ir-after <pass,…>', 'print the IR after these passes to stderr; repeatable')
        .argParser(list)
        .default([], 'none'),
    )
    .option('--print-ir-after-all', 'print the IR after every pass to stderr')
    .option('--print-ir-after-change', 'print the IR after every pass that changed it to stderr')
    .option('--dump-filter <regex>', 'print and dump only functions whose name matches')
    .addOption(
      new Option(
        '--timing <format>',
        'what took how long: tree, json, chrome; bare --timing means tree',
      ).argParser(oneOf('--timing', ['tree', 'json', 'chrome'])),
    )
    .option(
      '--reproducer <path>',
      'where the failing module goes if a pass crashes (default: in the current folder)',
    );

/** A regular expression from the user. Throws UsageError `usage/invalid-value`. */
export function regexOf(flag: string, text: string | undefined): RegExp | undefined {
  if (text === undefined) return undefined;
  try {
    return new RegExp(text);
  } catch (error) {
    return badUsage(
      'invalid-value',
      `${flag} is not a regular expression: ${error instanceof Error ? error.message : String(error)}`,
      'escape special characters, or give a plain name',
    );
  }
}
