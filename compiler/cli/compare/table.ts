// What `--compare` prints of each launch: a line for people, or a JSON object for programs.
import { showSpan } from '../../../ir/span.ts';
import type { ComparedLaunch } from './index.ts';
import type { Distance } from './values.ts';

const widths = [6, 5, 8, 8, 8, 8] as const;
const header = ['launch', 'layer', 'ok', 'max abs', 'rel L2', 'whole L2'] as const;

const line = (cells: readonly string[], rest: readonly string[]): string =>
  [...cells.map((c, i) => c.padStart(widths[i])), ...rest].join('  ');

/** Said once for every call of an entry. */
export const tableHeader = ({ entry, call }: Pick<ComparedLaunch, 'entry' | 'call'>): string =>
  `call ${call}: @${entry}\n${line(header, ['tolerance'.padEnd(20), 'kernel'])}`;

const figure = (n: number | undefined): string =>
  n === undefined ? '-' : n === 0 ? '0' : Number.isFinite(n) ? n.toExponential(1) : 'not finite';

export function tableLine(row: ComparedLaunch): string {
  const { launch, layer, verdict, local, whole, tolerance, kernel, at } = row;
  return line(
    [
      String(launch),
      layer === null ? '-' : String(layer),
      { ok: 'ok', local: 'WRONG', whole: 'STRAYS' }[verdict],
      figure(local?.maxAbs),
      figure(local?.relativeL2),
      // Other experts were chosen: there is nothing to compare.
      whole ? figure(whole.relativeL2) : 'rerouted',
    ],
    [tolerance.padEnd(20), kernel, ...(at.file === '' ? [] : [showSpan(at)])],
  );
}

/** JSON has no infinity. */
const finite = (d: Distance | null): Record<string, number | null> | null =>
  d && {
    maxAbs: Number.isFinite(d.maxAbs) ? d.maxAbs : null,
    relativeL2: Number.isFinite(d.relativeL2) ? d.relativeL2 : null,
  };

export const jsonLine = ({ local, whole, ...row }: ComparedLaunch): string =>
  JSON.stringify({
    code: 'compare/launch',
    severity: 'note',
    ...row,
    local: finite(local),
    whole: finite(whole),
  });
