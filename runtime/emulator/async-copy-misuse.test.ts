// Every misuse of linear copies: its code, the PTX line it names, and that a fix is offered.
import { describe, expect, test } from 'vitest';
import { Bench, expectMisuse, moduleOf, onlyReport, type Argument, type Launch } from './async.testing.ts';

const one: Launch = { block: [1, 1, 1] };
const pair: Launch = { grid: [2, 1, 1], block: [1, 1, 1], cluster: [2, 1, 1] };
const init = 'mbarrier.init.shared::cta.b64 [bar], 1;';
const arrive = 'mbarrier.arrive.shared::cta.b64 _, [bar];';
const meet = 'barrier.cluster.arrive;\nbarrier.cluster.wait;';

describe('copies', () => {
  const parameters = '.param .u64 global';
  const body = (text: string): string =>
    moduleOf(
      parameters,
      `.shared .align 128 .b8 tile[1024];
.shared .align 8 .b64 bar;
ld.param.u64 %rd1, [global];
mov.u32 %r1, tile;
mov.u32 %r0, %cluster_ctarank;
${init}
${text}`,
    );
  const load = 'cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes';
  const store = 'cp.async.bulk.global.shared::cta.bulk_group';
  const wait = 'W:\nmbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;\n@!%p1 bra W;';
  const buffer = (bench: Bench): readonly Argument[] => [bench.buffer(1024, 'input')];

  test.each<[string, string, string, RegExp, RegExp?]>([
    ['a size of 24', `mov.u32 %r2, 24;\n${load} [%r1], [%rd1], %r2, [bar];`, 'bulk-size', /bulk/, /24 bytes/],
    ['a misaligned destination', `${load} [%r1+8], [%rd1], 32, [bar];`, 'misaligned', /bulk/],
    ['a misaligned source', `${load} [%r1], [%rd1+4], 32, [bar];`, 'misaligned', /bulk/],
    [
      'a source past the buffer',
      `${load} [%r1], [%rd1+1008], 32, [bar];`,
      'out-of-bounds',
      /bulk/,
      /input, 1024 bytes/,
    ],
    ['a destination past shared memory', `${load} [%r1+1008], [%rd1], 512, [bar];`, 'out-of-bounds', /bulk/],
    [
      'an mbarrier that was not initialised',
      `mbarrier.inval.shared::cta.b64 [bar];\n${load} [%r1], [%rd1], 32, [bar];`,
      'mbarrier-not-initialised',
      /bulk/,
    ],
    [
      'the end of the block before the copy',
      `mbarrier.expect_tx.shared::cta.b64 [bar], 32;\n${load} [%r1], [%rd1], 32, [bar];`,
      'exit-before-copy',
      /bulk/,
      /block \(0,0,0\) exited .* 32 bytes/,
    ],
    [
      'inval while a copy is under way',
      `${load} [%r1], [%rd1], 32, [bar];\nmbarrier.inval.shared::cta.b64 [bar];`,
      'mbarrier-in-use',
      /inval/,
    ],
    ['a store past the buffer', `${store} [%rd1+1024], [%r1], 16;`, 'out-of-bounds', /bulk_group/],
    [
      'a store from past shared memory',
      `mov.u32 %r2, 240000;\n${store} [%rd1], [%r2], 16;`,
      'out-of-bounds',
      /bulk_group/,
    ],
    [
      'a prefetch of 8 bytes',
      'mov.u32 %r2, 8;\ncp.async.bulk.prefetch.L2.global [%rd1], %r2;',
      'bulk-size',
      /prefetch/,
    ],
    [
      'cp.async from past the buffer',
      'cp.async.cg.shared.global [%r1], [%rd1+1024], 16;',
      'out-of-bounds',
      /cp\.async/,
    ],
    [
      'cp.async to a misaligned place',
      'cp.async.cg.shared.global [%r1+8], [%rd1], 16;',
      'misaligned',
      /cp\.async/,
    ],
    [
      'cp.async with too large a source',
      'mov.u32 %r2, 9;\ncp.async.ca.shared.global [%r1], [%rd1], 8, %r2;',
      'copy-size',
      /cp\.async/,
    ],
    [
      'st.async without a cluster',
      'st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r1], %r1, [bar];',
      'no-cluster',
      /st\.async/,
    ],
  ])('%s', (_name, text, code, line, message) => {
    expectMisuse(body(text), buffer, one, `emu/${code}`, line, message);
  });

  test.each<[string, string, string, RegExp]>([
    [
      'multicast to blocks that do not exist',
      `mov.u16 %h0, 6;\n@!%p0 ${load}.multicast::cluster [%r1], [%rd1], 32, [bar], %h0;`,
      'multicast-mask',
      /multicast/,
    ],
    [
      'multicast to nobody',
      `mov.u16 %h0, 0;\n@!%p0 ${load}.multicast::cluster [%r1], [%rd1], 32, [bar], %h0;`,
      'multicast-mask',
      /multicast/,
    ],
    [
      'a block copy to itself',
      `@!%p0 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r1+512], [%r1], 32, [bar];`,
      'bulk-to-self',
      /bulk/,
    ],
    [
      'an mbarrier of another block than the value',
      `mapa.shared::cluster.u32 %r4, %r1, %r3;\n@!%p0 st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r4], %r1, [bar];`,
      'mbarrier-other-block',
      /st\.async/,
    ],
  ])('%s', (_name, text, code, line) => {
    const ptx = body(`xor.b32 %r3, %r0, 1;\nsetp.ne.u32 %p0, %r0, 0;\n${meet}\n${text}\n${meet}`);
    expectMisuse(ptx, buffer, pair, `emu/${code}`, line);
  });

  test('a multicast to a block that has not made its mbarrier', () => {
    const ptx = body(`setp.ne.u32 %p0, %r0, 0;
@%p0 mbarrier.inval.shared::cta.b64 [bar];
${meet}
mov.u16 %h0, 3;
@!%p0 ${load}.multicast::cluster [%r1], [%rd1], 32, [bar], %h0;
${meet}`);
    expectMisuse(ptx, buffer, pair, 'emu/mbarrier-not-initialised', /multicast/, /block rank 1/);
  });

  test('a block that ends while a copy to it is under way', () => {
    const ptx = body(`setp.ne.u32 %p0, %r0, 0;
${meet}
mov.u16 %h0, 2;
@!%p0 ${load}.multicast::cluster [%r1], [%rd1], 32, [bar], %h0;
${meet}`);
    const found = new Set<string>();
    for (let seed = 0; seed < 10; seed++) {
      const bench = new Bench({ seed });
      for (const r of bench.run(ptx, buffer(bench), pair)) found.add(`${r.code} ${r.message}`);
    }
    // Some seeds let the copy end first.
    expect([...found].map((f) => f.replace(/ while.*/, ''))).toEqual([
      'emu/exit-before-copy block (1,0,0) exited',
    ]);
  });

  test('a store that nobody waits for is a warning, and its bytes arrive', () => {
    const ptx = body(
      `st.shared.u32 [%r1], 77;\nfence.proxy.async.shared::cta;\n${store} [%rd1], [%r1], 16;\ncp.async.bulk.commit_group;`.replace(
        '77',
        '%r5',
      ),
    ).replace(init, `${init}\nmov.u32 %r5, 77;`);
    const bench = new Bench();
    const [to] = buffer(bench) as [bigint];
    const report = onlyReport(ptx, bench.run(ptx, [to], one));
    expect([report.severity, report.code]).toEqual(['warning', 'emu/exit-before-store']);
    expect(bench.words(to, 1)).toEqual([77]);
  });

  test('the launch may go on after errors, each place counted once', () => {
    const ptx = body(`mov.u32 %r2, 0;
L:
${load} [%r1+8], [%rd1], 32, [bar];
add.u32 %r2, %r2, 1;
setp.lt.u32 %p0, %r2, 5;
@%p0 bra L;
${arrive}
${wait}`);
    const bench = new Bench();
    const report = onlyReport(
      ptx,
      bench.run(ptx, buffer(bench), { ...one, settings: { stopAtError: false } }),
    );
    expect([report.code, report.count]).toEqual(['emu/misaligned', 5]);
  });
});
