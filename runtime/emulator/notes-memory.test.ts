// Performance notes: what --stats counts, against counts by hand.
import { describe, expect, test } from 'vitest';
import { Bench, moduleOf, waitForBar } from './async.testing.ts';
import { runGemm } from './testing/gemm.ts';
import { noSpan } from '../../ir/span.ts';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import type { Performance, Report, Triple } from './device.ts';

interface Run {
  readonly performance: Performance;
  readonly reports: readonly Report[];
  readonly line: (n: number) => string;
}

/** Runs a kernel with a pointer to 64 KiB at %rd1, 32 KiB of shared memory from %r20 on, and %tid.x in %r0. */
function measure(body: string, block: Triple = [32, 1, 1], seed = 0): Run {
  const ptx = moduleOf(
    '.param .u64 p',
    `.shared .align 128 .b8 tile[32768];\n.shared .align 8 .b64 bar;\nmov.u32 %r20, tile;\nld.param.u64 %rd1, [p];\nmov.u32 %r0, %tid.x;\n${body}`,
  );
  const bench = new Bench({ seed, statistics: true });
  const { core, device } = bench;
  const handle = core.loadProgram(device, decodePtx(ptx, 'test.ptx').program!);
  const parameterBlock = new Uint8Array(8);
  new DataView(parameterBlock.buffer).setBigUint64(0, bench.buffer(65536), true);
  const shape = { kernel: 'k', grid: [1, 1, 1], block, cluster: [0, 0, 0], dynamicSharedBytes: 0 } as const;
  const { reports, statistics } = core.launch(device, handle, { ...shape, parameterBlock });
  const lines = ptx.split('\n');
  return { performance: statistics.performance!, reports, line: (n) => lines[n - 1].trim() };
}

const sharedAt = (stride: number, access: string, extra = ''): string =>
  `mul.lo.u32 %r1, %r0, ${stride};\nadd.u32 %r1, %r1, %r20;\n${extra}${access}`;
const four = '{%r4, %r5, %r6, %r7}';

describe('banks of shared memory', () => {
  test.each<[name: string, body: string, phases: number, passes: number, worst: number]>([
    ['neighbouring words', sharedAt(4, 'ld.shared.u32 %r2, [%r1];'), 1, 1, 1],
    ['one word for all', sharedAt(0, 'ld.shared.u32 %r2, [%r1];'), 1, 1, 1],
    ['every second word', sharedAt(8, 'ld.shared.u32 %r2, [%r1];'), 1, 2, 2],
    ['a column of 32', sharedAt(128, 'ld.shared.u32 %r2, [%r1];'), 1, 32, 32],
    ['a padded column', sharedAt(132, 'ld.shared.u32 %r2, [%r1];'), 1, 1, 1],
    ['bytes of the same words', sharedAt(1, 'ld.shared.u8 %r2, [%r1];'), 1, 1, 1],
    ['pairs, half a warp at a time', sharedAt(8, 'ld.shared.v2.u32 {%r2, %r3}, [%r1];'), 2, 2, 1],
    ['quads, a quarter at a time', sharedAt(16, `ld.shared.v4.u32 ${four}, [%r1];`), 4, 4, 1],
    ['quads at rows of 128 bytes', sharedAt(128, `ld.shared.v4.u32 ${four}, [%r1];`), 4, 32, 8],
    ['stores', sharedAt(16, 'st.shared.u32 [%r1], %r0;'), 1, 4, 4],
    [
      'half of the lanes',
      sharedAt(128, '@%p0 st.shared.u32 [%r1], %r0;', 'setp.lt.u32 %p0, %r0, 16;\n'),
      1,
      16,
      16,
    ],
    [
      'ldmatrix of rows of 128 bytes',
      sharedAt(128, `ldmatrix.sync.aligned.m8n8.x4.shared.b16 ${four}, [%r1];`),
      4,
      32,
      8,
    ],
    [
      'ldmatrix of dense rows',
      sharedAt(16, `ldmatrix.sync.aligned.m8n8.x4.shared.b16 ${four}, [%r1];`),
      4,
      4,
      1,
    ],
  ])('%s', (_name, body, phases, passes, worst) => {
    const { performance, reports, line } = measure(body);
    const [only, ...more] = performance.instructions;
    expect(more).toEqual([]);
    expect(only.shared).toEqual({ phases, passes, averageConflicts: passes / phases, worstConflicts: worst });
    expect(line(only.line)).toContain(only.text);
    const found = reports.map((r) => `${r.severity} ${r.code} ${r.ptxLine}`);
    expect(found.filter((f) => !f.includes('idle'))).toEqual(
      worst >= 2 ? [`note emu/bank-conflicts ${only.line}`] : [],
    );
  });
  test('the note names degree and fix', () => {
    const [note] = measure(sharedAt(32, 'ld.shared.u32 %r2, [%r1];')).reports;
    expect(note.message).toBe(
      'ld.shared.u32: 8.0-way bank conflicts on average, 8-way at worst, over 1 phases',
    );
    expect(note.fix).toMatch(/pad or swizzle/);
  });
});

describe('sectors of global memory', () => {
  const globalAt = (stride: number, access: string, shift = 0): string =>
    `mul.wide.u32 %rd2, %r0, ${stride};\nadd.u64 %rd2, %rd2, %rd1;\nadd.u64 %rd2, %rd2, ${shift};\n${access}`;
  test.each<[name: string, body: string, sectors: number, ideal: number]>([
    ['neighbouring words', globalAt(4, 'ld.global.u32 %r2, [%rd2];'), 4, 4],
    ['shifted by a word', globalAt(4, 'ld.global.u32 %r2, [%rd2];', 4), 5, 4],
    ['every 8th word', globalAt(32, 'ld.global.u32 %r2, [%rd2];'), 32, 4],
    ['one word for all', globalAt(0, 'ld.global.u32 %r2, [%rd2];'), 1, 1],
    ['quads', globalAt(16, `st.global.v4.u32 [%rd2], ${four};`), 16, 16],
    ['rows of 256 bytes', globalAt(256, `ld.global.v2.u32 {%r2, %r3}, [%rd2];`), 32, 8],
  ])('%s', (_name, body, sectors, ideal) => {
    const { performance, reports } = measure(body);
    const [only] = performance.instructions;
    expect(only.global).toEqual({ requests: 1, sectors, idealSectors: ideal, sectorsPerRequest: sectors });
    expect(reports.map((r) => r.code)).toEqual(sectors >= 2 * ideal ? ['emu/uncoalesced'] : []);
  });
});

test('bytes by space, and of copies', () => {
  const { performance } = measure(`setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 256;
@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r20], [%rd1], 256, [bar];
bar.warp.sync -1;
${waitForBar('W')}
${sharedAt(4, 'ld.shared.u32 %r2, [%r1];\nst.shared.u16 [%r1], %r2;\nst.global.u32 [%rd1], %r2;')}`);
  expect(performance.bytes).toEqual({
    global: { read: 0, written: 128 },
    shared: { read: 128, written: 64 },
  });
  expect(performance.copiedBytes).toEqual({
    global: { read: 256, written: 0 },
    shared: { read: 0, written: 256 },
  });
  expect(performance.ring).toEqual({ waits: 1, waited: 1, averageLead: 0, leastLead: 0 });
});

test('lane utilisation', () => {
  // Of the 7 instructions of the whole warp and 40 of one lane.
  const body = `setp.ne.u32 %p0, %r0, 0;\n@%p0 bra E;\n${'add.u32 %r1, %r0, 1;\n'.repeat(40)}E:`;
  const { performance, reports } = measure(body);
  expect(performance.laneUtilisation).toBeGreaterThan(0.1);
  expect(performance.laneUtilisation).toBeLessThan(0.25);
  expect(reports.map((r) => r.code)).toEqual(['emu/idle-lanes']);
  expect(measure('add.u32 %r1, %r0, 1;').performance.laneUtilisation).toBe(1);
});

test('waits at barriers: who comes first waits longest', () => {
  const body = `setp.lt.u32 %p0, %r0, 96;
@%p0 bra L;
mov.u32 %r1, 0;
M:
add.u32 %r1, %r1, 1;
setp.lt.u32 %p1, %r1, 10000;
@%p1 bra M;
L:
bar.sync 0;`;
  const { barrier } = measure(body, [128, 1, 1]).performance.waits;
  expect(barrier.count).toBe(4);
  expect(barrier.blocked).toBeGreaterThanOrEqual(3);
  expect(barrier.turns).toBeGreaterThan(barrier.blocked);
});

describe('our FP8 GEMM', () => {
  const k = 1024;
  const ones = (n: number): Float32Array => new Float32Array(n).fill(1);
  const run = (stages: number, seed: number): ReturnType<typeof runGemm> =>
    runGemm(
      { name: 'gemm', n: 64, k, outDtype: 'f32', tile: { bm: 64, bn: 32, stages }, span: noSpan },
      { m: 64, a: new Uint8Array(64 * k), b: new Uint8Array(64 * k), aScale: ones(64 * 8), bScale: ones(8) },
      { seed, statistics: true },
    );
  test('FLOP of the tensor cores, and the ring', () => {
    const { performance } = run(4, 0).statistics;
    const products = performance!.tensorCore['f32.e4m3.e4m3'];
    expect(products.flop).toBe(2 * 64 * 64 * k);
    // m64n32k32, issued by each of four warps.
    expect(products.instructions).toBe((2 * 4 * k) / 32);
    expect(performance!.ring!.waits).toBe((2 * k) / 128);
    expect(performance!.ring!.averageLead).toBeLessThanOrEqual(4);
    expect(performance!.copiedBytes.shared.written).toBeGreaterThanOrEqual(2 * (64 + 32) * k);
  });
  test('the same for a seed, always', () => {
    const told = (seed: number): unknown => {
      const { reports, statistics } = run(3, seed);
      return { reports, ...statistics, seconds: 0 };
    };
    expect(told(5)).toEqual(told(5));
  });
});
