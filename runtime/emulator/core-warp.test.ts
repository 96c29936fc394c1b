// Divergence, calls, warp-wide operations, barriers: what lanes do together.
import { describe, expect, test } from 'vitest';
import { Bench, moduleOf as wholeModule, summary } from './async.testing.ts';

/** A kernel with declarations in front of its body. */
const moduleOf = (parameters: string, body: string, declarations = ''): string =>
  wholeModule(parameters, `${declarations}\n${body}`);

const head = `
ld.param.u64 %rd0, [o];
cvta.to.global.u64 %rd0, %rd0;
mov.u32 %r0, %tid.x;
mul.wide.u32 %rd1, %r0, 4;
add.u64 %rd1, %rd0, %rd1;
`;
/** Runs the body for `threads` threads in one block; lane's result is %r9. Seeds must not change it. */
function lanes(body: string, threads = 32, extra = '', seeds = [0, 1, 2, 3]): number[] {
  const ptx = moduleOf('.param .u64 o', `${head}${body}\nst.global.u32 [%rd1], %r9;`, extra);
  const results = seeds.map((seed) => {
    const bench = new Bench({ seed });
    const out = bench.buffer(threads * 4);
    expect(bench.run(ptx, [out], { block: [threads, 1, 1] })).toEqual([]);
    return bench.words(out, threads);
  });
  for (const r of results) expect(r).toEqual(results[0]);
  return results[0];
}
const each = (n: number, f: (i: number) => number): number[] =>
  Array.from({ length: n }, (_, i) => f(i) >>> 0);

describe('divergence', () => {
  test('nested ifs', () => {
    const got = lanes(`
setp.lt.u32 %p0, %r0, 16;
@%p0 bra A;
setp.lt.u32 %p1, %r0, 24;
@%p1 bra B;
mov.u32 %r9, 3; bra E;
B: mov.u32 %r9, 2; bra E;
A: and.b32 %r1, %r0, 1;
setp.eq.u32 %p2, %r1, 0;
@!%p2 bra C;
mov.u32 %r9, 10; bra E;
C: mov.u32 %r9, 11;
E: add.u32 %r9, %r9, 100;`);
    expect(got).toEqual(each(32, (i) => 100 + (i < 16 ? (i % 2 ? 11 : 10) : i < 24 ? 2 : 3)));
  });

  test('loops with different trip counts, and warps that are not whole', () => {
    const body = `
mov.u32 %r9, 0; mov.u32 %r1, 0;
L: setp.ge.u32 %p0, %r1, %r0;
@%p0 bra D;
add.u32 %r9, %r9, %r1; add.u32 %r1, %r1, 1;
bra L;
D:`;
    expect(lanes(body, 77)).toEqual(each(77, (i) => (i * (i - 1)) / 2));
  });

  test('early exits; a barrier counts those who are left', () => {
    const got = lanes(
      `
mov.u32 %r9, 7;
st.global.u32 [%rd1], %r9;
setp.ge.u32 %p0, %r0, 70;
@%p0 exit;
st.shared.u32 [s+0], %r0;
bar.sync 0;
mov.u32 %r9, 8;`,
      96,
      '.shared .align 4 .b8 s[4];',
    );
    expect(got).toEqual(each(96, (i) => (i < 70 ? 8 : 7)));
  });

  test('branch tables', () => {
    const got = lanes(`
and.b32 %r1, %r0, 3;
T: .branchtargets L0, L1, L2, L3;
brx.idx %r1, T;
L0: mov.u32 %r9, 40; bra E;
L1: mov.u32 %r9, 41; bra E;
L2: mov.u32 %r9, 42; bra E;
L3: mov.u32 %r9, 43;
E:`);
    expect(got).toEqual(each(32, (i) => 40 + (i % 4)));
  });

  test('a lane that spins for another lane of its warp is not starved', () => {
    const got = lanes(
      `
mov.u32 %r1, 0; setp.eq.u32 %p0, %r0, 0;
@%p0 st.shared.u32 [f], %r1;
bar.warp.sync 0xffffffff;
setp.eq.u32 %p1, %r0, 31;
@%p1 bra SET;
W: ld.volatile.shared.u32 %r2, [f];
setp.eq.u32 %p2, %r2, 0;
@%p2 bra W;
bra E;
SET: mov.u32 %r2, 5; st.volatile.shared.u32 [f], %r2;
E: mov.u32 %r9, %r2;`,
      32,
      '.shared .align 4 .b8 f[4];',
    );
    expect(got).toEqual(each(32, () => 5));
  });
});

describe('calls', () => {
  const module = (functions: string, body: string): string => `
.version 8.6
.target sm_90a
.address_size 64
${functions}
.visible .entry k(.param .u64 o)
{
.reg .pred %p<8>; .reg .b32 %r<32>; .reg .b64 %rd<32>;
${head}${body}
st.global.u32 [%rd1], %r9;
ret;
}
`;
  const run = (ptx: string): number[] => {
    const bench = new Bench();
    const out = bench.buffer(128);
    expect(bench.run(ptx, [out])).toEqual([]);
    return bench.words(out, 32);
  };

  test('recursion of different depths', () => {
    const ptx = module(
      `
.func (.param .b32 r) fib(.param .b32 n)
{
.reg .pred %p<2>; .reg .b32 %r<8>;
ld.param.u32 %r0, [n];
setp.lt.u32 %p0, %r0, 2;
@%p0 bra SMALL;
sub.u32 %r1, %r0, 1;
{ .param .b32 a; .param .b32 x; st.param.b32 [a], %r1; call (x), fib, (a); ld.param.b32 %r2, [x]; }
sub.u32 %r1, %r0, 2;
{ .param .b32 a; .param .b32 x; st.param.b32 [a], %r1; call (x), fib, (a); ld.param.b32 %r3, [x]; }
add.u32 %r4, %r2, %r3;
st.param.b32 [r], %r4;
ret;
SMALL: st.param.b32 [r], %r0;
ret;
}`,
      `and.b32 %r1, %r0, 7;
{ .param .b32 a; .param .b32 x; st.param.b32 [a], %r1; call (x), fib, (a); ld.param.b32 %r9, [x]; }`,
    );
    expect(run(ptx)).toEqual(each(32, (i) => [0, 1, 1, 2, 3, 5, 8, 13][i % 8]));
  });

  test('divergent and indirect calls', () => {
    const two = ['twice', 'thrice']
      .map(
        (name, k) => `
.func (.param .b32 r) ${name}(.param .b32 n)
{ .reg .b32 %r<4>; ld.param.u32 %r0, [n]; mul.lo.u32 %r1, %r0, ${k + 2}; st.param.b32 [r], %r1; ret; }`,
      )
      .join('\n');
    const ptx = module(
      two,
      `mov.u64 %rd2, twice; mov.u64 %rd3, thrice;
and.b32 %r1, %r0, 1; setp.eq.u32 %p0, %r1, 0;
selp.b64 %rd4, %rd2, %rd3, %p0;
{ .param .b32 a; .param .b32 x;
P: .callprototype (.param .b32 _) _ (.param .b32 _);
st.param.b32 [a], %r0; call (x), %rd4, (a), P; ld.param.b32 %r9, [x]; }`,
    );
    expect(run(ptx)).toEqual(each(32, (i) => i * (i % 2 ? 3 : 2)));
  });

  test('local memory belongs to the thread and the call', () => {
    const ptx = module(
      `
.func (.param .b32 r) f(.param .b32 n)
{ .local .align 4 .b8 l[16]; .reg .b32 %r<4>; .reg .b64 %rd<4>;
ld.param.u32 %r0, [n]; mov.u64 %rd0, l; cvta.local.u64 %rd1, %rd0;
st.u32 [%rd1+8], %r0; ld.local.u32 %r1, [l+8]; add.u32 %r1, %r1, 1; st.param.b32 [r], %r1; ret; }`,
      `{ .local .align 4 .b8 own[8];
st.local.u32 [own+4], %r0;
{ .param .b32 a; .param .b32 x; st.param.b32 [a], %r0; call (x), f, (a); ld.param.b32 %r8, [x]; }
ld.local.u32 %r7, [own+4]; mad.lo.u32 %r9, %r7, 1000, %r8; }`,
    );
    expect(run(ptx)).toEqual(each(32, (i) => 1001 * i + 1));
  });
});

describe('warp-wide operations', () => {
  test('shfl in its four modes, with segments, against the ISA told lane by lane', () => {
    for (const mode of ['up', 'down', 'bfly', 'idx'] as const)
      for (const [b, c] of [
        [1, 31],
        [3, 31],
        [5, 0x1807],
        [1, 0x1c03],
        [2, 0],
      ]) {
        const cc = mode === 'up' ? c & ~31 : c;
        const got = lanes(
          `add.u32 %r2, %r0, 100; shfl.sync.${mode}.b32 %r9|%p0, %r2, ${b}, ${cc}, 0xffffffff; @%p0 add.u32 %r9, %r9, 1000;`,
        );
        const want = each(32, (lane) => {
          const segment = (cc >> 8) & 31;
          const most = (lane & segment) | (cc & 31 & ~segment);
          const [j, inside] =
            mode === 'up'
              ? [lane - b, lane - b >= most]
              : mode === 'down'
                ? [lane + b, lane + b <= most]
                : mode === 'bfly'
                  ? [lane ^ b, (lane ^ b) <= most]
                  : [(lane & segment) | (b & ~segment), ((lane & segment) | (b & ~segment)) <= most];
          return inside ? 1100 + j : 100 + lane;
        });
        expect(got, `${mode} ${b} ${cc}`).toEqual(want);
      }
  });

  test('vote, match, redux, elect, activemask', () => {
    const odd = 'and.b32 %r1, %r0, 1; setp.eq.u32 %p0, %r1, 1;';
    expect(lanes(`${odd} vote.sync.ballot.b32 %r9, %p0, 0xffffffff;`)).toEqual(each(32, () => 0xaaaaaaaa));
    expect(lanes(`${odd} vote.sync.any.pred %p1, !%p0, 0xffffffff; selp.u32 %r9, 1, 0, %p1;`)).toEqual(
      each(32, () => 1),
    );
    expect(lanes(`${odd} vote.sync.all.pred %p1, %p0, 0xffffffff; selp.u32 %r9, 1, 0, %p1;`)).toEqual(
      each(32, () => 0),
    );
    expect(lanes(`${odd} vote.sync.uni.pred %p1, %p0, 0xffffffff; selp.u32 %r9, 1, 0, %p1;`)).toEqual(
      each(32, () => 0),
    );
    expect(lanes('and.b32 %r1, %r0, 3; match.any.sync.b32 %r9, %r1, 0xffffffff;')).toEqual(
      each(32, (i) => 0x11111111 << (i % 4)),
    );
    expect(
      lanes('mov.u32 %r1, 9; match.all.sync.b32 %r9|%p0, %r1, 0xffffffff; @!%p0 mov.u32 %r9, 1;'),
    ).toEqual(each(32, () => 0xffffffff));
    expect(lanes('match.all.sync.b32 %r9|%p0, %r0, 0xffffffff; @%p0 mov.u32 %r9, 1;')).toEqual(
      each(32, () => 0),
    );
    expect(lanes('redux.sync.add.u32 %r9, %r0, 0xffffffff;')).toEqual(each(32, () => 496));
    expect(lanes('sub.s32 %r1, %r0, 5; redux.sync.min.s32 %r9, %r1, 0xffffffff;')).toEqual(
      each(32, () => -5),
    );
    expect(lanes('sub.s32 %r1, %r0, 5; redux.sync.max.u32 %r9, %r1, 0xffffffff;')).toEqual(
      each(32, () => -1),
    );
    expect(lanes('redux.sync.xor.b32 %r9, %r0, 0xffffffff;')).toEqual(each(32, () => 0));
    expect(lanes('mov.u32 %r9, 0; elect.sync %r1|%p0, 0xffffffff; @%p0 mov.u32 %r9, 1;')).toEqual(
      each(32, (i) => (i === 0 ? 1 : 0)),
    );
    expect(lanes(`${odd} @%p0 bra O; activemask.b32 %r9; bra E; O: activemask.b32 %r9; E:`)).toEqual(
      each(32, (i) => (i % 2 ? 0xaaaaaaaa : 0x55555555)),
    );
  });

  test('lanes meet over different instructions of divergent code', () => {
    const got = lanes(`
and.b32 %r1, %r0, 1; setp.eq.u32 %p0, %r1, 1;
@%p0 bra O;
shfl.sync.bfly.b32 %r9, %r0, 1, 31, 0xffffffff;
bra E;
O: shfl.sync.bfly.b32 %r9, %r0, 1, 31, 0xffffffff;
add.u32 %r9, %r9, 100;
E:`);
    expect(got).toEqual(each(32, (i) => (i ^ 1) + (i % 2 ? 100 : 0)));
  });

  test('different member masks in one instruction are different operations', () => {
    const got = lanes(`
setp.lt.u32 %p0, %r0, 16; selp.b32 %r1, 0x0000ffff, 0xffff0000, %p0;
redux.sync.add.u32 %r9, %r0, %r1;`);
    expect(got).toEqual(each(32, (i) => (i < 16 ? 120 : 376)));
  });

  test('a lane outside of its member mask is an error', () => {
    const bench = new Bench();
    const out = bench.buffer(128);
    const reports = bench.run(
      moduleOf('.param .u64 o', `${head} shfl.sync.idx.b32 %r9, %r0, 0, 31, 0xffff;`),
      [out],
    );
    expect(summary(reports)).toEqual(['error emu/member-mask']);
  });
});

describe('barriers', () => {
  test('a block exchanges values through shared memory', () => {
    const got = lanes(
      `
mov.u32 %r1, s; mad.lo.u32 %r2, %r0, 4, %r1; st.shared.u32 [%r2], %r0;
bar.sync 0;
sub.u32 %r3, 255, %r0; mad.lo.u32 %r2, %r3, 4, %r1; ld.shared.u32 %r9, [%r2];`,
      256,
      '.shared .align 4 .b8 s[1024];',
    );
    expect(got).toEqual(each(256, (i) => 255 - i));
  });

  test('named barriers: producers arrive, consumers wait', () => {
    const got = lanes(
      `
setp.lt.u32 %p0, %r0, 64;
@%p0 bra CONSUME;
sub.u32 %r3, %r0, 64; mov.u32 %r1, s; mad.lo.u32 %r2, %r3, 4, %r1; add.u32 %r4, %r3, 500; st.shared.u32 [%r2], %r4;
bar.arrive 3, 128;
mov.u32 %r9, 1;
bra E;
CONSUME:
bar.sync 3, 128;
mov.u32 %r1, s; mad.lo.u32 %r2, %r0, 4, %r1; ld.shared.u32 %r9, [%r2];
E:`,
      128,
      '.shared .align 4 .b8 s[256];',
    );
    expect(got).toEqual(each(128, (i) => (i < 64 ? 500 + i : 1)));
  });

  test('reducing barriers', () => {
    const bits = 'and.b32 %r1, %r0, 3; setp.eq.u32 %p0, %r1, 0;';
    expect(lanes(`${bits} bar.red.popc.u32 %r9, 0, %p0;`, 96)).toEqual(each(96, () => 24));
    expect(lanes(`${bits} bar.red.or.pred %p1, 1, %p0; selp.u32 %r9, 1, 0, %p1;`, 96)).toEqual(
      each(96, () => 1),
    );
    expect(lanes(`${bits} bar.red.and.pred %p1, 1, !%p0; selp.u32 %r9, 1, 0, %p1;`, 96)).toEqual(
      each(96, () => 0),
    );
  });

  const reportsOf = (
    body: string,
    threads: number,
    extra = '',
  ): readonly { code: string; message: string; others: readonly unknown[] }[] => {
    const bench = new Bench();
    const out = bench.buffer(4096);
    return bench.run(moduleOf('.param .u64 o', head + body, extra), [out], { block: [threads, 1, 1] });
  };
  test('a barrier in divergent code is an error', () => {
    const [r, ...more] = reportsOf(
      'setp.lt.u32 %p0, %r0, 16; @%p0 bra A; bar.sync 0; bra E; A: bar.sync 0; E:',
      32,
    );
    expect(more).toEqual([]);
    expect(r.code).toBe('emu/divergent-barrier');
    expect(r.message).toMatch(/lanes 0x[0-9a-f]{8} wait at bar\.sync/);
  });
  test('a guard that holds for some lanes only is an error', () => {
    const [r] = reportsOf('setp.lt.u32 %p0, %r0, 16; @%p0 bar.sync 0;', 32);
    expect(r.code).toBe('emu/divergent-barrier');
  });
  test('barrier.sync without .aligned may diverge', () => {
    expect(
      reportsOf('setp.lt.u32 %p0, %r0, 16; @%p0 bra A; barrier.sync 0; bra E; A: barrier.sync 0; E:', 64),
    ).toEqual([]);
  });
  test('a missing arrival is a deadlock, with who waits for what', () => {
    const [r, ...more] = reportsOf('setp.lt.u32 %p0, %r0, 32; @%p0 bra E; bar.sync 2, 128; E:', 96);
    expect(more).toEqual([]);
    expect(r.code).toBe('emu/deadlock');
    expect(r.others).toHaveLength(2);
    expect(r.message).toContain('waits at barrier 2: 64 of 128 threads have arrived');
  });
  test('different counts at one barrier are an error', () => {
    const [r] = reportsOf(
      'setp.lt.u32 %p0, %r0, 32; @%p0 bra A; bar.sync 1, 96; bra E; A: bar.sync 1, 64; E:',
      96,
    );
    expect(r.code).toBe('emu/barrier-operands');
  });
});

test('clusters: barrier.cluster, mapa, distributed shared memory', () => {
  const ptx = moduleOf(
    '.param .u64 o',
    `
ld.param.u64 %rd0, [o]; cvta.to.global.u64 %rd0, %rd0;
mov.u32 %r0, %tid.x; mov.u32 %r1, %cluster_ctarank; mov.u32 %r2, %ctaid.x;
mov.u32 %r3, s; mad.lo.u32 %r4, %r0, 4, %r3;
mad.lo.u32 %r5, %r2, 100, %r0; st.shared.u32 [%r4], %r5;
barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
add.u32 %r6, %r1, 1; and.b32 %r6, %r6, 3;
mapa.shared::cluster.u32 %r7, %r4, %r6;
ld.shared::cluster.u32 %r8, [%r7];
getctarank.shared::cluster.u32 %r9, %r7;
mad.lo.u32 %r8, %r9, 10000, %r8;
mad.lo.u32 %r10, %r2, 32, %r0; mul.wide.u32 %rd1, %r10, 4; add.u64 %rd1, %rd0, %rd1;
st.global.u32 [%rd1], %r8;
barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;`,
    '.shared .align 4 .b8 s[128];',
  );
  for (const seed of [0, 5, 9]) {
    const bench = new Bench({ seed });
    const out = bench.buffer(8 * 32 * 4);
    expect(bench.run(ptx, [out], { grid: [8, 1, 1], cluster: [4, 1, 1] })).toEqual([]);
    expect(bench.words(out, 256)).toEqual(
      each(256, (k) => {
        const cta = k >> 5;
        const peer = (cta & ~3) | ((cta + 1) & 3);
        return (peer & 3) * 10000 + peer * 100 + (k & 31);
      }),
    );
  }
});
