// What commands say at their end.
import type { Compiled, KernelReport } from '../compile.ts';
import { entriesOf } from '../weights.ts';
import type { Cubin } from './cubins.ts';
import type { PassOptions } from './options.ts';
import type { Terminal } from './terminal.ts';
import type { Timings } from './timings.ts';

/** `--timing`: the tree for people; the other formats go to standard error too unless a folder takes them. */
export function showTimings(timings: Timings, { timing }: PassOptions, terminal: Terminal): void {
  if (timing === 'tree') terminal.show(timings.tree());
  else if (timing === 'json') terminal.show(timings.json());
  else if (timing === 'chrome') terminal.show(timings.chrome());
}

const number = (n: number): string => n.toLocaleString('en-US');
const gib = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const count = (n: number, thing: string): string => `${number(n)} ${thing}${n === 1 ? '' : 's'}`;

/** At most ten lines about a compilation. */
export function summary(
  compiled: Compiled,
  cubins: readonly Cubin[],
  timings: Timings,
  folder: string | null,
): string {
  const { report, module, kernels } = compiled;
  const entries = entriesOf(module).map((f) => f.name);
  const families = new Map<string, number>();
  for (const k of kernels) families.set(k.family, (families.get(k.family) ?? 0) + 1);
  const byFamily = [...families].map(([name, n]) => `${n} ${name}`).join(', ');
  const cached = cubins.filter((c) => c.cached).length;
  const spilling = cubins.filter(
    (c) => c.resources.spills.storeBytes + c.resources.spills.loadBytes > 0,
  ).length;
  const slowest = timings.slowest(3).map((p) => `${p.name} ${(p.milliseconds / 1000).toFixed(2)} s`);
  const flops = Object.entries(report.flopsPerToken).map(([name, n]) => `${name} ${(n / 1e9).toFixed(2)}`);
  return [
    `${report.model} for ${report.target}, ${report.precision}: ${entries.join(', ')}${folder === null ? '' : ` -> ${folder}`}`,
    `  ${count(report.layers, 'layer')}, ${count(report.uniqueBlocks, 'unique block')}, ${count(kernels.length, 'kernel')}${byFamily === '' ? '' : ` (${byFamily})`}`,
    `  ${number(report.parameters.main)} parameters, ${number(report.kvBytesPerToken)} cache bytes per token, GFLOP per token: ${flops.join(', ') || 'none'}`,
    `  peak memory ${gib(report.peakBytes)} (weights ${gib(report.memory.weights)}, caches ${gib(report.memory.states)}, activations ${gib(report.memory.arena)})`,
    ...(cubins.length > 0
      ? [`  ${count(cubins.length, 'cubin')}, ${cached} from the cache, ${spilling} with spills`]
      : []),
    `  ${(timings.total / 1000).toFixed(2)} s, slowest: ${slowest.join(', ')}`,
  ].join('\n');
}

/** `--resource-usage`: one line a kernel. */
export function resourceTable(kernels: readonly KernelReport[], cubins: readonly Cubin[]): string {
  const byName = new Map(cubins.map((c) => [c.name, c.resources]));
  const rows = kernels.map((k) => {
    const r = byName.get(k.name);
    const spills = r ? r.spills.storeBytes + r.spills.loadBytes : null;
    return [
      k.name,
      k.family,
      k.threads,
      r?.registers ?? '-',
      spills ?? '-',
      r?.stackBytes ?? '-',
      k.sharedBytes,
      r?.barriers ?? '-',
    ].map(String);
  });
  const table = [
    ['kernel', 'family', 'threads', 'registers', 'spill bytes', 'stack', 'shared', 'barriers'],
    ...rows,
  ];
  const widths = table[0].map((_, i) => Math.max(...table.map((row) => row[i].length)));
  return table
    .map((row) =>
      row
        .map((cell, i) => (i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
