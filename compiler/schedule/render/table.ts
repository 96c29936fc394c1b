// A simulated schedule in a few lines for people.
import type { Schedule } from '../../../ir/schedule.ts';
import type { PhaseRankTimes, RankTimes, Simulation } from '../simulate.ts';
import { count, show, showSizes, showSpread, showTime, type TimeUnit } from './figures.ts';

export interface TableOptions {
  /** What was simulated with: costs and transfers. */
  readonly subtitle: string;
  readonly unit: TimeUnit;
  /** The bubble by the generator's published formula; null for a schedule that no generator made. */
  readonly formula: number | null;
}

/** Figures of the whole, then a row for each rank. Ends without a line break. */
export function renderTable(
  schedule: Schedule,
  { makespan, ranks }: Simulation,
  { subtitle, unit, formula }: TableOptions,
): string {
  const { activations, stages } = schedule.bounds;
  const promised = formula === null ? '' : `; the formula gives ${showTime(formula, unit)}`;
  const rows = ranks.map((r, rank) => [
    schedule.programs[rank].stages.join(', '),
    show(r.busy / unit.size),
    show(r.bubble / unit.size),
    String(r.peakActivations),
    String(r.peakDeferredWeights),
    ...(hasStreams(r) ? [show(r.exposed / unit.size)] : []),
  ]);
  return [
    `${showSizes(schedule)} (${subtitle})`,
    `makespan ${showTime(makespan, unit)}, bubble ${showSpread(
      ranks.map((r) => r.bubble),
      unit,
    )}${promised}`,
    `live activations ${showSpread(ranks.map((r) => r.peakActivations))}; ${
      ranks.some(hasStreams)
        ? // Streams run on from one op into the next: for that while both ops' chunks are live.
          `the bound is ${activations}, of ops one after the other`
        : `the bound is ${activations}`
    }; ${count(stages, 'stage')} a rank at most`,
    ...aligned([
      [
        'rank',
        'stages',
        'busy',
        'bubble',
        'live',
        'deferred W',
        ...(ranks.some(hasStreams) ? ['exposed'] : []),
      ],
      ...rows.map((row, rank) => [String(rank), ...row]),
    ]),
  ].join('\n');
}

/** Simulated by phases: then exposed communication is known. */
export const hasStreams = (r: RankTimes): r is PhaseRankTimes => 'exposed' in r;

function aligned(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((r) => r[column].length)));
  return rows.map((r) => r.map((cell, column) => cell.padStart(widths[column])).join('  '));
}
