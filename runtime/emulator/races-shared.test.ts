// Races in shared memory between threads: warps, lanes of a warp, blocks of a cluster.
import { expect, test } from 'vitest';
import { Bench, moduleOf } from './async.testing.ts';
import { testCases, unless } from './races.testing.ts';

const start = `.shared .align 16 .b8 data[4096];
mov.u32 %r0, %tid.x;
mov.u32 %r1, data;
shl.b32 %r2, %r0, 2;
add.u32 %r3, %r1, %r2;`;
/** Each thread reads its right neighbour's word, across warps. */
const neighbour = `add.u32 %r4, %r0, 1;
and.b32 %r4, %r4, 63;
shl.b32 %r4, %r4, 2;
add.u32 %r5, %r1, %r4;`;

testCases('shared memory', [
  {
    name: 'a neighbour is read without a barrier',
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}${neighbour}
st.shared.u32 [%r3], %r0;
${unless(broken, 'bar.sync 0;')}
ld.shared.u32 %r6, [%r5];`,
      ),
    launch: { block: [64, 1, 1] },
    at: /^(ld|st)\.shared/,
    other: /^(ld|st)\.shared/,
    fix: /bar\.(warp\.)?sync/,
  },
  {
    name: 'two buffers in turn need a barrier each time, one buffer two',
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}${neighbour}
mov.u32 %r10, 0;
LOOP:
st.shared.u32 [%r3], %r10;
bar.sync 0;
ld.shared.u32 %r6, [%r5];
${unless(broken, 'bar.sync 0;')}
add.u32 %r10, %r10, 1;
setp.lt.u32 %p0, %r10, 4;
@%p0 bra LOOP;`,
      ),
    launch: { block: [64, 1, 1] },
    at: /^(st|ld)\.shared/,
    other: /^(ld|st)\.shared/,
    fix: /bar\.(warp\.)?sync/,
  },
  {
    name: 'lanes of one warp exchange without bar.warp.sync',
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}
xor.b32 %r4, %r2, 4;
add.u32 %r5, %r1, %r4;
st.shared.u32 [%r3], %r0;
${unless(broken, 'bar.warp.sync -1;')}
ld.shared.u32 %r6, [%r5];`,
      ),
    at: /^ld\.shared/,
    other: /^st\.shared/,
    fix: /bar\.warp\.sync/,
  },
  {
    name: 'shfl.sync orders no memory',
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}
xor.b32 %r4, %r2, 4;
add.u32 %r5, %r1, %r4;
st.shared.u32 [%r3], %r0;
${broken ? 'shfl.sync.bfly.b32 %r7, %r0, 1, 31, -1;' : 'bar.warp.sync -1;'}
ld.shared.u32 %r6, [%r5];`,
      ),
    at: /^ld\.shared/,
    other: /^st\.shared/,
    fix: /bar\.warp\.sync/,
  },
  {
    name: 'two lanes write different values to one word in one instruction',
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}
and.b32 %r4, %r2, ${broken ? 60 : 124};
add.u32 %r5, %r1, %r4;
st.shared.u32 [%r5], %r0;`,
      ),
    at: /^st\.shared/,
    other: /^st\.shared/,
    fix: /one lane only/,
  },
  {
    name: 'halves of one word by different warps are no race, the same half is',
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}
shr.u32 %r4, %r0, 5;
and.b32 %r5, %r0, 31;
shl.b32 %r5, %r5, 2;
shl.b32 %r4, %r4, ${broken ? 0 : 1};
${broken ? 'shl.b32 %r4, %r4, 31;\nshl.b32 %r4, %r4, 1;' : ''}
add.u32 %r6, %r1, %r5;
add.u32 %r6, %r6, %r4;
cvt.u16.u32 %h0, %r0;
st.shared.u16 [%r6], %h0;`,
      ),
    launch: { block: [64, 1, 1] },
    at: /^st\.shared/,
    other: /^st\.shared/,
    fix: /bar\.sync/,
  },
  {
    name: 'a named barrier that not all warps pass',
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}
shr.u32 %r4, %r0, 5;
setp.eq.u32 %p0, %r4, 0;
setp.eq.u32 %p1, %r4, 1;
setp.eq.u32 %p2, %r4, 2;
@%p0 st.shared.u32 [%r3], %r0;
@%p0 bar.arrive 1, 64;
@%p1 bar.sync 1, 64;
@%p1 bar.arrive 2, 64;
@%p2 bar.sync 2, ${broken ? 32 : 64};
and.b32 %r5, %r2, 127;
add.u32 %r5, %r5, %r1;
@%p2 ld.shared.u32 %r6, [%r5];`.replace(/@%p1 bar\.arrive 2, 64;\n/, broken ? '' : '$&'),
      ),
    launch: { block: [96, 1, 1] },
    at: /(ld|st)\.shared/,
    other: /(ld|st)\.shared/,
    fix: /bar\.sync/,
  },
  {
    name: 'an atomic and a plain read of the same counter',
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}
setp.eq.u32 %p0, %r0, 0;
@%p0 st.shared.u32 [data], 0;
bar.sync 0;
red.shared.add.u32 [data], 1;
${unless(broken, 'bar.sync 0;')}
ld.shared.u32 %r6, [data];`,
      ),
    launch: { block: [64, 1, 1] },
    at: /^(ld|red)\.shared/,
    other: /^(red|ld)\.shared/,
    fix: /bar\.(warp\.)?sync/,
  },
  {
    name: "another block's shared memory without a cluster barrier",
    code: 'emu/race-shared',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}
mov.u32 %r7, %cluster_ctarank;
xor.b32 %r8, %r7, 1;
mapa.shared::cluster.u32 %r9, %r3, %r8;
st.shared::cluster.u32 [%r9], %r0;
${broken ? 'barrier.cluster.arrive.relaxed.aligned;' : 'barrier.cluster.arrive.release.aligned;'}
barrier.cluster.wait.acquire.aligned;
ld.shared.u32 %r6, [%r3];
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;`,
      ),
    launch: { grid: [2, 1, 1], cluster: [2, 1, 1] },
    at: /^(ld|st)\.shared/,
    other: /^(st|ld)\.shared/,
    fix: /barrier\.cluster/,
  },
  {
    name: 'two writes of the same value only deserve a warning',
    code: 'emu/race-same-value',
    severity: 'warning',
    ptx: (broken) =>
      moduleOf(
        '',
        `${start}
setp.${broken ? 'ge' : 'lt'}.u32 %p0, %r0, ${broken ? 0 : 32};
@%p0 st.shared.u32 [data+128], 7;`,
      ),
    launch: { block: [64, 1, 1] },
    at: /st\.shared/,
    other: /st\.shared/,
    fix: /bar\.sync/,
  },
]);

test('the report names both threads and what they did', () => {
  const ptx = moduleOf(
    '',
    `${start}${neighbour}
st.shared.u32 [%r3], %r0;
ld.shared.u32 %r6, [%r5];`,
  );
  const bench = new Bench({ checks: ['all'], stopAtError: true });
  const [report] = bench.run(ptx, [], { block: [64, 1, 1] });
  expect(report.message).toMatch(
    /ld\.shared\.u32 reads shared offset 0x4\w\w, which st\.shared\.u32 \(line \d+, block \(0, 0, 0\), warp 0, lane \d+\) writes/,
  );
  expect(report.others).toHaveLength(1);
  expect(report.others[0].what).toBe('st.shared.u32');
});

test('only chosen checks report', () => {
  const ptx = moduleOf('', `${start}${neighbour}\nst.shared.u32 [%r3], %r0;\nld.shared.u32 %r6, [%r5];`);
  const codes = (checks: readonly string[]): string[] =>
    new Bench({ checks, stopAtError: false }).run(ptx, [], { block: [64, 1, 1] }).map((r) => r.code);
  expect(codes(['race-shared'])).toContain('emu/race-shared');
  expect(codes(['race-global'])).toEqual([]);
});
