// `dsvc schedule`: makes, checks, simulates and draws pipeline schedules.
import type { Module } from '../../../ir/module.ts';
import { noSpan } from '../../../ir/span.ts';
import { printModule } from '../../../ir/text/printer.ts';
import { makeSchedule, schedulers } from '../../schedule/make.ts';
import { moeLayer } from '../../schedule/phases.ts';
import { show, showSizes, showSpread } from '../../schedule/render/figures.ts';
import { renderJson } from '../../schedule/render/json.ts';
import { renderPair } from '../../schedule/render/pair.ts';
import { renderSvg } from '../../schedule/render/svg.ts';
import { renderTable } from '../../schedule/render/table.ts';
import { renderTrace } from '../../schedule/render/trace.ts';
import { simulatePair } from '../../schedule/simulate.ts';
import { verifySchedule } from '../../schedule/verify.ts';
import { checkWritable, refuseSame, writeProduct } from '../files.ts';
import { badUsage } from '../names.ts';
import type { ScheduleOptions } from '../options.ts';
import { isIr, readSchedule, readSchedules, type ScheduleInput } from '../schedule-input.ts';
import { readCosts, readPhaseCosts, simulated, type Simulated } from '../schedule-times.ts';
import type { Session } from '../session.ts';

export async function schedule(
  session: Session,
  path: string | undefined,
  options: ScheduleOptions,
): Promise<void> {
  refuseConflicts(path, options);
  const { output = '-', costs } = options;
  refuseSame(
    output,
    [path, costs].filter((p) => p !== undefined),
  );
  if (output !== '-') checkWritable(output);
  if (options.check) return check(session, path!);
  if (options.pair) return writeProduct(output, pair(options));
  const { terminal } = session;
  const { transfer = 'async', format = 'text' } = options;
  const known = readCosts(options);
  const input = await readSchedule(path, options, terminal);
  const result = simulated(input.schedule, known, { transfer, events: format === 'trace' });
  await writeProduct(output, renderers[format](input, result));
  const { subtitle, unit, simulation } = result;
  const formula = formulaOf(input, result);
  terminal.info(renderTable(input.schedule, simulation, { subtitle, unit, formula }));
}

const renderers: Readonly<
  Record<NonNullable<ScheduleOptions['format']>, (input: ScheduleInput, result: Simulated) => string>
> = {
  text: ({ schedule: made, module, header }) => printModule(module ?? moduleOf(made), { header }),
  json: ({ schedule: made }, { simulation, transfer, costs }) =>
    renderJson(made, simulation, transfer, costs ? 'cost' : 'us'),
  svg: ({ schedule: made }, { simulation, subtitle, unit }) =>
    renderSvg(made, simulation, { subtitle, unit }),
  trace: ({ schedule: made }, { simulation, subtitle, costs, phases }) =>
    renderTrace(made, simulation, {
      // A cost without a unit is shown as a millisecond: a scale at which viewers are pleasant to use.
      microseconds: costs ? 1000 : 1,
      note: costs ? `${subtitle}; a cost of 1 is shown as 1 ms` : subtitle,
      ...(phases && { phases }),
    }),
};

const moduleOf = (made: ScheduleInput['schedule']): Module => ({
  name: 'schedule',
  attributes: {},
  dims: [],
  states: [],
  functions: [],
  schedules: [made],
});

/** The bubble by the formula of the schedule's generator; null without one, and for costs of phases. */
function formulaOf({ schedule: made }: ScheduleInput, { costs }: Simulated): number | null {
  const scheduler = schedulers.find((s) => s.name === made.kind);
  return costs && scheduler ? scheduler.bubble(made.programs.length, costs) : null;
}

/** Verifies all schedules of a file: mistakes at their places, or a line for each that has none. */
async function check({ terminal }: Session, path: string): Promise<void> {
  const { module } = await readSchedules(path, terminal);
  for (const made of module.schedules) {
    const found = verifySchedule(made);
    for (const d of found) terminal.report(d);
    if (found.some((d) => d.severity === 'error')) continue;
    const { makespan, ranks } = simulated(made, readCosts({}), {
      transfer: 'async',
      events: false,
    }).simulation;
    const live = ranks.map((r) => r.peakActivations);
    terminal.info(
      `${path}: schedule @${made.name} ok: ${showSizes(made)}, makespan ${show(makespan)}, ` +
        `bubble ${showSpread(ranks.map((r) => r.bubble))}; ` +
        `live activations ${showSpread(live)}; the bound is ${made.bounds.activations}`,
    );
  }
}

/** A forward and a backward chunk of so many layers of experts, overlapped as DualPipe does. */
function pair({ layers = 4, costs, format }: ScheduleOptions): string {
  const stage = { layers: [{ layer: moeLayer.name, count: layers }], span: noSpan };
  const smallest = makeSchedule('dualpipe', { ranks: 2, microBatches: 4, stages: [stage, stage] });
  const phaseCosts = readPhaseCosts(costs!);
  return renderPair(simulatePair(smallest, phaseCosts), {
    layers,
    source: phaseCosts.source,
    format: format === 'json' ? 'json' : 'text',
  });
}

const flagOf: Readonly<Record<string, string>> = {
  kind: '--kind',
  ranks: '--ranks',
  microBatches: '--micro-batches',
  cost: '--cost',
  costs: '--costs',
  transfer: '--transfer',
  format: '--format',
  output: '-o',
  layers: '--layers',
  precision: '--precision',
  set: '--set',
};

/** Flags that were given, by the names of their options. */
const given = (options: ScheduleOptions): readonly string[] =>
  Object.entries(options)
    .filter(
      ([name, v]) => flagOf[name] !== undefined && (name !== 'set' || Object.keys(v as object).length > 0),
    )
    .map(([name]) => name);

/** Throws UsageError `usage/conflict` or `usage/missing-argument` for flags that do not go together. */
function refuseConflicts(path: string | undefined, options: ScheduleOptions): void {
  const only = (what: string, allowed: readonly string[]): void => {
    const wrong = given(options).filter((name) => !allowed.includes(name));
    if (wrong.length > 0)
      badUsage('conflict', `${what} takes no ${wrong.map((n) => flagOf[n]).join(', ')}`, 'leave that out');
  };
  const { check: checks, pair: pairs, costs, cost, layers, format } = options;
  if (checks && pairs) badUsage('conflict', '--check and --pair exclude each other', 'give one of them');
  if (checks) {
    only('--check', []);
    if (path === undefined || !isIr(path))
      badUsage('missing-argument', '--check needs IR', 'give a .dsir file, or - for standard input');
    return;
  }
  if (pairs) {
    only('--pair', ['layers', 'costs', 'output', 'format']);
    if (path !== undefined)
      badUsage('conflict', `--pair reads no ${path}`, 'leave it out: --layers says how long the chunks are');
    if (costs === undefined)
      badUsage('missing-flag', '--pair needs --costs', 'see examples/costs for files of costs');
    if (format !== undefined && format !== 'text' && format !== 'json')
      badUsage('conflict', `--pair cannot be shown as ${format}`, 'use --format text or json');
    return;
  }
  if (layers !== undefined)
    badUsage('conflict', '--layers is for --pair', 'leave it out: a model has its own');
  if (cost !== undefined && costs !== undefined)
    badUsage('conflict', '--cost and --costs exclude each other', 'give one of them');
  const run = ['cost', 'costs', 'transfer', 'format', 'output'];
  if (path === undefined) only('a schedule without a model', [...run, 'kind', 'ranks', 'microBatches']);
  else if (isIr(path)) only('a schedule read from IR', run);
}
