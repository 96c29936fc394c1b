// mbarriers: what arrivals release, who knows of the init; and fences between the proxies.
import { moduleOf, waitForBar } from './async.testing.ts';
import { testCases, unless } from './races.testing.ts';

const start = `.shared .align 128 .b8 data[4096];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [x];
mov.u32 %r0, %tid.x;
mov.u32 %r1, data;
shl.b32 %r2, %r0, 2;
add.u32 %r3, %r1, %r2;
setp.eq.u32 %p0, %r0, 0;`;
const init = `@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
bar.sync 0;`;
const load = `@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 256;
@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [data], [%rd1], 256, [bar];`;
const kernel = (body: string): string => moduleOf('.param .u64 x', `${start}\n${body}`);
const args = (bench: { buffer: (n: number) => bigint }): readonly bigint[] => [bench.buffer(4096)];
const block = { block: [64, 1, 1] } as const;

testCases('mbarriers', [
  {
    name: 'lanes that did not arrive are not released',
    code: 'emu/race-shared',
    ptx: (broken) =>
      kernel(`@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
bar.sync 0;
setp.ge.u32 %p1, %r0, 32;
@%p1 bra READ;
st.shared.u32 [%r3], %r0;
${unless(broken, 'bar.warp.sync -1;')}
@%p0 mbarrier.arrive.shared::cta.b64 _, [bar];
bra DONE;
READ:
${waitForBar('W')}
xor.b32 %r4, %r3, 128;
ld.shared.u32 %r5, [%r4];
DONE:`),
    args,
    launch: block,
    at: /(ld|st)\.shared/,
    other: /(st|ld)\.shared/,
    fix: /bar\.sync/,
  },
  {
    name: 'a relaxed arrive releases nothing',
    code: 'emu/race-shared',
    ptx: (broken) =>
      kernel(`@%p0 mbarrier.init.shared::cta.b64 [bar], 32;
bar.sync 0;
setp.ge.u32 %p1, %r0, 32;
@%p1 bra READ;
st.shared.u32 [%r3], %r0;
mbarrier.arrive.${broken ? 'relaxed' : 'release'}.cta.shared::cta.b64 _, [bar];
bra DONE;
READ:
${waitForBar('W')}
xor.b32 %r4, %r3, 128;
ld.shared.u32 %r5, [%r4];
DONE:`),
    args,
    launch: block,
    at: /(ld|st)\.shared/,
    other: /(st|ld)\.shared/,
    fix: /bar\.sync/,
  },
  {
    name: 'an init that other warps do not know of',
    code: 'emu/missing-mbarrier-init-fence',
    ptx: (broken) =>
      kernel(`@%p0 mbarrier.init.shared::cta.b64 [bar], 64;
${broken ? 'nanosleep.u32 0;\nLOOK:\nld.volatile.global.u32 %r7, [%rd1];\n@%p0 st.volatile.global.u32 [%rd1], 1;\nsetp.eq.u32 %p3, %r7, 0;\n@%p3 bra LOOK;' : 'bar.sync 0;'}
mbarrier.arrive.shared::cta.b64 _, [bar];
${waitForBar('W')}`),
    args,
    launch: block,
    at: /mbarrier\.(arrive|try_wait)/,
    other: /mbarrier\.init/,
    fix: /bar\.sync/,
  },
  {
    name: 'a cluster of blocks whose inits no fence makes visible',
    code: 'emu/missing-mbarrier-init-fence',
    ptx: (broken) =>
      kernel(`@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
${unless(broken, '@%p0 fence.mbarrier_init.release.cluster;')}
barrier.cluster.arrive.relaxed.aligned;
barrier.cluster.wait.acquire.aligned;
mov.u32 %r6, %cluster_ctarank;
xor.b32 %r6, %r6, 1;
mov.u32 %r9, bar;
mapa.shared::cluster.u32 %r8, %r9, %r6;
@%p0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r8];
${waitForBar('W')}
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;`),
    args,
    launch: { grid: [2, 1, 1], cluster: [2, 1, 1], block: [64, 1, 1] },
    at: /mbarrier\.(arrive|try_wait)/,
    other: /mbarrier\.init/,
    fix: /fence\.mbarrier_init/,
  },
  {
    name: 'an arrive at .cta scope on the mbarrier of another block',
    code: 'emu/race-scope',
    ptx: (broken) =>
      kernel(`@%p0 mbarrier.init.shared::cta.b64 [bar], 1;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
mov.u32 %r6, %cluster_ctarank;
xor.b32 %r6, %r6, 1;
mov.u32 %r9, bar;
mapa.shared::cluster.u32 %r8, %r9, %r6;
mapa.shared::cluster.u32 %r7, %r1, %r6;
@%p0 st.shared::cluster.u32 [%r7], %r0;
@%p0 mbarrier.arrive.release.${broken ? 'cta' : 'cluster'}.shared::cluster.b64 _, [%r8];
W:
mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p15, [bar], 0;
@!%p15 bra W;
ld.shared.u32 %r5, [data];
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;`),
    args,
    launch: { grid: [2, 1, 1], cluster: [2, 1, 1], block: [64, 1, 1] },
    at: /ld\.shared/,
    other: /st\.shared::cluster/,
    fix: /\.cluster scope/,
  },
  {
    name: 'a plain store next to an mbarrier reaches into it',
    code: 'emu/mbarrier-plain-access',
    ptx: (broken) =>
      kernel(
        `${init}
mov.u32 %r9, bar;
@%p0 st.shared.u32 [%r9+${broken ? 4 : -4}], %r0;`,
      ),
    args,
    launch: block,
    at: /st\.shared/,
    other: /mbarrier\.init/,
    fix: /mbarrier\.inval/,
  },
]);

testCases('proxy fences', [
  {
    name: 'a bulk store of what threads wrote',
    code: 'emu/missing-proxy-fence',
    ptx: (broken) =>
      kernel(`st.shared.u32 [%r3], %r0;
${unless(broken, 'fence.proxy.async.shared::cta;')}
bar.sync 0;
@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [data], 256;
@%p0 cp.async.bulk.commit_group;
@%p0 cp.async.bulk.wait_group 0;`),
    args,
    launch: block,
    at: /cp\.async\.bulk\.global/,
    other: /st\.shared/,
    fix: /fence\.proxy\.async/,
  },
  {
    name: 'the fence by the issuing thread, after the barrier',
    code: 'emu/missing-proxy-fence',
    ptx: (broken) =>
      kernel(`st.shared.u32 [%r3], %r0;
${unless(broken, 'fence.proxy.async;')}
bar.sync 0;
${broken ? '@%p0 fence.proxy.async;' : ''}
@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [data], 256;
@%p0 cp.async.bulk.commit_group;
@%p0 cp.async.bulk.wait_group 0;`),
    args,
    launch: block,
    at: /cp\.async\.bulk\.global/,
    other: /st\.shared/,
    fix: /writing threads/,
  },
  {
    name: 'a fence of global memory for what lies in shared memory',
    code: 'emu/missing-proxy-fence',
    ptx: (broken) =>
      kernel(`st.shared.u32 [%r3], %r0;
fence.proxy.async.${broken ? 'global' : 'shared::cta'};
bar.sync 0;
@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [data], 256;
@%p0 cp.async.bulk.commit_group;
@%p0 cp.async.bulk.wait_group 0;`),
    args,
    launch: block,
    at: /cp\.async\.bulk\.global/,
    other: /st\.shared/,
    fix: /fence\.proxy\.async/,
  },
  {
    name: 'a fence of shared memory for what lies in global memory',
    code: 'emu/missing-proxy-fence',
    ptx: (broken) =>
      kernel(`mul.wide.u32 %rd2, %r0, 4;
add.u64 %rd2, %rd2, %rd1;
st.global.u32 [%rd2], %r0;
fence.proxy.async.${broken ? 'shared::cta' : 'global'};
${init}\n${load}\n${waitForBar('W')}`),
    args,
    launch: block,
    at: /cp\.async\.bulk\.shared/,
    other: /st\.global/,
    fix: /fence\.proxy\.async/,
  },
  {
    name: 'the fence before the write',
    code: 'emu/missing-proxy-fence',
    ptx: (broken) =>
      kernel(`${broken ? 'fence.proxy.async;' : ''}
st.shared.u32 [%r3], %r0;
${unless(broken, 'fence.proxy.async;')}
bar.sync 0;
@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [data], 256;
@%p0 cp.async.bulk.commit_group;
@%p0 cp.async.bulk.wait_group 0;`),
    args,
    launch: block,
    at: /cp\.async\.bulk\.global/,
    other: /st\.shared/,
    fix: /fence\.proxy\.async/,
  },
  {
    name: 'a copy into memory that threads wrote before',
    code: 'emu/missing-proxy-fence',
    ptx: (broken) =>
      kernel(`st.shared.u32 [%r3], %r0;
${unless(broken, 'fence.proxy.async;')}
${init}\n${load}\n${waitForBar('W')}`),
    args,
    launch: block,
    at: /cp\.async\.bulk\.shared/,
    other: /st\.shared/,
    fix: /fence\.proxy\.async/,
  },
  {
    name: 'a copy from global memory that this launch wrote',
    code: 'emu/missing-proxy-fence',
    ptx: (broken) =>
      kernel(`mul.wide.u32 %rd2, %r0, 4;
add.u64 %rd2, %rd2, %rd1;
st.global.u32 [%rd2], %r0;
${unless(broken, 'fence.proxy.async;')}
${init}\n${load}\n${waitForBar('W')}`),
    args,
    launch: block,
    at: /cp\.async\.bulk\.shared/,
    other: /st\.global/,
    fix: /fence\.proxy\.async/,
  },
  {
    name: 'reads before a copy overwrites, ordered by bar.sync alone: disputed',
    code: 'emu/read-before-async-write',
    severity: 'warning',
    ptx: (broken) =>
      kernel(`${init}\n${load}\n${waitForBar('W')}
ld.shared.u32 %r5, [%r3];
${unless(broken, 'fence.proxy.async;')}
bar.sync 0;
${load}
W2:
mbarrier.try_wait.parity.shared::cta.b64 %p15, [bar], 1;
@!%p15 bra W2;`),
    args,
    launch: block,
    at: /cp\.async\.bulk/,
    other: /ld\.shared/,
    fix: /disputed/,
  },
]);
