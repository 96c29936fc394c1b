// A schedule as papers draw it: ranks as rows, time to the right, a box per op with its micro-batch, colours by kind in a
// shade per direction, an overlapped pair as two halves in one frame. Written by hand, so equal schedules give equal
// bytes and the picture needs no program but a browser.
import type { Schedule } from '../../../ir/schedule.ts';
import { printScheduleOp } from '../../../ir/text/schedule-printer.ts';
import type { OpTime, Simulation } from '../simulate.ts';
import {
  drawn,
  halvesOf,
  show,
  showSizes,
  showSpread,
  showStages,
  showTime,
  type DrawnOp,
  type Half,
  type TimeUnit,
} from './figures.ts';

export interface SvgOptions {
  /** Said below the title: costs and transfers. */
  readonly subtitle: string;
  readonly unit: TimeUnit;
}

/** Micro-batches' numbers are written in one size between these, in pixels; a digit is at most 0.64 em wide. */
const font = { largest: 11, smallest: 9, digit: 0.64 } as const;

const row = { height: 34, gap: 6 } as const;
const margin = { top: 62, bottom: 84 } as const;

/** The plot's width in pixels: a page's, or more where boxes would be too narrow for their numbers, up to a limit. */
const plotWidth = { usual: 1240, most: 24_000 } as const;

/** From the lightest (direction 0) to the darkest shade; black text is readable on each. */
const shades: Readonly<Record<Half['kind'], readonly [string, string]>> = {
  forward: ['fde9b0', 'f3ae3d'],
  backward: ['c6e8bd', '6fba62'],
  backward_input: ['c4e4f2', '68b1d8'],
  weights: ['e0d5f0', 'ab91d6'],
};

const legend: Readonly<Record<Half['kind'], string>> = {
  forward: 'forward',
  backward: 'backward',
  backward_input: 'backward for inputs',
  weights: 'backward for weights',
};

const kinds = Object.keys(shades) as Half['kind'][];

/** Between the two shades of a kind by direction. */
function shadeOf(kind: Half['kind'], direction: number, directions: number): string {
  const [light, dark] = shades[kind];
  const part = directions > 1 ? direction / (directions - 1) : 0;
  const mix = (at: number): string => {
    const [from, to] = [light, dark].map((hex) => Number.parseInt(hex.slice(at, at + 2), 16));
    return Math.round(from + (to - from) * part)
      .toString(16)
      .padStart(2, '0');
  };
  return `#${mix(0)}${mix(2)}${mix(4)}`;
}

/** `f1`: CSS class of a kind and direction. */
const classOf = ({ kind, chunk }: Half): string => `${'fbiw'[kinds.indexOf(kind)]}${chunk.direction}`;

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

export const escapeXml = (text: string): string => text.replace(/[&<>"]/g, (c) => escapes[c]);

/** A coordinate: two decimals are finer than any screen. */
const px = (x: number): string => String(Math.round(x * 100) / 100);

/** The whole picture as SVG text with a line break at its end. */
export function renderSvg(
  schedule: Schedule,
  simulation: Simulation,
  { subtitle, unit }: SvgOptions,
): string {
  const { makespan } = simulation;
  const bubble = simulation.ranks.map((r) => r.bubble);
  const title = `${showSizes(schedule)}, makespan ${showTime(makespan, unit)}, bubble ${showSpread(bubble, unit)}`;
  const stages = schedule.programs.map((_, rank) => showStages(schedule, rank));
  const bubbles = bubble.map((b) => `bubble ${showTime(b, unit)}`);
  const left = Math.ceil(widest(['rank 000', ...stages])) + 20;
  const grid = { left, unit, ...fitted(simulation) };
  const end = left + makespan * grid.scale;
  const bottom = margin.top + stages.length * (row.height + row.gap);
  const width = Math.ceil(Math.max(end + widest(bubbles) + 18, left + widest([title]) * 1.4));
  const height = bottom + margin.bottom;
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>${styleOf(schedule, grid.size)}</style>`,
    `<rect class="page" width="${width}" height="${height}"/>`,
    `<text class="title" x="${left}" y="26">${escapeXml(title)}</text>`,
    `<text class="small" x="${left}" y="46">${escapeXml(subtitle)}</text>`,
  ];
  for (const [rank, { ops }] of simulation.ranks.entries()) {
    const y = margin.top + rank * (row.height + row.gap);
    out.push(
      `<g class="rank">`,
      `<text class="label" x="${left - 10}" y="${y + 15}">rank ${rank}</text>`,
      `<text class="small end" x="${left - 10}" y="${y + 29}">${stages[rank]}</text>`,
      `<rect class="idle" x="${left}" y="${y}" width="${px(end - left)}" height="${row.height}"/>`,
      ...drawn(ops).map((t) => boxOf(t, grid, y, `rank ${rank}, ${stages[rank]}`)),
      `<text class="small" x="${px(end + 8)}" y="${y + 21}">${bubbles[rank]}</text>`,
      `</g>`,
    );
  }
  out.push(...axis(makespan, grid, bottom), ...legendOf(schedule, left, bottom + 54), '</svg>');
  return `${out.join('\n')}\n`;
}

/** Pixels of the longest of some short texts: mixed text is narrower than digits. */
const widest = (texts: readonly string[]): number => Math.max(...texts.map((t) => t.length)) * 11 * 0.6;

interface Grid {
  /** Pixels before time 0. */
  readonly left: number;
  /** Pixels for a unit of time. */
  readonly scale: number;
  /** Pixels of the numbers' font. */
  readonly size: number;
  readonly unit: TimeUnit;
}

const numbersWidth = (digits: number, size: number): number => digits * font.digit * size + 4;

const digitsOf = ({ op }: OpTime): number =>
  Math.max(...halvesOf(op).map((h) => String(h.chunk.microBatch).length));

/** The scale at which every box holds its number, and the largest font in which each does. */
function fitted({ makespan, ranks }: Simulation): Pick<Grid, 'scale' | 'size'> {
  const shown = ranks.flatMap((r) => r.ops).filter((t) => t.end > t.start);
  if (shown.length === 0) return { scale: 0, size: font.largest };
  const most = (of: (t: OpTime) => number): number => shown.reduce((m, t) => Math.max(m, of(t)), 0);
  const needed = makespan * most((t) => numbersWidth(digitsOf(t), font.smallest) / (t.end - t.start));
  const scale = Math.min(Math.max(plotWidth.usual, needed), plotWidth.most) / makespan;
  const fits = (size: number): boolean =>
    most((t) => numbersWidth(digitsOf(t), size) / (t.end - t.start)) <= scale * (1 + 1e-9);
  const sizes = [font.largest, 10] as const;
  return { scale, size: sizes.find(fits) ?? font.smallest };
}

/** An op: one box, or two halves in a frame; its text in words as a tooltip. */
function boxOf(time: DrawnOp, { left, scale, size, unit }: Grid, y: number, rank: string): string {
  const { op, start, end, from, to } = time;
  const x = left + from * scale;
  const width = (to - from) * scale;
  const halves = halvesOf(op);
  const height = row.height / halves.length;
  // A number that does not fit is left to the tooltip: in a picture of the largest width, or a box that was cut.
  const fits = width * (1 + 1e-9) >= numbersWidth(digitsOf(time), size);
  const parts = halves.map((half, i) => {
    const top = y + i * height;
    const box = `<rect class="${classOf(half)}" x="${px(x)}" y="${px(top)}" width="${px(width)}" height="${px(height)}"/>`;
    const middle = top + height / 2 + size * 0.36;
    return fits
      ? `${box}<text x="${px(x + width / 2)}" y="${px(middle)}">${half.chunk.microBatch}</text>`
      : box;
  });
  const frame =
    halves.length === 1
      ? ''
      : `<rect class="pair" x="${px(x + 0.75)}" y="${px(y + 0.75)}" width="${px(Math.max(0, width - 1.5))}" height="${row.height - 1.5}"/>`;
  const words = escapeXml(
    `${rank}: ${printScheduleOp(op)}, ${showTime(start, unit)} to ${showTime(end, unit)}`,
  );
  return `<g><title>${words}</title>${parts.join('')}${frame}</g>`;
}

function axis(makespan: number, { left, scale, unit }: Grid, y: number): readonly string[] {
  const out = [
    '<g class="ticks">',
    `<line class="axis" x1="${left}" y1="${y}" x2="${px(left + makespan * scale)}" y2="${y}"/>`,
    `<text class="small end" x="${left - 10}" y="${y + 18}">${unit.name === '' ? 'time' : `time, ${unit.name}`}</text>`,
  ];
  const step = stepOf(scale);
  // Counted, not summed up: sums of decimal steps drift.
  for (let i = 0; i * step <= makespan * (1 + 1e-9) && step > 0; i++) {
    const x = px(left + i * step * scale);
    out.push(
      `<line class="axis" x1="${x}" y1="${y}" x2="${x}" y2="${y + 5}"/>`,
      `<text class="small middle" x="${x}" y="${y + 18}">${show((i * step) / unit.size)}</text>`,
    );
  }
  return [...out, '</g>'];
}

/** 1, 2 or 5 times a power of ten: the least that keeps ticks 60 px apart. */
function stepOf(scale: number): number {
  if (scale <= 0) return 0;
  const least = 60 / scale;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * (least <= power ? 1 : least <= 2 * power ? 2 : least <= 5 * power ? 5 : 10);
}

const directionsOf = (schedule: Schedule): number =>
  Math.max(1, ...schedule.programs.map((p) => p.stages.length));

/** Kinds and directions that the schedule has, and the frame of pairs if it has any. */
function legendOf(schedule: Schedule, left: number, y: number): readonly string[] {
  const ops = schedule.programs.flatMap((p) => p.ops);
  const directions = directionsOf(schedule);
  const out = ['<g class="legend">'];
  let x = left;
  const say = (text: string): void => {
    out.push(`<text class="small" x="${x}" y="${y + 12}">${escapeXml(text)}</text>`);
    x += Math.ceil(widest([text])) + 16;
  };
  for (const kind of kinds) {
    const found = ops.some((o) =>
      o.op === 'overlap' ? kind === 'forward' || kind === 'backward' : o.op === kind,
    );
    if (!found) continue;
    for (let direction = 0; direction < directions; direction++) {
      const half = { kind, chunk: { direction, microBatch: 0 } };
      out.push(`<rect class="${classOf(half)}" x="${x}" y="${y}" width="20" height="16"/>`);
      x += 20;
    }
    x += 6;
    say(legend[kind]);
  }
  if (ops.some((o) => o.op === 'overlap')) {
    out.push(`<rect class="pair" x="${x + 0.75}" y="${y + 0.75}" width="18.5" height="14.5"/>`);
    x += 26;
    say('overlapped pair');
  }
  if (directions > 1) say(`shades: direction ${Array.from({ length: directions }, (_, d) => d).join(', ')}`);
  out.push('</g>');
  return out;
}

function styleOf(schedule: Schedule, size: number): string {
  const directions = directionsOf(schedule);
  const fills = kinds.flatMap((kind) =>
    Array.from({ length: directions }, (_, direction) => {
      const half = { kind, chunk: { direction, microBatch: 0 } };
      return `.${classOf(half)}{fill:${shadeOf(kind, direction, directions)};stroke:#fff;stroke-width:.6}`;
    }),
  );
  return [
    `text{font:${size}px "DejaVu Sans",Verdana,Arial,sans-serif;fill:#1b1b1b;text-anchor:middle}`,
    '.title{font-size:15px;font-weight:600;text-anchor:start}.small{font-size:11px;fill:#444;text-anchor:start}',
    '.label{font-size:11px}.label,.end{text-anchor:end}.middle{text-anchor:middle}.page{fill:#fff}.idle{fill:#f1f1f1}',
    '.pair{fill:none;stroke:#1b1b1b;stroke-width:1.5}.axis{stroke:#777}',
    ...fills,
  ].join('');
}
