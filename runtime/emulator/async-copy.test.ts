// cp.async and linear bulk copies.
import { describe, expect, test } from 'vitest';
import { Bench, dump, moduleOf, pattern, summary, waitForBar } from './async.testing.ts';

const seeds = [0, 1, 2, 3, 4, 5];

describe('cp.async', () => {
  const copy = (form: string, stride: number, end: string): string =>
    moduleOf(
      '.param .u64 from, .param .u64 to',
      `.shared .align 16 .b8 tile[512];
.shared .align 8 .b64 bar;
ld.param.u64 %rd0, [from];
ld.param.u64 %rd63, [to];
mov.u32 %r63, tile;
mov.u32 %r0, %tid.x;
setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared::cta.b64 [bar], 32;
mul.lo.u32 %r1, %r0, ${stride};
add.u32 %r2, %r63, %r1;
mul.wide.u32 %rd1, %r0, ${stride};
add.u64 %rd1, %rd0, %rd1;
mov.u32 %r9, -1;
mov.u32 %r10, 0;
FILL:
shl.b32 %r8, %r10, 7;
add.u32 %r8, %r8, %r63;
shl.b32 %r7, %r0, 2;
add.u32 %r8, %r8, %r7;
st.shared.u32 [%r8], %r9;
add.u32 %r10, %r10, 1;
setp.lt.u32 %p3, %r10, 4;
@%p3 bra FILL;
bar.sync 0;
and.b32 %r4, %r0, 7;
setp.lt.u32 %p1, %r4, 3;
${form}
${end}
bar.sync 0;
${dump(512)}`,
    );
  const commit = 'cp.async.commit_group;\ncp.async.wait_group 0;';
  const all = 'cp.async.wait_all;';
  const linked = `cp.async.mbarrier.arrive.noinc.shared::cta.b64 [bar];\n${waitForBar('W')}`;
  const counted = `cp.async.mbarrier.arrive.shared::cta.b64 [bar];
mbarrier.arrive.shared::cta.b64 _, [bar];\n${waitForBar('W')}`;
  const source = pattern(512);
  const expected = (stride: number, take: (t: number) => number): number[] => {
    const out = new Uint8Array(512).fill(255);
    for (let t = 0; t < 32; t++)
      for (let k = 0; k < stride; k++) out[t * stride + k] = k < take(t) ? source[t * stride + k] : 0;
    return [...out];
  };
  test.each<[string, string, number, string, (t: number) => number]>([
    ['4 bytes', 'cp.async.ca.shared.global [%r2], [%rd1], 4;', 4, commit, () => 4],
    ['8 bytes', 'cp.async.ca.shared::cta.global.L2::128B [%r2], [%rd1], 8;', 8, all, () => 8],
    ['16 bytes', 'cp.async.ca.shared.global [%r2], [%rd1], 16;', 16, linked, () => 16],
    ['16 bytes past L1', 'cp.async.cg.shared.global [%r2], [%rd1], 16;', 16, counted, () => 16],
    ['a source size', 'cp.async.ca.shared.global [%r2], [%rd1], 8, %r4;', 8, commit, (t) => t & 7],
    [
      'an ignored source',
      'cp.async.cg.shared.global [%r2], [%rd1], 16, %p1;',
      16,
      commit,
      (t) => ((t & 7) < 3 ? 0 : 16),
    ],
  ])('copies %s', (_name, form, stride, end, take) => {
    for (const seed of seeds) {
      const bench = new Bench({ seed });
      const from = bench.buffer(source);
      const to = bench.buffer(512);
      expect(summary(bench.run(copy(form, stride, end), [from, to]))).toEqual([]);
      expect([...bench.read(to, 512)]).toEqual(expected(stride, take));
    }
  });

  test('wait_group N leaves the newest N groups under way', () => {
    const ptx = moduleOf(
      '.param .u64 from, .param .u64 to',
      `.shared .align 16 .b8 tile[32];
ld.param.u64 %rd0, [from];
ld.param.u64 %rd1, [to];
mov.u32 %r1, tile;
st.shared.u32 [%r1], 0;
st.shared.u32 [%r1+16], 0;
cp.async.cg.shared.global [%r1], [%rd0], 16;
cp.async.commit_group;
cp.async.wait_group 1;
ld.shared.u32 %r2, [%r1];
cp.async.cg.shared.global [%r1+16], [%rd0+16], 16;
cp.async.commit_group;
cp.async.wait_group 1;
ld.shared.u32 %r3, [%r1];
ld.shared.u32 %r4, [%r1+16];
cp.async.wait_group 0;
ld.shared.u32 %r5, [%r1+16];
st.global.v4.u32 [%rd1], {%r2, %r3, %r4, %r5};`,
    );
    const second = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const bench = new Bench({ seed });
      const from = bench.buffer(new Uint8Array(new Uint32Array([1, 0, 0, 0, 2, 0, 0, 0]).buffer));
      const to = bench.buffer(16);
      expect(summary(bench.run(ptx, [from, to], { block: [1, 1, 1] }))).toEqual([]);
      const [, first, early, late] = bench.words(to, 4);
      expect([first, late]).toEqual([1, 2]);
      second.add(early);
    }
    // The newest group may or may not be done.
    expect([...second].sort()).toEqual([0, 2]);
  });
});

describe('bulk copies', () => {
  const bytes = 4096;
  const content = pattern(bytes, 5);

  test.each(['shared::cta', 'shared::cluster'])('global to %s and back, in pieces', (space) => {
    const ptx = moduleOf(
      '.param .u64 from, .param .u64 to',
      `.shared .align 128 .b8 tile[${bytes}];
.shared .align 8 .b64 bar;
ld.param.u64 %rd0, [from];
ld.param.u64 %rd1, [to];
mov.u32 %r1, tile;
mbarrier.init.shared::cta.b64 [bar], 1;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], ${bytes};
cp.async.bulk.prefetch.L2.global [%rd0], ${bytes};
mov.u32 %r2, 0;
LOAD:
add.u32 %r3, %r1, %r2;
cvt.u64.u32 %rd2, %r2;
add.u64 %rd3, %rd0, %rd2;
cp.async.bulk.${space}.global.mbarrier::complete_tx::bytes [%r3], [%rd3], 256, [bar];
add.u32 %r2, %r2, 256;
setp.lt.u32 %p0, %r2, ${bytes};
@%p0 bra LOAD;
${waitForBar('W')}
mov.u32 %r2, 0;
STORE:
add.u32 %r3, %r1, %r2;
cvt.u64.u32 %rd2, %r2;
add.u64 %rd3, %rd1, %rd2;
cp.async.bulk.global.shared::cta.bulk_group [%rd3], [%r3], 512;
cp.async.bulk.commit_group;
add.u32 %r2, %r2, 512;
setp.lt.u32 %p0, %r2, ${bytes};
@%p0 bra STORE;
cp.async.bulk.wait_group.read 3;
cp.async.bulk.wait_group 0;`,
    );
    for (const seed of seeds) {
      const bench = new Bench({ seed });
      const from = bench.buffer(content);
      const to = bench.buffer(bytes);
      expect(summary(bench.run(ptx, [from, to], { block: [1, 1, 1] }))).toEqual([]);
      expect(bench.read(to, bytes)).toEqual(content);
    }
  });

  // A store, then its source overwritten with -1 after the given wait, then 512 bytes read back after a full wait.
  const overwritten = (between: string): Uint8Array => {
    const ptx = moduleOf(
      '.param .u64 to',
      `.shared .align 128 .b8 tile[16];
ld.param.u64 %rd1, [to];
mov.u32 %r1, tile;
st.shared.v4.u32 [%r1], {1, 2, 3, 4};
fence.proxy.async.shared::cta;
cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 16;
cp.async.bulk.commit_group;
${between}
st.shared.v4.u32 [%r1], {7, 7, 7, 7};
cp.async.bulk.wait_group 0;`
        .replace('{1, 2, 3, 4}', '{%r11, %r12, %r13, %r14}')
        .replace('{7, 7, 7, 7}', '{%r10, %r10, %r10, %r10}'),
      '',
    ).replace(
      'ld.param.u64 %rd1, [to];',
      'ld.param.u64 %rd1, [to];\nmov.u32 %r10, 7;\nmov.u32 %r11, 1;\nmov.u32 %r12, 2;\nmov.u32 %r13, 3;\nmov.u32 %r14, 4;',
    );
    const bench = new Bench();
    const to = bench.buffer(16);
    expect(summary(bench.run(ptx, [to], { block: [1, 1, 1] }))).toEqual([]);
    return new Uint8Array(bench.read(to, 16).filter((_, i) => i % 4 === 0));
  };
  test('a source is read when the copy runs: overwriting it before wait_group.read shows', () => {
    expect([...overwritten('')]).toEqual([7, 7, 7, 7]);
    expect([...overwritten('cp.async.bulk.wait_group.read 0;')]).toEqual([1, 2, 3, 4]);
  });

  test.each([2, 4])('to the next of %i blocks, whose mbarrier counts the bytes', (size) => {
    const ptx = moduleOf(
      '.param .u64 from, .param .u64 to',
      `.shared .align 128 .b8 mine[512];
.shared .align 128 .b8 theirs[512];
.shared .align 8 .b64 bar;
ld.param.u64 %rd0, [from];
ld.param.u64 %rd1, [to];
mov.u32 %r0, %cluster_ctarank;
mov.u32 %r9, %tid.x;
setp.eq.u32 %p0, %r9, 0;
@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
fence.mbarrier_init.release.cluster;
mul.wide.u32 %rd2, %r0, 512;
add.u64 %rd0, %rd0, %rd2;
add.u64 %rd63, %rd1, %rd2;
mul.wide.u32 %rd3, %r9, 16;
add.u64 %rd4, %rd0, %rd3;
ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%rd4];
mov.u32 %r1, mine;
mad.lo.u32 %r2, %r9, 16, %r1;
st.shared.v4.u32 [%r2], {%r20, %r21, %r22, %r23};
fence.proxy.async.shared::cta;
barrier.cluster.arrive;
barrier.cluster.wait;
@!%p0 bra READ;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;
add.u32 %r3, %r0, 1;
rem.u32 %r3, %r3, ${size};
mov.u32 %r4, theirs;
mov.u32 %r5, bar;
mapa.shared::cluster.u32 %r4, %r4, %r3;
mapa.shared::cluster.u32 %r5, %r5, %r3;
cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r4], [%r1], 512, [%r5];
READ:
${waitForBar('W')}
mov.u32 %r63, theirs;
${dump(512)}
barrier.cluster.arrive;
barrier.cluster.wait;`,
    );
    for (const seed of seeds) {
      const bench = new Bench({ seed });
      const from = bench.buffer(content.slice(0, 512 * size));
      const to = bench.buffer(512 * size);
      expect(summary(bench.run(ptx, [from, to], { grid: [size, 1, 1], cluster: [size, 1, 1] }))).toEqual([]);
      const got = bench.read(to, 512 * size);
      for (let rank = 0; rank < size; rank++) {
        const giver = (rank + size - 1) % size;
        expect(got.slice(512 * rank, 512 * (rank + 1))).toEqual(
          content.slice(512 * giver, 512 * (giver + 1)),
        );
      }
    }
  });

  test.each([
    [2, 0b11],
    [4, 0b1111],
    [4, 0b1010],
  ])('multicast in a cluster of %i, mask %i', (size, mask) => {
    // Block 1 sends; each block of the mask expects the bytes in its own mbarrier.
    const ptx = moduleOf(
      '.param .u64 from, .param .u64 to',
      `.shared .align 128 .b8 tile[512];
.shared .align 8 .b64 bar;
ld.param.u64 %rd0, [from];
ld.param.u64 %rd1, [to];
mov.u32 %r0, %cluster_ctarank;
mov.u32 %r9, %tid.x;
setp.eq.u32 %p0, %r9, 0;
@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
fence.mbarrier_init.release.cluster;
mov.u32 %r63, tile;
shl.b32 %r10, %r9, 2;
add.u32 %r10, %r10, %r63;
mov.u32 %r11, 0;
st.shared.u32 [%r10], %r11;
st.shared.u32 [%r10+128], %r11;
st.shared.u32 [%r10+256], %r11;
st.shared.u32 [%r10+384], %r11;
mul.wide.u32 %rd2, %r0, 512;
add.u64 %rd63, %rd1, %rd2;
barrier.cluster.arrive;
barrier.cluster.wait;
mov.u32 %r1, 1;
shl.b32 %r1, %r1, %r0;
and.b32 %r1, %r1, ${mask};
setp.ne.u32 %p1, %r1, 0;
and.pred %p2, %p0, %p1;
@%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 512;
mov.u16 %h0, ${mask};
setp.eq.and.u32 %p3, %r0, 1, %p0;
@%p3 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r63], [%rd0], 512, [bar], %h0;
@!%p1 bra READ;
${waitForBar('W')}
READ:
${dump(512)}
barrier.cluster.arrive;
barrier.cluster.wait;`,
    );
    for (const seed of seeds) {
      const bench = new Bench({ seed });
      const from = bench.buffer(content.slice(0, 512));
      const to = bench.buffer(512 * size);
      expect(summary(bench.run(ptx, [from, to], { grid: [size, 1, 1], cluster: [size, 1, 1] }))).toEqual([]);
      const got = bench.read(to, 512 * size);
      for (let rank = 0; rank < size; rank++)
        expect(got.slice(512 * rank, 512 * (rank + 1))).toEqual(
          (mask >> rank) & 1 ? content.slice(0, 512) : new Uint8Array(512),
        );
    }
  });
});
