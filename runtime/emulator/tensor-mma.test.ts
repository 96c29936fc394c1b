// mma.sync through the emulator against the independent model, every shape and type; fragments as the ISA's formulas say.
import { describe, expect, test } from 'vitest';
import { Random, registers, runFragments } from './testing/tensor-bench.ts';
import {
  fp8MmaSum,
  fusedSum,
  integerSum,
  mmaSum,
  type FormatName,
  type SumKind,
} from './testing/tensor-model.ts';
import {
  bitsOfElement,
  drawAccumulator,
  drawCode,
  integerOf,
  isIntegerElement,
  moods,
  type Mood,
} from './testing/tensor-values.ts';

type Place = readonly [row: number, column: number];
/** Element `i` of lane 4g + q. */
type Formula = (i: number, g: number, q: number) => Place;

// The ISA's formulas for A (row, k) and B (k, column), by shape and bits of an element, as its text gives them.
const layouts: Readonly<Record<string, { readonly a: Formula; readonly b: Formula }>> = {
  'm16n8k4 32': { a: (i, g, q) => [i === 0 ? g : g + 8, q], b: (_, g, q) => [q, g] },
  'm16n8k8 32': {
    a: (i, g, q) => [i === 0 || i === 2 ? g : g + 8, i < 2 ? q : q + 4],
    b: (i, g, q) => [i === 0 ? q : q + 4, g],
  },
  'm16n8k8 16': { a: (i, g, q) => [i < 2 ? g : g + 8, q * 2 + (i & 1)], b: (i, g, q) => [q * 2 + i, g] },
  'm16n8k16 16': {
    a: (i, g, q) => [i < 2 || (i >= 4 && i < 6) ? g : g + 8, q * 2 + (i & 1) + (i < 4 ? 0 : 8)],
    b: (i, g, q) => [q * 2 + (i & 1) + (i < 2 ? 0 : 8), g],
  },
  'm8n8k16 8': { a: (i, g, q) => [g, q * 4 + i], b: (i, g, q) => [q * 4 + i, g] },
  'm16n8k16 8': { a: (i, g, q) => [i < 4 ? g : g + 8, q * 4 + (i & 3)], b: (i, g, q) => [q * 4 + i, g] },
  'm16n8k32 8': {
    a: (i, g, q) => [i < 4 || (i >= 8 && i < 12) ? g : g + 8, q * 4 + (i & 3) + (i < 8 ? 0 : 16)],
    b: (i, g, q) => [q * 4 + (i & 3) + (i < 4 ? 0 : 16), g],
  },
  'm8n8k32 4': { a: (i, g, q) => [g, q * 8 + i], b: (i, g, q) => [q * 8 + i, g] },
  'm16n8k32 4': { a: (i, g, q) => [i < 8 ? g : g + 8, q * 8 + (i & 7)], b: (i, g, q) => [q * 8 + i, g] },
  'm16n8k64 4': {
    a: (i, g, q) => [i < 8 || (i >= 16 && i < 24) ? g : g + 8, q * 8 + (i & 7) + (i < 16 ? 0 : 32)],
    b: (i, g, q) => [q * 8 + (i & 7) + (i < 8 ? 0 : 32), g],
  },
  'm8n8k128 1': { a: (i, g, q) => [g, q * 32 + i], b: (i, g, q) => [q * 32 + i, g] },
  'm16n8k128 1': { a: (i, g, q) => [i < 32 ? g : g + 8, q * 32 + (i & 31)], b: (i, g, q) => [q * 32 + i, g] },
  'm16n8k256 1': {
    a: (i, g, q) => [i < 32 || (i >= 64 && i < 96) ? g : g + 8, q * 32 + (i & 31) + (i < 64 ? 0 : 128)],
    b: (i, g, q) => [q * 32 + (i & 31) + (i < 32 ? 0 : 128), g],
  },
};
const accumulator: Formula = (i, g, q) => [i < 2 ? g : g + 8, q * 2 + (i & 1)];

interface Form {
  readonly m: number;
  readonly k: number;
  readonly d: string;
  readonly a: string;
  readonly b: string;
  readonly c: string;
  readonly extra?: string;
}
const form = (m: number, k: number, d: string, a: string, b: string, c: string, extra = ''): Form => ({
  m,
  k,
  d,
  a,
  b,
  c,
  extra,
});

const forms: readonly Form[] = [
  form(16, 8, 'f32', 'f16', 'f16', 'f32'),
  form(16, 8, 'f16', 'f16', 'f16', 'f16'),
  form(16, 16, 'f32', 'f16', 'f16', 'f32'),
  form(16, 16, 'f16', 'f16', 'f16', 'f16'),
  form(16, 8, 'f32', 'bf16', 'bf16', 'f32'),
  form(16, 16, 'f32', 'bf16', 'bf16', 'f32'),
  form(16, 4, 'f32', 'tf32', 'tf32', 'f32'),
  form(16, 8, 'f32', 'tf32', 'tf32', 'f32'),
  ...['f32', 'f16'].flatMap((d) =>
    [16, 32].flatMap((k) =>
      ['e4m3', 'e5m2'].flatMap((a) => ['e4m3', 'e5m2'].map((b) => form(16, k, d, a, b, d))),
    ),
  ),
  ...[
    [8, 16],
    [16, 16],
    [16, 32],
  ].flatMap(([m, k]) =>
    ['s8', 'u8'].flatMap((a) =>
      ['s8', 'u8'].flatMap((b) => ['', '.satfinite'].map((x) => form(m, k, 's32', a, b, 's32', x))),
    ),
  ),
  ...[
    [8, 32],
    [16, 32],
    [16, 64],
  ].flatMap(([m, k]) =>
    ['s4', 'u4'].flatMap((a) => ['s4', 'u4'].map((b) => form(m, k, 's32', a, b, 's32', '.satfinite'))),
  ),
  ...[
    [8, 128],
    [16, 128],
    [16, 256],
  ].flatMap(([m, k]) => ['.xor.popc', '.and.popc'].map((x) => form(m, k, 's32', 'b1', 'b1', 's32', x))),
];

const spell = ({ m, k, d, a, b, c, extra = '' }: Form): string => {
  const before = extra === '.satfinite' ? extra : '';
  return `mma.sync.aligned.m${m}n8k${k}.row.col${before}.${d}.${a}.${b}.${c}${before ? '' : extra}`;
};

/** Codes of a matrix, row-major. */
type Matrix = readonly (readonly number[])[];
const matrix = (rows: number, columns: number, draw: () => number): Matrix =>
  Array.from({ length: rows }, () => Array.from({ length: columns }, draw));

function expected(f: Form, a: readonly number[], b: readonly number[], c: number): number {
  if (f.a === 'b1') {
    const isXor = f.extra === '.xor.popc';
    const ones = a.reduce((n, x, k) => n + (isXor ? x ^ b[k] : x & b[k]), 0);
    return (c + ones) >>> 0;
  }
  if (isIntegerElement(f.a))
    return integerSum(
      a.map((x) => integerOf(f.a, x)),
      b.map((x) => integerOf(f.b, x)),
      c,
      f.extra === '.satfinite',
    );
  const [an, bn] = [f.a as FormatName, f.b as FormatName];
  if (bitsOfElement[f.a] === 8) return fp8MmaSum(an, bn, f.d as SumKind, a, b, c);
  return fusedSum(mmaSum(an, bn, f.c as SumKind, f.d as SumKind), a, b, c);
}

/** Puts the elements of every lane into `[register][lane]` words. */
function pack(bits: number, count: number, place: Formula, at: (p: Place) => number): number[][] {
  const perWord = 32 / bits;
  const words = Array.from({ length: count / perWord }, () => new Array<number>(32).fill(0));
  for (let lane = 0; lane < 32; lane++)
    for (let i = 0; i < count; i++) {
      const code = at(place(i, lane >> 2, lane & 3));
      const word = words[Math.floor(i / perWord)];
      word[lane] = (word[lane] | (code << (bits * (i % perWord)))) >>> 0;
    }
  return words;
}

function check(f: Form, seed: number): void {
  const r = new Random(seed);
  const [width, isInteger] = [bitsOfElement[f.a], isIntegerElement(f.a)];
  const layout = layouts[`m${f.m}n8k${f.k} ${width}`];
  const tiles = moods.map((mood: Mood) => {
    const draw = (name: string): number =>
      isInteger ? r.next() % 2 ** width : drawCode(r, name as FormatName, mood);
    const c = (): number => {
      if (!isInteger) return drawAccumulator(r, f.c as SumKind, mood);
      return mood === 'alike' ? r.below(1000) : [0x7fffff00, 0x80000100, 0, 0x7fffffff][r.below(4)];
    };
    return {
      a: matrix(f.m, f.k, () => draw(f.a)),
      b: matrix(f.k, 8, () => draw(f.b)),
      c: matrix(f.m, 8, c),
    };
  });
  const counts = { a: (f.m * f.k) / 32, b: (f.k * 8) / 32, c: (f.m * 8) / 32 };
  const [cBits, dBits] = [f.c, f.d].map((x) => (x === 'f16' ? 16 : 32));
  const words = tiles.map((t) => [
    ...pack(width, counts.a, layout.a, ([row, k]) => t.a[row][k]),
    ...pack(width, counts.b, layout.b, ([k, n]) => t.b[k][n]),
    ...pack(cBits, counts.c, accumulator, ([row, n]) => t.c[row][n]),
  ]);
  const [na, nb] = [(counts.a * width) / 32, (counts.b * width) / 32];
  const [nc, nd] = [(counts.c * cBits) / 32, (counts.c * dBits) / 32];
  const vector = (prefix: string, from: number, count: number): string =>
    `{${registers(prefix, from, count)}}`;
  const { outputs, reports } = runFragments(
    {
      threads: 32,
      inputs: na + nb + nc,
      outputs: nd,
      body: `${spell(f)} ${vector('o', 0, nd)}, ${vector('i', 0, na)}, ${vector('i', na, nb)}, ${vector('i', na + nb, nc)};`,
    },
    tiles.length,
    Uint32Array.from(words.flat(2)),
  );
  expect(reports).toEqual([]);
  const [got, want]: [string[], string[]] = [[], []];
  for (const [block, t] of tiles.entries())
    for (let lane = 0; lane < 32; lane++)
      for (let i = 0; i < counts.c; i++) {
        const [row, n] = accumulator(i, lane >> 2, lane & 3);
        const word = Number(outputs[(block * nd + Math.floor((i * dBits) / 32)) * 32 + lane]);
        const code = dBits === 32 ? word : (word >>> (16 * (i % 2))) & 0xffff;
        const column = t.b.map((bRow) => bRow[n]);
        const label = `${moods[block]} [${row}, ${n}]`;
        got.push(`${label} ${code.toString(16)}`);
        want.push(`${label} ${expected(f, t.a[row], column, t.c[row][n]).toString(16)}`);
      }
  expect(got).toEqual(want);
}

describe('mma.sync equals the model bit by bit', () => {
  test.each(forms.map((f, k) => [spell(f), f, k] as const))('%s', (_, f, k) => check(f, 1000 + k));
});
