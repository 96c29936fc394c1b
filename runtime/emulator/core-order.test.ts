// Loads, stores, atomics and fences in their orders, scopes and cache hints: none changes a value, each must be taken.
import { describe, expect, test } from 'vitest';
import { Bench, moduleOf as wholeModule, pattern } from './async.testing.ts';

/** One warp; %r0 is the lane, %rd0 the output, %rd1 the input, %rd3 the lane's words of the input. `s` is shared. */
function run(body: string, input: Uint8Array, outputBytes: number, seed = 0): Uint8Array {
  const text = wholeModule(
    '.param .u64 o, .param .u64 i',
    `.reg .b128 %q<4>; .shared .align 16 .b8 s[512];
mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [o]; cvta.to.global.u64 %rd0, %rd0;
ld.param.u64 %rd1, [i]; cvta.to.global.u64 %rd1, %rd1;
mul.wide.u32 %rd2, %r0, 16; add.u64 %rd3, %rd1, %rd2; add.u64 %rd4, %rd0, %rd2;
mov.u32 %r10, s; mad.lo.u32 %r11, %r0, 16, %r10;
${body}`,
  );
  const bench = new Bench({ seed });
  const [out, from] = [bench.buffer(outputBytes, 'out'), bench.buffer(input, 'in')];
  expect(bench.run(text, [out, from])).toEqual([]);
  return bench.read(out, outputBytes);
}
const content = pattern(512, 9);

describe('loads and stores', () => {
  const policy = 'createpolicy.fractional.L2::evict_last.b64 %rd9, 0.5;';
  const range = 'createpolicy.range.global.L2::evict_last.L2::evict_first.b64 %rd9, [%rd1], 128, 1024;';
  test.each([
    'ld.relaxed.gpu.global.v4.u32 R, [%rd3];',
    'ld.acquire.sys.global.v4.u32 R, [%rd3];',
    'ld.acquire.cluster.v4.u32 R, [%rd3];',
    'ld.volatile.global.v4.u32 R, [%rd3];',
    'ld.weak.global.ca.v4.u32 R, [%rd3];',
    'ld.global.cv.v4.u32 R, [%rd3];',
    'ld.global.nc.v4.u32 R, [%rd3];',
    'ld.global.nc.L1::no_allocate.L2::128B.v4.u32 R, [%rd3];',
    'ld.global.L1::evict_last.L2::256B.v4.u32 R, [%rd3];',
    `${policy} ld.global.L2::cache_hint.v4.u32 R, [%rd3], %rd9;`,
    `${range} ld.global.L2::cache_hint.v4.u32 R, [%rd3], %rd9;`,
    'ldu.global.v4.u32 R, [%rd3];',
    'ld.global.b128 %q0, [%rd3]; mov.b128 {%rd8, %rd9}, %q0; mov.b64 {%r1, %r2}, %rd8; mov.b64 {%r3, %r4}, %rd9;',
    'prefetch.global.L2 [%rd3]; prefetch.global.L2::evict_last [%rd1]; prefetchu.L1 [%rd1]; ld.global.v4.u32 R, [%rd3];',
    'applypriority.global.L2::evict_normal [%rd1], 128; ld.global.v4.u32 R, [%rd3];',
  ])('%s', (load) => {
    const body = load.replaceAll('R', '{%r1, %r2, %r3, %r4}');
    expect(run(`${body}\nst.global.v4.u32 [%rd4], {%r1, %r2, %r3, %r4};`, content, 512)).toEqual(content);
  });

  test.each([
    'st.relaxed.gpu.global.v4.u32 [%rd4], R;',
    'st.release.sys.global.v4.u32 [%rd4], R;',
    'st.release.cluster.v4.u32 [%rd4], R;',
    'st.volatile.global.v4.u32 [%rd4], R;',
    'st.weak.global.wt.v4.u32 [%rd4], R;',
    'st.global.cs.v4.u32 [%rd4], R;',
    'st.global.L1::no_allocate.v4.u32 [%rd4], R;',
    `${policy} st.global.L2::cache_hint.v4.u32 [%rd4], R, %rd9;`,
    'mov.b64 %rd8, {%r1, %r2}; mov.b64 %rd9, {%r3, %r4}; mov.b128 %q0, {%rd8, %rd9}; st.global.b128 [%rd4], %q0;',
    // Through shared memory.
    'st.volatile.shared.v4.u32 [%r11], R; ld.volatile.shared.v4.u32 R, [%r11]; st.global.v4.u32 [%rd4], R;',
    'st.release.cta.shared::cta.v4.u32 [%r11], R; ld.acquire.cta.shared::cta.v4.u32 R, [%r11]; st.global.v4.u32 [%rd4], R;',
    'st.relaxed.cluster.shared::cluster.v4.u32 [%r11], R; ld.relaxed.cluster.shared::cluster.v4.u32 R, [%r11]; st.global.v4.u32 [%rd4], R;',
  ])('%s', (store) => {
    const body = `ld.global.v4.u32 R, [%rd3];\n${store}`.replaceAll('R', '{%r1, %r2, %r3, %r4}');
    expect(run(body, content, 512)).toEqual(content);
  });

  test('.mmio takes one word', () => {
    const body = 'ld.mmio.relaxed.sys.global.u32 %r1, [%rd3]; st.mmio.relaxed.sys.global.u32 [%rd4], %r1;';
    const got = new DataView(run(body, content, 512).buffer);
    const want = new DataView(content.buffer);
    for (let lane = 0; lane < 32; lane++) {
      expect(got.getUint32(16 * lane, true)).toBe(want.getUint32(16 * lane, true));
      expect(got.getUint32(16 * lane + 4, true)).toBe(0);
    }
  });

  test('what was discarded may be written again', () => {
    const body =
      'discard.global.L2 [%rd0], 128; bar.warp.sync -1; ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd3]; st.global.v4.u32 [%rd4], {%r1, %r2, %r3, %r4};';
    expect(run(body, content, 512)).toEqual(content);
  });
});

/** Little-endian words of the output. */
const words = (bytes: Uint8Array): number[] => [...new Uint32Array(bytes.slice().buffer)];
const none = new Uint8Array(16);

describe('atomics', () => {
  // Every lane adds its number + 1 to a zeroed word: the old values are partial sums, the new one is 528.
  test.each([
    'atom.global.add.u32 %r2, [%rd0], %r1;',
    'atom.relaxed.gpu.global.add.u32 %r2, [%rd0], %r1;',
    'atom.acq_rel.sys.global.add.u32 %r2, [%rd0], %r1;',
    'atom.acquire.cluster.add.u32 %r2, [%rd0], %r1;',
    'atom.release.cta.global.add.u32 %r2, [%rd0], %r1;',
    'red.global.add.u32 [%rd0], %r1;',
    'red.release.gpu.global.add.u32 [%rd0], %r1;',
    'red.relaxed.cluster.add.u32 [%rd0], %r1;',
    'atom.shared.add.u32 %r2, [s], %r1; bar.sync 0; ld.shared.u32 %r3, [s]; st.global.u32 [%rd0], %r3;',
    'atom.acq_rel.cluster.shared::cluster.add.u32 %r2, [s], %r1; bar.sync 0; ld.shared.u32 %r3, [s]; st.global.u32 [%rd0], %r3;',
    'red.shared.add.u32 [s], %r1; bar.sync 0; ld.shared.u32 %r3, [s]; st.global.u32 [%rd0], %r3;',
    'red.relaxed.cta.shared::cta.add.u32 [s], %r1; bar.sync 0; ld.shared.u32 %r3, [s]; st.global.u32 [%rd0], %r3;',
    'mov.u64 %rd5, s; cvta.shared.u64 %rd5, %rd5; atom.add.u32 %r2, [%rd5], %r1; bar.sync 0; ld.u32 %r3, [%rd5]; st.global.u32 [%rd0], %r3;',
  ])('%s', (body) => {
    const clear = 'mov.u32 %r3, 0; st.shared.u32 [s], %r3; bar.sync 0; add.u32 %r1, %r0, 1;';
    for (const seed of [0, 1]) expect(words(run(`${clear}\n${body}`, none, 16, seed))[0]).toBe(528);
  });

  test('halves: f16 and bf16 alone, and cas of 16 bits', () => {
    // 32 additions of 0.5; a counter of 16 bits in a loop of cas.
    const body = `mov.b16 %h0, 0x3800; mov.b16 %h1, 0x3F00;
red.global.add.noftz.f16 [%rd0], %h0; atom.global.add.noftz.bf16 %h2, [%rd0+2], %h1;
L: ld.volatile.global.u16 %h3, [%rd0+6]; add.u16 %h4, %h3, 3;
atom.global.cas.b16 %h5, [%rd0+6], %h3, %h4; setp.ne.u16 %p0, %h5, %h3; @%p0 bra L;`;
    for (const seed of [0, 1, 2]) {
      const out = new DataView(run(body, none, 16, seed).slice().buffer);
      expect([0, 2, 4, 6].map((at) => out.getUint16(at, true))).toEqual([0x4c00, 0x4180, 0, 96]);
    }
  });

  test('128 bits: exch and cas', () => {
    const body = `setp.ne.u32 %p0, %r0, 0; @%p0 bra D;
mov.u64 %rd5, 1; mov.u64 %rd6, 2; mov.b128 %q0, {%rd5, %rd6}; mov.u64 %rd7, 3; mov.b128 %q1, {%rd7, %rd6};
atom.global.exch.b128 %q2, [%rd0], %q0; st.global.b128 [%rd0+16], %q2;
atom.global.cas.b128 %q2, [%rd0], %q1, %q1; st.global.b128 [%rd0+32], %q2;
atom.global.cas.b128 %q2, [%rd0], %q0, %q1; st.global.b128 [%rd0+48], %q2;
D:`;
    const out = new BigUint64Array(run(body, none, 64).slice().buffer);
    expect([...out]).toEqual([3n, 2n, 0n, 0n, 1n, 2n, 1n, 2n]);
  });
});

test('fences and barriers of every scope', () => {
  const fences = [
    ...['membar.cta', 'membar.gl', 'membar.sys', 'fence.sc.cta', 'fence.sc.cluster', 'fence.sc.gpu'],
    ...[
      'fence.sc.sys',
      'fence.acq_rel.cta',
      'fence.acq_rel.cluster',
      'fence.acq_rel.gpu',
      'fence.acq_rel.sys',
    ],
    ...['fence.acquire.gpu', 'fence.release.cluster', 'fence.proxy.async', 'fence.proxy.async.global'],
    ...['fence.proxy.async.shared::cta', 'fence.proxy.alias', 'fence.mbarrier_init.release.cluster'],
    ...['barrier.cta.sync.aligned 0', 'barrier.cta.sync 1, 32', 'bar.cta.sync 2'],
  ];
  // Before each, a lane writes; behind it, its neighbour reads.
  const body = fences
    .map(
      (fence, i) => `add.u32 %r1, %r0, ${100 * i}; st.volatile.shared.u32 [%r11], %r1;
${fence}; bar.warp.sync -1; xor.b32 %r2, %r0, 1; mad.lo.u32 %r2, %r2, 16, %r10; ld.volatile.shared.u32 %r3, [%r2];
mad.lo.u32 %r4, %r0, 4, ${128 * i}; cvt.u64.u32 %rd5, %r4; add.u64 %rd5, %rd5, %rd0; st.global.u32 [%rd5], %r3; bar.warp.sync -1;`,
    )
    .join('\n');
  const got = words(run(body, none, 128 * fences.length));
  expect(got).toEqual(
    fences.flatMap((_, i) => Array.from({ length: 32 }, (_, lane) => 100 * i + (lane ^ 1))),
  );
});
