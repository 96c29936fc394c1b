// The emitted PTX, executed against plain loops, and assembled for every FP8 linear of DeepSeek-V3 when there is a ptxas.
import { readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { noSpan } from '../../../ir/span.ts';
import { decode, encode } from '../../../ir/formats/index.ts';
import {
  defaultEngine,
  machineOf,
  type Engine,
  type LaunchTensorMap,
} from '../../../test/support/machines.ts';
import { assemble } from '../../ptx/ptxas.ts';
import { persistentGrid, type Extent } from '../kernel.ts';
import { chooseFp8GemmTile } from './choose.ts';
import { fp8Gemm } from './fp8.ts';
import type { Fp8GemmPlan } from './plan.ts';

const plan = (over: Partial<Fp8GemmPlan>): Fp8GemmPlan => ({
  name: 'gemm',
  n: 64,
  k: 256,
  outDtype: 'bf16',
  tile: { bm: 64, bn: 32, stages: 3 },
  span: noSpan,
  ...over,
});

// --- execution -----------------------------------------------------------------------------------------------------

/** Small integers: every product and sum is exact in f32, so results compare by equality. */
const smallE4m3 = [0x00, 0x38, 0x40, 0xb8, 0xc0, 0x44]; // 0, 1, 2, -1, -2, 3
const scalesUsed = [0.5, 1, 2, 4];

interface Problem {
  readonly plan: Fp8GemmPlan;
  readonly m: number;
  readonly ctas: number;
  /** Expert of each block of 128 rows; -1 unused. */
  readonly experts?: readonly number[];
  /** Plants a fault: gives the text that is run. */
  readonly ptx?: (text: string) => string;
}

const e4m3Values = Float64Array.from({ length: 256 }, (_, code) => decode('f8e4m3', code));
const e4m3 = (code: number): number => e4m3Values[code]!;
const bf16Bits = (x: number): number => encode('bf16', x);

function makeRandom(seed: number): (n: number) => number {
  let s = seed;
  return (n) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return Math.floor((s / 2 ** 32) * n);
  };
}

/** Lays the operands out in one memory, launches, returns kernel output and expected output as raw element bits. */
function launch(
  { plan, m, ctas, experts, ptx = (text) => text }: Problem,
  seed: number,
  engine: Engine = defaultEngine,
): { got: number[][]; want: number[][] } {
  const { n, k } = plan;
  const pick = makeRandom(seed);
  const expertCount = plan.grouped?.experts ?? 1;
  const kBlocks = Math.ceil(k / 128);
  const nBlocks = Math.ceil(n / 128);
  const outBytes = plan.outDtype === 'bf16' ? 2 : 4;
  const sizes = {
    a: m * k,
    b: expertCount * n * k,
    out: m * n * outBytes,
    aScale: m * kBlocks * 4,
    bScale: expertCount * nBlocks * kBlocks * 4,
    expertOfBlock: (experts?.length ?? 0) * 4,
    totalRows: 4,
    tokenOf: experts ? 4 * m : 0,
  };
  const arrays = Object.fromEntries(
    Object.entries(sizes).map(([name, count]) => {
      const bytes = new Uint8Array(count).fill(0xff);
      return [name, { bytes, view: new DataView(bytes.buffer) }];
    }),
  ) as Record<keyof typeof sizes, { bytes: Uint8Array; view: DataView }>;
  const { a, b, aScale, bScale } = arrays;
  for (const operand of [a, b]) operand.bytes.forEach((_, i) => (operand.bytes[i] = smallE4m3[pick(6)]!));
  for (const { bytes, view } of [aScale, bScale])
    for (let i = 0; i < bytes.length; i += 4) view.setFloat32(i, scalesUsed[pick(4)]!, true);
  experts?.forEach((e, i) => arrays.expertOfBlock.view.setInt32(4 * i, e, true));
  arrays.totalRows.view.setInt32(0, m, true);
  const isPadding = (row: number): boolean => experts !== undefined && row % 128 >= 100;
  for (let row = 0; experts && row < m; row++) {
    arrays.tokenOf.view.setInt32(4 * row, isPadding(row) ? -1 : row, true);
    // Nobody need write what fills up a group: not a number, codes and scales alike.
    if (!isPadding(row)) continue;
    a.bytes.fill(0x7f, row * k, row * k + k);
    aScale.bytes.fill(0xff, 4 * row * kBlocks, 4 * (row + 1) * kBlocks);
  }

  const kernel = fp8Gemm(plan);
  const symbols = { m, rows: m };
  const machine = machineOf(engine, { tensorCore: 'f32' });
  const at = Object.fromEntries(
    Object.entries(arrays).map(([name, { bytes }]) => [name, machine.allocate(bytes, name)]),
  );
  const parameters = kernel.parameters.map((p): number | LaunchTensorMap => {
    if (p.kind === 'pointer') return at[p.name];
    if (p.kind !== 'tensorMap') return m;
    const { dims, stridesBytes, box, dtype, swizzle, tensor } = p.tensorMap;
    const size = (e: Extent): number => ('const' in e ? e.const : symbols[e.symbol as 'm']);
    return {
      ...{ address: at[tensor], dtype, box, swizzle },
      dims: dims.map(size),
      strides: stridesBytes,
    };
  });
  const launched = { ...kernel, ptx: ptx(kernel.ptx), dynamicSharedBytes: kernel.sharedBytes };
  const grid = [Math.min(ctas, persistentGrid(kernel.gridRule, m)), 1, 1] as const;
  machine.launch(launched, { grid, parameters, seed });
  const result = machine.bytesAt(at.out);
  const out = new DataView(result.buffer, result.byteOffset, result.length);

  const bits = new DataView(new ArrayBuffer(4));
  const got: number[][] = [];
  const want: number[][] = [];
  for (let row = 0; row < m; row++) {
    const expert = experts ? experts[Math.floor(row / 128)]! : 0;
    got.push([]);
    want.push([]);
    for (let column = 0; column < n; column++) {
      const o = (row * n + column) * outBytes;
      got[row]!.push(outBytes === 2 ? out.getUint16(o, true) : out.getUint32(o, true));
      let sum = 0;
      for (let kb = 0; kb < kBlocks && !isPadding(row); kb++) {
        let part = 0;
        for (let i = kb * 128; i < Math.min(k, kb * 128 + 128); i++)
          part += e4m3(a.bytes[row * k + i]!) * e4m3(b.bytes[(Math.max(0, expert) * n + column) * k + i]!);
        const scaleRow = Math.max(0, expert) * nBlocks + (column >> 7);
        const aS = aScale.view.getFloat32((row * kBlocks + kb) * 4, true);
        sum += part * aS * bScale.view.getFloat32((scaleRow * kBlocks + kb) * 4, true);
      }
      bits.setFloat32(0, sum);
      // Rows of unused blocks keep the pattern that the memory was filled with.
      want[row]!.push(
        expert < 0
          ? outBytes === 2
            ? 0xffff
            : 0xffffffff
          : outBytes === 2
            ? bf16Bits(sum)
            : bits.getUint32(0),
      );
    }
  }
  return { got, want };
}

// prettier-ignore
test.each<[string, Problem]>([
  ['ragged M, N and K; ring shorter than K', { plan: plan({ n: 72, k: 400, tile: { bm: 64, bn: 32, stages: 3 } }), m: 70, ctas: 2 }],
  ['more tiles than CTAs, 64-byte and 32-byte output chunks', { plan: plan({ n: 104, k: 144, tile: { bm: 64, bn: 48, stages: 2 } }), m: 150, ctas: 1 }],
  ['two warpgroups, tiles that cross blocks of weight scales', { plan: plan({ n: 200, k: 272, tile: { bm: 128, bn: 96, stages: 3 } }), m: 131, ctas: 2 }],
  ['two waves', { plan: plan({ n: 64, k: 272, tile: { bm: 256, bn: 64, stages: 2 } }), m: 260, ctas: 1 }],
  ['f32 output, 128-byte chunks', { plan: plan({ n: 68, k: 144, outDtype: 'f32', tile: { bm: 64, bn: 32, stages: 2 } }), m: 66, ctas: 2 }],
  ['f32 output, 64-byte chunks', { plan: plan({ n: 52, k: 128, outDtype: 'f32', tile: { bm: 128, bn: 48, stages: 2 } }), m: 100, ctas: 1 }],
  ['grouped, an unused block, weights that overhang N', { plan: plan({ n: 40, k: 144, grouped: { experts: 3 }, tile: { bm: 128, bn: 32, stages: 2 } }), m: 512, ctas: 2, experts: [2, 0, -1, 1] }],
  ['grouped, half blocks', { plan: plan({ n: 48, k: 144, grouped: { experts: 2 }, tile: { bm: 64, bn: 16, stages: 2 } }), m: 256, ctas: 1, experts: [1, 0] }],
])('computes: %s', (_, problem) => {
  const { got, want } = launch(problem, 1);
  expect(got).toEqual(want);
});

test('asynchronous work may land in any order', () => {
  const problem = { plan: plan({ n: 40, k: 400, tile: { bm: 64, bn: 32, stages: 2 } }), m: 130, ctas: 1 };
  for (const seed of [2, 3]) {
    const { got, want } = launch(problem, seed);
    expect(got).toEqual(want);
  }
  const { got, want } = launch(problem, 2, 'text');
  expect(got).toEqual(want);
});

/** The text without the instructions that match; fails when there are none, so a fault is really planted. */
const without =
  (pattern: RegExp) =>
  (text: string): string => {
    const lines = text.split('\n');
    const kept = lines.filter((line) => !pattern.test(line));
    expect(kept.length).toBeLessThan(lines.length);
    return kept.join('\n');
  };

// The interpreter of PTX text must notice what it is there for.
test.each<[string, RegExp]>([
  ['math does not wait for a full slot', /bra \$wait_full/],
  ['producers do not wait for an empty slot', /bra \$wait_empty/],
  ['partial sums are read before wgmma has finished', /wgmma\.wait_group/],
  ['nobody says that a slot is empty', /mbarrier\.arrive\.shared::cta/],
  ['the scale warp does not arrive', /cp\.async\.mbarrier\.arrive/],
  ['the phase never flips', /xor\.b32 %phase/],
  ['weight scales are not copied', /@%hasWeightScale0 cp\.async/],
  ['warps do not meet before the store', /bar\.sync %storeBarrier/],
])('a fault shows: %s', (_, pattern) => {
  const problem = { plan: plan({ n: 64, k: 400, tile: { bm: 64, bn: 32, stages: 2 } }), m: 128, ctas: 1 };
  const outcome = (): boolean => {
    try {
      const { got, want } = launch({ ...problem, ptx: without(pattern) }, 1, 'text');
      return JSON.stringify(got) === JSON.stringify(want);
    } catch (e) {
      return !/deadlock|arrivals|threads than|under way/.test(String(e));
    }
  };
  expect(outcome()).toBe(false);
});

// --- text and assembly ---------------------------------------------------------------------------------------------

const accept = 'accept with: UPDATE_FIXTURES=1 npx vitest run backends/h800/gemm/fp8.test.ts';

test('golden text of a small kernel', async () => {
  const span = { file: 'model.ts', line: 14, column: 13, endLine: 14, endColumn: 40 };
  const { ptx, ...launchDescription } = fp8Gemm(
    plan({ name: 'kv_a_proj', n: 80, k: 400, tile: { bm: 64, bn: 16, stages: 2 }, span }),
  );
  const text = `// ${JSON.stringify(launchDescription)}\n${ptx}`;
  const file = new URL('fixtures/fp8-64x16.ptx', import.meta.url);
  if (process.env.UPDATE_FIXTURES) await writeFile(file, text);
  expect(text, accept).toBe(await readFile(file, 'utf8'));
});

const linears: readonly (readonly [n: number, k: number, experts?: number])[] = [
  [2112, 7168],
  [1536, 7168],
  [576, 7168],
  [24576, 1536],
  [32768, 512],
  [7168, 16384],
  [36864, 7168],
  [18432, 7168],
  [7168, 18432],
  [4096, 7168],
  [2048, 7168],
  [7168, 2048],
  // DeepSeek-V2-Lite: short last blocks of K.
  [2048, 10944],
  [2048, 1408],
  [4096, 7168, 256],
  [7168, 2048, 256],
];

test.for(linears)('assembles cleanly: %i x %i', async ([n, k, experts], context) => {
  const grouped = experts === undefined ? {} : { grouped: { experts } };
  const kernels = [128, 4096].flatMap((m) =>
    (['bf16', 'f32'] as const).map((outDtype) => {
      const { why: _, ...tile } = chooseFp8GemmTile({ m, n, k, outDtype, ...grouped });
      return fp8Gemm(plan({ n, k, outDtype, tile, ...grouped }));
    }),
  );
  for (const result of await Promise.all(kernels.map((kernel) => assemble(kernel.ptx)))) {
    if (result.status === 'missing') return context.skip('no ptxas on this machine');
    expect(result).toMatchObject({ status: 'assembled', infos: [], warnings: [] });
    if (result.status !== 'assembled') continue;
    const { registers, spills, stackBytes } = result.kernels.gemm!;
    expect({ spills, stackBytes }).toEqual({ spills: { storeBytes: 0, loadBytes: 0 }, stackBytes: 0 });
    expect(registers).toBeLessThanOrEqual(255);
  }
});
