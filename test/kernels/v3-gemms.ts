// The FP8 GEMMs of DeepSeek-V3's bundle, its PTX byte for byte, on the emulator's core: at their real N and K a few blocks
// of the real grid run, and what they write is compared, bit by bit, with the model of the tensor cores.
import { join } from 'node:path';
import { fp8GemmShape } from '../../backends/h800/gemm/plan.ts';
import { tilePlace } from '../../backends/h800/gemm/scheduler.ts';
import { h800Target } from '../../backends/h800/target.ts';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { bundleFiles } from '../../compiler/bundle.ts';
import { compileModule } from '../../compiler/compile.ts';
import * as dsl from '../../dsl/index.ts';
import { loadModel } from '../../dsl/load.ts';
import { traceModel } from '../../dsl/trace-model.ts';
import type { EmittedKernel, Extent } from '../../ir/plan.ts';
import { noSpan } from '../../ir/span.ts';
import type { DeviceSettings } from '../../runtime/emulator/device.ts';
import { loadCore } from '../../runtime/emulator/load-core.ts';
import { encodeTensorMap, type TensorMapDType } from '../../runtime/emulator/tensor-map.ts';
import { Random } from '../../runtime/emulator/testing/tensor-bench.ts';
import { dense, grouped } from './gemm-rows.ts';
import { bf16Code, fp8Rows, promotedSum, type Fp8Rows } from '../support/fp8-gemm-model.ts';

/** A GEMM as a host finds it in the bundle. */
export interface BundleGemm {
  readonly title: string;
  /** Its entry in plan/kernels.json. */
  readonly launch: Omit<EmittedKernel, 'ptx'>;
  /** kernels/NAME.ptx. */
  readonly ptx: string;
  readonly n: number;
  readonly k: number;
  readonly bm: number;
  readonly bn: number;
  /** Null: not grouped. */
  readonly experts: number | null;
}

/** Every kernel of the family in the bundle that `dsvc compile examples/deepseek-v3.ts --precision fp8` writes. */
export async function v3Gemms(): Promise<readonly BundleGemm[]> {
  const source = join(import.meta.dirname, '../../examples/deepseek-v3.ts');
  const { model } = await loadModel(source, { settings: {}, dslNamespace: dsl });
  const { module } = traceModel(model, { precision: 'fp8', settings: {} });
  const targeted = { ...module, attributes: { ...module.attributes, target: 'h800' } };
  const compiled = compileModule(targeted, { target: h800Target, disabled: new Set(), verifyEach: false });
  const emit = new Set(['ptx', 'bundle'] as const);
  const files = bundleFiles(compiled, { model: 'deepseek-v3', version: '0', emit });
  const launches = JSON.parse(String(files.get('plan/kernels.json'))) as readonly BundleGemm['launch'][];
  return launches
    .filter((l) => l.family === 'gemm')
    .map((launch) => {
      const [a, b] = launch.parameters;
      if (a.kind !== 'tensorMap' || b.kind !== 'tensorMap') throw new Error(`${launch.name}: no tensor maps`);
      const [k, n, experts = null] = b.dims.map((e) => e.constant);
      const [bm, bn] = [a.box[1], b.box[1]];
      const grouped = experts === null ? '' : `, ${experts} experts`;
      const title = `${launch.name}: [${n}, ${k}]${grouped}, tiles of ${bm}x${bn}`;
      return { title, launch, ptx: String(files.get(`kernels/${launch.name}.ptx`)), n, k, bm, bn, experts };
    });
}

/** Which blocks of the grid run: by the tiles that they begin with, given how many tiles and blocks there are. */
export type Choice = (tiles: number, blocks: number) => readonly number[];
export const lastTile: Choice = (tiles) => [tiles - 1];
/** The first and the last tile, with what overhangs M and N; one in the middle; the last of the first round. */
export const manyTiles: Choice = (tiles, blocks) => [
  0,
  tiles - 1,
  Math.floor(tiles / 2),
  Math.min(tiles, blocks) - 1,
];
export const allTiles: Choice = (tiles) => Array.from({ length: tiles }, (_, i) => i);

export interface TileRun {
  /** Where outputs differ from the model, in words; a few of them. */
  readonly wrong: readonly string[];
  readonly tiles: number;
  /** Outputs that were compared with the model. */
  readonly compared: number;
}

const unwritten = 0x5d5d;
const dtypes: Readonly<Record<string, TensorMapDType>> = { u8: 'U8', bf16: 'BF16' };

/** Codes without NaN. */
function randomCodes(r: Random, count: number): Uint8Array {
  const codes = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const code = r.next() & 255;
    codes[i] = code % 128 === 127 ? 0 : code;
  }
  return codes;
}
function randomScales(r: Random, count: number): Float32Array {
  const scales = new Float32Array(count);
  for (let i = 0; i < count; i++) scales[i] = 2 ** -10 * (1 + r.next() * 2 ** -32);
  return scales;
}
const bytesOf = (a: Float32Array | Int32Array | Uint16Array): Uint8Array =>
  new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/**
 * Runs the blocks of the chosen tiles on random operands, with `m` tokens. Every output of their tiles is looked at: that
 * it was written, 0 on padding, and what the model says in each `every`-th row; nothing else may be written.
 */
export function runTiles(
  gemm: BundleGemm,
  m: number,
  choose: Choice,
  every: number,
  settings: DeviceSettings = {},
): TileRun {
  const { launch, n, k, bm, bn } = gemm;
  const r = new Random(m);
  const rows = gemm.experts === null ? dense(m) : grouped(m, gemm.experts, r);
  const sizeOf = (e: Extent): number => e.terms.reduce((sum, t) => sum + t.factor * rows.room, e.constant);
  const perAxis = launch.grid.axes.map((a) => Math.ceil(sizeOf(a.extent) / a.per));
  const blocks = Math.min(
    launch.grid.atMost ?? Infinity,
    perAxis.reduce((p, x) => p * x, 1),
  );
  const shape = fp8GemmShape({
    ...{ name: launch.name, n, k, outDtype: 'bf16', tile: { bm, bn, stages: 2 }, span: noSpan },
    ...(gemm.experts === null ? {} : { grouped: { experts: gemm.experts } }),
  } as Parameters<typeof fp8GemmShape>[0]);
  const tiles = Math.ceil(rows.used / bm) * shape.columnTiles;
  const running = [...new Set(choose(tiles, blocks).map((t) => t % blocks))];
  const done = running.flatMap((block) => {
    const of: number[] = [];
    for (let t = block; t < tiles; t += blocks) of.push(t);
    return of;
  });

  const core = loadCore();
  const device = core.createDevice(settings);
  const { program } = decodePtx(gemm.ptx, `${launch.name}.ptx`);
  if (!program) throw new Error(`${launch.name} cannot be decoded`);
  const handle = core.loadProgram(device, program);
  const [info] = core.describeProgram(handle).kernels;
  // Only what the tiles read is written: weights have gigabytes.
  const kBlocks = Math.ceil(k / 128);
  const nBlocks = Math.ceil(n / 128);
  const experts = gemm.experts ?? 1;
  const [a, b, out, aScale, bScale] = [
    rows.room * k,
    experts * n * k,
    rows.room * n * 2,
    rows.room * kBlocks * 4,
    experts * nBlocks * kBlocks * 4,
  ].map((bytes, i) => core.allocate(device, bytes, ['a', 'b', 'out', 'aScale', 'bScale'][i]));
  const write = (at: bigint, offset: number, bytes: Uint8Array): void =>
    core.write(device, at + BigInt(offset), bytes);
  const aScales = randomScales(r, rows.used * kBlocks);
  for (let row = 0; row < rows.used; row++)
    if (rows.isPadding(row)) aScales.fill(NaN, row * kBlocks, (row + 1) * kBlocks);
  const bScales = randomScales(r, experts * nBlocks * kBlocks);
  write(aScale, 0, bytesOf(aScales));
  write(bScale, 0, bytesOf(bScales));
  write(out, 0, bytesOf(new Uint16Array(rows.used * n).fill(unwritten)));
  const [aRows, bRows] = [new Map<number, Fp8Rows>(), new Map<string, Fp8Rows>()];
  for (const t of done) {
    const { row, column } = tilePlace(shape, rows.used, t);
    if (!aRows.has(row)) {
      const codes = randomCodes(r, Math.min(bm, rows.used - row) * k);
      aRows.set(row, fp8Rows(codes, k));
      // Whatever stands in padding must not count.
      for (let i = 0; i * k < codes.length; i++)
        if (rows.isPadding(row + i)) codes.fill(i % 16 ? 0x7e : 0x7f, i * k, (i + 1) * k);
      write(a, row * k, codes);
    }
    const expert = rows.expertOf(row);
    const key = `${expert} ${column}`;
    if (!bRows.has(key)) {
      const codes = randomCodes(r, Math.min(bn, n - column) * k);
      bRows.set(key, fp8Rows(codes, k));
      write(b, (expert * n + column) * k, codes);
    }
  }

  const parameterBlock = new Uint8Array(info.parameterBytes);
  const view = new DataView(parameterBlock.buffer);
  const names = ['a', 'b', 'out', 'aScale', 'bScale'];
  const routing = new Map<string, bigint>();
  for (const [component, array] of Object.entries(rows.arrays)) {
    const at = core.allocate(device, array.byteLength, component);
    write(at, 0, bytesOf(array));
    routing.set(component, at);
  }
  launch.parameters.forEach((p, i) => {
    const { offset } = info.parameters[i];
    if (p.kind === 'u32') return view.setUint32(offset, m, true);
    // The operands come in the order of `names`, then what the routing gives.
    const start = i < names.length ? [a, b, out, aScale, bScale][i] : routing.get(p.component)!;
    if (p.kind === 'pointer') return view.setBigUint64(offset, start + BigInt(p.offset ?? 0), true);
    const map = encodeTensorMap(start, {
      dtype: dtypes[p.dtype],
      dims: p.dims.map(sizeOf),
      strides: p.strides.map(sizeOf),
      box: p.box,
      elementStrides: p.box.map(() => 1),
      swizzle: p.swizzle,
      interleave: 'none',
      fill: 'zero',
    });
    return parameterBlock.set(map, offset);
  });
  const { reports } = core.launch(device, handle, {
    kernel: launch.name,
    grid: [blocks, 1, 1],
    block: [launch.threads, 1, 1],
    cluster: launch.cluster,
    dynamicSharedBytes: launch.dynamicSharedBytes,
    parameterBlock,
    blocks: running,
  });

  const wrong = reports.map((x) => `${x.code}: ${x.message}`);
  const bytes = core.read(device, out, rows.used * n * 2).slice();
  const got = new Uint16Array(bytes.buffer);
  let compared = 0;
  const say = (row: number, column: number, want: number): void => {
    if (wrong.length < 5)
      wrong.push(
        `[${row}, ${column}] is 0x${got[row * n + column].toString(16)}, should be 0x${want.toString(16)}`,
      );
  };
  for (const t of done) {
    const { row, column } = tilePlace(shape, rows.used, t);
    const expert = rows.expertOf(row);
    const [x, w] = [aRows.get(row)!, bRows.get(`${expert} ${column}`)!];
    const height = Math.min(bm, rows.used - row);
    for (let i = 0; i < height; i++) {
      const isCompared = i % every === 0 || i === height - 1;
      for (let j = 0; j < Math.min(bn, n - column); j++) {
        const at = (row + i) * n + column + j;
        if (got[at] === unwritten) say(row + i, column + j, 0);
        if (rows.isPadding(row + i)) {
          if (got[at] !== 0) say(row + i, column + j, 0);
        } else if (isCompared) {
          const scale = (expert * nBlocks + ((column + j) >> 7)) * kBlocks;
          const factor = (kb: number): number =>
            Math.fround(aScales[(row + i) * kBlocks + kb] * bScales[scale + kb]);
          const want = bf16Code(promotedSum(x, i, w, j, factor));
          compared++;
          if (got[at] !== want) say(row + i, column + j, want);
        }
        got[at] = unwritten;
      }
    }
  }
  const stray = got.findIndex((code) => code !== unwritten);
  if (stray >= 0)
    wrong.push(`[${Math.floor(stray / n)}, ${stray % n}] is no output of these tiles, but was written`);
  return { wrong, tiles: done.length, compared };
}
