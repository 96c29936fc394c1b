// Races with asynchronous copies in shared memory, and how they complete.
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

testCases('copies and their completion', [
  {
    name: 'a bulk copy is read before its mbarrier',
    code: 'emu/race-async-shared',
    ptx: (broken) =>
      kernel(
        `${init}\n${load}\n${unless(broken, waitForBar('W'))}\nld.shared.u32 %r5, [%r3];${broken ? `\n${waitForBar('W')}` : ''}`,
      ),
    args,
    launch: block,
    at: /ld\.shared|cp\.async\.bulk/,
    other: /cp\.async\.bulk|ld\.shared/,
    fix: /mbarrier/,
  },
  {
    name: 'one lane waits for the mbarrier and the others do not',
    code: 'emu/race-async-shared',
    ptx: (broken) =>
      kernel(`${init}\n${load}
@!%p0 bra READ;
${waitForBar('W')}
READ:
${broken ? 'bar.warp.sync -1;' : 'bar.sync 0;'}
ld.shared.u32 %r5, [%r3];
bar.sync 0;`),
    args,
    launch: block,
    at: /ld\.shared|cp\.async\.bulk/,
    other: /cp\.async\.bulk|ld\.shared/,
    fix: /mbarrier/,
  },
  {
    name: 'a buffer is filled again while others read it',
    code: 'emu/race-async-shared',
    ptx: (broken) =>
      kernel(`${init}\n${load}\n${waitForBar('W')}
ld.shared.u32 %r5, [%r3];
fence.proxy.async;
${unless(broken, 'bar.sync 0;')}
${load}
W2:
mbarrier.try_wait.parity.shared::cta.b64 %p15, [bar], 1;
@!%p15 bra W2;`),
    args,
    launch: block,
    at: /cp\.async\.bulk|ld\.shared/,
    other: /cp\.async\.bulk|ld\.shared/,
    fix: /barrier|mbarrier/,
  },
  {
    name: 'the source of a bulk store is overwritten',
    code: 'emu/race-async-shared',
    ptx: (broken) =>
      kernel(`st.shared.u32 [%r3], %r0;
fence.proxy.async.shared::cta;
bar.sync 0;
@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [data], 256;
@%p0 cp.async.bulk.commit_group;
@%p0 cp.async.bulk.wait_group.read ${broken ? 1 : 0};
bar.sync 0;
st.shared.u32 [%r3], %r1;`),
    args,
    launch: block,
    at: /st\.shared/,
    other: /cp\.async\.bulk\.global/,
    fix: /wait_group\.read/,
  },
  {
    name: 'what a bulk store wrote is read after .read only',
    code: 'emu/race-async-global',
    ptx: (broken) =>
      kernel(`st.shared.u32 [%r3], %r0;
fence.proxy.async;
bar.sync 0;
@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd1], [data], 256;
@%p0 cp.async.bulk.commit_group;
@%p0 cp.async.bulk.wait_group${broken ? '.read' : ''} 0;
bar.sync 0;
ld.global.u32 %r5, [%rd1];`),
    args,
    launch: block,
    at: /ld\.global|cp\.async/,
    other: /cp\.async\.bulk|ld\.global/,
    fix: /wait_group|mbarrier/,
  },
  {
    name: 'cp.async: its own thread waits too little',
    code: 'emu/race-async-shared',
    ptx: (broken) =>
      kernel(`cp.async.ca.shared.global [%r3], [%rd1], 4;
cp.async.commit_group;
cp.async.wait_group ${broken ? 1 : 0};
ld.shared.u32 %r5, [%r3];
cp.async.wait_all;`),
    args,
    launch: block,
    at: /ld\.shared/,
    other: /cp\.async\.ca/,
    fix: /cp\.async\.wait_group/,
  },
  {
    name: 'cp.async: another thread reads without a barrier after the wait',
    code: 'emu/race-async-shared',
    ptx: (broken) =>
      kernel(`cp.async.ca.shared.global [%r3], [%rd1], 4;
cp.async.commit_group;
cp.async.wait_all;
${unless(broken, 'bar.sync 0;')}
xor.b32 %r4, %r3, 4;
ld.shared.u32 %r5, [%r4];`),
    args,
    launch: block,
    at: /ld\.shared/,
    other: /cp\.async\.ca/,
    fix: /barrier/,
  },
  {
    name: 'cp.async.mbarrier.arrive: the wait is missing',
    code: 'emu/race-async-shared',
    ptx: (broken) =>
      kernel(`@%p0 mbarrier.init.shared::cta.b64 [bar], 64;
bar.sync 0;
cp.async.ca.shared.global [%r3], [%rd1], 4;
cp.async.mbarrier.arrive.noinc.shared::cta.b64 [bar];
${unless(broken, waitForBar('W'))}
xor.b32 %r4, %r3, 128;
ld.shared.u32 %r5, [%r4];
${broken ? waitForBar('W') : ''}`),
    args,
    launch: block,
    at: /ld\.shared|cp\.async/,
    other: /cp\.async\.ca|ld\.shared/,
    fix: /wait/,
  },
  {
    name: 'st.async is read before its mbarrier',
    code: 'emu/race-async-shared',
    ptx: (broken) =>
      kernel(`${init}
@%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 4;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
mov.u32 %r6, %cluster_ctarank;
xor.b32 %r6, %r6, 1;
mapa.shared::cluster.u32 %r7, %r1, %r6;
mov.u32 %r9, bar;
mapa.shared::cluster.u32 %r8, %r9, %r6;
@%p0 st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r7], %r0, [%r8];
${unless(broken, waitForBar('W'))}
ld.shared.u32 %r5, [data];
${broken ? waitForBar('W') : ''}
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;`),
    args,
    launch: { grid: [2, 1, 1], cluster: [2, 1, 1], block: [64, 1, 1] },
    at: /ld\.shared|st\.async/,
    other: /st\.async|ld\.shared/,
    fix: /mbarrier/,
  },
]);

testCases('lanes and copies', [
  {
    name: 'all lanes of a warp may issue one copy of the same bytes, but not copies of different ones to one place',
    code: 'emu/race-async-global',
    ptx: (broken) =>
      kernel(`setp.ge.u32 %p1, %r0, 32;
st.shared.u32 [%r3], %r0;
fence.proxy.async;
bar.sync 0;
@%p1 bra DONE;
and.b32 %r4, %r0, ${broken ? 1 : 0};
shl.b32 %r4, %r4, 4;
add.u32 %r5, %r1, %r4;
cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r5], 64;
cp.async.bulk.commit_group;
cp.async.bulk.wait_group 0;
DONE:
bar.sync 0;`),
    args,
    launch: block,
    at: /cp\.async\.bulk\.global/,
    other: /cp\.async\.bulk\.global/,
    fix: /wait_group/,
  },
  {
    name: 'an arrive after a fence, relaxed both',
    code: 'emu/race-shared',
    ptx: (broken) =>
      kernel(`@%p0 mbarrier.init.shared::cta.b64 [bar], 32;
bar.sync 0;
setp.ge.u32 %p1, %r0, 32;
@%p1 bra READ;
st.shared.u32 [%r3], %r0;
${unless(broken, 'fence.acq_rel.cta;')}
mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [bar];
bra DONE;
READ:
W:
mbarrier.try_wait.parity.relaxed.cta.shared::cta.b64 %p15, [bar], 0;
@!%p15 bra W;
fence.acq_rel.cta;
xor.b32 %r4, %r3, 128;
ld.shared.u32 %r5, [%r4];
DONE:`),
    args,
    launch: block,
    at: /(ld|st)\.shared/,
    other: /(st|ld)\.shared/,
    fix: /bar\.sync/,
  },
]);
