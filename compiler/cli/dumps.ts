// What is printed and dumped around passes. A dump's first line is the exact command that repeats its pass on the
// dump before it.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { printFunction, printModule } from '../../ir/text/printer.ts';
import type { Module } from '../../ir/module.ts';
import type { Pass, PipelineOptions } from '../pass.ts';
import { fail } from '../../ir/diagnostics.ts';
import { regexOf } from './flags.ts';
import { badUsage, checkNames } from './names.ts';
import type { PassOptions } from './options.ts';
import type { Terminal } from './terminal.ts';
import type { Timings } from './timings.ts';

type PassEvent = Parameters<NonNullable<PipelineOptions['onPass']>>[0];

/** The comment lines at the head of what a pass made. */
export const dumpHeader = (
  command: string,
  same: boolean,
  before: number,
  after: number,
): readonly string[] => [command, same ? 'no change' : `ops: ${before} -> ${after}`];

const dumpName = /^\d{3}-[a-z0-9-]+\.dsir$/;

export class PassObserver {
  readonly #options: PassOptions;
  readonly #terminal: Terminal;
  readonly #timings: Timings;
  readonly #filter: RegExp | undefined;
  #previous = '';
  /** The module after the last pass that ended well. */
  last: Module | undefined;

  /** Throws UsageError for passes that are unknown or required, or a bad expression, DiagnosticError when the dump folder cannot be made. */
  constructor(options: PassOptions, passes: readonly Pass[], terminal: Terminal, timings: Timings) {
    checkNames(
      'pass',
      'passes',
      [...options.disablePass, ...options.printIrAfter],
      passes.map((p) => p.name),
    );
    for (const { name } of passes.filter((p) => p.required && options.disablePass.includes(p.name)))
      badUsage(
        'required-pass',
        `${name} cannot be disabled: later passes need it`,
        '`dsvc passes` says which can',
      );
    this.#filter = regexOf('--dump-filter', options.dumpFilter);
    this.#options = options;
    this.#terminal = terminal;
    this.#timings = timings;
    if (options.dumpDir !== undefined) checkFolder(options.dumpDir);
  }

  /** The module that the first pass gets; `command` made it. */
  begin(module: Module, name: string, command: string): void {
    this.last = module;
    if (this.#options.dumpDir !== undefined) prepare(this.#options.dumpDir);
    this.#dump(0, name, module, [command]);
  }

  readonly onPass = ({ pass, index, after, record }: PassEvent): void => {
    this.last = after;
    this.#timings.add(pass.name, record.milliseconds);
    const { printIrAfter, printIrAfterAll, printIrAfterChange } = this.#options;
    if (printIrAfterAll || printIrAfter.includes(pass.name) || (printIrAfterChange && record.changed))
      this.#terminal.show(
        `// ----- after ${pass.name}${record.changed ? '' : ' (no change)'} -----\n${this.#text(after, [])}`,
      );
    const command = `dsvc opt ${this.#previous} --pass ${pass.name} -o -`;
    this.#dump(
      index,
      pass.name,
      after,
      dumpHeader(command, !record.changed, record.opsBefore, record.opsAfter),
    );
  };

  #dump(index: number, name: string, module: Module, header: readonly string[]): void {
    if (this.#options.dumpDir === undefined) return;
    const file = `${String(index).padStart(3, '0')}-${name}.dsir`;
    writeFileSync(join(this.#options.dumpDir, file), this.#text(module, header));
    this.#previous = file;
  }

  #text(module: Module, header: readonly string[]): string {
    if (!this.#filter) return printModule(module, { header });
    const functions = module.functions.filter((f) => this.#filter!.test(f.name));
    const lines = [
      ...header,
      `only the functions whose name matches ${this.#filter.source}: cannot be read back`,
    ];
    return `${lines.map((l) => `// ${l}\n`).join('')}${functions.map(printFunction).join('\n')}`;
  }
}

/** Refuses a dump folder that cannot be one, before any work is done. */
function checkFolder(folder: string): void {
  let path = resolve(folder);
  while (!existsSync(path)) path = dirname(path);
  if (!statSync(path).isDirectory())
    fail({
      code: 'file/not-a-folder',
      message: `the dump folder ${folder} is or lies in a file`,
      fix: 'give another --dump-dir',
    });
}

/** Makes the folder, and takes the dumps of an earlier run out of it: they would pass for this one's. */
function prepare(folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const name of readdirSync(folder)) {
    if (!dumpName.test(name)) continue;
    const path = join(folder, name);
    if (readFileSync(path, 'utf8').startsWith('// dsvc ')) rmSync(path);
  }
}
