import { expect, test } from 'vitest';
import { noSpan } from '../../../ir/span.ts';
import { h800, persistentGrid } from '../kernel.ts';
import { chooseFp8GemmTile } from './choose.ts';
import { accumulatorPlace } from './layout.ts';
import { fp8GemmProblem, fp8GemmShape, largestStages, type Fp8GemmPlan } from './plan.ts';
import { tilePlace } from './scheduler.ts';

const plan = (over: Partial<Fp8GemmPlan>): Fp8GemmPlan => ({
  name: 'gemm',
  n: 4096,
  k: 7168,
  outDtype: 'bf16',
  tile: { bm: 128, bn: 128, stages: 4 },
  span: noSpan,
  ...over,
});

test.each([
  ['rows of 16 bytes', plan({ n: 4100 }), 'multiple of 8 columns'],
  ['f32 rows', plan({ n: 4102, outDtype: 'f32' }), 'multiple of 4 columns'],
  ['K', plan({ k: 7160 }), 'multiple of 16 FP8'],
  ['registers', plan({ tile: { bm: 256, bn: 192, stages: 2 } }), 'needs 288 accumulator registers'],
  ['shared memory', plan({ tile: { bm: 128, bn: 128, stages: 7 } }), 'bytes of shared memory, 232448 fit'],
  ['bn', plan({ tile: { bm: 128, bn: 24, stages: 4 } }), 'multiple of 16'],
  ['stages', plan({ tile: { bm: 128, bn: 32, stages: 1 } }), 'at least 2'],
  ['experts', plan({ grouped: { experts: 8 }, tile: { bm: 256, bn: 64, stages: 2 } }), 'would cross experts'],
])('says what is wrong: %s', (_, wrong, message) => {
  expect(fp8GemmProblem(wrong)).toContain(message);
});

test('shared memory: tiles on swizzle boundaries, regions apart, all used bytes counted', () => {
  for (const bm of [64, 128, 256] as const)
    for (const bn of [16, 80, 96, 128]) {
      const p = plan({ tile: { bm, bn, stages: 3 } });
      const s = fp8GemmShape(p);
      for (const at of [s.shared.a, s.shared.b, s.shared.out, s.aStageBytes, s.bStageBytes])
        expect(at % 1024).toBe(0);
      expect(s.shared.scales % 16).toBe(0);
      expect(s.scaleStageBytes % 16).toBe(0);
      expect(s.shared.full % 8).toBe(0);
      expect(s.shared.b).toBe(3 * s.aStageBytes);
      expect(s.shared.out).toBe(s.shared.b + 3 * s.bStageBytes);
      expect(s.shared.bytes).toBe(s.shared.empty + 24);
      const stages = largestStages(p, { bm, bn });
      expect(fp8GemmProblem(plan({ tile: { bm, bn, stages } }))).toBeNull();
      expect(fp8GemmProblem(plan({ tile: { bm, bn, stages: stages + 1 } }))).toContain('shared memory');
    }
});

test('every accumulator column belongs to the unit whose weight scale it is multiplied by', () => {
  for (const bn of [16, 48, 96, 112, 128, 160, 192]) {
    const { scaleUnit } = fp8GemmShape(plan({ tile: { bm: 64, bn, stages: 2 } }));
    for (let tile = 0; tile < 8; tile++)
      for (let i = 0; i < bn / 2; i++) {
        const column = tile * bn + accumulatorPlace(77, i).column;
        const unit = Math.floor((8 * (i >> 2)) / scaleUnit);
        expect(Math.floor((tile * bn + unit * scaleUnit) / 128)).toBe(Math.floor(column / 128));
      }
  }
});

test.each([
  [1, 4096],
  [64, 2112],
  [1000, 576],
  [5000, 7168],
  [131072, 512],
])('the scheduler covers each tile once: %i rows, %i columns', (rows, n) => {
  for (const bm of [64, 128, 256] as const) {
    const shape = fp8GemmShape(plan({ n, tile: { bm, bn: 96, stages: 2 } }));
    const rowTiles = Math.ceil(rows / bm);
    const tiles = rowTiles * shape.columnTiles;
    const seen = new Set<number>();
    for (let tile = 0; tile < tiles; tile++) {
      const { row, column } = tilePlace(shape, rows, tile);
      expect(row < rows && column < n).toBe(true);
      seen.add((row / bm) * shape.columnTiles + column / 96);
    }
    expect(seen.size).toBe(tiles);
  }
});

test('the grid rule never launches more CTAs than tiles or SMs', () => {
  const rule = {
    kind: 'persistent',
    max: 132,
    rows: { symbol: 'm' },
    rowsPerTile: 128,
    columnTiles: 5,
  } as const;
  expect(persistentGrid(rule, 0)).toBe(0);
  expect(persistentGrid(rule, 129)).toBe(10);
  expect(persistentGrid(rule, 100000)).toBe(132);
});

test('mbarrier phases: producer and consumer agree over many turns of the ring', () => {
  // Parities as ring.ts hands them out; a wait passes when its parity is not the barrier's current one.
  const stages = 3;
  const full = Array.from({ length: stages }, () => 0);
  const empty = Array.from({ length: stages }, () => 0);
  const cursor = () => ({ stage: 0, phase: 0 });
  const advance = (c: { stage: number; phase: number }): void => {
    if (++c.stage === stages) {
      c.stage = 0;
      c.phase ^= 1;
    }
  };
  const [producer, consumer] = [cursor(), cursor()];
  let produced = 0;
  let consumed = 0;
  for (let turn = 0; consumed < 50; turn++) {
    // Bursts of different lengths, so that each side is ahead at times.
    for (let i = 0; i < 1 + (turn % 4) && produced < 50; i++) {
      if ((empty[producer.stage]! & 1) === (producer.phase ^ 1)) break;
      full[producer.stage]!++;
      advance(producer);
      produced++;
      expect(produced - consumed).toBeLessThanOrEqual(stages);
    }
    for (let i = 0; i < 1 + (turn % 3); i++) {
      if ((full[consumer.stage]! & 1) === consumer.phase) break;
      empty[consumer.stage]!++;
      advance(consumer);
      consumed++;
      expect(consumed).toBeLessThanOrEqual(produced);
    }
    expect(turn).toBeLessThan(1000);
  }
});

test('tile choice: large M takes the largest tile, small M small ones; the reasons are printed', () => {
  expect(chooseFp8GemmTile({ m: 4096, n: 7168, k: 16384 })).toMatchObject({ bm: 256, bn: 128, stages: 3 });
  expect(chooseFp8GemmTile({ m: 64, n: 2112, k: 7168 }).bm).toBe(64);
  expect(chooseFp8GemmTile({ m: 8192, n: 4096, k: 7168, grouped: { experts: 256 } }).bm).toBeLessThanOrEqual(
    128,
  );
  const { why } = chooseFp8GemmTile({ m: 4096, n: 4096, k: 7168 });
  expect(why).toMatch(
    /m 4096, n 4096, k 7168: 256x128, 3 stages; 512 tiles in 4 round\(s\).*tensor 1024.*TFLOPS/,
  );
});

// prettier-ignore
test('tile choice always gives a plan that can be written, with a ring that hides a load', () => {
  for (const m of [1, 100, 5000])
    for (const [n, k] of [[8, 16], [576, 1408], [2112, 10944], [36864, 7168], [129280, 7168]] as const)
      for (const outDtype of ['bf16', 'f32'] as const) {
        const { why, ...tile } = chooseFp8GemmTile({ m, n, k, outDtype });
        expect(why).toContain(`${tile.bm}x${tile.bn}`);
        expect(fp8GemmProblem(plan({ n, k, outDtype, tile }))).toBeNull();
        expect(tile.stages).toBeGreaterThanOrEqual(2);
        expect(fp8GemmShape(plan({ n, k, outDtype, tile })).shared.bytes).toBeLessThanOrEqual(h800.sharedBytesPerCta);
      }
  expect(() => chooseFp8GemmTile({ m: 1, n: 7, k: 16 })).toThrow('n is 7');
});
