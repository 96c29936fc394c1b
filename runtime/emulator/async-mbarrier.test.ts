// mbarrier: phases, parities, states, counts, transactions, remote arrivals, time limits.
import { describe, expect, test } from 'vitest';
import { Bench, moduleOf, onlyReport, summary } from './async.testing.ts';

const seeds = [0, 1, 2, 3, 4, 5, 6, 7];

/** A kernel of one thread that stores `count` 32-bit results, %r32 and up, to `out`. */
const oneThread = (count: number, body: string): string =>
  moduleOf(
    '.param .u64 out',
    `.shared .align 8 .b64 bar;
ld.param.u64 %rd0, [out];
${body}
${Array.from({ length: count }, (_, i) => `st.global.u32 [%rd0+${4 * i}], %r${32 + i};`).join('\n')}`,
  );

function results(count: number, body: string): number[] {
  const bench = new Bench();
  const out = bench.buffer(4 * count);
  expect(summary(bench.run(oneThread(count, body), [out], { block: [1, 1, 1] }))).toEqual([]);
  return bench.words(out, count);
}
const testParity = (parity: number, to: number): string =>
  `mbarrier.test_wait.parity.shared::cta.b64 %p1, [bar], ${parity};\nselp.u32 %r${to}, 1, 0, %p1;`;
const testState = (state: string, to: number): string =>
  `mbarrier.test_wait.shared::cta.b64 %p1, [bar], ${state};\nselp.u32 %r${to}, 1, 0, %p1;`;

describe('phases', () => {
  test('a fresh barrier passes parity 1 and not 0; each phase turns that round', () => {
    expect(
      results(
        6,
        `mbarrier.init.shared::cta.b64 [bar], 1;
${testParity(0, 32)} ${testParity(1, 33)}
mbarrier.arrive.shared::cta.b64 %rd1, [bar];
${testParity(0, 34)} ${testParity(1, 35)}
mbarrier.arrive.shared::cta.b64 _, [bar];
${testParity(0, 36)} ${testParity(1, 37)}`,
      ),
    ).toEqual([0, 1, 1, 0, 0, 1]);
  });

  test('a state passes once its phase is over', () => {
    expect(
      results(
        4,
        `mbarrier.init.shared::cta.b64 [bar], 2;
mbarrier.arrive.shared::cta.b64 %rd1, [bar];
${testState('%rd1', 32)}
mbarrier.arrive.shared::cta.b64 %rd2, [bar];
${testState('%rd1', 33)} ${testState('%rd2', 34)}
mbarrier.arrive.shared::cta.b64 %rd3, [bar], 1;
${testState('%rd3', 35)}`,
      ),
    ).toEqual([0, 1, 1, 0]);
  });

  test('pending_count is that before the arrival; counts; arrive_drop lowers later phases', () => {
    expect(
      results(
        7,
        `mbarrier.init.shared::cta.b64 [bar], 7;
mbarrier.arrive.noComplete.shared::cta.b64 %rd1, [bar], 2;
mbarrier.pending_count.b64 %r32, %rd1;
mbarrier.arrive_drop.noComplete.shared::cta.b64 %rd2, [bar], 3;
mbarrier.pending_count.b64 %r33, %rd2;
mbarrier.arrive.shared::cta.b64 %rd3, [bar], 2;
mbarrier.pending_count.b64 %r34, %rd3;
${testState('%rd1', 35)}
mbarrier.arrive.noComplete.shared::cta.b64 %rd4, [bar], 1;
mbarrier.pending_count.b64 %r36, %rd4;
${testState('%rd4', 37)}
mbarrier.arrive.shared::cta.b64 _, [bar], 3;
${testState('%rd4', 38)}`,
      ),
    ).toEqual([7, 5, 2, 1, 4, 0, 1]);
  });

  test('a phase needs arrivals and bytes, in any order', () => {
    expect(
      results(
        6,
        `mbarrier.init.shared::cta.b64 [bar], 1;
mbarrier.arrive.expect_tx.shared::cta.b64 %rd1, [bar], 96;
${testState('%rd1', 32)}
mbarrier.complete_tx.shared::cta.b64 [bar], 64;
${testState('%rd1', 33)}
mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 32;
${testState('%rd1', 34)}
mbarrier.complete_tx.shared::cta.b64 [bar], 16;
${testParity(1, 35)}
mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 16;
${testParity(1, 36)}
mbarrier.arrive.release.cta.shared::cta.b64 _, [bar];
${testParity(1, 37)}`,
      ),
    ).toEqual([0, 0, 1, 0, 0, 1]);
  });

  test('arrive_drop.expect_tx expects, arrives once and lowers later phases', () => {
    expect(
      results(
        3,
        `mbarrier.init.shared::cta.b64 [bar], 2;
mbarrier.arrive_drop.expect_tx.relaxed.cta.shared::cta.b64 %rd1, [bar], 16;
mbarrier.arrive.shared::cta.b64 _, [bar];
${testState('%rd1', 32)}
mbarrier.complete_tx.shared::cta.b64 [bar], 16;
${testState('%rd1', 33)}
mbarrier.arrive.shared::cta.b64 %rd2, [bar];
${testState('%rd2', 34)}`,
      ),
    ).toEqual([0, 1, 1]);
  });

  test('inval makes room for another object; generic addresses work', () => {
    expect(
      results(
        2,
        `mov.u32 %r1, bar;
cvt.u64.u32 %rd8, %r1;
cvta.shared.u64 %rd9, %rd8;
mbarrier.init.b64 [%rd9], 1;
mbarrier.arrive.b64 _, [%rd9];
mbarrier.test_wait.parity.b64 %p1, [%rd9], 0;
selp.u32 %r32, 1, 0, %p1;
mbarrier.inval.b64 [%rd9];
mbarrier.init.b64 [%rd9], 1;
mbarrier.test_wait.parity.b64 %p1, [%rd9], 0;
selp.u32 %r33, 1, 0, %p1;`,
      ),
    ).toEqual([1, 0]);
  });
});

describe('threads meet', () => {
  // Each thread writes a word, meets the others at one mbarrier, reads a far neighbour's word, meets them at another.
  const threads = 160;
  const meeting = (wait: (bar: string, label: string) => string): string =>
    moduleOf(
      '.param .u64 out',
      `.shared .align 8 .b64 bars[2];
.shared .align 4 .b32 words[${threads}];
ld.param.u64 %rd0, [out];
mov.u32 %r0, %tid.x;
mov.u32 %r1, bars;
mov.u32 %r2, words;
setp.eq.u32 %p0, %r0, 0;
@%p0 mbarrier.init.shared::cta.b64 [%r1], ${threads};
@%p0 mbarrier.init.shared::cta.b64 [%r1+8], ${threads};
bar.sync 0;
shl.b32 %r3, %r0, 2;
add.u32 %r3, %r3, %r2;
add.u32 %r4, %r0, 97;
rem.u32 %r4, %r4, ${threads};
shl.b32 %r4, %r4, 2;
add.u32 %r4, %r4, %r2;
mov.u32 %r5, 0;
mov.u32 %r6, 0;
LOOP:
mad.lo.u32 %r7, %r5, 1000, %r0;
st.shared.u32 [%r3], %r7;
and.b32 %r10, %r5, 1;
${wait('%r1', 'A')}
ld.shared.u32 %r8, [%r4];
mad.lo.u32 %r6, %r6, 3, %r8;
${wait('%r1+8', 'B')}
add.u32 %r5, %r5, 1;
setp.lt.u32 %p2, %r5, 9;
@%p2 bra LOOP;
mul.wide.u32 %rd1, %r0, 4;
add.u64 %rd0, %rd0, %rd1;
st.global.u32 [%rd0], %r6;`,
    );
  const expected = Array.from({ length: threads }, (_, t) => {
    let sum = 0;
    for (let k = 0; k < 9; k++) sum = (Math.imul(sum, 3) + k * 1000 + ((t + 97) % threads)) >>> 0;
    return sum;
  });
  const forms = {
    'by state, test_wait': (
      bar: string,
      l: string,
    ): string => `mbarrier.arrive.shared::cta.b64 %rd5, [${bar}];
${l}:
mbarrier.test_wait.shared::cta.b64 %p1, [${bar}], %rd5;
@!%p1 bra ${l};`,
    'by state, try_wait with a hint': (
      bar: string,
      l: string,
    ): string => `mbarrier.arrive.release.cta.shared::cta.b64 %rd5, [${bar}];
${l}:
mbarrier.try_wait.acquire.cta.shared::cta.b64 %p1, [${bar}], %rd5, 100;
@!%p1 bra ${l};`,
    'by parity, try_wait': (
      bar: string,
      l: string,
    ): string => `mbarrier.arrive.release.cta.shared::cta.b64 _, [${bar}];
${l}:
mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p1, [${bar}], %r10;
@!%p1 bra ${l};`,
    'by parity, relaxed test_wait': (
      bar: string,
      l: string,
    ): string => `mbarrier.arrive.shared::cta.b64 _, [${bar}];
${l}:
mbarrier.test_wait.parity.relaxed.cta.shared::cta.b64 %p1, [${bar}], %r10;
@!%p1 bra ${l};`,
  };
  for (const [name, wait] of Object.entries(forms))
    test(name, () => {
      for (const seed of seeds) {
        const bench = new Bench({ seed });
        const out = bench.buffer(4 * threads);
        expect(summary(bench.run(meeting(wait), [out], { block: [threads, 1, 1] }))).toEqual([]);
        expect(bench.words(out, threads)).toEqual(expected);
      }
    });
});

describe('clusters', () => {
  test.each([2, 4])('%i blocks arrive on the first block, which alone waits', (size) => {
    const ptx = moduleOf(
      '.param .u64 out',
      `.shared .align 8 .b64 bar;
.shared .align 4 .b32 sum;
ld.param.u64 %rd0, [out];
mov.u32 %r0, %cluster_ctarank;
mov.u32 %r1, bar;
mov.u32 %r2, sum;
setp.eq.u32 %p0, %r0, 0;
mov.u32 %r9, %tid.x;
setp.eq.and.u32 %p1, %r9, 0, %p0;
@%p1 mbarrier.init.shared::cta.b64 [%r1], ${size * 64};
@%p1 st.shared.u32 [%r2], 0;
fence.mbarrier_init.release.cluster;
barrier.cluster.arrive;
barrier.cluster.wait;
mapa.shared::cluster.u32 %r3, %r1, 0;
mapa.shared::cluster.u32 %r4, %r2, 0;
add.u32 %r5, %r0, 1;
mad.lo.u32 %r5, %r5, 100, %r9;
red.relaxed.cluster.shared::cluster.add.u32 [%r4], %r5;
mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3];
@!%p0 bra DONE;
WAIT:
mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p2, [%r1], 0;
@!%p2 bra WAIT;
ld.shared.u32 %r6, [%r2];
mul.wide.u32 %rd1, %r9, 4;
add.u64 %rd0, %rd0, %rd1;
st.global.u32 [%rd0], %r6;
DONE:
barrier.cluster.arrive;
barrier.cluster.wait;`,
    );
    let sum = 0;
    for (let rank = 0; rank < size; rank++) for (let t = 0; t < 64; t++) sum += (rank + 1) * 100 + t;
    for (const seed of seeds) {
      const bench = new Bench({ seed });
      const out = bench.buffer(4 * 64);
      expect(
        summary(bench.run(ptx, [out], { grid: [size, 1, 1], block: [64, 1, 1], cluster: [size, 1, 1] })),
      ).toEqual([]);
      expect(bench.words(out, 64)).toEqual(Array.from({ length: 64 }, () => sum));
    }
  });
});

describe('waits that do not end', () => {
  test('try_wait gives up after its time limit, so a loop may do something else', () => {
    const counts = results(
      1,
      `mbarrier.init.shared::cta.b64 [bar], 1;
mov.u32 %r32, 0;
WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
add.u32 %r32, %r32, 1;
setp.lt.u32 %p2, %r32, 3;
@%p2 bra WAIT;`,
    );
    expect(counts).toEqual([3]);
  });

  const stuck = (body: string): string =>
    oneThread(
      0,
      `mbarrier.init.shared::cta.b64 [bar], 2;
${body}
WAIT:
mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;
@!%p1 bra WAIT;`,
    );
  test.each([
    ['mbarrier.arrive.shared::cta.b64 _, [bar];', /phase 0: 1 of 2 arrivals pending, tx-count 0/],
    [
      'mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 48;\nmbarrier.arrive.shared::cta.b64 _, [bar];',
      /0 of 2 arrivals pending, tx-count 48\): 48 bytes that expect_tx named were never copied/,
    ],
    [
      'mbarrier.complete_tx.shared::cta.b64 [bar], 16;\nmbarrier.arrive.shared::cta.b64 _, [bar], 2;',
      /tx-count -16\): 16 bytes more were copied than expect_tx named/,
    ],
  ])('a deadlock names the barrier and what it lacks: %s', (body, text) => {
    for (const seed of [0, 3]) {
      const bench = new Bench({ seed });
      const ptx = stuck(body);
      const report = onlyReport(ptx, bench.run(ptx, [0n], { block: [1, 1, 1] }));
      expect(report.code).toBe('emu/deadlock');
      expect(report.message).toMatch(text);
      expect(report.line).toMatch(/^mbarrier\.try_wait/);
    }
  });

  test('a loop of test_wait that nothing ends is a deadlock too', () => {
    const ptx = stuck('').replaceAll('try_wait', 'test_wait');
    const bench = new Bench();
    expect(onlyReport(ptx, bench.run(ptx, [0n], { block: [1, 1, 1] })).code).toBe('emu/deadlock');
  });
});
