// Plain writes become visible late, with a seed: a message whose flag comes without the fence that it needs is read old
// under some seeds, and never with the fence.
import { describe, expect, test } from 'vitest';
import { Bench, moduleOf, type Launch } from './async.testing.ts';

const seeds = Array.from({ length: 40 }, (_, i) => i + 1);

/** How many seeds let the reader see the old data (0) behind the new flag. */
function stale(ptx: string, launch: Launch, bytes: number): number {
  let count = 0;
  for (const seed of seeds) {
    const bench = new Bench({ seed, checks: [] });
    const memory = bench.buffer(bytes, 'memory');
    expect(bench.run(ptx, [memory], launch)).toEqual([]);
    const [, , got] = bench.words(memory, 3);
    expect([0, 7]).toContain(got);
    if (got === 0) count++;
  }
  return count;
}

/** Block 0 writes data and flag to global memory, block 1 reads them once the flag is there. */
const between = (writerFence: string, readerFence: string): string =>
  moduleOf(
    '.param .u64 memory',
    `ld.param.u64 %rd1, [memory];
mov.u32 %r1, %ctaid.x;
setp.ne.u32 %p0, %r1, 0;
@%p0 bra READER;
mov.u32 %r2, 7;
st.global.u32 [%rd1], %r2;
${writerFence}
mov.u32 %r3, 1;
st.relaxed.gpu.global.u32 [%rd1+4], %r3;
bra DONE;
READER:
ld.relaxed.gpu.global.u32 %r4, [%rd1+4];
setp.eq.u32 %p1, %r4, 0;
@%p1 bra READER;
${readerFence}
ld.global.u32 %r5, [%rd1];
st.global.u32 [%rd1+8], %r5;
DONE:`,
  );

/** Warp 0 writes data and flag to shared memory, warp 1 reads them once the flag is there. */
const within = (ordered: string): string =>
  moduleOf(
    '.param .u64 memory',
    `.shared .align 8 .b8 cell[8];
ld.param.u64 %rd1, [memory];
mov.u32 %r1, %tid.x;
mov.u32 %r9, 0;
st.volatile.shared.u32 [cell], %r9;
st.volatile.shared.u32 [cell+4], %r9;
bar.sync 0;
setp.ge.u32 %p0, %r1, 32;
@%p0 bra READER;
mov.u32 %r2, 7;
st.shared.u32 [cell], %r2;
${ordered}
mov.u32 %r3, 1;
st.volatile.shared.u32 [cell+4], %r3;
bra DONE;
READER:
ld.volatile.shared.u32 %r4, [cell+4];
setp.eq.u32 %p1, %r4, 0;
@%p1 bra READER;
ld.shared.u32 %r5, [cell];
st.global.u32 [%rd1+8], %r5;
DONE:`,
  );

describe('a message between blocks', () => {
  const launch = { grid: [2, 1, 1], block: [1, 1, 1] } as const;
  test.each([
    ['no fence', '', ''],
    ['a fence of the block only', 'fence.acq_rel.cta;', 'fence.acq_rel.cta;'],
  ])('%s: read old under some seeds', (_name, writer, reader) => {
    const n = stale(between(writer, reader), launch, 16);
    expect(n).toBeGreaterThan(0);
    expect(n).toBeLessThan(seeds.length);
  });
  test.each([
    ['fence.acq_rel.gpu', 'fence.acq_rel.gpu;', 'fence.acq_rel.gpu;'],
    ['membar.gl', 'membar.gl;', 'membar.gl;'],
    ['fence.sc.sys', 'fence.sc.sys;', 'fence.sc.sys;'],
  ])('%s: never', (_name, writer, reader) => {
    expect(stale(between(writer, reader), launch, 16)).toBe(0);
  });
  test('a release store needs no fence', () => {
    const ptx = between('', 'fence.acq_rel.gpu;').replace('st.relaxed.gpu', 'st.release.gpu');
    expect(stale(ptx, launch, 16)).toBe(0);
  });
});

describe('a message within a block', () => {
  const launch = { block: [64, 1, 1] } as const;
  test('no fence: read old under some seeds', () => {
    expect(stale(within(''), launch, 16)).toBeGreaterThan(0);
  });
  test('fence.acq_rel.cta: never', () => {
    expect(stale(within('fence.acq_rel.cta;'), launch, 16)).toBe(0);
  });
  test('without a seed memory is sequentially consistent', () => {
    const bench = new Bench({ checks: [] });
    const memory = bench.buffer(16, 'memory');
    expect(bench.run(within(''), [memory], launch)).toEqual([]);
    expect(bench.words(memory, 3)[2]).toBe(7);
  });
});

test('narrow and wide loads see old bytes with their sign', () => {
  // The reader takes a vector of bytes and a signed byte over the line of old and new.
  const ptx = moduleOf(
    '.param .u64 memory',
    `ld.param.u64 %rd1, [memory];
mov.u32 %r1, %ctaid.x;
setp.ne.u32 %p0, %r1, 0;
@%p0 bra READER;
mov.u32 %r2, 0;
st.global.u8 [%rd1+1], %r2;
mov.u32 %r3, 1;
st.relaxed.gpu.global.u32 [%rd1+16], %r3;
bra DONE;
READER:
ld.relaxed.gpu.global.u32 %r4, [%rd1+16];
setp.eq.u32 %p1, %r4, 0;
@%p1 bra READER;
ld.global.s8 %r5, [%rd1+1];
ld.global.v4.u8 {%r6, %r7, %r8, %r9}, [%rd1];
ld.global.u64 %rd2, [%rd1];
st.global.u32 [%rd1+20], %r5;
st.global.v4.u32 [%rd1+32], {%r6, %r7, %r8, %r9};
st.global.u64 [%rd1+24], %rd2;
DONE:`,
  );
  const found = new Set<string>();
  for (const seed of seeds) {
    const bench = new Bench({ seed, checks: [] });
    const start = new Uint8Array(48);
    start.set([0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7]);
    const memory = bench.buffer(start, 'memory');
    expect(bench.run(ptx, [memory], { grid: [2, 1, 1], block: [1, 1, 1] })).toEqual([]);
    const w = bench.words(memory, 12);
    found.add([w[5], w[6], w[7], ...w.slice(8)].map((x) => x.toString(16)).join(' '));
  }
  expect([...found].sort()).toEqual([
    '0 f3f200f0 f7f6f5f4 f0 0 f2 f3',
    'fffffff1 f3f2f1f0 f7f6f5f4 f0 f1 f2 f3',
  ]);
});

test('a write to a block of the cluster that has not begun', () => {
  // Under some seeds block 0 writes before block 1 has had its first turn.
  const ptx = moduleOf(
    '.param .u64 memory',
    `.shared .align 4 .b8 cell[4];
ld.param.u64 %rd1, [memory];
mov.u32 %r1, %cluster_ctarank;
mov.u32 %r2, cell;
xor.b32 %r3, %r1, 1;
mapa.shared::cluster.u32 %r4, %r2, %r3;
add.u32 %r5, %r1, 7;
st.shared::cluster.u32 [%r4], %r5;
barrier.cluster.arrive;
barrier.cluster.wait;
ld.shared.u32 %r6, [cell];
mul.wide.u32 %rd2, %r1, 4;
add.u64 %rd1, %rd1, %rd2;
st.global.u32 [%rd1], %r6;`,
  );
  for (const seed of seeds) {
    const bench = new Bench({ seed, checks: [] });
    const memory = bench.buffer(16, 'memory');
    const launch = { grid: [2, 1, 1], block: [1, 1, 1], cluster: [2, 1, 1] } as const;
    expect(bench.run(ptx, [memory], launch)).toEqual([]);
    expect(bench.words(memory, 2)).toEqual([8, 7]);
  }
});
