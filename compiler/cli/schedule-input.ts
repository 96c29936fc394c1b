// Where `dsvc schedule` has its schedule from: a generator and sizes on the command line, a model file's deployment, or IR
// text. What comes back is verified.
import { basename } from 'node:path';
import { DiagnosticError, fail, type Diagnostic } from '../../ir/diagnostics.ts';
import type { Module } from '../../ir/module.ts';
import type { Schedule } from '../../ir/schedule.ts';
import { declaresPipeline, scheduleOfModel } from '../schedule/from-model.ts';
import { makeSchedule } from '../schedule/make.ts';
import { verifySchedule } from '../schedule/verify.ts';
import { readIr } from './ir-file.ts';
import { loadAndTrace } from './model.ts';
import { badUsage } from './names.ts';
import type { ScheduleOptions } from './options.ts';
import type { Terminal } from './terminal.ts';

export interface ScheduleInput {
  readonly schedule: Schedule;
  /** The module that it stands in; null when it was made for this run. */
  readonly module: Module | null;
  /** Comment lines for its text: how to make it again, or what the input said. */
  readonly header: readonly string[];
}

const defaultKind = 'dualpipe';

export const isIr = (path: string): boolean => path === '-' || path.endsWith('.dsir');

/** Throws UsageError for sizes that are missing, DiagnosticError for those that are refused and schedules that are wrong. */
export async function readSchedule(
  path: string | undefined,
  options: ScheduleOptions,
  terminal: Terminal,
): Promise<ScheduleInput> {
  const input =
    path === undefined
      ? fromSizes(options)
      : isIr(path)
        ? await fromIr(path, terminal)
        : await fromModel(path, options, terminal);
  report(verifySchedule(input.schedule), terminal);
  return input;
}

/** The module of IR text and all its schedules, parsed but not verified as schedules. Throws when there are none. */
export async function readSchedules(
  path: string,
  terminal: Terminal,
): Promise<{ readonly module: Module; readonly header: readonly string[] }> {
  const read = await readIr(path, terminal);
  if (read.module.schedules.length === 0)
    fail({
      code: 'schedule/none',
      message: `${path} has no schedule`,
      fix: 'write one with `dsvc schedule --ranks 8 --micro-batches 20 -o x.dsir`',
    });
  return read;
}

/** Shows warnings and throws errors. */
function report(found: readonly Diagnostic[], terminal: Terminal): void {
  if (found.some((d) => d.severity === 'error')) throw new DiagnosticError(found);
  for (const d of found) terminal.report(d);
}

function fromSizes(options: ScheduleOptions): ScheduleInput {
  const { kind = defaultKind, ranks, microBatches } = options;
  if (ranks === undefined || microBatches === undefined)
    badUsage(
      'missing-flag',
      `${ranks === undefined ? '--ranks' : '--micro-batches'} is missing`,
      'give --ranks and --micro-batches, or a model file whose deployment declares a pipeline',
    );
  return {
    schedule: makeSchedule(kind, { ranks, microBatches }),
    module: null,
    header: [`dsvc schedule --kind ${kind} --ranks ${ranks} --micro-batches ${microBatches}`],
  };
}

async function fromIr(path: string, terminal: Terminal): Promise<ScheduleInput> {
  const { module, header } = await readSchedules(path, terminal);
  const { schedules } = module;
  if (schedules.length > 1)
    fail({
      code: 'schedule/several',
      message: `${path} has ${schedules.length} schedules: ${schedules.map((s) => `@${s.name}`).join(', ')}`,
      fix: 'leave one in the file, or verify all of them with --check',
    });
  return { schedule: schedules[0], module, header };
}

async function fromModel(path: string, options: ScheduleOptions, terminal: Terminal): Promise<ScheduleInput> {
  const { precision = 'fp8', set, kind, ranks, microBatches } = options;
  const module = await loadAndTrace(path, { precision, target: 'h800', set }, terminal);
  const schedule = scheduleOfModel(module, {
    // The model's word goes before our default.
    ...(kind !== undefined ? { kind } : !declaresPipeline(module) && { kind: defaultKind }),
    ...(ranks !== undefined && { ranks }),
    ...(microBatches !== undefined && { microBatches }),
  });
  return {
    schedule,
    module: null,
    header: [
      `dsvc schedule ${basename(path)} --kind ${schedule.kind} --ranks ${schedule.programs.length} --micro-batches ${schedule.microBatches}`,
    ],
  };
}
