// The figures of one overlapped pair of chunks, for people and for programs.
import type { PairTimes } from '../simulate.ts';
import { count, round } from './figures.ts';

export interface PairOptions {
  readonly layers: number;
  /** Where the costs come from. */
  readonly source: string;
  readonly format: 'text' | 'json';
}

/** Ends with a line break. Text in milliseconds and shares of the whole; JSON in microseconds. */
export function renderPair(
  { span, streams, exposed, noKernel }: PairTimes,
  { layers, source, format }: PairOptions,
): string {
  if (format === 'json')
    return `${JSON.stringify(
      {
        layers,
        time: round(span),
        computeBusy: round(streams.compute.busy),
        commBusy: round(streams.comm.busy),
        exposedCommunication: round(exposed),
        idle: round(noKernel),
        unit: 'us',
      },
      null,
      2,
    )}\n`;
  const rows: readonly (readonly [string, number])[] = [
    ['time', span],
    ['compute busy', streams.compute.busy],
    ['communication busy', streams.comm.busy],
    ['exposed communication', exposed],
    ['idle', noKernel],
  ];
  const line = ([name, us]: readonly [string, number]): string => {
    const share = span > 0 ? `${((100 * us) / span).toFixed(1).padStart(6)} %` : '';
    return `${name.padEnd(22)}${(us / 1000).toFixed(1).padStart(8)} ms${share}`;
  };
  return [
    `forward and backward of ${count(layers, 'layer')}, overlapped`,
    ...rows.map(line),
    `costs: ${source}`,
    '',
  ].join('\n');
}
