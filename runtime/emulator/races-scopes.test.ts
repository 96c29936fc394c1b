// Releases and acquires with their scopes, non-coherent reads, and what runs together.
import { expect, test } from 'vitest';
import { decodePtx } from '../../backends/ptx/decode/index.ts';
import { Bench, moduleOf, summary } from './async.testing.ts';
import { testCases } from './races.testing.ts';

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

testCases('scopes', [
  {
    name: 'release and acquire at .cta scope between blocks',
    code: 'emu/race-scope',
    ptx: (broken) =>
      message(
        `@%p0 st.release.${broken ? 'cta' : 'gpu'}.global.u32 [%rd1+2048], 1;`,
        spin(`ld.acquire.${broken ? 'cta' : 'gpu'}.global.u32`),
      ),
    args,
    launch: grid,
    at: /ld\./,
    other: /st\./,
    fix: /\.gpu scope/,
    message: /\.gpu scope/,
  },
  {
    name: 'a fence at .cta scope around an atomic at .gpu scope',
    code: 'emu/race-scope',
    ptx: (broken) =>
      message(
        `fence.acq_rel.${broken ? 'cta' : 'gpu'};\n@%p0 atom.relaxed.gpu.global.exch.b32 %r9, [%rd1+2048], 1;`,
        spin('ld.relaxed.gpu.global.u32', 'fence.acq_rel.gpu;'),
      ),
    args,
    launch: grid,
    at: /ld\.global/,
    other: /st\.global/,
    fix: /\.gpu scope/,
  },
  {
    name: 'atomics at .cta scope from several blocks',
    code: 'emu/race-scope',
    ptx: (broken) => kernel(`red.relaxed.${broken ? 'cta' : 'gpu'}.global.add.u32 [%rd1], 1;`),
    args,
    launch: grid,
    at: /red/,
    other: /red/,
    fix: /\.gpu scope/,
  },
  {
    name: 'blocks of a cluster: .cta is too narrow, .cluster is not',
    code: 'emu/race-scope',
    ptx: (broken) =>
      message(
        `@%p0 st.release.${broken ? 'cta' : 'cluster'}.global.u32 [%rd1+2048], 1;`,
        spin(`ld.acquire.${broken ? 'cta' : 'cluster'}.global.u32`),
      ),
    args,
    launch: { ...grid, cluster: [2, 1, 1] },
    at: /ld\./,
    other: /st\./,
    fix: /\.cluster scope/,
  },
]);

testCases('non-coherent reads', [
  {
    name: 'ld.global.nc of what the thread wrote before',
    code: 'emu/non-coherent-read',
    ptx: (broken) =>
      kernel(`st.global.u32 [%rd3], %r0;
ld.global.${broken ? 'nc.' : ''}u32 %r5, [%rd3];`),
    args,
    launch: block,
    at: /ld\.global\.nc/,
    other: /st\.global/,
    fix: /without \.nc/,
  },
  {
    name: 'data that is written after it was read with .nc',
    code: 'emu/non-coherent-read',
    ptx: (broken) =>
      kernel(`ld.global.${broken ? 'nc.' : ''}u32 %r5, [%rd3];
add.u32 %r5, %r5, 1;
st.global.u32 [%rd3], %r5;`),
    args,
    launch: block,
    at: /st\.global/,
    other: /ld\.global\.nc/,
    fix: /without \.nc/,
  },
]);

test('launches in a row are ordered', () => {
  const bench = new Bench({ checks: ['all'], stopAtError: false });
  const x = bench.buffer(4096, 'x');
  const ptx = kernel(`ld.global.u32 %r5, [%rd3];\nst.global.u32 [%rd3], %r0;`);
  for (const launch of [{ block: [64, 1, 1] }, { grid: [2, 1, 1] }] as const)
    expect(summary(bench.run(ptx, [x], launch))).toEqual([]);
});

test('grids that run together race with each other', () => {
  for (const seed of [0, 1, 2]) {
    const bench = new Bench({ seed, checks: ['all'], stopAtError: false });
    const { program } = decodePtx(
      kernel('st.global.u32 [%rd3], %r3;\nld.global.u32 %r5, [%rd3];'),
      'two.ptx',
    );
    const handle = bench.core.loadProgram(bench.device, program!);
    const request = (x: bigint): Parameters<typeof bench.core.launch>[2] => {
      const parameterBlock = new Uint8Array(8);
      new DataView(parameterBlock.buffer).setBigUint64(0, x, true);
      return {
        kernel: 'k',
        grid: [1, 1, 1],
        block: [32, 1, 1],
        cluster: [0, 0, 0],
        dynamicSharedBytes: 0,
        parameterBlock,
      };
    };
    const [x, y] = [bench.buffer(4096, 'x'), bench.buffer(4096, 'y')];
    const codes = (requests: readonly ReturnType<typeof request>[]): string[] =>
      bench.core.launch(bench.device, handle, requests as never).reports.map((r) => r.code);
    expect(codes([request(x), request(x)])).toContain('emu/race-global');
    expect(codes([request(x), request(y)])).toEqual([]);
  }
});
