// Races in global memory between threads, warps and blocks.
import { moduleOf, type Bench } from './async.testing.ts';
import { testCases, unless } from './races.testing.ts';

const start = `ld.param.u64 %rd1, [x];
mov.u32 %r0, %tid.x;
mov.u32 %r1, %ctaid.x;
mov.u32 %r2, %ntid.x;
mad.lo.u32 %r3, %r1, %r2, %r0;
mul.wide.u32 %rd2, %r3, 4;
add.u64 %rd3, %rd1, %rd2;
setp.eq.u32 %p0, %r0, 0;
setp.eq.u32 %p1, %r1, 0;`;
const kernel = (body: string): string => moduleOf('.param .u64 x', `${start}\n${body}`);
const args = (bench: Bench): readonly bigint[] => [bench.buffer(4096, 'x')];
const grid = { grid: [2, 1, 1], block: [32, 1, 1] } as const;
const block = { block: [64, 1, 1] } as const;

/** Block 0 hands a word to block 1 through the flag at byte 2048. */
const message = (send: string, receive: string): string =>
  kernel(`@!%p1 bra RECEIVE;
@%p0 st.global.u32 [%rd1], 42;
${send}
bra DONE;
RECEIVE:
${receive}
ld.global.u32 %r5, [%rd1];
DONE:`);
const spin = (load: string, after = ''): string => `WAIT:
${load} %r4, [%rd1+2048];
setp.eq.u32 %p2, %r4, 0;
@%p2 bra WAIT;
${after}`;

/** Every block adds its part to partial results; the last one to come sums them. */
const lastBlock = (before: string, after: string): string =>
  kernel(`.shared .u32 last;
st.global.u32 [%rd3], %r3;
${before}
bar.sync 0;
@!%p0 bra CAME;
atom.global.add.u32 %r4, [%rd1+2048], 1;
${after}
st.shared.u32 [last], %r4;
CAME:
bar.sync 0;
ld.shared.u32 %r4, [last];
setp.ne.u32 %p3, %r4, 3;
@%p3 bra DONE;
mov.u32 %r5, 0;
SUM:
mul.wide.u32 %rd5, %r5, 4;
add.u64 %rd5, %rd5, %rd1;
ld.global.u32 %r6, [%rd5];
add.u32 %r5, %r5, 16;
setp.lt.u32 %p4, %r5, 256;
@%p4 bra SUM;
DONE:`);

testCases('global memory', [
  {
    name: 'blocks read what others write',
    code: 'emu/race-global',
    ptx: (broken) =>
      kernel(`st.global.u32 [%rd3], %r0;
xor.b32 %r5, %r3, ${broken ? 32 : 0};
mul.wide.u32 %rd4, %r5, 4;
add.u64 %rd4, %rd4, %rd1;
ld.global.u32 %r6, [%rd4];`),
    args,
    launch: grid,
    at: /(ld|st)\.global/,
    other: /(ld|st)\.global/,
    fix: /\.gpu scope/,
  },
  {
    name: 'a value in place is read by a neighbour of another block first',
    code: 'emu/race-global',
    ptx: (broken) =>
      kernel(`xor.b32 %r5, %r3, ${broken ? 32 : 0};
mul.wide.u32 %rd4, %r5, 4;
add.u64 %rd4, %rd4, %rd1;
ld.global.u32 %r6, [%rd4];
st.global.u32 [%rd3], %r6;`),
    args,
    launch: grid,
    at: /(ld|st)\.global/,
    other: /(ld|st)\.global/,
    fix: /\.gpu scope/,
  },
  {
    name: 'warps of a block',
    code: 'emu/race-global',
    ptx: (broken) =>
      kernel(`st.global.u32 [%rd3], %r0;
${unless(broken, 'bar.sync 0;')}
xor.b32 %r5, %r3, 32;
mul.wide.u32 %rd4, %r5, 4;
add.u64 %rd4, %rd4, %rd1;
ld.global.u32 %r6, [%rd4];`),
    args,
    launch: block,
    at: /(ld|st)\.global/,
    other: /(ld|st)\.global/,
    fix: /bar\.sync/,
  },
  {
    name: '16-bit elements: neighbours in one word are no race, the same one is',
    code: 'emu/race-global',
    ptx: (broken) =>
      kernel(`shr.u32 %r4, %r3, ${broken ? 6 : 0};
mul.wide.u32 %rd4, %r4, 2;
add.u64 %rd4, %rd4, %rd1;
add.u64 %rd4, %rd4, 2;
cvt.u16.u32 %h0, %r3;
st.global.u16 [%rd4], %h0;`),
    args,
    launch: grid,
    at: /st\.global/,
    other: /st\.global/,
    fix: /one lane only|\.gpu scope/,
  },
  {
    name: 'an atomic sum and a plain read of it',
    code: 'emu/race-global',
    ptx: (broken) =>
      kernel(`red.global.add.u32 [%rd1], 1;
${broken ? '@%p1 ld.global.u32' : '@%p1 ld.relaxed.gpu.global.u32'} %r5, [%rd1];`),
    args,
    launch: grid,
    at: /(ld|red)\./,
    other: /(red|ld)\./,
    fix: /\.gpu scope|bar\.warp\.sync/,
  },
  {
    name: 'a flag without release and acquire',
    code: 'emu/race-global',
    ptx: (broken) =>
      message(
        `@%p0 st.${broken ? 'relaxed' : 'release'}.gpu.global.u32 [%rd1+2048], 1;`,
        spin(`ld.${broken ? 'relaxed' : 'acquire'}.gpu.global.u32`),
      ),
    args,
    launch: grid,
    at: /ld\.global/,
    other: /st\.global/,
    fix: /release/,
  },
  {
    name: 'a flag that the writing thread sets without a fence',
    code: 'emu/race-global',
    ptx: (broken) =>
      message(
        `${unless(broken, 'fence.acq_rel.gpu;')}\n@%p0 st.volatile.global.u32 [%rd1+2048], 1;`,
        spin('ld.volatile.global.u32', 'membar.gl;'),
      ),
    args,
    launch: grid,
    at: /ld\.global/,
    other: /st\.global/,
    fix: /fence/,
  },
  {
    name: 'the last block reads partial results that no fence released',
    code: 'emu/race-global',
    ptx: (broken) =>
      lastBlock(unless(broken, 'membar.gl;'), 'membar.gl;').replace(
        'membar.gl;\nbar',
        broken ? '\nbar' : '$&',
      ),
    args,
    launch: { grid: [4, 1, 1], block: [64, 1, 1] },
    at: /ld\.global/,
    other: /st\.global/,
    fix: /\.gpu scope/,
  },
  {
    name: 'the last block acquires nothing',
    code: 'emu/race-global',
    ptx: (broken) => lastBlock('membar.gl;', unless(broken, 'fence.acq_rel.gpu;')),
    args,
    launch: { grid: [4, 1, 1], block: [64, 1, 1] },
    at: /ld\.global/,
    other: /st\.global/,
    fix: /\.gpu scope/,
  },
]);

testCases('counters', [
  {
    name: 'the last block to come resets the counter; any other may not',
    code: 'emu/race-global',
    ptx: (broken) =>
      kernel(`@!%p0 bra DONE;
membar.gl;
atom.global.add.u32 %r4, [%rd1], 1;
setp.${broken ? 'ne' : 'eq'}.u32 %p2, %r4, 3;
@%p2 st.global.u32 [%rd1], 0;
DONE:`),
    args,
    launch: { grid: [4, 1, 1], block: [32, 1, 1] },
    at: /st\.global|atom/,
    other: /atom|st\.global/,
    fix: /\.gpu scope/,
  },
  {
    name: 'a spin lock must acquire and release',
    code: 'emu/race-global',
    ptx: (broken) =>
      kernel(`@!%p0 bra DONE;
LOCK:
atom.${broken ? 'relaxed' : 'acquire'}.gpu.global.cas.b32 %r4, [%rd1+2048], 0, 1;
setp.ne.u32 %p2, %r4, 0;
@%p2 bra LOCK;
ld.global.u32 %r5, [%rd1];
add.u32 %r5, %r5, 1;
st.global.u32 [%rd1], %r5;
atom.${broken ? 'relaxed' : 'release'}.gpu.global.exch.b32 %r6, [%rd1+2048], 0;
DONE:`),
    args,
    launch: { grid: [3, 1, 1], block: [32, 1, 1] },
    at: /(ld|st)\.global/,
    other: /(st|ld)\.global/,
    fix: /\.gpu scope/,
  },
]);
