// One wgmma.mma_async a block on the emulator: matrices into shared memory by the ISA's canonical layouts, accumulators in
// and out by its fragments; and what the model says of it.
import { expect } from 'vitest';
import type { DeviceSettings } from '../device.ts';
import { registers, runFragments, type Random } from './tensor-bench.ts';
import { fusedSum, integerSum, wgmmaSum, type FormatName, type SumKind } from './tensor-model.ts';
import {
  bitsOfElement,
  drawAccumulator,
  drawCode,
  integerOf,
  isIntegerElement,
  type moods,
} from './tensor-values.ts';

export type Matrix = readonly (readonly number[])[];
export const matrix = (
  rows: number,
  columns: number,
  draw: (row: number, column: number) => number,
): Matrix => Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => draw(r, c)));

// --- shared memory: the ISA's canonical layouts, as CuTe writes them ------------------------------------------------

export type Major = 'k' | 'mn';
export type Swizzle = 0 | 32 | 64 | 128;
export interface Layout {
  readonly major: Major;
  readonly swizzle: Swizzle;
  /** Bytes. */
  readonly start: number;
  readonly leading: number;
  readonly stride: number;
}

/** Coordinates of a flat index in a shape, first mode fastest; the last mode takes the rest. */
const split = (index: number, shape: readonly number[]): number[] =>
  shape.map((size, i) => {
    const below = shape.slice(0, i).reduce((p, s) => p * s, 1);
    const rest = Math.floor(index / below);
    return i === shape.length - 1 ? rest : rest % size;
  });
export const dot = (x: readonly number[], y: readonly number[]): number =>
  x.reduce((s, v, i) => s + v * y[i], 0);

/** Byte address of element (mn, k): the canonical layout in elements, then Swizzle<bits, 4, 3> of the address. */
function addressOf(
  { major, swizzle, start, leading, stride }: Layout,
  bits: number,
  mn: number,
  k: number,
): number {
  const t = 128 / bits;
  const [lbo, sbo] = [leading, stride].map((bytes) => (bytes * 8) / bits);
  const units = swizzle / 16;
  let offset: number;
  if (major === 'k') {
    // ((8, m), (T, 2k)) : ((units T, SBO), (1, T)); without swizzle ((1 T, SBO), (1, LBO)).
    offset =
      dot(split(mn, [8, 0]), [Math.max(units, 1) * t, sbo]) + dot(split(k, [t, 0]), [1, swizzle ? t : lbo]);
  } else if (swizzle) {
    // ((T, units, m), (8, k)) : ((1, T, LBO), (units T, SBO)).
    offset = dot(split(mn, [t, units, 0]), [1, t, lbo]) + dot(split(k, [8, 0]), [units * t, sbo]);
  } else {
    // ((T, 1, m), (8, k)) : ((1, T, SBO), (1 T, LBO)).
    offset = dot(split(mn, [t, 0]), [1, sbo]) + dot(split(k, [8, 0]), [t, lbo]);
  }
  const address = start + (offset * bits) / 8;
  const bitsSwizzled = { 0: 0, 32: 1, 64: 2, 128: 3 }[swizzle];
  return address ^ (((address >> 7) & (2 ** bitsSwizzled - 1)) << 4);
}

const descriptorOf = ({ swizzle, start, leading, stride }: Layout): bigint =>
  BigInt((start & 0x3ffff) >> 4) |
  (BigInt((leading & 0x3ffff) >> 4) << 16n) |
  (BigInt((stride & 0x3ffff) >> 4) << 32n) |
  (BigInt({ 0: 0, 128: 1, 64: 2, 32: 3 }[swizzle]) << 62n);

/** Writes a matrix (rows of A, columns of B) into shared memory, whose byte 0 here is address 0x400. */
function place(shared: Uint8Array, layout: Layout, bits: number, rows: Matrix): void {
  for (const [mn, row] of rows.entries())
    for (const [k, code] of row.entries()) {
      if (bits === 1) {
        const at = addressOf(layout, 8, mn, k >> 3) - 0x400;
        shared[at] |= code << (k & 7);
        continue;
      }
      const at = addressOf(layout, bits, mn, k) - 0x400;
      if (at < 0 || at + bits / 8 > shared.length) throw new Error(`element ${mn}, ${k} at ${at}`);
      for (let byte = 0; byte < bits / 8; byte++) shared[at + byte] = (code >>> (8 * byte)) & 255;
    }
}

export const kOf = (element: string): number => 256 / bitsOfElement[element];

/** Dense 128-byte swizzled tiles, A at 0x400 and B behind it. */
const denseA: Layout = { major: 'k', swizzle: 128, start: 0x400, leading: 16, stride: 1024 };
const denseB: Layout = { ...denseA, start: 0x400 + 8192 };

export interface Product {
  readonly n: number;
  readonly d: string;
  readonly a: string;
  readonly b: string;
  readonly inRegisters?: boolean;
  readonly layoutA?: Layout;
  readonly layoutB?: Layout;
  readonly keep?: boolean;
  readonly scales?: readonly [1 | -1, 1 | -1];
  readonly extra?: string;
  readonly settings?: DeviceSettings;
}
export interface Tile {
  /** Rows of A, columns of B (each along k), codes of C. */
  readonly a: Matrix;
  readonly b: Matrix;
  readonly c: Matrix;
}

/** The ISA's accumulator fragment: row and column of element `i` of thread `t`. */
const accumulator = (i: number, t: number): readonly [number, number] => {
  const [w, l] = [t >> 5, t & 31];
  return [16 * w + (l >> 2) + 8 * ((i >> 1) & 1), 8 * (i >> 2) + 2 * (l & 3) + (i & 1)];
};
/** The fragment of A: row and column of element `e` of thread `t`. */
const fragmentOfA = (bits: number, e: number, t: number): readonly [number, number] => {
  const [row, q] = [16 * (t >> 5) + ((t & 31) >> 2), t & 3];
  if (bits === 16) return [row + 8 * ((e >> 1) & 1), 2 * q + (e & 1) + 8 * (e >> 2)];
  if (bits === 8) return [row + 8 * ((e >> 2) & 1), 4 * q + (e & 3) + 16 * (e >> 3)];
  if (bits === 1) return [row + 8 * ((e >> 5) & 1), 32 * q + (e & 31) + 128 * (e >> 6)];
  return [row + 8 * (e & 1), q + 4 * (e >> 1)];
};

const sharedBytes = 0x10000;

export const spell = (p: Product): string => {
  const before = p.extra === '.satfinite' ? p.extra : '';
  return `wgmma.mma_async.sync.aligned.m64n${p.n}k${kOf(p.a)}${before}.${p.d}.${p.a}.${p.b}${before ? '' : (p.extra ?? '')}`;
};

/** One product a block; codes of D by row. */
export function run(p: Product, tiles: readonly Tile[]): Matrix[] {
  const bits = bitsOfElement[p.a];
  const [a, b] = [p.layoutA ?? denseA, p.layoutB ?? denseB];
  const perWord = p.d === 'f16' ? 2 : 1;
  const count = p.n / 2 / perWord;
  const fill = new Uint8Array(sharedBytes * tiles.length);
  const input: number[] = [];
  for (const [block, tile] of tiles.entries()) {
    const shared = fill.subarray(block * sharedBytes, (block + 1) * sharedBytes);
    if (!p.inRegisters) place(shared, a, bits, tile.a);
    place(shared, b, bits, tile.b);
    for (let r = 0; r < count; r++)
      for (let t = 0; t < 128; t++) {
        let word = 0;
        for (let e = 0; e < perWord; e++) {
          const [row, column] = accumulator(r * perWord + e, t);
          word |= tile.c[row][column] << (16 * e);
        }
        input.push(word >>> 0);
      }
    for (let r = 0; r < 4; r++)
      for (let t = 0; t < 128; t++) {
        let word = 0;
        for (let e = 0; e < 32 / bits; e++) {
          const [row, k] = fragmentOfA(bits, (r * 32) / bits + e, t);
          word |= tile.a[row][k] << (bits * e);
        }
        input.push(word >>> 0);
      }
  }
  const [sa, sb] = p.scales ?? [1, 1];
  const transposes =
    bits !== 16 ? '' : `${p.inRegisters ? '' : `, ${Number(a.major === 'mn')}`}, ${Number(b.major === 'mn')}`;
  const scales = isIntegerElement(p.a) ? '' : `, ${sa}, ${sb}${transposes}`;
  const d = registers('o', 0, count);
  const { outputs, reports } = runFragments(
    {
      threads: 128,
      inputs: count + 4,
      outputs: count,
      sharedBytes,
      body: `
mov.b64 %rd0, ${descriptorOf(a)};
mov.b64 %rd1, ${descriptorOf(b)};
mov.b32 %r0, ${Number(p.keep ?? true)};
setp.ne.u32 %p0, %r0, 0;
${Array.from({ length: count }, (_, i) => `mov.b32 %o${i}, %i${i};`).join('\n')}
wgmma.fence.sync.aligned;
${spell(p)} {${d}}, ${p.inRegisters ? `{${registers('i', count, 4)}}` : '%rd0'}, %rd1, %p0${scales};
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;`,
    },
    tiles.length,
    Uint32Array.from(input),
    fill,
    p.settings,
  );
  expect(reports).toEqual([]);
  return tiles.map((_, block) => {
    const out = Array.from({ length: 64 }, () => new Array<number>(p.n).fill(-1));
    for (let i = 0; i < p.n / 2; i++)
      for (let t = 0; t < 128; t++) {
        const [row, column] = accumulator(i, t);
        const word = Number(outputs[(block * count + Math.floor(i / perWord)) * 128 + t]);
        out[row][column] = perWord === 1 ? word : (word >>> (16 * (i % 2))) & 0xffff;
      }
    return out;
  });
}

export const hex = (m: Matrix): string[] => m.map((row) => row.map((x) => x.toString(16)).join(' '));

/** A tile of random codes. */
export function draw(p: Product, r: Random, mood: (typeof moods)[number]): Tile {
  const one = (element: string): number =>
    isIntegerElement(element)
      ? r.next() % 2 ** bitsOfElement[element]
      : drawCode(r, element as FormatName, mood);
  const c = (): number => {
    if (p.d !== 's32') return drawAccumulator(r, p.d as SumKind, mood);
    return mood === 'alike' ? r.below(1000) : [0x7fffff00, 0x80000100, 0, 0x7fffffff][r.below(4)];
  };
  const k = kOf(p.a);
  return { a: matrix(64, k, () => one(p.a)), b: matrix(p.n, k, () => one(p.b)), c: matrix(64, p.n, c) };
}

/** The model's D. */
export function expected(p: Product, t: Tile): Matrix {
  const flip = (element: string, codes: readonly number[], sign: number): readonly number[] => {
    if (sign === 1) return codes;
    const top = 2 ** (bitsOfElement[element] - 1);
    return codes.map((x) => (x >= top ? x - top : x + top));
  };
  return matrix(64, p.n, (row, column) => {
    const c = (p.keep ?? true) ? t.c[row][column] : 0;
    if (p.a === 'b1') return (c + t.a[row].reduce((s, x, k) => s + (x & t.b[column][k]), 0)) >>> 0;
    if (isIntegerElement(p.a))
      return integerSum(
        t.a[row].map((x) => integerOf(p.a, x)),
        t.b[column].map((x) => integerOf(p.b, x)),
        c,
        p.extra === '.satfinite',
      );
    const [sa, sb] = p.scales ?? [1, 1];
    return fusedSum(
      wgmmaSum(p.a as FormatName, p.b as FormatName, p.d as SumKind),
      flip(p.a, t.a[row], sa),
      flip(p.b, t.b[column], sb),
      c,
    );
  });
}
