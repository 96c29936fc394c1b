// Reductions by bulk copies, st.async and red.async.
import { describe, expect, test } from 'vitest';
import { Bench, dump, moduleOf, summary, waitForBar } from './async.testing.ts';

const seeds = [0, 1, 2, 3, 4, 5];

describe('bulk reductions to global memory', () => {
  const reduce = (form: string): string =>
    moduleOf(
      '.param .u64 from, .param .u64 to',
      `.shared .align 128 .b8 tile[64];
ld.param.u64 %rd0, [from];
ld.param.u64 %rd1, [to];
mov.u32 %r9, %tid.x;
mov.u32 %r1, tile;
mul.wide.u32 %rd2, %r9, 4;
add.u64 %rd2, %rd2, %rd0;
mad.lo.u32 %r2, %r9, 4, %r1;
ld.global.u32 %r3, [%rd2];
st.shared.u32 [%r2], %r3;
fence.proxy.async.shared::cta;
bar.sync 0;
setp.ne.u32 %p0, %r9, 0;
@%p0 bra DONE;
cp.reduce.async.bulk.global.shared::cta.bulk_group.${form} [%rd1], [%r1], 64;
cp.async.bulk.commit_group;
cp.async.bulk.wait_group 0;
DONE:`,
    );
  const run = (form: string, from: ArrayBufferView, to: ArrayBufferView): ArrayBuffer => {
    const bench = new Bench({ seed: 4 });
    const bytesOf = (v: ArrayBufferView): Uint8Array => new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
    const a = bench.buffer(bytesOf(from));
    const b = bench.buffer(bytesOf(to));
    expect(summary(bench.run(reduce(form), [a, b], { block: [16, 1, 1] }))).toEqual([]);
    return bench.read(b, 64).buffer as ArrayBuffer;
  };
  const u32 = (f: (i: number) => number): Uint32Array =>
    Uint32Array.from({ length: 16 }, (_, i) => f(i) >>> 0);
  const a32 = u32((i) => Math.imul(i + 1, 0x9e3779b1));
  const b32 = u32((i) => Math.imul(i + 3, 0x85ebca6b));
  const signed = (x: number): number => x | 0;

  test.each<[string, (old: number, x: number) => number]>([
    ['add.u32', (o, x) => o + x],
    ['add.s32', (o, x) => o + x],
    ['min.u32', (o, x) => Math.min(o, x)],
    ['max.u32', (o, x) => Math.max(o, x)],
    ['min.s32', (o, x) => Math.min(signed(o), signed(x))],
    ['max.s32', (o, x) => Math.max(signed(o), signed(x))],
    ['inc.u32', (o, x) => (o >= x ? 0 : o + 1)],
    ['dec.u32', (o, x) => (o === 0 || o > x ? x : o - 1)],
    ['and.b32', (o, x) => o & x],
    ['or.b32', (o, x) => o | x],
    ['xor.b32', (o, x) => o ^ x],
  ])('%s', (form, f) => {
    expect([...new Uint32Array(run(form, a32, b32))]).toEqual([...u32((i) => f(b32[i], a32[i]))]);
  });

  const a64 = BigUint64Array.from(
    { length: 8 },
    (_, i) => (BigInt(i + 1) * 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn,
  );
  const b64 = BigUint64Array.from(
    { length: 8 },
    (_, i) => (BigInt(i + 2) * 0xbf58476d1ce4e5b9n) & 0xffffffffffffffffn,
  );
  test.each<[string, (old: bigint, x: bigint) => bigint]>([
    ['add.u64', (o, x) => o + x],
    ['min.u64', (o, x) => (o < x ? o : x)],
    ['max.s64', (o, x) => (BigInt.asIntN(64, o) > BigInt.asIntN(64, x) ? o : x)],
    ['min.s64', (o, x) => (BigInt.asIntN(64, o) < BigInt.asIntN(64, x) ? o : x)],
    ['and.b64', (o, x) => o & x],
    ['xor.b64', (o, x) => o ^ x],
  ])('%s', (form, f) => {
    expect([...new BigUint64Array(run(form, a64, b64))]).toEqual(
      [...b64].map((o, i) => BigInt.asUintN(64, f(o, a64[i]))),
    );
  });

  test('add.f32 flushes subnormals, add.f64 does not', () => {
    const tiny = 2 ** -127;
    const from = Float32Array.from([
      1.5,
      tiny,
      2 ** -126,
      -tiny,
      1e30,
      Infinity,
      -0,
      2 ** -24,
      1,
      2,
      3,
      4,
      5,
      6,
      7,
      8,
    ]);
    const to = Float32Array.from([
      2.25,
      1,
      -(2 ** -126) * 1.5,
      -0,
      -1e30,
      -Infinity,
      -0,
      1,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
    ]);
    const got = new Float32Array(run('add.f32', from, to));
    expect([...got].slice(0, 5)).toEqual([3.75, 1, -0, -0, 0]);
    expect(new Uint32Array(got.buffer)[5]).toBe(0x7fffffff);
    expect([...got].slice(6, 10)).toEqual([-0, 1, 1, 2]);
    const small = Float64Array.from({ length: 8 }, (_, i) => 2 ** -1060 * (i + 1));
    expect([...new Float64Array(run('add.f64', small, small))]).toEqual([...small].map((x) => x + x));
  });

  test('f16 and bf16', () => {
    const f16 = Uint16Array.from(
      { length: 32 },
      (_, i) => [0x3c00, 0x0001, 0x7bff, 0xbc00, 0x3c01, 0x7e00, 0x8000, 0x03ff][i % 8],
    );
    const old = Uint16Array.from(
      { length: 32 },
      (_, i) => [0x3c00, 0x0001, 0x7bff, 0x3c00, 0x1000, 0x3c00, 0x0000, 0x0001][i % 8],
    );
    // 1+1, two smallest subnormals, overflow, 1-1, 1.0009765625+2^-11 to even, NaN, -0+0, largest subnormal + smallest.
    const sum = [0x4000, 0x0002, 0x7c00, 0x0000, 0x3c02, 0x7fff, 0x0000, 0x0400];
    expect([...new Uint16Array(run('add.noftz.f16', f16, old))].slice(0, 8)).toEqual(sum);
    // The NaN loses; -0 is below +0.
    expect([...new Uint16Array(run('min.f16', f16, old))].slice(0, 8)).toEqual([
      0x3c00, 0x0001, 0x7bff, 0xbc00, 0x1000, 0x3c00, 0x8000, 0x0001,
    ]);
    const bf = Uint16Array.from({ length: 32 }, (_, i) => [0x3f80, 0x3f81, 0x7f7f, 0x0001][i % 4]);
    const bfOld = Uint16Array.from({ length: 32 }, (_, i) => [0x3f80, 0x3b80, 0x7f7f, 0x0001][i % 4]);
    // 1+1; 1.0078125+2^-8 is halfway: to even; overflow; subnormals stay.
    expect([...new Uint16Array(run('add.noftz.bf16', bf, bfOld))].slice(0, 4)).toEqual([
      0x4000, 0x3f82, 0x7f80, 0x0002,
    ]);
  });
});

test.each<[string, (old: number, x: number) => number]>([
  ['add.u32', (o, x) => o + x],
  ['min.s32', (o, x) => Math.min(o | 0, x | 0)],
  ['or.b32', (o, x) => o | x],
])('bulk reductions into the other block of a cluster: %s', (form, f) => {
  const ptx = moduleOf(
    '.param .u64 to',
    `.shared .align 128 .b8 mine[128];
.shared .align 128 .b8 sum[128];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [to];
mov.u32 %r0, %cluster_ctarank;
mov.u32 %r9, %tid.x;
setp.ne.u32 %p0, %r9, 0;
@!%p0 mbarrier.init.shared::cta.b64 [bar], 1;
@!%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 256;
fence.mbarrier_init.release.cluster;
mul.wide.u32 %rd2, %r0, 128;
add.u64 %rd63, %rd1, %rd2;
mov.u32 %r1, mine;
mov.u32 %r63, sum;
mad.lo.u32 %r2, %r9, 4, %r1;
mad.lo.u32 %r3, %r9, 4, %r63;
mad.lo.u32 %r10, %r0, 1000, %r9;
st.shared.u32 [%r2], %r10;
mov.u32 %r11, 17;
st.shared.u32 [%r3], %r11;
fence.proxy.async.shared::cta;
barrier.cluster.arrive;
barrier.cluster.wait;
@%p0 bra READ;
xor.b32 %r4, %r0, 1;
mapa.shared::cluster.u32 %r5, %r63, %r4;
mov.u32 %r6, bar;
mapa.shared::cluster.u32 %r6, %r6, %r4;
cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.${form} [%r5], [%r1], 128, [%r6];
cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.${form} [%r5], [%r1], 128, [%r6];
READ:
${waitForBar('W')}
${dump(128)}
barrier.cluster.arrive;
barrier.cluster.wait;`,
  );
  for (const seed of seeds) {
    const bench = new Bench({ seed });
    const to = bench.buffer(256);
    expect(summary(bench.run(ptx, [to], { grid: [2, 1, 1], cluster: [2, 1, 1] }))).toEqual([]);
    const expected = [1, 0].flatMap((giver) =>
      Array.from({ length: 32 }, (_, t) => {
        const x = giver * 1000 + t;
        return f(f(17, x), x) >>> 0;
      }),
    );
    expect(bench.words(to, 64)).toEqual(expected);
  }
});

describe('st.async and red.async', () => {
  const ptx = (send: string, bytes: number): string =>
    moduleOf(
      '.param .u64 to',
      `.shared .align 16 .b8 box[1024];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [to];
mov.u32 %r0, %cluster_ctarank;
mov.u32 %r9, %tid.x;
setp.eq.u32 %p0, %r9, 0;
@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], ${32 * bytes};
fence.mbarrier_init.release.cluster;
mov.u32 %r63, box;
mul.wide.u32 %rd2, %r0, 1024;
add.u64 %rd63, %rd1, %rd2;
mul.lo.u32 %r1, %r9, 32;
add.u32 %r1, %r1, %r63;
mov.u32 %r2, 5;
mov.u32 %r3, 0;
st.shared.v4.u32 [%r1], {%r2, %r2, %r2, %r3};
st.shared.v4.u32 [%r1+16], {%r3, %r3, %r3, %r3};
barrier.cluster.arrive;
barrier.cluster.wait;
xor.b32 %r4, %r0, 1;
mapa.shared::cluster.u32 %r5, %r1, %r4;
mov.u32 %r6, bar;
mapa.shared::cluster.u32 %r6, %r6, %r4;
mad.lo.u32 %r10, %r0, 1000, %r9;
add.u32 %r11, %r10, 100000;
add.u32 %r12, %r10, 200000;
add.u32 %r13, %r10, 300000;
mov.b64 %rd10, {%r10, %r11};
${send}
${waitForBar('W')}
${dump(1024)}
barrier.cluster.arrive;
barrier.cluster.wait;`,
    );
  const words = (send: string, bytes: number, seed: number): number[] => {
    const bench = new Bench({ seed });
    const to = bench.buffer(2048);
    expect(summary(bench.run(ptx(send, bytes), [to], { grid: [2, 1, 1], cluster: [2, 1, 1] }))).toEqual([]);
    return bench.words(to, 512);
  };
  const expected = (f: (value: number) => number[]): number[] =>
    [0, 1].flatMap((rank) =>
      Array.from({ length: 32 }, (_, t) => {
        const old = [5, 5, 5, 0, 0, 0, 0, 0];
        f((1 - rank) * 1000 + t).forEach((v, k) => (old[k] = v >>> 0));
        return old;
      }).flat(),
    );
  const st = 'st.async.shared::cluster.mbarrier::complete_tx::bytes';
  const red = 'red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes';
  test.each<[string, number, (v: number) => number[]]>([
    [`${st}.u32 [%r5], %r10, [%r6];`, 4, (v) => [v]],
    [`${st}.b64 [%r5+8], %rd10, [%r6];`, 8, (v) => [5, 5, v, v + 100000]],
    [`${st}.v2.s32 [%r5], {%r10, %r12}, [%r6];`, 8, (v) => [v, v + 200000]],
    [
      `${st}.v4.b32 [%r5], {%r10, %r11, %r12, %r13}, [%r6];`,
      16,
      (v) => [v, v + 100000, v + 200000, v + 300000],
    ],
    [`${red}.add.u32 [%r5], %r10, [%r6];`, 4, (v) => [v + 5]],
    [`${red}.inc.u32 [%r5+4], %r10, [%r6];`, 4, (v) => [5, 5 >= v ? 0 : 6]],
    [`${red}.min.s32 [%r5], %r10, [%r6];`, 4, (v) => [Math.min(5, v)]],
    [`${red}.xor.b32 [%r5], %r10, [%r6];`, 4, (v) => [v ^ 5]],
    [`${red}.add.u64 [%r5+8], %rd10, [%r6];`, 8, (v) => [5, 5, v + 5, v + 100000]],
  ])('%s', (send, bytes, f) => {
    for (const seed of [0, 1, 2]) expect(words(send, bytes, seed)).toEqual(expected(f));
  });
});
